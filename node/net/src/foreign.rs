//! Peers of Shoal that this node does not understand: those of another network, and those whose
//! exchange has another number. They are told to the person and not banned.
//!
//! Pure: what a peer says it speaks comes in, sentences come out. Bounded; the peer that was met
//! longest ago is forgotten first, and every one after a while.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use libp2p::{PeerId, StreamProtocol};

use super::config::Protocols;

/// Peers that are remembered, about 200 bytes each; a person needs to see one of them.
const PEERS_MAX: usize = 64;

/// How long after it was met last a peer is still told of. Peers of the local network are found
/// again within five minutes.
const TOLD_FOR: Duration = Duration::from_secs(10 * 60);

/// How long a peer of another network is not dialled because it was found again. It may still dial.
const REST: Duration = Duration::from_secs(120);

/// The longest name of a network that is shown; no node has a longer one.
const NETWORK_CHARS_MAX: usize = 32;

/// Why a peer of Shoal and this node do not understand each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// It is part of another network.
    Network {
        /// Its network.
        theirs: String,
        /// That of this node.
        ours: String,
    },
    /// It speaks other numbers of the exchange protocol.
    Exchange {
        /// The greatest number that it speaks.
        theirs: u32,
        /// That of this node.
        ours: u32,
    },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { theirs, ours } => write!(
                f,
                "is in the network {theirs:?}, this node in {ours:?}: give both the same \
                 network.name to connect them"
            ),
            Self::Exchange { theirs, ours } => {
                let older = if theirs < ours { "theirs" } else { "this one" };
                write!(
                    f,
                    "speaks exchange/{theirs}, this node exchange/{ours}: update the older one \
                     ({older})"
                )
            }
        }
    }
}

/// A peer that this node does not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Who.
    pub peer: PeerId,
    /// Why.
    pub misfit: Misfit,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} {}", self.peer, self.misfit)
    }
}

/// What in the protocols of a peer keeps it and this node from exchanging content; none when nothing
/// does, or when it is no peer of Shoal.
pub(super) fn misfit(ours: &Protocols, theirs: &[StreamProtocol]) -> Option<Misfit> {
    if theirs.contains(&ours.exchange) {
        return None;
    }
    let (network, number) = exchange_of(&ours.exchange)?;
    let spoken = || theirs.iter().filter_map(exchange_of);
    let same = spoken().filter(|(other, _)| *other == network);
    if let Some((_, theirs)) = same.max_by_key(|(_, number)| *number) {
        return Some(Misfit::Exchange {
            theirs,
            ours: number,
        });
    }
    let (other, _) = spoken().next()?;
    Some(Misfit::Network {
        theirs: other.chars().take(NETWORK_CHARS_MAX).collect(),
        ours: network.to_owned(),
    })
}

/// The network and the number in the name of an exchange protocol.
fn exchange_of(protocol: &StreamProtocol) -> Option<(&str, u32)> {
    let mut parts = protocol.as_ref().strip_prefix("/shoal/")?.split('/');
    let (network, what, number) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = what == "exchange" && parts.next().is_none();
    let number = number.parse().ok().filter(|_| whole)?;
    Some((network, number))
}

/// Peers that were met and not understood.
#[derive(Debug, Default)]
pub(super) struct Foreigners {
    met: HashMap<PeerId, (Misfit, Instant)>,
}

impl Foreigners {
    /// Takes note of a peer; whether that is news.
    pub(super) fn met(&mut self, peer: PeerId, misfit: &Misfit, now: Instant) -> bool {
        self.forget_old(now);
        if self.met.len() >= PEERS_MAX && !self.met.contains_key(&peer) {
            let oldest = self.met.iter().min_by_key(|(_, (_, at))| *at);
            let oldest = oldest.map(|(peer, _)| *peer);
            oldest.map(|peer| self.met.remove(&peer));
        }
        let before = self.met.insert(peer, (misfit.clone(), now));
        before.is_none_or(|(before, _)| before != *misfit)
    }

    /// A peer is understood now.
    pub(super) fn understood(&mut self, peer: &PeerId) {
        self.met.remove(peer);
    }

