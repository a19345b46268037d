//! All transfers of a home, each in exactly one state, and the only place that moves one.
//!
//! ```text
//!            +----------------- resume, the same fetch again -----------------+
//!            v                                                                |
//!         queued ---> running ---> done                                       |
//!            |           |                                                    |
//!            +-----------+---> paused (why), failed (why) --------------------+
//!            any but done ---> removing ---> gone
//! ```
//!
//! What is not over has a row in the database, so it survives every end of the process; what is
//! over (done, or failed with nothing left behind) is only remembered here, for listing. Changes of
//! rows are noted under the lock and written after it ([`outbox`]): by the methods that say that
//! they block, and by [`Transfers::flush`] after all others. Running a transfer and cleaning up
//! after it are its owner's, the [`Fetcher`](super::Fetcher).

mod error;
mod event;
mod numbers;
mod outbox;
mod resting;
mod table;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use shoal_ground::{budgets::TRANSFERS_MAX, units::Rate};
use shoal_protocol::address::Cid;
use shoal_store::{ShareId, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub(super) use self::table::now_ms;
pub use self::{error::ControlError, event::FetchEvent};
use self::{
    event::Tell,
    outbox::Outbox,
    table::{Ending, Entry, Run, State, Table},
};
use super::{
    FetchError, FetchRequest, Fetched, Outcome, Pause,
    progress::{Estimate, Progress, Snapshot},
    record::{Fate, LandingPlace, Records, TransferRecord},
    unflushed::Unflushed,
};
use crate::limits::Pace;

/// Transfers that are not over, in any state: about 1 KiB each in memory and in the database.
pub(super) const UNFINISHED_MAX: usize = 1024;

/// Transfers that are over and still listed.
const FINISHED_MAX: usize = 64;

/// The state of a transfer as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferState {
    /// It waits for its turn.
    Queued,
    /// It is on its way.
    Running,
    /// It rests for this reason.
    Paused(Pause),
    /// It is done.
    Done,
    /// It failed for this reason.
    Failed(String),
}

/// A transfer as it is listed.
#[derive(Clone, Debug)]
pub struct TransferInfo {
    /// Its number.
    pub id: u64,
    /// The root.
    pub root: Cid,
    /// Where it lands, or landed; what was asked for until that is decided.
    pub path: PathBuf,
    /// When it was asked for, in milliseconds of Unix time.
    pub created_ms: u64,
    /// The state that it is in.
    pub state: TransferState,
    /// Whether nothing of it is left to go on with or to clean up.
    pub over: bool,
    /// How far it is.
    pub progress: Snapshot,
    /// How fast it is.
    pub estimate: Estimate,
    /// What it may receive.
    pub limit: Rate,
    /// The disk that does not answer, by where it is mounted, while the transfer waits for one.
    pub waits_for: Option<PathBuf>,
}

/// What [`Transfers::pause`] and [`Transfers::remove`] leave to be waited for.
pub(super) enum Stopping {
    /// It rests, or is gone, already.
    Now,
    /// Its run has been told, and ends with this outcome.
    Ending(watch::Receiver<Option<Outcome>>),
    /// It is nobody's any more: take away what it left, then say so with [`Transfers::removed`].
    Remove(Option<LandingPlace>),
}

/// A run to be carried out.
pub(super) struct Started {
    pub(super) id: u64,
    pub(super) request: FetchRequest,
    pub(super) progress: Arc<Progress>,
    pub(super) pace: Pace,
    pub(super) cancel: CancellationToken,
}

/// What one who waits for a run holds of it.
pub(super) struct Ticket {
    pub(super) id: u64,
    pub(super) serial: u64,
    pub(super) progress: Arc<Progress>,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
}

/// The transfers of a home.
pub struct Transfers {
    outbox: Outbox,
    /// Cancelled when the node shuts down, and every run with it.
    shutdown: CancellationToken,
    table: Mutex<Table>,
    /// A transfer has come to rest for want of providers.
    rested: Notify,
}

