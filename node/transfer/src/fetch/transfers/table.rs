//! The transfers in memory: what each is, and which moves there are.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use shoal_store::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        FetchError, FetchRequest, Fetched, Outcome,
        progress::{Estimate, Progress, Snapshot, Totals},
        record::{Fate, LandingPlace, Reached, StoredRequest, TransferRecord, millis},
    },
    ControlError, FINISHED_MAX, FetchEvent, Pause, Stopping, Tell, Ticket, TransferInfo,
    TransferState,
};
use crate::limits::Pace;

pub(super) struct Table {
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) next_id: u64,
    next_serial: u64,
    /// Chunk payload of runs that have ended.
    pub(super) ended: Totals,
    /// Transfers that were one too many.
    pub(super) refused: u64,
    pub(super) tell: Tell,
    /// No run begins any more.
    pub(super) closed: bool,
    /// What is queued does not begin.
    pub(super) held: bool,
}

/// One transfer.
pub(super) struct Entry {
    pub(super) request: FetchRequest,
    created_ms: u64,
    pub(super) place: Option<LandingPlace>,
    /// Where it landed.
    pub(super) landed: Option<PathBuf>,
    reached: Reached,
    pub(super) pace: Pace,
    pub(super) state: State,
    tell: Tell,
}

/// Where a transfer is in its life.
pub(super) enum State {
    /// It begins when there is room.
    Queued(Run),
    Running(Run),
    Paused(Pause),
    Failed(String),
    Done,
    /// What it left is being taken away.
    Removing,
}

/// One run of a transfer, from its queueing to its end.
pub(super) struct Run {
    pub(super) serial: u64,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: CancellationToken,
    /// What becomes of it once it has stopped; the first word counts.
    pub(super) ending: Option<Ending>,
    /// How many wait for it.
    pub(super) waiting: usize,
    /// It runs on when nobody waits any more: somebody said so since the last one joined.
    pub(super) is_kept: bool,
    outcome: watch::Sender<Option<Outcome>>,
}

#[derive(Clone)]
pub(super) enum Ending {
    Pause(Pause),
    Remove,
}

impl Table {
    /// The table of what earlier processes left.
    pub(super) fn load(found: Vec<(u64, TransferRecord)>, next_id: u64, tell: Tell) -> Self {
        let entries = found
            .into_iter()
            .filter_map(|(id, record)| Some((id, Entry::from_record(record, &tell)?)));
        Self {
            entries: entries.collect(),
            next_id,
            next_serial: 0,
            ended: Totals::default(),
            refused: 0,
            tell,
            closed: false,
            held: false,
        }
    }

    /// The oldest transfer that is as wanted.
    pub(super) fn find(&self, wanted: impl Fn(&Entry) -> bool) -> Option<u64> {
        let mut entries = self.entries.iter();
        entries.find(|(_, entry)| wanted(entry)).map(|(id, _)| *id)
    }

    pub(super) fn known(&mut self, id: u64) -> Result<&mut Entry, ControlError> {
        let entry = self.entries.get_mut(&id);
        entry.ok_or_else(|| ControlError::Unknown(id.to_string()))
    }

    /// The transfers that run and get on: one whose disk does not answer takes nobody's place.
    pub(super) fn running(&self) -> usize {
        let states = self.entries.values().map(|entry| &entry.state);
        let gets_on = |run: &Run| run.progress.disk.waits_for().is_none();
        states
            .filter(|state| matches!(state, State::Running(run) if gets_on(run)))
            .count()
    }

    pub(super) fn unfinished(&self) -> usize {
        self.entries.values().filter(|it| !it.is_over()).count()
    }

