//! Which calls are under way, and for how long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// The calls on one disk, or of one task, that are under way.
#[derive(Debug, Default)]
pub struct Calls(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    /// When each began; numbered as they began, so that the first is the oldest.
    begun: BTreeMap<u64, Instant>,
    next: u64,
    /// When the last one returned.
    returned: Option<Instant>,
}

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub struct Touch<'a> {
    calls: &'a Calls,
    number: u64,
}

impl Calls {
    /// Says that a call begins.
    pub fn touch(&self) -> Touch<'_> {
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.begun.insert(number, Instant::now());
        Touch {
            calls: self,
            number,
        }
    }

    /// For how long the oldest call has not returned.
    pub fn oldest_for(&self) -> Option<Duration> {
        let open = self.lock();
        open.begun.values().next().map(Instant::elapsed)
    }

    /// For how long no call has returned, while some are under way.
    pub fn unanswered_for(&self) -> Option<Duration> {
        let open = self.lock();
        let oldest = *open.begun.values().next()?;
        let since = open.returned.map_or(oldest, |it| it.max(oldest));
        Some(since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock()
    }

    /// Has everything that has happened lie so much further back.
    #[cfg(test)]
    pub(super) fn age(&self, time: Duration) {
        let mut open = self.lock();
        open.begun.values_mut().for_each(|begun| *begun -= time);
        if let Some(returned) = &mut open.returned {
            *returned -= time;
        }
    }
}

impl Drop for Touch<'_> {
    fn drop(&mut self) {
        let mut open = self.calls.lock();
        open.begun.remove(&self.number);
        open.returned = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn one_call_may_hang_while_others_return() {
        let calls = Calls::default();
        assert_eq!((calls.oldest_for(), calls.unanswered_for()), (None, None));
        let stuck = calls.touch();
        calls.age(MINUTE);
        assert!(calls.unanswered_for().is_some_and(|it| it >= MINUTE));
        drop(calls.touch());
        assert!(calls.unanswered_for().is_some_and(|it| it < MINUTE));
        assert!(calls.oldest_for().is_some_and(|it| it >= MINUTE));
        drop(stuck);
        assert_eq!((calls.oldest_for(), calls.unanswered_for()), (None, None));
    }

    #[test]
    fn what_returned_long_ago_says_nothing_of_a_new_call() {
        let calls = Calls::default();
        drop(calls.touch());
        calls.age(MINUTE);
        let _new = calls.touch();
        assert!(calls.unanswered_for().is_some_and(|it| it < MINUTE));
    }
}
