//! Which leaves of a root a partial holder has.
//!
//! A [`LeafRanges`] is always sorted, without empty, touching or overlapping ranges, and at most
//! [`RANGES_MAX`] long: it can't be made otherwise, not by decoding either.
//!
//! On the wire it is a list of pairs `(gap, length)`, gaps counted from the end of the range
//! before: order then needs no check, and the numbers stay small. The 2 x 4096 numbers add up to at
//! most 2^42; since a varint of x takes at most 1 + log2(x)/7 bytes, which is concave, they take at
//! most 8192 x (1 + 29/7) bytes = 41 KiB, which fits a frame whatever the ranges are.

use std::ops::Range;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use super::List;

/// The most ranges one availability carries; a holder with more gaps leaves some of its leaves
/// unsaid, which costs only requests that it could have served.
pub const RANGES_MAX: usize = 4096;

/// One past the highest leaf number: 2^42 leaves of 1 MiB are 4 EiB.
pub const LEAF_END_MAX: u64 = 1 << 42;

/// A set of leaves as sorted, non-adjacent, half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafRanges(Vec<Range<u64>>);

/// Why some ranges are not a [`LeafRanges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// More than [`RANGES_MAX`] ranges.
    #[error("more than {RANGES_MAX} leaf ranges")]
    TooMany,
    /// A range without a leaf.
    #[error("an empty leaf range")]
    Empty,
    /// A range that starts before the one before it has ended, or right there.
    #[error("leaf ranges out of order, overlapping or touching")]
    Order,
    /// A range that ends beyond [`LEAF_END_MAX`].
    #[error("a leaf range beyond leaf {LEAF_END_MAX}")]
    Beyond,
}

impl LeafRanges {
    /// Takes ranges that are in order and apart.
    ///
    /// # Errors
    /// Any [`RangesError`], at the first range that is not as it has to be.
    pub fn new(ranges: Vec<Range<u64>>) -> Result<Self, RangesError> {
        if ranges.len() > RANGES_MAX {
            return Err(RangesError::TooMany);
        }
        let mut end_before = None;
        for range in &ranges {
            if range.is_empty() {
                return Err(RangesError::Empty);
            }
            if end_before.is_some_and(|end| range.start <= end) {
                return Err(RangesError::Order);
            }
            if range.end > LEAF_END_MAX {
                return Err(RangesError::Beyond);
            }
            end_before = Some(range.end);
        }
        Ok(Self(ranges))
    }

    /// Joins leaves given in ascending order (repeats allowed) into ranges.
    ///
    /// It stops where a range would be one too many, or a leaf is out of order or too high: what it
    /// then holds is a smaller set, never a wrong one.
    pub fn from_sorted(leaves: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for leaf in leaves {
            let end = leaf.saturating_add(1);
            if end > LEAF_END_MAX {
                break;
            }
            let full = ranges.len() == RANGES_MAX;
            match ranges.last_mut() {
                Some(last) if last.contains(&leaf) => {}
                Some(last) if last.end == leaf => last.end = end,
                Some(last) if last.end > leaf => break,
                _ if full => break,
                _ => ranges.push(leaf..end),
            }
        }
        Self(ranges)
    }

    /// Every leaf that there can be, however many a root has.
    #[must_use]
    pub fn all() -> Self {
        Self(std::iter::once(0..LEAF_END_MAX).collect())
    }

    /// Whether every leaf of every root is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        matches!(self.0.as_slice(), [only] if *only == (0..LEAF_END_MAX))
    }

    /// Whether the leaf is in the set.
    pub fn contains(&self, leaf: u64) -> bool {
        let after = self.0.partition_point(|range| range.start <= leaf);
        after
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .is_some_and(|range| range.contains(&leaf))
    }

    /// How many leaves are in the set.
    pub fn leaves(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, range| sum.saturating_add(length(range)))
    }

    /// Whether no leaf is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

impl Serialize for LeafRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut end_before = 0;
        serializer.collect_seq(self.0.iter().map(|range| {
            let gap = range.start.saturating_sub(end_before);
            end_before = range.end;
            (gap, length(range))
        }))
    }
}

