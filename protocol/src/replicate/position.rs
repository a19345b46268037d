//! Keys of roots, positions of peers, and how far they are apart.
//!
//! All nodes must agree on these, so that an asker and a helper find the same homes for a key. The
//! tests freeze them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::address::Digest;
use crate::dht;

/// BLAKE3's key derivation context for positions; a change of it moves every home.
const POSITION_CONTEXT: &str = "shoal replica position v1";

/// Under which key a root is asked for: its DHT key, which does not give the root away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 32]);

/// Where a peer stands among the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position([u8; 32]);

/// How far a key and a position are apart: their exclusive or, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 32]);

/// What stands for a peer: the caller's number, one per peer, never used again for another while
/// the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

impl Key {
    /// The key of a root; see [`dht::key`].
    #[must_use]
    pub fn of(root: &Digest) -> Self {
        Self(dht::key(root))
    }

    /// How far the peer at this position is from the key.
    #[must_use]
    pub fn distance(self, position: Position) -> Distance {
        Distance(xor(&self.0, &position.0))
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Position {
    /// The position of the peer with this id, in the bytes of libp2p.
    #[must_use]
    pub fn of_peer(peer_id: &[u8]) -> Self {
        Self(blake3::derive_key(POSITION_CONTEXT, peer_id))
    }

    /// The position with these bytes.
    #[cfg(test)]
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// How many leading bits two positions share.
    #[must_use]
    pub fn shared_bits(self, other: Self) -> u32 {
        let mut bits: u32 = 0;
        for byte in xor(&self.0, &other.0) {
            bits = bits.saturating_add(byte.leading_zeros());
            if byte != 0 {
                break;
            }
        }
        bits
    }

    /// The position's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    let mut out = *a;
    for (to, from) in out.iter_mut().zip(b) {
        *to ^= from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::HashFn;

    #[test]
    fn positions_and_keys_are_frozen() {
        let hex = |bytes: [u8; 32]| blake3::Hash::from_bytes(bytes).to_hex().to_string();
        let key = Key::of(&Digest::of(HashFn::Blake3, b"shoal"));
        // Frozen for the DHT, too.
        assert_eq!(
            hex(key.0),
            "b85b75ab3b0ff86e6c95da960a5fe37272aa31766e93fddf52e4a3e4209ac8aa"
        );
        assert_eq!(
            hex(Position::of_peer(b"shoal").0),
            "b16607f0b0f6316d88b7a31fd7f870c98f3d90a91fb3e79748bd97151bb040b6"
        );
    }

    #[test]
    fn distances_order_as_numbers() {
        let at = |first: u8, last: u8| {
            let mut bytes = [0; 32];
            (bytes[0], bytes[31]) = (first, last);
            bytes
        };
        let key = Key(at(0b1000, 0));
        let distance = |first, last| key.distance(Position(at(first, last)));
        assert!(distance(0b1000, 255) < distance(0b1001, 0));
        assert!(distance(0b1001, 0) < distance(0b0000, 0));
        assert_eq!(distance(0b1000, 0), Distance([0; 32]));
        assert_eq!(Position(at(1, 0)).shared_bits(Position(at(0, 0))), 7);
        assert_eq!(Position(at(0, 1)).shared_bits(Position(at(0, 0))), 255);
        assert_eq!(Position(at(3, 3)).shared_bits(Position(at(3, 3))), 256);
    }
}
