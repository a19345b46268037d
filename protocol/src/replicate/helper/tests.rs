#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::replicate::{NearTable, Neighbour, Origin, Position};

mod offers;

const MIB: u64 = 1 << 20;
const NOW: Duration = Duration::from_hours(1);

fn position(n: u32) -> Position {
    Position::of_peer(&n.to_le_bytes())
}

fn elsewhere(n: u32) -> Asker {
    let ip = Ipv4Addr::from(n << 8);
    Asker {
        position: position(n),
        origin: Origin::Elsewhere(IpAddr::V4(ip)),
    }
}

fn key(n: u8) -> Key {
    Key([n; 32])
}

fn file(mib: u64) -> Shape {
    Shape {
        leaves: mib,
        size: mib * MIB,
    }
}

struct Driver {
    helper: Helper,
    table: NearTable,
    is_lan: bool,
}

impl Driver {
    fn new(config: HelperConfig) -> Self {
        Self {
            helper: Helper::new(config, Salt([7; 32]), NOW),
            table: NearTable::new(position(0)),
            is_lan: false,
        }
    }

    fn ask(&mut self, n: u32, key: Key, stays: bool) -> Said {
        let (peer, by) = (PeerKey(n), elsewhere(n));
        let around = Around {
            table: &self.table,
            is_lan: self.is_lan,
        };
        self.helper.asked(
            &Ask {
                key,
                peer,
                by,
                stays,
            },
            around,
            NOW,
        )
    }

    fn offer(&mut self, n: u32, key: Key, shape: Shape) -> Result<Accepted, Why> {
        self.offer_of(n, key, shape, 1)
    }

    /// An offer by one who says how many have asked it.
    fn offer_of(&mut self, n: u32, key: Key, shape: Shape, asked: u32) -> Result<Accepted, Why> {
        let offer = Offered {
            key,
            peer: PeerKey(n),
            by: elsewhere(n),
            is_near: true,
            stays: false,
            shape,
            ranges: LeafRanges::from_sorted(0..shape.leaves.min(10_000)),
            asked,
        };
        let around = Around {
            table: &self.table,
            is_lan: self.is_lan,
        };
        self.helper.offered(&offer, around, NOW).map_err(|it| it.0)
    }

    /// Everything that was accepted arrives.
    fn pull(&mut self, key: Key, accepted: &Accepted, shape: Shape) {
        for run in &accepted.runs {
            self.helper
                .run_arrived(key, *run, shape.bytes_of(*run), NOW)
                .unwrap();
        }
        self.helper.pull_ended(key, NOW);
    }

    /// Neighbours that are closer to the key than the node, and others.
    fn neighbours(&mut self, key: Key, closer: usize, others: usize) {
        let own = key.distance(position(0));
        let (mut closer_left, mut others_left) = (closer, others);
        for n in 1000..9000 {
            let is_closer = key.distance(position(n)) < own;
            let left = if is_closer {
                &mut closer_left
            } else {
                &mut others_left
            };
            if *left == 0 {
                continue;
            }
            let neighbour = Neighbour {
                peer: PeerKey(n),
                position: position(n),
                rtt: NOW,
            };
            let before = self.table.len();
            self.table.insert(neighbour);
            *left -= self.table.len() - before;
        }
    }
}

fn helper() -> Driver {
    Driver::new(HelperConfig::default())
}

fn no(why: Why) -> Said {
    Said::No { why, retry: RETRY }
}

#[test]
fn a_second_distinct_asker_makes_it_want_and_an_offer_makes_it_pull() {
    let mut it = helper();
    let shape = file(10);
    assert_eq!(it.ask(1, key(1), true), no(Why::Demand));
    assert_eq!(it.ask(1, key(1), true), no(Why::Demand), "the same asker");
    assert_eq!(it.offer(1, key(1), shape), Err(Why::Unasked));
    assert_eq!(it.ask(2, key(1), true), Said::Want);
    assert_eq!(
        it.offer(3, key(1), shape),
        Err(Why::Unasked),
        "it was not invited"
    );
    let accepted = it.offer(2, key(1), shape).unwrap();
    assert_eq!(accepted.runs, [0, 2], "place 0 of two stripes");
    assert_eq!(it.ask(3, key(1), true), Said::Pulling);
    it.pull(key(1), &accepted, shape);
    let ranges = LeafRanges::from_sorted([0, 1, 2, 3, 8, 9]);
    assert_eq!(
        it.ask(4, key(1), true),
        Said::Have {
            ranges,
            wants: false
        }
    );
    let counters = it.helper.counters();
    assert_eq!(
        (
            counters.asks_distinct,
            counters.asks_spent,
            counters.pulls_for_asks
        ),
        (4, 2, 1)
    );
    assert_eq!(
        (counters.bytes_pulled, counters.declined[&Why::Demand]),
        (6 * MIB, 2)
    );
}

