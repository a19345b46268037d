//! What was measured of the way to one provider: its rate and its round-trip time.
//!
//! The rate is taken over busy time only, in spans of at least [`SPAN_MIN`], one round trip and the
//! longest lull of late; a faster span counts at once, a slower one by a quarter, so that one pause
//! does not shrink the window. Without the lull a slow line, which brings a TLS record every few
//! seconds and that in two parts, would be taken for as fast as the second part came.
//!
//! The round-trip time is taken from probes only: the first request sent on a pipe that holds next
//! to nothing, until the first bytes of its answer. All others measure the queue that the window
//! itself makes. Where the way gets longer, the window shrinks until probes happen again; so a wrong value heals.

use std::time::Duration;

use super::PlannerConfig;
use super::types::WantId;

/// The least busy time a rate is taken over: enough for a timer's and a scheduler's jitter.
const SPAN_MIN: Duration = Duration::from_millis(50);

/// The most round-trip time that a span waits for: on a slow line a request waits for minutes behind
/// others, and the rate is to be known before.
const SPAN_RTT_MAX: Duration = Duration::from_secs(1);

/// The longest lull that a span waits for: a line at 2 KiB/s, the slowest that a transfer lives with,
/// brings a TLS record of 16 KiB in that time.
const LULL_MAX: Duration = Duration::from_secs(8);

/// A lull is forgotten when so many times its length has passed without another like it.
const LULL_KEPT: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct LinkEstimate {
    /// Payload bytes per second.
    rate: Option<u64>,
    rtt: Option<Duration>,
    /// Since when requests are in flight, if they are; what came before is in `span_busy`.
    busy_since: Option<Duration>,
    span_busy: Duration,
    span_bytes: u64,
    /// When bytes last came in.
    received_at: Option<Duration>,
    /// The longest time of late in which something was in flight and nothing came, and its end.
    lull: (Duration, Duration),
    /// All spans so far.
    busy: Duration,
    bytes: u64,
    /// The last bytes were part of a block that takes long: its line is full, and its rate is what
    /// the line carries.
    is_steady: bool,
    probe: Option<(WantId, Duration)>,
}

