//! How much a helper may pull: a credit in bytes, and the part of it that one network may cause.
//!
//! The credit grows by the hour and by what others read from replicas, so a helper whose copies are
//! of use may make more. No group of askers, which is an address prefix or a peer of the LAN, causes
//! more than an eighth of an hour's credit in an hour. Where a pull has several causes, each of them
//! bears its part.

use std::collections::BTreeMap;
use std::time::Duration;

const MIB: u64 = 1 << 20;

const HOUR: Duration = Duration::from_hours(1);

/// The most groups there are books of, 40 bytes each. Beyond it the one that has used least is
/// forgotten, which forgives it that.
const GROUPS_MAX: usize = 1024;

/// The numbers of [`Credit`]; `Default` is their only source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditConfig {
    /// Bytes that come in an hour: at most 1.5 GiB a day, an eighth of what a line of 1 MB/s carries
    /// in four hours.
    pub hourly: u64,
    /// Bytes that are there at the start.
    pub start: u64,
    /// The most bytes that are saved up: a quarter of the usual quota.
    pub most: u64,
    /// Of what distinct near readers read from replicas, one byte in so many is earned.
    pub earned_part: u64,
    /// One group causes at most one part in so many of an hour's credit.
    pub group_part: u64,
}

impl Default for CreditConfig {
    fn default() -> Self {
        Self {
            hourly: 64 * MIB,
            start: 64 * MIB,
            most: 512 * MIB,
            earned_part: 2,
            group_part: 8,
        }
    }
}

/// The books; see the module's head.
#[derive(Clone, Debug)]
pub struct Credit {
    config: CreditConfig,
    total: Account,
    groups: BTreeMap<u32, Account>,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    bytes: u64,
    at: Duration,
}

impl Account {
    /// Adds what has come in since. Time in which less than a byte came in is left for the next call.
    fn grow(&mut self, hourly: u64, most: u64, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos();
        let grown = passed
            .saturating_mul(hourly.into())
            .checked_div(HOUR.as_nanos());
        let grown = u64::try_from(grown.unwrap_or_default()).unwrap_or(u64::MAX);
        if grown == 0 {
            return;
        }
        self.bytes = self.bytes.saturating_add(grown).min(most.max(self.bytes));
        self.at = now;
    }
}

impl Credit {
    /// The books of a node that starts.
    #[must_use]
    pub fn new(config: CreditConfig, now: Duration) -> Self {
        let total = Account {
            bytes: config.start.min(config.most),
            at: now,
        };
        Self {
            config,
            total,
            groups: BTreeMap::new(),
        }
    }

    /// How many bytes a pull with these causes may have.
    pub fn affordable(&mut self, causes: &[u32], now: Duration) -> u64 {
        self.grow(now);
        if causes.is_empty() {
            return self.total.bytes;
        }
        let most = self.group_most();
        let left = |group: &u32| self.groups.get(group).map_or(most, |it| it.bytes);
        let shares = causes.iter().map(|group| {
            // A group that is named twice bears both parts.
            let times = causes.iter().filter(|it| *it == group).count();
            left(group).checked_div(count(times)).unwrap_or_default()
        });
        let parts = count(causes.len());
        let least = shares.min().unwrap_or(u64::MAX);
        least.saturating_mul(parts).min(self.total.bytes)
    }

    /// Takes bytes for a pull with these causes; `false`, and nothing taken, where they are too many.
    pub fn take(&mut self, bytes: u64, causes: &[u32], now: Duration) -> bool {
        if bytes > self.affordable(causes, now) {
            return false;
        }
        self.total.bytes = self.total.bytes.saturating_sub(bytes);
        let share = share(bytes, causes);
        let full = Account {
            bytes: self.group_most(),
            at: now,
        };
        for group in causes {
            if !self.groups.contains_key(group) {
                self.make_room();
            }
            let account = self.groups.entry(*group).or_insert(full);
            account.bytes = account.bytes.saturating_sub(share);
        }
        true
    }

    /// Gives back what was taken for a pull and not pulled.
    pub fn give_back(&mut self, bytes: u64, causes: &[u32]) {
        self.total.bytes = self.total.bytes.saturating_add(bytes).min(self.config.most);
        let (share, most) = (share(bytes, causes), self.group_most());
        for group in causes {
            if let Some(account) = self.groups.get_mut(group) {
                account.bytes = account.bytes.saturating_add(share).min(most);
            }
        }
    }

    /// Adds what is earned by bytes that a distinct near reader read from a replica.
    pub fn earn(&mut self, served: u64, now: Duration) {
        self.grow(now);
        let earned = served
            .checked_div(self.config.earned_part)
            .unwrap_or_default();
        self.total.bytes = self
            .total
            .bytes
            .saturating_add(earned)
            .min(self.config.most);
    }

