//! The blocking threads that verify and write what has come in.
//!
//! There are as many as the machine has processors and no more, each of which works for as long as
//! something waits: small blocks that came while it was busy are then done together, and what
//! became of them is told in one go. They end when nothing is left to do, or nobody listens any
//! more.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc as blocking},
    thread,
};

use parking_lot::{Mutex, MutexGuard};
use shoal_protocol::{
    address::{CHUNK_BYTES, Digest},
    planner::{ProviderId, WantId},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    super::{
        landing::{LandError, Target},
        session::Received,
        span,
    },
    Sink,
};

/// Bytes that are landed before anything is told of them: a chunk alone, small blocks together.
const BATCH_BYTES: usize = CHUNK_BYTES;
/// Blocks that are landed before anything is told of them: their places are free for new ones then.
const BATCH_BLOCKS_MAX: usize = 64;
/// Batches that wait for the transfer to hear of them.
const BATCHES_QUEUED_MAX: usize = 16;

/// What came in, and where it goes.
pub(super) struct Arrived {
    pub(super) provider: ProviderId,
    pub(super) received: Received,
    pub(super) targets: Vec<Target>,
}

/// What became of a block.
pub(super) struct Verdict {
    pub(super) provider: ProviderId,
    pub(super) want: WantId,
    pub(super) bytes: u64,
    /// Who has sent how many of them.
    pub(super) parts: Vec<(ProviderId, u64)>,
    pub(super) result: Result<(), LandError>,
}

/// The threads of one transfer; what waits for them counts in the budget of buffers, which bounds
/// it.
pub(super) struct Landers {
    shared: Arc<Shared>,
    most: usize,
}

struct Shared {
    work: Mutex<Work>,
    verdicts: mpsc::Sender<Vec<Verdict>>,
    nodes: blocking::SyncSender<(Digest, Vec<u8>)>,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<(Sink, Arrived)>,
    threads: usize,
}

impl Landers {
    /// Threads that pass verified nodes on to `nodes`; and what tells of all blocks.
    pub(super) fn new(
        nodes: blocking::SyncSender<(Digest, Vec<u8>)>,
    ) -> (Self, mpsc::Receiver<Vec<Verdict>>) {
        let (verdicts, told) = mpsc::channel(BATCHES_QUEUED_MAX);
        let shared = Shared {
            work: Mutex::default(),
            verdicts,
            nodes,
        };
        let landers = Self {
            shared: Arc::new(shared),
            most: thread::available_parallelism().map_or(1, Into::into),
        };
        (landers, told)
    }

    /// What waits for the threads so that each has something to do, and finds more when it is done.
    pub(super) fn enough_bytes(&self) -> u64 {
        (self.most as u64 + 2).saturating_mul(BATCH_BYTES as u64)
    }

    /// Has a block verified and written, as a task of `tasks` if it takes another thread.
    pub(super) fn land(&self, sink: &Sink, arrived: Arrived, tasks: &TaskTracker) {
        let mut work = self.shared.lock();
        work.waiting.push_back((sink.clone(), arrived));
        if work.threads >= self.most.min(work.waiting.len()) {
            return;
        }
        work.threads += 1;
        drop(work);
        let thread = Thread {
            shared: Arc::clone(&self.shared),
            counts: true,
        };
        span::spawn_blocking(tasks, move || thread.run());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock()
    }

    /// What a thread is to do next; with nothing to do it counts no more.
    fn next(&self) -> Option<Vec<(Sink, Arrived)>> {
        let mut work = self.lock();
        if work.waiting.is_empty() {
            work.threads -= 1;
            return None;
        }
        let mut bytes = 0;
        let fits = |(_, arrived): &(Sink, Arrived)| {
            let is_first = bytes == 0;
            bytes += arrived.received.block.len().max(1);
            is_first || bytes <= BATCH_BYTES
        };
        let count = work.waiting.iter().map(fits).take_while(|fits| *fits);
        let count = count.take(BATCH_BLOCKS_MAX).count();
        Some(work.waiting.drain(..count).collect())
    }

