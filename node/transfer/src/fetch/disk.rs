//! The disk that a transfer writes to, and whether it answers.
//!
//! Nothing is done on a disk before it has answered ([`DiskWatch::answered`]): until then a transfer
//! waits without a thread. Later calls are noted, so that a transfer whose disk hangs says so, and
//! holds up nobody else's.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use shoal_store::disks::{Calls, Disk, Disks, NoAnswer, SLOW_AFTER, Touch};
use tokio_util::sync::CancellationToken;

use super::FetchError;

/// How long a disk may take to answer before its transfer says that it waits.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Between two questions to a disk that does not answer.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// The calls of one run on the disk that it lands on.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    disk: OnceLock<Arc<Disk>>,
    calls: Calls,
    /// A disk that has not answered at all yet.
    waiting: Mutex<Option<PathBuf>>,
}

impl DiskWatch {
    /// Says that a call on the disk is under way.
    pub(super) fn touch(&self) -> (Touch<'_>, Option<Touch<'_>>) {
        (self.calls.touch(), self.disk.get().map(|disk| disk.touch()))
    }

    /// Where the disk is mounted that the run waits for, and for how long it has had no answer from
    /// it.
    pub(super) fn waits_for(&self) -> Option<PathBuf> {
        if let Some(at) = self.waiting().clone() {
            return Some(at);
        }
        self.calls.oldest_for().filter(|it| *it >= SLOW_AFTER)?;
        self.disk.get().map(|disk| disk.at().to_owned())
    }

    /// Waits until the disk of a destination answers, which is the run's from then on.
    pub(super) async fn answered(
        &self,
        disks: &Disks,
        destination: &Path,
        cancel: &CancellationToken,
    ) -> Result<(), FetchError> {
        loop {
            let resolving = disks.resolve(destination, ANSWER_PATIENCE);
            let Some(resolved) = cancel.run_until_cancelled(resolving).await else {
                return Err(FetchError::Cancelled);
            };
            match resolved {
                Ok((_, disk)) => {
                    *self.waiting() = None;
                    let _ = self.disk.set(disk);
                    return Ok(());
                }
                Err(NoAnswer::Silent(at) | NoAnswer::Busy(at) | NoAnswer::Panicked(at)) => {
                    *self.waiting() = Some(at);
                }
            }
            let resting = tokio::time::sleep(ASK_INTERVAL);
            if cancel.run_until_cancelled(resting).await.is_none() {
                return Err(FetchError::Cancelled);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.waiting.lock()
    }
}
