#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::exchange::LeafRanges;

const DAY: Duration = Duration::from_hours(24);
const PEER: PeerKey = PeerKey(1);

fn demand() -> Demand {
    Demand::new(DemandConfig::default(), Salt([7; 32]))
}

fn key(n: u32) -> Key {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&mix(u64::from(n) + 1).to_le_bytes());
    bytes[8..12].copy_from_slice(&n.to_le_bytes());
    Key(bytes)
}

fn mark(n: u32) -> Mark {
    Mark {
        who: n,
        group: n / 4,
    }
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() < 0.01
}

#[test]
fn all_of_it_is_under_a_mebibyte_whatever_is_asked() {
    let mut demand = demand();
    let mut now = Duration::ZERO;
    for n in 0..60_000 {
        now += Duration::from_millis(100);
        demand.ask(key(n % 20_000), mark(n / 20_000), now);
        demand.told(key(n), PeerKey(n % 9), 3, false, now);
    }
    assert!(demand.len() <= KEYS_MAX);
    assert!(demand.bytes() < 1 << 20, "{} bytes", demand.bytes());
    assert!(demand.save(now).len() < 48 << 10);
}

#[test]
fn counts_decay_by_their_half_lives() {
    let mut demand = demand();
    assert!(demand.ask(key(1), mark(1), Duration::ZERO));
    assert!(demand.ask(key(1), mark(2), Duration::ZERO));
    assert!(!demand.ask(key(1), mark(2), Duration::ZERO));
    let it = demand.standing(key(1), Duration::from_mins(10));
    assert!(near(it.short, 1.0) && near(it.long, 1.99), "{it:?}");
    let it = demand.standing(key(1), DAY);
    assert!(near(it.short, 0.0) && near(it.long, 1.0), "{it:?}");
    assert_eq!((it.unspent, it.causes), (2, vec![mark(2), mark(1)]));
}

#[test]
fn an_asker_counts_once_in_a_day() {
    let mut demand = demand();
    let asks = [0, 1, 12, 23].map(|hour| demand.ask(key(1), mark(1), Duration::from_hours(hour)));
    assert_eq!(asks, [true, false, false, false]);
    assert!(demand.ask(key(2), mark(1), Duration::ZERO), "another key");
    assert!(
        demand.ask(key(1), mark(1), Duration::from_hours(80)),
        "days later"
    );
}

#[test]
fn spent_asks_cause_nothing_more() {
    let mut demand = demand();
    for n in 0..3 {
        demand.ask(key(1), mark(n), Duration::ZERO);
    }
    demand.spend(key(1), 2);
    let it = demand.standing(key(1), Duration::ZERO);
    assert_eq!((it.unspent, it.causes), (1, vec![mark(2)]));
    assert!(near(it.long, 3.0), "it is as much in demand as before");
}

#[test]
fn a_flood_of_keys_that_are_asked_for_once_leaves_those_in_demand() {
    let mut demand = demand();
    for n in 0..500 {
        for asker in 0..6 {
            demand.ask(key(n), mark(asker), Duration::ZERO);
        }
    }
    for n in 1000..60_000 {
        demand.ask(key(n), mark(1), Duration::from_secs(1));
    }
    let mut stand = |n| demand.standing(key(n), Duration::from_secs(1)).long > 5.9;
    let left = (0..500).filter(|n| stand(*n)).count();
    assert!(left >= 495, "{left} of 500");
}

#[test]
fn what_is_no_longer_asked_for_gives_way() {
    let mut demand = demand();
    for n in 0..20_000 {
        demand.ask(key(n), mark(1), Duration::ZERO);
    }
    let later = 3 * DAY;
    for n in 30_000..30_100 {
        demand.ask(key(n), mark(1), later);
    }
    let known = (30_000..30_100)
        .filter(|n| demand.find(key(*n)).is_some())
        .count();
    assert_eq!(known, 100);
}

#[test]
fn holders_are_believed_while_they_are_there_and_ten_minutes_after() {
    let mut demand = demand();
    let shape = Shape {
        leaves: 10,
        size: 10 << 20,
    };
    demand.ask(key(1), mark(1), Duration::ZERO);
    demand.set_shape(key(1), shape);
    demand.told(key(1), PEER, 10, false, Duration::ZERO);
    demand.told(key(1), PeerKey(2), 5, true, Duration::ZERO);
    let told = |peer, is_whole, is_busy| ToldHolder {
        peer,
        is_whole,
        is_busy,
    };
    let both = [told(PEER, true, false), told(PeerKey(2), false, true)];
    assert_eq!(demand.holders(key(1), 10 * DAY), both, "their streams live");
    demand.left(PEER, 10 * DAY);
    assert_eq!(
        demand.holders(key(1), 10 * DAY + Duration::from_secs(599)),
        both
    );
    let after = 10 * DAY + Duration::from_secs(601);
    assert_eq!(demand.holders(key(1), after), both[1..]);
    demand.told(key(1), PeerKey(2), 0, false, after);
    assert!(demand.holders(key(1), after).is_empty());
    for n in 0..20 {
        demand.told(key(1), PeerKey(n), 1, false, after);
    }
    assert_eq!(demand.holders(key(1), after).len(), 8);
}

