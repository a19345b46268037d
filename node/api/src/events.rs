//! The event bus: what happens in the node, for everybody who wants to know.
//!
//! [`Events`] keeps the latest [`EVENTS_KEPT_MAX`] events and numbers them; whoever publishes never
//! waits for those who read. Each [`EventReader`] has its own place in that list: one that falls
//! out of it is told how many events it missed and goes on with the oldest that is kept. Every
//! event is a log line with the same fields. The bus ends with its last handle.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::metrics::Numbers;
use shoal_protocol::name::escaped;
use tokio::sync::watch;

use crate::types::{FetchProgress, ShareInfo, ShareState, Transfer, TransferState};

pub use crate::types::{Event, Occurrence};

/// Events that a reader may lag behind. A busy node has some tens a second, most of a few hundred
/// bytes: a minute of them in less than 1 MiB.
pub const EVENTS_KEPT_MAX: usize = 1024;

/// The bus. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Events {
    inner: Arc<EventsInner>,
}

#[derive(Debug, Default)]
struct EventsInner {
    /// In order and without gaps; its last one is `latest`.
    kept: Mutex<VecDeque<Arc<Occurrence>>>,
    latest: watch::Sender<u64>,
    missed: AtomicU64,
}

impl Events {
    /// Tells everybody, and the log. Never waits.
    pub fn publish(&self, event: Event) {
        let occurrence = {
            let mut kept = self.inner.lock();
            let occurrence = Arc::new(Occurrence {
                sequence: *self.inner.latest.borrow() + 1,
                time: Timestamp::now(),
                event,
            });
            if kept.len() >= EVENTS_KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back(Arc::clone(&occurrence));
            self.inner.latest.send_replace(occurrence.sequence);
            occurrence
        };
        log(&occurrence);
    }

    /// The events after the one numbered `after`, as far as they are kept; without it, those from
    /// now on.
    #[must_use]
    pub fn read(&self, after: Option<u64>) -> EventReader {
        let wake = self.inner.latest.subscribe();
        let latest = *wake.borrow();
        EventReader {
            inner: Arc::clone(&self.inner),
            // A number that is not given out yet is of an earlier run.
            seen: after.filter(|after| *after <= latest).unwrap_or(latest),
            wake,
        }
    }
}

impl EventsInner {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Occurrence>>> {
        self.kept.lock()
    }
}

impl Events {
    /// Adds its numbers.
    pub fn measure(&self, numbers: &mut Numbers) {
        let inner = &self.inner;
        numbers.counter(
            "shoal_events_published",
            "Events of this run.",
            *inner.latest.borrow(),
        );
        numbers.counter(
            "shoal_events_missed",
            "Events that slow readers missed, all readers together.",
            inner.missed.load(Relaxed),
        );
        numbers.gauge(
            "shoal_event_readers",
            "Those who read events.",
            inner.latest.receiver_count() as u64,
        );
    }
}

/// One who reads the events, each once and in order.
#[derive(Debug)]
pub struct EventReader {
    inner: Arc<EventsInner>,
    seen: u64,
    wake: watch::Receiver<u64>,
}

