//! A store in memory, and nodes that no builder of Shoal would make.

use std::collections::BTreeMap;

use shoal_protocol::{
    address::{Cid, Codec, Digest, HashFn},
    unixfs::{self, Attributes, Block, Built, DagError, DirBuilder, FileBuilder},
    walk::{FileStep, FileWalk, Tree, TreeWalk},
};

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) blocks: BTreeMap<Cid, Vec<u8>>,
}

/// Which of the wanted nodes arrives first.
#[derive(Clone, Copy)]
pub(crate) enum Arrival {
    First,
    Last,
}

impl Store {
    pub(crate) fn keep(&mut self, block: Block) -> Cid {
        self.blocks.insert(block.cid.clone(), block.data);
        block.cid
    }

    pub(crate) fn leaf(&mut self, data: &[u8]) -> Built {
        let cid = Cid::raw(Digest::of(HashFn::Blake3, data));
        self.keep(Block {
            cid: cid.clone(),
            data: data.to_vec(),
        });
        Built {
            cid,
            tsize: data.len() as u64,
            size: data.len() as u64,
        }
    }

    pub(crate) fn file(
        &mut self,
        content: &[u8],
        leaf_bytes: usize,
        attributes: Attributes,
    ) -> Built {
        let mut builder = FileBuilder::new(HashFn::Blake3, attributes);
        for leaf in content.chunks(leaf_bytes) {
            let built = self.leaf(leaf);
            builder.push(built.cid, built.size, &mut |block| drop(self.keep(block)));
        }
        builder.finish(&mut |block| drop(self.keep(block)))
    }

    pub(crate) fn dir<'a>(&mut self, entries: impl IntoIterator<Item = (&'a str, Built)>) -> Built {
        let mut builder = DirBuilder::new(HashFn::Blake3, Attributes::default());
        for (name, built) in entries {
            builder.add(name, &built).unwrap();
        }
        builder.finish(&mut |block| drop(self.keep(block))).unwrap()
    }

    pub(crate) fn symlink(&mut self, target: &str) -> Built {
        let (block, built) =
            unixfs::symlink(HashFn::Blake3, target, Attributes::default()).unwrap();
        self.keep(block);
        built
    }

    /// Keeps a node as it is given, whatever is in it.
    pub(crate) fn node(&mut self, data: Vec<u8>) -> Built {
        let cid = Cid::dag_pb(Digest::of(HashFn::Blake3, &data));
        let tsize = data.len() as u64;
        self.keep(Block {
            cid: cid.clone(),
            data,
        });
        Built {
            cid,
            tsize,
            size: 0,
        }
    }

    pub(crate) fn raw_dir(&mut self, links: &[(&[u8], &Cid)]) -> Built {
        let links: Vec<_> = links
            .iter()
            .map(|(name, cid)| link(&cid.to_bytes(), name))
            .collect();
        self.node(node(&links, &number(1, 1)))
    }

    pub(crate) fn raw_shard(&mut self, links: &[(&[u8], &Cid)], bitfield: &[u8]) -> Built {
        let links: Vec<_> = links
            .iter()
            .map(|(name, cid)| link(&cid.to_bytes(), name))
            .collect();
        let data = [
            number(1, 5),
            bytes(2, bitfield),
            number(5, 0x22),
            number(6, 256),
        ]
        .concat();
        self.node(node(&links, &data))
    }

    pub(crate) fn raw_file(&mut self, children: &[(&Cid, u64)], filesize: u64) -> Built {
        self.node(file_node(children, &[], filesize))
    }

    /// Walks a tree to its end, checking that no node is wanted twice.
    pub(crate) fn read_tree(&self, root: &Cid, arrival: Arrival) -> Result<Tree, DagError> {
        self.walk(TreeWalk::new(root.clone())?, arrival)
    }

    /// The same with other names for what has unsafe ones.
    pub(crate) fn read_renamed(&self, root: &Cid, arrival: Arrival) -> Result<Tree, DagError> {
        self.walk(TreeWalk::renaming(root.clone())?, arrival)
    }

    fn walk(&self, mut walk: TreeWalk, arrival: Arrival) -> Result<Tree, DagError> {
        let mut wanted = Vec::new();
        let mut fed = std::collections::BTreeSet::new();
        loop {
            wanted.append(&mut walk.wants(3));
            if wanted.is_empty() {
                assert!(walk.is_done());
                return walk.finish();
            }
            let cid = match arrival {
                Arrival::First => wanted.remove(0),
                Arrival::Last => wanted.pop().unwrap(),
            };
            assert!(
                cid.codec() == Codec::DagPb && fed.insert(cid.clone()),
                "{cid} wanted twice"
            );
            walk.feed(&cid, &self.blocks[&cid])?;
        }
    }

    /// Reads a file leaf by leaf, checking offsets and lengths.
    pub(crate) fn read_file(&self, root: &Cid) -> Result<Vec<u8>, DagError> {
        let mut walk = FileWalk::new(root.clone());
        let mut content = Vec::new();
        loop {
            match walk.step()? {
                FileStep::Need(cid) => walk.feed(&cid, &self.blocks[&cid])?,
                FileStep::Inline { offset, data } => {
                    assert_eq!(offset, content.len() as u64);
                    content.extend(data);
                }
                FileStep::Leaf { offset, len, cid } => {
                    assert_eq!(offset, content.len() as u64);
                    let data = &self.blocks[&cid];
                    assert!(len.is_none_or(|len| len == data.len() as u64));
                    content.extend(data);
                }
                FileStep::Done { size } => {
                    assert!(size.is_none_or(|size| size == content.len() as u64));
                    return Ok(content);
                }
            }
        }
    }
}

pub(crate) fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    push_varint(&mut out, value);
    out
}

pub(crate) fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    push_varint(&mut out, value.len() as u64);
    out.extend(value);
    out
}

pub(crate) fn link(hash: &[u8], name: &[u8]) -> Vec<u8> {
    bytes(2, &[bytes(1, hash), bytes(2, name), number(3, 1)].concat())
}

pub(crate) fn node(links: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    [links.concat(), bytes(1, data)].concat()
}

/// A file node with bytes of its own before its children's.
pub(crate) fn file_node(children: &[(&Cid, u64)], inline: &[u8], filesize: u64) -> Vec<u8> {
    let links: Vec<_> = children
        .iter()
        .map(|(cid, _)| link(&cid.to_bytes(), b""))
        .collect();
    let sizes: Vec<_> = children.iter().map(|(_, len)| number(4, *len)).collect();
    let data = [
        number(1, 2),
        bytes(2, inline),
        number(3, filesize),
        sizes.concat(),
    ]
    .concat();
    node(&links, &data)
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// An address that carries its content.
pub(crate) fn inline(codec: u8, content: &[u8]) -> Cid {
    let mut cid = vec![1, codec, 0];
    push_varint(&mut cid, content.len() as u64);
    cid.extend(content);
    Cid::from_bytes(&cid).unwrap()
}
