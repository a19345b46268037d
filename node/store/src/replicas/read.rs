//! Reading a block, for a peer that brings the root.

use std::io;

use shoal_protocol::address::Digest;
use shoal_protocol::replicate::Key;
use shoal_protocol::replicate::seal::{SealKey, block_name};

use super::rows::{self, BlockRow, NO_RUN, Part, PieceId};
use super::{Replicas, ReplicasInner, cipher};
use crate::layout::Family;
use crate::library::{BlockKind, Cut, ReadError};
use crate::{StoreError, rows as store_rows};

/// A block that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaBlock {
    /// The key of its root.
    pub key: Key,
    /// A node, or a leaf.
    pub kind: BlockKind,
    /// The length of the whole block.
    pub block_bytes: usize,
    /// The run of a leaf.
    pub run: Option<u64>,
}

/// Where a block lies.
#[derive(Clone, Copy)]
struct BlockPlace {
    row: BlockRow,
    run: u64,
}

/// What came of reading one place.
enum Outcome {
    Read,
    /// It was let go of meanwhile.
    Gone,
    /// It is not what its row says.
    Damaged,
}

impl Replicas {
    /// Whether a block of a root is held; its bytes are not looked at.
    ///
    /// # Errors
    /// Those of the database.
    pub fn find(&self, root: &Digest, digest: &Digest) -> Result<Option<ReplicaBlock>, StoreError> {
        let place = self.inner.place(&block_name(root, digest))?;
        Ok(place.map(BlockPlace::block))
    }

    /// Reads a part of a block of a root into `out`, which holds nothing after an error.
    ///
    /// At its first read in this process the whole block is read and hashed. One that is damaged is
    /// dropped, a leaf with its run and a node with its root, and is not held then.
    ///
    /// # Errors
    /// [`ReadError::NotHere`], [`ReadError::Unreadable`] and [`ReadError::Store`].
    pub fn read(
        &self,
        root: &Digest,
        digest: &Digest,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<ReplicaBlock, ReadError> {
        let found = self.inner.read(root, digest, cut, out);
        if found.is_err() {
            out.clear();
        }
        found
    }
}

impl ReplicasInner {
    fn read(
        &self,
        root: &Digest,
        digest: &Digest,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<ReplicaBlock, ReadError> {
        let name = block_name(root, digest);
        // A leaf that is damaged in one run may lie in another; each turn drops one.
        while let Some(place) = self.place(&name)? {
            match self.read_place(place, root, digest, cut, out)? {
                Outcome::Read => return Ok(place.block()),
                Outcome::Gone => {}
                Outcome::Damaged => self.drop_damaged(place)?,
            }
        }
        Err(ReadError::NotHere)
    }

    fn read_place(
        &self,
        place: BlockPlace,
        root: &Digest,
        digest: &Digest,
        cut: Cut,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, ReadError> {
        let BlockRow {
            piece,
            index,
            slab,
            offset,
            ..
        } = place.row;
        let block_bytes = place.block().block_bytes;
        let is_hashed = self.books().is_hashed(piece, index);
        let wanted = cut.range(block_bytes);
        let range = match is_hashed {
            true => wanted.clone(),
            false => 0..block_bytes,
        };
        out.resize(range.len(), 0);
        let start = u64::from(offset) + range.start as u64;
        let read = self.files.read(slab, start, out);
        if !self.books().is_readable(piece) {
            // Whatever was read may be another's by now.
            return Ok(Outcome::Gone);
        }
        match read {
            Ok(()) => {}
            Err(error) if is_of_the_file(&error) => return Ok(Outcome::Damaged),
            Err(cause) => {
                let path = self.files.path(slab);
                return Err(ReadError::Unreadable { path, cause });
            }
        }
        cipher::apply(&SealKey::of(root), root, digest, range.start, out);
        if !is_hashed {
            if !digest.matches(out) {
                return Ok(Outcome::Damaged);
            }
            self.books().hashed(piece, index);
            out.truncate(wanted.end);
            out.drain(..wanted.start);
        }
        Ok(Outcome::Read)
    }

    /// The first place of a block that may be read.
    fn place(&self, name: &[u8; 32]) -> Result<Option<BlockPlace>, StoreError> {
        let mut scan = self
            .store
            .inner
            .scan(Family::Replicas, &rows::block_all(name));
        while let Some((key, value)) = scan.next()? {
            let row: BlockRow = store_rows::decode(value)?;
            if self.books().is_readable(row.piece) {
                let run = rows::block_run(key)?;
                return Ok(Some(BlockPlace { row, run }));
            }
        }
        Ok(None)
    }

    fn drop_damaged(&self, place: BlockPlace) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if self.books().is_readable(place.row.piece) {
            tracing::warn!(
                slab = place.row.slab,
                offset = place.row.offset,
                "a replica is damaged"
            );
            self.lose(&mut writer, place.piece())?;
        }
        Ok(())
    }
}

impl BlockPlace {
    fn block(self) -> ReplicaBlock {
        let is_node = self.run == NO_RUN;
        ReplicaBlock {
            key: Key(self.row.key),
            kind: match is_node {
                true => BlockKind::Node,
                false => BlockKind::Chunk,
            },
            block_bytes: usize::try_from(self.row.bytes).unwrap_or(usize::MAX),
            run: (!is_node).then_some(self.run),
        }
    }

    fn piece(self) -> PieceId {
        let part = match self.run {
            NO_RUN => Part::Nodes(self.row.piece),
            run => Part::Run(run),
        };
        PieceId {
            key: Key(self.row.key),
            part,
        }
    }
}

/// Whether the slab is not as long as its rows say, or not there at all.
pub(super) fn is_of_the_file(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
    )
}
