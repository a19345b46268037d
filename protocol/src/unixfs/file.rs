//! Building files and symlinks.

use std::mem;

use super::{
    Attributes, Block, BuildError, Built, TARGET_BYTES_MAX, dagpb,
    data::{Data, Kind},
};
use crate::address::{Cid, Digest, HashFn};

/// Links in a full node of a file (profile `unixfs-v1-2025`).
pub const FILE_LINKS: usize = 1024;

/// Builds the balanced DAG of one file from its leaves, in order.
///
/// It keeps at most [`FILE_LINKS`] links for each level of the DAG: 3 x 1024 x 64 bytes for 1 TiB.
#[derive(Debug)]
pub struct FileBuilder {
    hash_fn: HashFn,
    attributes: Attributes,
    /// What waits for a parent, leaves first. No level is empty, and each holds at most
    /// [`FILE_LINKS`]: a full one is closed only when the next part arrives, so that a file which
    /// ends there gets no needless root.
    levels: Vec<Vec<Part>>,
}

/// A complete part of the file: a leaf or a node.
#[derive(Debug)]
struct Part {
    cid: Cid,
    tsize: u64,
    size: u64,
}

impl FileBuilder {
    /// Starts an empty file whose nodes are addressed by `hash_fn`.
    pub fn new(hash_fn: HashFn, attributes: Attributes) -> FileBuilder {
        FileBuilder {
            hash_fn,
            attributes,
            levels: Vec::new(),
        }
    }

    /// Adds the next leaf, a raw block of `len` bytes that the caller keeps, and hands the nodes
    /// that it completes to `sink`.
    ///
    /// An empty leaf adds nothing to a file and is left out.
    pub fn push(&mut self, leaf: Cid, len: u64, sink: &mut dyn FnMut(Block)) {
        if len > 0 {
            self.add(
                0,
                Part {
                    cid: leaf,
                    tsize: len,
                    size: len,
                },
                sink,
            );
        }
    }

    /// Completes the file, handing the nodes still open to `sink`.
    ///
    /// A file of one leaf is that leaf itself, without a node, unless there are attributes to
    /// keep. A file without leaves is one empty raw block, which goes to `sink` too.
    pub fn finish(mut self, sink: &mut dyn FnMut(Block)) -> Built {
        let mut level = 0;
        loop {
            let parts = self
                .levels
                .get_mut(level)
                .map(mem::take)
                .unwrap_or_default();
            level = level.saturating_add(1);
            if level >= self.levels.len() {
                return self.root(parts, sink);
            }
            let node = self.node(&parts, Attributes::default(), sink);
            self.add(level, node, sink);
        }
    }

    /// Adds a part to a level, closing every level that is full.
    fn add(&mut self, level: usize, part: Part, sink: &mut dyn FnMut(Block)) {
        let mut part = part;
        for at in level..self.levels.len() {
            let Some(open) = self.levels.get_mut(at) else {
                break;
            };
            if open.len() < FILE_LINKS {
                open.push(part);
                return;
            }
            let full = mem::replace(open, vec![part]);
            part = self.node(&full, Attributes::default(), sink);
        }
        self.levels.push(vec![part]);
    }

    /// Makes the root of the topmost level.
    fn root(&self, mut parts: Vec<Part>, sink: &mut dyn FnMut(Block)) -> Built {
        let root = match parts.pop() {
            Some(only) if parts.is_empty() && self.attributes.is_empty() => only,
            Some(last) => {
                parts.push(last);
                self.node(&parts, self.attributes, sink)
            }
            None if self.attributes.is_empty() => {
                let cid = Cid::raw(Digest::of(self.hash_fn, &[]));
                sink(Block {
                    cid: cid.clone(),
                    data: Vec::new(),
                });
                Part {
                    cid,
                    tsize: 0,
                    size: 0,
                }
            }
            None => self.node(&[], self.attributes, sink),
        };
        Built {
            cid: root.cid,
            tsize: root.tsize,
            size: root.size,
        }
    }

    /// Closes a node over these parts.
    fn node(&self, parts: &[Part], attributes: Attributes, sink: &mut dyn FnMut(Block)) -> Part {
        let size = parts
            .iter()
            .map(|part| part.size)
            .fold(0, u64::saturating_add);
        let message = Data {
            filesize: Some(size),
            blocksizes: parts.iter().map(|part| part.size).collect(),
            ..Data::new(Kind::File, attributes)
        };
        let mut node = dagpb::Writer::default();
        for part in parts {
            node.link(&part.cid, "", part.tsize);
        }
        let (block, tsize) = node.finish(self.hash_fn, &message);
        let cid = block.cid.clone();
        sink(block);
        Part { cid, tsize, size }
    }
}

