//! The HTTP server of a node: its caps and the order in which it ends.
//!
//! Owns the socket while it serves. Refuses what is too large, too slow, too much at once, or not
//! understood, each with `{"error":{"code","message","hint"}}` and the HTTP status that belongs to
//! the code. On shutdown it takes no more connections, cancels the operations in progress and
//! awaits them, and removes the socket.

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

use super::{ApiError, ErrorCode, Service, listener::ApiListener, routes};

/// Operations at once. Each holds a transfer or a hashing run, of which a few saturate a machine;
/// 64 leave room for those that merely wait.
pub(super) const OPERATIONS_MAX: usize = 64;

/// What a connection may take to end after the last operation did: its client reads one line.
const CONNECTIONS_GRACE: Duration = Duration::from_secs(2);

/// What cancelled operations may take: the last batch of chunks to disk and one synced commit on a
/// slow disk.
const OPERATIONS_GRACE: Duration = Duration::from_secs(20);

/// Serves `service` on `listener` until `shutdown` fires, which a request to stop also does.
///
/// Returns when no operation runs any more, at most 22 s after `shutdown`; then the socket is gone.
pub async fn serve<S: Service>(
    listener: ApiListener,
    service: Arc<S>,
    shutdown: CancellationToken,
) {
    let operations = Operations::new(shutdown.clone());
    let router = routes::router(Arc::clone(&service), operations.clone());
    let server =
        axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let ending = async {
        shutdown.cancelled().await;
        operations.end().await;
        service.stopping();
        tokio::time::sleep(CONNECTIONS_GRACE).await;
    };
    tokio::select! {
        _ = server => operations.end().await,
        () = ending => tracing::debug!("clients of the API are not waited for any longer"),
    }
}

/// The operations in progress.
#[derive(Clone)]
pub(super) struct Operations {
    tracker: TaskTracker,
    room: Arc<Room>,
    shutdown: CancellationToken,
}

impl Operations {
    fn new(shutdown: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            room: Arc::new(Room::new(OPERATIONS_MAX)),
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

    /// Runs an operation whose end is awaited on shutdown.
    pub(super) fn spawn<F>(&self, operation: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(operation)
    }

    async fn end(&self) {
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
