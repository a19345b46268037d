//! The steps of one fetch, in order.
//!
//! Begin (find or make the record) -> list the tree -> open the part -> fetch what is missing ->
//! publish -> commit. Each blocking step runs on a blocking thread. Whatever ends a fetch early
//! leaves the journal and the part for the next run, unless nothing had been verified.

use std::{
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use shoal_protocol::address::Cid;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    FetchError, FetchRequest, Fetched, Inner,
    finish::Landed,
    halves::Halves,
    journal::Journal,
    place::Destination,
    progress::{Phase, Progress},
    record::{self, TransferRecord},
    supply::Resume,
    transfer::Sink,
};
use crate::store::{BootId, Origin, Recipe, ShareRecord, ShareState, Store};

/// One fetch on its way.
pub(super) struct Job {
    pub(super) inner: Arc<Inner>,
    pub(super) request: FetchRequest,
    pub(super) progress: Arc<Progress>,
    pub(super) started: Instant,
    /// Every blocking step of this fetch.
    pub(super) blocking: TaskTracker,
}

/// What the beginning of a fetch decided.
pub(super) struct Begun {
    pub(super) destination: Destination,
    pub(super) record: ShareRecord,
    pub(super) resume: Resume,
}

impl Job {
    pub(super) fn new(inner: Arc<Inner>, request: FetchRequest, progress: Arc<Progress>) -> Self {
        let (started, blocking) = (Instant::now(), TaskTracker::new());
        Self {
            inner,
            request,
            progress,
            started,
            blocking,
        }
    }

    /// Runs the fetch to its end. Cancelling stops it and keeps its progress.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<Fetched, FetchError> {
        let job = Arc::new(self);
        let begun = {
            let job = Arc::clone(&job);
            blocking_step(move || job.begin()).await?
        };
        let begun = match begun {
            Begin::There(fetched) => return Ok(fetched),
            Begin::Go(begun) => Arc::new(*begun),
        };
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(FetchError::Cancelled),
            result = job.fetch(&begun) => result,
        };
        // Blocking steps notice that their transfer is gone; nothing of this fetch runs after it.
        job.blocking.close();
        job.blocking.wait().await;
        if let Err(error) = &result {
            tracing::info!(root = %job.root(), %error, "fetch ended early");
            let job = Arc::clone(&job);
            let cleaned = tokio::task::spawn_blocking(move || job.clean_up(&begun)).await;
            if let Ok(Err(error)) = cleaned {
                tracing::warn!(%error, "an ended fetch was not cleaned up");
            }
        }
        result
    }
}

/// What the beginning of a fetch comes to.
enum Begin {
    /// The same content is already shared from that very place.
    There(Fetched),
    Go(Box<Begun>),
}

