//! When a transfer that rests for want of providers is looked for again: decisions without a clock.
//!
//! The first look comes soon after the transfer came to rest, the next ones ever later, and one at
//! once when there is reason to hope: a provider was heard of, or the network is back. A transfer
//! that went on and brought nothing is one more look without fruit, so a provider that promises and
//! does not deliver is not asked without a pause. The caller carries the looks out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use shoal_protocol::backoff::Backoff;

/// From the end of a fruitless run or look to the next look. At the longest delay 1024 transfers that
/// rest cost 3.4 looks per second at the most, fewer as [`super::look::LOOKS_MAX`] of them run at a
/// time.
const DELAY: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));
/// Reasons to hope count once in this time, whoever gives them and how often.
const HOPE_INTERVAL: Duration = Duration::from_secs(5);

/// The transfers that rest for want of providers, and those of them that went on.
#[derive(Default)]
pub(super) struct Schedule {
    waits: HashMap<u64, Wait>,
}

struct Wait {
    state: State,
    /// Looks and runs since the last that brought bytes.
    fruitless: u32,
    /// What was verified when it last came to rest.
    bytes: u64,
    /// When the last look for it ended.
    looked: Option<Instant>,
}

enum State {
    /// It is looked for at this time.
    Rests(Instant),
    /// It is being looked for.
    Sought,
    /// It went on, as far as this schedule knows.
    Away,
}

impl Schedule {
    /// Takes note of the transfers that rest, with what each has verified. Those that are new to it
    /// are looked for at once when `is_start`: they rest since an earlier process. Transfers that
    /// are not `known` any more are forgotten.
    pub(super) fn update(
        &mut self,
        resting: impl IntoIterator<Item = (u64, u64)>,
        is_start: bool,
        known: impl Fn(u64) -> bool,
        now: Instant,
    ) {
        self.waits.retain(|id, _| known(*id));
        let mut left: Vec<u64> = Vec::new();
        let resting: HashMap<u64, u64> = resting.into_iter().collect();
        for (id, bytes) in &resting {
            let at = if is_start {
                now
            } else {
                now + DELAY.doubled(0)
            };
            let new = Wait {
                state: State::Rests(at),
                fruitless: 0,
                bytes: *bytes,
                looked: None,
            };
            let wait = self.waits.entry(*id).or_insert(new);
            if matches!(wait.state, State::Away) {
                let got_on = *bytes > wait.bytes;
                wait.fruitless = if got_on {
                    0
                } else {
                    wait.fruitless.saturating_add(1)
                };
                wait.bytes = *bytes;
                wait.state = State::Rests(now + DELAY.doubled(wait.fruitless));
            }
        }
        // Somebody had it go on, or it is paused now: there is nothing to look for.
        left.extend(self.waits.keys().filter(|id| !resting.contains_key(id)));
        for id in left {
            if let Some(wait) = self.waits.get_mut(&id) {
                wait.state = State::Away;
            }
        }
    }

