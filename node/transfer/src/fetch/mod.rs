//! Fetching: from a link to files in their final place.
//!
//! The [`Fetcher`] owns all transfers of the process. A transfer has a blocking half (`supply`,
//! `landing`: what is needed, what is here, what was written) and an asynchronous half
//! (`transfer`: who is asked for what), joined by bounded channels. It ends with the share in the
//! library and served, or with an error that says why; progress is kept unless there was none.
//! Which transfers there are, and what state each is in, is `transfers`'s: asking for the same
//! root at the same destination again attaches to the running transfer, or goes on with the one
//! that rests.
//!
//! Its futures are boxed: so they are compiled in this package, and not anew in each that awaits
//! them.

mod answer;
mod asked;
mod assembly;
mod attached;
mod buffers;
mod claims;
mod colleagues;
mod contacts;
mod discovery;
mod disk;
mod error;
mod find;
mod fits;
mod halves;
mod heard;
mod inquiry;
mod job;
mod journal;
mod landing;
mod listing;
mod look;
mod names;
mod offer;
mod only;
mod pause;
mod place;
mod progress;
mod pull;
mod record;
mod reputation;
mod session;
mod slots;
mod span;
mod stream;
mod supply;
mod transfer;
mod transfers;
mod unflushed;
mod verdict;
mod waiting;
mod zeros;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId};
use shoal_ground::{metrics::Numbers, units::Rate};
use shoal_net::Net;
use shoal_protocol::{address::Cid, link::Link, name::SafeName};
use shoal_store::{Library, ShareId, Store, StoreError};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

pub use self::{
    attached::Attached,
    error::FetchError,
    find::FoundProvider,
    names::Renamed,
    only::Only,
    pause::Pause,
    place::Unkept,
    progress::{Estimate, Phase, Snapshot, Totals},
    stream::{Report, StreamRequest, Streamed},
    supply::Skipped,
    transfers::{ControlError, FetchEvent, TransferInfo, TransferState, Transfers},
    verdict::Deadlines,
};
use self::{
    buffers::Buffers,
    claims::Claims,
    job::Job,
    landing::Landing,
    progress::MEASURE_INTERVAL,
    record::LandingPlace,
    reputation::Reputation,
    stream::Streams,
    transfers::{Started, Stopping},
    unflushed::Unflushed,
};
use crate::{limits::Limiter, replicate::Replicator, swarm::Swarms};

/// How often one who waits for the end of a transfer looks whether its disk answers.
const STUCK_POLL: Duration = Duration::from_millis(100);

/// What to fetch, and where to.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The link to the content.
    pub link: Link,
    /// Absolute. An existing directory means "into it".
    pub output: PathBuf,
    /// "Into it" even when the directory is not there yet.
    pub into: bool,
    /// Peers to try before the DHT answers, beside those of the link.
    pub peers: Vec<Multiaddr>,
    /// What of it.
    pub only: Only,
    /// Replace files that are at the destination.
    pub overwrite: bool,
    /// Give other names to what cannot keep its own.
    pub rename_unsafe: bool,
    /// Serve what has landed from then on, if it is what its address says.
    pub serve: bool,
    /// Wait until everything is on the disk.
    pub sync: bool,
    /// How long it does without bytes.
    pub deadlines: Deadlines,
}

/// A fetch that is done.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The root.
    pub cid: Cid,
    /// The place where it landed.
    pub path: PathBuf,
    /// Bytes of all files.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// The time from the start of this run.
    pub elapsed: Duration,
    /// Bytes of chunks that peers sent.
    pub downloaded_bytes: u64,
    /// Bytes of chunks that earlier runs had landed.
    pub resumed_bytes: u64,
    /// Bytes of chunks that came from files of this node.
    pub local_bytes: u64,
    /// Files and links that were not asked for.
    pub left_out: u64,
    /// What landed under another name.
    pub renamed: Renamed,
    /// Symlinks that would have led outside and were not made.
    pub skipped: Skipped,
    /// Symlinks that were not made, as the file system has none.
    pub unmade: Skipped,
    /// What else the file system did not keep.
    pub unkept: Unkept,
    /// The peers that sent chunks, and how many bytes.
    pub from: Vec<(PeerId, u64)>,
}

/// The outcome that all who wait for a transfer share.
pub type Outcome = Result<Fetched, Arc<FetchError>>;

/// Runs all transfers.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<FetcherInner>,
}

