//! Write-behind persistence: what the network remembers across restarts, written by a thread of its
//! own.
//!
//! The swarm task must never wait for a disk, so it hands changes to a bounded queue and goes on.
//! When the disk is too slow the change is dropped and counted: everything kept here is hearsay
//! that the network repeats, or can be announced again. Ends when every writer is gone; what was
//! queued by then is written.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::counters::Counters;

/// Changes that wait for the disk. At some 500 bytes each, 2 MiB.
const QUEUE_CHANGES_MAX: usize = 4096;

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

/// The thread that writes; joined by [`Journal::finish`].
pub(super) struct Journal {
    thread: JoinHandle<()>,
}

/// Hands changes to the thread.
#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Change>,
    counters: Counters,
}

impl Journal {
    /// Starts the thread over `log`.
    pub(super) fn start(
        name: &'static str,
        log: Arc<dyn KvLog>,
        counters: &Counters,
    ) -> io::Result<(Self, Writer)> {
        let (queue, changes) = sync_channel(QUEUE_CHANGES_MAX);
        let writer = Writer {
            queue,
            counters: counters.clone(),
        };
        let counters = counters.clone();
        let thread = std::thread::Builder::new()
            .name(format!("net-{name}"))
            .spawn(move || run(name, log.as_ref(), &changes, &counters))?;
        Ok((Self { thread }, writer))
    }

    /// Waits until everything queued is written. Blocking; all writers must be dropped before, or
    /// it never returns.
    pub(super) fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("a journal thread of the network panicked");
        }
    }
}

impl Writer {
    /// Queues a change; drops and counts it when the queue is full.
    pub(super) fn push(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match self.queue.try_send(Change { key, value }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.writes_lost.add();
            }
        }
    }
}

fn run(name: &str, log: &dyn KvLog, changes: &Receiver<Change>, counters: &Counters) {
    while let Ok(first) = changes.recv() {
        let mut batch = vec![first];
        batch.extend(changes.try_iter().take(BATCH_CHANGES_MAX - 1));
        if let Err(error) = log.write(&batch) {
            tracing::warn!(table = name, %error, "what the network remembers was not written");
            batch.iter().for_each(|_| counters.writes_lost.add());
        }
    }
}

#[cfg(test)]
pub(super) mod memory {
    //! A log in memory that outlives the node under test, as a disk would.

    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::{Change, KvLog};

    type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

    #[derive(Clone, Default)]
    pub(crate) struct MemoryLog(Arc<Mutex<Rows>>);

    impl MemoryLog {
        pub(crate) fn rows(&self) -> Rows {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
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
            let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    use std::sync::{Mutex, mpsc};

    use super::memory::MemoryLog;
    use super::*;

    #[test]
    fn finish_waits_for_everything_queued() {
        let log = MemoryLog::default();
        let (journal, writer) =
            Journal::start("test", Arc::new(log.clone()), &Counters::default()).unwrap();
        for i in 0..1000u32 {
            writer.push(i.to_be_bytes().to_vec(), Some(vec![1]));
        }
        writer.push(7u32.to_be_bytes().to_vec(), None);
        drop(writer);
        journal.finish();
        assert_eq!(log.rows().len(), 999);
    }

    /// A disk that stands still until it is told to go on, then fails.
    struct Stuck(Mutex<mpsc::Receiver<()>>);

    impl KvLog for Stuck {
        fn load(&self, _: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, _: &[Change]) -> io::Result<()> {
            self.0.lock().unwrap().recv().ok();
            Err(io::Error::other("broken"))
        }
    }

    #[test]
    fn a_stuck_disk_never_blocks_and_is_counted() {
        let counters = Counters::default();
        let (release, stuck) = mpsc::channel();
        let (journal, writer) =
            Journal::start("test", Arc::new(Stuck(Mutex::new(stuck))), &counters).unwrap();
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
