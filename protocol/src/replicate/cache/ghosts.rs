//! The runs that left the small queue a short time ago: their fingerprints, in order.

use std::collections::BTreeMap;

use super::super::asker::mix;
use super::RunId;

/// Ghosts for each run that is held. A ghost is a fingerprint and its place, about 50 bytes.
const GHOSTS_PER_RUN: usize = 4;

/// The most ghosts, whatever is held: 6 MiB.
const GHOSTS_MAX: usize = 1 << 17;

#[derive(Clone, Debug, Default)]
pub(super) struct Ghosts {
    by_order: BTreeMap<u64, u64>,
    orders: BTreeMap<u64, u64>,
    next: u64,
}

impl Ghosts {
    /// Adds a run, and forgets the oldest beyond four for each run that is held.
    pub(super) fn insert(&mut self, id: RunId, held: usize) {
        let print = fingerprint(id);
        if let Some(before) = self.orders.insert(print, self.next) {
            self.by_order.remove(&before);
        }
        self.by_order.insert(self.next, print);
        self.next = self.next.saturating_add(1);
        let most = held.saturating_mul(GHOSTS_PER_RUN).clamp(1, GHOSTS_MAX);
        while self.by_order.len() > most {
            if let Some((_, print)) = self.by_order.pop_first() {
                self.orders.remove(&print);
            }
        }
    }

    /// Takes a run out; `true` if it was there.
    pub(super) fn remove(&mut self, id: RunId) -> bool {
        let order = self.orders.remove(&fingerprint(id));
        if let Some(order) = order {
            self.by_order.remove(&order);
        }
        order.is_some()
    }
}

fn fingerprint(id: RunId) -> u64 {
    let key = id
        .key
        .0
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first));
    mix(key ^ mix(id.run))
}
