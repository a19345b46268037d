//! What the date and the time of day say: which month of the budget it is, which entry of the
//! schedule applies. Pure; the local time comes in as an argument.

use jiff::{
    ToSpan as _,
    civil::{Date, DateTime},
};
use shoal_ground::units::Rate;

use super::config::{Period, ResetDay};

/// The day on which the budget's month that `today` lies in has begun.
pub(super) fn month_of(today: Date, reset: ResetDay) -> Date {
    let begin = begin_in(today, reset);
    if begin <= today {
        begin
    } else {
        begin_in(today.first_of_month().saturating_sub(1.day()), reset)
    }
}

/// The day on which the next month begins.
pub(super) fn month_after(today: Date, reset: ResetDay) -> Date {
    let begin = begin_in(today, reset);
    if begin > today {
        begin
    } else {
        begin_in(today.last_of_month().saturating_add(1.day()), reset)
    }
}

/// The day on which a month begins in the calendar month of `date`.
fn begin_in(date: Date, reset: ResetDay) -> Date {
    let last = date.last_of_month();
    if reset.day() >= last.day() {
        return last;
    }
    let days = i64::from(reset.day()) - 1;
    date.first_of_month().saturating_add(days.days())
}

/// The rates that the schedule sets at `now`, up and down; none where it is silent.
pub(super) fn scheduled(schedule: &[Period], now: DateTime) -> (Option<Rate>, Option<Rate>) {
    let mut applying = schedule.iter().filter(|period| applies(period, now));
    let up = applying.clone().find_map(|period| period.up);
    (up, applying.find_map(|period| period.down))
}

fn applies(period: &Period, now: DateTime) -> bool {
    let (today, time) = (now.weekday(), now.time());
    if period.from < period.to {
        return period.days.contains(today) && period.from <= time && time < period.to;
    }
    let since_today = period.days.contains(today) && period.from <= time;
    since_today || (period.days.contains(today.previous()) && time < period.to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check_month(reset: i64, today: &str, begin: &str, next: &str) {
        let (reset, today) = (ResetDay::try_from(reset).unwrap(), today.parse().unwrap());
        assert_eq!(month_of(today, reset).to_string(), begin, "{today}");
        assert_eq!(month_after(today, reset).to_string(), next, "{today}");
    }

    #[test]
    fn months_begin_on_the_reset_day() {
        check_month(1, "2026-11-21", "2026-11-01", "2026-12-01");
        check_month(1, "2026-12-31", "2026-12-01", "2027-01-01");
        check_month(1, "2026-12-01", "2026-12-01", "2027-01-01");
        check_month(15, "2026-01-14", "2025-12-15", "2026-01-15");
        check_month(15, "2026-01-15", "2026-01-15", "2026-02-15");
        // Shorter months begin on their last day.
        check_month(31, "2026-02-27", "2026-01-31", "2026-02-28");
        check_month(31, "2026-02-28", "2026-02-28", "2026-03-31");
        check_month(31, "2026-03-30", "2026-02-28", "2026-03-31");
        check_month(30, "2028-02-29", "2028-02-29", "2028-03-30");
    }

    #[test]
    fn every_day_lies_in_exactly_one_month() {
        for reset in 1..=31 {
            let reset = ResetDay::try_from(reset).unwrap();
            let mut day: Date = "2027-12-01".parse().unwrap();
            let mut begin = month_of(day, reset);
            for _ in 0..500 {
                let next = month_after(day, reset);
                assert!(begin <= day && day < next, "{day}");
                day = day.tomorrow().unwrap();
                let of_next_day = month_of(day, reset);
                let expected = if day == next { next } else { begin };
                assert_eq!(of_next_day, expected, "{day}");
                begin = of_next_day;
            }
        }
    }

    fn schedule(text: &str) -> Vec<Period> {
        let config: super::super::LimitsConfig = toml::from_str(text).unwrap();
        config.schedule
    }

    fn check(schedule: &[Period], now: &str, up: Option<&str>, down: Option<&str>) {
        let rate = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let found = scheduled(schedule, now.parse().unwrap());
        assert_eq!(found, (rate(up), rate(down)), "{now}");
    }

    #[test]
    fn the_first_entry_that_applies_counts() {
        let schedule = schedule(
            r#"schedule = [
                { from = "08:00", to = "18:00", days = ["mon-fri"], up = "5mbit" },
                { from = "22:00", to = "06:00", days = ["fri"], up = "off", down = "off" },
                { from = "00:00", to = "00:00", down = "1MB/s" },
            ]"#,
        );
        // 2026-11-20 is a Friday.
        check(&schedule, "2026-11-20T07:59", None, Some("1MB/s"));
        check(&schedule, "2026-11-20T08:00", Some("5mbit"), Some("1MB/s"));
        check(
            &schedule,
            "2026-11-20T17:59:59",
            Some("5mbit"),
            Some("1MB/s"),
        );
        check(&schedule, "2026-11-20T18:00", None, Some("1MB/s"));
        check(&schedule, "2026-11-20T22:00", Some("off"), Some("off"));
        check(&schedule, "2026-11-21T05:59", Some("off"), Some("off"));
        check(&schedule, "2026-11-21T06:00", None, Some("1MB/s"));
        check(&schedule, "2026-11-21T12:00", None, Some("1MB/s"));
        check(&schedule, "2026-11-21T23:00", None, Some("1MB/s"));
        check(&[], "2026-11-21T23:00", None, None);
    }
}
