//! Crowds: more peers ask for a root than this node's line carries.
//!
//! [`Crowds`] knows who reads which root and looks at the line, has readers asked for helpers near them
//! and has copies offered to those, as the policy in
//! [`offers`](shoal_protocol::replicate::offers) decides. It looks at nothing while no root has a crowd,
//! and only at roots that this node has whole and that may be copied. It ends with the server; offers
//! that are under way end with it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use shoal_protocol::{
    address::Cid,
    exchange::{Helper, List, NEARBY_HELPERS_MAX},
    replicate::{
        Key, PeerKey, Shape,
        offers::{Deed, Offers, OffersConfig, Planned, Replied},
    },
};
use shoal_store::{Library, Origin, ShareState};
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::line::Line;
use crate::replicate::{Named, Replicator};

/// How often the line is looked at while a root has a crowd: eight times before it counts as full.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Helpers whose addresses are known at a time, 1 KiB each at the most.
const NAMED_MAX: usize = 1024;

/// The crowds of a node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Crowds {
    shared: Arc<Shared>,
}

struct Shared {
    library: Library,
    replicator: Replicator,
    line: Line,
    books: Mutex<Books>,
    /// A reader has come.
    came: Notify,
}

#[derive(Default)]
struct Books {
    offers: Offers,
    /// The roots of which something may be offered.
    roots: HashMap<Key, Cid>,
    /// The streams whose readers may be asked for helpers: the last of each reader.
    readers: HashMap<(Key, PeerKey), Weak<Question>>,
    /// Where the helpers are that were named, and who says so.
    named: HashMap<PeerKey, Named>,
}

/// Whether a reader is to be asked for helpers near it.
#[derive(Default)]
struct Question {
    is_due: AtomicBool,
    wake: Notify,
}

/// One stream among those that read a root; it leaves when dropped.
pub(super) struct Reading {
    crowds: Crowds,
    key: Key,
    reader: PeerKey,
    peer: PeerId,
    question: Arc<Question>,
    is_further_copy: bool,
}

impl Crowds {
    pub(super) fn new(library: Library, replicator: Replicator, line: Line) -> Self {
        let books = Books {
            offers: Offers::new(OffersConfig::default()),
            ..Books::default()
        };
        Self {
            shared: Arc::new(Shared {
                library,
                replicator,
                line,
                books: Mutex::new(books),
                came: Notify::new(),
            }),
        }
    }

    /// Looks after crowds until shutdown; all of its tasks are in `tasks`.
    pub(super) async fn run(self, tasks: TaskTracker, shutdown: CancellationToken) {
        loop {
            let came = self.shared.came.notified();
            if shutdown.run_until_cancelled(came).await.is_none() {
                return;
            }
            let mut looks = tokio::time::interval(LOOK_INTERVAL);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while self.look(&tasks, &shutdown) {
                if shutdown.run_until_cancelled(looks.tick()).await.is_none() {
                    return;
                }
            }
        }
    }

    /// A peer, connected from an address, has opened a stream for a root. None where nothing of the root
    /// is ever offered.
    pub(super) fn reading(
        &self,
        root: &Cid,
        (peer, ip): (PeerId, Option<IpAddr>),
    ) -> Option<Reading> {
        let Shared {
            library,
            replicator,
            came,
            ..
        } = &*self.shared;
        if !replicator.offers_copies() || !library.marks(root).may_replicate() {
            return None;
        }
        let (shape, key) = (shape_of(library, root)?, Key::of(&root.digest()?));
        let (reader, by) = replicator.asker(peer, ip);
        let question = Arc::<Question>::default();
        let mut books = self.lock();
        books
            .offers
            .asked(key, shape, reader, by, replicator.clock().now());
        let is_further_copy = books.offers.is_further_copy(key, reader);
        books.readers.retain(|_, it| it.strong_count() > 0);
        books
            .readers
            .insert((key, reader), Arc::downgrade(&question));
        books.roots.insert(key, root.clone());
        let has_crowd = books.offers.has_crowd();
        drop(books);
        if has_crowd {
            came.notify_one();
        }
        Some(Reading {
            crowds: self.clone(),
            key,
            reader,
            peer,
            question,
            is_further_copy,
        })
    }

    /// The helpers that have taken a copy of a root, as it was offered to them.
    pub(super) fn holders(&self, root: &Cid) -> Vec<PeerId> {
        let books = self.lock();
        let key = root.digest().map(|digest| Key::of(&digest));
        let holders = key.map_or_else(Vec::new, |key| books.offers.holders(key));
        let named = holders.iter().filter_map(|it| books.named.get(it));
        named.map(|it| it.peer).collect()
    }