    /// How many bytes there are.
    pub fn bytes(&mut self, now: Duration) -> u64 {
        self.grow(now);
        self.total.bytes
    }

    fn group_most(&self) -> u64 {
        self.config
            .hourly
            .checked_div(self.config.group_part)
            .unwrap_or_default()
    }

    fn grow(&mut self, now: Duration) {
        let most = self.group_most();
        self.total.grow(self.config.hourly, self.config.most, now);
        self.groups.retain(|_, it| {
            it.grow(most, most, now);
            it.bytes < most
        });
    }

    fn make_room(&mut self) {
        if self.groups.len() < GROUPS_MAX {
            return;
        }
        let least_used = self.groups.iter().max_by_key(|(_, it)| it.bytes);
        if let Some(group) = least_used.map(|(group, _)| *group) {
            self.groups.remove(&group);
        }
    }
}

fn share(bytes: u64, causes: &[u32]) -> u64 {
    bytes.div_ceil(count(causes.len()).max(1))
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credit() -> Credit {
        Credit::new(CreditConfig::default(), Duration::ZERO)
    }

    #[test]
    fn it_grows_by_the_hour_up_to_the_most() {
        let mut credit = credit();
        assert_eq!(credit.bytes(Duration::ZERO), 64 * MIB);
        assert_eq!(credit.bytes(HOUR / 2), 96 * MIB);
        assert_eq!(credit.bytes(100 * HOUR), 512 * MIB);
        assert!(credit.take(500 * MIB, &[], 100 * HOUR));
        assert_eq!(credit.bytes(100 * HOUR), 12 * MIB);
        credit.earn(20 * MIB, 100 * HOUR);
        assert_eq!(credit.bytes(100 * HOUR), 22 * MIB);
        credit.earn(u64::MAX, 100 * HOUR);
        assert_eq!(credit.bytes(100 * HOUR), 512 * MIB);
    }

    #[test]
    fn one_group_causes_an_eighth_of_an_hour() {
        let mut credit = credit();
        let now = Duration::ZERO;
        assert_eq!(credit.affordable(&[1], now), 8 * MIB);
        assert_eq!(
            credit.affordable(&[1, 1], now),
            8 * MIB,
            "the same group twice"
        );
        assert_eq!(credit.affordable(&[1, 2], now), 16 * MIB);
        assert!(!credit.take(8 * MIB + 1, &[1], now));
        assert!(credit.take(8 * MIB, &[1], now));
        assert_eq!(credit.affordable(&[1], now), 0);
        assert_eq!(credit.affordable(&[1, 2], now), 0, "each bears its part");
        assert_eq!(credit.affordable(&[2, 3], now), 16 * MIB);
        assert_eq!(credit.affordable(&[1], HOUR / 2), 4 * MIB);
        credit.give_back(2 * MIB, &[1]);
        assert_eq!(credit.affordable(&[1], HOUR / 2), 6 * MIB);
    }

    #[test]
    fn small_steps_of_time_lose_nothing() {
        let mut credit = credit();
        for ms in 0..3_600_000_u64 {
            if ms % 1000 == 0 {
                credit.bytes(Duration::from_millis(ms));
            }
        }
        let grown = credit.bytes(HOUR);
        assert!((127 * MIB..=128 * MIB).contains(&grown), "{grown}");
    }

    proptest! {
        #[test]
        fn nobody_causes_more_than_credit_and_share(
            steps in proptest::collection::vec((0..6_u32, 0..6_u32, 0..12 * MIB, 0..600_u64), 1..300)
        ) {
            let config = CreditConfig::default();
            let mut credit = Credit::new(config, Duration::ZERO);
            let (mut now, mut taken, mut by_group) = (Duration::ZERO, 0, [0_u64; 6]);
            for (a, b, bytes, wait) in steps {
                now += Duration::from_secs(wait);
                let causes = [a, b];
                if credit.take(bytes, &causes, now) {
                    taken += bytes;
                    for group in causes {
                        by_group[group as usize] += bytes / 2;
                    }
                }
                let hours = now.as_secs_f64() / 3600.0;
                prop_assert!(taken as f64 <= config.start as f64 + hours * config.hourly as f64 + 1.0);
                for caused in by_group {
                    let most = (8 * MIB) as f64 * (1.0 + hours);
                    prop_assert!(caused as f64 <= most + 1.0, "{} of {}", caused, most);
                }
            }
        }
    }

    #[test]
    fn the_books_are_bounded() {
        let most = u64::MAX;
        let config = CreditConfig {
            start: most,
            most,
            ..CreditConfig::default()
        };
        let mut credit = Credit::new(config, HOUR);
        for group in 0..1200 {
            credit.take(1, &[group], HOUR);
            assert!(credit.groups.len() <= GROUPS_MAX);
        }
        assert_eq!(credit.groups.len(), GROUPS_MAX);
    }
}
