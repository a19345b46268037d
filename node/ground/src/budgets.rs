//! The memory that content takes on its way here, in one place.
//!
//! Each of these numbers is computed from another, so that a peer is never cut off for sending what
//! it was asked for, however long the disk takes to write it: what all transfers ask for at a time
//! fits the buffers, and what a connection may leave unread is what its streams may send.
//!
//! A [`Share`] bounds what one fetch has in flight: asked for, unread in a connection, or in a
//! buffer. A fetch whose disk has stalled keeps its part and leaves the rest to the others.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use shoal_protocol::address::BLOCK_BYTES_MAX;

/// Transfers that run at a time; each takes a part of the shared buffers, so more would only be
/// slower together. More of them wait.
pub const TRANSFERS_MAX: usize = 16;

/// Readers that a file is streamed to at a time.
pub const STREAMS_MAX: usize = 4;

/// All that fetch at a time. Each has one stream to a peer, so a peer has as many streams of ours at
/// the most.
pub const FETCHES_MAX: usize = TRANSFERS_MAX + STREAMS_MAX;

/// Blocks that were asked for and are not landed yet, over all transfers, wherever they are: asked
/// for, unread in a connection, or in a buffer. 64 MiB, from the 150 MiB that a whole daemon may
/// take.
pub(crate) const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

/// Beginnings of blocks whose request has ended, until the rest has come, over all fetches: 16 MiB.
/// Beyond it a beginning is given up, and fetched again.
pub const KEPT_BYTES_MAX: u64 = 16 << 20;

/// Buffers of blocks, over all fetches.
pub const BUFFER_BYTES_MAX: u64 = IN_FLIGHT_BYTES_MAX + KEPT_BYTES_MAX;

/// What each fetch may have in flight in any case: one block. A fetch whose disk has stalled, or
/// whose reader does not read, keeps it from no other.
pub(crate) const IN_FLIGHT_BYTES_MIN: u64 = BLOCK_BYTES_MAX as u64;

/// What one fetch may have in flight while it is alone: 24 MiB are 2 Gbit/s at a round trip of
/// 100 ms.
pub(crate) const FETCH_IN_FLIGHT_BYTES_MAX: u64 = 24 << 20;

/// Bytes that may be sent to the side that opened a stream before it has read any. It opened the
/// stream to ask for something, and reads the answer: 16 MiB are 160 MB/s at a round trip of 100 ms.
/// The wire of the multiplexer fixes this number.
pub const OPENER_WINDOW_BYTES: u32 = 16 << 20;

/// Unread bytes of all streams of a connection: a full window for each fetch, and one for
/// everything else that is asked over it. Only a peer that ignores its windows sends more. One that
/// keeps to what it was asked for stays below `IN_FLIGHT_BYTES_MAX`.
pub const UNREAD_BYTES_MAX: usize = (FETCHES_MAX + 1) * OPENER_WINDOW_BYTES as usize;

const _: () = {
    let others = (FETCHES_MAX as u64 - 1) * IN_FLIGHT_BYTES_MIN;
    assert!(
        FETCH_IN_FLIGHT_BYTES_MAX + others <= IN_FLIGHT_BYTES_MAX,
        "one fetch leaves a block to each of the others"
    );
    assert!(
        IN_FLIGHT_BYTES_MAX <= UNREAD_BYTES_MAX as u64,
        "what was asked for may be unread as a whole"
    );
};

/// What all fetches of a process have in flight. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Mutex<Shares>>);

/// What each running fetch has in flight, or was allowed to.
#[derive(Debug, Default)]
struct Shares {
    next: u64,
    held_bytes: HashMap<u64, u64>,
}

/// One fetch's part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Share {
    id: u64,
    shares: Arc<Mutex<Shares>>,
}

impl InFlight {
    /// The share of one more fetch.
    pub fn share(&self) -> Share {
        let mut shares = lock(&self.0);
        let id = shares.next;
        shares.next += 1;
        shares.held_bytes.insert(id, 0);
        Share {
            id,
            shares: Arc::clone(&self.0),
        }
    }
}

impl Share {
    /// How many bytes the fetch may have in flight now. All of it counts as taken until
    /// [`Self::holds`] says how much was.
    pub fn grant(&self) -> u64 {
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
    pub fn holds(&self, bytes: u64) {
        lock(&self.shares).held_bytes.insert(self.id, bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.shares).held_bytes.remove(&self.id);
    }
}

fn lock(shares: &Mutex<Shares>) -> MutexGuard<'_, Shares> {
    shares.lock()
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
        let in_flight = InFlight::default();
        let first = in_flight.share();
        assert_eq!(first.grant(), FETCH_IN_FLIGHT_BYTES_MAX);
        // Its disk stalls: it keeps all of it.
        let others: Vec<Share> = (1..FETCHES_MAX).map(|_| in_flight.share()).collect();
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
            let in_flight = InFlight::default();
            let mut shares: Vec<Share> = vec![in_flight.share()];
            for (at, percent, joins) in moves {
                if joins && shares.len() < FETCHES_MAX {
                    shares.push(in_flight.share());
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
