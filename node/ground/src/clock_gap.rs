//! Gaps in this machine's own time: a process that was stopped, a machine that was suspended, a host
//! too busy to run this program.
//!
//! After a gap, deadlines that were set before it fire all at once, and none of them says anything
//! about a peer: nobody here was listening. [`ClockGaps`] notices such a gap by a look that comes
//! far too late. The network task looks once a second; a deadline that has passed looks again
//! before it acts, so it learns of the gap even when its own timer fires first. It then gives the
//! peer a fresh start. The pure part is `Detector`.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// How often somebody looks at the clock.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A look that comes so much too late ends a gap. The scheduler of a busy host delays a task by
/// some hundred milliseconds, and the clock that counts sleep is exact to a second.
const GAP_MIN: Duration = Duration::from_secs(3);

/// A stretch of time during which this program did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Counts gaps since the start, from 1.
    pub number: u64,
    /// How long it took, to the second.
    pub length: Duration,
    /// When this program noticed that it runs again.
    pub ended: Instant,
}

/// Notices gaps. Cheap to clone; all clones are one detector.
#[derive(Clone, Debug)]
pub struct ClockGaps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    detector: Mutex<Detector>,
    last: watch::Sender<Option<Gap>>,
}

impl Default for ClockGaps {
    fn default() -> Self {
        let detector = Mutex::new(Detector::new(Reading::now()));
        let (last, _) = watch::channel(None);
        Self(Arc::new(Shared { detector, last }))
    }
}

impl ClockGaps {
    /// Looks at the clock; the last gap that there was, which this look may have ended.
    ///
    /// Somebody has to look every [`LOOK_INTERVAL`] for the time in between not to count as a gap.
    pub fn look(&self) -> Option<Gap> {
        let looked = {
            let mut detector = self.0.detector.lock();
            // Under the lock, so that readings come in their order.
            detector.look(Reading::now())
        };
        if let Some(gap) = looked {
            self.0.last.send_replace(Some(gap));
        }
        *self.0.last.borrow()
    }

    /// Follows the gaps: the receiver changes when one has ended.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Gap>> {
        self.0.last.subscribe()
    }

    /// Waits for `future`, at most for `limit` without a gap in it: a gap starts the time anew.
    ///
    /// Cancel-safe when `future` is.
    ///
    /// # Errors
    /// [`TimedOut`] when the time has passed.
    pub async fn timeout<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, TimedOut> {
        let mut future = pin!(future);
        let mut seen = self.last_number();
        loop {
            // The future is asked first, so what has arrived counts however late the timer is.
            if let Ok(value) = tokio::time::timeout(limit, &mut future).await {
                return Ok(value);
            }
            let number = self.look().map_or(0, |gap| gap.number);
            if number == seen {
                return Err(TimedOut);
            }
            seen = number;
        }
    }

    fn last_number(&self) -> u64 {
        self.0.last.borrow().map_or(0, |gap| gap.number)
    }
}

/// The time has passed, and no gap is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time has passed")]
pub struct TimedOut;

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Stands still while the machine is suspended, on Linux.
    running: Instant,
    /// Goes on meanwhile. Only differences mean something.
    real: Duration,
}

impl Reading {
    fn now() -> Self {
        Self {
            running: Instant::now(),
            real: real_time(),
        }
    }
}

/// Time since the boot, suspended or not, in whole seconds (`CLOCK_BOOTTIME`).
#[cfg(target_os = "linux")]
fn real_time() -> Duration {
    Duration::from_secs(u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0))
}

/// The wall clock. Setting it forward looks like a gap, which costs a fresh start for all peers.
#[cfg(not(target_os = "linux"))]
fn real_time() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Compares each reading with the one before. Knows no clock.
#[derive(Debug)]
struct Detector {
    before: Reading,
    gaps: u64,
}

impl Detector {
    fn new(first: Reading) -> Self {
        Self {
            before: first,
            gaps: 0,
        }
    }

    /// Takes note of a reading; the gap that it ends, if it ends one.
    fn look(&mut self, now: Reading) -> Option<Gap> {
        let ran = now.running.saturating_duration_since(self.before.running);
        let passed = now.real.saturating_sub(self.before.real).max(ran);
        self.before = now;
        let length = passed.saturating_sub(LOOK_INTERVAL);
        if length < GAP_MIN {
            return None;
        }
        self.gaps += 1;
        Some(Gap {
            number: self.gaps,
            length,
            ended: now.running,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks after so many seconds of each clock; the gaps' lengths, in seconds.
    fn check(looks: &[(u32, u32)], expected: &[u64]) {
        let mut at = Reading::now();
        let mut detector = Detector::new(at);
        let mut found = Vec::new();
        for (running, real) in looks {
            at.running += SECOND * *running;
            at.real += SECOND * *real;
            if let Some(gap) = detector.look(at) {
                assert_eq!(gap.ended, at.running);
                assert_eq!(gap.number, found.len() as u64 + 1);
                found.push(gap.length.as_secs());
            }
        }
        assert_eq!(found, expected, "{looks:?}");
    }

    #[test]
    fn a_gap_is_a_look_that_comes_far_too_late() {
        check(&[(1, 1), (1, 1), (1, 1)], &[]);
        check(&[(1, 2), (2, 1), (3, 3)], &[]);
        // Stopped: both clocks went on.
        check(&[(1, 1), (71, 71), (1, 1)], &[70]);
        // Suspended: only one did.
        check(&[(1, 1), (1, 701), (1, 1)], &[700]);
        check(&[(8, 8), (1, 1), (1, 31)], &[7, 30]);
        // A clock that goes back is no gap.
        check(&[(1, 100), (1, 0)], &[99]);
    }

    #[tokio::test]
    async fn a_timeout_fires_without_a_gap_and_starts_anew_after_one() {
        let gaps = ClockGaps::default();
        let never = std::future::pending::<()>();
        let moment = Duration::from_millis(1);
        assert_eq!(gaps.timeout(moment, never).await, Err(TimedOut));
        assert_eq!(gaps.timeout(moment, async { 7 }).await, Ok(7));

        let (told, tells) = tokio::sync::oneshot::channel();
        let stopped = gaps.clone();
        // As if the process had been stopped after the timer was set: the last look is long ago.
        let waits = async {
            stopped.0.detector.lock().before.running -= SECOND * 20;
            tells.await.unwrap()
        };
        let mut followed = gaps.subscribe();
        let tell_after_gap = async {
            followed.changed().await.unwrap();
            told.send(3).unwrap();
        };
        // The time that passes first ends in the gap. Noticing it is what brings the answer.
        let waited = gaps.timeout(moment, waits);
        let (waited, ()) = tokio::join!(waited, tell_after_gap);
        assert_eq!(waited, Ok(3));
        assert!(gaps.look().unwrap().length >= SECOND * 19);
    }
}