impl LinkEstimate {
    pub(super) fn rate(&self) -> Option<u64> {
        self.rate
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Payload bytes per busy second since the start; a burst says little in it.
    pub(super) fn average(&self) -> Option<u64> {
        (self.busy > Duration::ZERO).then(|| per_second(self.bytes, self.busy))
    }

    /// A request goes out; `quiet` says that next to nothing is in flight ahead of it.
    pub(super) fn asked(&mut self, want: WantId, quiet: bool, now: Duration) {
        self.busy_since.get_or_insert(now);
        if quiet && self.probe.is_none() {
            self.probe = Some((want, now));
        }
    }

    /// The first bytes of a block that was asked for are here.
    pub(super) fn answered(&mut self, want: WantId, now: Duration) {
        let Some((_, asked)) = self.probe.take_if(|(probe, _)| *probe == want) else {
            return;
        };
        let sample = now.saturating_sub(asked);
        self.rtt = Some(match self.rtt {
            Some(rtt) => rtt
                .saturating_add(
                    sample
                        .saturating_sub(rtt)
                        .checked_div(8)
                        .unwrap_or_default(),
                )
                .min(sample),
            None => sample,
        });
    }

    /// A request will not be answered, or not with a block.
    pub(super) fn unanswered(&mut self, want: WantId) {
        self.probe.take_if(|(probe, _)| *probe == want);
    }

    /// Payload came in, of any block: the last of it, or a part.
    pub(super) fn received(&mut self, bytes: u64, is_steady: bool, now: Duration) {
        self.is_steady = is_steady;
        self.note_lull(now);
        self.span_bytes = self.span_bytes.saturating_add(bytes);
        let running = self
            .busy_since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let span = self.span_busy.saturating_add(running);
        let round_trip = self.rtt.unwrap_or_default().min(SPAN_RTT_MAX);
        if span < SPAN_MIN.max(round_trip).max(self.lull.0.min(LULL_MAX)) {
            return;
        }
        self.busy = self.busy.saturating_add(span);
        self.bytes = self.bytes.saturating_add(self.span_bytes);
        let sample = per_second(self.span_bytes, span);
        self.rate = Some(match self.rate {
            Some(rate) if sample < rate => rate.saturating_mul(3).saturating_add(sample) / 4,
            _ => sample,
        });
        self.busy_since = self.busy_since.map(|_| now);
        self.span_busy = Duration::ZERO;
        self.span_bytes = 0;
    }

    /// Bytes come in now: how long was it quiet before?
    fn note_lull(&mut self, now: Duration) {
        let since = |at: Duration| now.saturating_sub(at);
        let quiet = match (self.received_at.replace(now), self.busy_since) {
            (Some(received), Some(busy)) if received >= busy => since(received),
            // The first bytes may have waited behind those of others.
            (_, Some(busy)) => since(busy).min(SPAN_RTT_MAX),
            (_, None) => Duration::ZERO,
        };
        let (longest, ended) = self.lull;
        let is_past = since(ended) > longest.saturating_mul(LULL_KEPT);
        // Lines are not quite even: half as long says that it is as it was.
        if quiet.saturating_mul(2) >= longest || is_past {
            self.lull = (quiet, now);
        }
    }

    /// Nothing is in flight any more.
    pub(super) fn idle(&mut self, now: Duration) {
        if let Some(since) = self.busy_since.take() {
            self.span_busy = self.span_busy.saturating_add(now.saturating_sub(since));
        }
    }

    /// How many bytes should be in flight.
    pub(super) fn window(&self, config: &PlannerConfig) -> u64 {
        let in_one_round = self
            .rate
            .map_or(0, |rate| bytes_in(rate, self.round_trip(config)));
        in_one_round
            .saturating_mul(u64::from(config.window_factor))
            .clamp(
                config.window_bytes_min,
                config.window_bytes_max.max(config.window_bytes_min),
            )
    }

    /// How long that many bytes take, asked for now with nothing ahead of them.
    pub(super) fn time_for(&self, bytes: u64, config: &PlannerConfig) -> Duration {
        let rate = self.rate.unwrap_or(config.rate_assumed);
        self.round_trip(config).saturating_add(time_at(rate, bytes))
    }

    /// The same where the measured rate may be far too low, as it is for blocks that come one by
    /// one in no time.
    pub(super) fn time_at_best(&self, bytes: u64, config: &PlannerConfig) -> Duration {
        let rate = match self.rate {
            Some(rate) if self.is_known(config) => rate,
            _ => config.rate_assumed,
        };
        self.round_trip(config).saturating_add(time_at(rate, bytes))
    }

    /// Whether the measured rate is no less than what the line carries.
    pub(super) fn is_known(&self, config: &PlannerConfig) -> bool {
        self.rate
            .is_some_and(|rate| self.is_steady || rate >= config.rate_assumed)
    }

    fn round_trip(&self, config: &PlannerConfig) -> Duration {
        self.rtt
            .unwrap_or_default()
            .min(config.rtt_max)
            .max(config.rtt_min)
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes)
        .saturating_mul(1_000_000)
        .checked_div(time.as_micros())
        .unwrap_or(u128::MAX);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

pub(super) fn time_at(rate: u64, bytes: u64) -> Duration {
    let micros = u128::from(bytes)
        .saturating_mul(1_000_000)
        .checked_div(u128::from(rate))
        .unwrap_or(u128::MAX);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate).saturating_mul(time.as_micros()) / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_window_follows_rate_and_round_trip() {
        fn check(rate: u64, rtt: Duration, expected: u64) {
            let link = LinkEstimate {
                rate: Some(rate),
                rtt: Some(rtt),
                ..Default::default()
            };
            assert_eq!(
                link.window(&PlannerConfig::default()),
                expected,
                "{rate} B/s, {rtt:?}"
            );
        }
        check(1_000, ms(80), 2 * MIB); // never under two chunks
        check(100 * MIB, ms(80), 32 * MIB);
        check(1_000 * MIB, ms(0), 8 * MIB); // the least round trip counts
        check(MIB, ms(60_000), 4 * MIB); // the most round trip counts
        check(10_000 * MIB, ms(500), 64 * MIB);
        check(u64::MAX, Duration::MAX, 64 * MIB);
    }

    #[test]
    fn an_unmeasured_link_has_the_least_window() {
        let config = PlannerConfig::default();
        let link = LinkEstimate::default();
        assert_eq!(link.window(&config), config.window_bytes_min);
        assert_eq!(link.time_for(config.rate_assumed, &config), ms(1_002));
    }

    #[test]
    fn the_rate_counts_busy_time_only() {
        let mut link = LinkEstimate::default();
        link.asked(WantId(1), false, ms(0));
        link.received(1_000, false, ms(40));
        assert_eq!(link.rate(), None, "a span of 40 ms is too short");
        link.idle(ms(40));
        link.asked(WantId(2), false, ms(10_000));
        link.received(1_000, false, ms(10_060));
        assert_eq!(link.rate(), Some(20_000));
    }

    #[test]
    fn a_faster_span_counts_at_once_and_a_slower_by_a_quarter() {
        let mut link = LinkEstimate::default();
        link.asked(WantId(1), false, ms(0));
        for (at, bytes, expected) in [
            (100, 100, 1_000),
            (200, 400, 4_000),
            (300, 0, 3_000),
            (400, 300, 3_000),
        ] {
            link.received(bytes, false, ms(at));
            assert_eq!(link.rate(), Some(expected), "at {at} ms");
        }
    }

    #[test]
    fn a_full_line_is_known_by_its_rate_and_an_idle_one_at_its_best() {
        let config = PlannerConfig::default();
        let mut link = LinkEstimate::default();
        link.asked(WantId(1), true, ms(0));
        // The first bytes come after a minute in a queue; the rate is known a second later.
        link.answered(WantId(1), ms(60_000));
        link.received(1_000, true, ms(60_000));
        link.received(12_000, true, ms(61_000));
        assert_eq!(link.rate(), Some(12_000));
        assert_eq!(link.time_at_best(120_000, &config), ms(11_000));
        // A block that came at once says nothing of how fast a large one would be.
        link.received(100, false, ms(61_010));
        let at_best = link.time_at_best(config.rate_assumed, &config);
        assert_eq!(at_best, ms(2_000));
        assert!(link.average().is_some_and(|rate| rate < 300), "{link:?}");
    }

    #[test]
    fn only_probes_measure_the_round_trip() {
        let mut link = LinkEstimate::default();
        link.asked(WantId(1), true, ms(0));
        link.asked(WantId(2), true, ms(1)); // one probe at a time
        link.answered(WantId(2), ms(500));
        assert_eq!(link.rtt(), None);
        link.answered(WantId(1), ms(80));
        assert_eq!(link.rtt(), Some(ms(80)));
        link.asked(WantId(3), false, ms(600));
        link.answered(WantId(3), ms(601));
        assert_eq!(
            link.rtt(),
            Some(ms(80)),
            "a request behind others measures the queue"
        );
        link.asked(WantId(4), true, ms(700));
        link.unanswered(WantId(4));
        link.asked(WantId(5), true, ms(800));
        link.answered(WantId(5), ms(820));
        assert_eq!(link.rtt(), Some(ms(20)));
    }

    #[test]
    fn a_record_that_comes_in_two_parts_is_no_fast_line() {
        let (config, want) = (PlannerConfig::default(), WantId(1));
        let mut link = LinkEstimate::default();
        link.asked(want, true, Duration::ZERO);
        let rates = (1..=10).map(|record| {
            let at = ms(3_277 * record);
            link.received(10_000, true, at);
            // The rest of the record, and another look at the socket.
            link.received(6_000, true, at + ms(60));
            link.received(384, true, at + ms(120));
            link.rate().unwrap_or_default()
        });
        let rates: Vec<u64> = rates.collect();
        let wrong = rates.iter().find(|rate| !(2_500..=6_000).contains(*rate));
        assert_eq!(wrong, None, "5 kB/s: {rates:?}");
        // A lull is no verdict for good: the line may be faster from now on.
        let begin = ms(3_277 * 10 + 120);
        for step in 1..=200 {
            link.received(MIB / 10, true, begin + ms(50) * step);
        }
        let rate = link.rate().unwrap_or_default();
        assert!(rate > MIB, "{rate}");
        assert!(link.window(&config) >= 2 * MIB);
    }
}