struct FetcherInner {
    store: Store,
    library: Library,
    net: Net,
    limits: Limiter,
    strict: bool,
    swarms: Arc<Swarms>,
    replicator: Replicator,
    buffers: Buffers,
    streams: Streams,
    offences: Arc<Reputation>,
    transfers: Transfers,
    claims: Arc<Claims>,
    /// Whether what is stopped with the node goes on with the next one.
    resumes: AtomicBool,
    tasks: TaskTracker,
    /// Fires when the node is asked to stop, before `shutdown`.
    stopping: CancellationToken,
    shutdown: CancellationToken,
}

impl FetchRequest {
    /// Whether both are content with one run.
    fn is_same(&self, other: &Self) -> bool {
        let how = |it: &Self| (it.overwrite, it.rename_unsafe, it.serve, it.sync);
        self.is_same_place(other) && how(self) == how(other)
    }

    /// Whether both are about the same content at the same place, as it was spelled.
    fn is_same_place(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.output.clone(), it.into);
        self.is_same_content(other) && place(self) == place(other)
    }

    /// Whether both land the same.
    fn is_same_content(&self, other: &Self) -> bool {
        let what = |it: &Self| (it.link.root.clone(), it.link.path.clone(), it.only.clone());
        what(self) == what(other)
    }

    /// Whether all of the root is fetched, and not a part of it.
    fn is_whole(&self) -> bool {
        self.link.path.is_empty() && self.only.is_all()
    }

    /// Whether what lands is to be served, and is something that has an address.
    fn is_served(&self) -> bool {
        self.serve && self.only.is_all()
    }
}

/// What a [`Fetcher`] works with.
pub struct Deps {
    /// The database.
    pub store: Store,
    /// The view of the shares.
    pub library: Library,
    /// The network.
    pub net: Net,
    /// The budgets of the line.
    pub limits: Limiter,
    /// Whether a dearer provider is never asked for what a cheaper one has.
    pub strict: bool,
    /// Whether no run begins: what is queued goes on with the next node.
    pub holds: bool,
    /// What serving knows of the same roots.
    pub swarms: Arc<Swarms>,
    /// What near peers keep for each other.
    pub replicator: Replicator,
    /// The transfers that an earlier run left.
    pub transfers: Transfers,
    /// Fires when the node is asked to stop.
    pub stopping: CancellationToken,
    /// Ends all transfers.
    pub shutdown: CancellationToken,
}

impl Fetcher {
    /// A fetcher that runs nothing yet, but takes away what earlier processes began to.
    pub fn new(deps: Deps) -> Self {
        let inner = Arc::new(FetcherInner {
            store: deps.store,
            library: deps.library,
            net: deps.net,
            limits: deps.limits,
            strict: deps.strict,
            swarms: deps.swarms,
            replicator: deps.replicator,
            buffers: Buffers::default(),
            streams: Streams::default(),
            offences: Arc::default(),
            transfers: deps.transfers,
            claims: Arc::default(),
            resumes: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stopping: deps.stopping,
            shutdown: deps.shutdown,
        });
        if deps.holds {
            inner.transfers.hold();
        }
        for (id, place) in inner.transfers.half_removed() {
            let inner = Arc::clone(&inner);
            inner
                .tasks
                .clone()
                .spawn_blocking(move || inner.remove(id, place));
        }
        Self { inner }
    }

    /// Goes on with what ended with an earlier process, looks for what rests for want of providers,
    /// and leaves what this one does not finish to the next: what a daemon does.
    pub fn resume_stopped(&self) {
        let inner = &self.inner;
        inner.transfers.resume_stopped();
        inner.start_queued();
        if !inner.resumes.swap(true, Relaxed) {
            inner.tasks.spawn(Arc::clone(inner).look_for_resting());
        }
    }

    /// Starts a transfer, goes on with one that rests, or attaches to the one that does the same.
    ///
    /// # Errors
    /// [`FetchError::Busy`] when too many are unfinished, and [`FetchError::Cancelled`] when this
    /// node shuts down.
    pub fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<Attached, FetchError>> {
        Box::pin(self.open(request))
    }

    async fn open(&self, request: FetchRequest) -> Result<Attached, FetchError> {
        let ticket = self.inner.transfers.open(request)?;
        let attached = Attached::new(Arc::clone(&self.inner), ticket);
        if let Err(error) = self.inner.record().await {
            self.inner.transfers.refuse(attached.id(), &error);
            return Err(error.into());
        }
        self.inner.start_queued();
        Ok(attached)
    }

    /// All transfers: those that are not over, and the last of those that are; oldest first.
    pub fn transfers(&self) -> Vec<TransferInfo> {
        self.inner.transfers.list()
    }

