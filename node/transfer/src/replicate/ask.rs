//! Asking near helpers for what is fetched.
//!
//! An [`Asking`] belongs to one fetch and runs beside it: it walks to the homes of the root's key,
//! tells the fetch whom they name, and answers a "want" with an offer once the fetch knows what the
//! root is like. Nothing waits for it. The walk ends with the fetch; an offer that is due is made
//! although the fetch is over, for it costs the asker nothing more.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use shoal_ground::deadline::within;
use shoal_protocol::{
    address::Cid,
    exchange::List,
    near::Nearness,
    replicate::{Answer, Candidate, Key, Offer, Peer, Reply, Shape, Walk, Why},
};
use tokio::sync::{mpsc, oneshot};

use super::{Replicator, ReplicatorInner, counters, key_of, named, people::position};

/// Peers that are named and not looked at by the fetch.
const NAMED_QUEUED_MAX: usize = 16;

/// A home that does not answer an ask for so long is passed over: it is near, or it was.
const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// A node waits for its first near helper until so long after its start, and for others so long after
/// it: they are greeted as soon as their connection is measured.
const NEIGHBOURS_WITHIN: Duration = Duration::from_secs(5);
const NEIGHBOURS_SETTLE: Duration = Duration::from_millis(100);

/// How long somebody who reads a root from its beginning is watched before a copy of what he reads is
/// offered: an invitation to offer holds for a minute.
const READ_FOR: Duration = Duration::from_secs(15);

/// How often one fetch looks for the homes: again when there are new near helpers, for a node that
/// has just started meets them one after the other. It asks each only once.
const WALKS_MAX: u32 = 8;

/// A peer that may have a root, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Who.
    pub peer: PeerId,
    /// Where it is said to be; perhaps nowhere.
    pub addresses: Vec<Multiaddr>,
    /// Who says so, where that is another peer: addresses are believed as far as it reaches.
    pub told_by: Option<PeerId>,
}

/// What comes of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lead {
    /// Somebody who may have it.
    Named(Named),
    /// A near helper was asked that has nothing of it, and may keep a copy.
    Helper(PeerId),
    /// The homes were asked. Whoever comes later is a helper that was met since.
    AllAsked,
}

/// What a fetch tells of its root once it knows.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the root is like.
    pub shape: Shape,
    /// Providers of the fetch, the nearest first.
    pub holders: Vec<PeerId>,
    /// How far a reader is that reads the root from its beginning; without one all of it is wanted.
    pub read: Option<ReadSoFar>,
}

/// How many leaves a reader has read, from the first one on. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct ReadSoFar(Arc<AtomicU64>);

impl ReadSoFar {
    /// It has read so many.
    pub(crate) fn set(&self, leaves: u64) {
        self.0.store(leaves, Relaxed);
    }

