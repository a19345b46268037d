//! Bytes that have come in and are not verified yet, and the providers that deliver.
//!
//! Owns what a transfer says of itself beyond what is verified. Chunk bytes count for the rate when
//! they come in ([`Progress::arrived`]). How many are here and unverified ([`Progress::unverified`])
//! is looked at now and then: what there is of blocks that are not whole, wherever it is kept, and
//! the blocks that are being verified. So a block that turns out bad, or is thrown away, is taken
//! back by the next look. Dropping it takes back everything.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use shoal_ground::meter::SILENCE;
use shoal_protocol::planner::{ProviderId, WantId};

use super::{
    super::progress::{MEASURE_INTERVAL, Progress},
    TICK_MAX,
};

/// A provider delivers as long as something came from it in this time: a line at 4 kB/s brings a
/// TLS record of 16 KiB every 4 s.
const DELIVERS_TIME: Duration = Duration::from_secs(5);
// So nobody is said to deliver while the rate has ceased already.
const _: () = assert!(DELIVERS_TIME.as_millis() + TICK_MAX.as_millis() < SILENCE.as_millis());

/// What has come in, by where it came from and by where it is now.
pub(super) struct Arrivals {
    progress: Arc<Progress>,
    /// When something last came from each provider with a session.
    heard: HashMap<ProviderId, Instant>,
    /// Chunks that are coming in, as of the last look.
    coming: HashMap<WantId, u64>,
    coming_bytes: u64,
    /// Chunks that came in whole and are being verified.
    landing: HashMap<WantId, u64>,
    landing_bytes: u64,
    looked: Option<Instant>,
}

impl Arrivals {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        Self {
            progress,
            heard: HashMap::new(),
            coming: HashMap::new(),
            coming_bytes: 0,
            landing: HashMap::new(),
            landing_bytes: 0,
            looked: None,
        }
    }

    /// Something came from a provider, of it so many bytes of chunks.
    pub(super) fn came(&mut self, from: ProviderId, content: u64, now: Instant) {
        tracing::trace!(provider = ?from, bytes = content, "arrived");
        self.heard.insert(from, now);
        self.progress.arrived(content);
    }

    /// Whether it is time for a look at the chunks that are coming in.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let since = |looked| now.saturating_duration_since(looked);
        self.looked
            .is_none_or(|looked| since(looked) >= MEASURE_INTERVAL)
    }

    /// How much there is of the chunks that are coming in.
    pub(super) fn look(&mut self, coming: impl Iterator<Item = (WantId, u64)>, now: Instant) {
        self.coming.clear();
        self.coming.extend(coming.filter(|(_, bytes)| *bytes > 0));
        self.coming_bytes = self.coming.values().sum();
        self.looked = Some(now);
        self.tell();
    }

    /// A chunk that came in whole is being verified.
    pub(super) fn lands(&mut self, want: WantId, bytes: u64) {
        let came = self.coming.remove(&want).unwrap_or(0);
        self.coming_bytes = self.coming_bytes.saturating_sub(came);
        let before = self.landing.insert(want, bytes).unwrap_or(0);
        self.landing_bytes = self.landing_bytes.saturating_sub(before) + bytes;
        self.tell();
    }

    /// It is known whether a block was what it claimed.
    pub(super) fn judged(&mut self, want: WantId) {
        let landed = self.landing.remove(&want).unwrap_or(0);
        self.landing_bytes = self.landing_bytes.saturating_sub(landed);
        self.tell();
    }

    /// The session of a provider is over.
    pub(super) fn ended(&mut self, from: ProviderId) {
        self.heard.remove(&from);
    }

    /// How many providers have delivered something lately.
    pub(super) fn delivering(&self, now: Instant) -> usize {
        let heard = self.heard.values();
        heard
            .filter(|heard| now.saturating_duration_since(**heard) < DELIVERS_TIME)
            .count()
    }

    fn tell(&self) {
        self.progress
            .unverified(self.coming_bytes + self.landing_bytes);
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.progress.unverified(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProviderId = ProviderId(1);
    const B: ProviderId = ProviderId(2);

    #[test]
    fn bytes_count_as_they_come_and_are_taken_back_when_they_are_of_no_use() {
        let progress = Arc::<Progress>::default();
        let mut arrivals = Arrivals::new(Arc::clone(&progress));
        let check = |expected: u64| assert_eq!(progress.snapshot().unverified, expected);
        let now = Instant::now();
        let look = |arrivals: &mut Arrivals, coming: &[(u64, u64)]| {
            let coming = coming.iter().map(|(want, bytes)| (WantId(*want), *bytes));
            arrivals.look(coming, now);
        };
        look(&mut arrivals, &[(1, 30), (2, 7), (3, 0)]);
        check(37);
        // It is whole, and counts once.
        arrivals.lands(WantId(1), 100);
        check(107);
        look(&mut arrivals, &[(2, 17)]);
        check(117);
        arrivals.judged(WantId(1));
        check(17);
        // It was wrong, or its provider is gone with it.
        look(&mut arrivals, &[]);
        check(0);
        arrivals.lands(WantId(4), 50);
        arrivals.lands(WantId(4), 60);
        look(&mut arrivals, &[(5, 5)]);
        check(65);
        drop(arrivals);
        check(0);
    }

    #[test]
    fn looks_are_rare() {
        let mut arrivals = Arrivals::new(Arc::default());
        let start = Instant::now();
        assert!(arrivals.is_due(start));
        arrivals.look(std::iter::empty(), start);
        assert!(!arrivals.is_due(start + MEASURE_INTERVAL / 2));
        assert!(arrivals.is_due(start + MEASURE_INTERVAL));
    }

    #[test]
    fn who_has_brought_nothing_lately_does_not_deliver() {
        let mut arrivals = Arrivals::new(Arc::default());
        let start = Instant::now();
        arrivals.came(A, 0, start);
        arrivals.came(B, 1, start + DELIVERS_TIME / 2);
        let check = |arrivals: &Arrivals, at: Duration, expected: usize| {
            assert_eq!(arrivals.delivering(start + at), expected, "{at:?}");
        };
        check(&arrivals, DELIVERS_TIME / 2, 2);
        check(&arrivals, DELIVERS_TIME, 1);
        check(&arrivals, DELIVERS_TIME * 2, 0);
        arrivals.came(A, 1, start + DELIVERS_TIME * 2);
        check(&arrivals, DELIVERS_TIME * 2, 1);
        arrivals.ended(A);
        check(&arrivals, DELIVERS_TIME * 2, 0);
    }
}
