//! The buffer budget that all transfers of a process share.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pool::{Pool, Pooled};

/// What one permit of the budget stands for: a small block costs one page, a chunk 256.
const UNIT_BYTES: u32 = 4096;

/// Blocks that came from the network and are not landed yet, over all transfers: 48 MiB, from the
/// 150 MiB that a whole daemon may take.
const BUFFER_BYTES_MAX: u32 = 48 * 1024 * 1024;

/// Beginnings of blocks whose request has ended, until the rest has come, over all transfers: 16 MiB
/// of [`BUFFER_BYTES_MAX`], so that two thirds are left for blocks that come in. Beyond it a
/// beginning is given up, and fetched again.
const KEPT_BYTES_MAX: u32 = BUFFER_BYTES_MAX / 3;

/// The share of the budget that one transfer lets its providers fill at a time.
pub(crate) const TRANSFER_IN_FLIGHT_BYTES: u64 = 32 * 1024 * 1024;

/// Room for blocks that come from the network. Cheap to clone; all clones are one budget.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    /// [`BUFFER_BYTES_MAX`] in units of [`UNIT_BYTES`].
    budget: Arc<Semaphore>,
    /// [`KEPT_BYTES_MAX`] in the same units.
    kept: Arc<Semaphore>,
    pool: Pool,
}

/// Room for one block, counted in the budget for as long as it lives.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Pooled,
    _permits: OwnedSemaphorePermit,
}

impl Default for Buffers {
    fn default() -> Self {
        let units = (BUFFER_BYTES_MAX / UNIT_BYTES) as usize;
        Self {
            budget: Arc::new(Semaphore::new(units)),
            kept: Arc::new(Semaphore::new((KEPT_BYTES_MAX / UNIT_BYTES) as usize)),
            pool: Pool::default(),
        }
    }
}

impl Buffers {
    /// Waits until there is room for `len` bytes, which may be anything at first. Dropping the
    /// future takes nothing.
    pub(crate) async fn take(&self, len: u32) -> Buffer {
        let units = len.div_ceil(UNIT_BYTES);
        let permits = Arc::clone(&self.budget).acquire_many_owned(units).await;
        Buffer {
            _permits: permits.expect("the budget is never closed"),
            bytes: self.pool.with_len(len as usize),
        }
    }

    /// Leave to keep a buffer of `len` bytes although nothing comes in, for as long as the permit
    /// lives; none where enough is kept.
    pub(crate) fn keep(&self, len: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(len).ok()?.div_ceil(UNIT_BYTES);
        Arc::clone(&self.kept).try_acquire_many_owned(units).ok()
    }

    /// How much of the budget is taken.
    pub(crate) fn taken_bytes(&self) -> u64 {
        let free = self.budget.available_permits() as u64 * u64::from(UNIT_BYTES);
        u64::from(BUFFER_BYTES_MAX).saturating_sub(free)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
