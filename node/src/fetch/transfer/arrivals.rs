//! Bytes that have come in and are not verified yet, and the providers that deliver.
//!
//! Owns what a transfer says of itself beyond what is verified: chunk bytes count as soon as they
//! come in ([`Progress::arrived`]), and each of them stops to count as unverified once, when its
//! block is verified, turns out bad, or is thrown away. Dropping it takes back what is left.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use shoal_protocol::planner::{ProviderId, WantId};

use super::super::progress::Progress;

/// A provider delivers as long as something came from it in this time: a line at 4 kB/s brings a
/// TLS record of 16 KiB every 4 s.
const DELIVERS_TIME: Duration = Duration::from_secs(6);

/// What has come in, by where it came from and by where it is now.
pub(super) struct Arrivals {
    progress: Arc<Progress>,
    providers: HashMap<ProviderId, Delivery>,
    /// Chunks that came in whole and are being verified.
    landing: HashMap<WantId, u64>,
}

struct Delivery {
    last: Instant,
    /// Of the block that is coming in.
    partial: u64,
}

impl Arrivals {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self {
            progress,
            providers: HashMap::new(),
            landing: HashMap::new(),
        }
    }

    /// More of a block came in. Blocks that are not `content` only show that their provider delivers.
    pub(super) fn grew(&mut self, from: ProviderId, grown: u64, is_content: bool, now: Instant) {
        let delivery = self.delivery(from, now);
        if is_content {
            delivery.partial += grown;
            self.progress.arrived(grown);
        }
    }

    /// A block of `bytes` came in whole; what was told of its parts before is among them.
    pub(super) fn came(&mut self, from: ProviderId, bytes: u64, is_content: bool, now: Instant) {
        let partial = std::mem::take(&mut self.delivery(from, now).partial);
        if is_content {
            self.progress.arrived(bytes.saturating_sub(partial));
            self.progress.settled(partial.saturating_sub(bytes));
        } else {
            self.progress.settled(partial);
        }
    }

    /// A block that came in is being verified.
    pub(super) fn lands(&mut self, want: WantId, bytes: u64) {
        // A want lands once at a time; were it not so, nothing would be lost count of.
        let before = self.landing.insert(want, bytes);
        self.progress.settled(before.unwrap_or(0));
    }

    /// A block that came in is of no use.
    pub(super) fn thrown_away(&self, bytes: u64) {
        self.progress.settled(bytes);
    }

    /// It is known whether a block was what it claimed.
    pub(super) fn judged(&mut self, want: WantId) {
        let landed = self.landing.remove(&want);
        self.progress.settled(landed.unwrap_or(0));
    }

    /// Nothing more comes from a provider; what came in part is lost.
    pub(super) fn ended(&mut self, from: ProviderId) {
        let delivery = self.providers.remove(&from);
        self.progress
            .settled(delivery.map_or(0, |delivery| delivery.partial));
    }

    /// How many providers have delivered something lately.
    pub(super) fn delivering(&self, now: Instant) -> usize {
        let delivers =
            |delivery: &&Delivery| now.saturating_duration_since(delivery.last) < DELIVERS_TIME;
        self.providers.values().filter(delivers).count()
    }

    fn delivery(&mut self, from: ProviderId, now: Instant) -> &mut Delivery {
        let new = Delivery {
            last: now,
            partial: 0,
        };
        let delivery = self.providers.entry(from).or_insert(new);
        delivery.last = now;
        delivery
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        let partial = self.providers.values().map(|it| it.partial);
        let left: u64 = partial.chain(self.landing.values().copied()).sum();
        self.progress.settled(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProviderId = ProviderId(1);
    const B: ProviderId = ProviderId(2);

    fn unverified(progress: &Progress) -> u64 {
        progress.snapshot().unverified
    }

    #[test]
    fn bytes_count_as_they_come_and_are_taken_back_when_they_are_of_no_use() {
        let progress = Arc::<Progress>::default();
        let mut arrivals = Arrivals::new(Arc::clone(&progress));
        let now = Instant::now();
        let check = |expected: u64| assert_eq!(unverified(&progress), expected);

        arrivals.grew(A, 10, true, now);
        arrivals.grew(B, 7, true, now);
        arrivals.grew(B, 90, false, now);
        check(17);
        arrivals.grew(A, 20, true, now);
        arrivals.came(A, 100, true, now);
        arrivals.lands(WantId(1), 100);
        check(107);
        arrivals.judged(WantId(1));
        check(7);
        // The block that B was sending is lost with it.
        arrivals.ended(B);
        check(0);
        // Nobody waits for this one any more.
        arrivals.came(A, 50, true, now);
        arrivals.thrown_away(50);
        check(0);
        arrivals.came(A, 60, true, now);
        arrivals.lands(WantId(2), 60);
        arrivals.grew(A, 5, true, now);
        check(65);
        drop(arrivals);
        check(0);
    }

    #[test]
    fn who_has_brought_nothing_lately_does_not_deliver() {
        let mut arrivals = Arrivals::new(Arc::default());
        let start = Instant::now();
        arrivals.grew(A, 1, false, start);
        arrivals.came(B, 1, true, start + DELIVERS_TIME / 2);
        let check = |arrivals: &Arrivals, at: Duration, expected: usize| {
            assert_eq!(arrivals.delivering(start + at), expected, "{at:?}");
        };
        check(&arrivals, DELIVERS_TIME / 2, 2);
        check(&arrivals, DELIVERS_TIME, 1);
        check(&arrivals, DELIVERS_TIME * 2, 0);
        arrivals.grew(A, 1, true, start + DELIVERS_TIME * 2);
        check(&arrivals, DELIVERS_TIME * 2, 1);
        arrivals.ended(A);
        check(&arrivals, DELIVERS_TIME * 2, 0);
    }
}
