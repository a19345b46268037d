//! The leaves that a node has of a root that it fetches: a set that only grows.
//!
//! A bit per leaf, so that leaves that come in any order cost no more than their number. It says
//! what it holds as [`LeafRanges`].

use std::ops::Range;

use super::{LEAF_END_MAX, LeafRanges, RANGES_MAX};

/// Leaves that are kept count of: 8 MiB of bits, for 64 TiB in chunks of 1 MiB. What is beyond is
/// not offered while it is fetched.
const LEAVES_MAX: u64 = 1 << 26;

/// A growing set of leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSet {
    words: Vec<u64>,
    leaves: u64,
}

impl LeafSet {
    /// Adds a leaf; `false` where it was in already, or is too high to be kept count of.
    pub fn insert(&mut self, leaf: u64) -> bool {
        if leaf >= LEAVES_MAX {
            return false;
        }
        let Ok(at) = usize::try_from(leaf >> 6) else {
            return false;
        };
        if self.words.len() <= at {
            self.words.resize(at.saturating_add(1), 0);
        }
        let Some(word) = self.words.get_mut(at) else {
            return false;
        };
        let bit = 1 << (leaf & 63);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.leaves = self.leaves.saturating_add(u64::from(is_new));
        is_new
    }

    /// How many leaves are in it.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The leaves as ranges: the first [`RANGES_MAX`], if there are more.
    pub fn ranges(&self) -> LeafRanges {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut at = 0;
        while let Some(start) = self.next(at, true) {
            if ranges.len() == RANGES_MAX {
                break;
            }
            let end = self.next(start, false).unwrap_or(LEAF_END_MAX);
            ranges.push(start..end);
            at = end;
        }
        // They were made in order and apart.
        LeafRanges::new(ranges).unwrap_or_default()
    }

    /// The first leaf from `from` on that is in the set, or that is not.
    fn next(&self, from: u64, present: bool) -> Option<u64> {
        let start = usize::try_from(from >> 6).ok()?;
        let mut mask = u64::MAX << (from & 63);
        for (at, word) in self.words.iter().enumerate().skip(start) {
            let word = if present { *word } else { !*word } & mask;
            if word != 0 {
                let base = u64::try_from(at).ok()?.checked_mul(64)?;
                return base.checked_add(u64::from(word.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        let end = u64::try_from(self.words.len()).ok()?.checked_mul(64)?;
        (!present).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn says_what_was_put_in(leaves in prop::collection::vec(0..300_u64, 0..300)) {
            let mut set = LeafSet::default();
            for leaf in &leaves {
                set.insert(*leaf);
            }
            let mut sorted = leaves;
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(set.leaves(), sorted.len() as u64);
            prop_assert_eq!(set.ranges(), LeafRanges::from_sorted(sorted));
        }
    }

    #[test]
    fn is_bounded_in_leaves_and_in_ranges() {
        let mut set = LeafSet::default();
        assert!(!set.insert(LEAVES_MAX) && !set.insert(u64::MAX));
        assert_eq!(set.leaves(), 0);
        for leaf in 0..2 * RANGES_MAX as u64 {
            assert!(set.insert(2 * leaf));
        }
        assert!(!set.insert(0), "it is in already");
        assert_eq!(set.ranges().leaves(), RANGES_MAX as u64);
        assert!(set.insert(LEAVES_MAX - 1));
        assert_eq!(set.leaves(), 2 * RANGES_MAX as u64 + 1);
    }
}
