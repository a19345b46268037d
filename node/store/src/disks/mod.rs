//! The disks that users' files lie on, each apart from the others.
//!
//! A disk here is one mounted file system: a partition, a USB stick, a network or FUSE mount. Any
//! system call on one may hang for as long as its device, server or process does, and nothing can
//! end such a call from outside. So every disk has threads of its own (`pool`), and callers wait for
//! an answer with a deadline ([`Disk::run`], [`Disk::wait`]). A disk on which calls are under way
//! and none has returned for [`SILENT_AFTER`] is *silent*: further work on it is refused at once
//! until a call returns. Nothing else has to be done to go on then.
//!
//! Work that runs on other threads says when it is inside of a call with [`Disk::touch`], so that
//! [`Disks::unanswering`] can name the disk that does not answer.
//!
//! Nothing here waits for a thread: a process ends although its disks hang.

mod calls;
mod mounts;
mod pool;
mod resolve;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

pub use calls::{Calls, Touch};
use mounts::{Device, Mount, Mounts, is_absolute};
use pool::Pool;
use tokio::sync::oneshot;

/// A disk is silent when calls are under way and none has returned for this long. A disk that has
/// to spin up takes up to 10 s.
pub const SILENT_AFTER: Duration = Duration::from_secs(15);

/// A disk that has not answered for this long is named by `status`; work goes on to be given to it.
pub const SLOW_AFTER: Duration = Duration::from_millis(500);

/// Threads of one disk. Eight reads of 1 MiB at a time keep any disk busy; when they hang, they
/// hold at most 8 times 3 MiB of buffers.
const THREADS_MAX: usize = 8;

/// Jobs that wait for a thread of one disk: one for each of the 256 streams that are served at a
/// time, and as many from within this node.
const QUEUED_MAX: usize = 512;

/// How old the list of mounts may be: what is mounted is used after this long at the latest.
const MOUNTS_AGE_MAX: Duration = Duration::from_millis(250);

/// Why there was no answer from a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The disk does not answer.
    #[error("the disk at {} does not answer", .0.display())]
    Silent(PathBuf),
    /// More work waits for the disk than it may.
    #[error("the disk at {} has too much to do", .0.display())]
    Busy(PathBuf),
    /// The work panicked.
    #[error("work on the disk at {} failed", .0.display())]
    Panicked(PathBuf),
}

