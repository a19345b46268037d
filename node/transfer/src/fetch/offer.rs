//! Serving what a fetch has landed, while it goes on.
//!
//! What the journal has written can be read by those who serve; this keeps the swarm informed of
//! it, from the first leaf on, once it is known whether the root may be announced. It ends with the
//! fetch, and what is told last stays served until the whole share is there.

use std::{convert::Infallible, sync::Arc, time::Duration};

use libp2p::PeerId;
use shoal_protocol::link::Marks;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::job::{Begun, Job};
use crate::swarm::Member;

/// Between two looks at what has landed: each may be a small write to the index.
const OFFER_INTERVAL: Duration = Duration::from_millis(250);

/// The same while nobody is kept up to date: who asks once, as `find` does, is told what there was so
/// long ago.
const UNASKED_INTERVAL: Duration = Duration::from_secs(5);

impl Job {
    /// Takes this fetch's place in the swarm of its root. A fetch of a part of a root has none: it
    /// does not know which leaves of the whole it lands; one that is not served offers nothing.
    pub(super) fn join(&self) -> (Option<Member>, mpsc::Receiver<PeerId>) {
        if !self.request.is_whole() || !self.request.is_served() {
            return (None, mpsc::channel(1).1);
        }
        let (member, guests) = self.inner.swarms.join(self.root());
        (Some(member), guests)
    }

    /// Tells the swarm what can be served, again and again. Cancel-safe.
    pub(super) async fn offer(
        self: &Arc<Self>,
        begun: &Arc<Begun>,
        member: Option<&Member>,
    ) -> Infallible {
        let Some(member) = member else {
            return std::future::pending().await;
        };
        let journal = &begun.journal;
        self.heard.spoken().await;
        // Before anything is offered: what is offered is announced, and passed on with its marks as
        // they are recorded.
        self.mark(begun, self.heard.marks()).await;
        loop {
            journal.landed().await;
            let late = Instant::now() + UNASKED_INTERVAL;
            while !member.is_asked() && Instant::now() < late {
                sleep(OFFER_INTERVAL).await;
            }
            let journal = Arc::clone(journal);
            match self.step(move |_| Ok(journal.servable()?)).await {
                Ok(ranges) => member.landed(ranges),
                // The fetch meets the same and ends with it.
                Err(error) => tracing::warn!(%error, "what has landed cannot be offered"),
            }
            sleep(OFFER_INTERVAL).await;
        }
    }

    /// Records the root's marks, as soon as somebody names one, and has what was announced of it
    /// withdrawn if it is not to be. Cancel-safe.
    pub(super) async fn keep_marks(
        self: &Arc<Self>,
        begun: &Arc<Begun>,
        member: Option<&Member>,
    ) -> Infallible {
        let mut recorded = begun.record.marks();
        loop {
            recorded = self.heard.marked_beyond(recorded).await;
            self.mark(begun, recorded).await;
            if let Some(member) = member {
                member.marks_changed();
            }
        }
    }

    async fn mark(self: &Arc<Self>, begun: &Arc<Begun>, marks: Marks) {
        let share = begun.record.id;
        let marked = self.step(move |job| Ok(job.inner.library.mark(share, marks)?));
        if let Err(error) = marked.await {
            // The fetch meets the same and ends with it.
            tracing::warn!(%error, "the marks of a root were not recorded");
        }
    }
}
