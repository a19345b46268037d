//! How much of the quota each cause of pulls has: which runs, in the order in which they came.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// Of each run, by its place: its owners, and what each of them bears of it.
    runs: BTreeMap<u64, (Vec<u32>, u64)>,
    /// The same from the other end.
    of: BTreeSet<(u32, u64)>,
    bytes: BTreeMap<u32, u64>,
}

impl Owners {
    /// A run with these owners, each named once or twice, who bear equal parts of it.
    pub(super) fn add(&mut self, order: u64, groups: &[u32], weight: u64) {
        if groups.is_empty() {
            return;
        }
        let share = share(weight, groups);
        for group in groups {
            self.of.insert((*group, order));
            let bytes = self.bytes.entry(*group).or_default();
            *bytes = bytes.saturating_add(share);
        }
        self.runs.insert(order, (groups.to_vec(), share));
    }

    /// Takes a run out.
    pub(super) fn remove(&mut self, order: u64) {
        let Some((groups, share)) = self.runs.remove(&order) else {
            return;
        };
        for group in groups {
            self.of.remove(&(group, order));
            let Some(bytes) = self.bytes.get_mut(&group) else {
                continue;
            };
            *bytes = bytes.saturating_sub(share);
            if *bytes == 0 {
                self.bytes.remove(&group);
            }
        }
    }

    /// A run has another place.
    pub(super) fn moved(&mut self, before: u64, order: u64) {
        let Some(run) = self.runs.remove(&before) else {
            return;
        };
        for group in &run.0 {
            self.of.remove(&(*group, before));
            self.of.insert((*group, order));
        }
        self.runs.insert(order, run);
    }

    /// The oldest run of an owner that would have more than `most` with one more run.
    pub(super) fn beyond(&self, group: u32, groups: &[u32], weight: u64, most: u64) -> Option<u64> {
        let times = groups.iter().filter(|it| **it == group).count();
        let bears = share(weight, groups).saturating_mul(u64::try_from(times).unwrap_or(u64::MAX));
        let has = self.bytes.get(&group).copied().unwrap_or_default();
        if has.saturating_add(bears) <= most {
            return None;
        }
        let first = self.of.range((group, 0)..=(group, u64::MAX)).next();
        first.map(|(_, order)| *order)
    }
}

fn share(weight: u64, groups: &[u32]) -> u64 {
    let parts = u64::try_from(groups.len().max(1)).unwrap_or(u64::MAX);
    weight.div_ceil(parts)
}
