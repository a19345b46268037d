//! What people can ask of a node: the API's operations on the parts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use shoal_api::{ApiError, ErrorCode, Progress, Service, events::EventReader, types as api};
use shoal_ground::{metrics::Numbers, wall_clock};
use shoal_net::Scope;
use shoal_protocol::{address::Cid, link::Link};
use shoal_store::{ShareRecord, ShareState, disks::SLOW_AFTER};
use shoal_transfer::fetch::{self, FetchError};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{NodeHandle, answers, errors::IntoApi, warnings};

/// How long a status waits for the look at shared files that it asks for; less where a disk does not
/// answer.
const RECHECK_PATIENCE: Duration = Duration::from_secs(2);
/// Between two reports of a fetch's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// Peers of a share that a status names; one share alone is told with all of them.
const STATUS_PEERS_MAX: usize = 16;

impl Service for NodeHandle {
    async fn id(&self) -> Result<api::Identity, ApiError> {
        Ok(api::Identity {
            peer_id: self.peer_id(),
            addresses: self.inner.net.dial_addresses(),
            home: self.inner.home.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: self.process(),
        })
    }

    async fn status(&self) -> Result<api::Status, ApiError> {
        let inner = &self.inner;
        inner.recheck.now(RECHECK_PATIENCE).await;
        let shares = inner.library.shares();
        let peers = self.connected().await;
        let (up, down) = inner.rates.current();
        let limits = self.limits_now();
        let scrubbing = inner.scrub.status();
        let database = inner.integrity.status().await;
        let disks = inner.library.disks().unanswering(SLOW_AFTER);
        let foreign = inner.net.foreign().await;
        let warnings = warnings::of(&warnings::Facts {
            shares: &shares,
            lonely: self.is_lonely(peers.len()),
            limits: &limits,
            scrub: &scrubbing,
            foreign: &foreign,
            database: &database,
            disks: &disks,
            unreadable: &inner.library.unreadable(),
            clock: wall_clock::wrong(SystemTime::now()),
        });
        Ok(api::Status {
            peer_id: self.peer_id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: inner.config.network.name.to_string(),
            uptime_ms: answers::millis(inner.started.elapsed()),
            addresses: inner.net.dial_addresses(),
            scope: match inner.net.scope() {
                Some(Scope::Public) => api::Scope::Public,
                Some(Scope::Lan) => api::Scope::Lan,
                Some(Scope::Loopback) | None => api::Scope::Loopback,
            },
            reachability: answers::reachability(inner.net.reachability()),
            peers,
            shares: shares
                .iter()
                .map(|share| self.share_info(share, STATUS_PEERS_MAX))
                .collect(),
            transfers: inner
                .fetcher
                .transfers()
                .iter()
                .filter(|transfer| !transfer.over)
                .map(|transfer| self.transfer_info(transfer))
                .collect(),
            replicas: api::Replicas::default(),
            uploaded_bytes: inner.served.uploaded_bytes(),
            downloaded_bytes: inner.fetcher.totals().downloaded,
            rates: api::Rates { up, down },
            limits,
            disk: self.home_disk().await,
            scrub: scrubbing,
            database,
            warnings: warnings.into_iter().map(|it| it.message).collect(),
            emulation: inner.emulation.as_ref().map(answers::emulated_line),
        })
    }

    fn events(&self, after: Option<u64>) -> EventReader {
        self.inner.events.read(after)
    }

    async fn metrics(&self) -> Result<Numbers, ApiError> {
        Ok(self.measure().await)
    }

    fn stopping(&self) {
        self.inner.tell_stopping();
    }

    async fn peers(&self) -> Result<api::Peers, ApiError> {
        Ok(api::Peers {
            peers: self.connected().await,
        })
    }

    async fn shares(&self) -> Result<api::Shares, ApiError> {
        Ok(self.all_shares())
    }