impl Transfers {
    /// Reads what earlier processes left, and mends what a power loss has undone. Blocking; nothing
    /// runs yet.
    pub fn load(
        store: &Store,
        on_event: impl Fn(FetchEvent<'_>) + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        Unflushed::of(store).settle()?;
        let records = Records::new(store.clone());
        let (found, next_id) = records.load()?;
        let table = Table::load(found, next_id, Arc::new(on_event));
        Ok(Self {
            outbox: Outbox::new(records),
            shutdown,
            table: Mutex::new(table),
            rested: Notify::new(),
        })
    }

    /// The shares that transfers land in which are not to be served.
    #[must_use]
    pub fn unserved(&self) -> Vec<ShareId> {
        let table = self.lock();
        let entries = table.entries.values();
        let unserved = entries.filter(|entry| !entry.request.is_served());
        unserved
            .filter_map(|entry| Some(entry.place.as_ref()?.share))
            .collect()
    }

    /// Joins the run that does what is asked for, queues the transfer that did not come to its end,
    /// or makes a new one.
    pub(super) fn open(&self, request: FetchRequest) -> Result<Ticket, FetchError> {
        let mut table = self.lock();
        if table.closed {
            return Err(FetchError::Cancelled);
        }
        let joins = |entry: &Entry| {
            let joinable = entry.run().is_some_and(Run::is_joinable);
            joinable && entry.request.is_same(&request)
        };
        if let Some(id) = table.find(joins) {
            return table.join(id).ok_or(FetchError::Cancelled);
        }
        let goes_on = |entry: &Entry| entry.is_resumable() && entry.request.is_same_place(&request);
        let id = match table.find(goes_on) {
            Some(id) => id,
            None if table.unfinished() >= UNFINISHED_MAX => {
                table.refused += 1;
                return Err(FetchError::Busy(UNFINISHED_MAX));
            }
            None => table.insert(request.clone()),
        };
        table.queue(id, Some(request), &self.shutdown);
        self.outbox.note_next_id(table.next_id);
        if let Some(entry) = table.entries.get(&id) {
            self.persist(entry, id);
        }
        table.join(id).ok_or(FetchError::Cancelled)
    }

    /// Writes the rows that have changed. Blocking.
    ///
    /// # Errors
    /// When the database fails. What cannot be written now, on a full disk for instance, is written
    /// with the next change, or found by the next start as it was.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.outbox.flush()
    }

    /// Gives up a transfer that could not be recorded: it would be lost with the process, and its
    /// part with it.
    pub(super) fn refuse(&self, id: u64, error: &StoreError) {
        self.lock().refuse(id, error);
    }

    /// The next run to be carried out, if there is one and room for it.
    pub(super) fn start_next(&self) -> Option<Started> {
        let mut table = self.lock();
        if table.closed || table.held || table.running() >= TRANSFERS_MAX {
            return None;
        }
        let id = table.find(|entry| matches!(entry.state, State::Queued(_)))?;
        let entry = table.entries.get_mut(&id)?;
        let (progress, cancel) = {
            let run = entry.run()?;
            (Arc::clone(&run.progress), run.cancel.clone())
        };
        entry.change(id, |state| match state {
            State::Queued(run) => State::Running(run),
            other => other,
        });
        Some(Started {
            id,
            request: entry.request.clone(),
            pace: entry.pace.clone(),
            progress,
            cancel,
        })
    }

    /// Queues every transfer that ended with its process and was not paused.
    pub(super) fn resume_stopped(&self) {
        let mut table = self.lock();
        let stopped = |entry: &Entry| matches!(entry.state, State::Paused(Pause::Stopped));
        while let Some(id) = table.find(stopped) {
            table.queue(id, None, &self.shutdown);
        }
    }

    /// The transfers whose removal was begun and not ended.
    pub(super) fn half_removed(&self) -> Vec<(u64, Option<LandingPlace>)> {
        let table = self.lock();
        let entries = table.entries.iter();
        let removing = entries.filter(|(_, entry)| matches!(entry.state, State::Removing));
        removing
            .map(|(id, entry)| (*id, entry.place.clone()))
            .collect()
    }