#[test]
fn only_whole_runs_that_are_offered_are_pulled() {
    let mut it = helper();
    let shape = file(30);
    let offer = |leaves: std::ops::Range<u64>, peer, asked| Offered {
        key: key(1),
        peer: PeerKey(peer),
        by: elsewhere(peer),
        is_near: true,
        stays: false,
        shape,
        ranges: LeafRanges::from_sorted(leaves),
        asked,
    };
    let table = NearTable::new(position(0));
    let around = Around {
        table: &table,
        is_lan: false,
    };
    let mut pull = |offer: Offered| {
        let accepted = it.helper.offered(&offer, around, NOW).map_err(|it| it.0);
        it.helper.pull_ended(key(1), NOW);
        accepted.map(|it| it.runs)
    };
    assert_eq!(
        pull(offer(2..13, 1, 2)),
        Ok(vec![1, 2]),
        "unasked, and any stripe"
    );
    assert_eq!(
        pull(offer(25..30, 2, 2)),
        Ok(vec![7]),
        "the last run is short"
    );
    assert_eq!(pull(offer(1..4, 3, 2)), Err(Why::Place));
    assert_eq!(
        pull(offer(0..30, 4, 1)),
        Err(Why::Unasked),
        "one asker is not enough"
    );
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    let accepted = it.helper.offered(&offer(12..30, 2, 1), around, NOW);
    assert_eq!(
        accepted.map(|it| it.runs),
        Ok(vec![4, 6]),
        "of the stripe of place 0"
    );
}

#[test]
fn need_is_one_for_a_lan_asker_that_keeps_nothing_and_for_the_eager() {
    let mut it = helper();
    it.is_lan = true;
    assert_eq!(it.ask(1, key(1), true), no(Why::Demand));
    assert_eq!(it.ask(1, key(2), false), Said::Want);
    let mut it = Driver::new(HelperConfig {
        eager: true,
        ..HelperConfig::default()
    });
    assert_eq!(it.ask(1, key(1), true), Said::Want);
}

#[test]
fn only_the_two_closest_are_homes() {
    for (closer, expected) in [(0, true), (1, true), (2, false), (3, false)] {
        let mut it = helper();
        it.neighbours(key(1), closer, 4);
        it.ask(1, key(1), true);
        let said = it.ask(2, key(1), true);
        assert_eq!(
            said == Said::Want,
            expected,
            "{closer} are closer: {said:?}"
        );
        if let Said::Elsewhere { closer: named, .. } = said {
            assert_eq!(named.len(), closer);
        }
    }
}

#[test]
fn the_second_home_takes_the_other_stripe_and_nothing_of_a_small_root() {
    let mut it = helper();
    it.neighbours(key(1), 1, 0);
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    assert_eq!(it.offer(2, key(1), file(10)).unwrap().runs, [1]);
    let mut it = helper();
    it.neighbours(key(2), 1, 0);
    it.ask(1, key(2), true);
    assert_eq!(
        it.ask(2, key(2), true),
        Said::Want,
        "it does not know yet how small it is"
    );
    assert_eq!(it.offer(2, key(2), file(4)), Err(Why::Place));
    assert!(matches!(it.ask(3, key(2), true), Said::Elsewhere { .. }));
}

#[test]
fn an_eighth_of_an_hour_for_each_cause_and_more_with_later_asks() {
    let mut it = helper();
    let shape = file(200);
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    let accepted = it.offer(2, key(1), shape).unwrap();
    assert_eq!(
        accepted.runs,
        [0, 2, 4, 6],
        "8 MiB for each of two prefixes"
    );
    it.pull(key(1), &accepted, shape);
    let wants = |said| match said {
        Said::Have { wants, .. } => wants,
        said => panic!("{said:?}"),
    };
    assert!(!wants(it.ask(3, key(1), true)), "one more has asked");
    assert!(wants(it.ask(4, key(1), true)));
    assert_eq!(it.offer(4, key(1), shape).unwrap().runs, [8, 10, 12, 14]);
}

#[test]
fn four_pulls_at_a_time() {
    let mut it = helper();
    for n in 0..6_u8 {
        let (a, b) = (u32::from(n) * 2 + 1, u32::from(n) * 2 + 2);
        it.ask(a, key(n), true);
        let said = it.ask(b, key(n), true);
        if n < 4 {
            assert_eq!(said, Said::Want);
            it.offer(b, key(n), file(4)).unwrap();
        } else {
            assert!(matches!(said, Said::No { why: Why::Busy, .. }), "{said:?}");
        }
    }
    it.helper.pull_ended(key(0), NOW);
    assert_eq!(it.ask(50, key(5), true), Said::Want);
}

