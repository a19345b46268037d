//! Keeps the DHT in step with what the library offers.
//!
//! The library tells of changes on whatever thread made them and must not be kept waiting, so only
//! the set of roots to look at again is passed on: it cannot grow beyond what is shared.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shoal_protocol::{address::Cid, dht};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    net::{Key, Net},
    serve::Withdrawn,
    store::{Library, LibraryEvent, ShareRecord, ShareState},
};

/// The roots whose shares changed since they were last looked at.
#[derive(Default)]
pub(super) struct Offers {
    dirty: Mutex<BTreeSet<Cid>>,
    /// The announced roots of which no peer was told in this run yet, by their keys.
    untold: Mutex<HashMap<Key, Cid>>,
    changed: Notify,
}

impl Offers {
    /// Notes what the library tells. Never waits.
    pub(super) fn note(&self, event: &LibraryEvent) {
        let share = match event {
            LibraryEvent::Added(it) | LibraryEvent::Removed(it) | LibraryEvent::Changed(it) => it,
        };
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        dirty.insert(share.root.clone());
        self.changed.notify_one();
    }

    /// The keys of all `shares` that are to be found in the DHT.
    pub(super) fn keys(&self, shares: &[Arc<ShareRecord>]) -> Vec<Key> {
        let mut untold = self.untold();
        let announced = shares.iter().filter_map(|share| {
            let key = announced_key(share)?;
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
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces and withdraws until `shutdown`.
    pub(super) async fn follow(
        self: Arc<Self>,
        library: Library,
        net: Net,
        withdrawn: Arc<Withdrawn>,
        shutdown: CancellationToken,
    ) {
        loop {
            let dirty = {
                let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *dirty)
            };
            for root in dirty {
                self.bring_in_step(&library, &net, &withdrawn, &root).await;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
            }
        }
    }
}

/// The DHT key of a share that is to be found there.
fn announced_key(share: &ShareRecord) -> Option<Key> {
    let announce = share.announce && share.state == ShareState::Live;
    share
        .root
        .digest()
        .filter(|_| announce)
        .map(|digest| dht::key(&digest))
}

impl Offers {
    async fn bring_in_step(&self, library: &Library, net: &Net, withdrawn: &Withdrawn, root: &Cid) {
        let shares = library.shares_of(root);
        // One share of a root is enough, whatever became of another.
        if let Some(key) = shares.iter().find_map(|share| announced_key(share)) {
            self.untold().insert(key, root.clone());
            net.announce(key).await;
            return;
        }
        if let Some(digest) = root.digest() {
            let key = dht::key(&digest);
            self.untold().remove(&key);
            net.withdraw(key).await;
        }
        if !shares.iter().any(|share| share.state == ShareState::Live) {
            withdrawn.note(root);
        }
    }
}
