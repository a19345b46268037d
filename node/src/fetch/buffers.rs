//! The buffer budget that all transfers of a process share.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// What one permit of the budget stands for: a small block costs one page, a chunk 256.
pub(crate) const UNIT_BYTES: u32 = 4096;

/// Blocks that came from the network and are not landed yet, over all transfers: 48 MiB, from the
/// 150 MiB that a whole daemon may take.
const BUFFER_BYTES_MAX: u32 = 48 * 1024 * 1024;

/// The share of the budget that one transfer lets its providers fill at a time.
pub(crate) const TRANSFER_IN_FLIGHT_BYTES: u64 = 32 * 1024 * 1024;

/// A budget of [`BUFFER_BYTES_MAX`] in units of [`UNIT_BYTES`].
pub(crate) fn budget() -> Arc<Semaphore> {
    Arc::new(Semaphore::new((BUFFER_BYTES_MAX / UNIT_BYTES) as usize))
}

/// How much of a [`budget`] is taken.
pub(crate) fn taken_bytes(budget: &Semaphore) -> u64 {
    let free = budget.available_permits() as u64 * u64::from(UNIT_BYTES);
    u64::from(BUFFER_BYTES_MAX).saturating_sub(free)
}
