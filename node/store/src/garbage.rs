//! Taking out what nothing needs, and giving its space back to the disk.
//!
//! Garbage is what no share refers to: rows that a crash or an older version left, blocks without a
//! holder, copies of shares that are gone. What is found in a look that began at one moment is
//! judged by what is known after it, and whoever makes a share writes its record first; so nothing
//! of a share that is being made, fetched or offered ever looks like garbage. Every step is one
//! atomic batch of deletions, and any of them may be the last one before a crash or a cancellation.
//! Users' files are not looked at.
//!
//! Rows come in mirrored pairs that are written in one batch, so one side of each pair is enough to
//! find both.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::{BottommostLevelCompaction, CompactOptions};
use shoal_protocol::address::Digest;
use tokio_util::sync::CancellationToken;

use super::layout::{self, Family};
use super::rows::{self, FileId, FileRow, ShareId, ShareRecord, ShareState};
use super::{BATCH_BYTES, Batch, Store, StoreError, keys};

/// Blocks that are deleted while commits are held up; as many as when a share goes.
const BLOCKS_PER_STEP: usize = 256;

/// Rows between two looks at whether to stop and two reports of progress: some milliseconds.
const ROWS_PER_REPORT: u64 = 4096;

/// What was taken out, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Shares that were given up or unshared, and whose rows were still there.
    pub shares: u64,
    /// Rows of files and of their chunks that belong to no share.
    pub rows: u64,
    /// Blocks that no share holds.
    pub blocks: u64,
    /// The bytes of those blocks.
    pub block_bytes: u64,
    /// Copies whose share is gone.
    pub copies: u64,
    /// The bytes of those copies.
    pub copy_bytes: u64,
    /// Bytes of the database on disk before.
    pub database_bytes_before: u64,
    /// Bytes of the database on disk after; the same as before when nothing was to be changed.
    pub database_bytes_after: u64,
}

/// What a collection is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GarbagePhase {
    /// Looking at rows.
    Rows,
    /// Looking at blocks.
    Blocks,
    /// Looking at copies.
    Copies,
    /// Giving space back.
    Compacting,
}

