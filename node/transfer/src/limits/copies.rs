//! What copies for others may use of the line and of the month.
//!
//! Helping comes after what a person fetches and what this node shares, in every limit; and it never
//! takes more than half of what may be sent, nor more than a fifth of the month's budget, day by day.
//! Both classes of copies count: what is sent of them and what is pulled. A restart begins the day
//! anew. Without limits there are none here either.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use jiff::civil::Date;
use parking_lot::Mutex;
use shoal_ground::units::Rate;

use super::pace::Pace;

/// Helping has one part in so many of the limit on what is sent.
const LINE_PART: u64 = 2;

/// Copies have one part in so many of the month's budget, and of that a day has its part of a month
/// of so many days.
const MONTH_PART: u64 = 5;
const MONTH_DAYS: u64 = 31;

/// See the module's head.
pub(super) struct Copies {
    pace: Pace,
    /// Bytes of copies since the start, both ways.
    moved: AtomicU64,
    day: Mutex<Option<Day>>,
    is_spent: AtomicBool,
}

/// A day, and what of `moved` was before it.
#[derive(Clone, Copy, Debug)]
struct Day {
    date: Date,
    before: u64,
}

impl Copies {
    pub(super) fn new() -> Self {
        Self {
            pace: Pace::default(),
            moved: AtomicU64::new(0),
            day: Mutex::default(),
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

    /// Puts in force what follows from the limit on what is sent and from the month's budget.
    pub(super) fn keep(&self, up: Option<u64>, monthly: Option<u64>, today: Date) {
        let part = up.map_or(Rate::OFF, |up| {
            Rate::from_bytes_per_second((up / LINE_PART).max(1))
        });
        self.pace.set(part);
        let moved = self.moved.load(Relaxed);
        let mut day = self.day.lock();
        let day = day.get_or_insert(Day {
            date: today,
            before: 0,
        });
        if day.date != today {
            *day = Day {
                date: today,
                before: moved,
            };
        }
        let used = moved.saturating_sub(day.before);
        let is_spent = monthly.is_some_and(|monthly| used >= monthly / MONTH_PART / MONTH_DAYS);
        self.is_spent.store(is_spent, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_day_has_its_part_of_a_fifth_of_the_month() {
        let copies = Copies::new();
        let day = |day| format!("2026-11-{day}").parse().unwrap();
        let month = 310_000_000;
        let check = |monthly, today, is_spent| {
            copies.keep(None, monthly, day(today));
            assert_eq!(copies.is_spent(), is_spent, "{monthly:?}, {today}");
        };
        check(Some(month), "29", false);
        copies.moved(1_999_999);
        check(Some(month), "29", false);
        copies.moved(1);
        check(Some(month), "29", true);
        check(None, "29", false);
        check(Some(2 * month), "29", false);
        check(Some(month), "30", false);
        copies.moved(2_000_000);
        check(Some(month), "30", true);
    }

    #[test]
    fn helping_has_half_of_what_may_be_sent() {
        let copies = Copies::new();
        let today = "2026-11-30".parse().unwrap();
        let check = |up, expected| {
            copies.keep(up, None, today);
            assert_eq!(copies.pace().bytes_per_second(), expected, "{up:?}");
        };
        check(None, None);
        check(Some(1_000_000), Some(500_000));
        check(Some(1), Some(1));
        check(None, None);
    }
}
