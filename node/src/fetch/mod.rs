//! Fetching: from a link to files in their final place.
//!
//! The [`Fetcher`] owns all transfers of the process. A transfer has a blocking half ([`supply`],
//! [`landing`]: what is needed, what is here, what was written) and an asynchronous half
//! ([`transfer`]: who is asked for what), joined by bounded channels. It ends with the share in the
//! library and served, or with an error that says why; progress is kept unless there was none.
//! Asking for the same root at the same destination again attaches to the running transfer.

mod buffers;
mod claims;
mod contacts;
mod discovery;
mod error;
mod feeder;
mod find;
mod finish;
mod halves;
mod job;
mod journal;
mod landing;
mod place;
mod progress;
mod record;
mod reputation;
mod session;
mod supply;
mod transfer;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use shoal_protocol::{address::Cid, link::Link, name::SafeName, walk::Tree};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    claims::Claims, halves::Halves, job::Job, landing::Landing, progress::Progress,
    reputation::Reputation, transfer::Sink,
};
pub(crate) use self::{
    error::FetchError,
    find::FoundProvider,
    progress::{Phase, Snapshot},
};
use crate::{
    net::Net,
    store::{Library, ShareId, Store},
};

/// Transfers that run at a time; each takes a part of the shared buffers, so more would only be
/// slower together.
const TRANSFERS_MAX: usize = 16;

/// What to fetch, and where to.
#[derive(Clone, Debug)]
pub(crate) struct FetchRequest {
    pub(crate) link: Link,
    /// Absolute. An existing directory means "into it".
    pub(crate) output: PathBuf,
    /// "Into it" even when the directory is not there yet.
    pub(crate) into: bool,
    /// Peers to try before the DHT answers, beside those of the link.
    pub(crate) peers: Vec<Multiaddr>,
    pub(crate) overwrite: bool,
    /// Wait until everything is on the disk.
    pub(crate) sync: bool,
    /// The longest time without progress.
    pub(crate) timeout: Duration,
}

/// A fetch that is done.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) cid: Cid,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) files: u64,
    pub(crate) elapsed: Duration,
    pub(crate) downloaded_bytes: u64,
    pub(crate) resumed_bytes: u64,
    pub(crate) local_bytes: u64,
    /// Symlinks that would have led outside and were not made, the first of them.
    pub(crate) skipped: Vec<PathBuf>,
    pub(crate) skipped_total: u64,
    pub(crate) from: Vec<(PeerId, u64)>,
}

/// The outcome that all who wait for a transfer share.
pub(crate) type Outcome = Result<Fetched, Arc<FetchError>>;

/// Runs and knows all transfers.
#[derive(Clone)]
pub(crate) struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    library: Library,
    net: Net,
    buffers: Arc<Semaphore>,
    offences: Arc<Reputation>,
    running: Mutex<HashMap<Key, Arc<Running>>>,
    claims: Arc<Claims>,
    next_id: AtomicU64,
    downloaded_bytes: AtomicU64,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// What makes two requests the same transfer: what is fetched, where to, and what is promised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    root: Cid,
    path: Vec<SafeName>,
    output: PathBuf,
    into: bool,
    overwrite: bool,
    sync: bool,
}

impl Key {
    fn of(request: &FetchRequest) -> Self {
        Self {
            root: request.link.root.clone(),
            path: request.link.path.clone(),
            output: request.output.clone(),
            into: request.into,
            overwrite: request.overwrite,
            sync: request.sync,
        }
    }
}

