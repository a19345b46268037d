//! Partial holders, one rule at a time; [`swarm`](super::swarm) has them all at once.

use super::*;

/// A planner of the fetcher with key 1, with a source A.
fn in_swarm() -> Planner {
    let mut planner = Planner::new(PlannerConfig {
        order: Order::Swarm { key: 1 },
        ..PlannerConfig::default()
    });
    planner.add_provider(A, ms(0)).unwrap();
    planner
}

fn leaves(leaves: impl IntoIterator<Item = u64>) -> Holdings {
    Holdings::Leaves(LeafRanges::from_sorted(leaves))
}

/// What is asked of a provider now.
fn asked_of(planner: &mut Planner, at: u64, of: ProviderId) -> Vec<u64> {
    let actions = planner.poll(ms(at));
    let wants = actions.iter().filter_map(|action| match action {
        Action::Want { provider, wants } if *provider == of => Some(wants),
        _ => None,
    });
    let mut asked: Vec<u64> = wants.flatten().map(|want| want.0).collect();
    asked.sort_unstable();
    asked
}

#[test]
fn a_member_is_asked_for_what_it_has_and_the_source_for_the_rest() {
    let mut planner = in_swarm();
    planner.add_member(B, 2, ms(0)).unwrap();
    planner.set_availability(B, leaves(0..2));
    want(&mut planner, 0..4, MIB);
    let actions = planner.poll(ms(0));
    assert_eq!(actions.len(), 2, "{actions:?}");
    let mut planner = in_swarm();
    planner.add_member(B, 2, ms(0)).unwrap();
    planner.set_availability(B, leaves(0..2));
    want(&mut planner, 0..4, MIB);
    assert_eq!(asked_of(&mut planner, 0, B), [0, 1]);
    assert_eq!(
        planner.wants_in_flight(),
        4,
        "2 and 3 are on their way from A"
    );
}

#[test]
fn who_has_no_leaf_is_not_asked_for_nodes_either() {
    let mut planner = Planner::new(PlannerConfig::default());
    planner.add_member(B, 2, ms(0)).unwrap();
    assert!(planner.add_want(WantId(0), 0, Part::Node));
    assert!(planner.add_want(WantId(1), 100, Part::Unnumbered));
    check_poll(&mut planner, 0, &[]);
    // Which number the leaf has is not known: it is asked for on the chance.
    planner.set_availability(B, leaves([7]));
    check_poll(&mut planner, 1, &["2?[0,1]"]);
}

#[test]
fn what_a_member_lacked_it_is_asked_for_again_when_it_has_everything() {
    let mut planner = Planner::new(PlannerConfig::default());
    planner.add_member(B, 2, ms(0)).unwrap();
    planner.set_availability(B, leaves(0..2));
    want(&mut planner, 0..1, 100);
    check_poll(&mut planner, 0, &["2?[0]"]);
    planner.block_missing(B, WantId(0), ms(1));
    planner.set_availability(B, leaves(0..3));
    check_poll(&mut planner, 2, &[]);
    planner.set_availability(B, Holdings::Everything);
    check_poll(&mut planner, 3, &["2?[0]"]);
}

#[test]
fn who_says_it_has_what_it_has_not_rests_and_is_tried_with_one_want() {
    let max = PlannerConfig::default().missing_in_row_max;
    let mut planner = with(&[]);
    planner.add_member(B, 2, ms(0)).unwrap();
    planner.set_availability(B, leaves(0..1_000));
    want(&mut planner, 0..1_000, 100);
    let _ = planner.poll(ms(0));
    for id in 0..u64::from(max) {
        planner.block_missing(B, WantId(id), ms(1));
    }
    let standing = |planner: &Planner| planner.status().providers[0].standing;
    let rests = Standing::Resting { until: ms(5_001) };
    assert_eq!(standing(&planner), rests);
    assert_eq!(
        planner.wants_in_flight(),
        0,
        "its other requests were taken back"
    );
    let _ = planner.poll(ms(5_000));
    assert_eq!(planner.wants_in_flight(), 0);
    let probe = asked_of(&mut planner, 5_001, B);
    assert_eq!((probe.len(), standing(&planner)), (1, Standing::Probing));
    // The probe fails: twice as long. The next one does not: all is as before.
    planner.block_missing(B, WantId(probe[0]), ms(5_002));
    assert_eq!(standing(&planner), Standing::Resting { until: ms(15_002) });
    let probe = asked_of(&mut planner, 15_002, B);
    receive(&mut planner, B, probe[0], 100, 15_003);
    assert_eq!(standing(&planner), Standing::Ready);
    assert!(asked_of(&mut planner, 15_004, B).len() > 100);
}

#[test]
fn a_block_now_and_then_keeps_an_honest_holder_of_gaps() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..1_000, 100);
    let _ = planner.poll(ms(0));
    for id in 0..900 {
        match id % 4 {
            0 => receive(&mut planner, A, id, 100, 1),
            _ => planner.block_missing(A, WantId(id), ms(1)),
        }
        let _ = planner.poll(ms(1));
    }
    assert_eq!(planner.status().providers[0].standing, Standing::Ready);
}

#[test]
fn a_source_is_not_asked_for_what_a_fast_member_has() {
    let mut planner = in_swarm();
    want(&mut planner, 0..2, MIB);
    let _ = planner.poll(ms(0));
    for id in 0..2 {
        receive(&mut planner, A, id, MIB, 1_000 * (id + 1)); // 1 MiB/s
    }
    planner.add_member(B, 2, ms(2_000)).unwrap();
    planner.set_availability(B, leaves(0..8));
    want(&mut planner, 4..6, MIB);
    assert_eq!(asked_of(&mut planner, 2_000, B), [4, 5]);
    for id in 4..6 {
        receive(&mut planner, B, id, MIB, 2_050 + 50 * (id - 4)); // 20 MiB/s
    }
    want(&mut planner, 6..8, MIB);
    check_poll(&mut planner, 2_101, &["2?[6,7]"]);
    // B has more than it sends soon: now A helps.
    planner.set_availability(B, leaves(0..1_000));
    want(&mut planner, 100..400, MIB);
    assert!(!asked_of(&mut planner, 2_102, A).is_empty());
}
