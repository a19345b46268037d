//! How long a share lasts: until its commands end, until so many copies are made, until a time.
//!
//! The terms are a part of the share's record, so they are as durable as the share itself and every
//! later process decides from them. This module only judges: the node counts copies, knows which
//! commands run, and takes out what is over.
//!
//! A share that ends at a time keeps that time twice: by the wall clock, and by the clock of the
//! boot in which it was asked for. Within that boot the second one decides, so a wall clock that
//! is set or jumps neither ends a share early nor prolongs it.

use std::fs;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::BootId;

/// Commands that one share lasts for at the same time; the oldest is forgotten for one more.
pub const COMMANDS_MAX: usize = 64;

/// Until when a share is offered. The default is for good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The commands with which it ends; none for a share of the home.
    pub commands: Vec<u64>,
    /// It ends when so many peers have all of it.
    pub until: Option<NonZeroU32>,
    /// It ends at this time.
    pub expires: Option<Expiry>,
}

impl Terms {
    /// Whether it stays for good, unless somebody ends it.
    #[must_use]
    pub fn are_open(&self) -> bool {
        *self == Self::default()
    }

    /// The terms of a share that takes the place of others: it lasts for their commands too, and
    /// what was a share of the home stays one.
    pub(super) fn in_place_of<'a>(mut self, others: impl Iterator<Item = &'a Self>) -> Self {
        if self.commands.is_empty() {
            return self;
        }
        for other in others {
            if other.commands.is_empty() {
                self.commands.clear();
                return self;
            }
            let more = other.commands.iter().copied();
            let mut all: Vec<_> = more.filter(|it| !self.commands.contains(it)).collect();
            all.append(&mut self.commands);
            self.commands = all;
        }
        let surplus = self.commands.len().saturating_sub(COMMANDS_MAX);
        self.commands.drain(..surplus);
        self
    }
}

/// A time at which something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// In milliseconds of Unix time.
    pub at_ms: u64,
    /// The same by the clock of the boot in which it was asked for.
    by_uptime: Option<ByUptime>,
}

/// A time by the clock of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ByUptime {
    boot: BootId,
    /// When it was asked for, in milliseconds since the boot.
    since_ms: u64,
    at_ms: u64,
}

/// What all clocks say at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall_ms: u64,
    boot: BootId,
    /// In milliseconds since the boot; none where the system does not say.
    uptime_ms: Option<u64>,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now(boot: BootId) -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            wall_ms: millis(since),
            boot,
            uptime_ms: uptime_ms(),
        }
    }
}

impl Expiry {
    /// The time that is `time` after `now`.
    #[must_use]
    pub fn after(time: Duration, now: &Moment) -> Self {
        let time = millis(time);
        Self {
            at_ms: now.wall_ms.saturating_add(time),
            by_uptime: now.uptime_ms.map(|since_ms| ByUptime {
                boot: now.boot,
                since_ms,
                at_ms: since_ms.saturating_add(time),
            }),
        }
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_over(&self, now: &Moment) -> bool {
        // An uptime that has gone back is that of a container, and not of the boot.
        let same_boot = |it: &ByUptime, uptime: u64| it.boot == now.boot && uptime >= it.since_ms;
        match (self.by_uptime, now.uptime_ms) {
            (Some(it), Some(uptime)) if same_boot(&it, uptime) => uptime >= it.at_ms,
            _ => now.wall_ms >= self.at_ms,
        }
    }
}

/// The time since the boot, that of sleep included.
fn uptime_ms() -> Option<u64> {
    parse_uptime(&fs::read_to_string("/proc/uptime").ok()?)
}

/// The first number of a proc_uptime(5), which has seconds and hundredths.
fn parse_uptime(text: &str) -> Option<u64> {
    let first = text.split_ascii_whitespace().next()?;
    let (seconds, hundredths) = first.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let hundredths: u64 = hundredths.parse().ok()?;
    seconds.checked_mul(1000)?.checked_add(hundredths * 10)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_share_ends_by_the_clock_that_nobody_sets() {
        let (boot, other) = (BootId::of(1), BootId::of(2));
        let at = |wall_ms, boot, uptime_ms| Moment {
            wall_ms,
            boot,
            uptime_ms,
        };
        let check = |made: Moment, now: Moment, over: bool| {
            let expiry = Expiry::after(Duration::from_secs(10), &made);
            assert_eq!(expiry.is_over(&now), over, "{made:?} {now:?}");
        };
        let made = at(1_000_000, boot, Some(5_000));
        check(made, at(1_009_999, boot, Some(14_999)), false);
        check(made, at(1_010_000, boot, Some(15_000)), true);
        // The wall clock jumps, forth and back.
        check(made, at(9_000_000, boot, Some(6_000)), false);
        check(made, at(0, boot, Some(15_000)), true);
        // Another boot, or no word of it: the wall clock has to do.
        check(made, at(1_009_999, other, Some(99_000)), false);
        check(made, at(1_010_000, other, Some(10)), true);
        check(made, at(1_010_000, boot, None), true);
        check(made, at(1_010_000, boot, Some(10)), true);
        check(
            at(1_000_000, boot, None),
            at(1_010_000, boot, Some(1)),
            true,
        );
        // The end of time is no overflow.
        let far = Expiry::after(Duration::MAX, &made);
        assert!(!far.is_over(&at(u64::MAX - 1, boot, Some(u64::MAX - 1))));
    }

    #[test]
    fn a_share_lasts_for_all_who_asked_for_it() {
        let of = |commands: &[u64]| Terms {
            commands: commands.to_vec(),
            ..Terms::default()
        };
        let check = |new: &[u64], before: &[&[u64]], expected: &[u64]| {
            let before: Vec<_> = before.iter().map(|it| of(it)).collect();
            let joined = of(new).in_place_of(before.iter());
            assert_eq!(joined.commands, expected, "{new:?} {before:?}");
        };
        check(&[1], &[], &[1]);
        check(&[2], &[&[1]], &[1, 2]);
        check(&[1], &[&[1]], &[1]);
        check(&[1], &[&[]], &[]);
        check(&[3], &[&[1], &[2]], &[2, 1, 3]);
        check(&[], &[&[1]], &[]);
        let many: Vec<u64> = (0..COMMANDS_MAX as u64).collect();
        let joined = of(&[99]).in_place_of([of(&many)].iter());
        assert_eq!(joined.commands.len(), COMMANDS_MAX);
        assert_eq!(joined.commands.last(), Some(&99));
    }

    #[test]
    fn an_uptime_is_read_to_the_hundredth() {
        assert_eq!(parse_uptime("350735.47 234388.90\n"), Some(350_735_470));
        assert_eq!(parse_uptime(""), None);
        assert_eq!(parse_uptime("x.y"), None);
    }
}
