//! What connections are good for: how long each has carried nothing, and which of them end.
//!
//! The streams of the exchange tell what they move, the limits choose by it which connection gives
//! way to a new one, and whoever decides to close a connection says so here at once, for libp2p
//! tells the other parts only when it is closed. One entry for each connection, from its first
//! packet to its end; moving bytes takes no lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use parking_lot::{Mutex, MutexGuard};

/// Bytes that are progress: what the slowest line that is served, 4 kB/s, moves in a second. So a
/// peer cannot keep its place by a byte now and then.
const STEP_BYTES: u64 = 4 << 10;

/// How long progress counts: hundreds of peers that have just been served and then freeze keep
/// others out for no longer. A sender on a line of 4 kB/s hears every 2 s that there is room, when
/// half of the 16 KiB have left that the system keeps for a slow line.
const PROGRESS_AGE_MAX: Duration = Duration::from_secs(3);

/// What one connection has done.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    /// Bytes since the last step.
    moved: AtomicU64,
    /// Milliseconds from `since` to the last step, plus one; 0 before the first.
    step_at: AtomicU64,
    /// Streams of content that are open, either way.
    streams: AtomicUsize,
    neighbour: AtomicBool,
    closing: AtomicBool,
}

impl Activity {
    /// Of a connection that began at `since`.
    pub(super) fn new(since: Instant) -> Self {
        Self {
            since,
            moved: AtomicU64::new(0),
            step_at: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            neighbour: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// Content or questions about it have moved, either way.
    pub(super) fn moved(&self, bytes: usize) {
        if self.moved.fetch_add(bytes as u64, Relaxed) + bytes as u64 >= STEP_BYTES {
            self.moved.store(0, Relaxed);
            self.step(Instant::now());
        }
    }

    fn step(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.since).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX - 1);
        self.step_at.store(millis + 1, Relaxed);
    }

    /// For how long it has moved next to nothing; none while it makes progress.
    pub(super) fn idle(&self, now: Instant) -> Option<Duration> {
        let age = now.saturating_duration_since(self.since);
        match self.step_at.load(Relaxed) {
            0 => Some(age),
            at => {
                let idle = age.saturating_sub(Duration::from_millis(at - 1));
                (idle > PROGRESS_AGE_MAX).then_some(idle)
            }
        }
    }

    /// Whether it has ever made progress.
    pub(super) fn has_moved(&self) -> bool {
        self.step_at.load(Relaxed) > 0
    }

    /// Whether a stream of content is open.
    pub(super) fn is_used(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }

    /// Takes note that it is kept as that of a neighbour.
    pub(super) fn keep(&self) {
        self.neighbour.store(true, Relaxed);
    }

    /// Takes note that it is not kept any more.
    pub(super) fn release(&self) {
        self.neighbour.store(false, Relaxed);
    }

    pub(super) fn is_neighbour(&self) -> bool {
        self.neighbour.load(Relaxed)
    }

    /// Takes note that this node closes it: no new stream is opened on it.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }
}

/// An open stream of content, until it is dropped.
#[derive(Debug)]
pub(super) struct Use(Arc<Activity>);

impl Use {
    pub(super) fn of(activity: Arc<Activity>) -> Self {
        activity.streams.fetch_add(1, Relaxed);
        Self(activity)
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// The activity of all connections. Cheap to clone; all clones are one table.
#[derive(Debug, Clone, Default)]
pub(super) struct Activities(Arc<Mutex<HashMap<ConnectionId, Arc<Activity>>>>);

impl Activities {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Arc<Activity>>> {
        self.0.lock()
    }

    /// That of a connection, which begins now if nothing was known of it.
    pub(super) fn of(&self, connection: ConnectionId) -> Arc<Activity> {
        let mut table = self.lock();
        let activity = table
            .entry(connection)
            .or_insert_with(|| Arc::new(Activity::new(Instant::now())));
        Arc::clone(activity)
    }

    /// Forgets a connection that has ended.
    pub(super) fn forget(&self, connection: ConnectionId) {
        self.lock().remove(&connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_while_a_stream_is_open() {
        let activity = Arc::new(Activity::new(Instant::now()));
        let uses = [
            Use::of(Arc::clone(&activity)),
            Use::of(Arc::clone(&activity)),
        ];
        assert!(activity.is_used());
        let [first, second] = uses;
        drop(first);
        assert!(activity.is_used());
        drop(second);
        assert!(!activity.is_used());
    }

    #[test]
    fn progress_is_what_a_slow_line_moves_and_it_ages() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let activity = Activity::new(start);
        assert_eq!(activity.idle(after(3)), Some(Duration::from_secs(3)));
        for _ in 0..4095 {
            activity.moved(1);
        }
        assert_eq!(activity.idle(after(3)), Some(Duration::from_secs(3)));
        activity.moved(1);
        assert_eq!(activity.idle(after(1)), None, "4 KiB have moved");
        activity.step(after(100));
        assert_eq!(activity.idle(after(103)), None);
        assert_eq!(activity.idle(after(165)), Some(Duration::from_secs(65)));
    }
}
