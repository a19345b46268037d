//! When a scrub reads how much: pure, with the time as an argument.
//!
//! Times are milliseconds since the Unix epoch, since a scrub outlives the process. A clock that is
//! set back makes a scrub begin early, never late.

use std::time::Duration;

use crate::config::ScrubConfig;

/// What is read in one step, at most: at 2.7 GB/s of hashing, 1.5 ms of one core. No more than a
/// second's worth, so that a low rate is an even one.
const STEP_BYTES: u64 = 4 << 20;

/// While others use the disk and the line, a scrub goes on at this part of its rate, so that it
/// ends on a busy node too.
const BUSY_SLOWDOWN: u32 = 8;

/// The longest wait before the clock and the state are looked at again.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How often and how fast is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    /// From the beginning of one scrub to that of the next.
    pub(super) interval: Duration,
    /// Bytes per second.
    pub(super) rate: u64,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for at most this long, then ask again.
    Wait(Duration),
    /// Begin a scrub.
    Begin,
    /// Read so many bytes, then rest.
    Step(u64),
}

impl Schedule {
    /// What is configured; `None` when that is never.
    pub(super) fn new(config: ScrubConfig) -> Option<Self> {
        Some(Self {
            interval: config.interval.duration()?,
            rate: config.rate.bytes_per_second()?,
        })
    }

    /// What to do at `now_ms` when the latest scrub began at `begun_ms` and is under way or not.
    pub(super) fn next(&self, now_ms: u64, begun_ms: u64, under_way: bool) -> Next {
        if under_way {
            return Next::Step(STEP_BYTES.min(self.rate));
        }
        let since = Duration::from_millis(now_ms.saturating_sub(begun_ms));
        let left = self.interval.saturating_sub(since);
        // A beginning in the future was written before the clock was set back.
        match left.is_zero() || begun_ms > now_ms {
            true => Next::Begin,
            false => Next::Wait(left.min(WAIT_MAX)),
        }
    }

    /// How long to rest after a step that read `bytes` and took `took`.
    pub(super) fn rest(&self, bytes: u64, took: Duration, busy: bool) -> Duration {
        let at_rate = Duration::from_millis(bytes.saturating_mul(1000) / self.rate.max(1));
        let whole = match busy {
            true => at_rate.max(took).saturating_mul(BUSY_SLOWDOWN),
            false => at_rate,
        };
        whole.saturating_sub(took)
    }

    /// When the scrub after one that began at `begun_ms` is due.
    pub(super) fn due_ms(&self, begun_ms: u64) -> u64 {
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        begun_ms.saturating_add(interval)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MIB: u64 = 1 << 20;
    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn schedule(interval_days: u64, rate: u64) -> Schedule {
        Schedule {
            interval: Duration::from_millis(interval_days * DAY_MS),
            rate,
        }
    }

    /// A node that runs on virtual time: what a scrub whose steps read `disk` bytes per second has
    /// read after `millis`.
    fn read_in(schedule: Schedule, millis: u64, disk: u64, busy: bool) -> u64 {
        let (mut now, mut read) = (0, 0);
        while now < millis {
            let Next::Step(bytes) = schedule.next(now, 0, true) else {
                panic!("a scrub that is under way goes on");
            };
            let took = Duration::from_millis(bytes * 1000 / disk);
            let rest = schedule.rest(bytes, took, busy);
            now += u64::try_from((took + rest).as_millis()).unwrap_or(u64::MAX);
            read += bytes;
        }
        read
    }

    #[test]
    fn the_rate_holds_over_an_hour_and_yields_to_traffic() {
        let hour = 3600 * 1000;
        let check = |rate: u64, disk: u64, busy: bool, expected: u64| {
            let read = read_in(schedule(30, rate), hour, disk, busy);
            let off_by = read.abs_diff(expected);
            assert!(
                off_by <= STEP_BYTES.max(expected / 100),
                "{rate} {disk} {busy}: {read} instead of {expected}"
            );
        };
        check(8 * MIB, 1000 * MIB, false, 8 * MIB * 3600);
        check(8 * MIB, 1000 * MIB, true, MIB * 3600);
        check(MIB / 4, 1000 * MIB, false, MIB / 4 * 3600);
        // A disk that is slower than the rate is all that there is.
        check(8 * MIB, 4 * MIB, false, 4 * MIB * 3600);
        check(8 * MIB, 4 * MIB, true, MIB / 2 * 3600);
    }

    #[test]
    fn a_step_is_at_most_a_second_long() {
        let check = |rate: u64, expected: u64| {
            let next = schedule(30, rate).next(0, 0, true);
            assert_eq!(next, Next::Step(expected), "{rate}");
        };
        check(8000, 8000);
        check(MIB, MIB);
        check(8 * MIB, STEP_BYTES);
    }

    #[test]
    fn a_scrub_begins_an_interval_after_the_one_before() {
        let monthly = schedule(30, MIB);
        let check = |now_days: u64, begun_days: u64, expected: Next| {
            let next = monthly.next(now_days * DAY_MS, begun_days * DAY_MS, false);
            assert_eq!(next, expected, "{now_days} {begun_days}");
        };
        check(100, 100, Next::Wait(WAIT_MAX));
        check(129, 100, Next::Wait(WAIT_MAX));
        check(130, 100, Next::Begin);
        check(500, 100, Next::Begin);
        // The clock was set back.
        check(100, 101, Next::Begin);
        let almost = monthly.next(130 * DAY_MS - 5000, 100 * DAY_MS, false);
        assert_eq!(almost, Next::Wait(Duration::from_secs(5)));
        assert_eq!(monthly.due_ms(DAY_MS), 31 * DAY_MS);
    }

    #[test]
    fn off_is_never() {
        let check = |interval: &str, rate: &str, expected: Option<Schedule>| {
            let config = ScrubConfig {
                interval: interval.parse().unwrap(),
                rate: rate.parse().unwrap(),
            };
            assert_eq!(Schedule::new(config), expected, "{interval} {rate}");
        };
        check("30days", "1MiB/s", Some(schedule(30, MIB)));
        check("off", "1MiB/s", None);
        check("30days", "off", None);
        assert!(Schedule::new(ScrubConfig::default()).is_some());
    }
}