    fn verdict(&self, sink: &Sink, arrived: Arrived) -> Verdict {
        let Arrived {
            provider,
            received,
            targets,
        } = arrived;
        let result = caught(|| sink.take(&received, &targets, &self.nodes));
        // Its buffer is given back before the verdict can make room for the next block.
        Verdict {
            provider,
            want: received.want,
            bytes: received.block.len() as u64,
            parts: received.block.parts().collect(),
            result,
        }
    }
}

/// What a landing says; a panic in it becomes its error, so that no want waits for ever.
fn caught(land: impl FnOnce() -> Result<(), LandError>) -> Result<(), LandError> {
    catch_unwind(AssertUnwindSafe(land)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(LandError::Panicked(text.unwrap_or_default()))
    })
}

/// One of the threads. It counts until it finds nothing to do, or does not get that far.
struct Thread {
    shared: Arc<Shared>,
    counts: bool,
}

impl Thread {
    fn run(mut self) {
        while let Some(batch) = self.shared.next() {
            tracing::trace!(blocks = batch.len(), "landing blocks");
            let verdicts = batch.into_iter();
            let verdicts = verdicts.map(|(sink, arrived)| self.shared.verdict(&sink, arrived));
            if self
                .shared
                .verdicts
                .blocking_send(verdicts.collect())
                .is_err()
            {
                self.shared.lock().waiting.clear();
                return;
            }
        }
        self.counts = false;
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.counts {
            self.shared.lock().threads -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use shoal_protocol::{address::HashFn, name::SafeName, unixfs::Attributes};
    use shoal_store::Store;

    use super::*;
    use crate::fetch::{
        assembly::Assembly,
        buffers::Buffers,
        journal::LandingJournal,
        landing::{Landing, LandingFile},
        place::{Destination, Part},
        progress::Progress,
    };

    #[tokio::test]
    async fn a_landing_that_panics_is_told_like_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("home")).unwrap();
        let share = store.new_share_id().unwrap();
        let id = store.new_file_ids(1).unwrap().next().unwrap();
        let name = SafeName::parse("file").unwrap();
        let destination = Destination::resolve(dir.path(), true, &name).unwrap();
        let part = Part::file(&destination, destination.part_name()).unwrap();
        let journal = Arc::new(LandingJournal::new(store, share));
        let landing = Landing::new(part, journal, Arc::new(Progress::default()), true);
        let sink = Sink {
            journal: None,
            landing: Some(Arc::new(landing)),
        };
        let (nodes, _listener) = blocking::sync_channel(2);
        let (landers, mut told) = Landers::new(nodes);
        let tasks = TaskTracker::new();
        let buffers = Buffers::default();
        // The first has no room left in its count of bytes, which panics.
        for (want, landed) in [(0, u64::MAX), (1, 0)] {
            let block = Assembly::new(buffers.take(8).await);
            let file = LandingFile {
                id,
                path: String::new(),
                size: Some(8),
                attributes: Attributes::default(),
                landed: Mutex::new(landed),
                writing: Mutex::default(),
            };
            let target = Target {
                file: Arc::new(file),
                offset: 0,
                leaf: None,
                len: Some(8),
            };
            let received = Received {
                want: WantId(want),
                digest: Digest::of(HashFn::Blake3, block.bytes()),
                block,
                grown: 0,
            };
            let arrived = Arrived {
                provider: ProviderId(0),
                received,
                targets: vec![target],
            };
            landers.land(&sink, arrived, &tasks);
        }
        let mut results = Vec::new();
        while results.len() < 2 {
            results.extend(told.recv().await.unwrap());
        }
        results.sort_by_key(|verdict| verdict.want);
        let [panicked, landed] = &results[..] else {
            panic!("two verdicts");
        };
        let panicked = panicked.result.as_ref().unwrap_err();
        assert!(matches!(panicked, LandError::Panicked(_)), "{panicked}");
        assert!(landed.result.is_ok(), "{:?}", landed.result);
        tasks.close();
        tasks.wait().await;
    }
}
