//! Whether content moves on a connection, for those who would take a slow line for a dead one.
//!
//! An answer to a ping waits behind all that is queued on its line. While blocks move, at whatever
//! rate, the connection lives; how long they may pause follows from that rate, as everywhere in the
//! exchange. A connection on which next to nothing moves proves nothing here.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shoal_protocol::exchange::pace;

/// A rate is taken over this time, or over a longer one in which nothing moved.
const SPAN: Duration = Duration::from_secs(1);

/// The bytes of exchange streams on one connection, both ways.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    span_began: Instant,
    span_bytes: u64,
    /// Bytes per second in the last span that had as many as the slowest line carries.
    rate: Option<u64>,
    last: Instant,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Beat {
            span_began: now,
            span_bytes: 0,
            rate: None,
            last: now,
        }))
    }

    /// Some bytes came in, or the system took some.
    pub(super) fn moved(&self, bytes: usize, now: Instant) {
        if bytes == 0 {
            return;
        }
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beat.span_bytes = beat.span_bytes.saturating_add(bytes as u64);
        let span = now.saturating_duration_since(beat.span_began);
        if span >= SPAN {
            // After a pause, what counts is what came in one go.
            let span = span.min(pace::SILENCE_MAX);
            let is_enough = beat.span_bytes >= pace::bytes_in(SPAN);
            let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
            beat.rate = is_enough.then(|| beat.span_bytes.saturating_mul(1000) / millis);
            beat.span_began = now;
            beat.span_bytes = 0;
        }
        beat.last = now;
    }

    /// Whether content moved so lately that a silence is the line's.
    pub(super) fn is_felt(&self, now: Instant) -> bool {
        let beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = now.saturating_duration_since(beat.last);
        beat.rate.is_some() && silence <= pace::silence_at(beat.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_carries_content_may_pause_by_its_rate() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let check = |bytes_per_second: usize, felt_for: u64| {
            let pulse = Pulse::new(start);
            assert!(!pulse.is_felt(at(0)), "nothing has moved");
            for quarter in 1..=20 {
                pulse.moved(bytes_per_second / 4, at(quarter * 250));
            }
            for (millis, felt) in [(felt_for, true), (felt_for + 2_000, false)] {
                let now = at(5_000 + millis);
                let is_felt = pulse.is_felt(now);
                assert_eq!(
                    is_felt,
                    felt && felt_for > 0,
                    "{bytes_per_second} B/s: {millis}"
                );
            }
        };
        check(10_000_000, 10_000);
        check(12_000, 87_000);
        check(2_048, 128_000);
        check(100, 0); // requests, or a drip
        let pulse = Pulse::new(start);
        pulse.moved(0, at(2_000));
        pulse.moved(1_000_000, at(2_000));
        assert!(pulse.is_felt(at(2_000)));
        pulse.moved(200, at(300_000));
        assert!(!pulse.is_felt(at(300_000)), "a request after a long pause");
    }
}