    fn leaves(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The fetch's end; what is asked for goes on without it only as far as the module's head says.
pub struct Asking {
    /// What comes of it.
    pub leads: mpsc::Receiver<Lead>,
    /// To be told what the root is like, if a copy of it near here would be of use.
    pub terms: oneshot::Sender<Terms>,
}

/// One fetch's questions.
struct Asker {
    inner: Arc<ReplicatorInner>,
    root: Cid,
    key: Key,
    stays: bool,
    leads: mpsc::Sender<Lead>,
    /// Those that were asked.
    asked: BTreeSet<PeerId>,
    /// Homes that want an offer.
    wanting: Vec<PeerId>,
}

impl Replicator {
    /// Whether there is a near helper to ask, or may be one soon.
    #[must_use]
    pub fn knows_whom_to_ask(&self) -> bool {
        let inner = &self.inner;
        let is_new = inner.clock.uptime() < NEIGHBOURS_WITHIN;
        inner.is_on() && (is_new || inner.people().neighbours() > 0)
    }

    /// Begins to ask for a root that may be replicated; none where this node takes no part, or the
    /// root has no key. `stays` says whether what is fetched is served here from then on.
    #[must_use]
    pub fn ask(&self, root: &Cid, stays: bool) -> Option<Asking> {
        let inner = &self.inner;
        if !inner.is_on() {
            return None;
        }
        let key = key_of(root)?;
        let (leads, receiver) = mpsc::channel(NAMED_QUEUED_MAX);
        let (terms, told) = oneshot::channel();
        let asker = Asker {
            inner: Arc::clone(inner),
            root: root.clone(),
            key,
            stays: stays && inner.lasts,
            leads,
            asked: BTreeSet::new(),
            wanting: Vec::new(),
        };
        let shutdown = inner.shutdown.clone();
        inner
            .tasks
            .spawn(async move { shutdown.run_until_cancelled(asker.run(told)).await });
        Some(Asking {
            leads: receiver,
            terms,
        })
    }
}

impl Asker {
    async fn run(mut self, mut terms: oneshot::Receiver<Terms>) {
        let over = self.leads.clone();
        // None until the fetch has told, and within it none where no offer is of use.
        let mut told: Option<Option<Terms>> = None;
        for _ in 0..WALKS_MAX {
            let inner = Arc::clone(&self.inner);
            let mut placed = std::pin::pin!(inner.placed.notified());
            tokio::select! {
                // The fetch is over before the homes are found.
                () = over.closed() => break,
                () = self.find_homes() => {}
            }
            // A fetch that has ended needs it no more.
            let _ = self.leads.try_send(Lead::AllAsked);
            // Until there are others to ask.
            loop {
                if let Some(Some(terms)) = &told {
                    self.offer(terms).await;
                }
                tokio::select! {
                    biased;
                    word = &mut terms, if told.is_none() => told = Some(word.ok()),
                    () = over.closed() => return,
                    () = &mut placed => break,
                }
            }
            tokio::time::sleep(NEIGHBOURS_SETTLE).await;
        }
        if told.is_none() {
            let word = tokio::select! {
                biased;
                word = &mut terms => word.ok(),
                () = over.closed() => None,
            };
            if let Some(terms) = word {
                self.offer(&terms).await;
            }
        }
    }

    async fn find_homes(&mut self) {
        self.neighbours().await;
        for nearness in [Nearness::Lan, Nearness::Near] {
            let walk = self.inner.people().walk(self.key, nearness);
            self.walk(walk).await;
        }
    }

    /// Waits for near helpers on a node that has just started.
    async fn neighbours(&self) {
        let found = async {
            loop {
                let placed = self.inner.placed.notified();
                if self.inner.people().neighbours() > 0 {
                    return;
                }
                placed.await;
            }
        };
        let within_start = NEIGHBOURS_WITHIN.saturating_sub(self.inner.clock.uptime());
        if self.inner.people().neighbours() == 0 && within(within_start, found).await.is_some() {
            tokio::time::sleep(NEIGHBOURS_SETTLE).await;
        }
    }

    async fn walk(&mut self, mut walk: Walk) {
        loop {
            let step: Vec<_> = {
                let people = self.inner.people();
                let step = walk.step().into_iter();
                step.map(|key| (key, people.numbers.peer(key))).collect()
            };
            if step.is_empty() {
                return;
            }
            let mut asked = Vec::new();
            for (key, peer) in step {
                if peer.is_some_and(|peer| !self.asked.insert(peer)) {
                    walk.answered(key, []);
                    continue;
                }
                let asking = self.ask(peer);
                asked.push(async move { (key, peer, asking.await) });
            }
            for (key, peer, answer) in join_all(asked).await {
                let (Some(peer), Some(answer)) = (peer, answer) else {
                    walk.failed(key);
                    continue;
                };
                let closer = self.heard(peer, answer).await;
                walk.answered(key, closer);
            }
        }
    }

    fn ask(&self, peer: Option<PeerId>) -> impl Future<Output = Option<Answer>> + use<> {
        let link = peer.and_then(|peer| self.inner.link_to(peer));
        let (key, stays) = (self.key, self.stays);
        async move { within(ASK_PATIENCE, link?.ask(key, stays)).await? }
    }

    /// Takes an answer: whom it names goes to the fetch, and the closer nodes come back.
    async fn heard(&mut self, peer: PeerId, answer: Answer) -> Vec<Candidate> {
        self.inner.counters.heard.add(counters::of_answer(&answer));
        tracing::debug!(%peer, answer = counters::of_answer(&answer), "a near helper answers");
        match answer {
            Answer::Have { wants, .. } => {
                if wants {
                    self.wanting.push(peer);
                }
                self.name(holder(peer)).await;
            }
            Answer::Pulling => self.name(holder(peer)).await,
            Answer::Want => self.wanting.push(peer),
            Answer::Elsewhere { holders, closer } => {
                self.found(peer).await;
                for holder in holders.into_vec() {
                    if let Some(named) = named(holder, peer) {
                        self.name(named).await;
                    }
                }
                return self.closer(closer.into_vec(), peer).await;
            }
            Answer::No {
                why: Why::Demand, ..
            } => self.found(peer).await,
            Answer::No { .. } => {}
        }
        Vec::new()
    }

    /// Tells the fetch of a helper that may keep a copy.
    async fn found(&self, helper: PeerId) {
        let _ = self.leads.send(Lead::Helper(helper)).await;
    }

    /// Tells the fetch of a peer; one that has ended needs none.
    async fn name(&self, named: Named) {
        if named.peer != self.inner.net.peer_id() {
            let _ = self.leads.send(Lead::Named(named)).await;
        }
    }

    /// The nodes that are said to be closer, as candidates of the walk.
    async fn closer(&self, closer: Vec<Peer>, told_by: PeerId) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for closer in closer.into_iter().filter_map(|it| named(it, told_by)) {
            if closer.peer == self.inner.net.peer_id() {
                continue;
            }
            let net = &self.inner.net;
            net.learn(closer.peer, closer.addresses, told_by).await;
            candidates.push(Candidate {
                peer: self.inner.people().numbers.key(&closer.peer),
                position: position(&closer.peer),
            });
        }
        candidates
    }

    /// Offers the root to the homes that want it. Whoever takes it is named to the fetch, if that
    /// still goes on.
    async fn offer(&mut self, terms: &Terms) {
        if terms.read.is_some() && !self.wanting.is_empty() {
            // By then it has read some of it, or has had enough.
            tokio::select! {
                () = self.leads.closed() => {}
                () = tokio::time::sleep(READ_FOR) => {}
            }
        }
        let wanting = std::mem::take(&mut self.wanting);
        join_all(wanting.iter().map(|home| self.offer_to(*home, terms))).await;
    }

    async fn offer_to(&self, home: PeerId, terms: &Terms) {
        let Some(link) = self.inner.link_to(home) else {
            return;
        };
        let mut holders = terms.holders.clone();
        holders.retain(|it| *it != home);
        let read = terms.read.as_ref().map(ReadSoFar::leaves);
        let ranges = terms.shape.begun(read.unwrap_or(terms.shape.leaves));
        let offer = Offer {
            id: 0,
            root: self.root.clone(),
            leaves: terms.shape.leaves,
            size: terms.shape.size,
            ranges,
            asked: 1,
            holders: List::first_of(self.inner.introduce(holders, home).await),
        };
        let Some(reply) = link.offer(offer).await else {
            return;
        };
        self.inner.counters.replies.add(counters::of_reply(&reply));
        tracing::debug!(peer = %home, reply = counters::of_reply(&reply), "an offer was replied to");
        if let Reply::Accept { .. } = reply {
            let _ = self.leads.try_send(Lead::Named(holder(home)));
        }
    }
}

/// A peer that is connected.
fn holder(peer: PeerId) -> Named {
    Named {
        peer,
        addresses: Vec::new(),
        told_by: None,
    }
}