/// Builds a symlink, which is one block.
///
/// # Errors
/// [`BuildError::Target`] if the target is empty, over [`TARGET_BYTES_MAX`] bytes or contains NUL:
/// no file system has such a link, and every receiver would refuse it.
pub fn symlink(
    hash_fn: HashFn,
    target: &str,
    attributes: Attributes,
) -> Result<(Block, Built), BuildError> {
    if target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains('\0') {
        return Err(BuildError::Target);
    }
    let message = Data {
        data: Some(target.as_bytes()),
        ..Data::new(Kind::Symlink, attributes)
    };
    let (block, tsize) = dagpb::Writer::default().finish(hash_fn, &message);
    let cid = block.cid.clone();
    Ok((
        block,
        Built {
            cid,
            tsize,
            size: 0,
        },
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use super::*;
    use crate::unixfs::{Mtime, Node, parse_node};

    /// Builds a file of `leaves` equal leaves of 7 bytes; returns it with its nodes.
    fn build(leaves: usize, attributes: Attributes) -> (Built, HashMap<Cid, Vec<u8>>) {
        let leaf = Cid::raw(Digest::of(HashFn::Blake3, b"7 bytes"));
        let mut nodes = HashMap::new();
        let mut keep = |block: Block| {
            nodes.insert(block.cid, block.data);
        };
        let mut builder = FileBuilder::new(HashFn::Blake3, attributes);
        for _ in 0..leaves {
            builder.push(leaf.clone(), 7, &mut keep);
            assert!(
                builder
                    .levels
                    .iter()
                    .all(|open| (1..=FILE_LINKS).contains(&open.len()))
            );
        }
        let built = builder.finish(&mut keep);
        (built, nodes)
    }

    /// Depth of every leaf below a node, checked to be the same.
    fn depth(cid: &Cid, nodes: &HashMap<Cid, Vec<u8>>) -> usize {
        let Some(Ok(Node::File(file))) = nodes.get(cid).map(|bytes| parse_node(bytes)) else {
            return 0;
        };
        let mut below: Vec<_> = file.children.iter().map(|c| depth(&c.cid, nodes)).collect();
        below.dedup();
        assert_eq!(below.len(), 1, "all leaves of a file are equally deep");
        below[0] + 1
    }

    #[test]
    fn leaves_are_equally_deep_and_sizes_add_up() {
        let check = |leaves: usize, levels: usize, distinct_nodes: usize| {
            let (built, nodes) = build(leaves, Attributes::default());
            assert_eq!(depth(&built.cid, &nodes), levels, "{leaves} leaves");
            assert_eq!(nodes.len(), distinct_nodes, "{leaves} leaves");
            assert_eq!(built.size, 7 * leaves as u64);
        };
        let full = FILE_LINKS;
        check(1, 0, 0);
        check(2, 1, 1);
        check(full, 1, 1);
        check(full + 1, 2, 3);
        check(full * full, 2, 2);
        // One full node on each of two levels; a chain of three for the last leaf; the root.
        check(full * full + 1, 3, 5);
    }

    #[test]
    fn empty_leaves_add_nothing() {
        let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
        let empty = Cid::raw(Digest::of(HashFn::Blake3, b""));
        builder.push(empty.clone(), 0, &mut |_| unreachable!());
        let mut blocks = Vec::new();
        let built = builder.finish(&mut |block| blocks.push(block));
        assert_eq!(
            built,
            Built {
                cid: empty.clone(),
                tsize: 0,
                size: 0
            }
        );
        assert_eq!(
            blocks,
            [Block {
                cid: empty,
                data: Vec::new()
            }]
        );
    }

    #[test]
    fn attributes_need_a_node() {
        let attributes = Attributes {
            mode: Some(0o755),
            mtime: Mtime::new(1, 0),
        };
        for leaves in [0, 1, 2] {
            let (built, nodes) = build(leaves, attributes);
            let Ok(Node::File(file)) = parse_node(&nodes[&built.cid]) else {
                panic!("not a file")
            };
            assert_eq!((file.attributes, file.children.len()), (attributes, leaves));
        }
    }

    #[test]
    fn symlinks_round_trip_or_are_refused() {
        let (block, built) = symlink(HashFn::Blake3, "../to", Attributes::default()).unwrap();
        assert_eq!(block.data, b"\x0a\x09\x08\x04\x12\x05../to");
        assert_eq!(
            built,
            Built {
                cid: block.cid,
                tsize: 11,
                size: 0
            }
        );
        let expected = Node::Symlink {
            target: "../to".into(),
            attributes: Attributes::default(),
        };
        assert_eq!(parse_node(&block.data), Ok(expected));
        for target in ["", "a\0b", &"x".repeat(TARGET_BYTES_MAX + 1)] {
            let refused = symlink(HashFn::Blake3, target, Attributes::default());
            assert_eq!(refused, Err(BuildError::Target));
        }
    }
}
