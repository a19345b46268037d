//! Keeps the DHT in step with what the library offers.
//!
//! The library tells of changes on whatever thread made them and must not be kept waiting, so only
//! the set of roots to look at again is passed on: it cannot grow beyond what is shared.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use shoal_protocol::{address::Cid, dht};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    net::Net,
    serve::Withdrawn,
    store::{Library, LibraryEvent, ShareRecord, ShareState},
};

/// The roots whose shares changed since they were last looked at.
#[derive(Default)]
pub(super) struct Offers {
    dirty: Mutex<BTreeSet<Cid>>,
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
                bring_in_step(&library, &net, &withdrawn, &root).await;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
            }
        }
    }
}

/// The DHT key of a share that is to be found there.
pub(super) fn announced_key(share: &ShareRecord) -> Option<[u8; 32]> {
    let announce = share.announce && share.state == ShareState::Live;
    share
        .root
        .digest()
        .filter(|_| announce)
        .map(|digest| dht::key(&digest))
}

async fn bring_in_step(library: &Library, net: &Net, withdrawn: &Withdrawn, root: &Cid) {
    let shares = library.shares_of(root);
    // One share of a root is enough, whatever became of another.
    if let Some(key) = shares.iter().find_map(|share| announced_key(share)) {
        net.announce(key).await;
        return;
    }
    if let Some(digest) = root.digest() {
        net.withdraw(dht::key(&digest)).await;
    }
    if !shares.iter().any(|share| share.state == ShareState::Live) {
        withdrawn.note(root);
    }
}