struct Running {
    id: u64,
    request: FetchRequest,
    progress: Arc<Progress>,
    /// Cancelled when the last one who waits is gone, or by shutdown.
    cancel: CancellationToken,
    /// How many wait. Nobody joins any more once the last one has left.
    waiting: Mutex<usize>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// A transfer as it is listed.
#[derive(Clone, Debug)]
pub(crate) struct TransferInfo {
    pub(crate) id: u64,
    pub(crate) root: Cid,
    pub(crate) output: PathBuf,
    pub(crate) progress: Snapshot,
}

impl Fetcher {
    pub(crate) fn new(
        store: Store,
        library: Library,
        net: Net,
        shutdown: CancellationToken,
    ) -> Self {
        let inner = Inner {
            store,
            library,
            net,
            buffers: buffers::budget(),
            offences: Arc::default(),
            running: Mutex::default(),
            claims: Arc::default(),
            next_id: AtomicU64::new(1),
            downloaded_bytes: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            shutdown,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Starts a transfer, or attaches to the one that is running already.
    ///
    /// # Errors
    /// [`FetchError::Busy`] when [`TRANSFERS_MAX`] are running, and [`FetchError::Cancelled`] when
    /// this node shuts down.
    pub(crate) fn fetch(&self, request: FetchRequest) -> Result<Attached, FetchError> {
        let key = Key::of(&request);
        let mut running = self.inner.lock_running();
        if self.inner.tasks.is_closed() {
            return Err(FetchError::Cancelled);
        }
        if let Some(attached) = running.get(&key).and_then(Attached::join) {
            return Ok(attached);
        }
        if running.len() >= TRANSFERS_MAX {
            return Err(FetchError::Busy(TRANSFERS_MAX));
        }
        let (outcome_sender, outcome) = watch::channel(None);
        let transfer = Arc::new(Running {
            id: self.inner.next_id.fetch_add(1, Relaxed),
            request: request.clone(),
            progress: Arc::default(),
            cancel: self.inner.shutdown.child_token(),
            waiting: Mutex::new(1),
            outcome,
        });
        running.insert(key.clone(), Arc::clone(&transfer));
        let listed = Listed {
            inner: Arc::clone(&self.inner),
            key,
            transfer: Arc::clone(&transfer),
        };
        let progress = Arc::clone(&transfer.progress);
        let job = Job::new(Arc::clone(&self.inner), request, progress);
        let cancel = transfer.cancel.clone();
        self.inner.tasks.spawn(async move {
            let result = job.run(cancel).await;
            drop(listed);
            outcome_sender.send_replace(Some(result.map_err(Arc::new)));
        });
        Ok(Attached {
            transfer,
            left: false,
        })
    }

    /// Reads the tree behind a link, without the bytes of its files.
    ///
    /// # Errors
    /// Like a fetch. Dropping the future ends the listing.
    pub(crate) async fn list(
        &self,
        link: Link,
        peers: &[Multiaddr],
        timeout: Duration,
    ) -> Result<(Cid, Tree), FetchError> {
        let (progress, tasks) = (Arc::default(), &self.inner.tasks);
        let Halves {
            mut transfer,
            supply,
        } = self
            .inner
            .halves(&link, peers, timeout, &progress, tasks, None);
        let listing = tasks.spawn_blocking(move || supply.list(&link));
        let sink = Sink {
            journal: None,
            landing: None,
        };
        let listed = transfer.drive(&sink, listing);
        let shutdown = &self.inner.shutdown;
        let listed = shutdown.run_until_cancelled(listed).await;
        listed.unwrap_or(Err(FetchError::Cancelled))
    }

    /// Looks for providers of a link's root.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] when nobody provides it within `timeout`.
    pub(crate) async fn find(
        &self,
        link: &Link,
        timeout: Duration,
        on_answer: &(dyn Fn(&[FoundProvider]) + Sync),
    ) -> Result<Vec<FoundProvider>, FetchError> {
        let found = Box::pin(self.inner.find(link, timeout, on_answer));
        let found = self.inner.shutdown.run_until_cancelled(found).await;
        found.unwrap_or(Err(FetchError::Cancelled))
    }

    /// The transfers that are running, oldest first.
    pub(crate) fn transfers(&self) -> Vec<TransferInfo> {
        let running = self.inner.lock_running();
        let mut transfers: Vec<_> = running
            .values()
            .map(|transfer| TransferInfo {
                id: transfer.id,
                root: transfer.request.link.root.clone(),
                output: transfer.request.output.clone(),
                progress: transfer.progress.snapshot(),
            })
            .collect();
        transfers.sort_by_key(|transfer| transfer.id);
        transfers
    }

    /// Chunk payload that was fetched and verified since the process started.
    pub(crate) fn downloaded_bytes(&self) -> u64 {
        let running: u64 = self
            .inner
            .lock_running()
            .values()
            .map(|it| it.progress.snapshot().downloaded)
            .sum();
        running + self.inner.downloaded_bytes.load(Relaxed)
    }

    /// Waits until every transfer and every flush has ended; the token was cancelled before.
    pub(crate) async fn ended(&self) {
        {
            let _running = self.inner.lock_running();
            self.inner.tasks.close();
        }
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    /// Brings a landed share to the disk in the background, and records that it is there.
    fn flush_later(self: &Arc<Self>, landing: Arc<Landing>, share: ShareId) {
        let inner = Arc::clone(self);
        self.tasks.spawn_blocking(move || {
            let flushed = landing.part().flush().map_err(FetchError::from);
            let recorded = flushed.and_then(|()| Ok(inner.library.flushed(share)?));
            if let Err(error) = recorded {
                // The boot id stays in the record, so after a power loss everything is re-hashed.
                tracing::warn!(%error, "a fetched share could not be flushed to disk");
            }
        });
    }

    fn lock_running(&self) -> MutexGuard<'_, HashMap<Key, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer's place in the list of those that run; given back when dropped, also by a panic.
struct Listed {
    inner: Arc<Inner>,
    key: Key,
    transfer: Arc<Running>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut running = self.inner.lock_running();
        // One that was asked for again after this one was cancelled has taken its place.
        let is_this = |it: &Arc<Running>| it.id == self.transfer.id;
        if running.get(&self.key).is_some_and(is_this) {
            running.remove(&self.key);
        }
        let downloaded = self.transfer.progress.snapshot().downloaded;
        self.inner.downloaded_bytes.fetch_add(downloaded, Relaxed);
    }
}

/// One who waits for a transfer. The transfer is paused when the last one leaves or is dropped.
pub(crate) struct Attached {
    transfer: Arc<Running>,
    left: bool,
}

impl Attached {
    /// Joins those who wait for a transfer, unless it was paused.
    fn join(transfer: &Arc<Running>) -> Option<Self> {
        let mut waiting = transfer.lock_waiting();
        if transfer.cancel.is_cancelled() {
            return None;
        }
        *waiting += 1;
        Some(Self {
            transfer: Arc::clone(transfer),
            left: false,
        })
    }

    /// How far the transfer is.
    pub(crate) fn progress(&self) -> Snapshot {
        self.transfer.progress.snapshot()
    }

    /// Waits for the outcome. Cancel-safe.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let mut outcome = self.transfer.outcome.clone();
        match outcome.wait_for(Option::is_some).await.map(|it| it.clone()) {
            Ok(Some(outcome)) => outcome,
            _ => Err(Arc::new(FetchError::Internal(
                "the transfer's task ended".to_owned(),
            ))),
        }
    }

    /// Waits for the transfer no longer; true when nobody else does, and it is paused now.
    pub(crate) fn leave(&mut self) -> bool {
        if std::mem::replace(&mut self.left, true) {
            return false;
        }
        let mut waiting = self.transfer.lock_waiting();
        *waiting = waiting.saturating_sub(1);
        let last = *waiting == 0;
        if last {
            self.transfer.cancel.cancel();
        }
        last
    }
}

impl Running {
    fn lock_waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.leave();
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
