//! Asking near helpers beside a fetch, and telling them what its root is like.
//!
//! An [`Inquiry`] is a task of the fetch. It asks once it is known that the root may be replicated,
//! hands on whom the homes name, and passes the terms of an offer on as soon as the fetch knows them.
//! Neither the fetch nor its other ways to find providers wait for it. It ends with the transfer.

use std::{sync::Arc, time::Duration};

use libp2p::PeerId;
use parking_lot::Mutex;
use shoal_protocol::{address::Cid, link::Marks, replicate::Shape};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    discovery::{Candidate, Found},
    heard::Heard,
};
use crate::replicate::{Asking, Lead, Named, ReadSoFar, Replicator, Terms};

/// A root of which no provider has told the marks after this long is asked for all the same. A link
/// carries its marks, and the look-up in the DHT has told as much as an ask by then.
const UNHEARD_AFTER: Duration = Duration::from_secs(1);

/// The providers of a fetch, as an offer tells of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Providers {
    /// Those that have delivered or have everything, the nearest first.
    pub(super) holders: Vec<PeerId>,
    /// Whether one is near that has everything and stays: no further copy is of use.
    pub(super) has_near_copy: bool,
}

/// Where a fetch says what its root is like, once it knows. Cheap to clone; the first word counts.
#[derive(Clone, Default)]
pub(super) struct ShapeTeller(Arc<Mutex<Option<oneshot::Sender<Told>>>>);

/// What a root is like, and how far its reader is if he reads it from the beginning.
type Told = (Shape, Option<ReadSoFar>);

impl ShapeTeller {
    /// Says it; who asks nobody has nobody to tell.
    pub(super) fn tell(&self, shape: Shape) {
        self.tell_all((shape, None));
    }

    /// The same of a root that is read from its beginning.
    pub(super) fn tell_of_reader(&self, shape: Shape, read: &ReadSoFar) {
        self.tell_all((shape, Some(read.clone())));
    }

    fn tell_all(&self, told: Told) {
        let mut teller = self.0.lock();
        if let Some(teller) = teller.take().filter(|_| told.0.leaves > 0) {
            let _ = teller.send(told);
        }
    }
}

/// One fetch's questions.
pub(super) struct Inquiry {
    pub(super) replicator: Replicator,
    pub(super) root: Cid,
    /// Whether what is fetched is served here from then on.
    pub(super) stays: bool,
    pub(super) heard: Arc<Heard>,
    pub(super) providers: watch::Receiver<Providers>,
    pub(super) found: mpsc::Sender<Found>,
}

impl Inquiry {
    /// The task, and where its fetch says what the root is like.
    pub(super) fn start(self) -> (ShapeTeller, impl Future<Output = ()>) {
        let (teller, shape) = oneshot::channel();
        let teller = ShapeTeller(Arc::new(Mutex::new(Some(teller))));
        (teller, self.run(shape))
    }

    async fn run(self, mut shape: oneshot::Receiver<Told>) {
        let heard = Arc::clone(&self.heard);
        let asked = tokio::select! {
            biased;
            () = self.found.closed() => return,
            _ = heard.marked_beyond(Marks::default()) => return self.all_asked().await,
            () = heard.spoken() => self.ask(),
            () = tokio::time::sleep(UNHEARD_AFTER) => self.ask(),
        };
        let Some(Asking { mut leads, terms }) = asked else {
            return self.all_asked().await;
        };
        let mut terms = Some(terms);
        loop {
            tokio::select! {
                biased;
                // Dropped with this, the asking ends.
                _ = heard.marked_beyond(Marks::default()) => return self.all_asked().await,
                told = &mut shape, if terms.is_some() => {
                    let Providers { holders, has_near_copy } = self.providers.borrow().clone();
                    if let (Ok((shape, read)), Some(terms), false) = (told, terms.take(), has_near_copy) {
                        let _ = terms.send(Terms { shape, holders, read });
                    }
                }
                Some(lead) = leads.recv() => match lead {
                    Lead::Named(named) => self.name(named).await,
                    Lead::Helper(peer) => {
                        // Without a listener nobody needs it.
                        let _ = self.found.send(Found::Helper(peer)).await;
                    }
                    Lead::AllAsked => self.all_asked().await,
                },
                () = self.found.closed() => return,
                else => return,
            }
        }
    }

    fn ask(&self) -> Option<Asking> {
        if !self.heard.marks().may_replicate() {
            return None;
        }
        self.replicator.ask(&self.root, self.stays)
    }

    /// Nobody is asked any more that the fetch would have to wait for before it gives up.
    async fn all_asked(&self) {
        // Without a listener nobody needs it.
        let _ = self.found.send(Found::NearAsked).await;
    }

    async fn name(&self, named: Named) {
        tracing::debug!(peer = %named.peer, "a near helper names a provider");
        let found = Found::Candidate(candidate(named));
        // Without a listener nobody needs it.
        let _ = self.found.send(found).await;
    }
}

/// A peer that was named, for those who contact it.
pub(super) fn candidate(named: Named) -> Candidate {
    Candidate {
        peer: named.peer,
        addresses: named.addresses,
        told_by: named.told_by,
    }
}
