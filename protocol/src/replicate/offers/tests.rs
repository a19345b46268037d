#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const KEY: Key = Key([7; 32]);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Of ten leaves: the stripes are runs 0 and 2, and run 1.
const FILE: Shape = Shape {
    leaves: 10,
    size: 10 * MIB,
};

fn mark(n: u32) -> Mark {
    Mark { who: n, group: n }
}

/// An asker of a region, which has the helpers 100 x region + 0 to 2.
fn asker(region: u32, n: u32) -> PeerKey {
    PeerKey(10 * region + n)
}

fn helpers(region: u32) -> [PeerKey; 3] {
    [0, 1, 2].map(|n| PeerKey(100 * region + n))
}

struct Driver {
    offers: Offers,
    now: Duration,
}

impl Driver {
    /// The line has been full from the first second on.
    fn new() -> Self {
        let mut offers = Offers::default();
        offers.set_line(true, Duration::ZERO);
        Self {
            offers,
            now: at(10),
        }
    }

    fn ask(&mut self, peer: PeerKey) {
        let by = mark(peer.0);
        self.offers.asked(KEY, FILE, peer, by, self.now);
    }

    fn poll(&mut self) -> (Vec<PeerKey>, Vec<Planned>) {
        let (mut asked, mut offers) = (Vec::new(), Vec::new());
        for deed in self.offers.poll(|| u64::MAX, self.now) {
            match deed {
                Deed::Nominate { peer, .. } => asked.push(peer),
                Deed::Offer(planned) => offers.push(planned),
            }
        }
        (asked, offers)
    }

    fn offered(&mut self) -> Vec<(u32, Vec<u64>)> {
        let offers = self.poll().1.into_iter();
        let first_leaves = |it: &Planned| it.ranges.iter().map(|range| range.start).collect();
        offers.map(|it| (it.to.0, first_leaves(&it))).collect()
    }

    fn reply(&mut self, to: u32, reply: Replied) {
        self.offers.replied(KEY, PeerKey(to), reply, self.now);
    }

    /// One asker in each of these regions, all of whom have named their helpers.
    fn crowd(regions: std::ops::RangeInclusive<u32>) -> Self {
        let mut it = Self::new();
        for region in regions.clone() {
            it.ask(asker(region, 0));
        }
        let (asked, _) = it.poll();
        assert_eq!(asked.len(), regions.clone().count());
        for region in regions {
            assert!(it.offers.nominated(KEY, asker(region, 0), &helpers(region)));
        }
        it
    }
}

#[test]
fn four_askers_on_a_full_line_are_asked_once() {
    let mut it = Driver::new();
    for n in 0..3 {
        it.ask(asker(1, n));
        it.ask(asker(1, n));
    }
    assert_eq!(it.poll(), (vec![], vec![]), "three are no crowd");
    assert!(!it.offers.has_crowd());
    it.ask(asker(1, 3));
    assert!(it.offers.has_crowd());
    it.offers.set_line(false, it.now);
    assert_eq!(it.poll(), (vec![], vec![]), "the line is free");
    it.offers.set_line(true, it.now);
    it.now += Duration::from_millis(1900);
    it.offers.set_line(true, it.now);
    assert_eq!(
        it.poll(),
        (vec![], vec![]),
        "it was not full for long enough"
    );
    it.now += Duration::from_millis(100);
    let all: Vec<_> = (0..4).map(|n| asker(1, n)).collect();
    assert_eq!(it.poll(), (all, vec![]));
    assert_eq!(it.poll(), (vec![], vec![]), "once");
    it.ask(asker(1, 5));
    assert_eq!(it.poll().0, [asker(1, 5)], "whoever comes later");
}

#[test]
fn a_busy_word_is_as_good_as_a_full_line() {
    let mut it = Driver::new();
    it.offers.set_line(false, it.now);
    (0..4).for_each(|n| it.ask(asker(1, n)));
    it.offers.said_busy(it.now);
    assert_eq!(it.poll().0.len(), 4);
    it.now += at(10);
    it.ask(asker(2, 0));
    assert_eq!(it.poll().0, [], "that was long ago");
}

#[test]
fn identities_of_one_prefix_are_no_crowd() {
    let mut it = Driver::new();
    for n in 0..100 {
        it.offers.asked(KEY, FILE, PeerKey(n), mark(n % 3), it.now);
    }
    assert_eq!(it.poll(), (vec![], vec![]));
}