    /// Has the transfer that `target` names rest, its progress kept; returns when it does.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such transfer, or nothing to pause.
    pub async fn pause(&self, target: &str) -> Result<TransferInfo, ControlError> {
        let transfers = &self.inner.transfers;
        let id = transfers.resolve(target)?;
        if let Stopping::Ending(outcome) = transfers.pause(id)?
            && let Some(Ok(_)) = self.ended_or_stuck(id, outcome).await?
        {
            return Err(ControlError::Done(id));
        }
        self.inner.record().await?;
        self.info(id)
    }

    /// Goes on with the transfer that `target` names, whether anybody waits for it or not.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such transfer, or it is done.
    pub async fn resume(&self, target: &str) -> Result<TransferInfo, ControlError> {
        let id = self.inner.transfers.resolve(target)?;
        self.inner.transfers.resume(id)?;
        self.inner.record().await?;
        self.inner.start_queued();
        self.info(id)
    }

    /// Sets what the transfer that `target` names may receive, at once and for the times it goes on.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such transfer, or it is done.
    pub async fn limit(&self, target: &str, rate: Rate) -> Result<TransferInfo, ControlError> {
        let id = self.inner.transfers.resolve(target)?;
        self.inner.transfers.limit(id, rate)?;
        self.inner.record().await?;
        self.info(id)
    }

    /// Ends the transfer that `target` names and takes away all that it left; returns it as it was.
    ///
    /// # Errors
    /// [`ControlError`] when there is no such transfer, when it was done before it could be ended,
    /// and when something cannot be taken away.
    pub async fn cancel(&self, target: &str) -> Result<TransferInfo, ControlError> {
        let transfers = &self.inner.transfers;
        let id = transfers.resolve(target)?;
        let info = self.info(id)?;
        loop {
            let told = transfers.remove(id)?;
            self.inner.record().await?;
            let outcome = match told {
                Stopping::Now => return Ok(info),
                Stopping::Remove(place) => {
                    let inner = Arc::clone(&self.inner);
                    let removing = self
                        .inner
                        .tasks
                        .spawn_blocking(move || inner.remove(id, place));
                    let removed = removing.await.unwrap_or_else(|panic| Err(panic.into()));
                    let failed = |error| ControlError::Removal(Arc::new(error));
                    return removed.map(|()| info).map_err(failed);
                }
                Stopping::Ending(outcome) => outcome,
            };
            match self.ended_or_stuck(id, outcome).await? {
                Some(Ok(_)) => return Err(ControlError::Done(id)),
                Some(Err(error)) => match error.as_ref() {
                    FetchError::Removed => return Ok(info),
                    // It came to rest before it heard that it is to go.
                    FetchError::Cancelled | FetchError::Paused => {}
                    _ => return Err(ControlError::Removal(error)),
                },
                None => return Err(ControlError::Unknown(id.to_string())),
            }
        }
    }

    /// What came of a run that was told to end; an error when its disk does not let it.
    async fn ended_or_stuck(
        &self,
        id: u64,
        mut outcome: watch::Receiver<Option<Outcome>>,
    ) -> Result<Option<Outcome>, ControlError> {
        loop {
            let ended = outcome.wait_for(Option::is_some);
            if let Ok(ended) = tokio::time::timeout(STUCK_POLL, ended).await {
                return Ok(ended.ok().and_then(|it| it.clone()));
            }
            let info = self.inner.transfers.info(id);
            if let Some(at) = info.and_then(|it| it.waits_for) {
                return Err(ControlError::Silent { id, at });
            }
        }
    }

    fn info(&self, id: u64) -> Result<TransferInfo, ControlError> {
        let info = self.inner.transfers.info(id);
        info.ok_or_else(|| ControlError::Unknown(id.to_string()))
    }