    /// A new transfer, to be queued.
    pub(super) fn insert(&mut self, request: FetchRequest) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let entry = Entry {
            request,
            created_ms: now_ms(),
            place: None,
            landed: None,
            reached: Reached::default(),
            pace: Pace::default(),
            state: State::Paused(Pause::Stopped),
            tell: Arc::clone(&self.tell),
        };
        self.entries.insert(id, entry);
        id
    }

    /// Has a transfer that rests go on, maybe by another request for the same.
    pub(super) fn queue(
        &mut self,
        id: u64,
        request: Option<FetchRequest>,
        shutdown: &CancellationToken,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        self.next_serial += 1;
        let (outcome, _) = watch::channel(None);
        let run = Run {
            serial: self.next_serial,
            progress: Arc::default(),
            cancel: shutdown.child_token(),
            ending: None,
            waiting: 0,
            is_kept: false,
            outcome,
        };
        if let Some(request) = request {
            entry.request = request;
        }
        entry.change(id, |_| State::Queued(run));
    }

    /// One more waits for a run.
    pub(super) fn join(&mut self, id: u64) -> Option<Ticket> {
        let run = self.entries.get_mut(&id)?.run_mut()?;
        run.waiting += 1;
        run.is_kept = false;
        Some(Ticket {
            id,
            serial: run.serial,
            progress: Arc::clone(&run.progress),
            outcome: run.outcome.subscribe(),
        })
    }

    /// Gives up a transfer that could not be recorded.
    pub(super) fn refuse(&mut self, id: u64, error: &StoreError) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.change(id, |_| State::Failed(error.to_string()));
        }
    }

    /// Keeps the list of what is over short.
    pub(super) fn forget_oldest(&mut self) {
        let over = |table: &Self| table.entries.values().filter(|it| it.is_over()).count();
        while over(self) > FINISHED_MAX
            && let Some(id) = self.find(Entry::is_over)
        {
            self.entries.remove(&id);
        }
    }
}

impl Entry {
    fn from_record(record: TransferRecord, tell: &Tell) -> Option<Self> {
        Some(Self {
            request: record.request()?,
            created_ms: record.created_ms,
            place: record.place,
            landed: None,
            reached: record.reached,
            pace: Pace::of(record.limit),
            state: match record.fate {
                Fate::Active => State::Paused(Pause::Stopped),
                Fate::Paused(why) => State::Paused(why),
                Fate::Failed(why) => State::Failed(why),
                Fate::Removing => State::Removing,
            },
            tell: Arc::clone(tell),
        })
    }

    /// What the database keeps; nothing of what is over.
    pub(super) fn record(&self) -> Option<TransferRecord> {
        let fate = match &self.state {
            _ if self.is_over() => return None,
            State::Queued(_) | State::Running(_) | State::Done => Fate::Active,
            State::Paused(why) => Fate::Paused(why.clone()),
            State::Failed(why) => Fate::Failed(why.clone()),
            State::Removing => Fate::Removing,
        };
        Some(TransferRecord {
            request: StoredRequest::of(&self.request),
            created_ms: self.created_ms,
            fate,
            place: self.place.clone(),
            reached: self.reached,
            only: self.request.only.patterns().to_vec(),
            rename_unsafe: self.request.rename_unsafe,
            limit: self.pace.rate(),
            patience_ms: millis(self.request.deadlines.patience),
        })
    }

