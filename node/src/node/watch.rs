//! What a node watches about itself: its files, and how fast bytes move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    net::{Traffic, Way},
    store::Library,
};

/// Between two looks at the files of all shares when nobody asks; a look is one stat a file.
const RECHECK_INTERVAL: Duration = Duration::from_secs(300);
/// How often rates are measured.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// The weight of the newest second in a rate: it follows a change within a few seconds.
const RATE_WEIGHT: f64 = 0.3;

/// How many passes have begun, and ended.
#[derive(Clone, Copy, Default)]
struct Passes {
    begun: u64,
    ended: u64,
}

/// Compares the files of all shares with what was recorded, now and then and on request.
pub(super) struct Recheck {
    wake: Arc<Notify>,
    passes: watch::Receiver<Passes>,
}

impl Recheck {
    pub(super) fn start(
        tasks: &TaskTracker,
        library: Library,
        shutdown: CancellationToken,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let (sender, passes) = watch::channel(Passes::default());
        let woken = Arc::clone(&wake);
        tasks.spawn(async move {
            loop {
                sender.send_modify(|passes| passes.begun += 1);
                let (library, cancel) = (library.clone(), shutdown.clone());
                let pass = tokio::task::spawn_blocking(move || recheck_all(&library, &cancel));
                if let Err(panic) = pass.await {
                    tracing::error!(%panic, "looking at shared files failed");
                }
                sender.send_modify(|passes| passes.ended = passes.begun);
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = woken.notified() => {}
                    () = tokio::time::sleep(RECHECK_INTERVAL) => {}
                }
            }
        });
        Self { wake, passes }
    }

    /// Has all files looked at, and waits for it up to `patience`.
    pub(super) async fn now(&self, patience: Duration) {
        let mut passes = self.passes.clone();
        // A pass that has begun may have been past what is asked about.
        let target = passes.borrow_and_update().begun + 1;
        self.wake.notify_one();
        // What takes longer is reported by a later status.
        let _ = tokio::time::timeout(patience, passes.wait_for(|it| it.ended >= target)).await;
    }
}

fn recheck_all(library: &Library, cancel: &CancellationToken) {
    for share in library.shares() {
        if cancel.is_cancelled() {
            return;
        }
        if let Err(error) = library.recheck(share.id, cancel) {
            tracing::warn!(root = %share.root, %error, "a share could not be looked at");
        }
    }
}

/// Bytes on the sockets per second, smoothed.
#[derive(Clone)]
pub(super) struct Rates {
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl Rates {
    pub(super) fn start(
        tasks: &TaskTracker,
        traffic: Traffic,
        shutdown: CancellationToken,
    ) -> Self {
        let rates = Self {
            up: Arc::default(),
            down: Arc::default(),
        };
        let measured = rates.clone();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(RATE_INTERVAL);
            let (mut up, mut down) = (Average::default(), Average::default());
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                measured.up.store(up.add(traffic.bytes(Way::Up)), Relaxed);
                let received = traffic.bytes(Way::Down);
                measured.down.store(down.add(received), Relaxed);
            }
        });
        rates
    }

    /// Bytes per second sent, and received.
    pub(super) fn current(&self) -> (u64, u64) {
        (self.up.load(Relaxed), self.down.load(Relaxed))
    }
}

#[derive(Default)]
struct Average {
    last: u64,
    rate: f64,
}

impl Average {
    /// The smoothed growth of a counter that is looked at once per [`RATE_INTERVAL`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a rate is shown, and is never negative"
    )]
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "as above"
    )]
    fn add(&mut self, total: u64) -> u64 {
        let grown = total.saturating_sub(self.last) as f64;
        self.last = total;
        self.rate += RATE_WEIGHT * (grown - self.rate);
        self.rate as u64
    }
}
