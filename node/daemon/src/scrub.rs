//! The background scrub: re-hashes everything that is shared, slowly, again and again.
//!
//! One task reads a little, rests for as long as the [`Schedule`] says, and keeps in the home how
//! far it is: a restart goes on where it was, at most [`SAVE_INTERVAL`] of reading earlier. The
//! library marks what it finds, so that it is not served; this module tells of it and keeps the
//! list for people. It ends with the node, within one step.

mod schedule;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use shoal_api::{events::Event, types as api};
use shoal_ground::{said::and_more, wall_clock};
use shoal_protocol::{address::Cid, name::escaped};
use shoal_store::{
    Damage, Library, ScrubPosition, ShareState, ShareTotals, StoreError, Table, TableName,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::schedule::{Next, Schedule};
use super::observe::{Observer, Told};
use super::watch::Rates;
use crate::config::ScrubConfig;

/// The row that says how far it is, in JSON, so that later versions may add fields.
const ROW: &[u8] = b"scrub.state";

/// Between two writes of how far it is: what a crash makes it read again.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// After a failure of the database.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Bytes on the sockets per second from which on others need the disk and the line.
const BUSY_BYTES_PER_SECOND: u64 = 1 << 20;

/// Findings that are kept, the latest: at some 300 bytes each, 30 KiB. All are told when found.
const DAMAGED_MAX: usize = 100;

/// The scrub of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Scrub {
    inner: Arc<ScrubberInner>,
}

struct ScrubberInner {
    library: Library,
    table: Table,
    observer: Arc<Observer>,
    /// None when it never runs.
    schedule: Option<Schedule>,
    record: Mutex<Record>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// When the latest scrub began, in milliseconds since the Unix epoch; before the first one,
    /// when this home was first looked after.
    begun_ms: u64,
    /// When the latest one that came to its end did.
    finished_ms: Option<u64>,
    /// Whether one is under way.
    under_way: bool,
    /// Where that one goes on; at the beginning without one.
    position: Option<ScrubPosition>,
    /// What the latest one has read.
    checked_bytes: u64,
    /// What was found and may still be so.
    damaged: Vec<Damage>,
    /// When it was last written.
    #[serde(skip)]
    saved: Option<Instant>,
}

impl Scrub {
    pub(super) fn new(library: Library, observer: Arc<Observer>, config: ScrubConfig) -> Self {
        let inner = ScrubberInner {
            table: library.store().table(TableName::Node),
            library,
            observer,
            schedule: Schedule::new(config),
            record: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Goes on where the process before was, until `shutdown`.
    pub(super) fn start(&self, tasks: &TaskTracker, rates: Rates, shutdown: CancellationToken) {
        tasks.spawn(self.clone().run(rates, shutdown));
    }

    async fn run(self, rates: Rates, shutdown: CancellationToken) {
        let mut rest = self.blocking(|inner| inner.load()).await;
        while let Some(time) = rest {
            let resting = tokio::time::sleep(time);
            if shutdown.run_until_cancelled(resting).await.is_none() {
                self.blocking(|inner| inner.save().map(|()| None)).await;
                return;
            }
            let (up, down) = rates.current();
            let busy = up.saturating_add(down) >= BUSY_BYTES_PER_SECOND;
            rest = self.blocking(move |inner| inner.turn(busy)).await;
        }
    }

    /// Does something on a blocking thread. It says how long to rest then; `None` is for good.
    async fn blocking(
        &self,
        work: impl FnOnce(&ScrubberInner) -> Result<Option<Duration>, StoreError> + Send + 'static,
    ) -> Option<Duration> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(Ok(rest)) => rest,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the scrub could not go on and will try again");
                Some(RETRY_PAUSE)
            }
            Err(panic) => {
                tracing::error!(%panic, "the scrub failed and ends with this run of the node");
                None
            }
        }
    }

    /// Takes note that all files of a root were read by others, so that nothing of it is unreadable
    /// any more. Blocks on disk.
    pub(super) fn forget_unreadable(&self, root: &Cid) -> Result<(), StoreError> {
        let mut record = self.inner.lock();
        let before = record.damaged.len();
        record
            .damaged
            .retain(|damage| !damage.unreadable || damage.root != *root);
        let changed = record.damaged.len() != before;
        drop(record);
        match changed {
            true => self.inner.save(),
            false => Ok(()),
        }
    }

    /// How it is doing.
    pub(super) fn status(&self) -> api::Scrub {
        let inner = &self.inner;
        let record = inner.lock().clone();
        let damaged = record.damaged.iter().filter(|it| inner.is_current(it));
        let next_ms = match (&inner.schedule, record.under_way) {
            // A process that ends with its command has not begun to look after the home.
            // And no date follows from one of a clock that was plainly wrong.
            (Some(schedule), false) if is_a_time(record.begun_ms) => {
                Some(schedule.due_ms(record.begun_ms))
            }
            _ => None,
        };
        api::Scrub {
            state: match (&inner.schedule, record.under_way) {
                (None, _) => api::ScrubState::Off,
                (Some(_), true) => api::ScrubState::Running,
                (Some(_), false) => api::ScrubState::Waiting,
            },
            last_finished: record
                .finished_ms
                .filter(|it| is_a_time(*it))
                .and_then(timestamp),
            next: next_ms.and_then(timestamp),
            position: record
                .position
                .as_ref()
                .and_then(|position| inner.library.scrubbing(position)),
            checked_bytes: record.checked_bytes,
            total_bytes: ShareTotals::of(&inner.library.shares()).bytes,
            damaged: damaged.map(finding).collect(),
        }
    }
}

