//! How near another peer is.
//!
//! Pure. This module owns the rules: the distance to a peer is the least round-trip time of ten
//! minutes, since queues only add to it; a peer of the local network has an address there and
//! answers soon. It refuses to believe what peers say of themselves: it judges by what the node
//! measured and by what its own interfaces say. The caller pings, and looks at its interfaces.
//!
//! Time is a [`Duration`] since a start of the caller's choice, as in the [planner](crate::planner).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The round-trip times of a peer are remembered in spans of this length.
const SPAN: Duration = Duration::from_secs(60);

/// How many spans count: ten minutes. Within them a path that became longer is told from a queue.
const SPANS: usize = 10;

/// How near is near; `Default` holds the only numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearConfig {
    /// The most round-trip time of a near peer: within a city or a small country.
    pub near_rtt: Duration,
    /// The most round-trip time of a peer of the local network, Wi-Fi included.
    pub lan_rtt: Duration,
}

impl Default for NearConfig {
    fn default() -> Self {
        Self {
            near_rtt: Duration::from_millis(25),
            lan_rtt: Duration::from_millis(10),
        }
    }
}

/// How near a peer is, the nearest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nearness {
    /// It is on the same local network.
    Lan,
    /// It answers soon.
    Near,
    /// It answers late, or its distance is not known yet.
    #[default]
    Far,
}

impl Nearness {
    /// Whether it is near, on the local network or not.
    #[must_use]
    pub fn is_near(self) -> bool {
        self != Self::Far
    }
}

/// What the node's own interfaces say of a peer's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whereabouts {
    /// The address lies in the network of an interface that is neither a tunnel nor a bridge of this
    /// machine's containers, or the peer was heard by multicast there.
    OnLink,
    /// A scenario says that it is in the same local network.
    Stated,
    /// Anything else.
    #[default]
    Elsewhere,
}

/// Judges how near the peer at `ip` is that answers in `rtt`.
#[must_use]
pub fn judge(
    ip: IpAddr,
    whereabouts: Whereabouts,
    rtt: Option<Duration>,
    config: &NearConfig,
) -> Nearness {
    let Some(rtt) = rtt else {
        return Nearness::Far;
    };
    let is_local = match whereabouts {
        Whereabouts::OnLink => may_be_local(ip),
        Whereabouts::Stated => true,
        Whereabouts::Elsewhere => false,
    };
    if is_local && rtt <= config.lan_rtt {
        Nearness::Lan
    } else if rtt <= config.near_rtt {
        Nearness::Near
    } else {
        Nearness::Far
    }
}

/// Whether an address can be one of a local network. That of this machine is none, nor are those
/// that carriers and overlays give out (100.64.0.0/10), whose holders may be anywhere.
fn may_be_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !ip.is_loopback() && !is_carrier_grade(ip),
        IpAddr::V6(ip) => !ip.is_loopback(),
    }
}

fn is_carrier_grade(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (64..128).contains(&second)
}

/// The distance to one peer: the least round-trip time of the last ten minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distance {
    /// The least of each span, with the span's number; a span's place is its number modulo
    /// [`SPANS`].
    least: [Option<(u64, Duration)>; SPANS],
}

impl Distance {
    /// Takes a round-trip time that was measured at `now`.
    pub fn measured(&mut self, rtt: Duration, now: Duration) {
        let span = span_of(now);
        let place = span.checked_rem(SPANS as u64).unwrap_or_default();
        let place = usize::try_from(place).unwrap_or_default();
        let Some(least) = self.least.get_mut(place) else {
            return;
        };
        *least = match *least {
            Some((same, before)) if same == span => Some((span, before.min(rtt))),
            _ => Some((span, rtt)),
        };
    }

