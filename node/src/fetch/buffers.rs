//! The buffer budget that all transfers of a process share, and what they may ask for within it.
//!
//! A [`Share`] bounds what one transfer has in flight: asked for, unread in a connection, or in a
//! [`Buffer`]. All shares together fit the budget, so a block that was asked for has its buffer when
//! it comes. A transfer whose disk has stalled keeps a part of the budget and leaves the rest to the
//! others.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    budgets::{FETCH_IN_FLIGHT_BYTES_MAX, FETCHES_MAX, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_BYTES_MIN},
    pool::{Pool, Pooled},
};

/// What one permit of the budget stands for: a small block costs one page, a chunk 256.
const UNIT_BYTES: u32 = 4096;

/// Room for blocks that come from the network. Cheap to clone; all clones are one budget.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    /// [`IN_FLIGHT_BYTES_MAX`] in units of [`UNIT_BYTES`].
    budget: Arc<Semaphore>,
    pool: Pool,
    shares: Arc<Mutex<Shares>>,
}

/// What each running transfer has in flight, or was allowed to.
#[derive(Debug, Default)]
struct Shares {
    next: u64,
    held_bytes: HashMap<u64, u64>,
}

/// One transfer's part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    id: u64,
    shares: Arc<Mutex<Shares>>,
}

/// Room for one block, counted in the budget for as long as it lives.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Pooled,
    _permits: OwnedSemaphorePermit,
}

impl Default for Buffers {
    fn default() -> Self {
        let units = IN_FLIGHT_BYTES_MAX / u64::from(UNIT_BYTES);
        let units = usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            budget: Arc::new(Semaphore::new(units)),
            pool: Pool::default(),
            shares: Arc::default(),
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
        let mut shares = lock(&self.shares);
        let id = shares.next;
        shares.next += 1;
        shares.held_bytes.insert(id, 0);
        Share {
            id,
            shares: Arc::clone(&self.shares),
        }
    }

    /// How much of the budget is taken.
    pub(crate) fn taken_bytes(&self) -> u64 {
        let free = self.budget.available_permits() as u64 * u64::from(UNIT_BYTES);
        IN_FLIGHT_BYTES_MAX.saturating_sub(free)
    }
}

impl Share {
    /// How many bytes the transfer may have in flight now. All of it counts as taken until
    /// [`Self::holds`] says how much was.
    pub(crate) fn grant(&self) -> u64 {
        let mut shares = lock(&self.shares);
        let count = shares.held_bytes.len();
        let others = shares.held_bytes.iter().filter(|(id, _)| **id != self.id);
        // Each of the others has a block at least, whether it runs already or not.
        let taken: u64 = others
            .map(|(_, held)| (*held).max(IN_FLIGHT_BYTES_MIN))
            .sum();
        let to_come = FETCHES_MAX.saturating_sub(count) as u64 * IN_FLIGHT_BYTES_MIN;
        let free = IN_FLIGHT_BYTES_MAX.saturating_sub(taken.saturating_add(to_come));
        let fair = IN_FLIGHT_BYTES_MAX / count.max(1) as u64;
        let grant = free
            .min(fair)
            .clamp(IN_FLIGHT_BYTES_MIN, FETCH_IN_FLIGHT_BYTES_MAX);
        let held = shares.held_bytes.entry(self.id).or_default();
        *held = grant.max(*held);
        grant
    }

    /// So much is in flight.
    pub(crate) fn holds(&self, bytes: u64) {
        lock(&self.shares).held_bytes.insert(self.id, bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.shares).held_bytes.remove(&self.id);
    }
}

fn lock(shares: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn held(shares: &[Share]) -> u64 {
        let held = lock(&shares[0].shares);
        held.held_bytes.values().sum()
    }

    #[test]
    fn a_transfer_alone_has_much_and_leaves_the_others_their_part() {
        let buffers = Buffers::default();
        let first = buffers.share();
        assert_eq!(first.grant(), FETCH_IN_FLIGHT_BYTES_MAX);
        // Its disk stalls: it keeps all of it.
        let others: Vec<Share> = (1..FETCHES_MAX).map(|_| buffers.share()).collect();
        for other in &others {
            assert!(other.grant() >= IN_FLIGHT_BYTES_MIN);
        }
        assert!(held(&others) <= IN_FLIGHT_BYTES_MAX);
        // It lands: what it held is for all.
        first.holds(0);
        let fair = IN_FLIGHT_BYTES_MAX / FETCHES_MAX as u64;
        assert!(first.grant() <= fair);
        drop(others);
        assert_eq!(first.grant(), FETCH_IN_FLIGHT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn all_shares_fit_the_budget(
            moves in prop::collection::vec((0..FETCHES_MAX, 0_u64..=100, any::<bool>()), 1..200),
        ) {
            let buffers = Buffers::default();
            let mut shares: Vec<Share> = vec![buffers.share()];
            for (at, percent, joins) in moves {
                if joins && shares.len() < FETCHES_MAX {
                    shares.push(buffers.share());
                }
                let share = &shares[at % shares.len()];
                let grant = share.grant();
                prop_assert!(grant >= IN_FLIGHT_BYTES_MIN);
                prop_assert!(held(&shares) <= IN_FLIGHT_BYTES_MAX);
                let before = *lock(&share.shares).held_bytes.get(&share.id).unwrap();
                share.holds(before * percent / 100);
            }
        }
    }
}
