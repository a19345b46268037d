//! What a node watches about itself: its files, and how fast bytes move.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use shoal_net::{Traffic, Way};
use shoal_store::{
    Library, LibraryEvent, ShareRecord,
    disks::{Disk, SLOW_AFTER},
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two looks at the files of all shares when nobody asks; a look is one stat a file.
const RECHECK_INTERVAL: Duration = Duration::from_secs(300);
/// How often rates are measured.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// The weight of the newest second in a rate: it follows a change within a few seconds.
const RATE_WEIGHT: f64 = 0.3;

/// How often a look that is waited for is looked at.
const LOOK_POLL: Duration = Duration::from_millis(50);

/// Looks at the files of the shares on one disk: one at a time, each over all of them.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    begun: u64,
    ended: u64,
    /// The number of the look that somebody waits for.
    asked: u64,
    /// Whether that is to be over all shares, and not only over those in doubt.
    all: bool,
    running: bool,
}

/// Has shares looked at whose files leave them in doubt; the library knows which. Never waits.
#[derive(Default)]
pub(super) struct DoubtSignal {
    wake: Notify,
}

impl DoubtSignal {
    /// Notes what the library tells.
    pub(super) fn note(&self, event: &LibraryEvent) {
        if matches!(event, LibraryEvent::Doubted(_)) {
            self.wake.notify_one();
        }
    }
}

/// Compares the files of all shares with what was recorded, now and then and on request.
///
/// Disks are looked at apart, each by at most one thread: one that hangs keeps no other waiting.
pub(super) struct Recheck {
    inner: Arc<RecheckInner>,
}

struct RecheckInner {
    library: Library,
    /// By where the disk is mounted; as many as there are disks with shares.
    looks: Mutex<HashMap<PathBuf, Arc<watch::Sender<Looks>>>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A look that was asked for.
struct Asked {
    disk: Arc<Disk>,
    looks: watch::Receiver<Looks>,
    number: u64,
}

impl Recheck {
    pub(super) fn start(
        tasks: &TaskTracker,
        library: Library,
        doubts: Arc<DoubtSignal>,
        shutdown: CancellationToken,
    ) -> Self {
        let inner = Arc::new(RecheckInner {
            library,
            looks: Mutex::default(),
            tasks: tasks.clone(),
            shutdown,
        });
        let looking = Arc::clone(&inner);
        tasks.spawn(async move {
            let until = looking.shutdown.clone();
            until.run_until_cancelled(looking.run(&doubts)).await;
        });
        Self { inner }
    }

    /// Has all files looked at, and waits for it up to `patience`; not for a disk that does not
    /// answer.
    pub(super) async fn now(&self, patience: Duration) {
        let asked = self.inner.look(true);
        let waiting = async {
            for mut look in asked {
                look.end().await;
            }
        };
        // What takes longer is reported by a later status.
        let _ = tokio::time::timeout(patience, waiting).await;
    }
}

impl Asked {
    /// Waits until the look is over, or its disk does not answer.
    async fn end(&mut self) {
        let number = self.number;
        loop {
            let ended = self.looks.wait_for(|it| it.ended >= number);
            if tokio::time::timeout(LOOK_POLL, ended).await.is_ok() {
                return;
            }
            if self
                .disk
                .unanswered_for()
                .is_some_and(|it| it >= SLOW_AFTER)
            {
                return;
            }
        }
    }
}

impl RecheckInner {
    async fn run(self: &Arc<Self>, doubts: &DoubtSignal) {
        loop {
            self.look(true);
            let interval = tokio::time::sleep(RECHECK_INTERVAL);
            let mut interval = std::pin::pin!(interval);
            loop {
                tokio::select! {
                    () = &mut interval => break,
                    () = doubts.wake.notified() => {}
                }
                self.look(false);
            }
        }
    }

    /// Begins a look at every disk that a share lies on, or one in doubt. Where a look is under way,
    /// another follows: that one may have been past what is asked about.
    fn look(self: &Arc<Self>, all: bool) -> Vec<Asked> {
        let mut disks: Vec<Arc<Disk>> = Vec::new();
        for share in self.library.shares() {
            let disk = self.library.disks().of(&share.base);
            let is_new = !disks.iter().any(|other| Arc::ptr_eq(other, &disk));
            if is_new && (all || self.library.is_doubted(share.id)) {
                disks.push(disk);
            }
        }
        let asked = disks.into_iter().map(|disk| self.look_at(disk, all));
        asked.collect()
    }

    fn look_at(self: &Arc<Self>, disk: Arc<Disk>, all: bool) -> Asked {
        let sender = {
            let mut looks = self.looks.lock();
            let sender = looks.entry(disk.at().to_owned());
            Arc::clone(sender.or_insert_with(|| Arc::new(watch::channel(Looks::default()).0)))
        };
        let (mut number, mut starts) = (0, false);
        sender.send_modify(|looks| {
            number = looks.begun + 1;
            looks.asked = number;
            looks.all |= all;
            starts = !std::mem::replace(&mut looks.running, true);
        });
        let receiver = sender.subscribe();
        if starts {
            let (inner, disk) = (Arc::clone(self), Arc::clone(&disk));
            // The disk itself says how it is doing; nobody waits for this thread.
            self.tasks
                .spawn_blocking(move || inner.look_until_done(&disk, &sender));
        }
        Asked {
            disk,
            looks: receiver,
            number,
        }
    }

    /// Looks at a disk as often as was asked for.
    fn look_until_done(&self, disk: &Arc<Disk>, looks: &watch::Sender<Looks>) {
        /// Whatever becomes of this thread, the next look starts another.
        struct Running<'a>(&'a watch::Sender<Looks>);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|looks| {
                    looks.running = false;
                    looks.ended = looks.begun;
                });
            }
        }
        let running = Running(looks);
        loop {
            let mut all = false;
            looks.send_modify(|looks| {
                looks.begun += 1;
                all = std::mem::take(&mut looks.all);
            });
            let mut shares = self.library.shares();
            // Somebody may wait for those.
            shares.sort_by_key(|share| !self.library.is_doubted(share.id));
            for share in shares {
                if self.shutdown.is_cancelled() {
                    return;
                }
                let is_wanted = all || self.library.is_doubted(share.id);
                if is_wanted && Arc::ptr_eq(&self.library.disks().of(&share.base), disk) {
                    self.recheck(&share);
                }
            }
            let mut done = false;
            looks.send_modify(|looks| {
                looks.ended = looks.begun;
                done = looks.asked <= looks.ended;
                looks.running = !done;
            });
            if done {
                // Another thread may have taken over already.
                std::mem::forget(running);
                return;
            }
        }
    }

    fn recheck(&self, share: &ShareRecord) {
        if let Err(error) = self.library.recheck(share.id, &self.shutdown) {
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