#[test]
fn each_group_has_one_stripe_before_any_has_two() {
    let mut it = Driver::crowd(1..=4);
    let first = it.offered();
    // Groups begin with different stripes, at the helper whose place it is.
    let expected = [
        (100, vec![0, 8]),
        (201, vec![4]),
        (300, vec![0, 8]),
        (401, vec![4]),
    ];
    assert_eq!(first, expected);
    assert_eq!(it.offered(), [], "four have no reply");
    for (to, _) in first {
        it.reply(to, Replied::Accepted);
    }
    let second = it.offered();
    let expected = [
        (101, vec![4]),
        (200, vec![0, 8]),
        (301, vec![4]),
        (400, vec![0, 8]),
    ];
    assert_eq!(second, expected);
    for (to, _) in second {
        it.reply(to, Replied::Accepted);
    }
    assert_eq!(it.offered(), [], "each group has a copy");
    assert_eq!(it.offers.holders(KEY).len(), 8);
    let further = |n| it.offers.is_further_copy(KEY, PeerKey(n));
    assert_eq!(
        [100, 201, 300, 400].map(further),
        [false, false, true, true]
    );
}

#[test]
fn an_offer_says_what_it_is_about_and_waits_a_moment() {
    let mut it = Driver::crowd(1..=4);
    let offers = it.poll().1;
    assert!(
        offers
            .iter()
            .all(|it| (it.key, it.shape, it.asked) == (KEY, FILE, 4))
    );
    let spread = OffersConfig::default().spread;
    let waits = offers
        .iter()
        .all(|it| it.after < spread && it.after > spread / 2);
    assert!(waits, "{offers:?}");
}

#[test]
fn the_helper_that_most_have_named_comes_first() {
    let mut it = Driver::new();
    (0..4).for_each(|n| it.ask(asker(1, n)));
    it.poll();
    let [a, b, c] = helpers(1);
    let d = PeerKey(109);
    for (n, named) in [vec![a, d], vec![b, c], vec![c, b], vec![c, a]]
        .iter()
        .enumerate()
    {
        let n = u32::try_from(n).unwrap();
        assert!(it.offers.nominated(KEY, asker(1, n), named));
    }
    let offered: Vec<u32> = it.offered().into_iter().map(|it| it.0).collect();
    assert_eq!(
        offered,
        [c.0, a.0],
        "they are one group, which needs one copy"
    );
}

#[test]
fn one_asker_alone_decides_nothing() {
    let mut it = Driver::new();
    (0..4).for_each(|n| it.ask(asker(1, n)));
    it.poll();
    assert!(it.offers.nominated(KEY, asker(1, 0), &helpers(1)));
    assert_eq!(it.offered(), []);
    assert!(it.offers.nominated(KEY, asker(1, 1), &[]));
    assert_eq!(it.offered(), [], "naming nobody counts for nothing");
    assert!(it.offers.nominated(KEY, asker(1, 2), &helpers(1)));
    assert_eq!(it.offered().len(), 2);
}

#[test]
fn only_who_was_asked_names_anybody_and_only_once() {
    let mut it = Driver::new();
    (0..4).for_each(|n| it.ask(asker(1, n)));
    assert!(
        !it.offers.nominated(KEY, asker(1, 0), &helpers(1)),
        "unasked"
    );
    it.poll();
    assert!(it.offers.nominated(KEY, asker(1, 0), &helpers(1)));
    assert!(!it.offers.nominated(KEY, asker(1, 0), &helpers(2)), "twice");
    assert!(
        !it.offers.nominated(KEY, asker(9, 0), &helpers(2)),
        "a stranger"
    );
    assert!(!it.offers.nominated(Key([8; 32]), asker(1, 1), &helpers(2)));
}

