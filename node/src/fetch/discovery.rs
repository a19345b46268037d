//! Who might have the root: the peers of the link at once, the DHT beside them, again and again.
//!
//! Runs as a task until the transfer drops its receiver. Lookups are repeated with back-off, so
//! that a fetch that races the announcement, or outlives its providers, still finds someone.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use crate::net::{Net, peer_of};

/// Between the first and the second round; doubled after each round.
const ROUND_DELAY_MIN: Duration = Duration::from_millis(250);
/// Between two rounds at the most: a sixth of the default time-out of a fetch.
const ROUND_DELAY_MAX: Duration = Duration::from_secs(10);
/// Candidates waiting to be contacted.
pub(super) const CANDIDATES_QUEUED_MAX: usize = 64;

/// A peer that may provide the root, and where it may be.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    /// Who says so, where that is a peer: the addresses are believed as far as it reaches.
    pub(super) told_by: Option<PeerId>,
}

/// Finds candidates until nobody listens any more.
pub(super) async fn discover(
    net: Net,
    key: Option<[u8; 32]>,
    hints: Vec<Multiaddr>,
    candidates: mpsc::Sender<Candidate>,
) {
    let mut delay = ROUND_DELAY_MIN;
    loop {
        tokio::select! {
            () = candidates.closed() => return,
            () = round(&net, key, &hints, &candidates) => {}
        }
        tokio::select! {
            () = candidates.closed() => return,
            () = tokio::time::sleep(delay) => {}
        }
        delay = (delay * 2).min(ROUND_DELAY_MAX);
    }
}

/// Finds candidates once: those of `hints` and those that the DHT knows now.
pub(super) async fn round(
    net: &Net,
    key: Option<[u8; 32]>,
    hints: &[Multiaddr],
    candidates: &mpsc::Sender<Candidate>,
) {
    let looked_up = async {
        if let Some(key) = key {
            from_dht(net, key, candidates).await;
        }
    };
    tokio::join!(from_hints(net, hints, candidates), looked_up);
}

async fn from_hints(net: &Net, hints: &[Multiaddr], candidates: &mpsc::Sender<Candidate>) {
    let own = net.peer_id();
    for hint in hints {
        let peer = match peer_of(hint) {
            Some(peer) => Some(peer),
            // An address alone: whoever answers there is meant.
            None => net.connect(hint.clone()).await.ok(),
        };
        if let Some(peer) = peer.filter(|peer| *peer != own) {
            let candidate = Candidate {
                peer,
                addresses: vec![hint.clone()],
                told_by: None,
            };
            tracing::debug!(%peer, address = %hint, "discovery: a peer is named");
            if candidates.send(candidate).await.is_err() {
                return;
            }
        }
    }
}

async fn from_dht(net: &Net, key: [u8; 32], candidates: &mpsc::Sender<Candidate>) {
    let own = net.peer_id();
    // A busy or ended network is asked again in the next round.
    let Ok(mut found) = net.find_providers(key).await else {
        return;
    };
    while let Some(provider) = found.recv().await {
        if provider.peer == own {
            continue;
        }
        let candidate = Candidate {
            peer: provider.peer,
            addresses: provider.addresses,
            told_by: None,
        };
        tracing::debug!(peer = %candidate.peer, "discovery: the DHT names a provider");
        if candidates.send(candidate).await.is_err() {
            return;
        }
    }
}