    /// The least round-trip time of the last ten minutes, if any was measured in them. Between nine
    /// and ten minutes count, since the oldest span is forgotten whole.
    #[must_use]
    pub fn rtt(&self, now: Duration) -> Option<Duration> {
        let now = span_of(now);
        let counts = |span: u64| now.saturating_sub(span) < SPANS as u64;
        let least = self.least.iter().flatten();
        least
            .filter(|(span, _)| counts(*span))
            .map(|(_, rtt)| *rtt)
            .min()
    }

    /// Forgets everything: the node woke up or has another address, so the path may be another one.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

fn span_of(now: Duration) -> u64 {
    now.as_secs()
        .checked_div(SPAN.as_secs())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peer_is_judged_by_its_address_and_its_round_trip() {
        let check = |ip: &str, whereabouts, rtt: Option<u64>, expected| {
            let config = NearConfig::default();
            let judged = judge(ip.parse().unwrap(), whereabouts, rtt.map(ms), &config);
            assert_eq!(judged, expected, "{ip}, {whereabouts:?}, {rtt:?} ms");
        };
        use Whereabouts::{Elsewhere, OnLink, Stated};
        check("192.168.1.7", OnLink, Some(10), Nearness::Lan);
        check("192.168.1.7", OnLink, Some(11), Nearness::Near);
        check("192.168.1.7", OnLink, Some(26), Nearness::Far);
        check("192.168.1.7", OnLink, None, Nearness::Far);
        check("192.168.1.7", Elsewhere, Some(1), Nearness::Near);
        check("8.8.8.8", OnLink, Some(1), Nearness::Lan);
        check("8.8.8.8", Elsewhere, Some(25), Nearness::Near);
        check("2001:db8::7", OnLink, Some(3), Nearness::Lan);
        check("100.64.0.1", OnLink, Some(1), Nearness::Near);
        check("100.127.255.255", OnLink, Some(1), Nearness::Near);
        check("100.128.0.1", OnLink, Some(1), Nearness::Lan);
        check("::ffff:100.64.0.1", OnLink, Some(1), Nearness::Near);
        check("127.0.0.1", OnLink, Some(0), Nearness::Near);
        check("::1", OnLink, Some(0), Nearness::Near);
        check("127.0.0.1", Stated, Some(10), Nearness::Lan);
        check("127.0.0.1", Stated, Some(11), Nearness::Near);
    }

    #[test]
    fn a_queue_does_not_make_a_peer_far_and_a_longer_path_does() {
        let mut distance = Distance::default();
        assert_eq!(distance.rtt(ms(0)), None);
        let minute = |at: u64| ms(60_000 * at);
        distance.measured(ms(8), minute(0));
        for at in 1..10 {
            distance.measured(ms(900), minute(at));
            assert_eq!(distance.rtt(minute(at)), Some(ms(8)), "after {at} min");
        }
        assert_eq!(distance.rtt(minute(10)), Some(ms(900)));
        distance.measured(ms(40), minute(10));
        assert_eq!(distance.rtt(minute(10)), Some(ms(40)));
        assert_eq!(distance.rtt(minute(20)), None, "nothing was measured since");
        distance.measured(ms(7), minute(20));
        distance.forget();
        assert_eq!(distance.rtt(minute(20)), None);
    }

    proptest! {
        #[test]
        fn the_distance_is_the_least_of_nine_to_ten_minutes(
            steps in prop::collection::vec((0..200_u64, 0..500_u64), 1..60),
        ) {
            let (mut distance, mut now) = (Distance::default(), 0);
            let mut measured = Vec::new();
            for (pause, rtt) in steps {
                now += pause;
                distance.measured(ms(rtt), Duration::from_secs(now));
                measured.push((now, rtt));
            }
            let least_since = |since: u64| {
                let recent = measured.iter().filter(|(at, _)| *at >= since);
                recent.map(|(_, rtt)| ms(*rtt)).min()
            };
            let rtt = distance.rtt(Duration::from_secs(now));
            prop_assert!(rtt <= least_since(now.saturating_sub(540)));
            prop_assert!(rtt >= least_since(now.saturating_sub(600)));
        }
    }
}
