//! What copies for others may use of the line and of the month.
//!
//! Helping comes after what a person fetches and what this node shares, in every limit; and it never
//! takes more than half of what may be sent, nor more than a fifth of the month's budget, day by day.
//! Both classes of copies count: what is sent of them and what is pulled. Where nobody has set a limit
//! on what is sent, helping has half of the best minute of the last day, and 1 MB/s at least: less
//! says nothing of the line, for helping itself may have been all that was sent.
//!
//! It reads no clock and no socket: the time and the counters come in as arguments.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use jiff::civil::Date;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shoal_ground::units::Rate;

use super::pace::Pace;

/// Helping has one part in so many of what may be sent.
const LINE_PART: u64 = 2;

/// What helping may send per second, at least, where no limit says what may be sent.
const UNLIMITED_RATE_MIN: u64 = 1_000_000;

/// Copies have one part in so many of the month's budget, and of that a day has its part of a month
/// of so many days.
const MONTH_PART: u64 = 5;
const MONTH_DAYS: u64 = 31;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// See the module's head.
pub(super) struct Copies {
    pace: Pace,
    /// Bytes of copies since the start, both ways.
    moved: AtomicU64,
    day: Mutex<Day>,
    best: Mutex<BestMinute>,
    is_spent: AtomicBool,
}

/// What copies have moved on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopiesDay {
    pub(super) date: Date,
    pub(super) bytes: u64,
}

/// The day as it goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Day {
    kept: Option<CopiesDay>,
    /// What of `moved` has been counted, in this day or before it.
    counted: u64,
}

/// The best minute of the last day, by what was sent.
#[derive(Debug, Default)]
struct BestMinute {
    /// When the present minute began, and what had been sent by then.
    minute: Option<(Instant, u64)>,
    /// When each hour began, and its best rate in bytes per second; the latest last, at most 25.
    hours: VecDeque<(Instant, u64)>,
}

/// How things stand where it is decided what copies may use.
pub(super) struct Terms {
    /// The limit on what is sent, in bytes per second.
    pub(super) up: Option<u64>,
    /// The month's budget.
    pub(super) monthly: Option<u64>,
    /// Bytes sent on the sockets since the start.
    pub(super) sent: u64,
    pub(super) today: Date,
    pub(super) now: Instant,
}

impl Copies {
    /// Goes on with the day that was kept.
    pub(super) fn new(kept: Option<CopiesDay>) -> Self {
        Self {
            pace: Pace::default(),
            moved: AtomicU64::new(0),
            day: Mutex::new(Day { kept, counted: 0 }),
            best: Mutex::default(),
            is_spent: AtomicBool::new(false),
        }
    }

    /// How fast they may be sent.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// So many bytes of copies were moved.
    pub(super) fn moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether the day's part of the month's budget is used up.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.load(Relaxed)
    }

    /// The day as it stood when it was last looked at.
    pub(super) fn day(&self) -> Option<CopiesDay> {
        self.day.lock().kept
    }

    /// Puts in force what follows from the limits and from what was sent and moved.
    pub(super) fn keep(&self, terms: &Terms) {
        let best = self.best.lock().note(terms.sent, terms.now);
        let part = match terms.up {
            Some(up) => (up / LINE_PART).max(1),
            None => (best / LINE_PART).max(UNLIMITED_RATE_MIN),
        };
        self.pace.set(Rate::from_bytes_per_second(part));
        let used = self.day.lock().count(self.moved.load(Relaxed), terms.today);
        let most = terms.monthly.map(|it| it / MONTH_PART / MONTH_DAYS);
        self.is_spent
            .store(most.is_some_and(|most| used >= most), Relaxed);
    }
}

impl Day {
    /// Counts what has moved since the start; what of it belongs to this day.
    fn count(&mut self, moved: u64, date: Date) -> u64 {
        let fresh = moved.saturating_sub(self.counted);
        let bytes = match self.kept {
            Some(kept) if kept.date == date => kept.bytes.saturating_add(fresh),
            // What has moved since the last look, a second ago, is of yesterday.
            Some(_) => 0,
            None => fresh,
        };
        (self.kept, self.counted) = (Some(CopiesDay { date, bytes }), moved);
        bytes
    }
}

impl BestMinute {
    /// Notes what has been sent by now; bytes per second in the best minute of the last day.
    fn note(&mut self, sent: u64, now: Instant) -> u64 {
        let (began, before) = *self.minute.get_or_insert((now, sent));
        let time = now.saturating_duration_since(began);
        if time >= MINUTE {
            let rate = sent.saturating_sub(before).checked_div(time.as_secs());
            self.minute = Some((now, sent));
            self.add(rate.unwrap_or(0), now);
        }
        self.hours.iter().map(|(_, rate)| *rate).max().unwrap_or(0)
    }

    fn add(&mut self, rate: u64, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        self.hours.retain(|(began, _)| age(*began) < DAY);
        match self.hours.back_mut() {
            Some((began, best)) if age(*began) < HOUR => *best = rate.max(*best),
            _ => self.hours.push_back((now, rate)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Without limits, at the beginning of a day.
    fn terms(day: u8) -> Terms {
        Terms {
            up: None,
            monthly: None,
            sent: 0,
            today: format!("2026-11-{day}").parse().unwrap(),
            now: Instant::now(),
        }
    }

    #[test]
    fn a_day_has_its_part_of_a_fifth_of_the_month() {
        let copies = Copies::new(None);
        let month = 310_000_000;
        let check = |copies: &Copies, monthly, day, is_spent| {
            copies.keep(&Terms {
                monthly,
                ..terms(day)
            });
            assert_eq!(copies.is_spent(), is_spent, "{monthly:?}, {day}");
        };
        check(&copies, Some(month), 29, false);
        copies.moved(1_999_999);
        check(&copies, Some(month), 29, false);
        copies.moved(1);
        check(&copies, Some(month), 29, true);
        check(&copies, None, 29, false);
        check(&copies, Some(2 * month), 29, false);
        // Another run goes on with the day.
        let again = Copies::new(copies.day());
        check(&again, Some(month), 29, true);
        check(&again, Some(month), 30, false);
        again.moved(2_000_000);
        check(&again, Some(month), 30, true);
    }

    #[test]
    fn helping_has_half_of_what_may_be_sent() {
        let copies = Copies::new(None);
        let check = |up, expected| {
            copies.keep(&Terms { up, ..terms(30) });
            assert_eq!(copies.pace().bytes_per_second(), Some(expected), "{up:?}");
        };
        check(None, UNLIMITED_RATE_MIN);
        check(Some(1_000_000), 500_000);
        check(Some(1), 1);
        check(None, UNLIMITED_RATE_MIN);
    }

    #[test]
    fn without_a_limit_the_best_minute_of_a_day_says_what_the_line_carries() {
        let copies = Copies::new(None);
        let start = Instant::now();
        let check = |minutes: u64, sent: u64, expected| {
            copies.keep(&Terms {
                sent,
                now: start + MINUTE * u32::try_from(minutes).unwrap(),
                ..terms(30)
            });
            assert_eq!(
                copies.pace().bytes_per_second(),
                Some(expected),
                "{minutes}"
            );
        };
        check(0, 0, UNLIMITED_RATE_MIN);
        check(1, 60_000_000, UNLIMITED_RATE_MIN); // 1 MB/s: no more than helping alone may be
        check(2, 660_000_000, 5_000_000);
        check(3, 660_000_000, 5_000_000);
        check(24 * 60, 660_000_000, 5_000_000);
        check(25 * 60, 660_000_000, UNLIMITED_RATE_MIN);
    }
}