    /// Looks for providers of a link's root.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] when nobody provides it within `timeout`, and
    /// [`FetchError::Denied`] at once when all who could be asked say that they do not.
    pub fn find<'a>(
        &'a self,
        link: &'a Link,
        timeout: Duration,
        on_answer: &'a (dyn Fn(&[FoundProvider]) + Sync),
    ) -> BoxFuture<'a, Result<Vec<FoundProvider>, FetchError>> {
        Box::pin(async move {
            let found = self.inner.find(link, timeout, on_answer);
            let found = self.inner.shutdown.run_until_cancelled(found).await;
            found.unwrap_or(Err(FetchError::Cancelled))
        })
    }

    /// Chunk payload that was verified since the process started.
    pub fn totals(&self) -> Totals {
        let mut totals = self.inner.transfers.totals();
        self.inner.streams.add_to(&mut totals);
        totals
    }

    /// Adds its numbers, but for the bytes and what is told as events.
    pub fn measure(&self, numbers: &mut Numbers) {
        let inner = &self.inner;
        inner.transfers.measure(numbers);
        numbers.gauge(
            "shoal_fetch_buffers_bytes",
            "Memory of blocks that came from peers and are not landed yet.",
            inner.buffers.taken_bytes(),
        );
        inner.offences.measure(numbers);
    }

    /// Waits until every transfer and every flush has ended; the token was cancelled before.
    pub async fn ended(&self) {
        self.inner.transfers.close();
        if let Err(error) = self.inner.record().await {
            tracing::warn!(%error, "the state of the transfers was not recorded");
        }
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl FetcherInner {
    /// Writes the rows of transfers that have changed, on a thread that may block.
    async fn record(self: &Arc<Self>) -> Result<(), StoreError> {
        let inner = Arc::clone(self);
        let writing = self.tasks.spawn_blocking(move || inner.transfers.flush());
        writing.await.unwrap_or_else(|panic| {
            let detail = panic.to_string();
            Err(StoreError::Database { detail })
        })
    }

    /// The same for one who cannot wait for it.
    fn record_later(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        let write = move || {
            if let Err(error) = inner.transfers.flush() {
                tracing::warn!(%error, "the state of a transfer was not recorded");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(_) => drop(self.tasks.spawn_blocking(write)),
            Err(_) => write(),
        }
    }

    /// Begins runs as long as there are some that wait, and room for them.
    fn start_queued(self: &Arc<Self>) {
        while let Some(started) = self.transfers.start_next() {
            let inner = Arc::clone(self);
            let span = span::transfer(started.id, &started.request.link.root);
            let running = async move { inner.run(started).await };
            self.tasks.spawn(running.instrument(span));
        }
    }

    /// Runs a transfer to its end, and the next one after it.
    async fn run(self: Arc<Self>, started: Started) {
        let (id, progress) = (started.id, Arc::clone(&started.progress));
        let cancel = started.cancel.clone();
        let job = Job::new(Arc::clone(&self), started);
        let mut running = span::spawn(&self.tasks, job.run(cancel));
        let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
        let joined = loop {
            tokio::select! {
                joined = &mut running => break joined,
                _ = ticks.tick() => progress.measure(),
            }
        };
        let mut result = joined.unwrap_or_else(|panic| Err(panic.into()));
        let inner = Arc::clone(&self);
        let ending = span::spawn_blocking(&self.tasks, move || {
            if result.is_err()
                && let Some(place) = inner.transfers.is_to_be_removed(id)
            {
                let removed = inner.take_away(place);
                result = removed.and(Err(FetchError::Removed));
            }
            inner.transfers.ended(id, result);
        });
        if let Err(panic) = ending.await {
            tracing::error!(transfer = id, %panic, "a transfer did not come to rest");
        }
        self.start_queued();
    }

    /// Takes away what a transfer left that is nobody's any more. Blocking.
    fn remove(&self, id: u64, place: Option<LandingPlace>) -> Result<(), FetchError> {
        let taken = self.take_away(place);
        self.transfers.removed(id, &taken);
        taken
    }

    /// Why a transfer rests that nobody waits for any more.
    fn left(&self) -> Pause {
        match self.stopping.is_cancelled() && self.resumes.load(Relaxed) {
            true => Pause::Stopped,
            false => Pause::Interrupted,
        }
    }

    /// Brings a landed share of a transfer to the disk in the background, and records that it is
    /// there.
    fn flush_later(self: &Arc<Self>, landing: Arc<Landing>, share: ShareId, id: u64) {
        let inner = Arc::clone(self);
        span::spawn_blocking(&self.tasks, move || {
            let part = landing.part();
            let failed = |error| FetchError::Destination(part.about("", &error));
            let flushed = part.flush().map_err(failed);
            let recorded = flushed.and_then(|()| {
                inner.library.flushed(share)?;
                Ok(Unflushed::of(&inner.store).forget(id)?)
            });
            if let Err(error) = recorded {
                // The boot id stays in the record, so after a power loss everything is re-hashed.
                tracing::warn!(%error, "a fetched share could not be flushed to disk");
            }
        });
    }
}

/// The name that content lands under when the destination is a directory: the last part of the
/// link's path, else its name, else its address.
fn destination_name(link: &Link) -> Result<SafeName, FetchError> {
    if let Some(last) = link.path.last() {
        return Ok(last.clone());
    }
    match &link.name {
        Some(name) => Ok(name.clone()),
        None => SafeName::parse(&link.root.to_string()).map_err(FetchError::Name),
    }
}
