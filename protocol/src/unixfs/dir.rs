//! Building directories.

use std::collections::{BTreeMap, btree_map};

use super::{
    Attributes, Block, BuildError, Built, dagpb,
    data::{Data, Kind},
    hamt::{self, Target},
};
use crate::{
    address::{Cid, HashFn},
    name::{SafeName, escaped},
};

/// Largest plain directory block, in bytes; a directory whose block would be larger is sharded
/// (profile `unixfs-v1-2025`).
pub const DIR_BLOCK_BYTES_MAX: u64 = 256 << 10;

/// Builds one directory from its entries, added in any order.
#[derive(Debug)]
pub struct DirBuilder {
    hash_fn: HashFn,
    attributes: Attributes,
    /// Sorted by the bytes of the names, which is the order of links in a plain block.
    entries: BTreeMap<SafeName, Target>,
    /// Length of the links of the plain block.
    links_bytes: u64,
    size: u64,
}

impl DirBuilder {
    /// Starts an empty directory whose nodes are addressed by `hash_fn`.
    pub fn new(hash_fn: HashFn, attributes: Attributes) -> DirBuilder {
        DirBuilder {
            hash_fn,
            attributes,
            entries: BTreeMap::new(),
            links_bytes: 0,
            size: 0,
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`BuildError::Name`] for a name that no receiver would accept, [`BuildError::Duplicate`] for
    /// one that is already there.
    pub fn add(&mut self, name: &str, child: &Built) -> Result<(), BuildError> {
        let name = SafeName::parse(name).map_err(|reason| BuildError::Name {
            name: escaped(name).to_string(),
            reason,
        })?;
        let bytes = dagpb::link_len(&child.cid, &name, child.tsize);
        match self.entries.entry(name) {
            btree_map::Entry::Occupied(entry) => {
                return Err(BuildError::Duplicate(escaped(entry.key()).to_string()));
            }
            btree_map::Entry::Vacant(entry) => {
                entry.insert(Target {
                    cid: child.cid.clone(),
                    tsize: child.tsize,
                });
            }
        }
        self.links_bytes = self.links_bytes.saturating_add(bytes);
        self.size = self.size.saturating_add(child.size);
        Ok(())
    }

    /// Size of the whole directory as one plain block, in bytes: over [`DIR_BLOCK_BYTES_MAX`] it
    /// will be sharded.
    pub fn plain_block_bytes(&self) -> u64 {
        self.links_bytes
            .saturating_add(dagpb::data_len(&self.message()))
    }

    /// Completes the directory, handing its one block or its shards to `sink`.
    ///
    /// # Errors
    /// [`BuildError::HashCollision`] if it has to be sharded and two names have the same hash.
    pub fn finish(self, sink: &mut dyn FnMut(Block)) -> Result<Built, BuildError> {
        let (cid, tsize) = if self.plain_block_bytes() > DIR_BLOCK_BYTES_MAX {
            hamt::build(self.hash_fn, self.attributes, self.entries, sink)?
        } else {
            self.plain(sink)
        };
        Ok(Built {
            cid,
            tsize,
            size: self.size,
        })
    }

    fn plain(&self, sink: &mut dyn FnMut(Block)) -> (Cid, u64) {
        let mut node = dagpb::Writer::default();
        for (name, target) in &self.entries {
            node.link(&target.cid, name, target.tsize);
        }
        let (block, tsize) = node.finish(self.hash_fn, &self.message());
        let cid = block.cid.clone();
        sink(block);
        (cid, tsize)
    }

    fn message(&self) -> Data<'static> {
        Data::new(Kind::Directory, self.attributes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{
        address::Digest,
        name::NameError,
        unixfs::{Mtime, Node, parse_node},
    };

    fn leaf() -> Built {
        Built {
            cid: Cid::raw(Digest::of(HashFn::Blake3, b"x")),
            tsize: 1,
            size: 1,
        }
    }

    fn build(builder: DirBuilder) -> (Built, Vec<Block>) {
        let mut blocks = Vec::new();
        let built = builder.finish(&mut |block| blocks.push(block)).unwrap();
        (built, blocks)
    }

    #[test]
    fn order_of_adding_does_not_matter() {
        for count in [10, 6000] {
            let names: Vec<String> = (0..count).map(|i| format!("name-{i}")).collect();
            let build_from = |names: &mut dyn Iterator<Item = &String>| {
                let mut builder = DirBuilder::new(HashFn::Blake3, Attributes::default());
                names.for_each(|name| builder.add(name, &leaf()).unwrap());
                build(builder)
            };
            assert_eq!(
                build_from(&mut names.iter()),
                build_from(&mut names.iter().rev())
            );
        }
    }

    #[test]
    fn refuses_names_that_no_receiver_takes() {
        let mut builder = DirBuilder::new(HashFn::Blake3, Attributes::default());
        builder.add("a", &leaf()).unwrap();
        assert_eq!(
            builder.add("a", &leaf()),
            Err(BuildError::Duplicate("a".into()))
        );
        let reason = NameError::Control(0x0a);
        let expected = BuildError::Name {
            name: "a\\nb".into(),
            reason,
        };
        assert_eq!(builder.add("a\nb", &leaf()), Err(expected));
        let (built, blocks) = build(builder);
        assert_eq!((built.size, blocks.len()), (1, 1));
    }

    #[test]
    fn attributes_stand_in_the_root_of_either_form() {
        let attributes = Attributes {
            mode: Some(0o700),
            mtime: Mtime::new(9, 1),
        };
        for count in [1, 6000] {
            let mut builder = DirBuilder::new(HashFn::Blake3, attributes);
            (0..count).for_each(|i| builder.add(&format!("name-{i}"), &leaf()).unwrap());
            let plain_block_bytes = builder.plain_block_bytes();
            let (built, blocks) = build(builder);
            let root = blocks.last().unwrap();
            assert_eq!(root.cid, built.cid, "the root is handed over last");
            match parse_node(&root.data).unwrap() {
                Node::Directory {
                    attributes: kept, ..
                } => {
                    assert_eq!(kept, attributes);
                    assert_eq!(root.data.len() as u64, plain_block_bytes);
                }
                Node::Shard {
                    attributes: kept, ..
                } => assert_eq!(kept, attributes),
                other => panic!("{other:?}"),
            }
        }
    }
}
