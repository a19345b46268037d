//! The memory that serving may take: who may have how many bytes read ahead.
//!
//! Owns the count of bytes that were read from disk and that the network has not taken yet. Every
//! stream has a small part of its own, so no stream waits for another, however slow that one is.
//! The rest is shared: a peer may have as much of it as the budget makes for each of the peers that
//! move now, and less once the budget runs low. A peer that takes nothing keeps what it holds and
//! counts no more, so that others have what is left. It holds no bytes itself and reads no clock.

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
use shoal_protocol::address::CHUNK_BYTES;
use tokio::sync::Notify;

use super::slots::STREAMS_MAX;

/// Bytes read from disk and not yet taken by the network, over all streams: 32 MiB, from the
/// 150 MiB that a whole daemon may take.
pub(super) const BUDGET_BYTES: usize = 32 << 20;
/// What each stream may have in any case: one part that is written and one that is read.
pub(super) const OWN_BYTES: usize = 2 * PART_BYTES_MIN;
/// What all streams share.
const SHARED_BYTES: usize = BUDGET_BYTES - STREAMS_MAX * OWN_BYTES;
/// The least that is read at a time. At the slowest rate that anything is promised for (4 kB/s) it
/// is 8 s of the reader's time.
pub(super) const PART_BYTES_MIN: usize = 32 << 10;
/// The most that is read at a time: a chunk, so that a fast reader costs one look-up for it.
pub(super) const PART_BYTES_MAX: usize = CHUNK_BYTES;
/// The most that is read at a time when next to nothing is left of what is shared.
const PART_BYTES_SCARCE: usize = 128 << 10;
/// A part is at most this part of what is left: a stream has up to three (one is written, one is
/// ready, one is read), and a peer that comes finds as much again. A small part costs: reading
/// parts of 128 KiB halves the rate of a fast reader.
const PARTS_LEFT_MIN: usize = 4;
/// What is left of what is shared when all who move have their parts: for a peer that comes, and for
/// those who move when all others stop and hold what they have.
const RESERVE_BYTES: usize = SHARED_BYTES / 4;
/// A peer moves while it takes or gives back something in the time in which so many bytes go through the
/// budget: all that is shared, once.
const MOVES_WITHIN_BYTES: u64 = SHARED_BYTES as u64;
/// A part is what its reader takes in this time: it costs what it reads.
const PART_TIME: Duration = Duration::from_millis(60);

const _: () = assert!(
    SHARED_BYTES >= BUDGET_BYTES / 4,
    "streams leave something to share"
);
const _: () = assert!(PART_BYTES_SCARCE >= PART_BYTES_MIN && PART_BYTES_MAX > PART_BYTES_SCARCE);

/// The budget of a node; all clones are one. It has no room for more than [`STREAMS_MAX`] accounts.
#[derive(Clone, Default)]
pub(super) struct Budget {
    books: Arc<Mutex<Books>>,
    tally: Arc<Tally>,
}

/// How often the budget had its say.
#[derive(Default)]
struct Tally {
    waits: AtomicU64,
    limited: AtomicU64,
}

#[derive(Default)]
struct Books {
    shared_taken: usize,
    own_taken: usize,
    /// Bytes that were given back so far: the only clock there is.
    passed: u64,
    peers: HashMap<PeerId, PeerBooks>,
}

#[derive(Default)]
struct PeerBooks {
    accounts: usize,
    shared_taken: usize,
    /// How much had passed when it last took something or gave something back.
    moved_at: u64,
}

/// What one stream has taken of the budget.
pub(super) struct Account {
    budget: Budget,
    peer: PeerId,
    own: Arc<Own>,
}

#[derive(Default)]
struct Own {
    taken: AtomicU64,
    given_back: Notify,
}

/// Room for some bytes, given back when dropped.
pub(super) struct Room {
    budget: Budget,
    peer: PeerId,
    stream: Arc<Own>,
    own: usize,
    shared: usize,
}

impl Budget {
    /// The account of a new stream to `peer`.
    pub(super) fn account(&self, peer: PeerId) -> Account {
        self.lock().moving(peer).accounts += 1;
        Account {
            budget: self.clone(),
            peer,
            own: Arc::default(),
        }
    }

    /// Adds its numbers.
    pub(super) fn measure(&self, numbers: &mut Numbers) {
        let taken = {
            let books = self.lock();
            books.shared_taken + books.own_taken
        };
        numbers.gauge(
            "shoal_serve_buffered_bytes",
            "Bytes read from disk that no peer has taken yet.",
            taken as u64,
        );
        numbers.counter(
            "shoal_serve_budget_waits",
            "Times that a stream had to wait for its peer before more was read for it.",
            self.tally.waits.load(Relaxed),
        );
        numbers.counter(
            "shoal_serve_budget_limited",
            "Times that less was read at once than a peer takes, to leave room for others.",
            self.tally.limited.load(Relaxed),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock()
    }
}

impl Books {
    /// The books of a peer, which moves.
    fn moving(&mut self, peer: PeerId) -> &mut PeerBooks {
        let books = self.peers.entry(peer).or_default();
        books.moved_at = self.passed;
        books
    }

