//! Deadlines that count only the time in which this process ran.
//!
//! A process that was stopped, or whose machine slept or was busy, finds all its timers due at
//! once, and has had no chance to see what has arrived meanwhile. [`within`] looks at that first,
//! and counts a gap as one slice of its time; [`RunningTime`] is for those who keep their own time.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    time::{Duration, Instant},
};

/// Time is counted in slices this long: what a gap counts as.
const SLICE: Duration = Duration::from_secs(1);

/// Time that passes between two looks at the clock beyond what was expected, and is no gap yet: a
/// busy machine runs a task that late.
const LATE_MAX: Duration = Duration::from_secs(2);

/// The outcome of `future`, or none when it takes longer than `limit` of the time in which this
/// process runs. After a gap it gets another slice at least.
///
/// Cancel-safe if `future` is: it is dropped with this.
pub async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = Some(limit);
    while let Some(limit) = left {
        let begun = Instant::now();
        // When the time is over, it polls the future once more.
        if let Ok(outcome) = tokio::time::timeout(limit.min(SLICE), future.as_mut()).await {
            return Some(outcome);
        }
        left = what_is_left(limit, begun.elapsed());
    }
    None
}

/// What is left of a limit after a slice that took so long.
fn what_is_left(limit: Duration, took: Duration) -> Option<Duration> {
    let slice = limit.min(SLICE);
    let was_gap = took > slice.saturating_add(LATE_MAX);
    match limit.saturating_sub(slice) {
        Duration::ZERO if was_gap => Some(SLICE),
        Duration::ZERO => None,
        left => Some(left),
    }
}

/// The time since a start, less that in which this process did not run. For one task, which is to
/// look at it at regular intervals.
#[derive(Debug)]
pub struct RunningTime {
    started: Cell<Instant>,
    gaps: RefCell<Gaps>,
}

impl RunningTime {
    /// Starts now, for a task that looks at it every `interval_max` at the latest.
    pub fn start(interval_max: Duration) -> Self {
        let now = Instant::now();
        Self {
            started: Cell::new(now),
            gaps: RefCell::new(Gaps::new(interval_max, now)),
        }
    }

    /// The time that has passed.
    pub fn now(&self) -> Duration {
        let now = Instant::now();
        let gap = self.gaps.borrow_mut().look(now);
        self.started.set(self.started.get() + gap);
        now.saturating_duration_since(self.started.get())
    }

    /// The task looks at it again, after a time in which it had no reason to: that counts.
    pub fn go_on(&self) {
        self.gaps.borrow_mut().last = Instant::now();
    }
}

/// Finds gaps between looks at the clock that are to come at regular intervals.
#[derive(Debug)]
struct Gaps {
    interval_max: Duration,
    last: Instant,
}

impl Gaps {
    /// The clock is looked at every `interval_max` at the latest, from `now` on.
    fn new(interval_max: Duration, now: Instant) -> Self {
        Self {
            interval_max,
            last: now,
        }
    }

    /// How much of the time since the last look this process did not run; nothing, as a rule.
    fn look(&mut self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.last);
        self.last = now;
        match since > self.interval_max.saturating_add(LATE_MAX) {
            true => since.saturating_sub(self.interval_max),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_limit_is_used_up_by_slices_and_not_by_gaps() {
        assert_eq!(what_is_left(ms(2_500), ms(1_000)), Some(ms(1_500)));
        assert_eq!(what_is_left(ms(2_500), ms(70_000)), Some(ms(1_500)));
        assert_eq!(what_is_left(ms(500), ms(510)), None);
        assert_eq!(what_is_left(ms(500), ms(2_500)), None, "late");
        assert_eq!(what_is_left(ms(500), ms(70_000)), Some(SLICE));
    }

    #[tokio::test]
    async fn what_is_there_counts_whatever_the_limit() {
        assert_eq!(within(Duration::ZERO, async { 7 }).await, Some(7));
        let never = std::future::pending::<()>();
        assert_eq!(within(ms(1), never).await, None);
    }

    #[test]
    fn a_gap_is_what_is_beyond_the_interval() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut gaps = Gaps::new(SLICE, start);
        assert_eq!(gaps.look(at(1)), Duration::ZERO);
        assert_eq!(gaps.look(at(4)), Duration::ZERO, "late");
        assert_eq!(gaps.look(at(74)), Duration::from_secs(69));
        assert_eq!(gaps.look(at(75)), Duration::ZERO);
    }
}