impl ScrubberInner {
    /// Takes up what the process before has left. The first scrub of a home is due an interval
    /// after the first start: what was just shared was just read.
    fn load(&self) -> Result<Option<Duration>, StoreError> {
        let row = self.table.get(ROW)?;
        let kept = row.and_then(|row| {
            serde_json::from_slice(&row)
                .inspect_err(|error| {
                    tracing::warn!(%error, "where the scrub was is not readable; it begins anew");
                })
                .ok()
        });
        match kept {
            Some(record) => *self.lock() = record,
            None => {
                self.lock().begun_ms = now_ms();
                self.save()?;
            }
        }
        Ok(Some(Duration::ZERO))
    }

    /// Does what is due now, and says how long to rest afterwards.
    fn turn(&self, busy: bool) -> Result<Option<Duration>, StoreError> {
        let Some(schedule) = &self.schedule else {
            return Ok(None);
        };
        let (begun_ms, under_way) = {
            let record = self.lock();
            (record.begun_ms, record.under_way)
        };
        match schedule.next(now_ms(), begun_ms, under_way) {
            Next::Wait(rest) => Ok(Some(rest)),
            Next::Begin => {
                self.begin()?;
                Ok(Some(Duration::ZERO))
            }
            Next::Step(cost_max) => {
                let began = Instant::now();
                let cost = self.step(cost_max)?;
                Ok(Some(schedule.rest(cost, began.elapsed(), busy)))
            }
        }
    }

    fn begin(&self) -> Result<(), StoreError> {
        tracing::info!("scrub begun");
        {
            let mut record = self.lock();
            let mut damaged = std::mem::take(&mut record.damaged);
            // What cannot be read is tried again. What differs is passed over, and stays known.
            damaged.retain(|damage| !damage.unreadable && self.is_current(damage));
            *record = Record {
                begun_ms: now_ms(),
                finished_ms: record.finished_ms,
                under_way: true,
                damaged,
                ..Record::default()
            };
        }
        self.save()
    }

    /// Reads what comes next, and says what that cost.
    fn step(&self, cost_max: u64) -> Result<u64, StoreError> {
        let from = self.lock().position.clone();
        let mut found = self.library.scrub(from, cost_max)?;
        let finished = found.position.is_none();
        let (save, end) = {
            let mut record = self.lock();
            record.checked_bytes = record.checked_bytes.saturating_add(found.bytes);
            record.position = found.position;
            // What an earlier pass found is told once.
            found.damaged.retain(|it| !record.damaged.contains(it));
            record.damaged.extend(found.damaged.iter().cloned());
            let too_many = record.damaged.len().saturating_sub(DAMAGED_MAX);
            record.damaged.drain(..too_many);
            if finished {
                record.under_way = false;
                record.finished_ms = Some(now_ms());
            }
            let is_due = record.saved.is_none_or(|it| it.elapsed() >= SAVE_INTERVAL);
            let end = finished.then_some(record.checked_bytes);
            (finished || is_due || !found.damaged.is_empty(), end)
        };
        if save {
            self.save()?;
        }
        for damage in &found.damaged {
            let found = Event::DamageFound(finding(damage));
            self.observer.tell(Told::Node(Box::new(found)));
        }
        if let Some(checked_bytes) = end {
            let finished = Event::ScrubFinished { checked_bytes };
            self.observer.tell(Told::Node(Box::new(finished)));
        }
        Ok(found.cost)
    }

    fn save(&self) -> Result<(), StoreError> {
        let row = {
            let mut record = self.lock();
            record.saved = Some(Instant::now());
            serde_json::to_vec(&*record)
        };
        let row = row.map_err(|error| StoreError::Database {
            detail: format!("how far the scrub is cannot be written: {error}"),
        })?;
        self.table.put(ROW, &row)
    }

    /// Whether what was found may still be so: a share that was marked and is live again is whole.
    fn is_current(&self, damage: &Damage) -> bool {
        let shares = self.library.shares_of(&damage.root);
        shares.iter().any(|share| {
            let is_marked = matches!(share.state, ShareState::Changed(_));
            is_marked || (damage.unreadable && share.state == ShareState::Live)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }
}

/// The warning that belongs to what the scrub has found.
pub(super) fn warning(scrub: &api::Scrub) -> Option<String> {
    let first = scrub.damaged.first()?;
    let path = first.path.to_string_lossy();
    let more = and_more(scrub.damaged.len() as u64, 1);
    let todo = match first.unreadable {
        true => "check its permissions and the disk, then run `shoal verify`",
        false => "check the disk, bring it back from another copy, then run `shoal verify`",
    };
    let (path, reason) = (escaped(&path), &first.reason);
    Some(format!(
        "the scrub found damage: {path}{more}: {reason}; {todo}"
    ))
}

fn finding(damage: &Damage) -> api::Damage {
    api::Damage {
        cid: damage.root.to_string(),
        path: PathBuf::clone(&damage.path),
        reason: damage.reason.clone(),
        unreadable: damage.unreadable,
    }
}

/// Whether it can be a time at which a scrub began or ended: none was kept, or the clock was plainly
/// wrong then, where it is not.
fn is_a_time(ms: u64) -> bool {
    wall_clock::wrong(UNIX_EPOCH + Duration::from_millis(ms)).is_none()
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
