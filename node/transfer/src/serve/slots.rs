//! The places of the streams that are served: how many there are, and who gives way.
//!
//! A peer has so many places at the most, and all peers together so many. When there is no place
//! for a new stream, the one on which nothing has moved for longest gives way, if that is long: a
//! stream whose peer takes its bytes never does. A place is free again when its [`Slot`] is dropped,
//! or at once where it gives way.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use libp2p::PeerId;
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::metrics::Numbers;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Streams served at a time, over all peers: a task and some tens of KiB each.
pub(super) const STREAMS_MAX: usize = 256;
/// Streams served at a time to one peer: one per root that it fetches, within reason.
const STREAMS_PER_PEER_MAX: usize = 16;
/// How long nothing may move on a stream before it gives way to another: longer than a piece takes
/// on a slow line.
const STILL_MAX: Duration = Duration::from_secs(10);

/// All places. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Slots {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    refused: AtomicU64,
    gave_way: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    streams: HashMap<u64, Arc<Taken>>,
    peers: HashMap<PeerId, usize>,
}

struct Taken {
    peer: PeerId,
    /// When something moved last, in milliseconds of this table.
    moved: AtomicU64,
    gives_way: CancellationToken,
}

/// A place among the streams that are served; given back when dropped.
pub(super) struct Slot {
    slots: Slots,
    id: u64,
    taken: Arc<Taken>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                started: Instant::now(),
                refused: AtomicU64::new(0),
                gave_way: AtomicU64::new(0),
                table: Mutex::default(),
            }),
        }
    }
}

impl Slots {
    /// A place for a stream of `peer`; none when there is none, and nobody has to give way.
    pub(super) fn take(&self, peer: PeerId) -> Option<Slot> {
        self.take_at(peer, self.now())
    }

    fn take_at(&self, peer: PeerId, now: u64) -> Option<Slot> {
        let mut table = self.lock();
        let of_peer = table.peers.get(&peer).copied().unwrap_or_default();
        let has_room = of_peer < STREAMS_PER_PEER_MAX
            && (table.streams.len() < STREAMS_MAX || self.have_give_way(&mut table, now));
        if !has_room {
            self.shared.refused.fetch_add(1, Relaxed);
            return None;
        }
        let id = table.next;
        table.next += 1;
        let taken = Arc::new(Taken {
            peer,
            moved: AtomicU64::new(now),
            gives_way: CancellationToken::new(),
        });
        table.streams.insert(id, Arc::clone(&taken));
        *table.peers.entry(peer).or_default() += 1;
        Some(Slot {
            slots: self.clone(),
            id,
            taken,
        })
    }

    /// Has the stream end on which nothing has moved for longest; false when none has been still for
    /// long enough.
    fn have_give_way(&self, table: &mut Table, now: u64) -> bool {
        let moved = |taken: &Arc<Taken>| taken.moved.load(Relaxed);
        let stillest = table
            .streams
            .iter()
            .min_by_key(|(id, taken)| (moved(taken), **id))
            .filter(|(_, taken)| u128::from(now - moved(taken).min(now)) >= STILL_MAX.as_millis());
        let Some(id) = stillest.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(taken) = table.remove(id) {
            taken.gives_way.cancel();
            self.shared.gave_way.fetch_add(1, Relaxed);
        }
        true
    }

    /// Adds its numbers.
    pub(super) fn measure(&self, numbers: &mut Numbers) {
        numbers.gauge(
            "shoal_serve_streams",
            "Streams that are being served.",
            self.lock().streams.len() as u64,
        );
        numbers.counter(
            "shoal_serve_streams_refused",
            "Streams refused because the peer or the node has as many as it may.",
            self.shared.refused.load(Relaxed),
        );
        numbers.counter(
            "shoal_serve_streams_gave_way",
            "Streams on which nothing moved, ended because others needed their places.",
            self.shared.gave_way.load(Relaxed),
        );
    }

    fn now(&self) -> u64 {
        let millis = self.shared.started.elapsed().as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock()
    }
}

impl Table {
    fn remove(&mut self, id: u64) -> Option<Arc<Taken>> {
        let taken = self.streams.remove(&id)?;
        if let Some(count) = self.peers.get_mut(&taken.peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&taken.peer);
            }
        }
        Some(taken)
    }
}

impl Slot {
    /// Whose stream it is.
    pub(super) fn peer(&self) -> PeerId {
        self.taken.peer
    }

    /// Something moved on the stream: a request came, or bytes left.
    pub(super) fn moved(&self) {
        self.taken.moved.store(self.slots.now(), Relaxed);
    }

    /// Waits until the stream has to give way to another.
    pub(super) async fn must_give_way(&self) {
        self.taken.gives_way.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn full(slots: &Slots) -> Vec<Slot> {
        (0..STREAMS_MAX)
            .map(|_| slots.take(PeerId::random()).unwrap())
            .collect()
    }

    #[test]
    fn one_peer_has_some_places_and_gets_them_back() {
        let slots = Slots::default();
        let peer = PeerId::random();
        let mut taken: Vec<Slot> = (0..STREAMS_PER_PEER_MAX)
            .map(|_| slots.take(peer).unwrap())
            .collect();
        assert!(slots.take(peer).is_none());
        assert!(slots.take(PeerId::random()).is_some());
        taken.pop();
        assert!(slots.take(peer).is_some());
        drop(taken);
        assert!(slots.lock().peers.is_empty());
    }

    #[tokio::test]
    async fn what_is_still_gives_way_and_what_moves_does_not() {
        let slots = Slots::default();
        let taken = full(&slots);
        assert!(slots.take(PeerId::random()).is_none(), "all are new");
        // They were taken within the second before this.
        let later = slots.now() + 1000 * STILL_MAX.as_secs();
        let (still, moving) = taken.split_at(2);
        for slot in moving {
            slot.taken.moved.store(later, Relaxed);
        }
        let take = || slots.take_at(PeerId::random(), later);
        let first = take().unwrap();
        still[0].must_give_way().await;
        assert!(!still[1].taken.gives_way.is_cancelled());
        let second = take().unwrap();
        still[1].must_give_way().await;
        assert!(take().is_none());
        // A stream that gave way has no place to give back.
        drop(taken);
        assert_eq!(slots.lock().streams.len(), 2);
        drop((first, second));
        assert!(slots.lock().peers.is_empty());
    }
}
