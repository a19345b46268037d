//! The steps of one fetch, in order.
//!
//! Begin (find or make the record) -> list the tree -> open the part -> fetch what is missing ->
//! publish -> commit. Each blocking step runs on a blocking thread. Whatever ends a fetch early
//! leaves the journal and the part for the next run, unless nothing had been verified.

mod finish;

use std::{sync::Arc, time::Instant};

use libp2p::PeerId;
use shoal_protocol::{
    address::Cid,
    name::SafeName,
    replicate::Shape,
    walk::{PathStep, PathWalk},
};
use shoal_store::{BootId, Origin, Recipe, ShareRecord, ShareState, Store, StoreError, Terms};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::finish::{Landed, Opened};
use super::{
    FetchError, FetchRequest, Fetched, FetcherInner,
    halves::{Halves, Purpose, Sought},
    heard::Heard,
    journal::LandingJournal,
    only::Chosen,
    place::{Destination, MissingFolders},
    progress::{Phase, Progress},
    record::LandingPlace,
    span,
    supply::{Fed, Resume},
    transfer::Sink,
    transfers::{Started, now_ms},
};
use crate::{
    limits::Pace,
    swarm::{Coming, Member},
};

/// One fetch on its way.
pub(super) struct Job {
    pub(super) inner: Arc<FetcherInner>,
    /// The number of its transfer.
    pub(super) id: u64,
    pub(super) request: FetchRequest,
    pub(super) progress: Arc<Progress>,
    pub(super) pace: Pace,
    pub(super) started: Instant,
    /// What is known of the root's marks.
    pub(super) heard: Arc<Heard>,
    /// Everything that works for this fetch.
    pub(super) tasks: TaskTracker,
}

/// What the beginning of a fetch decided.
pub(super) struct Begun {
    pub(super) destination: Destination,
    pub(super) record: ShareRecord,
    pub(super) resume: Resume,
    pub(super) journal: Arc<LandingJournal>,
}

impl Job {
    pub(super) fn new(inner: Arc<FetcherInner>, run: Started) -> Self {
        let (started, tasks) = (Instant::now(), TaskTracker::new());
        let heard = Arc::new(inner.heard(&run.request.link));
        Self {
            inner,
            heard,
            id: run.id,
            request: run.request,
            pace: run.pace,
            progress: run.progress,
            started,
            tasks,
        }
    }

    /// Runs the fetch to its end. Cancelling stops it and keeps its progress; once everything has
    /// landed, it is too late to cancel.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<Fetched, FetchError> {
        let job = Arc::new(self);
        let disks = job.inner.library.disks();
        let disk = &job.progress.disk;
        disk.answered(disks, &job.request.output, &cancel).await?;
        let missing = job.step(|job| Ok(job.missing_folders())).await?;
        let result = job.run_to_end(cancel).await;
        if result.is_err() {
            job.step(move |_| {
                missing.remove_empty();
                Ok(())
            })
            .await?;
        }
        result
    }

    async fn run_to_end(
        self: &Arc<Self>,
        cancel: CancellationToken,
    ) -> Result<Fetched, FetchError> {
        let job = Arc::clone(self);
        let destination = job.step(Self::destination).await?;
        let claim = job.inner.claims.claim(destination.path());
        let claim = cancel.run_until_cancelled(claim).await;
        let Some(_claim) = claim else {
            return Err(FetchError::Cancelled);
        };
        let begin = {
            let cancel = cancel.clone();
            job.step(move |job| job.begin(destination, &cancel)).await?
        };
        let begun = match begin {
            Begin::There(fetched) => return Ok(*fetched),
            Begin::Go(begun) => Arc::new(*begun),
        };
        let (member, guests) = job.join();
        let coming = member.as_ref().map(Member::coming);
        let fetching = async {
            tokio::select! {
                fetched = job.fetch(&begun, guests, coming) => fetched,
                never = job.offer(&begun, member.as_ref()) => match never {},
                never = job.keep_marks(&begun, member.as_ref()) => match never {},
            }
        };
        let fetched = cancel.run_until_cancelled(fetching).await;
        // Sessions and blocking steps notice that their transfer is gone; nothing of it runs on.
        job.tasks.close();
        job.tasks.wait().await;
        let result = match fetched.unwrap_or(Err(FetchError::Cancelled)) {
            Ok(landed) => {
                let begun = Arc::clone(&begun);
                job.step(move |job| job.finish(&begun, landed)).await
            }
            Err(error) => Err(error),
        };
        // Who is served from the part goes on with the whole.
        drop(member);
        if result.is_err()
            && let Err(error) = job.step(move |job| job.clean_up(&begun)).await
        {
            tracing::warn!(transfer = job.id, %error, "an ended fetch was not cleaned up");
        }
        result
    }

    /// Has what is recorded of this fetch reach the disk, while the tree is read. It is there before
    /// the part is: a power loss may keep a name and lose the bytes, also under the final name, and
    /// somebody has to know then whose that is.
    fn recorded(&self) -> JoinHandle<Result<(), StoreError>> {
        let store = self.store().clone();
        span::spawn_blocking(&self.tasks, move || store.sync())
    }

    /// Runs a step on a blocking thread that the fetch waits for; a panic there is an error here.
    pub(super) async fn step<T: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&Self) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let job = Arc::clone(self);
        let joined = span::spawn_blocking(&self.tasks, move || step(&job)).await;
        joined.unwrap_or_else(|panic| Err(panic.into()))
    }
}

