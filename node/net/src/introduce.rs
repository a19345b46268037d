//! Which peers a peer is told of, and in which order: pure.
//!
//! Of several peers that deal with the same root, those come first that are likely to be near the
//! peer that is told. This node measures how far others are from itself, and sees from where they
//! are connected; how far two others are from each other it can only conclude. It refuses to guess
//! beyond that: all others keep the order in which they were given.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId};
use shoal_protocol::near::Nearness;

use super::scope::{Scope, subnet_of};

/// What this node knows of where a peer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Situation {
    /// The hosts that it is connected from; none where it was dialled by a name.
    pub(super) hosts: Vec<IpAddr>,
    /// How near it is to this node.
    pub(super) nearness: Nearness,
}

/// How near two other peers are to each other, as far as this node can conclude; the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kin {
    /// Both are connected from one public subnet: colleagues behind one router, or neighbours.
    Subnet,
    /// Both are on the local network of this node.
    Lan,
    /// Both are near this node, so at most twice as far from each other.
    Near,
    /// Nothing is known.
    Unknown,
}

impl Situation {
    /// Whether both are connected from one public subnet. Of private addresses a subnet says
    /// nothing: each home has the same.
    fn shares_subnet(&self, other: &Self) -> bool {
        let subnets = |of: &Self| {
            let public = of.hosts.iter().copied();
            let public = public.filter(|ip| Scope::of_ip(*ip) == Some(Scope::Public));
            public.map(subnet_of).collect::<Vec<_>>()
        };
        let others = subnets(other);
        subnets(self).iter().any(|subnet| others.contains(subnet))
    }

    fn kin(&self, other: &Self) -> Kin {
        let farther = self.nearness.max(other.nearness);
        match farther {
            _ if self.shares_subnet(other) => Kin::Subnet,
            Nearness::Lan => Kin::Lan,
            Nearness::Near => Kin::Near,
            Nearness::Far => Kin::Unknown,
        }
    }
}

/// A peer that may be named.
pub(super) struct Acquaintance {
    pub(super) peer: PeerId,
    pub(super) situation: Situation,
    /// Where the peer that is told can dial it.
    pub(super) addresses: Vec<Multiaddr>,
    /// Whether it has said where it is: if not, its addresses may come yet.
    pub(super) is_identified: bool,
}

/// Which of these `to` is told of, the nearest to it first, at most `most`.
///
/// A peer without an address that `to` can dial is named where both are connected from one subnet:
/// colleagues behind one router may know it from their own network. Others without an address are
/// left out.
pub(super) fn introduce(
    known: Vec<Acquaintance>,
    to: &Situation,
    most: usize,
) -> Vec<(PeerId, Vec<Multiaddr>)> {
    let mut named: Vec<_> = known
        .into_iter()
        .map(|it| (it.situation.kin(to), it))
        .filter(|(kin, it)| !it.addresses.is_empty() || *kin == Kin::Subnet && it.is_identified)
        .collect();
    named.sort_by_key(|(kin, _)| *kin);
    named.truncate(most);
    let named = named.into_iter();
    named.map(|(_, it)| (it.peer, it.addresses)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn situation(host: &str, nearness: Nearness) -> Situation {
        Situation {
            hosts: vec![host.parse().unwrap()],
            nearness,
        }
    }

    fn acquaintance(host: &str, nearness: Nearness, has_address: bool) -> Acquaintance {
        let address = "/ip4/198.51.100.1/tcp/4101".parse().unwrap();
        Acquaintance {
            peer: PeerId::random(),
            situation: situation(host, nearness),
            addresses: if has_address {
                vec![address]
            } else {
                Vec::new()
            },
            is_identified: true,
        }
    }

    #[test]
    fn the_nearest_to_the_listener_are_named_first() {
        use Nearness::{Far, Lan, Near};
        let check = |to: Situation, known: &[(&str, Nearness)], expected: &[usize]| {
            let known: Vec<_> = known
                .iter()
                .map(|(host, nearness)| acquaintance(host, *nearness, true))
                .collect();
            let order: Vec<_> = known.iter().map(|it| it.peer).collect();
            let named = introduce(known, &to, 3);
            let named: Vec<_> = named
                .iter()
                .map(|(peer, _)| order.iter().position(|it| it == peer).unwrap())
                .collect();
            assert_eq!(named, expected, "{to:?}");
        };
        let known = [
            ("8.8.8.8", Far),
            ("1.1.1.1", Near),
            ("192.168.0.9", Lan),
            ("9.9.9.200", Far),
        ];
        check(situation("9.9.9.9", Far), &known, &[3, 0, 1]);
        check(situation("7.7.7.7", Near), &known, &[1, 2, 0]);
        check(situation("10.0.0.1", Lan), &known, &[2, 1, 0]);
        check(Situation::default(), &known, &[0, 1, 2]);
        check(situation("192.168.0.8", Far), &known, &[0, 1, 2]);
    }

    #[test]
    fn only_colleagues_are_named_without_an_address() {
        let to = situation("9.9.9.9", Nearness::Far);
        let mut colleague = acquaintance("9.9.9.9", Nearness::Far, false);
        let stranger = acquaintance("8.8.8.8", Nearness::Far, false);
        let peer = colleague.peer;
        let named = introduce(vec![stranger, colleague], &to, 9);
        assert_eq!(named, [(peer, Vec::new())]);
        colleague = acquaintance("9.9.9.9", Nearness::Far, false);
        colleague.is_identified = false;
        assert!(introduce(vec![colleague], &to, 9).is_empty());
    }
}
