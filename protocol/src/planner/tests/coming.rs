//! Leaves that are coming to members, one rule at a time; [`crowd`](super::crowd) has them all at once.

use super::*;
use crate::exchange::COMING_LEAVES_MAX;

/// A fetcher with an owner A and a near member B, of which it knows nothing yet. `own` and `theirs` are
/// the keys.
fn beside_a_member(own: u64, theirs: u64) -> Planner {
    let mut planner = Planner::new(PlannerConfig {
        order: Order::Swarm { key: own },
        ..PlannerConfig::default()
    });
    planner.add_provider(A, ms(0)).unwrap();
    planner.add_member(B, theirs, ms(0)).unwrap();
    planner.set_near(B, true);
    planner
}

/// What the owner was asked for and has not sent.
fn asked(planner: &Planner) -> Vec<u64> {
    let mut asked = planner.coming();
    asked.sort_unstable();
    asked
}

fn says(planner: &mut Planner, coming: &[u64], at: u64) {
    planner.set_growing(B, LeafRanges::default(), coming, ms(at));
}

/// Keys of which the second has the greater claim on leaf 0, and those the other way round.
fn keys() -> [(u64, u64); 2] {
    let claim = |key| rank::claim_on(Part::Leaf(0), key);
    match claim(1) < claim(2) {
        true => [(1, 2), (2, 1)],
        false => [(2, 1), (1, 2)],
    }
}

#[test]
fn what_comes_to_a_near_member_is_left_to_it_for_a_while() {
    for (own, theirs) in keys() {
        let mut planner = beside_a_member(own, theirs);
        // What a far one said before does not count.
        let far = ProviderId(3);
        planner.add_member(far, 3, ms(0)).unwrap();
        planner.set_growing(far, LeafRanges::default(), &[0, 1, 2, 3], ms(0));
        says(&mut planner, &[0, 1], 0);
        want(&mut planner, 0..4, MIB);
        let _ = planner.poll(ms(0));
        assert_eq!(asked(&planner), [2, 3]);
        receive(&mut planner, A, 2, MIB, 500);
        receive(&mut planner, A, 3, MIB, 1_000);
        // Four times what the owner takes.
        let takes = planner.providers[&A].time_to_get(MIB, &planner.config);
        let until = u64::try_from(takes.as_millis()).unwrap() * 4;
        assert!(until > 1_000, "{takes:?}");
        check_poll(&mut planner, until - 1, &[]);
        let tick = planner.next_deadline();
        assert!(tick.is_some_and(|tick| tick <= ms(until + 99)), "{tick:?}");
        let _ = planner.poll(ms(until + 1));
        assert_eq!(asked(&planner), [0, 1]);
    }
}

#[test]
fn what_comes_to_nobody_any_more_is_asked_for() {
    let fresh = || {
        let mut planner = beside_a_member(1, 2);
        says(&mut planner, &[0], 0);
        want(&mut planner, 0..1, MIB);
        check_poll(&mut planner, 0, &[]);
        planner
    };
    let mut planner = fresh();
    says(&mut planner, &[], 1);
    check_poll(&mut planner, 1, &["1?[0]"]);
    let mut planner = fresh();
    planner.remove_provider(B, Removal::Lost, ms(1));
    check_poll(&mut planner, 1, &["1?[0]"]);
    let mut planner = fresh();
    planner.set_availability(B, Holdings::Nothing);
    check_poll(&mut planner, 1, &["1?[0]"]);
    let mut planner = fresh();
    planner.set_near(B, false);
    check_poll(&mut planner, 1, &["1?[0]"]);
}

#[test]
fn an_owner_of_which_nothing_is_known_is_not_idle_for_long() {
    let mut planner = beside_a_member(1, 2);
    says(&mut planner, &[0], 0);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 1_000, &[]);
    check_poll(&mut planner, 1_001, &["1?[0]"]);
}

