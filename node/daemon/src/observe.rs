//! What the parts tell, made into events of the node.
//!
//! The library and the fetcher tell on the thread where it happens; the network is followed by a
//! task, and the progress of transfers is looked at once a second.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shoal_api::events::{Event, Events};
use shoal_ground::metrics::Numbers;
use shoal_net::{Net, NetEvent};
use shoal_store::LibraryEvent;
use shoal_transfer::fetch::{FetchError, FetchEvent, Fetched, Fetcher, Snapshot, TransferState};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{answers, errors::IntoApi as _, offers::Offers};

/// Between two looks at the progress of transfers.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Publishes, and counts what is only told as events.
#[derive(Debug, Default)]
pub(super) struct Observer {
    events: Events,
    /// How runs of fetches ended: finished, or the code of the failure.
    ended: Mutex<BTreeMap<String, u64>>,
}

impl Observer {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            ended: Mutex::default(),
        }
    }

    pub(super) fn library(&self, event: &LibraryEvent) {
        self.events.publish(match event {
            LibraryEvent::Added(share) => Event::ShareAdded(answers::share_info(share, false)),
            LibraryEvent::Removed(share) => Event::ShareRemoved(answers::share_info(share, false)),
            LibraryEvent::Changed(share) => Event::ShareChanged(answers::share_info(share, false)),
            LibraryEvent::Doubted(_) => return,
        });
    }

    pub(super) fn fetcher(&self, event: &FetchEvent<'_>) {
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
            self.events.publish(Event::TransferFinished { id, result });
        }
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
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the tasks that follow what does not tell by itself; they end with `shutdown`.
pub(super) fn start(
    tasks: &TaskTracker,
    events: &Events,
    (net, offers): (&Net, &Arc<Offers>),
    fetcher: &Fetcher,
    shutdown: &CancellationToken,
) {
    let following = network(events.clone(), net.clone(), Arc::clone(offers));
    let until = shutdown.clone();
    tasks.spawn(async move { until.run_until_cancelled(following).await });
    let watching = progress(events.clone(), fetcher.clone());
    let until = shutdown.clone();
    tasks.spawn(async move { until.run_until_cancelled(watching).await });
}

async fn network(events: Events, net: Net, offers: Arc<Offers>) {
    let mut told = net.events();
    loop {
        match told.recv().await {
            Ok(NetEvent::PeerConnected { peer }) => {
                events.publish(Event::PeerConnected { peer_id: peer });
            }
            Ok(NetEvent::PeerDisconnected { peer }) => {
                events.publish(Event::PeerDisconnected { peer_id: peer });
            }
            Ok(NetEvent::AddressesChanged) => events.publish(Event::AddressesChanged {
                addresses: net.dial_addresses(),
            }),
            Ok(NetEvent::Announced { key, peers }) => {
                if let Some(root) = offers.told(&key) {
                    let (cid, peers) = (root.to_string(), peers as u64);
                    events.publish(Event::Announced { cid, peers });
                }
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events of the network were missed");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn progress(events: Events, fetcher: Fetcher) {
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
                events.publish(Event::TransferProgress(answers::transfer(&transfer)));
            }
        }
    }
}
