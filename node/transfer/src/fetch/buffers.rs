//! The buffer budget that all transfers of a process share.
//!
//! What they ask for is bounded by their [`Share`]s, which fit it together: a block that was asked
//! for has its buffer when it comes.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use shoal_ground::{
    budgets::{BUFFER_BYTES_MAX, InFlight, KEPT_BYTES_MAX, Share},
    pool::{Pool, Pooled},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit of the budget stands for: a small block costs one page, a chunk 256.
const UNIT_BYTES: u32 = 4096;

/// Room for blocks that come from the network. Cheap to clone; all clones are one budget.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    /// [`BUFFER_BYTES_MAX`] in units of [`UNIT_BYTES`].
    budget: Arc<Semaphore>,
    /// [`KEPT_BYTES_MAX`] in the same units.
    kept: Arc<Semaphore>,
    pool: Pool,
    in_flight: InFlight,
}

/// Room for one block, counted in the budget for as long as it lives.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Pooled,
    _permits: OwnedSemaphorePermit,
}

impl Default for Buffers {
    fn default() -> Self {
        let room = |bytes: u64| {
            let units = usize::try_from(bytes / u64::from(UNIT_BYTES));
            Arc::new(Semaphore::new(units.unwrap_or(Semaphore::MAX_PERMITS)))
        };
        Self {
            budget: room(BUFFER_BYTES_MAX),
            kept: room(KEPT_BYTES_MAX),
            pool: Pool::default(),
            in_flight: InFlight::default(),
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

    /// The share of one more transfer.
    pub(crate) fn share(&self) -> Share {
        self.in_flight.share()
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
        BUFFER_BYTES_MAX.saturating_sub(free)
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