    /// The transfers to look for now, at most `room`; those that wait longest come first.
    pub(super) fn due(&mut self, room: usize, now: Instant) -> Vec<u64> {
        let waits = self.waits.iter();
        let mut due: Vec<(Instant, u64)> = waits
            .filter_map(|(id, wait)| match wait.state {
                State::Rests(at) if at <= now => Some((at, *id)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.truncate(room);
        for (_, id) in &due {
            if let Some(wait) = self.waits.get_mut(id) {
                wait.state = State::Sought;
            }
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// A look has ended: whether it found a provider, so that the transfer goes on.
    pub(super) fn looked(&mut self, id: u64, has_found: bool, now: Instant) {
        let Some(wait) = self.waits.get_mut(&id) else {
            return;
        };
        wait.looked = Some(now);
        if has_found {
            wait.state = State::Away;
        } else if matches!(wait.state, State::Sought) {
            wait.fruitless = wait.fruitless.saturating_add(1);
            wait.state = State::Rests(now + DELAY.doubled(wait.fruitless));
        }
    }

    /// There is reason to hope for a transfer.
    pub(super) fn hope(&mut self, id: u64, now: Instant) {
        let Some(wait) = self.waits.get_mut(&id) else {
            return;
        };
        if let State::Rests(at) = &mut wait.state {
            let soonest = wait.looked.map_or(now, |looked| looked + HOPE_INTERVAL);
            *at = soonest.max(now).min(*at);
        }
    }

    /// There is reason to hope for all of them.
    pub(super) fn hope_for_all(&mut self, now: Instant) {
        let ids: Vec<u64> = self.waits.keys().copied().collect();
        ids.into_iter().for_each(|id| self.hope(id, now));
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let waits = self.waits.values();
        let times = waits.filter_map(|wait| match wait.state {
            State::Rests(at) => Some(at),
            State::Sought | State::Away => None,
        });
        times.min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule, and the time in seconds since it began.
    struct Clock {
        schedule: Schedule,
        start: Instant,
    }

    impl Clock {
        fn new(resting: &[(u64, u64)], is_start: bool) -> Self {
            let mut clock = Self {
                schedule: Schedule::default(),
                start: Instant::now(),
            };
            let (rests, start) = (resting.iter().copied(), clock.start);
            clock.schedule.update(rests, is_start, |_| true, start);
            clock
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn next(&self) -> Option<u64> {
            let next = self.schedule.next()?;
            Some((next - self.start).as_secs())
        }

        fn rests(&mut self, resting: &[(u64, u64)], seconds: u64) {
            let now = self.at(seconds);
            let rests = resting.iter().copied();
            self.schedule.update(rests, false, |_| true, now);
        }

        fn fruitless(&mut self, id: u64, seconds: u64) {
            let now = self.at(seconds);
            assert_eq!(self.schedule.due(1, now), [id]);
            self.schedule.looked(id, false, now);
        }
    }

    #[test]
    fn looks_come_ever_later_up_to_a_bound() {
        let mut clock = Clock::new(&[(1, 10)], false);
        let mut at = 0;
        for expected in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
            assert_eq!(clock.next(), Some(at + expected));
            at += expected;
            clock.fruitless(1, at);
        }
        assert_eq!(DELAY.doubled(u32::MAX), Duration::from_secs(300));
    }

    #[test]
    fn what_an_earlier_process_left_is_looked_for_at_once() {
        let mut clock = Clock::new(&[(1, 0), (2, 0), (3, 0)], true);
        let now = clock.at(0);
        assert_eq!(clock.schedule.due(2, now).len(), 2);
        assert_eq!(clock.schedule.due(2, now).len(), 1);
        assert!(clock.schedule.due(2, now).is_empty());
        assert_eq!(clock.next(), None, "all are being looked for");
    }

    #[test]
    fn hope_brings_a_look_forward_and_not_again_and_again() {
        let mut clock = Clock::new(&[(1, 0), (2, 0)], false);
        for at in [5, 15] {
            clock.fruitless(1, at);
            clock.fruitless(2, at);
        }
        let now = clock.at(25);
        clock.schedule.hope(1, now);
        clock.fruitless(1, 25);
        // It was looked for just now, and has to wait.
        clock.schedule.hope_for_all(now);
        assert_eq!(clock.schedule.due(9, now), [2]);
        assert_eq!(clock.next(), Some(30));
        // Hope never makes a look later than it is due.
        let late = clock.at(100);
        clock.schedule.hope(1, late);
        assert_eq!(clock.next(), Some(30));
    }

    #[test]
    fn a_provider_that_delivers_nothing_is_asked_ever_more_rarely() {
        let mut clock = Clock::new(&[(1, 7)], false);
        let mut at = 5;
        for expected in [10, 20, 40] {
            let now = clock.at(at);
            assert_eq!(clock.schedule.due(1, now), [1]);
            clock.schedule.looked(1, true, now);
            assert_eq!(clock.next(), None, "it runs");
            clock.rests(&[], at);
            at += 1;
            clock.rests(&[(1, 7)], at);
            assert_eq!(clock.next(), Some(at + expected));
            at += expected;
        }
        // One that got on begins anew.
        let now = clock.at(at);
        assert_eq!(clock.schedule.due(1, now), [1]);
        clock.schedule.looked(1, true, now);
        clock.rests(&[(1, 8)], at);
        assert_eq!(clock.next(), Some(at + 5));
    }

    #[test]
    fn what_is_gone_or_paused_is_not_looked_for() {
        let mut clock = Clock::new(&[(1, 0), (2, 0)], false);
        clock.rests(&[(2, 0)], 1);
        let late = clock.at(100);
        assert_eq!(clock.schedule.due(9, late), [2]);
        clock.schedule.update([], false, |_| false, late);
        clock.schedule.looked(2, false, late);
        assert!(clock.schedule.waits.is_empty());
    }
}