    /// What a peer may take of what is shared, for one part.
    fn allowance(&self, peer: &PeerId) -> usize {
        let free = SHARED_BYTES.saturating_sub(self.shared_taken);
        let since = |peer: &PeerBooks| self.passed.saturating_sub(peer.moved_at);
        let peers = self.peers.iter();
        let others = peers.filter(|(it, books)| *it != peer && since(books) <= MOVES_WITHIN_BYTES);
        let fair = (SHARED_BYTES - RESERVE_BYTES) / (1 + others.count());
        let taken = self.peers.get(peer).map_or(0, |peer| peer.shared_taken);
        let most = (free / PARTS_LEFT_MIN).clamp(PART_BYTES_SCARCE, PART_BYTES_MAX);
        fair.saturating_sub(taken).min(free).min(most)
    }
}

impl Account {
    /// Waits until this stream has room for a part, and takes up to `wish` bytes, never less than
    /// [`PART_BYTES_MIN`]. Only what the stream itself has taken can make it wait. Dropping the
    /// future takes nothing.
    pub(super) async fn take(&self, wish: usize) -> Room {
        let wish = wish.clamp(PART_BYTES_MIN, PART_BYTES_MAX);
        let mut waited = false;
        loop {
            let given_back = self.own.given_back.notified();
            if let Some(room) = self.try_take(wish) {
                return room;
            }
            if !std::mem::replace(&mut waited, true) {
                self.budget.tally.waits.fetch_add(1, Relaxed);
            }
            given_back.await;
        }
    }

    fn try_take(&self, wish: usize) -> Option<Room> {
        let mut books = self.budget.lock();
        let own_taken = usize::try_from(self.own.taken.load(Relaxed)).unwrap_or(OWN_BYTES);
        // Its own part comes in two halves, so that one is read while the other is written.
        let own = OWN_BYTES.saturating_sub(own_taken).min(PART_BYTES_MIN);
        let shared = books.allowance(&self.peer).min(wish.saturating_sub(own));
        if own + shared < PART_BYTES_MIN {
            return None;
        }
        if own + shared < wish {
            self.budget.tally.limited.fetch_add(1, Relaxed);
        }
        books.shared_taken += shared;
        books.own_taken += own;
        books.moving(self.peer).shared_taken += shared;
        self.own.taken.fetch_add(own as u64, Relaxed);
        Some(Room {
            budget: self.budget.clone(),
            peer: self.peer,
            stream: Arc::clone(&self.own),
            own,
            shared,
        })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut books = self.budget.lock();
        if let Some(peer) = books.peers.get_mut(&self.peer) {
            peer.accounts -= 1;
            if peer.accounts == 0 {
                books.peers.remove(&self.peer);
            }
        }
    }
}

impl Room {
    /// For how many bytes there is room.
    pub(super) fn bytes(&self) -> usize {
        self.own + self.shared
    }

    /// Keeps room for `bytes`, and gives back the rest: first what others could use.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes().saturating_sub(bytes);
        let shared = spare.min(self.shared);
        self.give_back(spare - shared, shared);
    }

    fn give_back(&mut self, own: usize, shared: usize) {
        self.own -= own;
        self.shared -= shared;
        {
            let mut books = self.budget.lock();
            books.shared_taken -= shared;
            books.own_taken -= own;
            books.passed = books.passed.saturating_add((own + shared) as u64);
            let passed = books.passed;
            if let Some(peer) = books.peers.get_mut(&self.peer) {
                peer.shared_taken = peer.shared_taken.saturating_sub(shared);
                peer.moved_at = passed;
            }
            self.stream.taken.fetch_sub(own as u64, Relaxed);
        }
        self.stream.given_back.notify_one();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.own, self.shared);
    }
}

/// How much a reader takes at a time, as far as it has shown.
#[derive(Debug)]
pub(super) struct Appetite {
    wish: usize,
}

impl Default for Appetite {
    fn default() -> Self {
        Self {
            wish: PART_BYTES_SCARCE,
        }
    }
}

impl Appetite {
    /// What should be read for it next.
    pub(super) fn wish(&self) -> usize {
        self.wish
    }

