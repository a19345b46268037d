//! What a made-up provider holds.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{rngs::StdRng, seq::SliceRandom as _};
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Digest, HashFn},
    unixfs::{Attributes, Block, Built, DirBuilder, FileBuilder},
};

/// Blocks by their addresses: DAG nodes in memory, chunks there or where they lie in files.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    nodes: HashMap<Digest, Vec<u8>>,
    chunks: HashMap<Digest, Chunk>,
}

#[derive(Clone, Debug)]
enum Chunk {
    Bytes(Vec<u8>),
    Place {
        file: Arc<PathBuf>,
        offset: u64,
        len: usize,
    },
    /// Made when it is asked for.
    Drawn {
        key: [u8; 32],
        len: usize,
    },
}

/// A block that was asked for.
pub(super) enum Found {
    Node(Vec<u8>),
    Chunk(Vec<u8>),
}

impl Blocks {
    /// All addresses, in no order.
    pub fn digests(&self) -> Vec<Digest> {
        self.nodes
            .keys()
            .chain(self.chunks.keys())
            .copied()
            .collect()
    }

    /// Adds a DAG node.
    ///
    /// # Panics
    /// When its address is not one that this network uses.
    pub fn node(&mut self, node: Block) {
        let digest = node.cid.digest().expect("a digest");
        self.nodes.insert(digest, node.data);
    }

    /// Adds a chunk, under whatever address.
    pub fn chunk(&mut self, digest: Digest, bytes: Vec<u8>) {
        self.chunks.insert(digest, Chunk::Bytes(bytes));
    }

    /// Adds a file as `shoal share` would, and returns its root.
    pub fn file(&mut self, content: &[u8]) -> Cid {
        let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
        let mut nodes = Vec::new();
        for chunk in content.chunks(CHUNK_BYTES) {
            let digest = Digest::of(HashFn::Blake3, chunk);
            self.chunk(digest, chunk.to_vec());
            builder.push(Cid::raw(digest), chunk.len() as u64, &mut |block| {
                nodes.push(block);
            });
        }
        self.finish(builder, nodes).cid
    }

    /// Adds a file of so many bytes that are drawn from these numbers, and returns its root. Its bytes are
    /// made when they are asked for, so that a thousand files take no memory.
    pub(super) fn drawn(&mut self, (seed, number): (u64, u64), mut bytes: usize) -> Cid {
        let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
        let mut nodes = Vec::new();
        for chunk in 0_u64.. {
            let len = bytes.min(CHUNK_BYTES);
            if len == 0 {
                break;
            }
            bytes -= len;
            let mut hasher = blake3::Hasher::new();
            for number in [seed, number, chunk] {
                hasher.update(&number.to_be_bytes());
            }
            let key = *hasher.finalize().as_bytes();
            let digest = Digest::of(HashFn::Blake3, &drawn_bytes(&key, len));
            self.chunks.insert(digest, Chunk::Drawn { key, len });
            builder.push(Cid::raw(digest), len as u64, &mut |block| nodes.push(block));
        }
        self.finish(builder, nodes).cid
    }

    /// Adds the file or folder at `path` as `shoal share` would, and returns its root. Chunks stay
    /// where they are. Blocking.
    ///
    /// # Errors
    /// What the disk says, and names that no share may have; symbolic links are refused.
    pub fn path(&mut self, path: &Path) -> io::Result<Cid> {
        Ok(self.tree(path)?.cid)
    }

