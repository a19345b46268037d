//! DAGs that no sharer of Shoal would make, byte by byte.

use shoal_protocol::{
    address::{Cid, Digest, HashFn},
    unixfs::{Attributes, Block, symlink},
};

use crate::peer::Blocks;

/// Blocks that were put together; every one is what its address says.
#[derive(Default)]
pub struct Forgery {
    /// All of them, for a peer to serve.
    pub blocks: Blocks,
}

impl Forgery {
    /// A file of one chunk.
    pub fn leaf(&mut self, data: &[u8]) -> Cid {
        let digest = Digest::of(HashFn::Blake3, data);
        self.blocks.chunk(digest, data.to_vec());
        Cid::raw(digest)
    }

    /// A folder with these names, whatever they are.
    pub fn dir(&mut self, entries: &[(&[u8], &Cid)]) -> Cid {
        let entries = entries.iter().map(|(name, cid)| (*name, cid.to_bytes()));
        self.raw_dir(&entries.collect::<Vec<_>>())
    }

    /// A folder with these names and binary addresses, whatever they are.
    pub fn raw_dir(&mut self, entries: &[(&[u8], Vec<u8>)]) -> Cid {
        let links = entries.iter().map(|(name, address)| {
            let link = [field(1, address), field(2, name), vec![0x18, 1]];
            field(2, &link.concat())
        });
        let links: Vec<_> = links.collect();
        // UnixFS: type 1, a directory.
        self.node([links.concat(), field(1, &[0x08, 1])].concat())
    }

    /// A file that is `count` times another one of so many bytes.
    pub fn repeated(&mut self, part: &Cid, part_bytes: u64, count: u64) -> Cid {
        let link = field(2, &[field(1, &part.to_bytes()), field(2, b"")].concat());
        let links = (0..count).flat_map(|_| link.clone());
        // UnixFS: type 2, a file, its size, and those of its parts.
        let mut data = vec![0x08, 2, 0x18];
        data.extend(varint(part_bytes * count));
        for _ in 0..count {
            data.push(0x20);
            data.extend(varint(part_bytes));
        }
        self.node(links.chain(field(1, &data)).collect())
    }

    /// A symbolic link.
    pub fn symlink(&mut self, target: &str) -> Cid {
        let made = symlink(HashFn::Blake3, target, Attributes::default());
        let (block, built) = made.expect("a target that fits");
        self.blocks.node(block);
        built.cid
    }

    /// A node of these bytes, whatever they are.
    pub fn node(&mut self, data: Vec<u8>) -> Cid {
        let cid = Cid::dag_pb(Digest::of(HashFn::Blake3, &data));
        let block = Block {
            cid: cid.clone(),
            data,
        };
        self.blocks.node(block);
        cid
    }
}

/// A protobuf field of bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.extend(varint(value.len() as u64));
    out.extend(value);
    out
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits"));
    out
}
