//! Two small counters of many things: a filter that forgets, and a sketch.
//!
//! Both have a size that nothing changes. What they get wrong is on the safe side: a filter that is
//! full takes a new asker for one that it knows, so that fewer pulls follow, and a sketch counts a
//! key too high, so that it is let into the table of keys too soon.

use std::time::Duration;

use super::asker::mix;

/// Bits of one filter: 64 KiB. At 52,000 items, ten bits each, one new item in 80 is taken for known.
const FILTER_BITS: u64 = 1 << 19;
const FILTER_WORDS: usize = 1 << 13;

/// How many bits an item sets; ten bits an item leave 4 close to the best there is.
const FILTER_PROBES: u64 = 4;

/// Counters of one row of the sketch, as many as the table of keys has places, and its rows: 16 KiB.
const SKETCH_COLUMNS: u64 = 1 << 12;
const SKETCH_ROWS: usize = 4;
const SKETCH_BYTES: usize = 1 << 14;

/// Two filters of which one is filled and the other only read. They change places once a period, so
/// an item is known for one to two periods.
#[derive(Clone, Debug)]
pub(super) struct Filters {
    current: Box<[u64]>,
    before: Box<[u64]>,
    began: Duration,
    period: Duration,
}

impl Filters {
    pub(super) fn new(period: Duration) -> Self {
        let empty = || vec![0; FILTER_WORDS].into_boxed_slice();
        Self {
            current: empty(),
            before: empty(),
            began: Duration::ZERO,
            period,
        }
    }

    /// Adds an item; `false` where it was there already.
    pub(super) fn insert(&mut self, item: u64, now: Duration) -> bool {
        self.turn(now);
        if contains(&self.before, item) || contains(&self.current, item) {
            return false;
        }
        for bit in bits(item) {
            if let Some(word) = word(bit).and_then(|at| self.current.get_mut(at)) {
                *word |= 1 << (bit & 63);
            }
        }
        true
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.current).saturating_add(size_of_val(&*self.before))
    }

    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.began);
        if age < self.period {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.before);
        self.current.fill(0);
        if age >= self.period.saturating_mul(2) {
            self.before.fill(0);
        }
        self.began = now;
    }
}

fn contains(filter: &[u64], item: u64) -> bool {
    let is_set = |bit: u64| {
        let word = word(bit).and_then(|at| filter.get(at));
        word.is_some_and(|word| word & (1 << (bit & 63)) != 0)
    };
    bits(item).all(is_set)
}

fn bits(item: u64) -> impl Iterator<Item = u64> {
    let step = mix(item) | 1;
    (0..FILTER_PROBES).map(move |n| item.wrapping_add(n.wrapping_mul(step)) % FILTER_BITS)
}

fn word(bit: u64) -> Option<usize> {
    usize::try_from(bit >> 6).ok()
}

/// How often keys were asked for, never too low: a count-min sketch whose counts are halved once a
/// period.
#[derive(Clone, Debug)]
pub(super) struct Sketch {
    counts: Box<[u8]>,
    halved: Duration,
    period: Duration,
}

impl Sketch {
    pub(super) fn new(period: Duration) -> Self {
        Self {
            counts: vec![0; SKETCH_BYTES].into_boxed_slice(),
            halved: Duration::ZERO,
            period,
        }
    }

    /// Counts one more, and says how many there were, this one included.
    pub(super) fn add(&mut self, item: u64, now: Duration) -> u8 {
        self.age(now);
        let mut least = u8::MAX;
        for at in cells(item) {
            if let Some(count) = self.counts.get_mut(at) {
                *count = count.saturating_add(1);
                least = least.min(*count);
            }
        }
        least
    }

    pub(super) fn bytes(&self) -> usize {
        self.counts.len()
    }

    fn age(&mut self, now: Duration) {
        let periods = now.saturating_sub(self.halved).as_nanos();
        let Some(halvings) = periods
            .checked_div(self.period.as_nanos())
            .filter(|it| *it > 0)
        else {
            return;
        };
        let shift = u32::try_from(halvings).unwrap_or(u32::MAX);
        for count in &mut self.counts {
            *count = count.checked_shr(shift).unwrap_or_default();
        }
        self.halved = now;
    }
}

fn cells(item: u64) -> impl Iterator<Item = usize> {
    (0..SKETCH_ROWS).scan(item, |hash, row| {
        *hash = mix(hash.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let column = usize::try_from(*hash % SKETCH_COLUMNS).unwrap_or_default();
        Some(
            row.wrapping_mul(SKETCH_BYTES / SKETCH_ROWS)
                .wrapping_add(column),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_filter_knows_what_it_was_given_for_one_to_two_periods() {
        let mut filters = Filters::new(DAY);
        assert!(filters.insert(7, Duration::ZERO));
        assert!(!filters.insert(7, DAY / 2));
        assert!(!filters.insert(7, DAY), "in the filter before");
        assert!(filters.insert(7, 2 * DAY), "it counts again");
        assert!(
            filters.insert(7, 40 * DAY),
            "after a long silence both are empty"
        );
    }

    #[test]
    fn a_filter_is_wrong_as_seldom_as_it_says_and_only_to_the_safe_side() {
        let mut filters = Filters::new(DAY);
        let item = |n: u64| mix(n.wrapping_add(1 << 40));
        let new = (0..52_000)
            .filter(|n| filters.insert(item(*n), Duration::ZERO))
            .count();
        assert!((51_600..=52_000).contains(&new), "{new}");
        assert!((0..52_000).all(|n| !filters.insert(item(n), Duration::ZERO)));
        let wrong = (60_000..70_000)
            .filter(|n| contains(&filters.current, item(*n)))
            .count();
        assert!(
            wrong < 10_000 / 50,
            "{wrong} of 10,000 new ones are taken for known"
        );
    }

    #[test]
    fn a_sketch_never_counts_too_low_and_forgets() {
        let mut sketch = Sketch::new(DAY);
        for n in 0..4096 {
            sketch.add(mix(n), Duration::ZERO);
        }
        for count in 1..=200 {
            assert!(sketch.add(7, Duration::ZERO) >= count);
        }
        let later = sketch.add(7, DAY);
        assert!((101..=103).contains(&later), "{later}");
        assert!(sketch.add(7, 40 * DAY) <= 2);
    }
}