    /// The number that a person's word for a transfer stands for: the number itself, or the
    /// beginning of the root of one transfer, of one that is not over if there is one.
    pub(super) fn resolve(&self, target: &str) -> Result<u64, ControlError> {
        let table = self.lock();
        let unknown = || ControlError::Unknown(target.to_owned());
        if let Ok(id) = target.parse() {
            let known = table.entries.get(&id).filter(|entry| entry.is_listed());
            return known.map(|_| id).ok_or_else(unknown);
        }
        let matching = |over: bool| {
            let entries = table.entries.iter();
            let named = entries.filter(|(_, entry)| {
                let root = entry.request.link.root.to_string();
                entry.is_listed() && entry.is_over() == over && root.starts_with(target)
            });
            named.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        let mut ids = matching(false);
        if ids.is_empty() {
            ids = matching(true);
        }
        match ids.as_slice() {
            [] => Err(unknown()),
            [id] if !target.is_empty() => Ok(*id),
            _ => Err(ControlError::Ambiguous {
                target: target.to_owned(),
                ids,
            }),
        }
    }

    /// Has a transfer rest until it is asked for again.
    pub(super) fn pause(&self, id: u64) -> Result<Stopping, ControlError> {
        let mut table = self.lock();
        let entry = table.known(id)?;
        match &mut entry.state {
            State::Done => return Err(ControlError::Done(id)),
            State::Failed(_) => return Err(ControlError::Failed(id)),
            State::Removing => return Err(ControlError::Unknown(id.to_string())),
            State::Running(run) => return Ok(run.end(Ending::Pause(Pause::Asked))),
            State::Queued(_) | State::Paused(_) => entry.rest(id, Pause::Asked),
        }
        self.persist(entry, id);
        Ok(Stopping::Now)
    }

    /// Queues a transfer that rests, although nobody waits for it. One that runs does not rest when
    /// those who wait for it leave.
    pub(super) fn resume(&self, id: u64) -> Result<(), ControlError> {
        let mut table = self.lock();
        let entry = table.known(id)?;
        match &mut entry.state {
            State::Done => return Err(ControlError::Done(id)),
            State::Removing => return Err(ControlError::Unknown(id.to_string())),
            // One that is being paused comes to rest first, and is asked again then.
            State::Queued(run) | State::Running(run) => {
                run.is_kept = true;
                return Ok(());
            }
            State::Paused(_) | State::Failed(_) => {}
        }
        table.queue(id, None, &self.shutdown);
        self.persist(table.known(id)?, id);
        Ok(())
    }

    /// Sets what a transfer may receive from now on, also once it goes on.
    pub(super) fn limit(&self, id: u64, rate: Rate) -> Result<(), ControlError> {
        let mut table = self.lock();
        let entry = table.known(id)?;
        match &entry.state {
            State::Done => return Err(ControlError::Done(id)),
            State::Removing => return Err(ControlError::Unknown(id.to_string())),
            _ => entry.pace.set(rate),
        }
        self.persist(entry, id);
        Ok(())
    }

    /// Ends a transfer for good.
    pub(super) fn remove(&self, id: u64) -> Result<Stopping, ControlError> {
        let mut table = self.lock();
        let entry = table.known(id)?;
        match &mut entry.state {
            State::Removing => return Err(ControlError::Unknown(id.to_string())),
            State::Running(run) => return Ok(run.end(Ending::Remove)),
            State::Queued(run) => run.tell(Err(FetchError::Removed)),
            State::Paused(_) | State::Failed(_) | State::Done => {}
        }
        if entry.is_over() {
            table.entries.remove(&id);
            return Ok(Stopping::Now);
        }
        entry.change(id, |_| State::Removing);
        self.persist(entry, id);
        Ok(Stopping::Remove(entry.place.clone()))
    }

    /// What a removed transfer left was taken away, or could not be. Blocking.
    pub(super) fn removed(&self, id: u64, result: &Result<(), FetchError>) {
        self.note_removed(id, result);
        self.flush_or_warn(id);
    }

    fn note_removed(&self, id: u64, result: &Result<(), FetchError>) {
        let mut table = self.lock();
        match result {
            Ok(()) => {
                table.entries.remove(&id);
                self.outbox.note(id, None);
            }
            Err(error) => {
                let Some(entry) = table.entries.get_mut(&id) else {
                    return;
                };
                let left = format!("what it left could not be removed: {error}");
                entry.change(id, |_| State::Failed(left));
                self.persist(entry, id);
            }
        }
    }

    /// Whether a run was told to leave nothing behind.
    pub(super) fn is_to_be_removed(&self, id: u64) -> Option<Option<LandingPlace>> {
        let table = self.lock();
        let entry = table.entries.get(&id)?;
        let removes = matches!(entry.run()?.ending, Some(Ending::Remove));
        removes.then(|| entry.place.clone())
    }

    /// A run has ended: its transfer comes to rest, and those who wait are told. Blocking.
    pub(super) fn ended(&self, id: u64, result: Result<Fetched, FetchError>) {
        let mut table = self.lock();
        let Some(mut entry) = table.entries.remove(&id) else {
            return;
        };
        let Some(run) = entry.take_run() else {
            table.entries.insert(id, entry);
            return;
        };
        let at = run.progress.snapshot();
        table.ended.add(&at);
        entry.reach(&at);
        let result = match (result, &run.ending) {
            // Whoever stopped it is told so, and not that it stopped.
            (Err(FetchError::Cancelled), Some(Ending::Pause(Pause::Asked))) => {
                Err(FetchError::Paused)
            }
            (result, _) => result,
        };
        let gone = matches!(result, Err(FetchError::Removed));
        let state = match &result {
            Ok(fetched) => {
                (entry.place, entry.landed) = (None, Some(fetched.path.clone()));
                State::Done
            }
            Err(FetchError::Cancelled | FetchError::Paused) => match &run.ending {
                Some(Ending::Pause(why)) => State::Paused(why.clone()),
                _ => State::Paused(Pause::Stopped),
            },
            Err(FetchError::Removed) => State::Removing,
            // Of what nobody waits for, nobody else would know that it did not come.
            Err(error)
                if error.is_want_of_providers() && (entry.place.is_some() || run.waiting == 0) =>
            {
                State::Paused(Pause::NoProvider(error.to_string()))
            }
            Err(error) if entry.place.is_some() && !error.is_verdict() => {
                State::Paused(Pause::Problem(error.to_string()))
            }
            Err(error) => State::Failed(error.to_string()),
        };
        let is_wanting = matches!(state, State::Paused(Pause::NoProvider(_)));
        entry.change(id, |_| state);
        (table.tell)(FetchEvent::Ended {
            id,
            result: &result,
        });
        if gone {
            self.outbox.note(id, None);
        } else {
            self.persist(&entry, id);
            table.entries.insert(id, entry);
            table.forget_oldest();
        }
        drop(table);
        self.flush_or_warn(id);
        run.tell(result);
        if is_wanting {
            self.rested.notify_one();
        }
    }

    /// One who waited for a run does so no longer. True when nobody does now, and it comes to rest.
    pub(super) fn leave(&self, id: u64, serial: u64, why: Pause) -> bool {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(&id) else {
            return false;
        };
        let Some(run) = entry.run_mut().filter(|run| run.serial == serial) else {
            return false;
        };
        run.waiting = run.waiting.saturating_sub(1);
        if run.waiting > 0 || run.is_kept {
            return false;
        }
        if matches!(entry.state, State::Queued(_)) {
            entry.rest(id, why);
            self.persist(entry, id);
        } else if let Some(run) = entry.run_mut() {
            run.end(Ending::Pause(why));
        }
        true
    }

    /// Where a transfer lands.
    pub(super) fn place(&self, id: u64) -> Option<LandingPlace> {
        self.lock().entries.get(&id)?.place.clone()
    }

    /// Records where a transfer lands; none when nothing of it is left there. Blocking.
    pub(super) fn set_place(&self, id: u64, place: Option<LandingPlace>) -> Result<(), StoreError> {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.place = place;
            self.persist(entry, id);
        }
        self.flush()
    }