#[test]
fn roots_of_an_hour_are_counted() {
    let config = HelperConfig {
        roots_hourly: 3,
        ..HelperConfig::default()
    };
    let mut it = Driver::new(config);
    for n in 0..3_u8 {
        it.ask(1, key(n), true);
        it.ask(2, key(n), true);
        let accepted = it.offer(2, key(n), file(1)).unwrap();
        it.pull(key(n), &accepted, file(1));
    }
    it.ask(1, key(9), true);
    let said = it.ask(2, key(9), true);
    assert_eq!(
        said,
        Said::No {
            why: Why::Busy,
            retry: Duration::from_hours(1)
        }
    );
}

#[test]
fn what_is_held_is_not_said_to_be_otherwise() {
    let mut it = helper();
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    let accepted = it.offer(2, key(1), file(100)).unwrap();
    it.pull(key(1), &accepted, file(100));
    assert_eq!(it.offer_of(3, key(1), file(101), 9), Err(Why::Untrue));
    assert!(it.offer_of(4, key(1), file(100), 100).is_ok());
}

#[test]
fn lies_and_denied_roots_are_turned_down() {
    let mut it = helper();
    let check = |it: &mut Driver, n: u8, shape, expected| {
        it.ask(1, key(n), true);
        assert_eq!(it.ask(2, key(n), true), Said::Want);
        assert_eq!(it.offer(2, key(n), shape), Err(expected), "{shape:?}");
    };
    check(&mut it, 1, Shape { leaves: 0, size: 0 }, Why::Untrue);
    check(
        &mut it,
        2,
        Shape {
            leaves: 1,
            size: 2 * MIB + 1,
        },
        Why::Untrue,
    );
    check(
        &mut it,
        3,
        Shape {
            leaves: u64::MAX,
            size: 1,
        },
        Why::Untrue,
    );
    it.ask(1, key(4), true);
    it.ask(2, key(4), true);
    let accepted = it.offer(2, key(4), file(4)).unwrap();
    it.pull(key(4), &accepted, file(4));
    assert_eq!(
        it.helper.deny(key(4), NOW).len(),
        2,
        "a run and the root are gone"
    );
    assert!(it.helper.cache().is_empty());
    let said = it.ask(3, key(4), true);
    assert!(
        matches!(
            said,
            Said::No {
                why: Why::Refused,
                ..
            }
        ),
        "{said:?}"
    );
    it.helper.told(key(4), PeerKey(9), 4, false, NOW);
    assert!(matches!(
        it.ask(4, key(4), true),
        Said::No {
            why: Why::Refused,
            ..
        }
    ));
}

#[test]
fn a_root_that_is_larger_than_it_was_said_to_be_costs_what_it_costs() {
    let mut it = helper();
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    let small = Shape {
        leaves: 40,
        size: 40,
    };
    let accepted = it.offer(2, key(1), small).unwrap();
    assert_eq!(accepted.runs.len(), 5);
    let arrived: Vec<_> = accepted
        .runs
        .iter()
        .map(|run| it.helper.run_arrived(key(1), *run, 5 * MIB, NOW))
        .collect();
    let fits = arrived.iter().filter(|it| it.is_ok()).count();
    assert_eq!(
        (fits, &arrived[3]),
        (3, &Err(Why::Budget)),
        "16 MiB for two prefixes"
    );
    it.helper.pull_ended(key(1), NOW);
    assert_eq!(it.helper.run_arrived(key(1), 0, 1, NOW), Err(Why::Unasked));
}

#[test]
fn a_root_that_is_dropped_in_mid_pull_leaves_nothing_behind() {
    let mut it = helper();
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    let accepted = it.offer(2, key(1), file(10)).unwrap();
    it.helper.nodes_arrived(key(1), MIB, NOW).unwrap();
    assert_eq!(it.helper.cache().used(), MIB);
    assert_eq!(it.helper.drop_root(key(1), NOW), [Change::RootGone(key(1))]);
    assert_eq!(it.helper.cache().used(), 0);
    let late = it.helper.run_arrived(key(1), accepted.runs[0], MIB, NOW);
    assert_eq!(late, Err(Why::Unasked));
    assert!(it.helper.drop_root(key(1), NOW).is_empty());
}

#[test]
fn whole_copies_nearby_are_enough() {
    let mut it = helper();
    let shape = file(4);
    it.ask(1, key(1), true);
    it.ask(2, key(1), true);
    let accepted = it.offer(2, key(1), shape).unwrap();
    it.pull(key(1), &accepted, shape);
    it.helper.drop_root(key(1), NOW);
    it.helper.told(key(1), PeerKey(9), 4, false, NOW);
    it.ask(3, key(1), true);
    let said = it.ask(4, key(1), true);
    let holders = vec![PeerKey(9)];
    assert_eq!(
        said,
        Said::Elsewhere {
            holders,
            closer: Vec::new()
        }
    );
    it.helper.told(key(1), PeerKey(9), 0, false, NOW);
    assert_eq!(it.ask(5, key(1), true), Said::Want, "it withdrew");
}