    /// A client was told that this node is busy.
    pub(super) fn said_busy(&self) {
        let now = self.shared.replicator.clock().now();
        self.lock().offers.said_busy(now);
        self.shared.came.notify_one();
    }

    /// Does what is due; false when no root has a crowd any more.
    fn look(&self, tasks: &TaskTracker, shutdown: &CancellationToken) -> bool {
        let now = self.shared.replicator.clock().now();
        let is_full = self.shared.line.is_full();
        let mut books = self.lock();
        let has_crowd = books.offers.has_crowd();
        books.offers.set_line(has_crowd && is_full, now);
        let deeds = books.offers.poll(rand::random::<u64>, now);
        if books.offers.is_empty() {
            (books.roots, books.named) = (HashMap::new(), HashMap::new());
        }
        for deed in deeds {
            match deed {
                Deed::Nominate { key, peer } => {
                    let question = books.readers.get(&(key, peer)).and_then(Weak::upgrade);
                    if let Some(question) = question {
                        question.is_due.store(true, Relaxed);
                        question.wake.notify_one();
                    }
                }
                Deed::Offer(planned) => {
                    let (crowds, shutdown) = (self.clone(), shutdown.clone());
                    let offering = async move { crowds.offer(planned).await };
                    tasks.spawn(shutdown.run_until_cancelled_owned(offering));
                }
            }
        }
        has_crowd
    }

    async fn offer(self, planned: Planned) {
        tokio::time::sleep(planned.after).await;
        let (root, named) = {
            let books = self.lock();
            let root = books.roots.get(&planned.key).cloned();
            (root, books.named.get(&planned.to).cloned())
        };
        let Shared {
            library,
            replicator,
            ..
        } = &*self.shared;
        let replied = match root.zip(named) {
            // It may have been marked since.
            Some((root, _)) if !library.marks(&root).may_replicate() => {
                return self.lock().offers.forget(planned.key);
            }
            Some((root, named)) => replicator.offer_copy(&root, &planned, named).await,
            None => Replied::Silent,
        };
        let now = replicator.clock().now();
        self.lock()
            .offers
            .replied(planned.key, planned.to, replied, now);
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.shared.books.lock()
    }
}

impl Reading {
    /// Waits until the client is to be asked for helpers near it. Cancel-safe: it is due until it is
    /// [taken](Self::take_question).
    pub(super) async fn question(&self) {
        while !self.question.is_due.load(Relaxed) {
            self.question.wake.notified().await;
        }
    }

    /// The client is asked now.
    pub(super) fn take_question(&self) {
        self.question.is_due.store(false, Relaxed);
    }

    /// The client names helpers near it.
    pub(super) fn nominated(&self, helpers: List<Helper, NEARBY_HELPERS_MAX>) {
        let replicator = &self.crowds.shared.replicator;
        let helpers = helpers.into_vec().into_iter();
        let helpers = helpers.filter_map(|it| named(it, self.peer));
        let helpers: Vec<_> = helpers
            .filter(|it| !replicator.is_itself(&it.peer))
            .map(|it| (replicator.number(&it.peer), it))
            .collect();
        let keys: Vec<PeerKey> = helpers.iter().map(|(key, _)| *key).collect();
        let mut books = self.crowds.lock();
        if !books.offers.nominated(self.key, self.reader, &keys) {
            return;
        }
        tracing::debug!(peer = %self.peer, helpers = keys.len(), "a reader names helpers near it");
        for (key, named) in helpers {
            if books.named.len() < NAMED_MAX {
                books.named.insert(key, named);
            }
        }
    }

    /// Whether it reads a copy that this node has offered beyond the first whole one.
    pub(super) fn is_further_copy(&self) -> bool {
        self.is_further_copy
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let now = self.crowds.shared.replicator.clock().now();
        self.crowds.lock().offers.left(self.key, self.reader, now);
    }
}

/// What a root is like that is here whole.
fn shape_of(library: &Library, root: &Cid) -> Option<Shape> {
    let shares = library.shares_of(root);
    let whole = shares.iter().find(|share| {
        // What was chosen of a root is less than the root.
        let is_all = share.origin != Origin::Fetched || share.selection.is_empty();
        share.state == ShareState::Live && is_all
    });
    let (leaves, size) = whole.map(|share| (share.chunks, share.size))?;
    (leaves > 0).then_some(Shape { leaves, size })
}

/// A helper as it was named; none where that is no peer id.
fn named(helper: Helper, told_by: PeerId) -> Option<Named> {
    let addresses = helper.addresses.into_vec().into_iter();
    let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes.into_vec()).ok());
    Some(Named {
        peer: PeerId::from_bytes(&helper.peer).ok()?,
        addresses: addresses.collect(),
        told_by: Some(told_by),
    })
}
