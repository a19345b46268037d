//! What nodes do wrong on purpose.

use std::{fmt, str::FromStr};

use shoal_node::config::closest;

/// A way to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// Sends other bytes than were asked for.
    WrongBytes,
    /// Sends more or fewer bytes than it said.
    WrongLengths,
    /// Takes requests, and never answers.
    Stall,
    /// Sends a byte a second.
    Drip,
    /// Opens streams and asks for more than it could ever take.
    Flood,
    /// Says that it has what it has not.
    LyingAvailability,
    /// Announces thousands of keys.
    ProviderSpam,
    /// Puts records into the DHT that mean nothing.
    JunkRecords,
    /// Offers what is worth nothing.
    JunkOffers,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::WrongBytes,
        Self::WrongLengths,
        Self::Stall,
        Self::Drip,
        Self::Flood,
        Self::LyingAvailability,
        Self::ProviderSpam,
        Self::JunkRecords,
        Self::JunkOffers,
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
        }
    }
}

impl FromStr for Behaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = || Self::ALL.into_iter().map(Self::name);
        let known = Self::ALL.into_iter().find(|it| it.name() == text);
        known.ok_or_else(|| match closest(text, names()) {
            Some(known) => format!("nobody does `{text}`; did you mean `{known}`?"),
            None => {
                let known = names().collect::<Vec<_>>().join(", ");
                format!("nobody does `{text}`: there are {known}")
            }
        })
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