impl EventReader {
    /// The next event, or [`Event::Lagged`] in place of those that are not kept any more.
    ///
    /// Cancel-safe. Waits for ever when the bus has ended.
    pub async fn next(&mut self) -> Arc<Occurrence> {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            if self.wake.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn take(&mut self) -> Option<Arc<Occurrence>> {
        let kept = self.inner.lock();
        let oldest = kept.front()?.sequence;
        let next = self.seen + 1;
        let taken = match next.checked_sub(oldest) {
            Some(index) => Arc::clone(kept.get(usize::try_from(index).ok()?)?),
            None => self.lagged(oldest - next, oldest - 1),
        };
        drop(kept);
        self.seen = taken.sequence;
        Some(taken)
    }

    fn lagged(&self, missed: u64, sequence: u64) -> Arc<Occurrence> {
        self.inner.missed.fetch_add(missed, Relaxed);
        Arc::new(Occurrence {
            sequence,
            time: Timestamp::now(),
            event: Event::Lagged { missed },
        })
    }
}

fn log_share(sequence: u64, event: &str, share: &ShareInfo, message: &str) {
    let state = match &share.state {
        ShareState::Ok => "ok",
        ShareState::Checking => "checking",
        ShareState::Changed { .. } => "changed",
    };
    let path = share.path.to_string_lossy();
    let (cid, name, path) = (&share.cid, escaped(&share.name), escaped(&path));
    let (size, files, announce) = (share.size, share.files, share.announce);
    tracing::info!(
        sequence,
        event,
        cid,
        %name,
        %path,
        size,
        files,
        announce,
        state,
        "{message}"
    );
}

fn log_transfer(sequence: u64, event: &str, transfer: &Transfer, message: &str) {
    let (state, reason) = match &transfer.state {
        TransferState::Queued => ("queued", ""),
        TransferState::Running => ("running", ""),
        TransferState::Paused { reason } => ("paused", reason.as_str()),
        TransferState::Done => ("done", ""),
        TransferState::Failed { reason } => ("failed", reason.as_str()),
    };
    let path = transfer.path.to_string_lossy();
    let (id, cid, path) = (transfer.id, &transfer.cid, escaped(&path));
    let FetchProgress {
        bytes,
        verified_bytes,
        bytes_total,
        files,
        files_total,
        rate,
        eta_ms,
        sources,
        asked,
        ..
    } = transfer.progress;
    let phase = &transfer.progress.phase;
    if event == "transfer_progress" {
        tracing::debug!(
            sequence, event, id, cid, %path, state, %phase, bytes, verified_bytes, bytes_total, files,
            files_total, rate, eta_ms, sources, asked, "{message}"
        );
    } else {
        tracing::info!(
            sequence, event, id, cid, %path, state, reason, bytes, bytes_total, files, files_total,
            "{message}"
        );
    }
}

/// Writes an event to the log, with the fields that its readers get.
fn log(occurrence: &Occurrence) {
    let (sequence, event) = (occurrence.sequence, occurrence.event.name());
    match &occurrence.event {
        Event::NodeReady { peer_id, addresses } => {
            tracing::info!(sequence, event, %peer_id, ?addresses, "the node serves");
        }
        Event::NodeStopping => tracing::info!(sequence, event, "the node is stopping"),
        Event::AddressesChanged { addresses } => {
            tracing::info!(sequence, event, ?addresses, "the addresses changed");
        }
        Event::ShareAdded(share) => log_share(sequence, event, share, "share added"),
        Event::ShareRemoved(share) => log_share(sequence, event, share, "share removed"),
        Event::ShareChanged(share) => log_share(sequence, event, share, "share changed"),
        Event::Announced { cid, peers } => {
            tracing::info!(sequence, event, cid, peers, "share announced");
        }
        Event::TransferQueued(it) => log_transfer(sequence, event, it, "transfer queued"),
        Event::TransferStarted(it) => log_transfer(sequence, event, it, "transfer started"),
        Event::TransferProgress(it) => log_transfer(sequence, event, it, "transfer goes on"),
        Event::TransferPaused(it) => log_transfer(sequence, event, it, "transfer rests"),
        Event::TransferFailed(it) => log_transfer(sequence, event, it, "transfer failed"),
        Event::TransferRemoved { id, cid } => {
            tracing::info!(sequence, event, id, cid, "transfer removed");
        }
        Event::TransferFinished { id, result } => tracing::info!(
            sequence,
            event,
            id,
            cid = result.cid,
            path = %escaped(&result.path.to_string_lossy()),
            size = result.size,
            files = result.files,
            elapsed_ms = result.elapsed_ms,
            downloaded_bytes = result.downloaded_bytes,
            resumed_bytes = result.resumed_bytes,
            local_bytes = result.local_bytes,
            skipped = result.skipped,
            sources = result.from.len(),
            "transfer finished"
        ),
        Event::PeerConnected { peer_id } => {
            tracing::debug!(sequence, event, %peer_id, "peer connected");
        }
        Event::PeerDisconnected { peer_id } => {
            tracing::debug!(sequence, event, %peer_id, "peer disconnected");
        }
        Event::DamageFound(damage) => {
            let (cid, reason) = (&damage.cid, &damage.reason);
            let path = damage.path.to_string_lossy();
            let (path, unreadable) = (escaped(&path), damage.unreadable);
            tracing::warn!(sequence, event, cid, %path, reason, unreadable, "damage found");
        }
        Event::ScrubFinished { checked_bytes } => {
            tracing::info!(sequence, event, checked_bytes, "scrub finished");
        }
        Event::ReplicaAdmitted {
            key,
            run,
            bytes,
            cause,
        } => tracing::info!(sequence, event, key, run, bytes, cause, "replica admitted"),
        Event::ReplicaGone {
            key,
            run,
            bytes,
            reason,
        } => tracing::info!(
            sequence,
            event,
            key,
            run,
            bytes,
            reason,
            "replica let go of"
        ),
        Event::Warning { message } => tracing::warn!(sequence, event, "{message}"),
        // Told to one reader and never published.
        Event::Lagged { .. } => {}
    }
}

#[cfg(test)]
mod tests;
