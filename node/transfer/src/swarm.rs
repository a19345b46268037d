//! Who deals with the same roots as this node: where serving and fetching meet.
//!
//! A swarm is kept for every root that peers ask this node about or that it fetches itself. It
//! knows the guests, peers that have a stream open here for the root, and what the fetches of the
//! root that run here have landed so far and have asked owners for. So those who serve can say which part there is and who
//! else is interested, and a fetch hears of peers that may have what it lacks. Nothing is kept of a
//! root without guests and fetches; there are no more guests than streams are served.
//!
//! It moves no content and knows no addresses.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use libp2p::PeerId;
use parking_lot::{Mutex, MutexGuard};
use shoal_protocol::{
    address::Cid,
    exchange::{COMING_LEAVES_MAX, LeafRanges, List},
};
use tokio::sync::{mpsc, watch};

/// Guests that a fetch has not looked at yet; it hears of the others when they come back, or from
/// other peers.
const GUESTS_QUEUED_MAX: usize = 64;

/// All swarms of this node.
pub struct Swarms {
    roots: Mutex<HashMap<Cid, Swarm>>,
    /// Called when a part of a root begins or ceases to be offered. Does not block or call back.
    on_change: Box<dyn Fn(&Cid) + Send + Sync>,
}

/// One root's.
#[derive(Default)]
struct Swarm {
    /// Who has streams open here, and how many.
    guests: HashMap<PeerId, usize>,
    /// Counts arrivals of guests.
    arrivals: watch::Sender<u64>,
    fetches: Vec<Fetch>,
}

struct Fetch {
    /// What it has; the sender is the fetch's identity.
    growing: Arc<watch::Sender<Growing>>,
    /// Whether what it lands is announced; replicas are not.
    is_announced: bool,
    guests: mpsc::Sender<PeerId>,
}

/// What a fetch has of its root, and is getting.
#[derive(Clone, Debug, Default)]
pub struct Growing {
    /// What has landed, and can be served.
    pub landed: Arc<LeafRanges>,
    /// The leaves that it has asked owners for.
    pub coming: List<u64, COMING_LEAVES_MAX>,
}