/// What the beginning of a fetch comes to.
enum Begin {
    /// The same content is already shared from that very place.
    There(Box<Fetched>),
    Go(Box<Begun>),
}

impl Job {
    pub(super) fn root(&self) -> &Cid {
        &self.request.link.root
    }

    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Where it lands: once that is decided it stays so, whatever was made there since.
    fn destination(&self) -> Result<Destination, FetchError> {
        if let Some(place) = self.inner.transfers.place(self.id) {
            return Ok(place.destination);
        }
        let request = &self.request;
        let name = super::destination_name(&request.link)?;
        let _touch = self.progress.disk.touch();
        Destination::resolve(&request.output, request.into, &name).map_err(|cause| {
            FetchError::NoDestination {
                path: request.output.clone(),
                cause,
            }
        })
    }

    /// What has to be taken back when nothing comes of the fetch.
    fn missing_folders(&self) -> MissingFolders {
        match self.request.into {
            true => {
                let _touch = self.progress.disk.touch();
                MissingFolders::of(&self.request.output)
            }
            false => MissingFolders::default(),
        }
    }

    /// Finds or makes the record of this fetch. Blocking.
    fn begin(
        &self,
        destination: Destination,
        cancel: &CancellationToken,
    ) -> Result<Begin, FetchError> {
        let earlier = self.earlier(&destination)?;
        let is_taken = {
            let _touch = self.progress.disk.touch();
            destination.is_taken()
        };
        if is_taken && !self.request.overwrite {
            return match self.already_there(&destination, cancel)? {
                Some(fetched) => Ok(Begin::There(Box::new(fetched))),
                None => Err(FetchError::DestinationExists(destination.path())),
            };
        }
        let (record, resumed) = match earlier {
            Some(record) => {
                let library = &self.inner.library;
                library.set_served(record.id, self.request.is_served());
                // What was heard by the run that made it.
                self.heard.hear(record.marks());
                library.mark(record.id, self.heard.marks())?;
                (record, true)
            }
            None => (self.new_record(&destination)?, false),
        };
        let resume = Resume {
            share: record.id,
            trusted: !record.is_suspect(BootId::current()),
            resumed,
        };
        let journal = Arc::new(LandingJournal::new(self.store().clone(), record.id));
        Ok(Begin::Go(Box::new(Begun {
            destination,
            record,
            resume,
            journal,
        })))
    }