    /// It took a part of so many bytes in this time.
    pub(super) fn took(&mut self, bytes: usize, time: Duration) {
        let nanos = time.as_nanos().max(1);
        let in_time = (bytes as u128).saturating_mul(PART_TIME.as_nanos()) / nanos;
        let in_time = usize::try_from(in_time).unwrap_or(PART_BYTES_MAX);
        // A small part says little: buffers on the way have room for it whoever reads them.
        self.wish = in_time
            .min(self.wish.saturating_mul(2))
            .clamp(PART_BYTES_MIN, PART_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::VecDeque;

    use futures::FutureExt as _;

    use super::*;

    fn taken(budget: &Budget) -> usize {
        let books = budget.lock();
        books.shared_taken + books.own_taken
    }

    /// As much as a stream gets without anything being written.
    fn all(account: &Account) -> Vec<Room> {
        std::iter::from_fn(|| account.take(PART_BYTES_MAX).now_or_never()).collect()
    }

    #[test]
    fn a_peer_alone_has_what_is_shared_and_gives_it_back() {
        let budget = Budget::default();
        let account = budget.account(PeerId::random());
        let mut rooms = all(&account);
        assert_eq!(rooms[0].bytes(), PART_BYTES_MAX);
        assert_eq!(taken(&budget), SHARED_BYTES - RESERVE_BYTES + OWN_BYTES);
        rooms[0].shrink(10);
        assert_eq!(rooms[0].bytes(), 10);
        drop(rooms);
        assert_eq!(taken(&budget), 0);
        drop(account);
        assert!(budget.lock().peers.is_empty());
    }

    #[test]
    fn streams_that_take_nothing_leave_every_other_its_part() {
        let budget = Budget::default();
        let frozen: Vec<_> = (0..STREAMS_MAX - 1)
            .map(|_| budget.account(PeerId::random()))
            .collect();
        let pinned: Vec<_> = frozen.iter().map(all).collect();
        for rooms in &pinned {
            let held: usize = rooms.iter().map(Room::bytes).sum();
            assert!(held >= OWN_BYTES, "{held}");
            assert!(held <= OWN_BYTES + SHARED_BYTES / frozen.len(), "{held}");
        }
        let late = budget.account(PeerId::random());
        assert!(late.take(PART_BYTES_MAX).now_or_never().is_some());
        assert!(taken(&budget) <= BUDGET_BYTES);
    }

    #[test]
    fn what_many_hold_does_not_take_a_fast_readers_part() {
        let budget = Budget::default();
        let frozen: Vec<_> = (0..30).map(|_| budget.account(PeerId::random())).collect();
        // A part that is written, and one that is ready.
        let pinned: Vec<_> = frozen
            .iter()
            .map(|it| [(); 2].map(|()| it.take(PART_BYTES_MAX).now_or_never()))
            .collect();
        let fast = budget.account(PeerId::random());
        let room = fast.take(PART_BYTES_MAX).now_or_never().unwrap();
        assert!(room.bytes() >= PART_BYTES_SCARCE, "{}", room.bytes());
        drop(pinned);
    }

    #[test]
    fn peers_that_stop_leave_whole_parts_to_one_that_moves() {
        let budget = Budget::default();
        let frozen: Vec<_> = (0..12).map(|_| budget.account(PeerId::random())).collect();
        let pinned: Vec<_> = frozen.iter().map(all).collect();
        let fast = budget.account(PeerId::random());
        // One part is written, one is ready, and one is read.
        let mut held = VecDeque::<Room>::new();
        let mut passed = 0;
        while passed < 2 * SHARED_BYTES || held.len() < 3 {
            match fast.take(PART_BYTES_MAX).now_or_never() {
                Some(room) if held.len() < 3 => held.push_back(room),
                _ => passed += held.pop_front().unwrap().bytes(),
            }
        }
        for room in &held {
            assert!(room.bytes() >= PART_BYTES_MAX / 2, "{}", room.bytes());
        }
        drop(pinned);
    }

    #[tokio::test]
    async fn a_stream_waits_only_for_itself() {
        let budget = Budget::default();
        let hoarder = budget.account(PeerId::random());
        let hoard = all(&hoarder);
        let other = budget.account(PeerId::random());
        let mut rooms = all(&other);
        assert!(rooms.len() > 2, "its own two parts, and the reserve");
        let waits = other.take(1);
        tokio::pin!(waits);
        assert!((&mut waits).now_or_never().is_none());
        rooms.pop();
        assert_eq!(waits.await.bytes(), PART_BYTES_MIN);
        assert_eq!(budget.tally.waits.load(Relaxed), 3);
        drop(hoard);
    }

    #[test]
    fn a_reader_is_read_for_as_fast_as_it_reads() {
        let mut appetite = Appetite::default();
        let check = |appetite: &mut Appetite, rate: usize, expected| {
            for _ in 0..10 {
                let bytes = appetite.wish();
                let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
                appetite.took(bytes, time);
            }
            assert_eq!(appetite.wish(), expected, "{rate}");
        };
        check(&mut appetite, 500 << 20, PART_BYTES_MAX);
        check(&mut appetite, 50_000, PART_BYTES_MIN);
        check(&mut appetite, 2_000_000, 120_000);
        check(&mut appetite, 1, PART_BYTES_MIN);
    }
}
