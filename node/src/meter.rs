//! How fast a counter grows.

use std::time::Instant;

/// The time over which a rate is smoothed: what is shown follows a change within some seconds.
const SMOOTHING_MS: u64 = 1000;

/// The rate of a counter between two looks at it, smoothed over about a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    last: Option<(Instant, u64)>,
    rate: u64,
}

impl Meter {
    /// What the counter grows by per second when it is `total` at `now`. The first look says
    /// nothing; the second one is taken at its word.
    pub(crate) fn rate(&mut self, total: u64, now: Instant) -> u64 {
        if let Some((then, before)) = self.last {
            let millis = now.saturating_duration_since(then).as_millis();
            let millis = u64::try_from(millis).unwrap_or(u64::MAX).max(1);
            let latest = total.saturating_sub(before).saturating_mul(1000) / millis;
            self.rate = match self.rate {
                0 => latest,
                rate => smoothed(rate, latest, millis),
            };
        }
        self.last = Some((now, total));
        self.rate
    }
}

/// The longer the time that `latest` was measured over, the more it weighs.
fn smoothed(rate: u64, latest: u64, millis: u64) -> u64 {
    let old = u128::from(rate) * u128::from(SMOOTHING_MS);
    let new = u128::from(latest) * u128::from(millis);
    let time = u128::from(SMOOTHING_MS) + u128::from(millis);
    u64::try_from((old + new) / time).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What a meter says after looks at a counter that grows by these many bytes per second, each
    /// for `seconds`, looked at every `millis`.
    fn metered(millis: u64, seconds: u64, rates: &[u64]) -> u64 {
        let (mut meter, mut now, mut total) = (Meter::default(), Instant::now(), 1_000_000);
        let mut rate = meter.rate(total, now);
        assert_eq!(rate, 0, "one look says nothing");
        for grows in rates {
            for _ in 0..seconds * 1000 / millis {
                now += Duration::from_millis(millis);
                total += grows * millis / 1000;
                rate = meter.rate(total, now);
            }
        }
        rate
    }

    #[test]
    fn a_rate_is_right_at_once_and_follows_within_seconds_however_often_it_is_looked_at() {
        let check = |millis: u64, seconds: u64, rates: &[u64], expected: std::ops::Range<u64>| {
            let rate = metered(millis, seconds, rates);
            assert!(
                expected.contains(&rate),
                "{millis} {seconds} {rates:?}: {rate}"
            );
        };
        for millis in [100, 500, 1000] {
            check(millis, 1, &[8000], 7990..8001);
            check(millis, 6, &[8000, 16_000], 15_500..16_001);
            check(millis, 6, &[16_000, 8000], 8000..8500);
            check(millis, 12, &[8000, 0], 0..100);
        }
    }
}
