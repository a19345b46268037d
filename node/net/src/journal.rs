//! Write-behind persistence: what the network remembers across restarts, written by a thread of its
//! own.
//!
//! The swarm task must never wait for a disk, so it hands changes to a bounded queue and goes on.
//! When the disk is too slow the change is dropped and counted: everything kept here is hearsay
//! that the network repeats, or can be announced again. A [`Journal`] is the thread; the networks of
//! one process may share one. It ends when its last handle and its last writer are gone; what was
//! queued by then is written.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::counters::Counters;
use parking_lot::Mutex;

/// Changes of one network that wait for the disk. At some 500 bytes each, 2 MiB.
const QUEUE_CHANGES_MAX: usize = 4096;

/// Changes of all networks that share a journal: a hundred for each of 300. At some 500 bytes each,
/// 16 MiB.
const SHARED_CHANGES_MAX: usize = 32 * 1024;

/// Changes written in one batch: 128 KiB, far below a write buffer.
const BATCH_CHANGES_MAX: usize = 256;

/// One table of small rows that survives a restart.
///
/// Blocking; called from the journal's own thread, and from a blocking thread at start.
pub trait KvLog: Send + Sync + 'static {
    /// Shows every row to `visit`, in the order of their keys.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn load(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()>;

    /// Applies all changes in order; after a crash either all or none of one call are there.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn write(&self, changes: &[Change]) -> io::Result<()>;
}

/// A row to put, or to remove when there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row's key.
    pub key: Vec<u8>,
    /// Its new value.
    pub value: Option<Vec<u8>>,
}

/// The thread that writes. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    queue: SyncSender<Entry>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What waits in the queue.
enum Entry {
    Change(Arc<Target>, Change),
    /// To be answered when everything before is written.
    Barrier(SyncSender<()>),
}

/// Where the changes of one writer go.
struct Target {
    name: &'static str,
    log: Arc<dyn KvLog>,
    counters: Counters,
}

/// Hands changes to the thread.
#[derive(Clone)]
pub(super) struct Writer {
    target: Arc<Target>,
    queue: SyncSender<Entry>,
}

impl Journal {
    /// Starts a thread that the networks of one process share.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn shared() -> io::Result<Self> {
        Self::start(SHARED_CHANGES_MAX)
    }

    /// Starts the thread of one network.
    pub(super) fn own() -> io::Result<Self> {
        Self::start(QUEUE_CHANGES_MAX)
    }

    fn start(changes_max: usize) -> io::Result<Self> {
        let (queue, entries) = sync_channel(changes_max);
        let thread = std::thread::Builder::new()
            .name("net-journal".to_owned())
            .spawn(move || run(&entries))?;
        Ok(Self {
            queue,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// A writer of changes to `log`.
    pub(super) fn writer(
        &self,
        name: &'static str,
        log: Arc<dyn KvLog>,
        counters: &Counters,
    ) -> Writer {
        let target = Target {
            name,
            log,
            counters: counters.clone(),
        };
        Writer {
            target: Arc::new(target),
            queue: self.queue.clone(),
        }
    }

    /// Waits until everything that was queued is written, and, being the last handle, until the
    /// thread has ended. Blocking; with the last handle all writers must be dropped before, or it
    /// never returns.
    pub fn finish(self) {
        let Self { queue, thread } = self;
        let (answer, written) = sync_channel(1);
        if queue.send(Entry::Barrier(answer)).is_ok() {
            // An error means that the thread has panicked, which joining it tells.
            written.recv().ok();
        }
        drop(queue);
        let Some(thread) = Arc::into_inner(thread) else {
            return;
        };
        let thread = thread.into_inner();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal thread of the network panicked");
        }
    }
}

impl Writer {
    /// Queues a change; drops and counts it when the queue is full.
    pub(super) fn push(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let change = Change { key, value };
        let entry = Entry::Change(Arc::clone(&self.target), change);
        match self.queue.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.target.counters.writes_lost.add();
            }
        }
    }
}

fn run(entries: &Receiver<Entry>) {
    let mut next = entries.recv().ok();
    while let Some(entry) = next.take() {
        match entry {
            Entry::Change(target, first) => {
                let mut batch = vec![first];
                next = gather(entries, &target, &mut batch);
                target.write(&batch);
            }
            // Nobody waits any more: fine.
            Entry::Barrier(answer) => drop(answer.send(())),
        }
        next = next.or_else(|| entries.recv().ok());
    }
}

