//! Budgets: how much of the line a node may use, and of the month.
//!
//! A limit counts bytes on the sockets, whatever they are for. It holds back bulk only: what is
//! served and what is fetched waits for its turn in small pieces, before it is written and before
//! it is read, and pays for everything else that moves. So the DHT, pings and requests are never
//! late because of a limit, and the sum is exact all the same (`bucket`).
//!
//! What is in force is the newest word: what was set while a node runs, which is kept over restarts
//! (`kept`); else a flag of this start; else the schedule; else the configuration. Used up, the
//! month's budget ends serving and fetching with `Spent`; the rest goes on.
//!
//! `Limiter` is cheap to clone. Two tasks work for it until shutdown: one lets through whose turn it
//! is, the other keeps the books; `kill -9` loses half a minute of them.

mod books;
mod bucket;
mod calendar;
mod config;
mod copies;
mod gate;
mod kept;
mod pace;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::{Timestamp, Zoned};
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::units::{Rate, Size};
use shoal_net::{Traffic, Way};
use shoal_store::StoreError;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::config::{Flags, LimitsConfig, Period, ResetDay};
use self::{
    books::Books,
    copies::{Copies, CopiesDay, Terms},
    gate::Gate,
    kept::Month,
};
pub use self::{
    books::{InForce, Origin, Standing},
    kept::Kept,
};
pub(crate) use self::{bucket::Class, pace::Pace};

/// How often the books are kept: schedule and months are followed this closely.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two saves of what the month has used: what `kill -9` forgets.
const SAVE_TICKS: u32 = 30;

/// The month's budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this month's traffic budget of {cap} is used up until {resets}")]
pub struct Spent {
    /// The budget.
    pub cap: Size,
    /// When the next month begins.
    pub resets: Timestamp,
}

/// What is to be changed of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays.
    #[default]
    Keep,
    /// What was set is forgotten: the configuration counts.
    Forget,
    /// It is set.
    Set(T),
}

impl<T> Change<T> {
    fn apply(self, to: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Forget => *to = None,
            Self::Set(limit) => *to = Some(limit),
        }
    }
}

/// What is to be changed of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of what the node may send.
    pub up: Change<Rate>,
    /// Of what it may receive.
    pub down: Change<Rate>,
    /// Of what it may send and receive in a month.
    pub monthly: Change<Size>,
}

/// The budgets of a node. Cheap to clone.
#[derive(Clone)]
pub struct Limiter {
    inner: Arc<LimiterInner>,
    /// What the one transfer may receive that this is for.
    pace: Pace,
    /// The class in which it receives.
    class: Class,
}

struct LimiterInner {
    up: Arc<Gate>,
    down: Arc<Gate>,
    copies: Copies,
    traffic: Traffic,
    /// Bytes on the sockets since the start at which the month's budget is used up; without one,
    /// never.
    month_ends_at: AtomicU64,
    books: Mutex<Books>,
    kept: Kept,
    /// Held while a change is written, so that the last one made is the last one kept.
    changing: tokio::sync::Mutex<()>,
    /// Wakes the task that lets through.
    wake: Arc<Notify>,
}

impl Limiter {
    /// Takes the limits up where the last run left them.
    pub fn new(config: LimitsConfig, kept: Kept, traffic: Traffic) -> Self {
        let now = Zoned::now();
        let wake = Arc::<Notify>::default();
        let gate = |way| Arc::new(Gate::new(traffic.clone(), way, Arc::clone(&wake)));
        let inner = LimiterInner {
            up: gate(Way::Up),
            down: gate(Way::Down),
            copies: Copies::new(kept.copies),
            month_ends_at: AtomicU64::new(u64::MAX),
            books: Mutex::new(Books::new(config, kept.live, kept.month, &now)),
            traffic,
            kept,
            changing: tokio::sync::Mutex::default(),
            wake,
        };
        let limits = Self {
            inner: Arc::new(inner),
            pace: Pace::default(),
            class: Class::User,
        };
        limits.keep_books(&now);
        limits
    }

    /// Starts what works for the limits.
    pub fn start(&self, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let gates = [Arc::clone(&self.inner.up), Arc::clone(&self.inner.down)];
        tasks.spawn(gate::pump(
            gates,
            Arc::clone(&self.inner.wake),
            shutdown.clone(),
        ));
        tasks.spawn(self.clone().book_keeping(shutdown.clone()));
        let helping = self.inner.copies.pace().clone();
        tasks.spawn(helping.keep(shutdown.clone()));
    }

    /// Waits until some of `bytes` may be sent, and says how many.
    ///
    /// # Errors
    /// [`Spent`] when the month's budget is used up, or the part of it that copies for others have.
    pub(crate) async fn send(&self, class: Class, bytes: usize) -> Result<usize, Spent> {
        if class != Class::Help {
            return self.take(&self.inner.up, class, bytes).await;
        }
        let copies = &self.inner.copies;
        if copies.is_spent() {
            return Err(self.month_spent());
        }
        let bytes = copies.pace().take(bytes).await;
        let taken = self.take(&self.inner.up, class, bytes).await?;
        copies.pace().received(taken);
        copies.moved(taken);
        Ok(taken)
    }

    /// Whether what copies for others may use is used up for today.
    pub(crate) fn copies_spent(&self) -> bool {
        self.is_spent() || self.inner.copies.is_spent()
    }

    /// The limit on what is sent, in bytes per second, if there is one.
    pub(crate) fn sending_rate(&self) -> Option<u64> {
        self.inner.up.rate()
    }

