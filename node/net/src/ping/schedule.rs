//! When a connection is tried out next: pure.

use std::time::{Duration, Instant};

use crate::config::IDLE_PING_INTERVAL;

/// When the first pings go out, from the beginning of the connection on: three of them, so that how
/// near the peer is shows at once.
const FIRST: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// From one ping to the next while streams of content are open: whoever waits for a peer that is
/// gone learns it soon.
const USED_INTERVAL: Duration = Duration::from_secs(10);

/// When pings of one connection are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    began: Instant,
    /// How many were sent.
    sent: usize,
    last: Instant,
    /// The next one is due now.
    hurries: bool,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            sent: 0,
            last: now,
            hurries: false,
        }
    }

    /// When the next ping is due, on a connection that is used by a stream of content or not.
    pub(super) fn due(&self, is_used: bool) -> Instant {
        if self.hurries {
            return self.last;
        }
        match FIRST.get(self.sent) {
            Some(after) => self.began + *after,
            None if is_used => self.last + USED_INTERVAL,
            None => self.last + IDLE_PING_INTERVAL,
        }
    }

    /// A ping was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = self.sent.saturating_add(1);
        (self.last, self.hurries) = (now, false);
    }

    /// The next one is due now: this machine woke up, or is somewhere else.
    pub(super) fn hurry(&mut self) {
        self.hurries = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_at_first_then_seldom_and_at_once_when_it_hurries() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut schedule = Schedule::new(start);
        let mut check = |is_used, expected, hurries| {
            assert_eq!(schedule.due(is_used), at(expected));
            schedule.sent(at(expected));
            if hurries {
                schedule.hurry();
                assert_eq!(schedule.due(is_used), at(expected));
                schedule.sent(at(expected + 1));
            }
        };
        check(false, 0, false);
        check(false, 4, false);
        check(true, 8, false);
        check(false, 188, false);
        check(true, 198, true);
        check(false, 379, false);
    }
}
