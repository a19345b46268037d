//! A timer that is there only once something waits for it, and is right on average.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

use super::Emulator;

/// What tokio's timer and the system are late by on average, since both count in milliseconds and
/// never wake anybody early. What is due this soon is due.
pub(crate) const LATE: Duration = Duration::from_millis(1);

/// Wakes a task.
#[derive(Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready when `at` is there, give or take what a timer is off by; else the task is woken then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, from: &Emulator, at: Duration) -> Poll<()> {
        while from.now().saturating_add(LATE) < at {
            let deadline = from.instant(at.saturating_sub(LATE));
            let sleep = self
                .0
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}
