//! The places of the streams that are served: how many there are, and who gives way.
//!
//! A peer has so many places at the most, and all peers together so many. When there is no place
//! for a new stream, the one on which nothing has moved for longest gives way, if that is long: a
//! stream whose peer takes its bytes never does. A place is free again when its [`Slot`] is dropped,
//! or at once where it gives way. Streams of what is kept for others have a quarter of the places, and
//! give way to each other, so that they never take those of what this node shares.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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
/// Streams that are served of what is kept for others at a time.
const COPY_STREAMS_MAX: usize = STREAMS_MAX / 4;
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
    /// What it reads is kept for others.
    is_copy: AtomicBool,
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
            && (table.streams.len() < STREAMS_MAX || self.have_give_way(&mut table, now, |_| true));
        if !has_room {
            self.shared.refused.fetch_add(1, Relaxed);
            return None;
        }
        let id = table.next;
        table.next += 1;
        let taken = Arc::new(Taken {
            peer,
            moved: AtomicU64::new(now),
            is_copy: AtomicBool::new(false),
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

    /// Whether a stream that has a place may read what is kept for others, and does from now on.
    fn take_copy_at(&self, taken: &Taken, now: u64) -> bool {
        let mut table = self.lock();
        let copies = table.streams.values().filter(|it| it.is_copy());
        let has_room = copies.count() < COPY_STREAMS_MAX
            || self.have_give_way(&mut table, now, Taken::is_copy);
        match has_room {
            true => taken.is_copy.store(true, Relaxed),
            false => drop(self.shared.refused.fetch_add(1, Relaxed)),
        }
        has_room
    }

    /// Has the stream end on which nothing has moved for longest, of those that count; false when none
    /// of them has been still for long enough.
    fn have_give_way(&self, table: &mut Table, now: u64, counts: impl Fn(&Taken) -> bool) -> bool {
        let moved = |taken: &Arc<Taken>| taken.moved.load(Relaxed);
        let stillest = table
            .streams
            .iter()
            .filter(|(_, taken)| counts(taken))
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

impl Taken {
    fn is_copy(&self) -> bool {
        self.is_copy.load(Relaxed)
    }
}

impl Slot {
    /// Whether there is a place for one more stream of what is kept for others: this one, from now on.
    pub(super) fn take_copy(&self) -> bool {
        self.slots.take_copy_at(&self.taken, self.slots.now())
    }

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

    #[tokio::test]
    async fn copies_have_a_quarter_of_the_places_and_give_way_to_each_other() {
        let slots = Slots::default();
        let own = slots.take(PeerId::random()).unwrap();
        let copies: Vec<Slot> = (0..COPY_STREAMS_MAX)
            .map(|_| slots.take(PeerId::random()).unwrap())
            .collect();
        assert!(copies.iter().all(Slot::take_copy));
        let one_more = slots.take(PeerId::random()).unwrap();
        assert!(!one_more.take_copy(), "all are new");
        let later = slots.now() + 1000 * STILL_MAX.as_secs();
        for slot in &copies[1..] {
            slot.taken.moved.store(later, Relaxed);
        }
        let take = |slot: &Slot| slots.take_copy_at(&slot.taken, later);
        assert!(take(&one_more));
        copies[0].must_give_way().await;
        assert!(!own.taken.gives_way.is_cancelled(), "it is no copy");
        one_more.taken.moved.store(later, Relaxed);
        let last = slots.take(PeerId::random()).unwrap();
        assert!(!take(&last), "all of them move");
        drop(copies);
        assert!(take(&last));
    }
}