impl Job {
    pub(super) fn root(&self) -> &Cid {
        &self.request.link.root
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Decides the destination, and finds or makes the record of this fetch. Blocking.
    fn begin(&self) -> Result<Begin, FetchError> {
        let request = &self.request;
        let name = super::destination_name(&request.link)?;
        let resolved = Destination::resolve(&request.output, request.into, &name);
        let destination = resolved.map_err(|cause| FetchError::NoDestination {
            path: request.output.clone(),
            cause,
        })?;
        let path = destination.path();
        if destination.is_taken() && !request.overwrite {
            return match self.already_there(&path)? {
                Some(fetched) => Ok(Begin::There(fetched)),
                None => Err(FetchError::DestinationExists(path)),
            };
        }
        let earlier = record::load(self.store(), self.root(), &path)?;
        let earlier = earlier
            .map(|earlier| self.store().share(earlier.share))
            .transpose()?;
        if let Some(record) = earlier
            .flatten()
            .filter(|it| it.state == ShareState::Landing)
        {
            let trusted = !record.is_suspect(BootId::current());
            let resume = Resume {
                share: record.id,
                trusted,
                resumed: true,
            };
            return Ok(Begin::Go(Box::new(Begun {
                destination,
                record,
                resume,
            })));
        }
        // Without a name in the link, what it is called here is the best there is.
        let named = request.link.name.is_some() || !request.link.path.is_empty();
        let called = destination.name.to_string_lossy();
        let name = if named {
            name.as_str()
        } else {
            called.as_ref()
        };
        let record = self.new_record(&destination, name)?;
        let resume = Resume {
            share: record.id,
            trusted: true,
            resumed: false,
        };
        Ok(Begin::Go(Box::new(Begun {
            destination,
            record,
            resume,
        })))
    }

    fn new_record(&self, destination: &Destination, name: &str) -> Result<ShareRecord, FetchError> {
        let id = self.store().new_share_id()?;
        let part = destination.parent.join(destination.part_name(id));
        let record = ShareRecord {
            id,
            root: self.root().clone(),
            name: name.to_owned(),
            source: destination.path(),
            base: part.clone(),
            selection: Vec::new(),
            origin: Origin::Fetched,
            announce: true,
            recipe: Recipe::default(),
            size: 0,
            files: 0,
            chunks: 0,
            created_ms: now_ms(),
            unflushed_boot: Some(BootId::current()),
            state: ShareState::Landing,
        };
        self.inner
            .library
            .publish(self.store().batch(), record.clone())?;
        let transfer = TransferRecord { share: id, part };
        record::save(self.store(), self.root(), &destination.path(), &transfer)?;
        Ok(record)
    }

    fn already_there(&self, path: &Path) -> Result<Option<Fetched>, FetchError> {
        let shares = self.store().shares_of_root(self.root())?;
        let share = shares
            .into_iter()
            .find(|share| share.state == ShareState::Live && share.source == *path);
        Ok(share.map(|share| {
            self.progress.total(share.size, share.files);
            self.progress.resumed(share.size);
            self.fetched(&share, Vec::new(), Vec::new())
        }))
    }

    /// Lists, fetches and publishes what `begun` is about.
    async fn fetch(self: &Arc<Self>, begun: &Arc<Begun>) -> Result<Fetched, FetchError> {
        let request = &self.request;
        let Halves {
            mut transfer,
            supply,
        } = self.inner.halves(
            &request.link,
            &request.peers,
            request.timeout,
            &self.progress,
            &self.blocking,
        );
        let journal = Arc::new(Journal::new(self.store().clone(), begun.record.id));
        let mut sink = Sink {
            journal: Some(Arc::clone(&journal)),
            landing: None,
        };
        let link = self.request.link.clone();
        let listing = self.blocking.spawn_blocking(move || {
            let (cid, tree) = supply.list(&link)?;
            Ok((supply, cid, tree))
        });
        let (supply, cid, tree) = transfer.drive(&sink, listing).await?;

        self.progress.phase(Phase::Fetching);
        let tree = Arc::new(tree);
        let landing = {
            let (job, begun, tree) = (Arc::clone(self), Arc::clone(begun), Arc::clone(&tree));
            let journal = Arc::clone(&journal);
            blocking_step(move || job.open(&begun, &tree, journal)).await?
        };
        sink.landing = Some(Arc::clone(&landing));
        let feeding = {
            let (begun, tree) = (Arc::clone(begun), Arc::clone(&tree));
            let landing = Arc::clone(&landing);
            self.blocking
                .spawn_blocking(move || supply.feed(&tree, &landing, &begun.resume))
        };
        let fed = transfer.drive(&sink, feeding).await?;

        self.progress.phase(Phase::Landing);
        let from = transfer
            .received()
            .iter()
            .map(|(peer, bytes)| (*peer, *bytes))
            .collect();
        drop(transfer);
        let landed = Landed {
            root: cid,
            landing,
            journal,
            fed,
            from,
        };
        let (job, begun) = (Arc::clone(self), Arc::clone(begun));
        blocking_step(move || job.finish(&begun, landed)).await
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Runs a step on a blocking thread; a panic there is an error here.
async fn blocking_step<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    let joined = tokio::task::spawn_blocking(step).await;
    joined.unwrap_or_else(|error| Err(FetchError::Internal(error.to_string())))
}
