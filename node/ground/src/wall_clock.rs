//! Whether the machine's clock can be right.
//!
//! Nothing that Shoal does needs the time of day. The handshakes of other programs do: a certificate is
//! valid from one date to another, and a machine without a battery believes in 1970 until somebody tells
//! it the time. This module only judges; whoever notices that something failed says so.
//!
//! QUIC has only certificates of libp2p's own making, which are valid from 1975 on: before that it rests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// No machine can run this program earlier: 2026-01-01, in seconds since 1970. A release moves it to
/// its own year.
const EARLIEST_S: u64 = 1_767_225_600;

/// And nobody runs it this long after: 30 years.
const LATEST_S: u64 = EARLIEST_S + 30 * 31_557_600;

/// From when the certificates are valid that libp2p makes for QUIC: 1975-01-01, in seconds since 1970.
const QUIC_FROM_S: u64 = 157_766_400;

/// Whether connections by QUIC can be made: before, this machine refuses the certificates of all peers.
pub fn allows_quic(now: SystemTime) -> bool {
    since_1970(now) >= Duration::from_secs(QUIC_FROM_S)
}

/// A sentence about a clock that is plainly wrong; none about one that may be right.
pub fn wrong(now: SystemTime) -> Option<String> {
    let since = since_1970(now);
    let range = Duration::from_secs(EARLIEST_S)..Duration::from_secs(LATEST_S);
    if range.contains(&since) {
        return None;
    }
    let way = match since < range.start {
        true => "before this program was made",
        false => "long after this program was made",
    };
    let rests = match allows_quic(now) {
        true => "",
        false => "; QUIC rests until it says 1975 or later, and TCP alone is used",
    };
    Some(format!(
        "the clock of this machine says {}, {way}: set it, for peers may refuse each other over it{rests}",
        date(now)
    ))
}

/// None for a clock before 1970.
fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The day, as far as it can be said.
fn date(now: SystemTime) -> String {
    match Timestamp::try_from(now) {
        Ok(now) => now.strftime("%Y-%m-%d").to_string(),
        Err(_) => "a year that nobody writes down".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_a_clock_that_is_plainly_wrong_is_called_so() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let check = |seconds, expected: Option<&str>| {
            let said = wrong(at(seconds));
            let is_as_expected = match (&said, expected) {
                (None, None) => true,
                (Some(said), Some(expected)) => said.contains(expected),
                _ => false,
            };
            assert!(is_as_expected, "{seconds}: {said:?}");
        };
        check(60, Some("1970-01-01, before this program was made"));
        check(978_307_200, Some("2001-01-01"));
        check(EARLIEST_S - 1, Some("2025-12-31"));
        check(EARLIEST_S, None);
        // 2038-01-20, past what 32 bits hold.
        check(2_147_558_400, None);
        check(4_102_444_800, Some("2100-01-01, long after"));
        check(1 << 50, Some("a year that nobody"));
        for (seconds, rests) in [(60, true), (QUIC_FROM_S - 1, true), (QUIC_FROM_S, false)] {
            check(seconds, Some("set it"));
            assert_eq!(allows_quic(at(seconds)), !rests);
            assert_eq!(wrong(at(seconds)).unwrap().contains("QUIC rests"), rests);
        }
        let before = UNIX_EPOCH - Duration::from_secs(86_400);
        assert!(wrong(before).is_some_and(|it| it.contains("1969-12-31")));
    }
}