#[test]
fn what_is_off_says_so_and_counts_nobody() {
    let mut it = helper();
    it.helper.set_on(false);
    assert_eq!(it.ask(1, key(1), true), no(Why::Off));
    it.helper.set_on(true);
    assert_eq!(it.ask(2, key(1), true), no(Why::Demand));
    it.helper.set_quota(0);
    assert_eq!(it.ask(3, key(1), true), no(Why::Off));
}

#[test]
fn homes_offer_further_copies_to_places_that_no_ask_reaches() {
    // Nobody is closer to the key than the node.
    let key = Key(*position(0).bytes());
    let mut it = helper();
    it.neighbours(key, 0, 12);
    let shape = file(4);
    for n in 1..=12 {
        if it.ask(n, key, true) == Said::Want {
            let accepted = it.offer(n, key, shape).unwrap();
            it.pull(key, &accepted, shape);
        }
    }
    let around = Around {
        table: &it.table,
        is_lan: false,
    };
    let closest = it.table.closest(key, None);
    let (to, accepted) = it.helper.next_place(key, around, NOW).unwrap();
    assert_eq!(
        (to, accepted.runs),
        (closest[1].peer, vec![0]),
        "place 2, the first of a second copy"
    );
    let (to, _) = it.helper.next_place(key, around, NOW).unwrap();
    assert_eq!(to, closest[3].peer, "12 askers are worth three copies");
    assert_eq!(it.helper.next_place(key, around, NOW), None);
}

#[test]
fn what_one_prefix_asks_for_is_not_passed_on() {
    let key = Key(*position(0).bytes());
    let mut it = helper();
    it.neighbours(key, 0, 12);
    let ask = |n: u32| Ask {
        key,
        peer: PeerKey(n),
        by: Asker {
            origin: elsewhere(1).origin,
            ..elsewhere(n)
        },
        stays: true,
    };
    for n in 1..40 {
        let around = Around {
            table: &it.table,
            is_lan: false,
        };
        if it.helper.asked(&ask(n), around, NOW) == Said::Want {
            let accepted = it.offer(n, key, file(4)).unwrap();
            it.pull(key, &accepted, file(4));
        }
    }
    assert_eq!(it.helper.counters().asks_distinct, 4);
    assert_eq!(it.helper.counters().pulls_for_asks, 1);
    let around = Around {
        table: &it.table,
        is_lan: false,
    };
    assert_eq!(it.helper.next_place(key, around, NOW), None);
}

proptest! {
    /// Invariant 1, whatever happens in whatever order.
    #[test]
    fn pulls_never_exceed_asks_and_offers(
        steps in proptest::collection::vec((0..8_u8, 0..6_u8, 0..12_u32, 0..4000_u64), 1..400)
    ) {
        let mut helper = Helper::new(HelperConfig { quota: 20 * MIB, ..HelperConfig::default() }, Salt([1; 32]), Duration::ZERO);
        let table = NearTable::new(position(0));
        let around = Around { table: &table, is_lan: false };
        let (mut now, mut pulls) = (Duration::ZERO, 0_u64);
        for (step, n, who, wait) in steps {
            now += Duration::from_secs(wait);
            let (key, peer, by) = (key(n), PeerKey(who), elsewhere(who));
            match step {
                0..4 => {
                    helper.asked(&Ask { key, peer, by, stays: false }, around, now);
                }
                4 => {
                    let ranges = LeafRanges::from_sorted(0..4);
                    let is_near = wait % 2 == 0;
                    let offer = Offered { key, peer, by, is_near, stays: false, shape: file(4), ranges, asked: who };
                    if let Ok(accepted) = helper.offered(&offer, around, now) {
                        pulls += 1;
                        for run in accepted.runs {
                            prop_assert!(helper.run_arrived(key, run, 4 * MIB, now).is_ok());
                        }
                    }
                }
                5 => {
                    helper.pull_ended(key, now);
                }
                6 => {
                    let by = helper.mark(&by);
                    helper.served(key, 0, 4 * MIB, by, now);
                }
                _ => helper.told(key, peer, u64::from(n), false, now),
            }
            let it = helper.counters();
            prop_assert!(it.asks_spent <= it.asks_distinct);
            prop_assert!(2 * it.pulls_for_asks <= it.asks_spent);
            prop_assert_eq!(pulls, it.pulls_for_asks + it.offers_accepted);
            prop_assert!(helper.cache().used() <= helper.cache().quota());
        }
    }
}
