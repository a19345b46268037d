//! Who is asked before whom, one rule at a time; [`crowd`](super::crowd) has them all at once.

use super::*;

const C: ProviderId = ProviderId(3);

fn leaves(leaves: impl IntoIterator<Item = u64>) -> Holdings {
    Holdings::Leaves(LeafRanges::from_sorted(leaves))
}

/// An owner A, a near holder B of everything, and a far one, C.
fn near_and_far(config: PlannerConfig) -> Planner {
    let mut planner = Planner::new(config);
    for id in [A, B, C] {
        planner.add_provider(id, ms(0)).unwrap();
    }
    planner.classify(B, Class::Holder);
    planner.classify(C, Class::Holder);
    planner.set_near(B, true);
    planner
}

#[test]
fn a_near_copy_is_one_that_is_whole_near_and_stays() {
    let mut planner = near_and_far(PlannerConfig::default());
    assert!(planner.has_near_copy());
    planner.set_availability(B, leaves(0..1));
    assert!(!planner.has_near_copy(), "it has a part");
    planner.set_availability(B, Holdings::Everything);
    planner.set_near(B, false);
    assert!(!planner.has_near_copy(), "it is far");
    planner.set_near(A, true);
    assert!(!planner.has_near_copy(), "an owner is spared");
}

#[test]
fn a_near_holder_is_asked_before_others_and_for_all_while_it_delivers() {
    for order in [Order::ById, Order::Swarm { key: 9 }] {
        let mut planner = near_and_far(PlannerConfig {
            order,
            ..PlannerConfig::default()
        });
        want(&mut planner, 0..12, MIB);
        let mut at = 0;
        while !planner.is_done() {
            for action in planner.poll(ms(at)) {
                let Action::Want { provider, wants } = action else {
                    panic!("{action:?}");
                };
                assert_eq!(provider, B, "at {at} ms");
                for id in wants {
                    at += 100;
                    receive(&mut planner, B, id.0, MIB, at);
                }
            }
        }
    }
}

#[test]
fn a_near_holder_that_is_silent_holds_nobody_back_for_long() {
    let mut planner = near_and_far(PlannerConfig::default());
    want(&mut planner, 0..6, MIB);
    check_poll(&mut planner, 0, &["2?[0,1]"]);
    check_poll(&mut planner, 1_000, &[]);
    check_poll(&mut planner, 1_001, &["3?[2,3]"]);
    check_poll(&mut planner, 2_001, &[]);
    check_poll(&mut planner, 2_002, &["1?[4,5]"]);
    let tick = planner.next_deadline();
    assert!(tick.is_some_and(|tick| tick <= ms(2_102)), "{tick:?}");
}

/// C sends 10 MiB/s: it is worth asking where B is slow, unless that is never to be.
#[test]
fn a_far_holder_is_asked_where_it_is_four_times_as_fast() {
    let check = |strict, millis, expected: &[&str]| {
        let mut planner = near_and_far(PlannerConfig {
            strict,
            ..PlannerConfig::default()
        });
        planner.remove_provider(A, Removal::Lost, ms(0));
        planner.set_availability(C, leaves(0..1));
        want(&mut planner, 1..2, MIB);
        check_poll(&mut planner, 0, &["2?[1]"]);
        receive(&mut planner, B, 1, MIB, millis);
        planner.set_availability(B, leaves(1..9));
        want(&mut planner, 0..1, MIB);
        check_poll(&mut planner, millis, &["3?[0]"]);
        receive(&mut planner, C, 0, MIB, millis + 100);
        planner.set_availability(C, Holdings::Everything);
        want(&mut planner, 3..7, MIB);
        check_poll(&mut planner, millis + 100, expected);
    };
    // C takes 0.2 s for a leaf, as it stands; B takes 9 s each.
    check(false, 9_000, &["2?[3,4]", "3?[5,6]"]);
    check(true, 9_000, &["2?[3,4]"]);
    // B takes 0.1 s each.
    check(false, 50, &["2?[3,4,5,6]"]);
}

#[test]
fn nothing_is_left_to_a_holder_but_what_it_has() {
    let mut planner = Planner::new(PlannerConfig {
        order: Order::Swarm { key: 1 },
        ..PlannerConfig::default()
    });
    planner.add_provider(A, ms(0)).unwrap();
    want(&mut planner, 100..101, MIB);
    check_poll(&mut planner, 0, &["1?[100]"]);
    receive(&mut planner, A, 100, MIB, 1_000);
    for (id, class) in [(B, Class::Holder), (C, Class::Member { key: 2 })] {
        planner.add_provider(id, ms(1_000)).unwrap();
        planner.classify(id, class);
        planner.set_availability(id, leaves(0..4));
    }
    planner.remove_provider(C, Removal::Lost, ms(1_000));
    assert!(planner.members.is_empty());
    // All that the holder lacks is asked of the owner in its turn: nobody else will have it.
    want(&mut planner, 8..24, MIB);
    let mut at = 1_000;
    while !planner.is_done() {
        for action in planner.poll(ms(at)) {
            let Action::Want { provider, wants } = action else {
                panic!("{action:?}");
            };
            assert_eq!(provider, A);
            for id in wants {
                at += 10;
                receive(&mut planner, A, id.0, MIB, at);
            }
        }
    }
}

