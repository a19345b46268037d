//! Who counts as another asker.
//!
//! An id costs nothing, an address prefix costs something. So an asker from elsewhere is its prefix,
//! `/24` or `/56`, and its id modulo 4: a prefix counts 4 at most. On a LAN, where people know each
//! other, a peer is an asker. What is kept is salted anew by every process, so that no table tells
//! who asked for what.

use std::net::IpAddr;

use super::position::{Key, Position};

/// How many askers one address prefix can be.
const ASKERS_PER_PREFIX: u8 = 4;

/// A peer that asks or reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its position, which stands for its id.
    pub position: Position,
    /// Where it is.
    pub origin: Origin,
}

/// Where an asker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On this node's LAN.
    Lan,
    /// Elsewhere, at this address.
    Elsewhere(IpAddr),
}

/// What a process salts the askers with: 32 random bytes.
#[derive(Clone)]
pub struct Salt(pub [u8; 32]);

/// What is kept of an asker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Stands for the asker.
    pub who: u32,
    /// Stands for its prefix; on a LAN, for itself.
    pub group: u32,
}

impl Asker {
    /// What is kept of this asker.
    #[must_use]
    pub fn mark(&self, salt: &Salt) -> Mark {
        let mut prefix = [0; 33];
        let used = match self.origin {
            Origin::Lan => prefix.split_first_mut().map(|(kind, rest)| {
                *kind = 1;
                rest.copy_from_slice(self.position.bytes());
            }),
            Origin::Elsewhere(ip) => match ip.to_canonical() {
                IpAddr::V4(ip) => fill(&mut prefix, 4, ip.octets().get(..3)),
                IpAddr::V6(ip) => fill(&mut prefix, 6, ip.octets().get(..7)),
            },
        };
        debug_assert!(used.is_some(), "33 bytes have room for every prefix");
        let slot = match self.origin {
            Origin::Lan => 0,
            Origin::Elsewhere(_) => {
                self.position.bytes().last().copied().unwrap_or_default() % ASKERS_PER_PREFIX
            }
        };
        let mut hasher = blake3::Hasher::new_keyed(&salt.0);
        hasher.update(&prefix);
        let group = first_word(hasher.finalize());
        let who = first_word(hasher.update(&[slot]).finalize());
        Mark { who, group }
    }
}

impl Mark {
    /// What stands for something that this asker did with a key, for a filter.
    pub(super) fn item(self, key: Key, what: u64) -> u64 {
        let key = key
            .0
            .first_chunk()
            .map_or(0, |first| u64::from_le_bytes(*first));
        let who = u64::from(self.who) << 32 | u64::from(self.group);
        mix(mix(key ^ mix(who)) ^ what)
    }
}

/// The finaliser of SplitMix64: every bit of the input moves every bit of the output.
pub(super) fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn fill(into: &mut [u8], kind: u8, bytes: Option<&[u8]>) -> Option<()> {
    let (first, rest) = into.split_first_mut()?;
    *first = kind;
    let bytes = bytes?;
    rest.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

fn first_word(hash: blake3::Hash) -> u32 {
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |first| u32::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    fn mark(n: u32, ip: &str) -> Mark {
        let position = Position::of_peer(&n.to_le_bytes());
        let origin = match ip {
            "lan" => Origin::Lan,
            ip => Origin::Elsewhere(ip.parse().unwrap()),
        };
        Asker { position, origin }.mark(&Salt([7; 32]))
    }

    fn distinct(ip: &str) -> usize {
        let marks: BTreeSet<_> = (0..1000).map(|n| mark(n, ip).who).collect();
        marks.len()
    }

    #[test]
    fn a_prefix_is_four_askers_and_a_lan_peer_is_one() {
        assert_eq!(distinct("198.51.100.7"), 4);
        assert_eq!(distinct("2001:db8:1:200::7"), 4);
        assert_eq!(distinct("lan"), 1000);
    }

    #[test]
    fn a_prefix_is_a_group() {
        let group = |ip| mark(1, ip).group;
        assert_eq!(group("198.51.100.7"), group("198.51.100.200"));
        assert_eq!(group("198.51.100.7"), group("::ffff:198.51.100.9"));
        assert_eq!(group("2001:db8:1:200::7"), group("2001:db8:1:2ff::9"));
        let apart = [
            "198.51.100.7",
            "198.51.101.7",
            "2001:db8:1:200::7",
            "2001:db8:1:300::7",
            "lan",
        ];
        let groups: BTreeSet<_> = apart.into_iter().map(group).collect();
        assert_eq!(groups.len(), apart.len());
        assert_ne!(mark(1, "lan").group, mark(2, "lan").group);
    }

    #[test]
    fn another_salt_makes_other_marks() {
        let asker = Asker {
            position: Position::of_peer(b"a"),
            origin: Origin::Lan,
        };
        assert_ne!(asker.mark(&Salt([0; 32])), asker.mark(&Salt([1; 32])));
    }
}
