//! Who might have the root: the peers of the link at once, the DHT beside them, again and again.
//!
//! Runs as a task until the transfer drops its receiver. Lookups are repeated with back-off, so
//! that a fetch that races the announcement, or outlives its providers, still finds someone. The
//! end of each round is told after everybody whom it named, so that its listener knows when nobody
//! else is to be expected of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use libp2p::{Multiaddr, PeerId};
use shoal_net::{Net, peer_of};
use shoal_protocol::backoff::Backoff;
use tokio::sync::{Notify, mpsc};

use super::heard::Heard;

/// Between two rounds: at the most a sixth of the default time-out of a fetch.
const ROUND_DELAY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// What is found and waits to be looked at.
pub(super) const FOUND_QUEUED_MAX: usize = 64;

/// A peer that may provide the root, and where it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    /// Who says so, where that is a peer: the addresses are believed as far as it reaches.
    pub(super) told_by: Option<PeerId>,
}

/// What a round of look-ups tells.
#[derive(Debug)]
pub(super) enum Found {
    Candidate(Candidate),
    /// Nobody answered at an address of the link or of a person that names no peer.
    Nobody {
        address: Multiaddr,
        why: String,
    },
    /// A near helper was asked that may keep a copy of the root.
    Helper(PeerId),
    /// The near helpers of the root's key have been asked.
    NearAsked,
    /// Everybody was told whom the round named.
    RoundEnded {
        began: Instant,
        /// Whether there was anybody to ask in the DHT.
        asked: bool,
    },
}

/// Where to look, and a way to have it done sooner.
pub(super) struct Discovery {
    pub(super) net: Net,
    /// Of the root in the DHT, if it can be found there.
    pub(super) key: Option<[u8; 32]>,
    /// What is known of the root's marks: one that is not announced is not looked up either.
    pub(super) heard: Arc<Heard>,
    /// Peers to try first, with where they are said to be.
    pub(super) named: Vec<Candidate>,
    /// Peers to try that need not be looked up.
    pub(super) hints: Vec<Multiaddr>,
    /// Has the next round begin at once, if none runs.
    pub(super) hurry: Arc<Notify>,
}

impl Discovery {
    /// Finds candidates until nobody listens any more.
    pub(super) async fn run(self, found: mpsc::Sender<Found>) {
        for round in 0.. {
            tokio::select! {
                () = found.closed() => return,
                () = self.round(&found) => {}
            }
            tokio::select! {
                () = found.closed() => return,
                () = self.hurry.notified() => {}
                () = tokio::time::sleep(ROUND_DELAY.doubled(round)) => {}
            }
        }
    }

    /// Finds candidates once: those of the hints and those that the DHT knows now.
    async fn round(&self, found: &mpsc::Sender<Found>) {
        let began = Instant::now();
        let (asked, ()) = tokio::join!(self.look_up(found), self.name_hinted(found));
        // Without a listener nobody needs it.
        let _ = found.send(Found::RoundEnded { began, asked }).await;
    }

    /// Names the peers of the hints; an address alone is dialled, beside all others, to find out
    /// who is there.
    async fn name_hinted(&self, found: &mpsc::Sender<Found>) {
        for candidate in &self.named {
            if !self.name(candidate.clone(), found).await {
                return;
            }
        }
        let Hints { named, nameless } = group(&self.hints);
        let mut dials: FuturesUnordered<_> = nameless
            .iter()
            .map(|hint| async move { (hint, self.net.connect(hint.clone()).await) })
            .collect();
        for candidate in named {
            if !self.name(candidate, found).await {
                return;
            }
        }
        while let Some((hint, connected)) = dials.next().await {
            let is_heard = match connected {
                Ok(peer) => {
                    let addresses = vec![hint.clone()];
                    let told_by = None;
                    let candidate = Candidate {
                        peer,
                        addresses,
                        told_by,
                    };
                    self.name(candidate, found).await
                }
                Err(error) => {
                    let (address, why) = (hint.clone(), error.to_string());
                    found.send(Found::Nobody { address, why }).await.is_ok()
                }
            };
            if !is_heard {
                return;
            }
        }
    }

    /// Tells of a peer; false when nobody listens any more.
    async fn name(&self, candidate: Candidate, found: &mpsc::Sender<Found>) -> bool {
        if candidate.peer == self.net.peer_id() {
            return true;
        }
        let Candidate {
            peer, addresses, ..
        } = &candidate;
        tracing::debug!(%peer, ?addresses, "discovery: a peer is named");
        found.send(Found::Candidate(candidate)).await.is_ok()
    }

    /// Names the providers that the DHT knows; whether there was anybody to ask.
    async fn look_up(&self, found: &mpsc::Sender<Found>) -> bool {
        let Some(key) = self.key.filter(|_| !self.heard.is_concealed()) else {
            return true;
        };
        let asked = self.net.dht().await.peers > 0;
        let mut providers = match self.net.find_providers(key).await {
            Ok(providers) => providers,
            Err(error) => {
                // A busy or ended network is asked again in the next round.
                tracing::debug!(%error, "discovery: the DHT was not asked");
                return false;
            }
        };
        while let Some(provider) = providers.recv().await {
            if provider.peer == self.net.peer_id() {
                continue;
            }
            let candidate = Candidate {
                peer: provider.peer,
                addresses: provider.addresses,
                told_by: None,
            };
            tracing::debug!(peer = %candidate.peer, "discovery: the DHT names a provider");
            if found.send(Found::Candidate(candidate)).await.is_err() {
                break;
            }
        }
        asked
    }
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