impl Swarms {
    /// No root yet. Each time more of a root has landed, `on_change` is called with it.
    pub fn new(on_change: impl Fn(&Cid) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            roots: Mutex::default(),
            on_change: Box::new(on_change),
        })
    }

    /// Whether a part of the root is here, and growing; what there is of it.
    pub fn growing(&self, root: &Cid) -> Option<watch::Receiver<Growing>> {
        let roots = self.lock();
        let fetches = &roots.get(root)?.fetches;
        let most = fetches
            .iter()
            .max_by_key(|fetch| fetch.growing.borrow().landed.leaves());
        most.map(|fetch| fetch.growing.subscribe())
    }

    /// Whether a fetch of the root has landed anything that may be announced.
    pub fn offers(&self, root: &Cid) -> bool {
        let roots = self.lock();
        let fetches = roots.get(root).map(|swarm| swarm.fetches.iter());
        let mut announced = fetches.into_iter().flatten().filter(|it| it.is_announced);
        announced.any(|it| !it.growing.borrow().landed.is_empty())
    }

    /// A peer has opened a stream for the root.
    pub(crate) fn welcome(self: &Arc<Self>, root: &Cid, peer: PeerId) -> Guest {
        let mut roots = self.lock();
        let swarm = roots.entry(root.clone()).or_default();
        let streams = swarm.guests.entry(peer).or_default();
        *streams += 1;
        if *streams == 1 {
            swarm.arrivals.send_modify(|arrivals| *arrivals += 1);
        }
        for fetch in &swarm.fetches {
            // One that is this far behind hears of the peer when it comes again.
            let _ = fetch.guests.try_send(peer);
        }
        Guest {
            swarms: Arc::clone(self),
            root: root.clone(),
            peer,
            arrivals: swarm.arrivals.subscribe(),
        }
    }

    /// A fetch of the root begins; it is told of the guests that are here and that come.
    pub fn join(self: &Arc<Self>, root: &Cid) -> (Member, mpsc::Receiver<PeerId>) {
        self.enter(root, true)
    }

    /// The same for a pull of a replica: what it lands is served, and not announced.
    pub(crate) fn join_unannounced(
        self: &Arc<Self>,
        root: &Cid,
    ) -> (Member, mpsc::Receiver<PeerId>) {
        self.enter(root, false)
    }

    fn enter(self: &Arc<Self>, root: &Cid, is_announced: bool) -> (Member, mpsc::Receiver<PeerId>) {
        let (guests, receiver) = mpsc::channel(GUESTS_QUEUED_MAX);
        let growing = Arc::new(watch::Sender::default());
        let mut roots = self.lock();
        let swarm = roots.entry(root.clone()).or_default();
        for peer in swarm.guests.keys() {
            let _ = guests.try_send(*peer);
        }
        swarm.fetches.push(Fetch {
            growing: Arc::clone(&growing),
            is_announced,
            guests,
        });
        let member = Member {
            swarms: Arc::clone(self),
            root: root.clone(),
            growing,
        };
        (member, receiver)
    }

    fn leave(&self, root: &Cid, change: impl FnOnce(&mut Swarm)) {
        let mut roots = self.lock();
        if let Some(swarm) = roots.get_mut(root) {
            change(swarm);
            if swarm.guests.is_empty() && swarm.fetches.is_empty() {
                roots.remove(root);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Cid, Swarm>> {
        self.roots.lock()
    }
}

/// A stream that a peer has open for a root; it leaves when dropped.
pub(crate) struct Guest {
    swarms: Arc<Swarms>,
    root: Cid,
    peer: PeerId,
    arrivals: watch::Receiver<u64>,
}

impl Guest {
    /// Waits until another guest comes. Cancel-safe.
    pub(crate) async fn others_change(&mut self) {
        // The sender lives as long as this guest is in the swarm.
        if self.arrivals.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The other guests at present.
    pub(crate) fn others(&self) -> Vec<PeerId> {
        let roots = self.swarms.lock();
        let guests = roots.get(&self.root).map(|swarm| swarm.guests.keys());
        let guests = guests.into_iter().flatten();
        guests.copied().filter(|peer| *peer != self.peer).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.swarms.leave(&self.root, |swarm| {
            if let Some(streams) = swarm.guests.get_mut(&self.peer) {
                *streams -= 1;
                if *streams == 0 {
                    swarm.guests.remove(&self.peer);
                }
            }
        });
    }
}

/// A fetch's place in the swarm of its root; given up when dropped.
pub struct Member {
    swarms: Arc<Swarms>,
    root: Cid,
    growing: Arc<watch::Sender<Growing>>,
}

/// Where a fetch says what it has asked owners for, while it has a place in the swarm.
pub(crate) struct Coming(Weak<watch::Sender<Growing>>);

impl Coming {
    /// Says which leaves these are. Whoever asks next is told so, too.
    pub(crate) fn tell(&self, coming: Vec<u64>) {
        let Some(growing) = self.0.upgrade() else {
            return;
        };
        let coming = List::first_of(coming);
        growing.send_if_modified(|growing| {
            let is_new = growing.coming != coming;
            growing.coming = coming;
            is_new
        });
    }
}

impl Member {
    /// Says what can be served of the root by now.
    pub fn landed(&self, ranges: LeafRanges) {
        let is_first = !ranges.is_empty() && self.growing.borrow().landed.is_empty();
        self.growing
            .send_modify(|growing| growing.landed = Arc::new(ranges));
        if is_first {
            (self.swarms.on_change)(&self.root);
        }
    }

    /// Where the fetch says what is coming to it.
    pub(crate) fn coming(&self) -> Coming {
        Coming(Arc::downgrade(&self.growing))
    }

    /// The root's marks are known, or others than before.
    pub(crate) fn marks_changed(&self) {
        (self.swarms.on_change)(&self.root);
    }

    /// Whether somebody is to be kept up to date, or nobody was told of anything yet.
    pub(crate) fn is_asked(&self) -> bool {
        self.growing.receiver_count() > 0 || self.growing.borrow().landed.is_empty()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.swarms.leave(&self.root, |swarm| {
            let is_this = |fetch: &Fetch| Arc::ptr_eq(&fetch.growing, &self.growing);
            swarm.fetches.retain(|fetch| !is_this(fetch));
        });
        (self.swarms.on_change)(&self.root);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use shoal_protocol::address::{Digest, HashFn};

    use super::*;

    fn root() -> Cid {
        Cid::raw(Digest::of(HashFn::Blake3, b"root"))
    }

    #[tokio::test]
    async fn guests_hear_of_guests_and_fetches_of_both() {
        let swarms = Swarms::new(|_| {});
        let (one, other) = (PeerId::random(), PeerId::random());
        let mut first = swarms.welcome(&root(), one);
        assert!(first.others().is_empty());
        let (_member, mut guests) = swarms.join(&root());
        let second = swarms.welcome(&root(), other);
        let again = swarms.welcome(&root(), other);
        first.others_change().await;
        assert_eq!((first.others(), second.others()), (vec![other], vec![one]));
        drop(second);
        assert_eq!(first.others(), [other], "it has another stream");
        drop(again);
        assert!(first.others().is_empty());
        assert_eq!(guests.recv().await, Some(one));
        assert_eq!(guests.recv().await, Some(other));
    }

    #[test]
    fn a_replica_is_served_while_it_is_pulled_and_not_announced() {
        let swarms = Swarms::new(|_| {});
        let (member, _guests) = swarms.join_unannounced(&root());
        member.landed(LeafRanges::from_sorted(0..4));
        let landed = swarms.growing(&root()).unwrap();
        assert_eq!(landed.borrow().landed.leaves(), 4);
        assert!(!swarms.offers(&root()));
    }

    #[tokio::test]
    async fn a_part_is_offered_from_its_first_leaf_to_its_end() {
        let changes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&changes);
        let swarms = Swarms::new(move |_| {
            counted.fetch_add(1, SeqCst);
        });
        assert!(swarms.growing(&root()).is_none());
        let (member, _guests) = swarms.join(&root());
        let mut landed = swarms.growing(&root()).unwrap();
        assert!(!swarms.offers(&root()) && member.is_asked());
        for leaves in [0..1, 0..2] {
            member.landed(LeafRanges::from_sorted(leaves));
        }
        assert!(swarms.offers(&root()) && changes.load(SeqCst) == 1);
        assert_eq!(landed.borrow_and_update().landed.leaves(), 2);
        drop(member);
        assert!(landed.changed().await.is_err(), "it is over");
        assert!(!swarms.offers(&root()) && changes.load(SeqCst) == 2);
        assert!(swarms.lock().is_empty(), "nothing is kept");
    }
}
