//! The one way by which the parts of a node tell that something happened.
//!
//! Whatever it is, it comes as [`Told`] to [`Observer::tell`], which passes it on: events, and by them
//! the log and whoever follows; numbers; what is announced; files to look at again. The library, the
//! fetcher and the swarms tell on the thread where it happens, which must not be kept waiting; the
//! network is followed by a task, and the progress of transfers is looked at once a second.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use shoal_api::events::{Event, Events};
use shoal_ground::metrics::Numbers;
use shoal_net::{Net, NetEvent};
use shoal_protocol::address::Cid;
use shoal_store::{LibraryEvent, replicas::ReplicaEvent};
use shoal_transfer::{
    fetch::{FetchError, FetchEvent, Fetched, Fetcher, Snapshot, TransferInfo, TransferState},
    replicate::{Changes, gone_reason, key_of},
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answers, errors::IntoApi as _, offers::Offers, on_done::DoneQueue, watch::DoubtSignal,
};

/// Between two looks at the progress of transfers.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Something that happened.
pub(super) enum Told<'a> {
    /// To the shares.
    Library(&'a LibraryEvent),
    /// To a transfer.
    Transfer(&'a FetchEvent<'a>),
    /// A part of this root began or ceased to be here.
    Part(&'a Cid),
    /// To what is kept for others.
    Replica(ReplicaEvent),
    /// To connections, own addresses or announcements of this network.
    Network(&'a NetEvent, &'a Net),
    /// This transfer has got on, or its figures are others.
    Progress(&'a TransferInfo),
    /// To the node as a whole, which says it in the words of the API.
    Node(Box<Event>),
}

/// Passes on what is told, and counts what is only told; see the module's head.
pub(super) struct Observer {
    events: Events,
    offers: Arc<Offers>,
    doubts: Arc<DoubtSignal>,
    /// Where it is told what has changed of what near peers may have from here, once somebody listens.
    copies: OnceLock<Changes>,
    /// Where it is told which transfers are done, once somebody listens.
    done: OnceLock<DoneQueue>,
    /// A peer was connected at some time.
    met_peers: AtomicBool,
    /// How runs of fetches ended: finished, or the code of the failure.
    ended: Mutex<BTreeMap<String, u64>>,
}

impl Observer {
    pub(super) fn new(events: Events, offers: Arc<Offers>, doubts: Arc<DoubtSignal>) -> Self {
        Self {
            events,
            offers,
            doubts,
            copies: OnceLock::new(),
            done: OnceLock::new(),
            met_peers: AtomicBool::new(false),
            ended: Mutex::default(),
        }
    }

    /// From now on tells `copies` what has changed of copies for others; the first one stays.
    pub(super) fn tell_of_copies(&self, copies: Changes) {
        self.copies.get_or_init(|| copies);
    }

    /// From now on tells `done` which transfers are done; the first one stays.
    pub(super) fn tell_of_done(&self, done: DoneQueue) {
        self.done.get_or_init(|| done);
    }

    /// Whether a peer was connected at some time since the start.
    pub(super) fn has_met_peers(&self) -> bool {
        self.met_peers.load(Relaxed)
    }

    /// Takes note of what happened. Never waits.
    pub(super) fn tell(&self, told: Told<'_>) {
        match told {
            Told::Library(event) => {
                self.offers.note(event);
                self.doubts.note(event);
                self.note_copy(event);
                self.library(event);
            }
            Told::Transfer(event) => self.transfer(event),
            Told::Part(root) => self.offers.part_changed(root),
            Told::Replica(event) => self.replica(event),
            Told::Network(event, net) => self.network(event, net),
            Told::Progress(transfer) => {
                let transfer = answers::transfer(transfer);
                self.events.publish(Event::TransferProgress(transfer));
            }
            Told::Node(event) => self.events.publish(*event),
        }
    }

    fn library(&self, event: &LibraryEvent) {
        self.events.publish(match event {
            LibraryEvent::Added(share) => Event::ShareAdded(answers::share_info(share, false)),
            LibraryEvent::Removed(share) => Event::ShareRemoved(answers::share_info(share, false)),
            LibraryEvent::Changed(share) => Event::ShareChanged(answers::share_info(share, false)),
            LibraryEvent::Doubted(_) => return,
        });
    }

    /// What was fetched is a copy for near peers, too.
    fn note_copy(&self, event: &LibraryEvent) {
        if let Some(share) = event.changed()
            && let (Some(copies), Some(key)) = (self.copies.get(), key_of(&share.root))
        {
            copies.note(key);
        }
    }

    fn replica(&self, event: ReplicaEvent) {
        if let ReplicaEvent::Gone { key, .. } | ReplicaEvent::RootGone { key } = event
            && let Some(copies) = self.copies.get()
        {
            copies.note(key);
        }
        match event {
            ReplicaEvent::Admitted {
                key,
                run,
                bytes,
                cause,
            } => self.events.publish(Event::ReplicaAdmitted {
                key: key.to_string(),
                run,
                bytes,
                cause: answers::replica_cause(cause).to_owned(),
            }),
            ReplicaEvent::Gone {
                key,
                run,
                bytes,
                why,
            } => self.events.publish(Event::ReplicaGone {
                key: key.to_string(),
                run,
                bytes,
                reason: gone_reason(why).to_owned(),
            }),
            ReplicaEvent::RootGone { .. } => {}
        }
    }

    fn transfer(&self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Changed(info) => {
                let transfer = answers::transfer(info);
                self.events.publish(match info.state {
                    TransferState::Queued => Event::TransferQueued(transfer),
                    TransferState::Paused(_) => Event::TransferPaused(transfer),
                    TransferState::Failed(_) => Event::TransferFailed(transfer),
                    TransferState::Running | TransferState::Done => {
                        Event::TransferStarted(transfer)
                    }
                });
            }
            FetchEvent::Removed { id, root } => self.events.publish(Event::TransferRemoved {
                id: *id,
                cid: root.to_string(),
            }),
            FetchEvent::Ended { id, result } => self.ended(*id, result),
        }
    }

    fn ended(&self, id: u64, result: &Result<Fetched, FetchError>) {
        let outcome = match result {
            Ok(_) => "finished".to_owned(),
            Err(error) => error.into_api().code.to_string(),
        };
        *self.lock().entry(outcome).or_default() += 1;
        if let Ok(fetched) = result {
            let result = answers::fetched(fetched);
            if let Some(done) = self.done.get() {
                done.note(id, &fetched.path, &result.cid);
            }
            self.events.publish(Event::TransferFinished { id, result });
        }
    }

    fn network(&self, event: &NetEvent, net: &Net) {
        if matches!(event, NetEvent::PeerConnected { .. }) {
            self.met_peers.store(true, Relaxed);
        }
        self.events.publish(match event {
            NetEvent::PeerConnected { peer } => Event::PeerConnected { peer_id: *peer },
            NetEvent::PeerDisconnected { peer } => Event::PeerDisconnected { peer_id: *peer },
            NetEvent::AddressesChanged => Event::AddressesChanged {
                addresses: net.dial_addresses(),
            },
            NetEvent::Announced { key, peers } => {
                let Some(root) = self.offers.told(key) else {
                    return;
                };
                let (cid, peers) = (root.to_string(), *peers as u64);
                Event::Announced { cid, peers }
            }
        });
    }

    pub(super) fn measure(&self, numbers: &mut Numbers) {
        let ended = self.lock();
        numbers.counters(
            "shoal_transfer_runs_ended",
            "Runs of fetches that ended, by how: finished, or the code of the failure.",
            "outcome",
            ended.iter().map(|(outcome, count)| (outcome, *count)),
        );
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.ended.lock()
    }
}

/// Starts the tasks that follow what does not tell by itself; they end with `shutdown`.
pub(super) fn start(
    observer: &Arc<Observer>,
    tasks: &TaskTracker,
    net: &Net,
    fetcher: &Fetcher,
    shutdown: &CancellationToken,
) {
    let following = network(Arc::clone(observer), net.clone());
    let until = shutdown.clone();
    tasks.spawn(async move { until.run_until_cancelled(following).await });
    let watching = progress(Arc::clone(observer), fetcher.clone());
    let until = shutdown.clone();
    tasks.spawn(async move { until.run_until_cancelled(watching).await });
}

async fn network(observer: Arc<Observer>, net: Net) {
    let mut told = net.events();
    loop {
        match told.recv().await {
            Ok(event) => observer.tell(Told::Network(&event, &net)),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events of the network were missed");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn progress(observer: Arc<Observer>, fetcher: Fetcher) {
    let mut seen: HashMap<u64, Snapshot> = HashMap::new();
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        ticks.tick().await;
        let mut running = fetcher.transfers();
        running.retain(|transfer| transfer.state == TransferState::Running);
        seen.retain(|id, _| running.iter().any(|transfer| transfer.id == *id));
        for transfer in running {
            let now = transfer.progress;
            if seen.insert(transfer.id, now) != Some(now) {
                observer.tell(Told::Progress(&transfer));
            }
        }
    }
}