/// Adds to `batch` what waits for the same target; returns the first entry that is for another.
fn gather(
    entries: &Receiver<Entry>,
    target: &Arc<Target>,
    batch: &mut Vec<Change>,
) -> Option<Entry> {
    while batch.len() < BATCH_CHANGES_MAX {
        match entries.try_recv().ok()? {
            Entry::Change(other, change) if Arc::ptr_eq(&other, target) => batch.push(change),
            other => return Some(other),
        }
    }
    None
}

impl Target {
    fn write(&self, batch: &[Change]) {
        if let Err(error) = self.log.write(batch) {
            let table = self.name;
            tracing::warn!(table, %error, "what the network remembers was not written");
            batch.iter().for_each(|_| self.counters.writes_lost.add());
        }
    }
}

#[cfg(test)]
pub(super) mod memory {
    //! A log in memory that outlives the node under test, as a disk would.

    use std::collections::BTreeMap;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::{Change, KvLog};

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    #[derive(Clone, Default)]
    pub(crate) struct MemoryLog(Arc<Mutex<Rows>>);

    impl MemoryLog {
        pub(crate) fn rows(&self) -> Rows {
            self.0.lock().clone()
        }
    }

    impl KvLog for MemoryLog {
        fn load(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> std::io::Result<()> {
            self.rows()
                .iter()
                .for_each(|(key, value)| visit(key, value));
            Ok(())
        }

        fn write(&self, changes: &[Change]) -> std::io::Result<()> {
            let mut rows = self.0.lock();
            for change in changes {
                match &change.value {
                    Some(value) => rows.insert(change.key.clone(), value.clone()),
                    None => rows.remove(&change.key),
                };
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::memory::MemoryLog;
    use super::*;

    #[test]
    fn finish_waits_for_everything_queued() {
        let log = MemoryLog::default();
        let journal = Journal::own().unwrap();
        let writer = journal.writer("test", Arc::new(log.clone()), &Counters::default());
        for i in 0..1000u32 {
            writer.push(i.to_be_bytes().to_vec(), Some(vec![1]));
        }
        writer.push(7u32.to_be_bytes().to_vec(), None);
        drop(writer);
        journal.finish();
        assert_eq!(log.rows().len(), 999);
    }

    #[test]
    fn who_shares_a_journal_waits_for_their_own_and_leaves_the_others_theirs() {
        let journal = Journal::shared().unwrap();
        let (one, other) = (MemoryLog::default(), MemoryLog::default());
        let counters = Counters::default();
        let writers = [&one, &other].map(|log| {
            let handle = journal.clone();
            let writer = handle.writer("test", Arc::new(log.clone()), &counters);
            (handle, writer)
        });
        for i in 0..1000u32 {
            let (_, writer) = &writers[i as usize % 2];
            writer.push(i.to_be_bytes().to_vec(), Some(vec![1]));
        }
        let [(first, writer), (second, other_writer)] = writers;
        drop(writer);
        first.finish();
        assert_eq!(one.rows().len(), 500);
        other_writer.push(vec![9], Some(vec![1]));
        drop(other_writer);
        second.finish();
        assert_eq!(other.rows().len(), 501);
        journal.finish();
        assert_eq!(counters.snapshot().writes_lost, 0);
    }

    /// A disk that stands still until it is told to go on, then fails.
    struct Stuck(Mutex<mpsc::Receiver<()>>);

    impl KvLog for Stuck {
        fn load(&self, _: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, _: &[Change]) -> io::Result<()> {
            self.0.lock().recv().ok();
            Err(io::Error::other("broken"))
        }
    }

    #[test]
    fn a_stuck_disk_never_blocks_and_is_counted() {
        let counters = Counters::default();
        let (release, stuck) = mpsc::sync_channel(1);
        let journal = Journal::own().unwrap();
        let stuck = Arc::new(Stuck(Mutex::new(stuck)));
        let writer = journal.writer("test", stuck, &counters);
        let total = QUEUE_CHANGES_MAX + BATCH_CHANGES_MAX + 10;
        for _ in 0..total {
            writer.push(vec![0], None);
        }
        assert!(
            counters.snapshot().writes_lost >= 10,
            "the queue is bounded"
        );
        drop((writer, release));
        journal.finish();
        assert_eq!(
            counters.snapshot().writes_lost,
            total as u64,
            "failed batches count too"
        );
    }
}
