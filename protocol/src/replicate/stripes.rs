//! How many copies a neighbourhood keeps of a root, and which helper keeps which part.
//!
//! The helpers of a neighbourhood have **places** by their distance to the key: the closest has
//! place 0, the next place 1. A copy is cut in **stripes**, one for each of so many places; a stripe
//! is every so-many-th **run** of leaves. So a long film needs no helper with room for all of it, and
//! half copies on four helpers serve better than whole ones on two (simulated: 95% of fetches within
//! 2.2 s instead of 2.8 s).

use std::ops::Range;

use crate::exchange::LeafRanges;

/// In how many parts a root is looked at to see which of it is wanted.
pub const PARTS: u64 = 64;

/// The same, to count with.
const PARTS_MAX: usize = 64;

/// Leaves of a run, which is what a replica store keeps and lets go: 4 MiB of a large file.
pub const RUN_LEAVES: u64 = 4;

/// Content in one stripe: a stripe of this much is pulled in a few minutes of a line's share, and 16
/// of them are a sixth of the usual quota.
const STRIPE_BYTES: u64 = 128 << 20;

/// The least and the most stripes of a copy.
const STRIPES: (u64, u64) = (2, 16);

/// The most copies in a neighbourhood, and on a LAN, where any holder is as near as any other.
const COPIES_MAX: u8 = 4;
const COPIES_ON_LAN_MAX: u8 = 2;

/// Of the near helpers, one in so many may hold copies of the same root.
const HELPERS_PER_COPY: usize = 4;

/// How a root is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many leaves it has.
    pub leaves: u64,
    /// How many bytes they have.
    pub size: u64,
}

impl Shape {
    /// How many runs the root has.
    #[must_use]
    pub fn runs(self) -> u64 {
        self.leaves.div_ceil(RUN_LEAVES)
    }

    /// How many stripes a copy has: one for each 128 MiB, at least 2 and at most 16.
    #[must_use]
    pub fn stripes(self) -> u64 {
        self.size.div_ceil(STRIPE_BYTES).clamp(STRIPES.0, STRIPES.1)
    }

    /// Whether the helper at this place keeps this run. A root of one run goes whole to the first
    /// place of each copy.
    #[must_use]
    pub fn is_kept_at(self, run: u64, place: u64) -> bool {
        let stripe = |n: u64| n.checked_rem(self.stripes());
        run < self.runs() && stripe(run) == stripe(place)
    }

    /// The runs of a place, in order.
    pub fn runs_at(self, place: u64) -> impl Iterator<Item = u64> {
        let first = place.checked_rem(self.stripes()).unwrap_or_default();
        let step = usize::try_from(self.stripes()).unwrap_or(usize::MAX);
        (first..self.runs()).step_by(step)
    }

    /// The leaves of a run.
    #[must_use]
    pub fn leaves_of(self, run: u64) -> Range<u64> {
        let start = run.saturating_mul(RUN_LEAVES).min(self.leaves);
        start..start.saturating_add(RUN_LEAVES).min(self.leaves)
    }

