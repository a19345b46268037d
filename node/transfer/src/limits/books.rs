//! What is in force and what is used, as numbers: who set which limit, what of the month is gone.
//!
//! Pure: the time and the sockets' counters come in as arguments.

use jiff::{Timestamp, Zoned, civil::Date};
use shoal_ground::units::{Rate, Size};

use super::{
    LimitsConfig, calendar,
    kept::{Live, Month},
};

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration: its file or the environment.
    Configuration,
    /// An entry of the schedule.
    Schedule,
    /// A flag of this start.
    Flag,
    /// Set while a node ran.
    Live,
}

/// A limit in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce<T> {
    /// The limit.
    pub limit: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// How the budgets stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// On what the node sends.
    pub up: InForce<Rate>,
    /// On what it receives.
    pub down: InForce<Rate>,
    /// On what it sends and receives in a month.
    pub monthly: InForce<Size>,
    /// Bytes that this month has sent and received.
    pub used: (u64, u64),
    /// When this month began.
    pub since: Timestamp,
    /// When the next one begins.
    pub resets: Timestamp,
    /// Whether this month's budget is used up.
    pub spent: bool,
}

/// The books of a node's budgets.
pub(super) struct Books {
    pub(super) config: LimitsConfig,
    pub(super) live: Live,
    pub(super) month: Month,
    /// What of the sockets' bytes is in `month`, up and down.
    counted: (u64, u64),
}

impl Books {
    /// Goes on with the month that was kept, unless another has begun.
    pub(super) fn new(config: LimitsConfig, live: Live, month: Option<Month>, now: &Zoned) -> Self {
        let begin = calendar::month_of(now.date(), config.reset_day);
        Self {
            month: month.unwrap_or_else(|| Month::new(begin)),
            config,
            live,
            counted: (0, 0),
        }
    }

    /// Counts what has moved on the sockets since their start, up and down, until `now`.
    pub(super) fn count(&mut self, moved: (u64, u64), now: &Zoned) {
        let begin = calendar::month_of(now.date(), self.config.reset_day);
        // A clock that is set back begins no month anew.
        if begin > self.month.since {
            self.month = Month::new(begin);
        }
        let month = &mut self.month;
        month.up = month
            .up
            .saturating_add(moved.0.saturating_sub(self.counted.0));
        month.down = month
            .down
            .saturating_add(moved.1.saturating_sub(self.counted.1));
        self.counted = moved;
    }

    /// What of the month's budget is left; none without one.
    pub(super) fn left(&self) -> Option<u64> {
        let cap = self.monthly().limit.bytes()?;
        Some(cap.saturating_sub(self.month.used()))
    }

    /// How it all stands at `now`.
    pub(super) fn standing(&self, now: &Zoned) -> Standing {
        let config = &self.config;
        let scheduled = calendar::scheduled(&config.schedule, now.datetime());
        let begins = |date: Date| {
            let begin = date.to_zoned(now.time_zone().clone());
            begin.map_or(Timestamp::MAX, |begin| begin.timestamp())
        };
        let next = calendar::month_after(self.month.since.max(now.date()), config.reset_day);
        Standing {
            up: in_force(self.live.up, config.flags.up, scheduled.0, config.up),
            down: in_force(self.live.down, config.flags.down, scheduled.1, config.down),
            monthly: self.monthly(),
            used: (self.month.up, self.month.down),
            since: begins(self.month.since),
            resets: begins(next),
            spent: self.left() == Some(0),
        }
    }

    fn monthly(&self) -> InForce<Size> {
        in_force(self.live.monthly, None, None, self.config.monthly)
    }
}

/// The newest word of all who may set a limit.
fn in_force<T: Copy + Default + PartialEq>(
    live: Option<T>,
    flag: Option<T>,
    scheduled: Option<T>,
    configured: T,
) -> InForce<T> {
    let said = [
        (live, Origin::Live),
        (flag, Origin::Flag),
        (scheduled, Origin::Schedule),
        (Some(configured), Origin::Configuration),
    ];
    let said = said
        .into_iter()
        .find_map(|(limit, origin)| limit.map(|limit| InForce { limit, origin }));
    match said {
        Some(it) if it.origin != Origin::Configuration || it.limit != T::default() => it,
        _ => InForce {
            limit: T::default(),
            origin: Origin::Default,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::limits::Flags;

    fn at(text: &str) -> Zoned {
        format!("{text}[UTC]").parse().unwrap()
    }

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn config(text: &str) -> LimitsConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_newest_word_counts() {
        let text = r#"
            up = "1MB/s"
            schedule = [{ from = "08:00", to = "18:00", up = "2MB/s", down = "3MB/s" }]
        "#;
        let check = |live, flag, now, up: &str, origin| {
            let mut config = config(text);
            config.flags = Flags {
                up: flag,
                down: None,
            };
            let live = Live {
                up: live,
                ..Live::default()
            };
            let standing = Books::new(config, live, None, &at(now)).standing(&at(now));
            let limit = rate(up);
            assert_eq!(standing.up, InForce { limit, origin });
            standing
        };
        let (night, day) = ("2026-11-21T07:00", "2026-11-21T09:00");
        let some = |text| Some(rate(text));
        let standing = check(None, None, night, "1MB/s", Origin::Configuration);
        assert_eq!(standing.down.origin, Origin::Default);
        let standing = check(None, None, day, "2MB/s", Origin::Schedule);
        assert_eq!(standing.down.limit, rate("3MB/s"));
        check(None, some("off"), day, "off", Origin::Flag);
        check(some("5MB/s"), some("4MB/s"), day, "5MB/s", Origin::Live);
        check(some("off"), None, night, "off", Origin::Live);
    }

    #[test]
    fn a_month_counts_both_ways_and_begins_anew() {
        let config = config("monthly = \"1000B\"\nreset_day = 15");
        let november = at("2026-11-20T12:00");
        let month = Month {
            since: "2026-11-15".parse().unwrap(),
            up: 100,
            down: 200,
        };
        let mut books = Books::new(config, Live::default(), Some(month), &november);
        books.count((50, 0), &november);
        books.count((50, 600), &november);
        assert_eq!(books.left(), Some(50));
        assert!(!books.standing(&november).spent);
        books.count((70, 700), &november);
        let standing = books.standing(&november);
        assert_eq!((standing.used, standing.spent), ((170, 900), true));
        assert_eq!(standing.since.to_string(), "2026-11-15T00:00:00Z");
        assert_eq!(standing.resets.to_string(), "2026-12-15T00:00:00Z");
        // The clock is set back: nothing begins anew, and nothing is lost.
        books.count((70, 700), &at("2026-11-01T00:00"));
        assert_eq!(books.left(), Some(0));
        let next = at("2026-12-15T00:00");
        books.count((75, 705), &next);
        assert_eq!(books.standing(&next).used, (5, 5));
        assert_eq!(books.left(), Some(990));
    }

    #[test]
    fn without_a_budget_nothing_is_ever_spent() {
        let now = at("2026-11-20T12:00");
        let mut books = Books::new(LimitsConfig::default(), Live::default(), None, &now);
        books.count((u64::MAX, u64::MAX), &now);
        assert_eq!(books.left(), None);
        assert!(!books.standing(&now).spent);
    }
}
