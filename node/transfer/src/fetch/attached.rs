//! Waiting for a transfer.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    FetchError, FetcherInner, Outcome,
    progress::{Estimate, Progress, Snapshot},
    transfers::Ticket,
};

/// One who waits for a transfer. It comes to rest when the last one leaves or is dropped; one that
/// nobody ever waited for runs on.
pub struct Attached {
    inner: Arc<FetcherInner>,
    id: u64,
    serial: u64,
    progress: Arc<Progress>,
    outcome: watch::Receiver<Option<Outcome>>,
    left: bool,
}

impl Attached {
    pub(super) fn new(inner: Arc<FetcherInner>, ticket: Ticket) -> Self {
        Self {
            inner,
            id: ticket.id,
            serial: ticket.serial,
            progress: ticket.progress,
            outcome: ticket.outcome,
            left: false,
        }
    }

    /// The transfer's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How far the transfer is, and how fast.
    pub fn progress(&self) -> (Snapshot, Estimate) {
        let at = self.progress.snapshot();
        (at, self.progress.estimate(&at))
    }

    /// Waits for the outcome. Cancel-safe.
    pub async fn outcome(&mut self) -> Outcome {
        match self
            .outcome
            .wait_for(Option::is_some)
            .await
            .map(|it| it.clone())
        {
            Ok(Some(outcome)) => outcome,
            _ => Err(Arc::new(FetchError::Internal(
                "the transfer's task ended".to_owned(),
            ))),
        }
    }

    /// Waits for the transfer no longer; true when nobody else does, and it comes to rest now.
    pub fn leave(&mut self) -> bool {
        if std::mem::replace(&mut self.left, true) {
            return false;
        }
        let why = self.inner.left();
        let is_last = self.inner.transfers.leave(self.id, self.serial, why);
        if is_last {
            self.inner.record_later();
        }
        is_last
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.leave();
    }
}
