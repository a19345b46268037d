//! The plan that is in force in this process, and what its links have carried so far.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};
use shoal_ground::units::Rate;
use tokio::{sync::watch, time::Instant};

use super::Plan;

/// An emulated network, as far as it is in this process. Cheap to clone; all clones are one.
///
/// Connections ask it what their link is like whenever something passes. It owns the clock that all
/// times here are counted by, and what is shared by all connections of a node: what its line has
/// still to carry.
#[derive(Clone)]
pub struct Emulator {
    inner: Arc<EmulatorInner>,
}

struct EmulatorInner {
    /// What times are counted from.
    epoch: Instant,
    /// The same moment in milliseconds of Unix time.
    epoch_ms: u64,
    plan: RwLock<Arc<Plan>>,
    /// Changes with every plan, so that whoever keeps what one says of a link knows when to ask
    /// again.
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    /// What each line, and each link with a rate of its own, has still to carry. As many as the
    /// network has lines and links that this process takes part in.
    lanes: Mutex<HashMap<Lane, Arc<Bucket>>>,
    /// Connections, which may wait for a change. As many as there are, and as many again that have
    /// ended, at most.
    waiting: Mutex<Vec<Weak<dyn Wait>>>,
}

/// Something with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Up(usize),
    Down(usize),
    SiteUp(usize),
    SiteDown(usize),
    Link(Option<usize>, Option<usize>),
}

/// Who waits for a plan to change.
pub(super) trait Wait: Send + Sync {
    /// Looks at the link again.
    fn wake(&self);
}

/// Ended connections that may be remembered before they are swept out.
const ENDED_MAX: usize = 64;

impl Emulator {
    /// A network as `plan` says.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let since_unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let epoch_ms = since_unix.map_or(0, |since| since.as_millis());
        let (changed, _) = watch::channel(plan.version);
        let inner = EmulatorInner {
            epoch: Instant::now(),
            epoch_ms: u64::try_from(epoch_ms).unwrap_or(u64::MAX),
            plan: RwLock::new(Arc::new(plan)),
            generation: AtomicU64::new(0),
            changed,
            lanes: Mutex::default(),
            waiting: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Puts another plan in force, at once and for what is connected too. What is on its way
    /// arrives when it would have, unless its link is blocked now.
    pub fn apply(&self, plan: Plan) {
        let version = plan.version;
        {
            let mut current = write(&self.inner.plan);
            *current = Arc::new(plan);
            // What lines had still to carry was counted by rates that no longer hold.
            lock(&self.inner.lanes).clear();
            self.inner.generation.fetch_add(1, Ordering::Release);
        }
        self.inner.changed.send_replace(version);
        let waiting: Vec<_> = lock(&self.inner.waiting)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for connection in waiting {
            connection.wake();
        }
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.inner.plan.read())
    }

    /// Tells of each plan that comes into force.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// The time now, from the emulator's start on.
    pub(crate) fn now(&self) -> Duration {
        self.inner.epoch.elapsed()
    }

    /// When a time is.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.inner.epoch + at
    }

    pub(super) fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// How long the network of a plan had been running when the emulator started.
    pub(super) fn age(&self, plan: &Plan) -> Duration {
        match plan.started_ms {
            0 => Duration::ZERO,
            started => Duration::from_millis(self.inner.epoch_ms.saturating_sub(started)),
        }
    }

    pub(super) fn lane(&self, lane: Lane) -> Arc<Bucket> {
        Arc::clone(lock(&self.inner.lanes).entry(lane).or_default())
    }

    /// Has a connection woken when the plan changes, for as long as it is there.
    pub(super) fn waits(&self, connection: Weak<dyn Wait>) {
        let mut waiting = lock(&self.inner.waiting);
        if waiting.len() == waiting.capacity() {
            waiting.retain(|known| known.strong_count() > 0);
            let room = waiting.len().max(ENDED_MAX);
            waiting.reserve(room);
        }
        waiting.push(connection);
    }
}

impl PartialEq for Emulator {
    /// Whether they are the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Emulator {}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("version", &self.plan().version)
            .finish_non_exhaustive()
    }
}

/// What something with a rate has still to carry: when all that it was given will have passed.
#[derive(Debug, Default)]
pub(super) struct Bucket(Mutex<Duration>);

impl Bucket {
    /// Gives it bytes at `now`, and says when the last of them will have passed.
    pub(super) fn take(&self, now: Duration, bytes: usize, rate: Rate) -> Duration {
        let Some(rate) = rate.bytes_per_second() else {
            return now;
        };
        let mut passed = lock(&self.0);
        if bytes == 0 {
            return (*passed).max(now);
        }
        *passed = (*passed).max(now).saturating_add(time_for(bytes, rate));
        *passed
    }

    /// When all that it was given will have passed.
    pub(super) fn passed(&self) -> Duration {
        *lock(&self.0)
    }
}

/// How long bytes take at so many per second.
fn time_for(bytes: usize, rate: u64) -> Duration {
    let nanos = (bytes as u128).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write()
}
