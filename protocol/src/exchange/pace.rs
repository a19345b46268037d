//! How slow a line may be, and the deadlines that follow from it.
//!
//! Both sides of the exchange judge a peer by one rate. A server that gave up on a client sooner
//! than the client on the server, or the other way round, would end streams that make progress.

use std::time::Duration;

/// The slowest line that both sides put up with, in payload bytes per second: 2 KiB/s. A line of
/// 32 kbit/s carries 3.8 kB/s after the headers of TCP, TLS and the multiplexer; half of that
/// leaves room for pauses and for losses that are sent again.
pub const RATE_MIN: u64 = 2 << 10;

/// Bytes that may lie between the two ends in front of the next byte: in the buffers of the
/// sending system (256 KiB) and in the queue of the slowest hop (512 KiB are common), and a quarter
/// more. They explain a silence: after a loss nothing comes out of a stream until the missing packet
/// has been sent again behind the whole queue.
pub const QUEUE_BYTES: u64 = 1 << 20;

/// The longest silence that anybody puts up with, 128 s: what 256 KiB take at [`RATE_MIN`], 512 KiB
/// at twice that rate, and [`QUEUE_BYTES`] at 8 kB/s.
pub const SILENCE_MAX: Duration = Duration::from_secs((256 << 10) / RATE_MIN);

/// The shortest deadline: a scheduler, a disk and a wireless line pause for seconds.
pub const SILENCE_MIN: Duration = Duration::from_secs(10);

/// How long `bytes` may take until the other side has them, from the moment they are written.
#[must_use]
pub fn time_for(bytes: u64) -> Duration {
    let millis = bytes
        .saturating_mul(1000)
        .checked_div(RATE_MIN)
        .unwrap_or(u64::MAX);
    SILENCE_MAX.saturating_add(Duration::from_millis(millis))
}

/// How long a peer may be silent that has delivered `rate` bytes per second: what a full queue
/// takes at that rate, from [`SILENCE_MIN`] to [`SILENCE_MAX`]. A peer that was never measured may
/// be silent for the longest time.
#[must_use]
pub fn silence_at(rate: Option<u64>) -> Duration {
    let drains = rate
        .and_then(|rate| QUEUE_BYTES.saturating_mul(1000).checked_div(rate))
        .map_or(SILENCE_MAX, Duration::from_millis);
    drains.clamp(SILENCE_MIN, SILENCE_MAX)
}

/// The payload that proves life within `time`: what the slowest line carries in it.
#[must_use]
pub fn bytes_in(time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    RATE_MIN.saturating_mul(millis) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_follow_from_the_slowest_line() {
        assert_eq!(SILENCE_MAX.as_secs(), 128);
        let check = |rate, secs| assert_eq!(silence_at(rate).as_secs(), secs, "{rate:?}");
        check(None, 128);
        check(Some(0), 128);
        check(Some(RATE_MIN), 128);
        check(Some(12_000), 87);
        check(Some(100_000_000), 10);
        assert_eq!(time_for(0), SILENCE_MAX);
        assert_eq!(time_for(RATE_MIN).as_secs(), 129);
        assert_eq!(bytes_in(SILENCE_MIN), 20 << 10);
        assert_eq!(time_for(u64::MAX), time_for(u64::MAX - 1));
    }
}