    /// Whether a peer that was found again is not worth a dial yet.
    pub(super) fn rests(&self, peer: &PeerId, now: Instant) -> bool {
        self.met.get(peer).is_some_and(|(misfit, at)| {
            matches!(misfit, Misfit::Network { .. }) && now.saturating_duration_since(*at) < REST
        })
    }

    /// Everybody who was met lately, the latest first.
    pub(super) fn all(&mut self, now: Instant) -> Vec<Foreign> {
        self.forget_old(now);
        let mut all: Vec<_> = self.met.iter().collect();
        all.sort_by_key(|(peer, (_, at))| (std::cmp::Reverse(*at), **peer));
        let foreign = |(peer, (misfit, _)): (&PeerId, &(Misfit, Instant))| Foreign {
            peer: *peer,
            misfit: misfit.clone(),
        };
        all.into_iter().map(foreign).collect()
    }

    fn forget_old(&mut self, now: Instant) {
        self.met
            .retain(|_, (_, at)| now.saturating_duration_since(*at) < TOLD_FOR);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::NetConfig;

    fn protocols(names: &[&str]) -> Vec<StreamProtocol> {
        let protocol = |name: &&str| StreamProtocol::try_from_owned((*name).to_owned()).unwrap();
        names.iter().map(protocol).collect()
    }

    #[test]
    fn protocols_say_who_is_foreign_and_why() {
        let mut ours = NetConfig::default().protocols().unwrap();
        ours.exchange = StreamProtocol::new("/shoal/main/exchange/2");
        let check = |theirs: &[&str], want: Option<&str>| {
            let misfit = misfit(&ours, &protocols(theirs)).map(|misfit| misfit.to_string());
            assert_eq!(misfit.as_deref(), want, "{theirs:?}");
        };
        check(&["/shoal/main/exchange/2", "/shoal/main/exchange/1"], None);
        check(
            &["/shoal/main/kad/1", "/shoal/main/exchange/1"],
            Some("speaks exchange/1, this node exchange/2: update the older one (theirs)"),
        );
        check(
            &["/shoal/main/exchange/3", "/shoal/main/exchange/5"],
            Some("speaks exchange/5, this node exchange/2: update the older one (this one)"),
        );
        check(
            &["/shoal/test/exchange/2"],
            Some(
                "is in the network \"test\", this node in \"main\": give both the same \
                 network.name to connect them",
            ),
        );
        let long = format!("/shoal/\u{1b}{}/exchange/2", "x".repeat(100));
        let shown = format!(
            "is in the network \"\\u{{1b}}{}\", this node in \"main\": give both the same \
             network.name to connect them",
            "x".repeat(31)
        );
        check(&[&long], Some(&shown));
        for stranger in [
            "/ipfs/kad/1.0.0",
            "/shoal/main/exchange/x",
            "/shoal/main/exchange/2/more",
            "/shoal/main/exchange/99999999999",
            "/shoal/main/kad/1",
            "/shoal/",
        ] {
            check(&[stranger], None);
        }
        check(&[], None);
    }

    #[test]
    fn notes_are_bounded_and_age() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let network = || Misfit::Network {
            theirs: "a".to_owned(),
            ours: "b".to_owned(),
        };
        let older = Misfit::Exchange { theirs: 1, ours: 2 };
        let (mut foreigners, first) = (Foreigners::default(), PeerId::random());
        assert!(foreigners.met(first, &network(), start));
        assert!(!foreigners.met(first, &network(), after(1)));
        assert!(foreigners.rests(&first, after(2)) && !foreigners.rests(&first, after(122)));
        assert!(foreigners.met(first, &older, after(2)), "another reason");
        assert!(!foreigners.rests(&first, after(3)), "it is in this network");
        let told = foreigners.all(after(3));
        assert_eq!((told.len(), &told[0].misfit), (1, &older));
        for _ in 0..PEERS_MAX {
            foreigners.met(PeerId::random(), &network(), after(4));
        }
        let all = foreigners.all(after(5));
        assert_eq!(all.len(), PEERS_MAX);
        assert!(
            all.iter().all(|it| it.peer != first),
            "the oldest is forgotten"
        );
        foreigners.understood(&all[0].peer);
        assert_eq!(foreigners.all(after(5)).len(), PEERS_MAX - 1);
        assert!(foreigners.all(after(604)).is_empty());
    }
}
