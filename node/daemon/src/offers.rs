//! Keeps the DHT in step with what this node offers: its shares, and of what it fetches the part
//! that is here.
//!
//! Changes are told on whatever thread made them, which must not be kept waiting, so only the set
//! of roots to look at again is passed on: it cannot grow beyond what is shared and fetched.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use shoal_net::{Key, Net};
use shoal_protocol::{address::Cid, dht};
use shoal_store::{Library, LibraryEvent, Origin, ShareRecord, ShareState};
use shoal_transfer::{serve::Withdrawn, swarm::Swarms};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What changed of a root since it was last looked at.
#[derive(Clone, Copy, Default)]
struct Changes {
    /// A share of it, and not only the part of it that a fetch has.
    shares: bool,
}

/// What a node announces of what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announces {
    /// All shares, and what it fetches.
    Everything,
    /// What is shared through it, and nothing else: it ends with its fetch, and the DHT has no
    /// withdrawal. Who asks is served all the same.
    OnlyNewShares,
    /// Nothing: it has no network.
    Nothing,
}

/// The roots that are to be looked at.
pub(super) struct Offers {
    announces: Announces,
    dirty: Mutex<BTreeMap<Cid, Changes>>,
    /// The announced roots of which no peer was told in this run yet, by their keys.
    untold: Mutex<HashMap<Key, Cid>>,
    changed: Notify,
}

impl Offers {
    pub(super) fn new(announces: Announces) -> Self {
        Self {
            announces,
            dirty: Mutex::default(),
            untold: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Whether nothing is ever announced.
    pub(super) fn are_nothing(&self) -> bool {
        self.announces == Announces::Nothing
    }

    /// Notes what the library tells. Never waits.
    pub(super) fn note(&self, event: &LibraryEvent) {
        if let Some(share) = event.changed() {
            self.look_at(&share.root, |changes| changes.shares = true);
        }
    }

    /// Notes that a part of a root began or ceased to be here. Never waits.
    pub(super) fn part_changed(&self, root: &Cid) {
        self.look_at(root, |_| {});
    }

    fn look_at(&self, root: &Cid, note: impl FnOnce(&mut Changes)) {
        let mut dirty = self.dirty.lock();
        note(dirty.entry(root.clone()).or_default());
        self.changed.notify_one();
    }

    /// The keys of all `shares` that are to be found in the DHT.
    pub(super) fn keys(&self, shares: &[Arc<ShareRecord>]) -> Vec<Key> {
        if self.announces != Announces::Everything {
            return Vec::new();
        }
        let mut untold = self.untold();
        let announced = shares.iter().filter_map(|share| {
            let key = self.announced_key(share)?;
            untold.insert(key, share.root.clone());
            Some(key)
        });
        announced.collect()
    }

    /// Peers were told of `key`: the root that it stands for, the first time in this run.
    pub(super) fn told(&self, key: &Key) -> Option<Cid> {
        self.untold().remove(key)
    }

    fn untold(&self) -> MutexGuard<'_, HashMap<Key, Cid>> {
        self.untold.lock()
    }

    /// Announces and withdraws until `shutdown`.
    pub(super) async fn follow(
        self: Arc<Self>,
        library: Library,
        net: Net,
        swarms: Arc<Swarms>,
        withdrawn: Arc<Withdrawn>,
        shutdown: CancellationToken,
    ) {
        loop {
            let dirty = {
                let mut dirty = self.dirty.lock();
                std::mem::take(&mut *dirty)
            };
            for (root, changes) in dirty {
                let is_offered = self.bring_in_step(&library, &net, &swarms, &root).await;
                if changes.shares && !is_offered {
                    withdrawn.note(&root);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
            }
        }
    }
}

impl Offers {
    /// The DHT key of a share that is to be found there.
    fn announced_key(&self, share: &ShareRecord) -> Option<Key> {
        let lasts = match self.announces {
            Announces::Everything => true,
            Announces::OnlyNewShares => share.origin != Origin::Fetched,
            Announces::Nothing => false,
        };
        let announce = lasts && share.announce && share.state == ShareState::Live;
        share
            .root
            .digest()
            .filter(|_| announce)
            .map(|digest| dht::key(&digest))
    }

    /// Announces or withdraws a root; whether a share of it is offered, announced or not.
    async fn bring_in_step(
        &self,
        library: &Library,
        net: &Net,
        swarms: &Swarms,
        root: &Cid,
    ) -> bool {
        let shares = library.shares_of(root);
        let key = root.digest().map(|digest| dht::key(&digest));
        // One share of a root is enough, whatever became of another; so is a fetch's part of it.
        let announces_parts = self.announces == Announces::Everything;
        let may_announce = announces_parts && !library.is_concealed(root);
        let part_key = key.filter(|_| may_announce && swarms.offers(root));
        let announced = shares.iter().find_map(|share| self.announced_key(share));
        match (announced.or(part_key), key) {
            (Some(key), _) => {
                self.untold().insert(key, root.clone());
                net.announce(key).await;
            }
            (None, Some(key)) => {
                self.untold().remove(&key);
                net.withdraw(key).await;
            }
            (None, None) => {}
        }
        shares.iter().any(|share| share.state == ShareState::Live)
    }
}
