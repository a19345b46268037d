//! How much one peer may ask, offer and tell.
//!
//! A message beyond a limit is dropped and counted. A peer that goes beyond limits three times in a
//! minute gets no stream for ten minutes. It owns the books of who said how much, bounded whatever
//! there is; it refuses to know streams: the caller closes them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::position::PeerKey;

/// Asks: a fetch makes at most 8, so a burst of 64 is eight fetches at once.
const ASKS: Rate = Rate {
    burst: 64,
    each: Duration::from_millis(100),
};

/// Offers: an asker makes one for each root that is wanted; a saturated provider 4 at a time.
const OFFERS: Rate = Rate {
    burst: 8,
    each: Duration::from_secs(10),
};

/// Tellings of what a peer holds: 4 frames of 256 keys a second tell of 2,000 keys in 2 s.
const HOLDINGS: Rate = Rate {
    burst: 16,
    each: Duration::from_millis(250),
};

/// Greetings: one when the stream begins, and one at each change.
const HELLOS: Rate = Rate {
    burst: 4,
    each: Duration::from_secs(10),
};

/// How often within [`STRIKE_TIME`] a peer may go beyond a limit before it is shut out.
const STRIKES_MAX: usize = 3;
const STRIKE_TIME: Duration = Duration::from_mins(1);

/// For how long a peer is shut out.
const SHUT_OUT: Duration = Duration::from_mins(10);

/// The most peers there are books of: twice the connections of a node. At 150 bytes they are
/// 150 KiB. Beyond it, a peer that may say most is forgotten first.
const PEERS_MAX: usize = 1024;

/// What a peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// A [`Request::Hello`](super::Request::Hello).
    Hello,
    /// A [`Request::Ask`](super::Request::Ask).
    Ask,
    /// A [`Request::Offer`](super::Request::Offer).
    Offer,
    /// A [`Request::Holding`](super::Request::Holding).
    Holding,
}

/// What is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// It is within the limits.
    Yes,
    /// It is beyond: it is dropped.
    Dropped,
    /// It is beyond for the third time: the stream is closed, and none is taken before this time.
    ShutOut(Duration),
}

/// The books of all peers.
#[derive(Clone, Debug, Default)]
pub struct PeerLimits {
    peers: BTreeMap<PeerKey, Peer>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    /// The time after which one more is allowed.
    each: Duration,
}

/// Until when what was said is paid for: it may be ahead of now by a burst.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    paid: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    hellos: Bucket,
    asks: Bucket,
    offers: Bucket,
    holdings: Bucket,
    strikes: [Option<Duration>; STRIKES_MAX],
    shut_out: Duration,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let most = now.saturating_add(rate.each.saturating_mul(rate.burst));
        let paid = self.paid.max(now).saturating_add(rate.each);
        let is_within = paid <= most;
        if is_within {
            self.paid = paid;
        }
        is_within
    }
}

impl PeerLimits {
    /// Counts a message of this peer, and says what is to become of it.
    pub fn take(&mut self, peer: PeerKey, saying: Saying, now: Duration) -> Allowed {
        if !self.peers.contains_key(&peer) {
            self.make_room(now);
        }
        let books = self.peers.entry(peer).or_default();
        if books.shut_out > now {
            return Allowed::ShutOut(books.shut_out);
        }
        let (bucket, rate) = match saying {
            Saying::Hello => (&mut books.hellos, HELLOS),
            Saying::Ask => (&mut books.asks, ASKS),
            Saying::Offer => (&mut books.offers, OFFERS),
            Saying::Holding => (&mut books.holdings, HOLDINGS),
        };
        match bucket.take(rate, now) {
            true => Allowed::Yes,
            false => books.strike(now),
        }
    }

    /// Until when the peer gets no stream; `None` if it may have one.
    #[must_use]
    pub fn shut_out(&self, peer: PeerKey, now: Duration) -> Option<Duration> {
        let until = self.peers.get(&peer).map(|it| it.shut_out);
        until.filter(|until| *until > now)
    }

    /// Forgets the peer that has least against it.
    fn make_room(&mut self, now: Duration) {
        if self.peers.len() < PEERS_MAX {
            return;
        }
        let least = self.peers.iter().min_by_key(|(_, it)| it.weight(now));
        if let Some(peer) = least.map(|(peer, _)| *peer) {
            self.peers.remove(&peer);
        }
    }
}

