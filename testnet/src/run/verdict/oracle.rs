//! The least that has to come from other regions, for one who knows the future.
//!
//! All room of a region is one cache. It keeps what is asked for again soonest, and lets go of, or never
//! takes, what is asked for again last: Belady's rule, with bypass. A kept copy costs nothing more than
//! the fetch that it came with. For things of one size this is the optimum; for others it is close to it
//! and never more than what all of them come to.

use std::collections::{BTreeMap, BTreeSet};

/// Something of another region that a node of this one asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// What.
    pub(super) item: usize,
    /// How large it is, in bytes.
    pub(super) bytes: u64,
    /// Whether it is measured; others only fill the cache.
    pub(super) counts: bool,
}

/// How many bytes of what counts come from other regions at least, where a region has so many bytes of
/// room and asks for this, in this order.
pub(super) fn least_crossing(asks: &[Ask], room: u64) -> u64 {
    let mut cache = Cache {
        room,
        ..Cache::default()
    };
    let mut crossing = 0;
    for (ask, next) in asks.iter().zip(next_asks(asks)) {
        let was_kept = cache.take(ask.item);
        if !was_kept && ask.counts {
            crossing += ask.bytes;
        }
        if let Some(next) = next {
            cache.keep(ask.item, ask.bytes, next);
        }
    }
    crossing
}

/// For each ask, the place of the next one for the same.
fn next_asks(asks: &[Ask]) -> Vec<Option<usize>> {
    let mut last = BTreeMap::new();
    let places = asks.iter().enumerate().rev();
    let mut next: Vec<_> = places
        .map(|(place, ask)| last.insert(ask.item, place))
        .collect();
    next.reverse();
    next
}

#[derive(Debug, Default)]
struct Cache {
    room: u64,
    used: u64,
    /// Of each item, when it is asked for next, and its bytes.
    kept: BTreeMap<usize, (usize, u64)>,
    /// The same by the time of the next ask.
    order: BTreeSet<(usize, usize)>,
}

impl Cache {
    /// Takes an item out, if it is there.
    fn take(&mut self, item: usize) -> bool {
        let Some((next, bytes)) = self.kept.remove(&item) else {
            return false;
        };
        self.order.remove(&(next, item));
        self.used -= bytes;
        true
    }

    /// Keeps an item, unless it is asked for later than all that there is no room beside.
    fn keep(&mut self, item: usize, bytes: u64, next: usize) {
        self.kept.insert(item, (next, bytes));
        self.order.insert((next, item));
        self.used += bytes;
        while self.used > self.room
            && let Some((_, last)) = self.order.last().copied()
        {
            self.take(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn asks(items: &[usize]) -> Vec<Ask> {
        let ask = |item: &usize| Ask {
            item: *item,
            bytes: 1,
            counts: true,
        };
        items.iter().map(ask).collect()
    }

    #[test]
    fn what_is_asked_for_soonest_is_kept() {
        let check = |items: &[usize], room, crossing| {
            assert_eq!(least_crossing(&asks(items), room), crossing, "{items:?}");
        };
        check(&[], 1, 0);
        check(&[1, 1, 1], 0, 3);
        check(&[1, 1, 1], 1, 1);
        // The second is not kept, for the first comes sooner.
        check(&[1, 2, 1, 2], 1, 3);
        check(&[1, 2, 1, 2], 2, 2);
        // Belady's own example, with three frames: without bypass it is 7 of 12.
        check(&[1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5], 3, 7);
    }

    #[test]
    fn what_does_not_count_fills_the_cache() {
        let mut asks = asks(&[1, 2, 1, 2]);
        asks[0].counts = false;
        asks[1].counts = false;
        assert_eq!(least_crossing(&asks, 2), 0);
        assert_eq!(least_crossing(&asks, 1), 1);
        assert_eq!(least_crossing(&asks, 0), 2);
    }

    #[test]
    fn large_things_take_the_room_of_several_small_ones() {
        let mut asks = asks(&[1, 2, 3, 2, 3, 1]);
        asks[0].bytes = 2;
        asks[5].bytes = 2;
        assert_eq!(least_crossing(&asks, 4), 4);
        assert_eq!(least_crossing(&asks, 2), 6, "the two small ones");
        assert_eq!(least_crossing(&asks, 1), 7, "one of them");
    }

    /// The least over everything that a cache of so many things could do.
    fn tried_out(items: &[usize], kept: &BTreeSet<usize>, room: usize) -> u64 {
        let Some((first, rest)) = items.split_first() else {
            return 0;
        };
        let crossing = u64::from(!kept.contains(first));
        let mut with = kept.clone();
        with.insert(*first);
        let mut choices = vec![kept.clone()];
        match with.len() <= room {
            true => choices.push(with),
            false => choices.extend(with.iter().map(|gone| {
                let mut less = with.clone();
                less.remove(gone);
                less
            })),
        }
        let least = choices.iter().map(|kept| tried_out(rest, kept, room)).min();
        crossing + least.unwrap_or(0)
    }

    #[test]
    fn nothing_that_a_cache_could_do_is_better() {
        let mut dice = Dice::new(1, "oracle");
        for round in 0..40 {
            let room = 1 + dice.index(3);
            let items: Vec<usize> = (0..7).map(|_| dice.index(4)).collect();
            let least = least_crossing(&asks(&items), room as u64);
            let tried = tried_out(&items, &BTreeSet::new(), room);
            assert_eq!(least, tried, "round {round}: {items:?} in {room}");
        }
    }
}