#[test]
fn holders_push_out_no_key_in_demand() {
    let mut demand = demand();
    for n in 0..3000 {
        demand.ask(key(n), mark(1), Duration::ZERO);
    }
    let known = |demand: &Demand| (0..3000).filter(|n| demand.find(key(*n)).is_some()).count();
    let before = known(&demand);
    assert!(before > 2800, "most of them found a place: {before}");
    for n in 10_000..40_000 {
        demand.told(key(n), PEER, 1, false, Duration::ZERO);
    }
    assert_eq!(known(&demand), before);
    assert_eq!(demand.len(), KEYS_MAX, "the free places are taken");
}

#[test]
fn a_place_is_offered_a_stripe_once_an_hour() {
    let mut demand = demand();
    demand.ask(key(1), mark(1), Duration::ZERO);
    let at = |minutes| Duration::from_mins(minutes);
    assert!(demand.offer_once(key(1), 2, at(1)));
    assert!(!demand.offer_once(key(1), 2, at(2)));
    assert!(demand.offer_once(key(1), 3, at(2)));
    assert!(demand.offer_once(key(1), 2, at(61)));
    assert!(
        !demand.offer_once(key(1), 64, at(61)),
        "there are not so many places"
    );
    assert!(
        !demand.offer_once(key(2), 1, at(61)),
        "nothing is known of it"
    );
}

#[test]
fn parts_are_wanted_that_a_quarter_of_the_most_want() {
    let mut demand = demand();
    let shape = Shape {
        leaves: 512,
        size: 512 << 20,
    };
    assert_eq!(demand.wanted(key(1)), u64::MAX, "nothing is known of it");
    demand.ask(key(1), mark(1), Duration::ZERO);
    assert_eq!(demand.wanted(key(1)), u64::MAX, "nobody has said anything");
    let beginning = shape.parts_of(&shape.begun(50));
    assert_eq!(beginning, 0xff, "seven parts of eight leaves, and the next");
    let all = shape.parts_of(&LeafRanges::from_sorted(0..512));
    assert_eq!(all, u64::MAX);
    demand.want(key(1), all);
    assert_eq!(demand.wanted(key(1)), u64::MAX);
    for _ in 0..3 {
        demand.want(key(1), beginning);
    }
    assert_eq!(demand.wanted(key(1)), u64::MAX, "one of four");
    for _ in 0..5 {
        demand.want(key(1), beginning);
    }
    assert_eq!(demand.wanted(key(1)), beginning, "one of nine");
    for _ in 0..100 {
        demand.want(key(1), all);
    }
    assert_eq!(demand.wanted(key(1)), u64::MAX, "it has changed");
    assert!(
        near(demand.standing(key(1), Duration::ZERO).long, 1.0),
        "wanting is not asking"
    );
}

#[test]
fn a_reader_counts_once_for_a_run() {
    let mut demand = demand();
    for reader in 0..8 {
        for run in 0..16 {
            assert!(demand.read(key(1), run, mark(reader), Duration::ZERO));
            assert!(!demand.read(key(1), run, mark(reader), Duration::ZERO));
        }
    }
}

#[test]
fn what_is_saved_comes_back_older_and_decides_no_pull() {
    let mut demand = demand();
    for n in 0..2000 {
        for asker in 0..=n % 5 {
            demand.ask(key(n), mark(asker), Duration::ZERO);
        }
    }
    let saved = demand.save(Duration::ZERO);
    let mut again = super::Demand::new(DemandConfig::default(), Salt([9; 32]));
    again.restore(&saved, DAY, Duration::from_secs(5));
    assert_eq!(again.len(), SAVED_MAX);
    let it = again.standing(key(4), Duration::from_secs(5));
    assert!(
        near(it.long, 2.5) && it.unspent == 0 && it.causes.is_empty(),
        "{it:?}"
    );
    assert!(
        again.find(key(0)).is_none(),
        "the least asked for is not among the highest"
    );
    again.restore(&[1, 2, 3], DAY, DAY);
    let mut broken = saved;
    broken.truncate(100);
    again.restore(&broken, DAY, DAY);
    assert_eq!(again.len(), SAVED_MAX);
}

proptest! {
    #[test]
    fn unspent_asks_are_distinct_asks(
        asks in proptest::collection::vec((0..5_u32, 0..9_u32, 0..2_000_u64), 1..300)
    ) {
        let mut demand = demand();
        let (mut now, mut counted) = (Duration::ZERO, BTreeMap::<u32, u32>::new());
        let mut since_midnight = BTreeSet::new();
        for (n, asker, wait) in asks {
            now += Duration::from_secs(wait);
            let is_new = demand.ask(key(n), mark(asker), now);
            *counted.entry(n).or_default() += u32::from(is_new);
            prop_assert!(is_new || !since_midnight.insert((n, asker)), "known without having asked");
            since_midnight.insert((n, asker));
            let it = demand.standing(key(n), now);
            let distinct = counted.get(&n).copied().unwrap_or_default();
            prop_assert_eq!(u32::from(it.unspent), distinct.min(15));
            prop_assert!(it.short <= it.long + 0.01 && it.long <= distinct as f32 + 0.01);
        }
    }

    #[test]
    fn no_saved_bytes_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut demand = demand();
        demand.restore(&bytes, Duration::ZERO, Duration::ZERO);
        prop_assert!(demand.standing(key(1), DAY).long.is_finite());
    }
}
