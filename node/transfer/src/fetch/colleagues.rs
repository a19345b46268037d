//! Peers that a provider named without an address, until this node knows one.
//!
//! A provider outside of a local network sees all of it behind one router: it can name its peers to
//! each other and not say where they are. This node may find that out by itself, by multicast. A
//! task of the transfer asks the network now and then, and tells of each peer once, as soon as it
//! can be connected. It dials nobody, and ends with the transfer.

use std::{collections::BTreeSet, time::Duration};

use libp2p::PeerId;
use shoal_net::Net;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use super::span;

/// Peers without an address that one transfer waits for: as many as one provider can name. Beyond
/// that the rest has to be named again.
const AWAITED_MAX: usize = 128;
/// Peers that were named and are not taken note of yet, and those that are located and not dialled
/// yet.
const QUEUED_MAX: usize = 64;
/// How often the network is asked. Multicast finds a new peer within a second or two.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The transfer's end: it names peers, and hears of those that were located.
pub(super) struct Colleagues {
    names: mpsc::Sender<PeerId>,
    located: mpsc::Receiver<PeerId>,
}

impl Colleagues {
    /// Starts the task; it ends when what comes back is dropped.
    pub(super) fn start(net: Net, tasks: &TaskTracker) -> Self {
        let (names, named) = mpsc::channel(QUEUED_MAX);
        let (found, located) = mpsc::channel(QUEUED_MAX);
        span::spawn(tasks, look(net, named, found));
        Self { names, located }
    }

    /// Takes note of a peer whose address is not known; forgotten while very many are.
    pub(super) fn name(&self, peer: PeerId) {
        self.names.try_send(peer).ok();
    }

    /// Waits for the next peer that can be connected. Cancel-safe.
    pub(super) async fn located(&mut self) -> PeerId {
        match self.located.recv().await {
            Some(peer) => peer,
            // The network has ended.
            None => std::future::pending().await,
        }
    }
}

async fn look(net: Net, mut named: mpsc::Receiver<PeerId>, found: mpsc::Sender<PeerId>) {
    let mut awaited = BTreeSet::new();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let located = tokio::select! {
            named = named.recv() => {
                let Some(peer) = named else {
                    return;
                };
                if awaited.len() >= AWAITED_MAX {
                    continue;
                }
                awaited.insert(peer);
                net.locate(vec![peer]).await
            }
            _ = ticks.tick(), if !awaited.is_empty() => {
                net.locate(awaited.iter().copied().collect()).await
            }
        };
        for peer in located {
            awaited.remove(&peer);
            if found.send(peer).await.is_err() {
                return;
            }
        }
    }
}