    /// Whether it has come to its end and left nothing that could be gone on with.
    pub(super) fn is_over(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Failed(_) => self.place.is_none(),
            _ => false,
        }
    }

    pub(super) fn is_listed(&self) -> bool {
        !matches!(self.state, State::Removing)
    }

    /// Whether it rests, and something may be left that the same fetch goes on with.
    pub(super) fn is_resumable(&self) -> bool {
        match &self.state {
            State::Paused(_) => true,
            State::Failed(_) => self.place.is_some(),
            _ => false,
        }
    }

    pub(super) fn run(&self) -> Option<&Run> {
        match &self.state {
            State::Queued(run) | State::Running(run) => Some(run),
            _ => None,
        }
    }

    pub(super) fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.state {
            State::Queued(run) | State::Running(run) => Some(run),
            _ => None,
        }
    }

    /// The run of a transfer that has ended; its next state is up to the caller.
    pub(super) fn take_run(&mut self) -> Option<Run> {
        match std::mem::replace(&mut self.state, State::Removing) {
            State::Queued(run) | State::Running(run) => Some(run),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Brings a transfer that does not run to rest, and tells those who waited for its turn.
    pub(super) fn rest(&mut self, id: u64, why: Pause) {
        if let State::Queued(run) = &self.state {
            run.tell(Err(match why {
                Pause::Asked => FetchError::Paused,
                _ => FetchError::Cancelled,
            }));
        }
        self.change(id, |_| State::Paused(why));
    }

    /// The one place where a transfer's state changes once it is in the table. That it is done is
    /// told by its run, which knows what came of it.
    pub(super) fn change(&mut self, id: u64, next: impl FnOnce(State) -> State) {
        self.state = next(std::mem::replace(&mut self.state, State::Removing));
        let root = &self.request.link.root;
        match (&self.state, self.info(id)) {
            (State::Done, _) => {}
            (_, Some(info)) => (self.tell)(FetchEvent::Changed(Box::new(info))),
            (_, None) => (self.tell)(FetchEvent::Removed { id, root }),
        }
    }

    /// How far it was when it last came to rest.
    pub(super) fn reached(&self) -> Reached {
        self.reached
    }

    /// Notes how far a run came. One that ended before it had looked at what was there says
    /// nothing.
    pub(super) fn reach(&mut self, at: &Snapshot) {
        let reached = Reached::at(at);
        if self.place.is_none() || reached.bytes >= self.reached.bytes {
            self.reached = reached;
        }
    }

    pub(super) fn info(&self, id: u64) -> Option<TransferInfo> {
        let state = match &self.state {
            State::Queued(_) => TransferState::Queued,
            State::Running(_) => TransferState::Running,
            State::Paused(why) => TransferState::Paused(why.clone()),
            State::Failed(why) => TransferState::Failed(why.clone()),
            State::Done => TransferState::Done,
            State::Removing => return None,
        };
        let decided = self.place.as_ref().map(|place| place.destination.path());
        let path = self.landed.clone().or(decided);
        let (progress, estimate) = match &self.state {
            State::Running(run) => {
                let at = run.progress.snapshot();
                (at, run.progress.estimate(&at))
            }
            _ => (self.reached.snapshot(), Estimate::default()),
        };
        Some(TransferInfo {
            id,
            root: self.request.link.root.clone(),
            path: path.unwrap_or_else(|| self.request.output.clone()),
            created_ms: self.created_ms,
            state,
            over: self.is_over(),
            progress,
            estimate,
            limit: self.pace.rate(),
            waits_for: self.run().and_then(|run| run.progress.disk.waits_for()),
        })
    }
}

impl State {
    /// Its name in lists.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Running(_) => "running",
            Self::Paused(_) => "paused",
            Self::Failed(_) => "failed",
            Self::Done => "done",
            Self::Removing => "removing",
        }
    }
}

impl Run {
    /// Whether it is not about to end.
    pub(super) fn is_joinable(&self) -> bool {
        self.ending.is_none() && !self.cancel.is_cancelled()
    }

    /// Stops it.
    pub(super) fn end(&mut self, ending: Ending) -> Stopping {
        // Removing is more than pausing, whoever said it first.
        if self.ending.is_none() || matches!(ending, Ending::Remove) {
            self.ending = Some(ending);
        }
        self.cancel.cancel();
        Stopping::Ending(self.outcome.subscribe())
    }

    /// Tells all who wait what came of it.
    pub(super) fn tell(&self, result: Result<Fetched, FetchError>) {
        self.outcome.send_replace(Some(result.map_err(Arc::new)));
    }
}

/// The wall clock, as rows keep it.
pub(in crate::fetch) fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
