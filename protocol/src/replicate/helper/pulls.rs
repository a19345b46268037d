//! The pulls that run, and how many began within the hour.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::super::asker::Mark;
use super::super::message::Why;
use super::super::position::Key;
use super::{Declined, HelperConfig};

const HOUR: Duration = Duration::from_hours(1);

/// When to come again where as many pulls run as may.
const BUSY: Duration = Duration::from_secs(30);

/// Of the pulls that may begin within an hour, offers cause one in so many at the most: nobody asked
/// for them, so they are not to keep those away that somebody asks for.
const OFFERED_PART: usize = 4;

/// A pull that runs.
#[derive(Debug)]
pub(super) struct Pull {
    /// The runs that have not arrived.
    pub(super) runs: BTreeSet<u64>,
    /// Bytes of the credit that are set aside for them.
    pub(super) reserved: u64,
    pub(super) causes: Vec<Mark>,
    /// An offer caused it, and no ask.
    pub(super) is_offered: bool,
}

impl Pull {
    pub(super) fn groups(&self) -> Vec<u32> {
        self.causes.iter().map(|it| it.group).collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Pulls {
    running: BTreeMap<Key, Pull>,
    /// When the last ones began, as many as there may be in an hour, and which an offer caused.
    began: VecDeque<(Duration, bool)>,
}

impl Pulls {
    pub(super) fn is_pulling(&self, key: Key) -> bool {
        self.running.contains_key(&key)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Pull> {
        self.running.get_mut(&key)
    }

    /// Whether one more may begin.
    pub(super) fn room(
        &mut self,
        config: &HelperConfig,
        is_offered: bool,
        now: Duration,
    ) -> Result<(), Declined> {
        let offered = self.running.values().filter(|it| it.is_offered).count();
        if self.running.len() >= config.pulls_max
            || is_offered && offered >= config.pulls_offered_max
        {
            return Err((Why::Busy, BUSY));
        }
        while self
            .began
            .front()
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= HOUR)
        {
            self.began.pop_front();
        }
        let counted = || {
            self.began
                .iter()
                .filter(|(_, by_offer)| !is_offered || *by_offer)
        };
        let most = match is_offered {
            true => config.roots_hourly.div_ceil(OFFERED_PART),
            false => config.roots_hourly,
        };
        match counted().next() {
            Some((first, _)) if counted().count() >= most => {
                let again = first.saturating_add(HOUR).saturating_sub(now);
                Err((Why::Busy, again))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn begin(&mut self, key: Key, pull: Pull, now: Duration) {
        self.began.push_back((now, pull.is_offered));
        self.running.insert(key, pull);
    }

    pub(super) fn end(&mut self, key: Key) -> Option<Pull> {
        self.running.remove(&key)
    }
}