impl From<NoAnswer> for io::Error {
    fn from(error: NoAnswer) -> Self {
        let kind = match error {
            NoAnswer::Silent(_) => io::ErrorKind::TimedOut,
            NoAnswer::Busy(_) => io::ErrorKind::ResourceBusy,
            NoAnswer::Panicked(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// A disk that does not answer, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswering {
    /// Where it is mounted.
    pub at: PathBuf,
    /// Since the last answer, or since it was first asked.
    pub since: Duration,
}

/// All disks that were used lately. Cheap to clone.
#[derive(Clone, Default)]
pub struct Disks {
    inner: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    mounts: Mounts,
    read_at: Option<Instant>,
    disks: HashMap<Device, Arc<Disk>>,
}

/// One disk.
pub struct Disk {
    device: Device,
    at: PathBuf,
    keeps_ctime: bool,
    pool: Pool,
    calls: Calls,
}

thread_local! {
    /// The disk whose thread this is.
    static HERE: RefCell<Option<Device>> = const { RefCell::new(None) };
}

impl Disks {
    /// The disk that `path` lies on, by the list of mounts: the path itself is not looked at, and
    /// should hold no symlinks.
    #[must_use]
    pub fn of(&self, path: &Path) -> Arc<Disk> {
        let mut known = self.lock();
        let is_old = |read: Instant| read.elapsed() > MOUNTS_AGE_MAX;
        if known.read_at.is_none_or(is_old) {
            known.refresh();
        }
        let found = Some(path).filter(|path| is_absolute(path));
        let mount = match found.and_then(|path| known.mounts.of(path)) {
            Some(mount) => mount.clone(),
            // Without a list all paths are of one disk.
            None => Mount {
                device: Device::new(),
                at: PathBuf::from("/"),
                keeps_ctime: true,
            },
        };
        let disk = known.disks.entry(mount.device.clone());
        Arc::clone(disk.or_insert_with(|| Arc::new(Disk::new(mount))))
    }

    /// The disks with a call that has not returned for `time`, longest first.
    #[must_use]
    pub fn unanswering(&self, time: Duration) -> Vec<Unanswering> {
        let known = self.lock();
        let disks = known.disks.values();
        let mut found: Vec<_> = disks
            .filter_map(|disk| {
                let since = disk.calls.oldest_for().filter(|since| *since >= time)?;
                let at = disk.at.clone();
                Some(Unanswering { at, since })
            })
            .collect();
        found.sort_by_key(|it| std::cmp::Reverse(it.since));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.lock()
    }
}

impl Known {
    fn refresh(&mut self) {
        self.mounts = Mounts::read();
        self.read_at = Some(Instant::now());
        // What is not mounted any more and that nobody uses.
        let mounts = &self.mounts;
        self.disks.retain(|device, disk| {
            mounts.has(device) || Arc::strong_count(disk) > 1 || disk.unanswered_for().is_some()
        });
    }
}

impl Disk {
    fn new(mount: Mount) -> Self {
        Self {
            device: mount.device,
            at: mount.at,
            keeps_ctime: mount.keeps_ctime,
            pool: Pool::new(THREADS_MAX),
            calls: Calls::default(),
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Whether no file on it can get other bytes and keep its stat.
    #[must_use]
    pub fn keeps_ctime(&self) -> bool {
        self.keeps_ctime
    }

    /// Says that a call on this disk is under way until what is returned is dropped. For calls that
    /// take a moment: not for a flush of all that was written.
    pub fn touch(&self) -> Touch<'_> {
        self.calls.touch()
    }

    /// For how long no call has returned, while some are under way.
    #[must_use]
    pub fn unanswered_for(&self) -> Option<Duration> {
        self.calls.unanswered_for()
    }

    /// An error while the disk is silent.
    ///
    /// # Errors
    /// [`NoAnswer::Silent`].
    pub fn check(&self) -> Result<(), NoAnswer> {
        let is_silent = self.unanswered_for().is_some_and(|it| it >= SILENT_AFTER);
        match is_silent {
            true => Err(NoAnswer::Silent(self.at.clone())),
            false => Ok(()),
        }
    }

    /// Runs `job` on a thread of this disk, and waits at most `patience` for it.
    ///
    /// When the wait ends first, a job that has not begun never does, and one that has goes on
    /// without anybody to hear of it; the same when this future is dropped.
    ///
    /// # Errors
    /// [`NoAnswer`]; at once while the disk is silent.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.queue(move || {
            if !answer.is_closed() {
                // Nobody may be left to hear of it.
                let _ = answer.send(job());
            }
        })?;
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(NoAnswer::Panicked(self.at.clone())),
            Err(_) => Err(NoAnswer::Silent(self.at.clone())),
        }
    }