    async fn shared(&self, target: String) -> Result<api::LinkedShare, ApiError> {
        self.one_share(&target)
    }

    async fn limits(&self) -> Result<api::Limits, ApiError> {
        Ok(self.limits_now())
    }

    async fn change_limits(&self, change: api::LimitsChange) -> Result<api::Limits, ApiError> {
        self.limits_change(change).await
    }

    async fn replicas(&self) -> Result<api::ReplicaList, ApiError> {
        Ok(self.replica_list())
    }

    async fn replica_stats(&self) -> Result<api::ReplicaStats, ApiError> {
        Ok(self.replica_numbers())
    }

    async fn switch_replicas(
        &self,
        request: api::ReplicaSwitch,
    ) -> Result<api::ReplicaStats, ApiError> {
        self.replicas_switched(request.on).await?;
        Ok(self.replica_numbers())
    }

    async fn drop_replicas(
        &self,
        request: api::ReplicaDrop,
    ) -> Result<api::ReplicasDropped, ApiError> {
        self.replicas_dropped(request.key).await
    }

    async fn connect(
        &self,
        request: api::ConnectRequest,
        cancel: CancellationToken,
    ) -> Result<api::Connected, ApiError> {
        let connecting = self.inner.net.connect(request.address.clone());
        let peer_id = cancel
            .run_until_cancelled(connecting)
            .await
            .ok_or_else(interrupted)?
            .map_err(IntoApi::into_api)?;
        Ok(api::Connected {
            peer_id,
            address: request.address,
        })
    }

    async fn share(
        &self,
        request: api::ShareRequest,
        progress: Progress<api::ShareProgress>,
        cancel: CancellationToken,
    ) -> Result<api::ShareResult, ApiError> {
        self.share_paths(request, progress, cancel).await
    }

    async fn unshare(&self, request: api::UnshareRequest) -> Result<api::Unshared, ApiError> {
        self.end_shares(request).await
    }

    async fn change_share(
        &self,
        target: String,
        change: api::ShareChange,
    ) -> Result<api::Shares, ApiError> {
        self.rename_shares(&target, change).await
    }

    async fn fetch(
        &self,
        request: api::FetchRequest,
        progress: Progress<api::FetchUpdate>,
        cancel: CancellationToken,
    ) -> Result<api::FetchResult, ApiError> {
        let (output, into) = match request.destination {
            api::Destination::Into(path) => (path, true),
            api::Destination::At(path) => (path, false),
        };
        let request = fetch::FetchRequest {
            link: request.link.parse()?,
            output: output.into_path_buf(),
            into,
            peers: request.peers,
            only: only(request.only)?,
            overwrite: request.overwrite,
            rename_unsafe: request.rename_unsafe,
            serve: !request.no_serve,
            sync: request.sync,
            deadlines: answers::deadlines(request.timeout_ms, request.patience_ms),
        };
        let mut attached = self
            .inner
            .fetcher
            .fetch(request)
            .await
            .map_err(|error| error.into_api())?;
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let outcome = loop {
            tokio::select! {
                outcome = attached.outcome() => break outcome,
                () = cancel.cancelled() => {
                    if attached.leave() {
                        // Nobody else waits for it: it is over when its progress is kept.
                        let outcome = self.inner.unless_stuck("a transfer", attached.outcome());
                        if let Some(outcome) = outcome.await {
                            break outcome;
                        }
                    }
                    return Err(interrupted());
                }
                _ = ticks.tick() => {
                    let (at, estimate) = attached.progress();
                    progress.report(api::FetchUpdate {
                        transfer: attached.id(),
                        progress: answers::progress(&at, estimate),
                    });
                }
            }
        };
        match outcome {
            Ok(fetched) => Ok(answers::fetched(&fetched)),
            Err(error) => Err(self.kept_as(attached.id(), error.as_ref().into_api())),
        }
    }