impl<'de> Deserialize<'de> for LeafRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = List::<(u64, u64), RANGES_MAX>::deserialize(deserializer)?;
        let mut ranges = Vec::with_capacity(pairs.len());
        let mut end_before = 0_u64;
        for &(gap, length) in pairs.iter() {
            let start = end_before.checked_add(gap);
            let end = start.and_then(|start| start.checked_add(length));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(de::Error::custom(RangesError::Beyond));
            };
            ranges.push(start..end);
            end_before = end;
        }
        Self::new(ranges).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_ordered_ranges_apart_are_taken() {
        fn check(ranges: &[Range<u64>], expected: Result<(), RangesError>) {
            assert_eq!(
                LeafRanges::new(ranges.to_vec()).map(|_| ()),
                expected,
                "{ranges:?}"
            );
        }
        check(&[], Ok(()));
        check(&[0..1, 2..3], Ok(()));
        check(std::slice::from_ref(&(0..LEAF_END_MAX)), Ok(()));
        check(&[0..1, 2..LEAF_END_MAX + 1], Err(RangesError::Beyond));
        check(std::slice::from_ref(&(3..3)), Err(RangesError::Empty));
        check(
            std::slice::from_ref(&Range { start: 4, end: 3 }),
            Err(RangesError::Empty),
        );
        check(&[0..2, 2..3], Err(RangesError::Order));
        check(&[0..2, 1..3], Err(RangesError::Order));
        check(&[4..5, 0..1], Err(RangesError::Order));
        let most: Vec<_> = (0..RANGES_MAX as u64).map(|n| 2 * n..2 * n + 1).collect();
        check(&most, Ok(()));
        let more: Vec<_> = (0..=RANGES_MAX as u64).map(|n| 2 * n..2 * n + 1).collect();
        check(&more, Err(RangesError::TooMany));
    }

    #[test]
    fn all_leaves_are_one_range() {
        let all = LeafRanges::all();
        assert_eq!(LeafRanges::new(all.0.clone()), Ok(all.clone()));
        assert!(all.is_all() && all.contains(0) && all.contains(LEAF_END_MAX - 1));
        let less = LeafRanges::from_sorted(0..RANGES_MAX as u64);
        assert!(!less.is_all() && !LeafRanges::default().is_all());
    }

    #[test]
    fn the_wire_carries_gaps_and_lengths() {
        fn check(bytes: &[u8], expected: Option<&[Range<u64>]>) {
            let decoded = postcard::from_bytes::<LeafRanges>(bytes).ok();
            assert_eq!(
                decoded.as_ref().map(|ranges| ranges.0.as_slice()),
                expected,
                "{bytes:?}"
            );
            if let Some(ranges) = decoded {
                assert_eq!(postcard::to_allocvec(&ranges).unwrap(), bytes);
            }
        }
        check(&[0], Some(&[]));
        check(&[2, 0, 1, 4, 2], Some(&[0..1, 5..7]));
        check(&[1, 3, 0], None); // an empty range
        check(&[2, 0, 1, 0, 1], None); // touching
        check(&[2, 0, 1], None); // cut short
        // gap and length add up to more than 64 bits
        let huge = [
            1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1,
        ];
        check(&huge, None);
    }

    #[test]
    fn the_longest_encoding_fits_a_frame() {
        let step = LEAF_END_MAX / RANGES_MAX as u64;
        let wide: Vec<_> = (0..RANGES_MAX as u64)
            .map(|n| n * step + step / 2..(n + 1) * step)
            .collect();
        let bytes = postcard::to_allocvec(&LeafRanges::new(wide).unwrap()).unwrap();
        assert!(bytes.len() < 48 * 1024, "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(leaves in proptest::collection::btree_set(0..200_u64, 0..100)) {
            let ranges = LeafRanges::from_sorted(leaves.iter().copied());
            prop_assert_eq!(LeafRanges::new(ranges.0.clone()), Ok(ranges.clone()));
            prop_assert_eq!(ranges.leaves(), leaves.len() as u64);
            for leaf in 0..201 {
                prop_assert_eq!(ranges.contains(leaf), leaves.contains(&leaf));
            }
            let bytes = postcard::to_allocvec(&ranges).unwrap();
            prop_assert_eq!(postcard::from_bytes::<LeafRanges>(&bytes), Ok(ranges));
        }
    }
}
