//! Looks at the interfaces again and again, for as long as the network runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Interfaces;

/// How often routes and carriers are looked at: nothing says when they change.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long after an address came or went the interfaces are read: its route comes a moment later.
const SETTLE: Duration = Duration::from_millis(300);

/// The interfaces as they were when they were last looked at.
pub(crate) struct Watch {
    latest: watch::Receiver<Arc<Interfaces>>,
    nudge: Arc<Notify>,
}

impl Watch {
    /// Looks once, and goes on looking until `end` fires or the watch is dropped.
    pub(crate) async fn start(tasks: &TaskTracker, end: CancellationToken) -> Self {
        let first = Arc::new(read().await.unwrap_or_default());
        let (sender, latest) = watch::channel(first);
        let nudge = Arc::new(Notify::new());
        tasks.spawn(look(sender, Arc::clone(&nudge), end));
        Self { latest, nudge }
    }

    /// A machine without interfaces, which stays like that: for networks in memory.
    pub(crate) fn none() -> Self {
        let (_, latest) = watch::channel(Arc::default());
        Self {
            latest,
            nudge: Arc::default(),
        }
    }

    /// What there is.
    pub(crate) fn latest(&self) -> Arc<Interfaces> {
        Arc::clone(&self.latest.borrow())
    }

    /// Has them looked at soon: an address has come or gone.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits until they have changed. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.latest.changed().await.is_err() {
            // Nobody looks any more.
            std::future::pending::<()>().await;
        }
    }
}

async fn look(latest: watch::Sender<Arc<Interfaces>>, nudge: Arc<Notify>, end: CancellationToken) {
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = latest.closed() => return,
            () = tokio::time::sleep(INTERVAL) => {}
            () = nudge.notified() => tokio::time::sleep(SETTLE).await,
        }
        let Some(now) = read().await else { continue };
        latest.send_if_modified(|before| {
            let differs = **before != now;
            if differs {
                *before = Arc::new(now);
            }
            differs
        });
    }
}

async fn read() -> Option<Interfaces> {
    let read = tokio::task::spawn_blocking(Interfaces::read).await;
    read.inspect_err(|error| tracing::warn!(%error, "the interfaces could not be looked at"))
        .ok()
}
