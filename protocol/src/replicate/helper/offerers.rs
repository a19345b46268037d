//! Who offers what nobody then asks for: such an offerer is believed less.
//!
//! An accepted offer is open until somebody else asks for the root or reads it here. An offerer with
//! [`OPEN_MAX`] open offers is turned down until one of them is a day old. Groups of askers count, not
//! peers, so that new names of one network change nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::position::Key;

/// Open offers of one group, at most.
const OPEN_MAX: usize = 16;

/// For how long an offer that nobody asked for is held against its offerer.
const HELD_AGAINST: Duration = Duration::from_hours(24);

/// Groups that are remembered: with 16 offers each 200 KiB. Beyond it the one with the fewest open
/// offers is forgotten.
const GROUPS_MAX: usize = 256;

/// The books; see the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Offerers {
    open: BTreeMap<u32, VecDeque<(Key, Duration)>>,
}

impl Offerers {
    /// How long it takes until one more offer of a group may be accepted; nothing where it may now.
    pub(super) fn wait(&mut self, group: u32, now: Duration) -> Duration {
        let Some(open) = self.open.get_mut(&group) else {
            return Duration::ZERO;
        };
        let ends = |at: Duration| at.saturating_add(HELD_AGAINST);
        while open.front().is_some_and(|(_, at)| ends(*at) <= now) {
            open.pop_front();
        }
        match open.front() {
            Some((_, first)) if open.len() >= OPEN_MAX => ends(*first).saturating_sub(now),
            _ => Duration::ZERO,
        }
    }

    /// An offer of a group was accepted, and nobody has asked for the root yet.
    pub(super) fn accepted(&mut self, group: u32, key: Key, now: Duration) {
        if !self.open.contains_key(&group) && self.open.len() >= GROUPS_MAX {
            let least = self.open.iter().min_by_key(|(_, open)| open.len());
            if let Some(least) = least.map(|(group, _)| *group) {
                self.open.remove(&least);
            }
        }
        let open = self.open.entry(group).or_default();
        open.push_back((key, now));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
    }

    /// Somebody of this group has asked for a root, or has read it.
    pub(super) fn proved(&mut self, key: Key, by: u32) {
        self.open.retain(|group, open| {
            if *group != by {
                open.retain(|(offered, _)| *offered != key);
            }
            !open.is_empty()
        });
    }
}