    async fn cat(
        &self,
        request: api::CatRequest,
        out: mpsc::Sender<Vec<u8>>,
        progress: Progress<api::FetchProgress>,
        cancel: CancellationToken,
    ) -> Result<api::CatResult, ApiError> {
        let request = fetch::StreamRequest {
            link: request.link.parse()?,
            only: only(request.only)?,
            peers: request.peers,
            deadlines: answers::deadlines(request.timeout_ms, request.patience_ms),
        };
        let report = |at, estimate| progress.report(answers::progress(&at, estimate));
        let streaming = self.inner.fetcher.stream(&request, out, &report);
        let streamed = cancelled_or(&cancel, streaming).await?;
        Ok(answers::streamed(&streamed))
    }

    async fn transfers(&self) -> Result<api::Transfers, ApiError> {
        let transfers = self.inner.fetcher.transfers();
        let transfers = transfers.iter().map(|it| self.transfer_info(it));
        Ok(api::Transfers {
            transfers: transfers.collect(),
        })
    }

    async fn pause(&self, target: String) -> Result<api::Transfer, ApiError> {
        let paused = self
            .inner
            .fetcher
            .pause(&target)
            .await
            .map_err(IntoApi::into_api)?;
        Ok(self.transfer_info(&paused))
    }

    async fn change_transfer(
        &self,
        target: String,
        change: api::TransferChange,
    ) -> Result<api::Transfer, ApiError> {
        let changed = self
            .inner
            .fetcher
            .limit(&target, change.limit)
            .await
            .map_err(IntoApi::into_api)?;
        Ok(self.transfer_info(&changed))
    }

    async fn resume(&self, target: String) -> Result<api::Transfer, ApiError> {
        let resumed = self
            .inner
            .fetcher
            .resume(&target)
            .await
            .map_err(IntoApi::into_api)?;
        Ok(self.transfer_info(&resumed))
    }

    async fn cancel(&self, target: String) -> Result<api::Transfer, ApiError> {
        let cancelled = self
            .inner
            .fetcher
            .cancel(&target)
            .await
            .map_err(IntoApi::into_api)?;
        Ok(self.transfer_info(&cancelled))
    }

    async fn list(
        &self,
        request: api::ListRequest,
        _progress: Progress<api::ListProgress>,
        cancel: CancellationToken,
    ) -> Result<api::Listing, ApiError> {
        let link: Link = request.link.parse()?;
        let timeout = Duration::from_millis(request.timeout_ms);
        let listing = self
            .inner
            .fetcher
            .list(link.clone(), &request.peers, timeout);
        let (root, tree) = cancelled_or(&cancel, listing).await?;
        let mut listing = answers::listing(&link, &root, &tree);
        if listing.size.is_none() {
            self.fill_in_size(&root, &mut listing);
        }
        Ok(listing)
    }

    async fn find(
        &self,
        request: api::FindRequest,
        progress: Progress<api::FindProgress>,
        cancel: CancellationToken,
    ) -> Result<api::Found, ApiError> {
        let link: Link = request.link.parse()?;
        let timeout = Duration::from_millis(request.timeout_ms);
        let asked = AtomicU32::new(0);
        let on_answer = |answers: &[fetch::FoundProvider]| {
            let providers = answers.iter().filter(|it| it.provides()).count();
            let count = u32::try_from(answers.len()).unwrap_or(u32::MAX);
            asked.store(count, Relaxed);
            let providers = u32::try_from(providers).unwrap_or(u32::MAX);
            progress.report(api::FindProgress {
                providers,
                asked: count,
            });
        };
        let finding = self.inner.fetcher.find(&link, timeout, &on_answer);
        let found = cancelled_or(&cancel, finding).await?;
        let providers = found
            .iter()
            .filter(|it| it.provides() || it.answer.is_err());
        Ok(api::Found {
            cid: link.root.to_string(),
            providers: providers
                .map(|it| answers::found(it, self.inner.net.nearness(&it.peer)))
                .collect(),
            asked: asked.load(Relaxed),
        })
    }

