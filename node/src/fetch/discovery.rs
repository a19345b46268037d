//! Who might have the root: the peers of the link at once, the DHT beside them, again and again.
//!
//! Runs as a task until the transfer drops its receiver. Lookups are repeated with back-off, so
//! that a fetch that races the announcement, or outlives its providers, still finds someone.

use std::time::Duration;

use futures::future::join_all;
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let Hints { named, nameless } = group(hints);
    for candidate in named {
        if candidate.peer == own {
            continue;
        }
        tracing::debug!(
            peer = %candidate.peer,
            addresses = ?candidate.addresses,
            "discovery: a peer is named"
        );
        if candidates.send(candidate).await.is_err() {
            return;
        }
    }
    // An address alone: whoever answers there is meant. One that does not answer holds up no other.
    let asking = nameless.into_iter().map(async |address: Multiaddr| {
        let Ok(peer) = net.connect(address.clone()).await else {
            return;
        };
        if peer != own {
            let candidate = Candidate {
                peer,
                addresses: vec![address],
                told_by: None,
            };
            tracing::debug!(%peer, "discovery: a peer answers at an address of the link");
            candidates.send(candidate).await.ok();
        }
    });
    join_all(asking).await;
}

/// The hints of a link, by what they name.
#[derive(Debug, PartialEq, Eq)]
struct Hints {
    /// One candidate for each peer, with all of its addresses, in the order of the link.
    named: Vec<Candidate>,
    /// Addresses of which the link does not say whose they are.
    nameless: Vec<Multiaddr>,
}

fn group(hints: &[Multiaddr]) -> Hints {
    let mut grouped = Hints {
        named: Vec::new(),
        nameless: Vec::new(),
    };
    for hint in hints {
        let Some(peer) = peer_of(hint) else {
            if !grouped.nameless.contains(hint) {
                grouped.nameless.push(hint.clone());
            }
            continue;
        };
        let mut known = grouped.named.iter_mut();
        match known.find(|candidate| candidate.peer == peer) {
            Some(candidate) if candidate.addresses.contains(hint) => {}
            Some(candidate) => candidate.addresses.push(hint.clone()),
            None => grouped.named.push(Candidate {
                peer,
                addresses: vec![hint.clone()],
                told_by: None,
            }),
        }
    }
    grouped
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn all_addresses_of_a_peer_are_one_candidate() {
        let (first, second) = (PeerId::random(), PeerId::random());
        let parse = |text: String| text.parse::<Multiaddr>().unwrap();
        let of = |peer: PeerId, n: u8| parse(format!("/ip4/192.0.2.{n}/tcp/4101/p2p/{peer}"));
        let nameless = parse("/ip4/192.0.2.9/tcp/4101".to_owned());
        let hints = [
            of(first, 1),
            nameless.clone(),
            of(second, 1),
            of(first, 2),
            of(first, 1),
            nameless.clone(),
        ];
        let candidate = |peer, addresses: &[Multiaddr]| Candidate {
            peer,
            addresses: addresses.to_vec(),
            told_by: None,
        };
        let expected = Hints {
            named: vec![
                candidate(first, &[of(first, 1), of(first, 2)]),
                candidate(second, &[of(second, 1)]),
            ],
            nameless: vec![nameless],
        };
        assert_eq!(group(&hints), expected);
    }
}