    /// The share that an earlier run left unfinished: one of this transfer, or of another one for
    /// the same content and place, which ends with that.
    fn earlier(&self, destination: &Destination) -> Result<Option<ShareRecord>, FetchError> {
        let transfers = &self.inner.transfers;
        let is_here = |place: &LandingPlace| place.destination == *destination;
        let place = match transfers.place(self.id) {
            Some(place) => Some(place),
            None => transfers.inherit(self.id, is_here)?,
        };
        let Some(place) = place else {
            return Ok(None);
        };
        let share = self.store().share(place.share)?;
        let Some(share) = share.filter(|share| share.state == ShareState::Landing) else {
            return Ok(None);
        };
        let _touch = self.progress.disk.touch();
        place
            .take_back()
            .map_err(FetchError::at(&place.destination.path()))?;
        Ok(Some(share))
    }

    fn new_record(&self, destination: &Destination) -> Result<ShareRecord, FetchError> {
        let id = self.store().new_share_id()?;
        let part = destination.part_name();
        // What was fetched as another name is called so from here on, unless no link could carry it.
        let landed = SafeName::from_bytes(destination.name.as_encoded_bytes());
        let name = match landed {
            Ok(name) => name,
            Err(_) => super::destination_name(&self.request.link)?,
        };
        let marks = self.heard.marks();
        let record = ShareRecord {
            id,
            root: self.root().clone(),
            name: name.as_str().to_owned(),
            source: destination.path(),
            base: destination.parent.join(&part),
            selection: Vec::new(),
            origin: Origin::Fetched,
            announce: !marks.no_announce,
            recipe: Recipe::default(),
            size: 0,
            files: 0,
            chunks: 0,
            created_ms: now_ms(),
            unflushed_boot: Some(BootId::current()),
            state: ShareState::Landing,
            written: None,
            replicate: !marks.no_replicate,
            terms: Terms::default(),
        };
        // First, so that no share is left that no transfer knows.
        let place = LandingPlace {
            destination: destination.clone(),
            part,
            share: id,
            moving: None,
        };
        self.inner.transfers.set_place(self.id, Some(place))?;
        self.inner.library.set_served(id, self.request.is_served());
        self.inner
            .library
            .publish(self.store().batch(), record.clone())?;
        Ok(record)
    }

    /// What is asked for, when it is shared from the destination already and unchanged. A part of
    /// a root is shared from nowhere.
    fn already_there(
        &self,
        destination: &Destination,
        cancel: &CancellationToken,
    ) -> Result<Option<Fetched>, FetchError> {
        let library = &self.inner.library;
        let Some(root) = self.known_root()?.filter(|_| self.request.only.is_all()) else {
            return Ok(None);
        };
        // A copy in the home, or a selection of what is there, says nothing about the place.
        let path = destination.path();
        let is_there = |share: &Arc<ShareRecord>| {
            share.state == ShareState::Live && share.base == path && share.selection.is_empty()
        };
        let Some(share) = library.shares_of(&root).into_iter().find(is_there) else {
            return Ok(None);
        };
        if !library.recheck(share.id, cancel)?.complete {
            return Err(FetchError::Cancelled);
        }
        let Some(share) = library.share(share.id).filter(is_there) else {
            return Ok(None);
        };
        if self.request.sync && share.unflushed_boot.is_some() {
            destination
                .flush()
                .map_err(FetchError::at(&destination.path()))?;
            library.flushed(share.id)?;
        }
        self.progress.total(Some(share.size), share.files);
        self.progress.resumed(share.size);
        Ok(Some(self.fetched(&share, Fed::default(), Vec::new())))
    }

    /// What the link's path leads to, as far as that can be told without asking anyone.
    fn known_root(&self) -> Result<Option<Cid>, FetchError> {
        let link = &self.request.link;
        let mut walk = PathWalk::new(link.root.clone(), link.path.clone());
        loop {
            let cid = match walk.step()? {
                PathStep::Found(cid) => return Ok(Some(cid)),
                PathStep::Need(cid) => cid,
            };
            let found = match cid.digest() {
                Some(digest) => self.store().sound_block(&digest)?,
                None => cid.inline().map(<[u8]>::to_vec),
            };
            match found {
                Some(bytes) => walk.feed(&cid, &bytes)?,
                None => return Ok(None),
            }
        }
    }

