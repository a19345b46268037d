//! Sharded directories: a hash array mapped trie over the names.
//!
//! Names are hashed to eight digits of one byte each. A shard has a slot for each value of its
//! digit: empty, one entry, or a shard of the next digit for all the names that share this one. So
//! the same entries always give the same shards, in whatever order they came. A link's name is its
//! slot as two upper-case hex digits, followed by the entry's name if it is an entry.

use std::collections::BTreeMap;

use super::{
    Attributes, Block, BuildError, dagpb,
    data::{Data, Kind},
};
use crate::{
    address::{Cid, HashFn},
    name::{SafeName, escaped},
};

/// Slots of a shard, which is one byte of the hash (profile `unixfs-v1-2025`).
pub(super) const FANOUT: u64 = 256;

/// The multicodec code of murmur3-x64-64, the only hash that names are sharded by.
pub(super) const HASH_TYPE: u64 = 0x22;

/// Digits of a hashed name, and so the most levels of shards.
pub(crate) const DIGITS: usize = 8;

/// Bytes of a bitfield with a bit for each slot.
const BITFIELD_BYTES: usize = 32;

/// What an entry links to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) cid: Cid,
    pub(super) tsize: u64,
}

/// The digits of a name: the first 64 bits of its murmur3-x64-128 hash, big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HashedName([u8; DIGITS]);

impl HashedName {
    pub(crate) fn of(name: &[u8]) -> HashedName {
        // Reading from a slice cannot fail.
        let hash = murmur3::murmur3_x64_128(&mut &*name, 0).unwrap_or_default();
        let [a, b, c, d, e, f, g, h, ..] = hash.to_le_bytes();
        HashedName([h, g, f, e, d, c, b, a])
    }

    /// The slot that the name has in a shard at this depth; `None` below the last digit.
    pub(crate) fn digit(self, depth: usize) -> Option<u8> {
        self.0.get(depth).copied()
    }

    /// Whether these slots, from the root down, lead to the name.
    pub(crate) fn starts_with(self, slots: &[u8]) -> bool {
        self.0.starts_with(slots)
    }
}

/// An entry with its digits.
struct Hashed {
    hash: HashedName,
    name: SafeName,
    target: Target,
}

/// Builds the shards of a directory and returns the root's address and cumulative size.
pub(super) fn build(
    hash_fn: HashFn,
    attributes: Attributes,
    entries: BTreeMap<SafeName, Target>,
    sink: &mut dyn FnMut(Block),
) -> Result<(Cid, u64), BuildError> {
    let mut hashed: Vec<Hashed> = entries
        .into_iter()
        .map(|(name, target)| Hashed {
            hash: HashedName::of(name.as_bytes()),
            name,
            target,
        })
        .collect();
    // In this order every shard at every depth is one contiguous run.
    hashed.sort_unstable_by_key(|entry| entry.hash);
    shard(hash_fn, attributes, &hashed, 0, sink)
}

/// Builds the shard over a run of entries that share their first `depth` digits. The recursion is
/// [`DIGITS`] deep at most.
fn shard(
    hash_fn: HashFn,
    attributes: Attributes,
    run: &[Hashed],
    depth: usize,
    sink: &mut dyn FnMut(Block),
) -> Result<(Cid, u64), BuildError> {
    let mut node = dagpb::Writer::default();
    let mut slots = Vec::new();
    for group in run.chunk_by(|a, b| a.hash.digit(depth) == b.hash.digit(depth)) {
        let [first, rest @ ..] = group else { continue };
        let Some(slot) = first.hash.digit(depth) else {
            let other = rest.first().map(|entry| escaped(&entry.name).to_string());
            return Err(BuildError::HashCollision(
                escaped(&first.name).to_string(),
                other.unwrap_or_default(),
            ));
        };
        slots.push(slot);
        if rest.is_empty() {
            let name = format!("{slot:02X}{}", first.name.as_str());
            node.link(&first.target.cid, &name, first.target.tsize);
        } else {
            let below = Attributes::default();
            let (cid, tsize) = shard(hash_fn, below, group, depth.saturating_add(1), sink)?;
            node.link(&cid, &format!("{slot:02X}"), tsize);
        }
    }
    let bitfield = bitfield(&slots);
    let message = Data {
        data: Some(&bitfield),
        hash_type: Some(HASH_TYPE),
        fanout: Some(FANOUT),
        ..Data::new(Kind::Shard, attributes)
    };
    let (block, tsize) = node.finish(hash_fn, &message);
    let cid = block.cid.clone();
    sink(block);
    Ok((cid, tsize))
}

/// Encodes which slots are taken: a big-endian number without leading zero bytes.
pub(super) fn bitfield(slots: &[u8]) -> Vec<u8> {
    let mut field = [0_u8; BITFIELD_BYTES];
    for slot in slots {
        if let Some(byte) = field.iter_mut().rev().nth(usize::from(slot / 8)) {
            *byte |= 1_u8.wrapping_shl(u32::from(slot % 8));
        }
    }
    field.into_iter().skip_while(|byte| *byte == 0).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::address::Digest;

    #[test]
    fn digits_of_known_names() {
        // murmur3-x64-128 of "hello" starts with cbd8a7b341bd9b02; the published test vector.
        let hashed = HashedName::of(b"hello");
        assert_eq!(hashed.0, [0xcb, 0xd8, 0xa7, 0xb3, 0x41, 0xbd, 0x9b, 0x02]);
        assert_eq!(
            (hashed.digit(0), hashed.digit(7), hashed.digit(8)),
            (Some(0xcb), Some(2), None)
        );
    }

    #[test]
    fn bitfields_are_big_endian_and_short() {
        let check = |slots: &[u8], expected: &[u8]| assert_eq!(bitfield(slots), expected);
        check(&[], &[]);
        check(&[0], &[1]);
        check(&[7, 8], &[1, 0x80]);
        check(&[0, 16], &[1, 0, 1]);
        assert_eq!(bitfield(&[255])[..2], [0x80, 0]);
        assert_eq!(bitfield(&(0..=255).collect::<Vec<_>>()), [0xff; 32]);
    }

    #[test]
    fn names_with_one_hash_are_refused() {
        let hash = HashedName::of(b"x");
        let run = ["a", "b"].map(|name| Hashed {
            hash,
            name: SafeName::parse(name).unwrap(),
            target: Target {
                cid: Cid::raw(Digest::of(HashFn::Blake3, b"")),
                tsize: 0,
            },
        });
        let error = shard(HashFn::Blake3, Attributes::default(), &run, 0, &mut |_| ()).unwrap_err();
        assert_eq!(error, BuildError::HashCollision("a".into(), "b".into()));
    }
}
