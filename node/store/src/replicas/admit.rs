//! What comes in: the nodes and runs of a root that is being pulled.

use std::collections::HashSet;
use std::time::Duration;

use shoal_protocol::address::{BLOCK_BYTES_MAX, Digest};
use shoal_protocol::replicate::cache::RunId;
use shoal_protocol::replicate::seal::{SealKey, block_name};
use shoal_protocol::replicate::slabs::{EXTENT_ALIGN, Extent};
use shoal_protocol::replicate::{Key, RUN_LEAVES, Why};

use super::rows::{self, BlockRow, NO_RUN, Part, PieceId, PieceRow, RootRow};
use super::{Cause, ReplicaEvent, Replicas, ReplicasInner, Writer, cipher};
use crate::layout::Family;
use crate::{StoreError, rows as store_rows};

/// The most bytes of a piece, which are those of a run: four leaves of 2 MiB.
#[allow(clippy::cast_possible_truncation, reason = "4 is no large number")]
pub const PIECE_BYTES_MAX: usize = RUN_LEAVES as usize * BLOCK_BYTES_MAX;

/// The most nodes of a piece; what was hashed of it is one word.
const PIECE_NODES_MAX: usize = 64;

/// Why something was not taken in. Nothing of it is kept, and the pull is to end.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It was not to come, costs more than is allowed, or finds no room.
    #[error("it is not taken in: {0:?}")]
    Declined(Why),
    /// The disk would fall below its floor.
    #[error("the disk has no room for copies for others")]
    Floor,
    /// The disk or the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A block that was verified, and its bytes.
type Verified<'a> = (Digest, &'a [u8]);

/// Blocks, sealed one after the other.
struct Sealed {
    bytes: Vec<u8>,
    check: [u8; 32],
    /// Of each block its name and where it lies.
    blocks: Vec<([u8; 32], u32, u32)>,
}

impl Replicas {
    /// Takes note of a root whose pull has begun, and of what caused that. What is held of it already
    /// can be [found](Self::find). Waits for no disk.
    pub fn begin_pull(&self, root: &Digest, cause: Cause, now: Duration) {
        let key = Key::of(root);
        let shape = self.inner.helper().shape(key);
        if let Some(shape) = shape {
            self.inner.books().open_root(key, shape, cause, now);
        }
    }

    /// Keeps nodes of a root that is being pulled, which the caller has verified from the root down;
    /// those that are held already are passed over. When this returns they survive a power loss, but
    /// for their rows.
    ///
    /// # Errors
    /// [`AdmitError`]; [`Why::Untrue`] for more than [`PIECE_BYTES_MAX`] in all.
    pub fn admit_nodes(
        &self,
        root: &Digest,
        nodes: &[Verified<'_>],
        now: Duration,
    ) -> Result<(), AdmitError> {
        check_lengths(nodes)?;
        let inner = &self.inner;
        let key = Key::of(root);
        let mut missing = Vec::new();
        for node in nodes {
            if inner.find_node(root, &node.0)?.is_none() {
                missing.push(*node);
            }
        }
        for nodes in missing.chunks(PIECE_NODES_MAX) {
            let sealed = seal(root, nodes);
            let mut writer = inner.writer();
            inner.settle(&mut writer)?;
            inner.row_of_pulled(key)?;
            let room = u64::from(room_of(&sealed)?);
            inner.check_floor(room)?;
            let decided = inner.helper().nodes_arrived(key, room, now);
            let changes = decided.map_err(AdmitError::Declined)?;
            inner.follow(&mut writer, changes)?;
            let number = writer.next_piece;
            let id = PieceId {
                key,
                part: Part::Nodes(number),
            };
            inner.put_piece(&mut writer, id, &sealed, now)?;
        }
        Ok(())
    }

    /// Keeps a run of a root that is being pulled: all its leaves, in order, which the caller has
    /// verified. Others are let go of where it takes that. When this returns the run is served, and
    /// its bytes survive a power loss.
    ///
    /// # Errors
    /// [`AdmitError`]; [`Why::Untrue`] where these cannot be the leaves of a run.
    pub fn admit_run(
        &self,
        root: &Digest,
        run: u64,
        leaves: &[Verified<'_>],
        now: Duration,
    ) -> Result<(), AdmitError> {
        let total = check_lengths(leaves)?;
        let inner = &self.inner;
        let id = RunId {
            key: Key::of(root),
            run,
        };
        let expected = inner.row_of_pulled(id.key)?.shape().leaves_of(run);
        if expected.end.saturating_sub(expected.start) != leaves.len() as u64 {
            return Err(AdmitError::Declined(Why::Untrue));
        }
        let sealed = seal(root, leaves);
        let mut writer = inner.writer();
        inner.settle(&mut writer)?;
        inner.row_of_pulled(id.key)?;
        inner.check_floor(room_of(&sealed)?.into())?;
        let decided = inner.helper().run_arrived(id.key, run, total, now);
        let changes = decided.map_err(AdmitError::Declined)?;
        #[cfg(test)]
        super::tests::crash::reached("decided");
        let stored = inner
            .follow(&mut writer, changes)
            .and_then(|_| inner.put_piece(&mut writer, PieceId::of(id), &sealed, now));
        if let Err(error) = stored {
            // Its own error would say the same as this one.
            let _ = inner.let_go(&mut writer, |helper| helper.run_lost(id));
            return Err(error.into());
        }
        let cause = inner.books().admitted(id.key, total);
        if let Some(cause) = cause {
            inner.tell(ReplicaEvent::Admitted {
                key: id.key,
                run,
                bytes: total,
                cause,
            });
        }
        Ok(())
    }

    /// A pull has ended, complete or not; a root of which no run came is forgotten.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn end_pull(&self, root: &Digest, now: Duration) -> Result<(), StoreError> {
        let inner = &self.inner;
        let mut writer = inner.writer();
        let key = Key::of(root);
        inner.let_go(&mut writer, |helper| helper.pull_ended(key, now))?;
        inner.books().close_root(key);
        Ok(())
    }
}

impl ReplicasInner {
    /// The row of a root that is being pulled.
    fn row_of_pulled(&self, key: Key) -> Result<RootRow, AdmitError> {
        let row = self.books().root(key);
        row.map(|(row, _)| row)
            .ok_or(AdmitError::Declined(Why::Unasked))
    }

