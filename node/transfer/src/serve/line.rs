//! The line that everything is served over: whether it is slow, and whose turn it is then.
//!
//! A line is slow when a chunk takes it a quarter of a second or more. It is known to be slow by a
//! limit on what may be sent; otherwise it is measured. Until then it counts as slow: readers that come
//! together would all have the same block begun before anything is known, and a fast line is known
//! after 8 MiB. On a slow line a stream waits for its turn before each block that is not small, as
//! [`Turns`] decides. A stream that is dropped gives up its place.

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
use shoal_protocol::{
    address::Digest,
    turns::{PeerKey, ReaderId, Turns, TurnsConfig},
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::limits::Limiter;

/// Bytes per second below which a line is slow: a chunk takes a quarter of a second or more, as it does
/// on the uplinks of most homes. On a faster one, what turns save is less than a swarm needs to find out
/// who has what.
const SLOW_RATE: u64 = 4 << 20;
/// Over which time the line is measured.
const WINDOW: Duration = Duration::from_secs(2);
/// A write that takes longer has waited for the line or for its reader.
const BLOCKED: Duration = Duration::from_millis(50);

/// For how long a line counts as full after bytes had to wait for it: pieces of a quarter of a second
/// leave one after the other.
const FULL_FOR: Duration = Duration::from_millis(500);

/// How often those that wait look whether the line is still slow.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The timers' grain; looking sooner finds nothing new.
const GRAIN: Duration = Duration::from_millis(1);

/// The line of a node. Cheap to clone; all clones are one line.
#[derive(Clone)]
pub(super) struct Line {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limiter,
    started: Instant,
    /// As it was measured.
    is_slow: AtomicBool,
    next_reader: AtomicU64,
    turns_waited: AtomicU64,
    state: Mutex<State>,
}

struct State {
    turns: Turns,
    waiting: HashMap<ReaderId, oneshot::Sender<Digest>>,
    window: Window,
    /// When bytes had to wait for the line last, or for a limit.
    blocked: Option<Instant>,
}

/// What was seen of the line since it was last judged.
struct Window {
    since: Instant,
    bytes: u64,
    was_blocked: bool,
}

/// One stream's place at the line.
pub(super) struct LinePlace {
    line: Line,
    id: ReaderId,
    /// Whether a block is sent to it under its turn.
    has_turn: AtomicBool,
    turn_over: Notify,
}

impl Line {
    /// A line that counts as slow until it is known better.
    pub(super) fn new(limits: Limiter) -> Self {
        let now = Instant::now();
        let state = State {
            turns: Turns::new(TurnsConfig::default()),
            waiting: HashMap::new(),
            window: Window {
                since: now,
                bytes: 0,
                was_blocked: false,
            },
            blocked: None,
        };
        Self {
            shared: Arc::new(Shared {
                limits,
                started: now,
                is_slow: AtomicBool::new(true),
                next_reader: AtomicU64::new(0),
                turns_waited: AtomicU64::new(0),
                state: Mutex::new(state),
            }),
        }
    }

    /// A place for a new stream to `peer`.
    pub(super) fn place(&self, peer: &PeerId) -> LinePlace {
        let id = ReaderId(self.shared.next_reader.fetch_add(1, Relaxed));
        let mut state = self.lock();
        state.turns.join(id, key(peer), self.now());
        drop(state);
        LinePlace {
            line: self.clone(),
            id,
            has_turn: AtomicBool::new(false),
            turn_over: Notify::new(),
        }
    }

    /// Adds its numbers.
    pub(super) fn measure(&self, numbers: &mut Numbers) {
        numbers.gauge(
            "shoal_serve_line_is_slow",
            "Whether blocks are sent in turns, because the line takes a quarter of a second for one.",
            u64::from(self.is_slow()),
        );
        numbers.counter(
            "shoal_serve_turns_waited",
            "Blocks that waited for their turn on a slow line.",
            self.shared.turns_waited.load(Relaxed),
        );
    }

    /// Whether the line is slow, and more is to be sent than it carries.
    pub(super) fn is_full(&self) -> bool {
        let blocked = self.lock().blocked;
        self.is_slow() && blocked.is_some_and(|at| at.elapsed() < FULL_FOR)
    }

    fn is_slow(&self) -> bool {
        let limit = self.shared.limits.sending_rate();
        limit.is_some_and(|rate| rate < SLOW_RATE) || self.shared.is_slow.load(Relaxed)
    }

    /// Takes note of a write, and judges the line when there is enough to judge by.
    fn wrote(&self, state: &mut State, bytes: u64, took: Duration) {
        let window = &mut state.window;
        window.bytes = window.bytes.saturating_add(bytes);
        window.was_blocked |= took >= BLOCKED;
        let passed = window.since.elapsed();
        let most = SLOW_RATE * WINDOW.as_secs();
        // What comes fast is known at once.
        if passed < WINDOW && window.bytes < most {
            return;
        }
        // A window with a pause in it says nothing, unless it was one long write; nor does one in which
        // nobody had to wait.
        let is_whole = passed < 2 * WINDOW || took >= passed / 2;
        if window.bytes >= most && passed <= WINDOW {
            self.shared.is_slow.store(false, Relaxed);
        } else if window.was_blocked && is_whole {
            self.shared.is_slow.store(true, Relaxed);
        }
        *window = Window {
            since: Instant::now(),
            bytes: 0,
            was_blocked: false,
        };
    }

    /// Gives turns to those that have one now.
    fn serve(&self, state: &mut State) {
        let rate = self.shared.limits.sending_rate();
        state.turns.set_rate(rate);
        for (id, block) in state.turns.serve(self.now()) {
            let told = state.waiting.remove(&id).map(|turn| turn.send(block));
            if !matches!(told, Some(Ok(()))) {
                // It was dropped in this very moment.
                state.turns.withdraw(id, self.now());
            }
        }
    }

    /// When those that wait look whether they have their turn although nobody tells them.
    fn next_look(&self) -> Instant {
        let next = self.lock().turns.next_turn();
        let next = next.map(|next| self.shared.started + next + GRAIN);
        let latest = Instant::now() + LOOK_INTERVAL;
        next.map_or(latest, |next| next.min(latest))
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }
}

impl LinePlace {
    /// Whether blocks that are not small have to wait for their turn.
    pub(super) fn is_slow(&self) -> bool {
        self.line.is_slow()
    }

    /// What is served is a copy: see [`Turns::serves_copy`].
    pub(super) fn serves_copy(&self) {
        self.line.lock().turns.serves_copy(self.id);
    }

    /// Waits until one of these blocks has its turn, and says which; none when there are no turns
    /// any more, since the line is not slow. The turn lasts until [`Self::sent`] or
    /// [`Self::skipped`]. Dropping the future gives up the place in the queue.
    pub(super) async fn turn(&self, wants: &[Digest]) -> Option<Digest> {
        // One block has its turn at a time.
        loop {
            let over = self.turn_over.notified();
            if !self.has_turn.load(Relaxed) {
                break;
            }
            over.await;
        }
        let waiting = Waiting { place: self };
        let mut turn = {
            let mut state = self.line.lock();
            let asked = wants.iter().copied();
            state.turns.wait(self.id, asked, self.line.now());
            let (sender, turn) = oneshot::channel();
            state.waiting.insert(self.id, sender);
            self.line.serve(&mut state);
            turn
        };
        if let Ok(block) = turn.try_recv() {
            return Some(waiting.has_turn(block));
        }
        self.line.shared.turns_waited.fetch_add(1, Relaxed);
        loop {
            let look = tokio::time::sleep_until(self.line.next_look());
            tokio::select! {
                biased;
                Ok(block) = &mut turn => return Some(waiting.has_turn(block)),
                () = look => {}
            }
            if !self.is_slow() {
                return None;
            }
            let mut state = self.line.lock();
            if state.waiting.contains_key(&self.id) && !self.has_turn.load(Relaxed) {
                // A block that was read before may have begun meanwhile without a turn.
                let asked = wants.iter().copied();
                state.turns.wait(self.id, asked, self.line.now());
            }
            self.line.serve(&mut state);
        }
    }

    /// A block that is not small is sent from now on. It has its turn, if it had none before.
    pub(super) fn begins(&self, block: Digest) {
        if !self.has_turn.swap(true, Relaxed) {
            let mut state = self.line.lock();
            state.turns.begin(self.id, block, self.line.now());
        }
    }

    /// Bytes of a block were written, which took this long; with what they waited for a limit before
    /// that, `waited`.
    pub(super) fn wrote(&self, bytes: usize, took: Duration, waited: Duration) {
        let mut state = self.line.lock();
        if waited >= BLOCKED {
            state.blocked = Some(Instant::now());
        }
        self.line.wrote(&mut state, bytes as u64, took);
        if self.has_turn.load(Relaxed) {
            state.turns.moved(self.id, bytes as u64, self.line.now());
        }
    }

    /// The block that had its turn was sent whole.
    pub(super) fn sent(&self) {
        if self.has_turn.swap(false, Relaxed) {
            let mut state = self.line.lock();
            state.turns.done(self.id, self.line.now());
            self.line.serve(&mut state);
            drop(state);
            self.turn_over.notify_waiters();
        }
    }

    /// The block that had its turn is not sent after all.
    pub(super) fn skipped(&self) {
        if self.has_turn.swap(false, Relaxed) {
            let mut state = self.line.lock();
            state.turns.withdraw(self.id, self.line.now());
            self.line.serve(&mut state);
            drop(state);
            self.turn_over.notify_waiters();
        }
    }
}

impl Drop for LinePlace {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.turns.leave(self.id, self.line.now());
        state.waiting.remove(&self.id);
        self.line.serve(&mut state);
    }
}

/// A place in the queue, given up when dropped.
struct Waiting<'a> {
    place: &'a LinePlace,
}

impl Waiting<'_> {
    fn has_turn(self, block: Digest) -> Digest {
        self.place.has_turn.store(true, Relaxed);
        block
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.place.has_turn.load(Relaxed) {
            return;
        }
        let line = &self.place.line;
        let mut state = line.lock();
        state.waiting.remove(&self.place.id);
        state.turns.withdraw(self.place.id, line.now());
        line.serve(&mut state);
    }
}

/// What stands for a peer among the readers: a part of its public key.
fn key(peer: &PeerId) -> PeerKey {
    let bytes = peer.to_bytes();
    let last = bytes.last_chunk().copied().unwrap_or_default();
    PeerKey(u64::from_le_bytes(last))
}
