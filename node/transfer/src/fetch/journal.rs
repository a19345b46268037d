//! Index rows on their way to the store, batched.
//!
//! A row is added only after the bytes it speaks of were verified and written, so whatever the
//! store holds after a crash is true. At most [`JOURNAL_BYTES_MAX`] of landed payload is not yet in
//! it. What is in it can be served: the journal knows which leaves of the root that is.

use std::ops::Range;

use parking_lot::Mutex;
use shoal_protocol::{
    address::Digest,
    exchange::{LeafRanges, LeafSet},
};
use shoal_store::{Batch, FileId, FileRow, ShareId, Store, StoreError};
use tokio::sync::Notify;

/// Payload landed between two writes; what a crash can make a resumed fetch re-hash.
const JOURNAL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Rows between two writes, for trees of small files: about 200 KiB of batch.
const JOURNAL_ROWS_MAX: usize = 2048;

/// The rows of one share in the making.
pub(super) struct LandingJournal {
    store: Store,
    share: ShareId,
    pending: Mutex<Pending>,
    /// The leaves whose rows are in the store.
    written: Mutex<LeafSet>,
    landed: Notify,
}

struct Pending {
    batch: Batch,
    rows: usize,
    bytes: u64,
    leaves: Vec<u64>,
}

impl LandingJournal {
    pub(super) fn new(store: Store, share: ShareId) -> Self {
        let pending = Mutex::new(Pending {
            batch: store.batch(),
            rows: 0,
            bytes: 0,
            leaves: Vec::new(),
        });
        Self {
            store,
            share,
            pending,
            written: Mutex::default(),
            landed: Notify::new(),
        }
    }

    pub(super) fn share(&self) -> ShareId {
        self.share
    }

    /// A DAG node that the store has already, maybe for other shares only: those may go, and this
    /// share has to keep it.
    pub(super) fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        for holder in self.store.shares_of_block(digest) {
            if holder? == self.share {
                return Ok(());
            }
        }
        self.node(digest, bytes)
    }

    /// A DAG node whose bytes were verified.
    pub(super) fn node(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.add(bytes.len() as u64, |pending| {
            pending.batch.put_block(self.share, digest, bytes);
            Ok(())
        })
    }

    /// A chunk (its offset, address and length) whose bytes are in place, which leaf of the root it
    /// is, and the row of its file when that is whole with it: a chunk of a file without a row would
    /// never be collected.
    pub(super) fn chunk(
        &self,
        file: FileId,
        (offset, digest, len): (u64, &Digest, u32),
        leaf: Option<u64>,
        whole: Option<&FileRow>,
    ) -> Result<(), StoreError> {
        self.add(u64::from(len), |pending| {
            pending.batch.put_chunk(file, offset, digest, len);
            pending.leaves.extend(leaf);
            whole.map_or(Ok(()), |row| pending.batch.put_file(file, row))
        })?;
        self.landed.notify_one();
        Ok(())
    }

    /// Leaves whose rows an earlier run has written.
    pub(super) fn are_written(&self, leaves: Range<u64>) {
        let mut written = self.written.lock();
        for leaf in leaves {
            written.insert(leaf);
        }
        self.landed.notify_one();
    }

    /// The leaves that can be served, after writing what is held back. Blocking.
    pub(super) fn servable(&self) -> Result<LeafRanges, StoreError> {
        self.write()?;
        let written = self.written.lock();
        Ok(written.ranges())
    }

    /// Waits until a chunk has landed since this was last waited for.
    pub(super) async fn landed(&self) {
        self.landed.notified().await;
    }

    /// The state of a file.
    pub(super) fn file(&self, id: FileId, row: &FileRow) -> Result<(), StoreError> {
        self.add(0, |pending| pending.batch.put_file(id, row))
    }

    /// Hands everything held back to the store. Survives a crash of the process from then on; the
    /// flush to disk belongs to the commit of the share.
    pub(super) fn write(&self) -> Result<(), StoreError> {
        self.write_pending(&mut self.pending.lock())
    }

    fn add(
        &self,
        bytes: u64,
        put: impl FnOnce(&mut Pending) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut pending = self.pending.lock();
        put(&mut pending)?;
        pending.rows += 1;
        pending.bytes += bytes;
        if pending.rows >= JOURNAL_ROWS_MAX || pending.bytes >= JOURNAL_BYTES_MAX {
            self.write_pending(&mut pending)?;
        }
        Ok(())
    }

    fn write_pending(&self, pending: &mut Pending) -> Result<(), StoreError> {
        // What cannot be written stays pending, its leaves with it: no leaf is offered without its row.
        pending.batch.commit_or_keep()?;
        (pending.rows, pending.bytes) = (0, 0);
        let mut written = self.written.lock();
        for leaf in pending.leaves.drain(..) {
            written.insert(leaf);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use shoal_protocol::address::HashFn;

    use super::*;

    #[test]
    fn what_could_not_be_written_is_offered_once_its_rows_are() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let share = store.new_share_id().unwrap();
        let file = store.new_file_ids(1).unwrap().next().unwrap();
        let journal = LandingJournal::new(store.clone(), share);
        let land = |leaf: u64| {
            let digest = Digest::of(HashFn::Blake3, &leaf.to_be_bytes());
            journal.chunk(file, (leaf * 8, &digest, 8), Some(leaf), None)
        };
        let leaves = |ranges: LeafRanges| {
            let ranges = ranges.iter().map(|range| (range.start, range.end));
            ranges.collect::<Vec<_>>()
        };
        land(0).unwrap();
        store.refuse_writes(true);
        journal.servable().unwrap_err();
        land(1).unwrap();
        journal.write().unwrap_err();
        store.refuse_writes(false);
        assert_eq!(leaves(journal.servable().unwrap()), [(0, 2)]);
        let offsets: Vec<_> = store.chunks_of(file).map(|it| it.unwrap().offset).collect();
        assert_eq!(offsets, [0, 8], "what is offered has its rows");
    }
}
