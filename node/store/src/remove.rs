//! Taking a share's rows out, in steps that are small, atomic and repeatable.
//!
//! A share that goes is first marked `Removing`, which hides it; its rows follow. Every step can be
//! the last one before a crash: the record goes last, so the next start finds it and goes on.

use std::io;

use shoal_protocol::address::Digest;

use super::layout::Family;
use super::rows::{Origin, ShareId, ShareRecord, ShareState};
use super::{BATCH_BYTES, Batch, Store, StoreError, keys};

/// Blocks examined while commits are held up: at some 5 µs each, that is about a millisecond.
const BLOCKS_PER_STEP: usize = 256;

impl Store {
    /// Takes out every share that is going, one caller after the other, and says how many; less
    /// than all when `stop` said so.
    pub(super) fn collect_removed(&self, stop: &dyn Fn() -> bool) -> Result<u64, StoreError> {
        let _alone = self.inner.collecting.lock();
        let mut going = self.shares()?;
        going.retain(|share| share.state == ShareState::Removing);
        let mut collected = 0;
        for share in going {
            self.remove_copy(&share);
            if !self.remove_rows(share.id, stop)? {
                break;
            }
            collected += 1;
            tracing::debug!(share = %share.id, "share collected");
        }
        Ok(collected)
    }

    /// Deletes the copy that `share --copy` took. Only what lies in the home's own folder for it is
    /// touched.
    fn remove_copy(&self, share: &ShareRecord) {
        if share.origin != Origin::Copied {
            return;
        }
        let copy = self.copy_dir(share.id);
        match std::fs::remove_dir_all(&copy) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(copy = %copy.display(), %error, "a share's copy could not be deleted");
            }
        }
    }

    /// Takes out all rows of `share`. False when `stop` said so before the end; call it again then.
    pub(super) fn remove_rows(
        &self,
        share: ShareId,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        if !self.remove_files(share, stop)? || !self.remove_blocks(share, stop)? {
            return Ok(false);
        }
        let mut batch = self.batch();
        batch.delete(Family::Shares, keys::share(share));
        batch.commit(false)?;
        Ok(true)
    }

    fn remove_files(&self, share: ShareId, stop: &dyn Fn() -> bool) -> Result<bool, StoreError> {
        let mut batch = self.batch();
        for file in self.files_of(share) {
            let (id, row) = file?;
            for chunk in self.chunks_of(id) {
                let chunk = chunk?;
                batch.remove_chunk(id, chunk.offset, &chunk.digest);
                batch = self.commit_when_full(batch)?;
                if stop() {
                    return Ok(false);
                }
            }
            batch.remove_file(id, &row);
            batch = self.commit_when_full(batch)?;
        }
        batch.commit(false)?;
        Ok(true)
    }

    fn commit_when_full(&self, batch: Batch) -> Result<Batch, StoreError> {
        if batch.bytes() < BATCH_BYTES {
            return Ok(batch);
        }
        batch.commit(false)?;
        Ok(self.batch())
    }

    fn remove_blocks(&self, share: ShareId, stop: &dyn Fn() -> bool) -> Result<bool, StoreError> {
        let mut digests = self.blocks_of(share);
        loop {
            if stop() {
                return Ok(false);
            }
            let step = digests
                .by_ref()
                .take(BLOCKS_PER_STEP)
                .collect::<Result<Vec<_>, _>>()?;
            if step.is_empty() {
                return Ok(true);
            }
            // Between the look at the references and the commit nobody may add one.
            let _alone = self.inner.commits_stopped();
            let mut batch = self.batch();
            for digest in step {
                if !self.has_other_holder(&digest, share)? {
                    batch.delete(Family::Blocks, digest.key());
                }
                batch.delete(Family::Refs, keys::reference(&digest, share));
                batch.delete(Family::ShareBlocks, keys::share_block(share, &digest));
            }
            batch.commit_unguarded(false)?;
        }
    }

    fn has_other_holder(&self, digest: &Digest, share: ShareId) -> Result<bool, StoreError> {
        for holder in self.shares_of_block(digest) {
            if holder? != share {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