#[test]
fn who_reads_in_order_waits_for_nobody() {
    let mut planner = with(&[A]);
    planner.add_member(B, 2, ms(0)).unwrap();
    planner.set_near(B, true);
    says(&mut planner, &[0, 1], 0);
    want(&mut planner, 0..2, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
}

#[test]
fn what_has_come_to_a_member_is_fetched_from_it() {
    let mut planner = beside_a_member(1, 2);
    says(&mut planner, &[0], 0);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &[]);
    planner.set_growing(B, LeafRanges::from_sorted([0]), &[1], ms(1));
    check_poll(&mut planner, 1, &["2?[0]"]);
}

#[test]
fn of_two_that_have_asked_the_one_with_the_greater_claim_goes_on() {
    let [lesser, greater] = keys();
    let mut planner = beside_a_member(lesser.0, lesser.1);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    says(&mut planner, &[0], 1);
    check_poll(&mut planner, 1, &["1-0"]);
    // Once.
    let _ = planner.poll(ms(60_000));
    assert_eq!(asked(&planner), [0]);
    says(&mut planner, &[], 60_001);
    says(&mut planner, &[0], 60_002);
    check_poll(&mut planner, 60_002, &[]);

    let mut planner = beside_a_member(greater.0, greater.1);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    says(&mut planner, &[0], 1);
    check_poll(&mut planner, 1, &[]);

    // What is here by half is not given up.
    let mut planner = beside_a_member(lesser.0, lesser.1);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    planner.progress(A, WantId(0), MIB / 2, ms(1));
    says(&mut planner, &[0], 2);
    check_poll(&mut planner, 2, &[]);

    // A near one with a lesser claim that has asked, too, does not make a far one a reason.
    let mut planner = beside_a_member(greater.0, greater.1);
    let far = ProviderId(3);
    let key = (3..)
        .find(|key| rank::claim_on(Part::Leaf(0), *key) > rank::claim_on(Part::Leaf(0), greater.0));
    planner.add_member(far, key.unwrap(), ms(0)).unwrap();
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    says(&mut planner, &[0], 1);
    planner.set_growing(far, LeafRanges::default(), &[0], ms(1));
    check_poll(&mut planner, 1, &[]);

    // A far one is no reason to give up anything, until it turns out to be near.
    let mut planner = beside_a_member(lesser.0, lesser.1);
    planner.set_near(B, false);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    says(&mut planner, &[0], 1);
    check_poll(&mut planner, 1, &[]);
    planner.set_near(B, true);
    check_poll(&mut planner, 1, &["1-0"]);
}

#[test]
fn others_are_told_what_owners_were_asked_for() {
    let mut planner = beside_a_member(1, 2);
    planner.set_growing(B, LeafRanges::from_sorted(4..6), &[], ms(0));
    want(&mut planner, 0..6, MIB);
    let _ = planner.poll(ms(0));
    assert_eq!(planner.wants_in_flight(), 4);
    let coming = planner.coming();
    assert_eq!(coming.len(), 2, "{coming:?}");
    assert!(coming.iter().all(|leaf| *leaf < 4), "{coming:?}");
    for leaf in coming {
        receive(&mut planner, A, leaf, MIB, 1);
    }
    assert_eq!(planner.coming(), [0; 0]);
}

#[test]
fn a_member_that_says_everything_is_coming_is_believed_of_some_leaves() {
    let mut planner = beside_a_member(1, 2);
    let all: Vec<u64> = (0..1_000).collect();
    says(&mut planner, &all, 0);
    want(&mut planner, 0..1_000, MIB);
    let _ = planner.poll(ms(0));
    assert_eq!(planner.wants_in_flight(), 2);
    assert!(planner.coming.len() <= COMING_LEAVES_MAX);
}

#[test]
fn one_that_only_says_what_comes_does_not_put_off() {
    let stalls = |coming: [&[u64]; 2]| {
        let mut planner = beside_a_member(1, 2);
        planner.set_growing(B, LeafRanges::from_sorted([0]), coming[0], ms(0));
        want(&mut planner, 0..1, MIB);
        check_poll(&mut planner, 0, &["2?[0]"]);
        planner.set_growing(B, LeafRanges::from_sorted([0]), coming[1], ms(100_000));
        planner.providers[&B].stalls_at()
    };
    let (same, other) = (stalls([&[7], &[7]]), stalls([&[7], &[8]]));
    assert!(same > other, "{same:?} {other:?}");
}