    /// The same budgets for one transfer with a limit of its own.
    pub(crate) fn paced(&self, pace: Pace) -> Self {
        Self {
            pace,
            ..self.clone()
        }
    }

    /// The same budgets, for what is received in another class than that of a person's fetch.
    pub(crate) fn of_class(&self, class: Class) -> Self {
        Self {
            class,
            ..self.clone()
        }
    }

    /// The limit on what is received, in bytes per second, if there is one.
    pub(crate) fn receiving_rate(&self) -> Option<u64> {
        self.inner.down.rate()
    }

    /// Waits until some of `bytes` may be received, and says how many. What came of it is told with
    /// [`Limiter::received`].
    ///
    /// # Errors
    /// [`Spent`] when the month's budget is used up.
    pub(crate) async fn receive(&self, bytes: usize) -> Result<usize, Spent> {
        let bytes = self.pace.take(bytes).await;
        self.take(&self.inner.down, self.class, bytes).await
    }

    /// So many bytes of the transfer were received.
    pub fn received(&self, bytes: usize) {
        self.pace.received(bytes);
        if self.class == Class::Replicate {
            self.inner.copies.moved(bytes);
        }
    }

    async fn take(&self, gate: &Gate, class: Class, bytes: usize) -> Result<usize, Spent> {
        if self.is_spent() {
            return Err(self.month_spent());
        }
        let taken = gate.take(class, bytes as u64).await;
        Ok(usize::try_from(taken).unwrap_or(bytes).min(bytes))
    }

    /// The month's budget, if it is used up.
    pub fn spent(&self) -> Option<Spent> {
        self.is_spent().then(|| self.month_spent())
    }

    /// What a fetch may have in flight, at most `most`: under a limit, what is on its way is moved
    /// before the limit can hold it back.
    pub fn in_flight(&self, most: u64) -> u64 {
        let rates = [self.inner.down.rate(), self.pace.bytes_per_second()];
        let limited = rates.into_iter().flatten().map(bucket::in_flight_max);
        limited.min().map_or(most, |bytes| bytes.min(most))
    }

    /// How the budgets stand now.
    pub fn standing(&self) -> Standing {
        let now = Zoned::now();
        self.keep_books(&now);
        self.lock().standing(&now)
    }

    /// Changes limits, now and for later runs.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing is changed.
    pub async fn change(&self, changes: Changes) -> Result<(), StoreError> {
        let _turn = self.inner.changing.lock().await;
        let mut live = self.lock().live;
        changes.up.apply(&mut live.up);
        changes.down.apply(&mut live.down);
        changes.monthly.apply(&mut live.monthly);
        self.on_disk(move |kept| kept.save_live(&live)).await?;
        self.lock().live = live;
        let Standing {
            up, down, monthly, ..
        } = self.standing();
        tracing::info!(up = %up.limit, down = %down.limit, monthly = %monthly.limit, "limits set");
        Ok(())
    }

    fn is_spent(&self) -> bool {
        let ends_at = self.inner.month_ends_at.load(Relaxed);
        ends_at != u64::MAX && self.inner.traffic.total() >= ends_at
    }

    fn month_spent(&self) -> Spent {
        let standing = self.lock().standing(&Zoned::now());
        Spent {
            cap: standing.monthly.limit,
            resets: standing.resets,
        }
    }

    /// Counts what has moved, and puts in force what holds at `now`.
    fn keep_books(&self, now: &Zoned) {
        let inner = &self.inner;
        let mut books = self.lock();
        let moved = (inner.traffic.bytes(Way::Up), inner.traffic.bytes(Way::Down));
        books.count(moved, now);
        let ends_at = books.left().map_or(u64::MAX, |left| {
            moved.0.saturating_add(moved.1).saturating_add(left)
        });
        inner.month_ends_at.store(ends_at, Relaxed);
        // Under the lock, so that what is set last is what was found last.
        let standing = books.standing(now);
        inner.up.set_rate(standing.up.limit.bytes_per_second());
        inner.down.set_rate(standing.down.limit.bytes_per_second());
        inner.copies.keep(&Terms {
            up: standing.up.limit.bytes_per_second(),
            monthly: standing.monthly.limit.bytes(),
            sent: moved.0,
            today: now.date(),
            now: Instant::now(),
        });
    }

    async fn book_keeping(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saved = self.used();
        for tick in 1_u32.. {
            let ending = tokio::select! {
                () = shutdown.cancelled() => true,
                _ = ticks.tick() => false,
            };
            self.keep_books(&Zoned::now());
            let used = self.used();
            if used != saved && (ending || tick.is_multiple_of(SAVE_TICKS)) {
                let save = move |kept: &Kept| {
                    kept.save_month(&used.0)?;
                    used.1.map_or(Ok(()), |day| kept.save_copies(&day))
                };
                match self.on_disk(save).await {
                    Ok(()) => saved = used,
                    Err(error) => tracing::warn!(%error, "the month's traffic was not saved"),
                }
            }
            if ending {
                return;
            }
        }
    }

    /// What the month has used, and what of the day copies have.
    fn used(&self) -> (Month, Option<CopiesDay>) {
        (self.lock().month, self.inner.copies.day())
    }

    async fn on_disk(
        &self,
        write: impl FnOnce(&Kept) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let kept = self.inner.kept.clone();
        let written = tokio::task::spawn_blocking(move || write(&kept)).await;
        written.unwrap_or_else(|panic| {
            Err(StoreError::Database {
                detail: panic.to_string(),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.inner.books.lock()
    }
}
