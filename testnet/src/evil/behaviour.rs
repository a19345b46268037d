//! The kinds of harm.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Manner;

/// What an evil peer does, by its name in scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Serves chunks in which a bit is flipped.
    WrongBytes,
    /// Serves chunks that are a byte longer or shorter than they should be.
    WrongLengths,
    /// Says that it has everything, and answers nothing that is a chunk.
    Stall,
    /// Serves a byte a second.
    Drip,
    /// Opens streams, asks for far too much, sends frames that are none, and repeats itself to
    /// whoever asks.
    Flood,
    /// Says that it has everything, and has one chunk in sixteen.
    LyingAvailability,
    /// Announces thousands of keys that nobody shares.
    ProviderSpam,
    /// Answers every lookup of the DHT with providers and peers that do not exist, swallows what is
    /// announced to it, and leaves records that nobody asked for.
    JunkRecords,
    /// Offers peers that do not exist, at addresses that lead nowhere, as others who have the
    /// content.
    JunkOffers,
    /// Asks everybody for everything, and takes a byte a second of it.
    SlowReader,
    /// Asks everybody for everything, and takes nothing of it.
    FrozenReader,
    /// Does what a frozen reader does, with one identity after the other.
    ManyIdentities,
    /// Says that it helps, wants and accepts whatever is offered to it, tells that it holds it, and serves
    /// not a byte of it.
    BlackHoleHelper,
    /// Says that it holds copies that it does not hold, and names honest peers as holders.
    FalseHolder,
    /// Asks helpers for a thousand things of its own with many identities at one address, and offers what
    /// they then want: a demand that nobody has.
    FakeAskers,
    /// Offers copies of content that does not verify. `junk-offers` is another thing: it names peers to
    /// those who fetch, in the exchange, and speaks of no copies.
    FalseOffers,
}

/// A name that is none of a [`Behaviour`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no evil peer does {0:?}")]
pub struct UnknownBehaviour(pub String);

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::WrongBytes,
        Self::WrongLengths,
        Self::Stall,
        Self::Drip,
        Self::Flood,
        Self::LyingAvailability,
        Self::ProviderSpam,
        Self::JunkRecords,
        Self::JunkOffers,
        Self::SlowReader,
        Self::FrozenReader,
        Self::ManyIdentities,
        Self::BlackHoleHelper,
        Self::FalseHolder,
        Self::FakeAskers,
        Self::FalseOffers,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongBytes => "wrong-bytes",
            Self::WrongLengths => "wrong-lengths",
            Self::Stall => "stall",
            Self::Drip => "drip",
            Self::Flood => "flood",
            Self::LyingAvailability => "lying-availability",
            Self::ProviderSpam => "provider-spam",
            Self::JunkRecords => "junk-records",
            Self::JunkOffers => "junk-offers",
            Self::SlowReader => "slow-reader",
            Self::FrozenReader => "frozen-reader",
            Self::ManyIdentities => "many-identities",
            Self::BlackHoleHelper => "black-hole-helper",
            Self::FalseHolder => "false-holder",
            Self::FakeAskers => "fake-askers",
            Self::FalseOffers => "false-offers",
        }
    }

    /// Whether it says in the DHT that it has what is shared. Those that do harm with copies do not: a
    /// helper announces nothing.
    pub(super) fn announces(self) -> bool {
        !matches!(
            self,
            Self::BlackHoleHelper | Self::FalseHolder | Self::FakeAskers | Self::FalseOffers
        )
    }

    /// How it serves those who ask; `None` for one that speaks no exchange.
    pub(super) fn manner(self) -> Option<Manner> {
        match self {
            Self::WrongBytes => Some(Manner::WrongBytes),
            Self::WrongLengths => Some(Manner::WrongLengths),
            Self::Stall => Some(Manner::Stall),
            Self::Drip => Some(Manner::Drip),
            Self::Flood => Some(Manner::Repeating),
            Self::LyingAvailability => Some(Manner::Lying),
            // What the identities of the last two offer, these serve themselves.
            Self::ProviderSpam
            | Self::SlowReader
            | Self::FrozenReader
            | Self::ManyIdentities
            | Self::FakeAskers
            | Self::FalseOffers => Some(Manner::Empty),
            Self::BlackHoleHelper => Some(Manner::BlackHole),
            Self::FalseHolder => Some(Manner::FalseHolder),
            Self::JunkOffers => Some(Manner::JunkHints),
            Self::JunkRecords => None,
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Behaviour {
    type Err = UnknownBehaviour;

    fn from_str(name: &str) -> Result<Self, UnknownBehaviour> {
        let known = Self::ALL.into_iter().find(|it| it.name() == name);
        known.ok_or_else(|| UnknownBehaviour(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for behaviour in Behaviour::ALL {
            assert_eq!(behaviour.to_string().parse(), Ok(behaviour));
            let json = serde_json::to_string(&behaviour).unwrap();
            assert_eq!(json, format!("{:?}", behaviour.name()));
        }
        for other in ["", "Stall", "wrong_bytes", "kindness"] {
            let refused = UnknownBehaviour(other.to_owned());
            assert_eq!(other.parse::<Behaviour>(), Err(refused));
        }
    }
}