    /// About how many bytes a run has, rounded up: its part of the size by its leaves.
    #[must_use]
    pub fn bytes_of(self, run: u64) -> u64 {
        let leaves = self.leaves_of(run);
        let count = leaves.end.saturating_sub(leaves.start);
        let bytes = u128::from(self.size).saturating_mul(count.into());
        let share = bytes.div_ceil(u128::from(self.leaves).max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Which of [`PARTS`] parts of the root a run is in.
    #[must_use]
    pub fn part_of(self, run: u64) -> u64 {
        let part = u128::from(run).saturating_mul(PARTS.into());
        let part = part.checked_div(self.runs().max(1).into());
        u64::try_from(part.unwrap_or_default()).unwrap_or(u64::MAX)
    }

    /// The parts of the root that these leaves are in, a bit for each.
    #[must_use]
    pub fn parts_of(self, ranges: &LeafRanges) -> u64 {
        let last_run = |leaf: u64| leaf.saturating_sub(1) >> RUN_LEAVES.trailing_zeros();
        ranges.iter().fold(0, |all, range| {
            let first = self.part_of(range.start >> RUN_LEAVES.trailing_zeros());
            let last = self.part_of(last_run(range.end.min(self.leaves)));
            (first..=last)
                .take(PARTS_MAX)
                .fold(all, |all, part| all | bit(part))
        })
    }

    /// The leaves that are worth a copy for those who read a root from its beginning, as somebody has
    /// who read so many: the parts that were read, and the next one.
    #[must_use]
    pub fn begun(self, leaves: u64) -> LeafRanges {
        let runs = self.runs().div_ceil(PARTS).max(1);
        let part = runs.saturating_mul(RUN_LEAVES);
        let parts = leaves.min(self.leaves).div_ceil(part).saturating_add(1);
        let end = parts.saturating_mul(part).min(self.leaves);
        LeafRanges::new(std::iter::once(0..end).collect()).unwrap_or_default()
    }

    /// These runs, in order, as leaf ranges.
    #[must_use]
    pub fn ranges(self, runs: impl IntoIterator<Item = u64>) -> LeafRanges {
        LeafRanges::from_sorted(runs.into_iter().flat_map(|run| self.leaves_of(run)))
    }
}

/// The bit of a part.
pub(super) fn bit(part: u64) -> u64 {
    let part = u32::try_from(part).unwrap_or(u32::MAX);
    1_u64.checked_shl(part).unwrap_or_default()
}

/// Whether a part is among these.
pub(super) fn has_part(parts: u64, part: u64) -> bool {
    parts & bit(part) != 0
}

/// What is known of a neighbourhood when its copies are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Neighbourhood {
    /// How many helpers are near.
    pub helpers: usize,
    /// Whether it is a LAN.
    pub is_lan: bool,
    /// Whether holders say that they serve as many as they can.
    pub is_busy: bool,
}

/// How many copies a neighbourhood keeps: `clamp(1, ceil(sqrt(short / 2)), 4)` by the short count of
/// askers, one more while holders are busy, for at most a quarter of the near helpers, and at most 2
/// on a LAN. It is at least one, however few helpers there are.
#[must_use]
pub fn copies(short: f32, around: Neighbourhood) -> u8 {
    // ceil(sqrt(short / 2)) <= n just where short <= 2 n^2.
    let enough = |n: &u8| short <= 2.0 * f32::from(n.saturating_mul(*n));
    let by_demand = (1..COPIES_MAX).find(enough).unwrap_or(COPIES_MAX);
    let wanted = by_demand.saturating_add(u8::from(around.is_busy));
    let helpers = around.helpers.checked_div(HELPERS_PER_COPY);
    let most = helpers
        .and_then(|it| u8::try_from(it).ok())
        .unwrap_or(u8::MAX);
    let most = match around.is_lan {
        true => most.min(COPIES_ON_LAN_MAX),
        false => most,
    };
    wanted.min(most).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn file(mib: u64) -> Shape {
        Shape {
            leaves: mib,
            size: mib * MIB,
        }
    }

    #[test]
    fn stripes_follow_the_size() {
        for (mib, stripes) in [
            (1, 2),
            (10, 2),
            (256, 2),
            (257, 3),
            (1024, 8),
            (2048, 16),
            (9000, 16),
        ] {
            assert_eq!(file(mib).stripes(), stripes, "{mib} MiB");
        }
    }

    #[test]
    fn a_root_of_one_run_goes_whole_to_the_first_place_of_each_copy() {
        let small = file(4);
        let kept: Vec<_> = (0..5).map(|place| small.runs_at(place).count()).collect();
        assert_eq!(kept, [1, 0, 1, 0, 1]);
        let runs = file(10).runs_at(1).collect::<Vec<_>>();
        assert_eq!(runs, [1], "10 leaves are runs of 4, 4 and 2");
        assert_eq!(
            file(10).ranges([0, 2]).iter().collect::<Vec<_>>(),
            [0..4, 8..10]
        );
    }

    #[test]
    fn who_has_begun_a_root_wants_its_beginning_and_the_next_part() {
        let check = |mib, read, end: u64| {
            let ranges = file(mib).begun(read);
            let expected = LeafRanges::from_sorted(0..end);
            assert_eq!(ranges, expected, "{read} of {mib}");
        };
        // Parts of four runs.
        check(1024, 0, 16);
        check(1024, 1, 32);
        check(1024, 16, 32);
        check(1024, 103, 128);
        check(1024, 1024, 1024);
        check(64, 8, 12);
        check(3, 1, 3);
        assert!(file(0).begun(0).is_empty());
    }

    #[test]
    fn copies_follow_the_demand_within_what_is_there() {
        fn check(short: f32, helpers: usize, is_lan: bool, is_busy: bool, expected: u8) {
            let around = Neighbourhood {
                helpers,
                is_lan,
                is_busy,
            };
            assert_eq!(copies(short, around), expected, "{short} {around:?}");
        }
        for (short, expected) in [
            (0.0, 1),
            (2.0, 1),
            (2.1, 2),
            (8.0, 2),
            (8.1, 3),
            (18.0, 3),
            (19.0, 4),
            (1e9, 4),
        ] {
            check(short, 100, false, false, expected);
            check(short, 100, false, true, expected + 1);
            check(short, 100, true, false, expected.min(2));
        }
        check(100.0, 14, false, false, 3);
        check(100.0, 4, false, false, 1);
        check(100.0, 0, false, true, 1);
        check(f32::NAN, 100, false, false, 4);
    }

    proptest! {
        #[test]
        fn the_stripes_of_a_copy_are_the_root(leaves in 1..5000_u64, leaf_bytes in 1..2 * MIB) {
            let shape = Shape { leaves, size: leaves * leaf_bytes };
            let stripes = shape.stripes();
            let mut runs: Vec<u64> = (0..stripes).flat_map(|place| shape.runs_at(place)).collect();
            prop_assert!((0..shape.runs()).all(|run| shape.is_kept_at(run, run % stripes)));
            runs.sort_unstable();
            prop_assert_eq!(&runs, &(0..shape.runs()).collect::<Vec<_>>());
            let ranges = shape.ranges(runs.iter().copied());
            prop_assert_eq!(ranges, LeafRanges::from_sorted(0..leaves));
            let bytes: u64 = runs.iter().map(|run| shape.bytes_of(*run)).sum();
            prop_assert!(bytes >= shape.size && bytes <= shape.size + shape.runs());
            for place in 0..3 * stripes {
                let again: Vec<u64> = (0..shape.runs()).filter(|run| shape.is_kept_at(*run, place)).collect();
                prop_assert_eq!(shape.runs_at(place).collect::<Vec<_>>(), again);
            }
        }

        #[test]
        fn no_numbers_panic(leaves: u64, size: u64, run: u64, place: u64) {
            let shape = Shape { leaves, size };
            let _ = (shape.bytes_of(run), shape.leaves_of(run), shape.is_kept_at(run, place));
            let _ = shape.runs_at(place).take(3).count();
        }
    }
}