#[test]
fn who_declines_or_is_silent_is_left_alone_for_its_time() {
    let mut it = Driver::crowd(1..=4);
    it.offered();
    for to in [100, 300, 401] {
        it.reply(to, Replied::Accepted);
    }
    it.reply(201, Replied::Declined { retry: at(30) });
    let others: Vec<u32> = it.offered().into_iter().map(|it| it.0).collect();
    assert!(
        others.contains(&200) && !others.contains(&201),
        "{others:?}"
    );
    for to in others {
        it.reply(to, Replied::Silent);
    }
    let mut silent = Driver::crowd(1..=4);
    let mut times = Vec::new();
    silent.offered();
    for to in [201, 300, 401] {
        silent.reply(to, Replied::Accepted);
    }
    // All others of its region decline for a day, so the one that is silent is offered again.
    let day = Duration::from_hours(24);
    for _ in 0..10_000 {
        if silent.now > at(40_000) {
            break;
        }
        // The askers stay.
        for (to, _) in silent.offered() {
            match to {
                100 => {}
                101 | 102 => {
                    silent.reply(to, Replied::Declined { retry: day });
                    continue;
                }
                other => {
                    silent.reply(other, Replied::Accepted);
                    continue;
                }
            }
            times.push(silent.now.as_secs());
            silent.reply(100, Replied::Silent);
        }
        if silent.offers.crowds[&KEY].outstanding() > 0 {
            silent.reply(100, Replied::Silent);
        }
        silent.now += at(5);
    }
    let pauses: Vec<u64> = times.windows(2).map(|it| it[1] - it[0]).collect();
    assert!(pauses.windows(2).all(|it| it[1] >= it[0]), "{pauses:?}");
    assert_eq!(pauses.last(), Some(&3600), "{pauses:?}");
}

#[test]
fn a_helper_that_pulls_is_no_asker_and_the_end_of_demand_is_the_end() {
    let mut it = Driver::crowd(1..=4);
    for (to, _) in it.offered() {
        it.reply(to, Replied::Accepted);
        it.ask(PeerKey(to));
    }
    assert_eq!(it.poll().0, [], "none of them is asked for helpers");
    for region in 1..=4 {
        it.offers.left(KEY, asker(region, 0), it.now);
    }
    assert!(!it.offers.has_crowd(), "nobody is here");
    it.now += at(601);
    assert_eq!(it.poll(), (vec![], vec![]));
    assert!(it.offers.crowds.is_empty(), "nothing is kept");
}

#[test]
fn a_root_of_one_run_is_one_stripe() {
    let small = Shape {
        leaves: 3,
        size: 3 * MIB,
    };
    let mut it = Driver::new();
    for region in 1..=4 {
        let peer = asker(region, 0);
        it.offers.asked(KEY, small, peer, mark(peer.0), it.now);
    }
    it.poll();
    for region in 1..=4 {
        it.offers.nominated(KEY, asker(region, 0), &helpers(region));
    }
    let offered = it.offered();
    assert_eq!(offered, [100, 200, 300, 400].map(|to| (to, vec![0])));
    offered
        .iter()
        .for_each(|(to, _)| it.reply(*to, Replied::Accepted));
    assert_eq!(it.offered(), []);
}

proptest! {
    /// Whatever happens in whatever order: the invariants of the module's head.
    #[test]
    fn offers_keep_within_their_bounds(
        steps in proptest::collection::vec((0..10_u8, 1..6_u32, 0..4_u32, 0..20_u64), 1..300)
    ) {
        let mut it = Driver::new();
        let mut named: BTreeSet<PeerKey> = BTreeSet::new();
        let mut out: Vec<PeerKey> = Vec::new();
        for (step, region, n, wait) in steps {
            it.now += Duration::from_millis(wait * 100);
            let peer = asker(region, n);
            match step {
                0..=2 => it.ask(peer),
                3 => it.offers.left(KEY, peer, it.now),
                4 | 5 => {
                    let helpers = helpers(1 + (region + n) % 5);
                    if it.offers.nominated(KEY, peer, &helpers) {
                        named.extend(helpers);
                    }
                }
                6 => it.offers.set_line(n % 2 == 0, it.now),
                7 if !out.is_empty() => {
                    let to = out.remove(0);
                    let reply = match n {
                        0 => Replied::Silent,
                        1 => Replied::Declined { retry: at(3) },
                        _ => Replied::Accepted,
                    };
                    it.offers.replied(KEY, to, reply, it.now);
                }
                _ => {
                    let is_saturated = it.offers.is_saturated(it.now);
                    let (asked, offers) = it.poll();
                    prop_assert!(is_saturated || asked.is_empty() && offers.is_empty());
                    for offer in offers {
                        prop_assert!(named.contains(&offer.to), "{:?}", offer.to);
                        prop_assert!(!out.contains(&offer.to));
                        prop_assert!(offer.asked >= 2 && !offer.ranges.is_empty());
                        out.push(offer.to);
                    }
                    prop_assert!(out.len() <= OffersConfig::default().outstanding_max);
                }
            }
        }
    }

    #[test]
    fn a_random_part_is_less_than_the_whole(millis in 1..100_000_u64, random: u64) {
        let span = Duration::from_millis(millis);
        prop_assert!(part_of(span, random) < span);
    }
}