#[test]
fn a_near_holder_that_comes_late_takes_over_from_the_owner() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..2, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    planner.progress(A, WantId(0), 100_000, ms(200)); // 500 kB/s
    planner.add_provider(B, ms(200)).unwrap();
    planner.classify(B, Class::Holder);
    planner.set_near(B, true);
    // It has to deliver something first.
    check_poll(&mut planner, 200, &[]);
    want(&mut planner, 2..3, MIB);
    check_poll(&mut planner, 201, &["2?[2]"]);
    receive(&mut planner, B, 2, MIB, 301);
    check_poll(&mut planner, 310, &["1-1", "1-0", "2?[1,0]"]);
    planner.resumes(B, WantId(0), 100_000);
    let status = planner.status();
    assert_eq!(
        status.providers[0].standing,
        Standing::Ready,
        "the owner did nothing wrong"
    );
    assert_eq!(status.totals.doubled, 0);
    // It is taken over once.
    planner.block_missing(B, WantId(0), ms(311));
    check_poll(&mut planner, 312, &["1?[0]"]);
    receive(&mut planner, B, 1, MIB, 400);
    check_poll(&mut planner, 500, &[]);
}

/// A, near, carries so many bytes a second; what waits behind its first chunk comes in twice its time. B and C
/// are far.
fn near_one_is_late(rate: u32, strict: bool) -> Planner {
    let mut planner = Planner::new(PlannerConfig {
        strict,
        ..PlannerConfig::default()
    });
    for id in [A, B, C] {
        planner.add_provider(id, ms(0)).unwrap();
        planner.classify(id, Class::Holder);
        planner.set_near(id, id == A);
    }
    want(&mut planner, 0..2, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    for tenth in 1..=5 {
        planner.progress(A, WantId(0), rate / 10, ms(100 * tenth));
    }
    planner
}

#[test]
fn a_far_holder_is_tried_where_near_ones_are_late() {
    let check = |rate: u32, strict: bool, expected: &[&str]| {
        check_poll(&mut near_one_is_late(rate, strict), 500, expected);
    };
    check(600_000, false, &["1-1", "2?[1]"]);
    check(600_000, true, &[]);
    check(1_200_000, false, &[]); // 1.3 s
}

#[test]
fn a_far_holder_that_is_tried_in_vain_keeps_nothing_from_coming() {
    let mut planner = near_one_is_late(600_000, false);
    check_poll(&mut planner, 500, &["1-1", "2?[1]"]);
    receive(&mut planner, A, 0, MIB, 1_750);
    check_poll(&mut planner, 1_750, &["2-1", "1?[1]"]);
    assert_eq!(planner.status().totals.doubled, 0);
}

#[test]
fn what_is_another_fetchers_gives_way_to_what_is_ones_own() {
    let mut planner = Planner::new(PlannerConfig {
        order: Order::Swarm { key: 1 },
        ..PlannerConfig::default()
    });
    planner.add_provider(A, ms(0)).unwrap();
    want(&mut planner, 0..64, MIB);
    let asked = |actions: Vec<Action>| -> (usize, Vec<WantId>) {
        let (mut taken_back, mut asked) = (0, Vec::new());
        for action in actions {
            match action {
                Action::Cancel { .. } => taken_back += 1,
                Action::Want { wants, .. } => asked.extend(wants),
                Action::Drop { .. } => panic!("{action:?}"),
            }
        }
        (taken_back, asked)
    };
    assert_eq!(asked(planner.poll(ms(0))).1.len(), 2);
    for key in 2..200 {
        planner.add_member(B, key, ms(1)).unwrap();
        planner.set_near(B, true);
        let (taken_back, again) = asked(planner.poll(ms(1)));
        assert_eq!(taken_back, again.len());
        assert!(again.iter().all(|id| planner.wants[id].rank.home == 0));
        assert_eq!(planner.wants_in_flight(), 2);
        planner.remove_provider(B, Removal::Lost, ms(1));
        let _ = planner.poll(ms(1));
    }
}

#[test]
fn a_leaf_of_unknown_number_is_asked_for_on_the_chance() {
    let mut planner = with(&[B]);
    planner.classify(B, Class::Holder);
    planner.set_availability(B, leaves(0..8));
    for id in 0..100 {
        assert!(planner.add_want(WantId(id), 100, Part::Unnumbered));
    }
    check_poll(&mut planner, 0, &["2?[0,1]"]);
    receive(&mut planner, B, 0, 100, 1);
    receive(&mut planner, B, 1, 100, 2);
    check_poll(&mut planner, 2, &["2?[2,3,4,5,6,7,8,9]"]);
    for id in 2..10 {
        planner.block_missing(B, WantId(id), ms(3));
    }
    let mut at = 3;
    for id in 10..18 {
        check_poll(&mut planner, at, &[&format!("2?[{id}]")]);
        at += 1;
        planner.block_missing(B, WantId(id), ms(at));
    }
    // Sixteen in a row: it is left alone, and nothing is held against it.
    check_poll(&mut planner, at, &[]);
    let status = planner.status();
    assert_eq!(status.providers[0].standing, Standing::Ready);
    assert_eq!(status.providers[0].tally.missing, 0);
    assert_eq!(status.progress, Progress::Stalled { unserved: 98 });
    planner.set_availability(B, leaves(0..9));
    check_poll(&mut planner, at, &["2?[18,19]"]);
    planner.set_availability(B, Holdings::Everything);
    assert_eq!(planner.status().progress, Progress::Moving);
}