    /// What a transfer has moved into place is the person's from now on: a process that ends before
    /// the transfer is over leaves nothing but its rows to be taken away. Blocking.
    pub(super) fn let_go(&self, id: u64) -> Result<(), StoreError> {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(&id) else {
            return Ok(());
        };
        if let Some(place) = &mut entry.place {
            place.moving = None;
        }
        let Some(record) = entry.record() else {
            return Ok(());
        };
        let fate = Fate::Removing;
        self.outbox
            .note(id, Some(TransferRecord { fate, ..record }));
        drop(table);
        self.flush()
    }

    /// Takes over what another transfer of the same content left at the same place, whoever spelled
    /// it how. That transfer is no more. The caller holds the claim on the place. Blocking.
    pub(super) fn inherit(
        &self,
        id: u64,
        is_place: impl Fn(&LandingPlace) -> bool,
    ) -> Result<Option<LandingPlace>, StoreError> {
        let mut table = self.lock();
        let Some(request) = table.entries.get(&id).map(|it| it.request.clone()) else {
            return Ok(None);
        };
        let left = |entry: &Entry| {
            let same = entry.is_resumable() && entry.request.is_same_content(&request);
            same && entry.place.as_ref().is_some_and(&is_place)
        };
        let Some(other) = table.find(left) else {
            return Ok(None);
        };
        let place = table.entries.remove(&other).and_then(|it| it.place);
        if let Some(entry) = table.entries.get_mut(&id) {
            entry.place.clone_from(&place);
            self.persist(entry, id);
        }
        self.outbox.note(other, None);
        drop(table);
        self.flush()?;
        Ok(place)
    }

    /// All transfers that are listed, oldest first.
    pub(super) fn list(&self) -> Vec<TransferInfo> {
        let table = self.lock();
        let entries = table.entries.iter();
        entries.filter_map(|(id, entry)| entry.info(*id)).collect()
    }

    pub(super) fn info(&self, id: u64) -> Option<TransferInfo> {
        self.lock().entries.get(&id)?.info(id)
    }

    /// Lets nothing that is queued begin.
    pub(super) fn hold(&self) {
        self.lock().held = true;
    }

    /// Lets nothing begin any more. What is queued goes on at the next start.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        for (id, entry) in &mut table.entries {
            if let State::Queued(run) = &entry.state {
                run.tell(Err(FetchError::Cancelled));
                entry.change(*id, |_| State::Paused(Pause::Stopped));
            }
        }
    }

    /// Notes what the database is to keep of a transfer.
    fn persist(&self, entry: &Entry, id: u64) {
        self.outbox.note(id, entry.record());
    }

    fn flush_or_warn(&self, id: u64) {
        if let Err(error) = self.flush() {
            tracing::warn!(transfer = id, %error, "a transfer's state was not recorded");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}