impl Peer {
    fn strike(&mut self, now: Duration) -> Allowed {
        self.strikes.rotate_left(1);
        if let Some(last) = self.strikes.last_mut() {
            *last = Some(now);
        }
        let is_recent =
            |it: &Option<Duration>| it.is_some_and(|at| now.saturating_sub(at) <= STRIKE_TIME);
        if !self.strikes.iter().all(is_recent) {
            return Allowed::Dropped;
        }
        self.shut_out = now.saturating_add(SHUT_OUT);
        self.strikes = [None; STRIKES_MAX];
        Allowed::ShutOut(self.shut_out)
    }

    /// What forgetting this peer would forgive, the gravest first.
    fn weight(&self, now: Duration) -> (Duration, Option<Duration>, Duration) {
        let buckets = [self.hellos, self.asks, self.offers, self.holdings];
        let paid = buckets.iter().map(|it| it.paid.saturating_sub(now));
        let last = self.strikes.iter().copied().max().flatten();
        (
            self.shut_out.saturating_sub(now),
            last,
            paid.max().unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: PeerKey = PeerKey(1);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn bursts_and_rates_are_as_they_are_named() {
        fn check(saying: Saying, burst: u32, each_ms: u64) {
            let mut limits = PeerLimits::default();
            for n in 0..burst {
                assert_eq!(
                    limits.take(PEER, saying, at(0)),
                    Allowed::Yes,
                    "{saying:?} {n}"
                );
            }
            assert_eq!(
                limits.take(PEER, saying, at(0)),
                Allowed::Dropped,
                "{saying:?}"
            );
            assert_eq!(limits.take(PEER, saying, at(each_ms - 1)), Allowed::Dropped);
            assert_eq!(
                limits.take(PEER, saying, at(each_ms)),
                Allowed::Yes,
                "{saying:?}"
            );
        }
        check(Saying::Hello, 4, 10_000);
        check(Saying::Ask, 64, 100);
        check(Saying::Offer, 8, 10_000);
        check(Saying::Holding, 16, 250);
    }

    #[test]
    fn three_times_in_a_minute_shut_a_peer_out_for_ten() {
        let mut limits = PeerLimits::default();
        for _ in 0..8 {
            limits.take(PEER, Saying::Offer, at(0));
        }
        assert_eq!(limits.take(PEER, Saying::Offer, at(1)), Allowed::Dropped);
        assert_eq!(limits.take(PEER, Saying::Offer, at(2)), Allowed::Dropped);
        let until = at(3) + SHUT_OUT;
        assert_eq!(
            limits.take(PEER, Saying::Offer, at(3)),
            Allowed::ShutOut(until)
        );
        assert_eq!(limits.shut_out(PEER, at(4)), Some(until));
        assert_eq!(
            limits.take(PEER, Saying::Ask, at(4)),
            Allowed::ShutOut(until),
            "whatever it says"
        );
        assert_eq!(
            limits.take(PeerKey(2), Saying::Offer, at(4)),
            Allowed::Yes,
            "others go on"
        );
        assert_eq!(limits.take(PEER, Saying::Ask, until), Allowed::Yes);
        assert_eq!(limits.shut_out(PEER, until), None);
    }

    #[test]
    fn now_and_then_is_forgiven() {
        let mut limits = PeerLimits::default();
        for round in 0..20_u64 {
            let now = Duration::from_secs(31 * round);
            let mut said = std::iter::repeat_with(|| limits.take(PEER, Saying::Offer, now));
            let beyond = said.find(|it| *it != Allowed::Yes);
            assert_eq!(beyond, Some(Allowed::Dropped), "round {round}");
        }
    }

    #[test]
    fn strangers_do_not_push_out_the_memory_of_those_shut_out() {
        let mut limits = PeerLimits::default();
        while limits.take(PEER, Saying::Offer, at(0)) != Allowed::ShutOut(SHUT_OUT) {}
        for n in 0..3 * PEERS_MAX {
            let stranger = PeerKey(u32::try_from(n).unwrap_or_default() + 2);
            limits.take(stranger, Saying::Ask, at(1));
            assert!(limits.peers.len() <= PEERS_MAX);
        }
        assert_eq!(limits.shut_out(PEER, at(1)), Some(SHUT_OUT));
    }

    proptest! {
        #[test]
        fn no_peer_gets_more_than_burst_and_rate(gaps in proptest::collection::vec(0..400_u64, 1..500)) {
            let mut limits = PeerLimits::default();
            let (mut now, mut taken) = (0, 0_u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(limits.take(PEER, Saying::Ask, at(now)) == Allowed::Yes);
                prop_assert!(taken <= 64 + now / 100);
            }
        }
    }
}