    fn halves(&self, begun: &Begun) -> Halves {
        let request = &self.request;
        let sought = Sought {
            link: &request.link,
            peers: &request.peers,
            deadlines: request.deadlines,
            pace: &self.pace,
            is_whole: request.is_whole(),
            heard: &self.heard,
            purpose: Purpose::Own {
                stays: request.is_served() && request.is_whole(),
            },
        };
        let journal = Some(Arc::clone(&begun.journal));
        self.inner
            .halves(&sought, &self.progress, &self.tasks, journal)
    }

    /// Lists what `begun` is about, and fetches and lands all of it.
    async fn fetch(
        self: &Arc<Self>,
        begun: &Arc<Begun>,
        guests: mpsc::Receiver<PeerId>,
        coming: Option<Coming>,
    ) -> Result<Landed, FetchError> {
        let request = &self.request;
        let recorded = self.recorded();
        let Halves {
            mut transfer,
            supply,
            shape,
        } = self.halves(begun);
        transfer.meet(guests, coming);
        let mut sink = Sink {
            journal: Some(Arc::clone(&begun.journal)),
            landing: None,
        };
        let (link, only) = (request.link.clone(), request.only.clone());
        let renames = request.rename_unsafe;
        let listing = span::spawn_blocking(&self.tasks, move || {
            let (cid, tree) = supply.list(&link, renames)?;
            Ok((supply, cid, only.choose(tree)?))
        });
        let (supply, cid, Chosen { tree, left_out }) = transfer.drive(&sink, listing).await?;

        let (size, files) = (tree.bytes_if_known(), tree.files() as u64);
        self.progress.total(size, files);
        self.progress.phase(Phase::Fetching);
        recorded.await??;
        let opened = {
            let begun = Arc::clone(begun);
            self.step(move |job| job.open(&begun, tree)).await?
        };
        let (supply, opened) = match opened.short {
            None => (supply, opened),
            Some(free) => {
                let counting = span::spawn_blocking(&self.tasks, move || {
                    let zeros = supply.zeros(&opened.tree, free)?;
                    Ok((supply, Opened { zeros, ..opened }))
                });
                transfer.drive(&sink, counting).await?
            }
        };
        let (landing, tree, renamed) = {
            let begun = Arc::clone(begun);
            self.step(move |job| job.settle_in(&begun, opened)).await?
        };
        sink.landing = Some(Arc::clone(&landing));
        let feeding = {
            let (begun, landing) = (Arc::clone(begun), Arc::clone(&landing));
            let (shape, is_whole) = (shape.clone(), request.is_whole());
            span::spawn_blocking(&self.tasks, move || {
                let fed = supply.feed(&tree, &landing, &begun.resume)?;
                if let Some(size) = size.filter(|_| is_whole) {
                    let leaves = fed.chunks;
                    shape.tell(Shape { leaves, size });
                }
                Ok(fed)
            })
        };
        let fed = transfer.drive(&sink, feeding).await?;
        // How long a file of one leaf is shows once it is here.
        let bytes = fed.bytes.saturating_add(landing.leaf_bytes());
        self.progress.total(Some(bytes), files);
        if request.is_whole() {
            let (leaves, size) = (fed.chunks, bytes);
            shape.tell(Shape { leaves, size });
        }
        self.progress.phase(Phase::Landing);
        if request.is_whole() {
            span::spawn(&self.tasks, transfer.tell_has_all());
        }
        let from = transfer
            .received()
            .iter()
            .map(|(peer, bytes)| (*peer, *bytes))
            .collect();
        Ok(Landed {
            root: cid,
            landing,
            fed: Fed {
                left_out,
                renamed,
                ..fed
            },
            from,
        })
    }
}