    fn tree(&mut self, path: &Path) -> io::Result<Built> {
        let kind = fs::symlink_metadata(path)?.file_type();
        if kind.is_file() {
            return self.placed_file(path);
        }
        if !kind.is_dir() {
            let what = format!("{} is neither a file nor a folder", path.display());
            return Err(io::Error::other(what));
        }
        let mut entries = DirBuilder::new(HashFn::Blake3, Attributes::default());
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let below = self.tree(&entry.path())?;
            let name = entry.file_name();
            let name = name.to_str().ok_or(io::ErrorKind::InvalidData)?;
            entries.add(name, &below).map_err(io::Error::other)?;
        }
        let mut nodes = Vec::new();
        let built = entries
            .finish(&mut |block| nodes.push(block))
            .map_err(io::Error::other)?;
        nodes.into_iter().for_each(|node| self.node(node));
        Ok(built)
    }

    fn placed_file(&mut self, path: &Path) -> io::Result<Built> {
        let mut source = File::open(path)?;
        let file = Arc::new(path.to_owned());
        let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
        let (mut nodes, mut offset) = (Vec::new(), 0);
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        loop {
            bytes.clear();
            let mut piece = (&mut source).take(CHUNK_BYTES as u64);
            let len = piece.read_to_end(&mut bytes)?;
            if len == 0 {
                break;
            }
            let digest = Digest::of(HashFn::Blake3, &bytes);
            let place = Chunk::Place {
                file: Arc::clone(&file),
                offset,
                len,
            };
            self.chunks.insert(digest, place);
            builder.push(Cid::raw(digest), len as u64, &mut |block| nodes.push(block));
            offset += len as u64;
        }
        Ok(self.finish(builder, nodes))
    }

    fn finish(&mut self, builder: FileBuilder, mut nodes: Vec<Block>) -> Built {
        let built = builder.finish(&mut |block| nodes.push(block));
        nodes.into_iter().for_each(|node| self.node(node));
        built
    }

    /// Some of the chunks, in an order that the dice say; fewer than `most` where there are fewer.
    pub(super) fn chunk_digests(&self, most: usize, dice: &mut StdRng) -> Vec<Digest> {
        let mut digests: Vec<Digest> = self.chunks.keys().copied().collect();
        digests.sort_unstable();
        digests.shuffle(dice);
        digests.truncate(most);
        digests
    }

    /// A block, if it is here. Blocking where a chunk lies in a file.
    pub(super) fn find(&self, digest: &Digest) -> io::Result<Option<Found>> {
        if let Some(node) = self.nodes.get(digest) {
            return Ok(Some(Found::Node(node.clone())));
        }
        match self.chunks.get(digest) {
            None => Ok(None),
            Some(Chunk::Bytes(bytes)) => Ok(Some(Found::Chunk(bytes.clone()))),
            Some(Chunk::Drawn { key, len }) => Ok(Some(Found::Chunk(drawn_bytes(key, *len)))),
            Some(Chunk::Place { file, offset, len }) => {
                let mut bytes = vec![0; *len];
                File::open(file.as_path())?.read_exact_at(&mut bytes, *offset)?;
                Ok(Some(Found::Chunk(bytes)))
            }
        }
    }
}

fn drawn_bytes(key: &[u8; 32], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut drawn = blake3::Hasher::new_keyed(key).finalize_xof();
    drawn.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_drawn_file_has_the_blocks_of_the_same_bytes_on_disk() {
        let (mut drawn, mut held) = (Blocks::default(), Blocks::default());
        let root = drawn.drawn((1, 2), CHUNK_BYTES + 7);
        assert_ne!(drawn.drawn((1, 3), CHUNK_BYTES + 7), root);
        assert_eq!(drawn.drawn((1, 2), CHUNK_BYTES + 7), root);
        let chunks = drawn.chunks.clone();
        for digest in chunks.keys() {
            let Some(Found::Chunk(chunk)) = drawn.find(digest).unwrap() else {
                panic!("it is a chunk");
            };
            assert_eq!(Digest::of(HashFn::Blake3, &chunk), *digest);
            held.chunk(*digest, chunk);
        }
        assert_eq!(held.chunks.len(), 4);
    }

    #[test]
    fn a_file_on_disk_has_the_blocks_that_it_has_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0u8..=250).cycle().take(2 * CHUNK_BYTES + 7).collect();
        fs::write(&path, &content).unwrap();
        let (mut placed, mut held) = (Blocks::default(), Blocks::default());
        assert_eq!(placed.path(&path).unwrap(), held.file(&content));
        assert_eq!(placed.chunks.len(), 3);
        for digest in held.chunks.keys() {
            let (Some(Found::Chunk(one)), Some(Found::Chunk(other))) =
                (placed.find(digest).unwrap(), held.find(digest).unwrap())
            else {
                panic!("both hold the chunk");
            };
            assert!(one == other);
        }
    }
}