impl Store {
    /// Takes out what nothing needs; with `dry_run` only says what that would be.
    ///
    /// `on_progress` gets the number of rows that were looked at. `None` when `cancel` fired before
    /// the end: what was taken out until then is out.
    pub fn collect_garbage(
        &self,
        dry_run: bool,
        on_progress: &mut dyn FnMut(GarbagePhase, u64),
        cancel: &CancellationToken,
    ) -> Result<Option<Garbage>, StoreError> {
        let before = self.database_bytes()?;
        let mut collection = Collection {
            store: self,
            dry_run,
            on_progress,
            cancel,
            looked_at: 0,
            found: Garbage {
                database_bytes_before: before,
                database_bytes_after: before,
                ..Garbage::default()
            },
        };
        match collection.run() {
            Ok(()) => Ok(Some(collection.found)),
            Err(Stop::Cancelled) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn database_bytes(&self) -> Result<u64, StoreError> {
        let path = self.inner.db.path();
        bytes_below(path).map_err(|error| StoreError::io(path, error))
    }
}

/// Why a collection ends early.
enum Stop {
    Cancelled,
    Failed(StoreError),
}

impl<E: Into<StoreError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A collection in progress.
struct Collection<'a> {
    store: &'a Store,
    dry_run: bool,
    on_progress: &'a mut dyn FnMut(GarbagePhase, u64),
    cancel: &'a CancellationToken,
    looked_at: u64,
    found: Garbage,
}

impl Collection<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        self.shares()?;
        self.files()?;
        self.file_chunks()?;
        self.share_blocks()?;
        self.blocks()?;
        self.copies()?;
        if !self.dry_run {
            self.compact()?;
        }
        Ok(())
    }

    /// Counts what was looked at, and stops when asked to.
    fn look(&mut self, phase: GarbagePhase) -> Result<(), Stop> {
        self.looked_at += 1;
        if self.looked_at.is_multiple_of(ROWS_PER_REPORT) {
            self.pause(phase)?;
        }
        Ok(())
    }

    fn pause(&mut self, phase: GarbagePhase) -> Result<(), Stop> {
        (self.on_progress)(phase, self.looked_at);
        match self.cancel.is_cancelled() {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }

    /// Shares that are going, and that the collecting thread has not come to.
    fn shares(&mut self) -> Result<(), Stop> {
        self.pause(GarbagePhase::Rows)?;
        self.found.shares = if self.dry_run {
            let shares = self.store.shares()?;
            let going = |share: &&ShareRecord| share.state == ShareState::Removing;
            shares.iter().filter(going).count() as u64
        } else {
            let cancelled = || self.cancel.is_cancelled();
            self.store.collect_removed(&cancelled)?
        };
        self.pause(GarbagePhase::Rows)
    }

    /// Rows of files whose share is not there.
    fn files(&mut self) -> Result<(), Stop> {
        let store = self.store;
        let rows = store.inner.scan(Family::Files, &[]).rows(|key, value| {
            let row: FileRow = rows::decode(value)?;
            Ok((FileId(keys::take_u64(key)?.0), row))
        });
        let known = self.known_shares()?;
        let mut batch = store.batch();
        for row in rows {
            let (id, row) = row?;
            self.look(GarbagePhase::Rows)?;
            if !known.contains(&row.share) {
                self.found.rows += 1;
                batch.remove_file(id, &row);
                batch = self.commit_when_full(batch)?;
            }
        }
        self.commit(batch)
    }

    /// Rows of chunks whose file is not there. The files of this process are left alone, since one
    /// of them may be in the making.
    fn file_chunks(&mut self) -> Result<(), Stop> {
        let store = self.store;
        let chunks = store
            .inner
            .scan(Family::FileChunks, &[])
            .rows(|key, value| {
                let (file, rest) = keys::take_u64(key)?;
                let (offset, _) = keys::take_u64(rest)?;
                Ok((FileId(file), offset, keys::take_digest(value)?.0))
            });
        let mut batch = store.batch();
        let mut latest = None;
        for chunk in chunks {
            let (file, offset, digest) = chunk?;
            self.look(GarbagePhase::Rows)?;
            // Chunks come by file.
            let is_there = match latest {
                Some((id, is_there)) if id == file => is_there,
                _ => file.0 >= store.inner.first_new_id || store.file(file)?.is_some(),
            };
            latest = Some((file, is_there));
            if !is_there {
                self.found.rows += 1;
                batch.remove_chunk(file, offset, &digest);
                batch = self.commit_when_full(batch)?;
            }
        }
        self.commit(batch)
    }

    /// What says that a share holds a block, where that share is not there.
    fn share_blocks(&mut self) -> Result<(), Stop> {
        let store = self.store;
        let held = store.inner.scan(Family::ShareBlocks, &[]).rows(|key, _| {
            let (share, rest) = keys::take_u64(key)?;
            Ok((ShareId(share), keys::take_digest(rest)?.0))
        });
        let known = self.known_shares()?;
        let mut batch = store.batch();
        for row in held {
            let (share, digest) = row?;
            self.look(GarbagePhase::Rows)?;
            if !known.contains(&share) {
                self.found.rows += 1;
                batch.delete(Family::Refs, keys::reference(&digest, share));
                batch.delete(Family::ShareBlocks, keys::share_block(share, &digest));
                batch = self.commit_when_full(batch)?;
            }
        }
        self.commit(batch)
    }

    /// The shares there are, in every state. Whoever asks has begun to look at rows before: a share
    /// that is made later has none among them.
    fn known_shares(&self) -> Result<HashSet<ShareId>, StoreError> {
        let shares = self.store.shares()?;
        Ok(shares.into_iter().map(|share| share.id).collect())
    }

    /// Blocks that no share holds.
    fn blocks(&mut self) -> Result<(), Stop> {
        let blocks = self
            .store
            .inner
            .scan(Family::Blocks, &[])
            .rows(|key, value| Ok((keys::take_digest(key)?.0, value.len() as u64)));
        let mut step = Vec::with_capacity(BLOCKS_PER_STEP);
        for block in blocks {
            let (digest, len) = block?;
            self.look(GarbagePhase::Blocks)?;
            if self.has_no_holder(&digest)? {
                step.push((digest, len));
            }
            if step.len() == BLOCKS_PER_STEP {
                self.delete_blocks(&mut step)?;
            }
        }
        self.delete_blocks(&mut step)
    }

    fn delete_blocks(&mut self, step: &mut Vec<(Digest, u64)>) -> Result<(), Stop> {
        // Between the last look at the references and the commit nobody may add one.
        let _alone = self.store.inner.commits_stopped();
        let mut batch = self.store.batch();
        for (digest, len) in step.drain(..) {
            if self.has_no_holder(&digest)? {
                self.found.blocks += 1;
                self.found.block_bytes += len;
                batch.delete(Family::Blocks, digest.key());
            }
        }
        if !self.dry_run {
            batch.commit_unguarded(false)?;
        }
        Ok(())
    }

    /// With `dry_run` the references of shares that are not there any more are still there, and
    /// their blocks are not counted.
    fn has_no_holder(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self
            .store
            .shares_of_block(digest)
            .next()
            .transpose()?
            .is_none())
    }

    /// Copies of shares that are not there. Other things in their folder are left alone.
    fn copies(&mut self) -> Result<(), Stop> {
        self.pause(GarbagePhase::Copies)?;
        let copies = copies_in(&self.store.copies_dir())?;
        let known = self.known_shares()?;
        for (share, path) in copies {
            if known.contains(&share) {
                continue;
            }
            self.pause(GarbagePhase::Copies)?;
            let failed = |error| StoreError::io(&path, error);
            let bytes = bytes_below(&path).map_err(failed)?;
            let removed = match self.dry_run {
                true => path.symlink_metadata().map(drop),
                false => fs::remove_dir_all(&path),
            };
            match removed {
                // The collecting thread had it in hand.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed.map_err(failed)?,
            }
            self.found.copies += 1;
            self.found.copy_bytes += bytes;
        }
        Ok(())
    }

    /// Has RocksDB rewrite its files without what was deleted.
    fn compact(&mut self) -> Result<(), Stop> {
        let inner = &self.store.inner;
        for family in Family::ALL {
            self.pause(GarbagePhase::Compacting)?;
            let handle = inner.family(family);
            inner.db.flush_cf(&handle)?;
            let mut options = CompactOptions::default();
            options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
            let compact = || {
                let (first, end) = inner.prefix.range();
                inner.db.compact_range_cf_opt(&handle, first, end, &options);
            };
            if family == Family::Blocks {
                inner.db.set_options_cf(&handle, &layout::BLOB_GC_ALL)?;
                compact();
                inner.db.set_options_cf(&handle, &layout::BLOB_GC_USUAL)?;
            } else {
                compact();
            }
        }
        self.found.database_bytes_after = self.store.database_bytes()?;
        Ok(())
    }

    fn commit_when_full(&self, batch: Batch) -> Result<Batch, Stop> {
        if batch.bytes() < BATCH_BYTES {
            return Ok(batch);
        }
        self.commit(batch)?;
        Ok(self.store.batch())
    }

    fn commit(&self, batch: Batch) -> Result<(), Stop> {
        if !self.dry_run {
            batch.commit(false)?;
        }
        Ok(())
    }
}

/// The copies in their folder, by the share that each was made for.
fn copies_in(folder: &Path) -> Result<Vec<(ShareId, PathBuf)>, StoreError> {
    let failed = |error| StoreError::io(folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut copies = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(Ok(id)) = entry.file_name().to_str().map(str::parse) {
            copies.push((ShareId(id), entry.path()));
        }
    }
    Ok(copies)
}

/// The length of all files below a folder. What vanishes meanwhile counts as nothing.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}
