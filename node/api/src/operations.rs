//! The operations in progress: how many there may be, and that their end is awaited.
//!
//! Owns the places of operations and the tasks in which they run. An operation is never aborted: on
//! shutdown its token fires, and the server waits for it here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ApiError, ErrorCode, listener::Connections};

/// Operations at once. Each holds a transfer or a hashing run, of which a few saturate a machine;
/// 64 leave room for those that merely wait.
pub(super) const OPERATIONS_MAX: usize = 64;

/// What cancelled operations may take: the last batch of chunks to disk and one synced commit on a
/// slow disk.
const OPERATIONS_GRACE: Duration = Duration::from_secs(20);

/// The operations in progress.
#[derive(Clone)]
pub(super) struct Operations {
    tracker: TaskTracker,
    room: Arc<Room>,
    connections: Connections,
    shutdown: CancellationToken,
}

impl Operations {
    pub(super) fn new(shutdown: CancellationToken, connections: Connections) -> Self {
        Self {
            tracker: TaskTracker::new(),
            room: Arc::new(Room::new(OPERATIONS_MAX)),
            connections,
            shutdown,
        }
    }

    /// Fires when the node shuts down.
    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Room for one more operation, taken as long as what is returned lives.
    pub(super) fn take_room(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        if self.shutdown.is_cancelled() {
            return Err(stopping());
        }
        self.room.take().ok_or_else(|| {
            ApiError::new(
                ErrorCode::Busy,
                format!("the daemon is busy with {OPERATIONS_MAX} requests"),
            )
            .hint("try again when some of them are done")
        })
    }

    /// The places of operations.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// The connections over which they were asked for.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Runs an operation whose end is awaited on shutdown.
    pub(super) fn spawn<F>(&self, operation: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(operation)
    }

    /// Waits until none runs any more, as long as that may take.
    pub(super) async fn end(&self) {
        self.tracker.close();
        if tokio::time::timeout(OPERATIONS_GRACE, self.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(left = self.tracker.len(), "operations did not end in time");
        }
    }
}

/// A number of places, and how often there was none.
pub(super) struct Room {
    free: Arc<Semaphore>,
    places: usize,
    refused: AtomicU64,
}

impl Room {
    pub(super) fn new(places: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places)),
            places,
            refused: AtomicU64::new(0),
        }
    }

    /// A place, taken as long as what is returned lives.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        let taken = Arc::clone(&self.free).try_acquire_owned().ok();
        if taken.is_none() {
            self.refused.fetch_add(1, Relaxed);
        }
        taken
    }

    /// Places that are taken.
    pub(super) fn taken(&self) -> u64 {
        (self.places - self.free.available_permits()) as u64
    }

    /// How often there was none.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// The answer to who comes too late.
pub(super) fn stopping() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the daemon is stopping").hint("start it again")
}