    fn check_floor(&self, bytes: u64) -> Result<(), AdmitError> {
        match self.fits(bytes)? {
            true => Ok(()),
            false => Err(AdmitError::Floor),
        }
    }

    /// Writes a piece, and then the rows that name it.
    fn put_piece(
        &self,
        writer: &mut Writer,
        id: PieceId,
        sealed: &Sealed,
        now: Duration,
    ) -> Result<(), StoreError> {
        let length = u32::try_from(sealed.bytes.len()).ok();
        let extent = length.and_then(|bytes| writer.slabs.take(bytes));
        let extent = extent.ok_or_else(|| StoreError::NoSpace {
            detail: "there are as many slabs of replicas as there may be".to_owned(),
        })?;
        let number = writer.next_piece;
        writer.next_piece += 1;
        let written = self.files.write(extent, &sealed.bytes).and_then(|()| {
            #[cfg(test)]
            super::tests::crash::reached("bytes written");
            self.put_rows(id, number, extent, sealed)
        });
        if let Err(error) = written {
            self.free(writer, extent);
            return Err(error);
        }
        let bytes = u64::from(extent.bytes);
        self.books().put_piece(id, number, bytes, now);
        #[cfg(test)]
        super::tests::crash::reached("rows written");
        Ok(())
    }

    fn put_rows(
        &self,
        id: PieceId,
        number: u64,
        extent: Extent,
        sealed: &Sealed,
    ) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        let root = self.books().root(id.key);
        if let Some((root, false)) = root {
            rows::put_root(&mut batch, id.key, &root)?;
        }
        for (index, (name, start, bytes)) in (0..).zip(&sealed.blocks) {
            let row = BlockRow {
                key: id.key.0,
                piece: number,
                index,
                slab: extent.slab,
                offset: extent.offset.saturating_add(*start),
                bytes: *bytes,
            };
            let key = rows::block_key(name, id.part.run());
            batch.put(Family::Replicas, key, store_rows::encode(&row)?);
        }
        let row = PieceRow {
            number,
            slab: extent.slab,
            offset: extent.offset,
            bytes: extent.bytes,
            check: sealed.check,
            names: sealed.blocks.iter().map(|(name, ..)| *name).collect(),
        };
        batch.put(Family::Replicas, id.row_key(), store_rows::encode(&row)?);
        if let Part::Run(run) = id.part {
            let id = RunId { key: id.key, run };
            let standing = self.helper().cache().standing(id);
            let standing = standing.ok_or_else(|| StoreError::Database {
                detail: "a replica went while it came".to_owned(),
            })?;
            rows::put_standing(&mut batch, id, &standing)?;
        }
        batch.commit(false)
    }

    fn find_node(&self, root: &Digest, node: &Digest) -> Result<Option<BlockRow>, StoreError> {
        let key = rows::block_key(&block_name(root, node), NO_RUN);
        let row: Option<BlockRow> = self.store.row(Family::Replicas, &key)?;
        Ok(row.filter(|it| self.books().is_readable(it.piece)))
    }
}

/// The bytes of all blocks, which are to be some, and no more than a piece may have.
fn check_lengths(blocks: &[Verified<'_>]) -> Result<u64, AdmitError> {
    let is_block = |(_, bytes): &Verified<'_>| bytes.len() <= BLOCK_BYTES_MAX;
    let total: usize = blocks.iter().map(|(_, bytes)| bytes.len()).sum();
    match blocks.iter().all(is_block) && total <= PIECE_BYTES_MAX {
        true => Ok(total as u64),
        false => Err(AdmitError::Declined(Why::Untrue)),
    }
}

/// What a piece takes of the disk; none has no bytes.
fn room_of(sealed: &Sealed) -> Result<u32, AdmitError> {
    let bytes = u32::try_from(sealed.bytes.len()).ok();
    bytes
        .filter(|it| *it > 0)
        .and_then(|it| it.checked_next_multiple_of(EXTENT_ALIGN))
        .ok_or(AdmitError::Declined(Why::Untrue))
}

fn seal(root: &Digest, blocks: &[Verified<'_>]) -> Sealed {
    let key = SealKey::of(root);
    let mut bytes = Vec::with_capacity(blocks.iter().map(|(_, bytes)| bytes.len()).sum());
    let mut placed = Vec::new();
    let mut seen = HashSet::new();
    for (digest, block) in blocks {
        // A file of zeros has the same leaf everywhere.
        if !seen.insert(digest) {
            continue;
        }
        let start = bytes.len();
        bytes.extend_from_slice(block);
        let (_, sealed) = bytes.split_at_mut(start);
        cipher::apply(&key, root, digest, 0, sealed);
        let place = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
        placed.push((block_name(root, digest), place(start), place(block.len())));
    }
    Sealed {
        check: blake3::hash(&bytes).into(),
        bytes,
        blocks: placed,
    }
}
