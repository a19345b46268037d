//! Choices that a seed repeats, on every machine and in every version of this program.

use std::ops::RangeInclusive;

/// An endless row of choices: the same for the same seed and name.
///
/// Each event draws from a row of its own, so that a change to one leaves the others as they were.
#[derive(Debug)]
pub(crate) struct Dice(blake3::OutputReader);

impl Dice {
    /// The choices of `name`; those of other names have nothing to do with them.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_be_bytes()).update(name.as_bytes());
        Self(hasher.finalize_xof())
    }

    /// A number below `end`; zero when that is zero. The bias of the remainder is below 2^-16 for
    /// sizes of up to 2^48, and far less for nodes.
    fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_be_bytes(bytes).checked_rem(end).unwrap_or(0)
    }

    /// A number of the range, each as likely.
    pub(crate) fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let span = (range.end() - range.start()).saturating_add(1);
        range.start() + self.below(span)
    }

    /// An index into what has `len` elements; zero when it has none.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    /// A number from 0 to just below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a float holds")]
    pub(crate) fn unit(&mut self) -> f64 {
        self.below(1 << 53) as f64 / (1_u64 << 53) as f64
    }

    /// Brings these into another order, each as likely.
    pub(crate) fn shuffle(&mut self, all: &mut [usize]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.index(last + 1));
        }
    }

    /// So many of `from`, or all when there are fewer, in their order.
    pub(crate) fn choose(&mut self, from: &[usize], count: usize) -> Vec<usize> {
        let mut left = from.to_vec();
        let count = count.min(left.len());
        let mut chosen: Vec<_> = (0..count)
            .map(|_| {
                let index = self.index(left.len());
                left.swap_remove(index)
            })
            .collect();
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_choices_and_no_others() {
        let all: Vec<usize> = (0..100).collect();
        let choose = |seed, name| Dice::new(seed, name).choose(&all, 10);
        assert_eq!(choose(1, "a"), choose(1, "a"));
        assert_ne!(choose(1, "a"), choose(2, "a"));
        assert_ne!(choose(1, "a"), choose(1, "b"));
        // Frozen: what a seed chose in one version it chooses in the next.
        assert_eq!(Dice::new(1, "frozen").choose(&all, 5), FROZEN);
        let mut dice = Dice::new(1, "unit");
        let units: Vec<f64> = (0..1000).map(|_| dice.unit()).collect();
        assert!(units.iter().all(|it| (0.0..1.0).contains(it)));
        assert_eq!(dice.choose(&all, 200), all);
        let mut shuffled = all.clone();
        dice.shuffle(&mut shuffled);
        assert_ne!(shuffled, all);
        shuffled.sort_unstable();
        assert_eq!(shuffled, all);
        assert_eq!((dice.index(0), dice.choose(&[], 3)), (0, Vec::new()));
    }

    const FROZEN: [usize; 5] = [44, 66, 68, 90, 97];
}
