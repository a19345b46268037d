//! What a served peer is told beside the blocks: what there is of the root, and who else has it.
//!
//! Of a root that is fetched here, the peer hears of the growing part, at intervals that bound what
//! this takes of the line. Of other peers that deal with the root it hears once each, with
//! addresses that reach as far as the peer itself does.

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use libp2p::PeerId;
use shoal_net::Net;
use shoal_protocol::{
    address::Cid,
    exchange::{
        Availability, HINT_ADDRESSES_MAX, HINT_PEERS_MAX, List, PeerClass, PeerHint, Response,
    },
};
use shoal_store::Library;
use tokio::{sync::watch, time::Instant};

use super::{Withdrawn, audience::Audience, crowd::Crowds};
use crate::{
    replicate::{Reader, Replicator},
    swarm::{Growing, Guest, Swarms},
};

/// Between two messages on one stream at the least. Updates that come sooner are merged: each says
/// all.
const NEWS_INTERVAL: Duration = Duration::from_millis(250);
/// What updates may take of the line: 256 bytes more of them wait 10 ms longer, 25 KB/s. The
/// longest, of 41 KiB, come 1.6 s apart.
const NEWS_BYTES_PER_10_MS: usize = 256;
/// Peers that are named on one stream. Far more than one fetch deals with.
const PEERS_TOLD_MAX: usize = 128;

/// Where a stream finds out what to tell.
pub(super) struct Sources {
    pub(super) library: Library,
    pub(super) withdrawn: Arc<Withdrawn>,
    pub(super) swarms: Arc<Swarms>,
    pub(super) net: Net,
    pub(super) replicator: Replicator,
    pub(super) audience: Arc<Audience>,
    pub(super) crowds: Crowds,
}

/// What one stream's peer was told, and is to be told next.
pub(super) struct News {
    sources: Arc<Sources>,
    root: Cid,
    peer: PeerId,
    guest: Guest,
    /// What is kept of the root for others.
    replicas: Option<Reader>,
    /// What of the root is here, while it is fetched.
    growing: Option<watch::Receiver<Growing>>,
    /// The last word on what there is.
    said: Option<Availability>,
    told: HashSet<PeerId>,
    /// Nothing is told before this.
    next_at: Instant,
}

impl News {
    /// Takes note that a peer, connected from an address, is interested in `root`.
    pub(super) fn new(
        sources: &Arc<Sources>,
        root: Cid,
        (peer, ip): (PeerId, Option<IpAddr>),
    ) -> Self {
        Self {
            guest: sources.swarms.welcome(&root, peer),
            replicas: sources.replicator.reader_for(&root, (peer, ip)),
            sources: Arc::clone(sources),
            root,
            peer,
            growing: None,
            said: None,
            told: HashSet::new(),
            next_at: Instant::now(),
        }
    }

    /// What is to be said now.
    pub(super) async fn next(&mut self) -> Vec<Response> {
        let availability = self.availability();
        let mut messages = Vec::new();
        if self.said.as_ref() != Some(&availability) {
            self.said = Some(availability.clone());
            messages.push(self.status(availability));
        }
        if self.is_served() {
            messages.extend(self.hint().await);
        }
        messages
    }

    /// What was said last of what there is: said again, it tells a client that its wants wait.
    pub(super) fn again(&self) -> Option<Response> {
        self.said.clone().map(|said| self.status(said))
    }

    fn status(&self, availability: Availability) -> Response {
        Response::Status {
            availability,
            marks: self.sources.library.marks(&self.root),
        }
    }

    /// Whether there is anything of the root, as far as was said.
    pub(super) fn is_served(&self) -> bool {
        let said = self.said.as_ref();
        said.is_some_and(|it| {
            matches!(
                it,
                Availability::Complete | Availability::Held { .. } | Availability::Partial { .. }
            )
        })
    }

    /// What there is of the root; later changes of that are news.
    fn availability(&mut self) -> Availability {
        let sources = &self.sources;
        self.growing = None;
        let whole = sources.withdrawn.availability(&sources.library, &self.root);
        if matches!(whole, Availability::Complete | Availability::Held { .. }) {
            return whole;
        }
        self.growing = sources.swarms.growing(&self.root);
        match &mut self.growing {
            Some(growing) => {
                let Growing { landed, coming } = growing.borrow_and_update().clone();
                let ranges = Arc::unwrap_or_clone(landed);
                Availability::Partial { ranges, coming }
            }
            None if whole == Availability::Absent => self.kept_for_others(),
            None => whole,
        }
    }

    /// What there is of a root that this node has not by itself.
    fn kept_for_others(&self) -> Availability {
        match self.replicas.as_ref().and_then(Reader::held) {
            Some(ranges) => Availability::Held { ranges },
            None => Availability::Absent,
        }
    }

    /// Other peers that deal with the root, if there are any that this one was not told of; those
    /// that are likely to be near it before others.
    pub(super) async fn hint(&mut self) -> Option<Response> {
        let others = self.guest.others();
        self.name(others, &[]).await
    }

    /// The same for a peer that is served nothing now: helpers that have taken copies are named, too.
    pub(super) async fn hint_of_copies(&mut self) -> Option<Response> {
        let holders = self.sources.crowds.holders(&self.root);
        let mut others = self.guest.others();
        others.extend(holders.iter().filter(|it| **it != self.peer));
        self.name(others, &holders).await
    }

    async fn name(&mut self, mut others: Vec<PeerId>, holders: &[PeerId]) -> Option<Response> {
        let room = PEERS_TOLD_MAX.saturating_sub(self.told.len());
        others.sort_unstable();
        others.dedup();
        others.retain(|peer| !self.told.contains(peer));
        let most = room.min(HINT_PEERS_MAX);
        if others.is_empty() || most == 0 {
            return None;
        }
        // Those that are near the peer come first. A peer that has not said yet where it is comes
        // with a later hint.
        let known = self.sources.net.introduce(others, self.peer, most).await;
        self.told.extend(known.iter().map(|(peer, _)| *peer));
        let peers: Vec<PeerHint> = known
            .into_iter()
            .filter_map(|(peer, addresses)| {
                let addresses = addresses
                    .iter()
                    .filter_map(|address| List::try_from(address.to_vec()).ok())
                    .take(HINT_ADDRESSES_MAX);
                Some(PeerHint {
                    peer: List::try_from(peer.to_bytes()).ok()?,
                    class: match holders.contains(&peer) {
                        true => PeerClass::Holder,
                        // It asked this node for the root.
                        false => PeerClass::Member,
                    },
                    addresses: List::first_of(addresses),
                })
            })
            .collect();
        let peers = List::first_of(peers);
        (!peers.is_empty()).then_some(Response::Hint { peers })
    }

    /// Waits until there is something new to tell. Cancel-safe: it is told the next time then.
    pub(super) async fn changed(&mut self) {
        tokio::time::sleep_until(self.next_at).await;
        let grows = async {
            match &mut self.growing {
                // An error says that the fetch is over, which is news, too.
                Some(growing) => drop(growing.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = grows => {}
            () = self.guest.others_change() => {}
        }
    }

    /// Takes note of what was sent, so that the next news wait their time.
    pub(super) fn sent(&mut self, bytes: usize) {
        let share = u32::try_from(bytes / NEWS_BYTES_PER_10_MS).unwrap_or(u32::MAX);
        let wait = Duration::from_millis(10).saturating_mul(share);
        self.next_at = Instant::now() + wait.max(NEWS_INTERVAL);
    }
}