    async fn verify(
        &self,
        request: api::VerifyRequest,
        progress: Progress<api::VerifyProgress>,
        cancel: CancellationToken,
    ) -> Result<api::Verified, ApiError> {
        self.verify_shares(request, progress, cancel).await
    }

    async fn gc(
        &self,
        request: api::GcRequest,
        progress: Progress<api::GcProgress>,
        cancel: CancellationToken,
    ) -> Result<api::Collected, ApiError> {
        self.collect_garbage(request, progress, cancel).await
    }
}

impl NodeHandle {
    /// The space on the disk of the home, asked for on one of its own threads; zero when it does not
    /// answer.
    async fn home_disk(&self) -> api::Disk {
        let home = self.inner.home.clone();
        let disk = self.inner.library.disks().of(&home);
        let asked = disk.run(SLOW_AFTER, move || answers::disk(&home)).await;
        asked.unwrap_or(api::Disk { free: 0, total: 0 })
    }

    /// Waits for work on a blocking thread; once it is cancelled, not for a disk that does not
    /// answer.
    pub(super) async fn unless_stuck<T>(
        &self,
        cancel: &CancellationToken,
        mut work: JoinHandle<T>,
    ) -> Result<T, ApiError> {
        if let Some(done) = cancel.run_until_cancelled(&mut work).await {
            return done.map_err(|panic| internal(&panic));
        }
        match self.inner.unless_stuck("a request", work).await {
            Some(done) => done.map_err(|panic| internal(&panic)),
            None => Err(interrupted()),
        }
    }

    /// The failure of a transfer, with its number if something of it is left to go on with.
    fn kept_as(&self, id: u64, error: ApiError) -> ApiError {
        let transfers = self.inner.fetcher.transfers();
        let kept = transfers.iter().any(|it| it.id == id && !it.over);
        match error.hint.clone().filter(|_| kept) {
            Some(hint) => error.hint(format!("{hint}; it is transfer {id}")),
            None => error,
        }
    }

    /// Says how long a file of one chunk is, if it is here: its address does not.
    fn fill_in_size(&self, root: &Cid, listing: &mut api::Listing) {
        let shares = self.inner.library.shares_of(root);
        let whole = |share: &&Arc<ShareRecord>| {
            share.state == ShareState::Live && share.selection.is_empty() && share.files == 1
        };
        if let (Some(share), [file]) = (shares.iter().find(whole), &mut *listing.entries) {
            file.size = Some(share.size);
            listing.size = Some(share.size);
        }
    }

    async fn connected(&self) -> Vec<api::Peer> {
        let mut peers: Vec<_> = self
            .inner
            .net
            .peers()
            .await
            .into_iter()
            .map(answers::peer)
            .collect();
        peers.sort_by_key(|peer| (peer.rtt_ms.is_none(), peer.rtt_ms, peer.peer_id));
        peers
    }

    /// A transfer as people and programs are told of it.
    fn transfer_info(&self, transfer: &fetch::TransferInfo) -> api::Transfer {
        api::Transfer {
            on_done: self.inner.on_done.of(transfer.id),
            ..answers::transfer(transfer)
        }
    }
}

fn only(patterns: Vec<String>) -> Result<fetch::Only, ApiError> {
    fetch::Only::new(patterns).map_err(|error| error.into_api())
}

async fn cancelled_or<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, ApiError> {
    match cancel.run_until_cancelled(work).await {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(error.into_api()),
        None => Err(interrupted()),
    }
}

pub(super) fn interrupted() -> ApiError {
    FetchError::Cancelled.into_api()
}

pub(super) fn internal(panic: &tokio::task::JoinError) -> ApiError {
    ApiError::new(ErrorCode::Internal, panic.to_string()).hint("the daemon's log says more")
}
