//! dag-pb, the envelope of every node: links to other blocks, and data.
//!
//! Writing is canonical: links first, each as hash, name, size, the name even when it is empty and
//! the size even when it is zero. Reading accepts links and data in either order and skips unknown
//! fields; it copies no more than it has been given.

use super::{
    Block, DagError, LINKS_PER_NODE_MAX,
    data::Data,
    protobuf::{Fields, bytes_field_len, push_bytes, push_varint},
};
use crate::{
    address::{Cid, Digest, HashFn},
    varint,
};

/// A link as it was read: the name is still bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link<'a> {
    pub(super) cid: Cid,
    pub(super) name: &'a [u8],
    pub(super) tsize: u64,
}

/// A node as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub(super) links: Vec<Link<'a>>,
    pub(super) data: &'a [u8],
}

/// Writes one node: its links in order, then its data.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Sum of the sizes that the links carry.
    below: u64,
}

impl Writer {
    pub(super) fn link(&mut self, cid: &Cid, name: &str, tsize: u64) {
        push_link(&mut self.bytes, cid, name, tsize);
        // Blocks are at most 2 MiB: no number of them that can be built reaches 2^64 bytes.
        self.below = self.below.saturating_add(tsize);
    }

    /// Completes the node; returns it with its cumulative size.
    pub(super) fn finish(mut self, hash_fn: HashFn, data: &Data<'_>) -> (Block, u64) {
        push_bytes(&mut self.bytes, 1, &data.encode());
        let tsize = self.below.saturating_add(self.bytes.len() as u64);
        let cid = Cid::dag_pb(Digest::of(hash_fn, &self.bytes));
        (
            Block {
                cid,
                data: self.bytes,
            },
            tsize,
        )
    }
}

fn push_link(out: &mut Vec<u8>, cid: &Cid, name: &str, tsize: u64) {
    let mut link = Vec::new();
    push_bytes(&mut link, 1, &cid.to_bytes());
    push_bytes(&mut link, 2, name.as_bytes());
    push_varint(&mut link, 3, tsize);
    push_bytes(out, 2, &link);
}

/// Length that a link adds to a node.
pub(super) fn link_len(cid: &Cid, name: &str, tsize: u64) -> u64 {
    let hash_len = match cid.inline() {
        // Version and codec are one byte each.
        None => Digest::LEN.saturating_add(2) as u64,
        Some(_) => cid.to_bytes().len() as u64,
    };
    let link_len = bytes_field_len(hash_len)
        .saturating_add(bytes_field_len(name.len() as u64))
        .saturating_add(1)
        .saturating_add(varint::len(tsize));
    bytes_field_len(link_len)
}

/// Length that the data of a node adds to it.
pub(super) fn data_len(data: &Data<'_>) -> u64 {
    bytes_field_len(data.encode().len() as u64)
}

/// Reads a node.
///
/// # Errors
/// [`DagError::Malformed`], [`DagError::Limit`] over [`LINKS_PER_NODE_MAX`] links, or
/// [`DagError::Address`] for a link that cannot be followed.
pub(super) fn parse(bytes: &[u8]) -> Result<Envelope<'_>, DagError> {
    let mut links = Vec::new();
    let mut data = None;
    for field in Fields(bytes) {
        match field? {
            (1, _) if data.is_some() => return Err(DagError::Malformed("a node has data twice")),
            (1, value) => data = Some(value.bytes()?),
            (2, _) if links.len() >= LINKS_PER_NODE_MAX => {
                return Err(DagError::limit("links in one node", LINKS_PER_NODE_MAX));
            }
            (2, value) => links.push(parse_link(value.bytes()?)?),
            _ => {}
        }
    }
    let data = data.ok_or(DagError::Malformed("a node has no data"))?;
    Ok(Envelope { links, data })
}

fn parse_link(bytes: &[u8]) -> Result<Link<'_>, DagError> {
    let (mut hash, mut name, mut tsize) = (None, &[][..], 0);
    for field in Fields(bytes) {
        match field? {
            (1, value) => hash = Some(value.bytes()?),
            (2, value) => name = value.bytes()?,
            (3, value) => tsize = value.varint()?,
            _ => {}
        }
    }
    let hash = hash.ok_or(DagError::Malformed("a link has no hash"))?;
    Ok(Link {
        cid: Cid::from_bytes(hash)?,
        name,
        tsize,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn leaf() -> Cid {
        Cid::raw(Digest::of(HashFn::Blake3, b"x"))
    }

    #[test]
    fn writes_the_canonical_bytes() {
        let mut out = Vec::new();
        push_link(&mut out, &leaf(), "", 0);
        // Field 2, 42 bytes: hash of 36 bytes, an explicit empty name, an explicit zero size.
        assert_eq!(out[..4], [0x12, 42, 0x0a, 36]);
        assert_eq!(out[4..40], leaf().to_bytes());
        assert_eq!(out[40..], [0x12, 0, 0x18, 0]);
        push_bytes(&mut out, 1, &[8, 1]);
        assert_eq!(out[44..], [0x0a, 2, 8, 1]);

        let envelope = parse(&out).unwrap();
        assert_eq!(
            envelope.links,
            [Link {
                cid: leaf(),
                name: b"",
                tsize: 0
            }]
        );
        assert_eq!(envelope.data, [8, 1]);
    }

    #[test]
    fn lengths_match_what_is_written() {
        let inline: Cid = "bafkqaaa".parse().unwrap();
        for cid in [leaf(), inline] {
            for name in ["", "a", &"n".repeat(127), &"n".repeat(255)] {
                for tsize in [0, 127, 128, u64::MAX] {
                    let mut out = Vec::new();
                    push_link(&mut out, &cid, name, tsize);
                    assert_eq!(link_len(&cid, name, tsize), out.len() as u64);
                }
            }
        }
    }

    #[test]
    fn reads_either_order_and_skips_unknown_fields() {
        let (mut link, mut data) = (Vec::new(), Vec::new());
        push_link(&mut link, &leaf(), "n", 5);
        push_bytes(&mut data, 1, &[8, 1]);
        let unknown = [0x78, 1, 0x7a, 1, 0];
        let canonical = [&link[..], &data].concat();
        for shape in [[&data[..], &unknown, &link], [&link, &unknown, &data]] {
            assert_eq!(parse(&shape.concat()), parse(&canonical));
        }
    }

    #[test]
    fn refuses_what_is_not_a_node() {
        let check = |bytes: &[u8], expected| assert_eq!(parse(bytes), Err(expected));
        check(&[], DagError::Malformed("a node has no data"));
        check(
            &[0x0a, 0, 0x0a, 0],
            DagError::Malformed("a node has data twice"),
        );
        check(
            &[0x12, 0, 0x0a, 0],
            DagError::Malformed("a link has no hash"),
        );
        check(
            &[0x10, 0],
            DagError::Malformed("a field has the wrong wire type"),
        );
        let mut many = Vec::new();
        let inline: Cid = "bafkqaaa".parse().unwrap();
        (0..=LINKS_PER_NODE_MAX).for_each(|_| push_link(&mut many, &inline, "", 0));
        check(
            &many,
            DagError::limit("links in one node", LINKS_PER_NODE_MAX),
        );
    }
}
