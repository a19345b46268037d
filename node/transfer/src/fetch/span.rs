//! The span of a transfer: all that is logged on its behalf carries its number and its root.
//!
//! A span does not follow work to other tasks and threads by itself. Whatever a transfer starts is
//! started here, within the span of who starts it.

use shoal_protocol::address::Cid;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

/// The span of the transfer with this number.
pub(super) fn transfer(id: u64, root: &Cid) -> Span {
    tracing::info_span!("transfer", id, cid = %root)
}

/// Starts a task that belongs to what starts it.
pub(super) fn spawn<F>(tasks: &TaskTracker, task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tasks.spawn(task.in_current_span())
}

/// Starts a job on a blocking thread that belongs to what starts it.
pub(super) fn spawn_blocking<T: Send + 'static>(
    tasks: &TaskTracker,
    job: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let span = Span::current();
    tasks.spawn_blocking(move || span.in_scope(job))
}