    /// As [`run`](Self::run), for a caller that blocks. On a thread of this very disk the job runs
    /// where it is.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn wait<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        if self.is_here() {
            let _touch = self.touch();
            return Ok(job());
        }
        let (answer, answered) = mpsc::sync_channel(1);
        self.queue(move || {
            let _ = answer.send(job());
        })?;
        answered
            .recv_timeout(patience)
            .map_err(|error| match error {
                mpsc::RecvTimeoutError::Disconnected => NoAnswer::Panicked(self.at.clone()),
                mpsc::RecvTimeoutError::Timeout => NoAnswer::Silent(self.at.clone()),
            })
    }

    /// Drops `things` on a thread of this disk: closing a file may hang like any other call.
    pub fn let_go<T: Send + 'static>(self: &Arc<Self>, things: T) {
        if self.is_here() {
            let _touch = self.touch();
            drop(things);
        } else {
            // Bounded by the things that were there.
            self.spawn(move || drop(things));
        }
    }

    /// Whether this thread is one of the disk's.
    #[must_use]
    pub fn is_here(&self) -> bool {
        HERE.with_borrow(|here| here.as_ref() == Some(&self.device))
    }

    fn queue(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> Result<(), NoAnswer> {
        self.check()?;
        if self.pool.queued() >= QUEUED_MAX {
            return Err(NoAnswer::Busy(self.at.clone()));
        }
        self.spawn(job);
        Ok(())
    }

    fn spawn(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) {
        let disk = Arc::clone(self);
        self.pool.spawn(Box::new(move || {
            HERE.with_borrow_mut(|here| {
                if here.as_ref() != Some(&disk.device) {
                    *here = Some(disk.device.clone());
                }
            });
            let _touch = disk.touch();
            job();
        }));
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} at {})", self.device, self.at.display())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn disk() -> Arc<Disk> {
        Arc::new(Disk::new(Mount {
            device: "0:1".to_owned(),
            at: "/mnt/x".into(),
            keeps_ctime: true,
        }))
    }

    #[test]
    fn a_disk_is_unanswering_while_calls_are_under_way_and_none_returns() {
        let disk = disk();
        assert_eq!(disk.unanswered_for(), None);
        let first = disk.touch();
        let second = disk.touch();
        disk.calls.age(SILENT_AFTER);
        assert_eq!(disk.check(), Err(NoAnswer::Silent("/mnt/x".into())));
        drop(second);
        assert_eq!(disk.check(), Ok(()), "one call has returned");
        drop(first);
        assert_eq!(disk.unanswered_for(), None);
    }

    #[test]
    fn a_silent_disk_takes_no_work_and_one_that_answers_again_does() {
        let disk = disk();
        let call = disk.touch();
        disk.calls.age(SILENT_AFTER);
        assert!(disk.wait(Duration::ZERO, || ()).is_err());
        drop(call);
        assert_eq!(disk.wait(SILENT_AFTER, || 7), Ok(7));
    }

    #[tokio::test]
    async fn stuck_work_is_given_up_and_takes_no_more_threads_than_allowed() {
        let disk = disk();
        let (release, stuck) = mpsc::sync_channel::<()>(1);
        let stuck = Arc::new(Mutex::new(stuck));
        for _ in 0..THREADS_MAX + 3 {
            let stuck = Arc::clone(&stuck);
            let job = move || {
                let _ = stuck.lock().recv();
            };
            let answer = disk.run(Duration::ZERO, job).await;
            assert_eq!(answer, Err(NoAnswer::Silent("/mnt/x".into())));
        }
        assert!(disk.unanswered_for().is_some());
        drop(release);
        let answer = disk.run(SILENT_AFTER, || 5).await;
        assert_eq!(answer, Ok(5), "what was given up does not stand in the way");
    }

    #[test]
    fn work_for_the_disk_of_this_thread_runs_here() {
        let disk = disk();
        let nested = {
            let disk = Arc::clone(&disk);
            move || {
                let outer = std::thread::current().id();
                disk.wait(Duration::ZERO, move || std::thread::current().id() == outer)
            }
        };
        assert!(!disk.is_here());
        assert_eq!(disk.wait(SILENT_AFTER, nested), Ok(Ok(true)));
    }

    #[test]
    fn a_panic_is_an_answer() {
        let disk = disk();
        let answer: Result<(), _> = disk.wait(SILENT_AFTER, || panic!("on purpose"));
        assert_eq!(answer, Err(NoAnswer::Panicked("/mnt/x".into())));
    }

    #[test]
    fn paths_of_one_mount_are_of_one_disk() {
        let disks = Disks::default();
        let (one, other) = (disks.of(Path::new("/proc/1")), disks.of(Path::new("/proc")));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(disks.unanswering(Duration::ZERO).is_empty());
    }
}
