//! The planner's rules, one by one; [`simulation`] has them all at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation
)]

mod audit;
mod behind;
mod coming;
mod crowd;
mod members;
mod simulation;
mod slow;
mod swarm;
mod tiers;

use super::*;
use crate::exchange::{LeafRanges, WANTS_OUTSTANDING_MAX, WANTS_PER_MESSAGE_MAX};

const MIB: u32 = 1 << 20;
const A: ProviderId = ProviderId(1);
const B: ProviderId = ProviderId(2);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A planner with providers, all added at time zero.
fn with(providers: &[ProviderId]) -> Planner {
    let mut planner = Planner::new(PlannerConfig::default());
    for id in providers {
        planner.add_provider(*id, ms(0)).unwrap();
    }
    planner
}

fn want(planner: &mut Planner, ids: std::ops::Range<u64>, len: u32) {
    for id in ids {
        assert!(
            planner.add_want(WantId(id), len, Part::Leaf(id)),
            "want {id}"
        );
    }
}

/// Polls, and writes the actions as text: `1?[0,1]` asks, `1-0` cancels, `1!Stalled` drops.
#[track_caller]
fn check_poll(planner: &mut Planner, at: u64, expected: &[&str]) {
    let actions: Vec<String> = planner
        .poll(ms(at))
        .iter()
        .map(|action| match action {
            Action::Want { provider, wants } => {
                let ids: Vec<String> = wants.iter().map(|want| want.0.to_string()).collect();
                format!("{}?[{}]", provider.0, ids.join(","))
            }
            Action::Cancel { provider, want } => format!("{}-{}", provider.0, want.0),
            Action::Drop { provider, blame } => format!("{}!{blame:?}", provider.0),
        })
        .collect();
    assert_eq!(actions, expected, "at {at} ms");
}

/// A block arrives and is what it should be.
#[track_caller]
fn receive(planner: &mut Planner, from: ProviderId, id: u64, bytes: u32, at: u64) {
    assert_eq!(
        planner.block_arrived(from, WantId(id), bytes, ms(at)),
        Arrival::Wanted
    );
    planner.block_verified(WantId(id));
}

#[test]
fn the_earliest_wants_go_first_in_batches_as_the_window_frees() {
    let mut planner = with(&[A]);
    want(&mut planner, 5..9, MIB);
    want(&mut planner, 0..2, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    check_poll(&mut planner, 1, &[]);
    receive(&mut planner, A, 0, MIB, 20);
    check_poll(&mut planner, 20, &["1?[5]"]);
    receive(&mut planner, A, 5, MIB, 40); // any order
    // 3 MiB in 60 ms, after 20 ms of round trip: a window of 4 MiB.
    receive(&mut planner, A, 1, MIB, 60);
    check_poll(&mut planner, 60, &["1?[6,7,8]"]);
}

#[test]
fn small_wants_go_by_the_message_and_by_the_stream() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..HORIZON_WANTS as u64, 1);
    let actions = planner.poll(ms(0));
    let lens: Vec<usize> = actions
        .iter()
        .map(|action| match action {
            Action::Want { wants, .. } => wants.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(
        lens, [WANTS_PER_MESSAGE_MAX; 8],
        "2 MiB of 1 KiB at least each"
    );
    // A fast provider gets as many as a stream may have, and no more.
    planner.progress(A, WantId(0), 1 << 30, ms(100));
    receive(&mut planner, A, 0, 1, 100);
    let _ = planner.poll(ms(101));
    assert_eq!(planner.wants_in_flight(), WANTS_OUTSTANDING_MAX);
    for id in 1..2_048 {
        receive(&mut planner, A, id, 1, 102);
    }
    check_poll(&mut planner, 102, &[]); // more than half of them are out
    receive(&mut planner, A, 2_048, 1, 103);
    let _ = planner.poll(ms(103));
    assert_eq!(planner.wants_in_flight(), WANTS_OUTSTANDING_MAX);
}

#[test]
fn the_horizon_is_limited_and_ids_are_unique() {
    let mut planner = with(&[]);
    want(&mut planner, 1..HORIZON_WANTS as u64 + 1, 1);
    assert_eq!(planner.room(), 0);
    assert!(!planner.add_want(WantId(0), 1, Part::Node), "full");
    planner.cancel_want(WantId(7));
    assert!(!planner.add_want(WantId(8), 1, Part::Node), "there already");
    assert!(planner.add_want(WantId(0), 1, Part::Node));
    assert_eq!(planner.wants_pending(), HORIZON_WANTS);
}

#[test]
fn the_fastest_gets_the_earliest_and_each_as_its_window_takes() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..4, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2,3]"]);
    receive(&mut planner, B, 2, MIB, 100);
    receive(&mut planner, A, 0, MIB, 200);
    receive(&mut planner, B, 3, MIB, 200);
    receive(&mut planner, A, 1, MIB, 400);
    want(&mut planner, 10..20, MIB);
    // B: 10 MiB/s and 100 ms; A: 5 MiB/s and 200 ms.
    check_poll(&mut planner, 400, &["1?[14,15,16,17]", "2?[10,11,12,13]"]);
}

#[test]
fn a_bad_block_drops_its_sender_at_once_and_for_good() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..3, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2]"]);
    assert_eq!(
        planner.block_arrived(A, WantId(0), MIB, ms(50)),
        Arrival::Wanted
    );
    planner.block_bad(A, WantId(0), ms(51));
    check_poll(&mut planner, 51, &["1!BadBlock", "2?[0]"]);
    assert_eq!(
        planner.add_provider(A, ms(60)),
        Err(Refused::Barred(Blame::BadBlock))
    );
    assert_eq!(
        planner.block_arrived(A, WantId(1), MIB, ms(61)),
        Arrival::Late
    );
    planner.block_bad(A, WantId(1), ms(62));
    check_poll(&mut planner, 62, &[]);
    receive(&mut planner, B, 2, MIB, 70);
    check_poll(&mut planner, 70, &["2?[1]"]);
}

#[test]
fn answers_are_wanted_late_or_unasked() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..3, 100);
    check_poll(&mut planner, 0, &["1?[0,1,2]"]);
    planner.cancel_want(WantId(0));
    planner.cancel_want(WantId(1));
    check_poll(&mut planner, 1, &["1-0", "1-1"]);
    assert_eq!(
        planner.block_arrived(A, WantId(0), 100, ms(2)),
        Arrival::Late
    );
    planner.block_missing(A, WantId(1), ms(2));
    assert_eq!(planner.status().totals.late_bytes, 100);
    receive(&mut planner, A, 2, 100, 3);
    check_poll(&mut planner, 3, &[]);
    for (unasked, at) in [(0, 4), (1, 5), (2, 6), (9, 7)] {
        let mut planner = with(&[A]);
        want(&mut planner, 0..3, 100);
        let _ = planner.poll(ms(0));
        receive(&mut planner, A, 2, 100, 3);
        planner.cancel_want(WantId(0));
        planner.cancel_want(WantId(1));
        let _ = planner.block_arrived(A, WantId(0), 100, ms(3));
        planner.block_missing(A, WantId(1), ms(3));
        let _ = planner.poll(ms(3));
        let arrival = planner.block_arrived(A, WantId(unasked), 100, ms(at));
        assert_eq!(
            arrival,
            Arrival::Unasked,
            "want {unasked}, answered or never asked"
        );
        check_poll(&mut planner, at, &["1!Unasked"]);
        assert_eq!(
            planner.add_provider(A, ms(at)),
            Err(Refused::Barred(Blame::Unasked))
        );
    }
}

#[test]
fn what_is_missing_is_asked_elsewhere_and_not_again() {
    let mut planner = with(&[A, B]);
    planner.set_availability(B, Holdings::Nothing);
    want(&mut planner, 0..2, 100);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    planner.block_missing(A, WantId(0), ms(1));
    check_poll(&mut planner, 1, &[]);
    assert_eq!(
        planner.status().progress,
        Progress::Hampered { unserved: 1 }
    );
    receive(&mut planner, A, 1, 100, 2);
    assert_eq!(planner.status().progress, Progress::Stalled { unserved: 1 });
    planner.set_availability(A, Holdings::Everything);
    check_poll(&mut planner, 3, &[]);
    planner.set_availability(B, Holdings::Everything);
    assert_eq!(planner.status().progress, Progress::Moving);
    check_poll(&mut planner, 4, &["2?[0]"]);
    receive(&mut planner, B, 0, 100, 5);
    assert_eq!(planner.status().progress, Progress::Done);
}

#[test]
fn a_provider_in_the_place_of_another_is_asked_what_that_one_lacked() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..1, 100);
    check_poll(&mut planner, 0, &["1?[0]"]);
    planner.block_missing(A, WantId(0), ms(1));
    planner.remove_provider(A, Removal::Gone, ms(2));
    planner.add_provider(B, ms(3)).unwrap();
    check_poll(&mut planner, 3, &["2?[0]"]);
}

#[test]
fn a_partial_provider_is_asked_for_its_leaves_and_for_nodes() {
    let mut planner = with(&[A]);
    planner.set_availability(
        A,
        Holdings::Leaves(LeafRanges::new(vec![1..3, 5..6]).unwrap()),
    );
    want(&mut planner, 0..7, 100);
    assert!(planner.add_want(WantId(7), 0, Part::Node));
    check_poll(&mut planner, 0, &["1?[1,2,5,7]"]);
    planner.set_availability(A, Holdings::Leaves(LeafRanges::from_sorted(0..6)));
    check_poll(&mut planner, 1, &["1?[0,3,4]"]);
    // A want that comes in under those that were passed over is seen, too.
    planner.cancel_want(WantId(3));
    assert!(planner.add_want(WantId(3), 100, Part::Leaf(0)));
    check_poll(&mut planner, 2, &["1-3", "1?[3]"]);
}

#[test]
fn a_silent_provider_is_dropped_and_may_come_back() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..2, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    receive(&mut planner, A, 0, MIB, 4_000);
    assert_eq!(planner.next_deadline(), Some(ms(14_000)));
    check_poll(&mut planner, 13_999, &[]);
    check_poll(&mut planner, 14_000, &["1!Stalled"]);
    assert_eq!(planner.status().progress, Progress::Stalled { unserved: 1 });
    planner.add_provider(A, ms(15_000)).unwrap();
    check_poll(&mut planner, 15_000, &["1?[1]"]);
}

#[test]
fn an_idle_provider_owes_nothing() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..2, MIB);
    let _ = planner.poll(ms(0));
    receive(&mut planner, A, 0, MIB, 100);
    planner.cancel_want(WantId(1));
    check_poll(&mut planner, 100, &["1-1"]);
    assert_eq!(planner.next_deadline(), None);
    check_poll(&mut planner, 60_000, &[]);
}

#[test]
fn an_overdue_want_moves_to_another_provider() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..2, 100);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    check_poll(&mut planner, 6_000, &[]); // there is no other
    planner.add_provider(B, ms(6_000)).unwrap();
    want(&mut planner, 2..4, 100);
    check_poll(&mut planner, 6_000, &["1-0", "1-1", "2?[0,1,2,3]"]);
    let status = planner.status();
    assert_eq!(
        status.providers[0].standing,
        Standing::Suspect { until: ms(11_000) }
    );
    assert_eq!(status.providers[0].tally.moved, 2);
    // That A has nothing in flight any more does not excuse it: it was silent for 6 s before.
    planner.remove_provider(B, Removal::Lost, ms(20_000));
    check_poll(&mut planner, 20_000, &["1?[0,1,2,3]"]);
    check_poll(&mut planner, 141_999, &[]);
    check_poll(&mut planner, 142_000, &["1!Stalled"]);
}

#[test]
fn a_moved_want_is_given_twice_the_time() {
    // Both are kept more than half full by one big want each: neither is idle.
    let mut planner = with(&[A, B]);
    planner.set_availability(A, Holdings::Leaves(LeafRanges::from_sorted([0, 2])));
    planner.set_availability(B, Holdings::Leaves(LeafRanges::from_sorted([1])));
    want(&mut planner, 0..1, 100);
    want(&mut planner, 1..2, MIB / 2 * 3);
    check_poll(&mut planner, 0, &["1?[0]", "2?[1]"]);
    planner.set_availability(B, Holdings::Leaves(LeafRanges::from_sorted([0, 1])));
    want(&mut planner, 2..3, MIB / 2 * 3);
    let lives = |planner: &mut Planner, at| {
        planner.progress(A, WantId(9), 40 * MIB, ms(at));
        planner.progress(B, WantId(9), 40 * MIB, ms(at));
    };
    lives(&mut planner, 4_000);
    check_poll(&mut planner, 5_000, &["1-0", "1?[2]", "2?[0]"]);
    lives(&mut planner, 9_000);
    check_poll(&mut planner, 10_000, &[]);
    lives(&mut planner, 14_000);
    check_poll(&mut planner, 14_999, &[]);
    check_poll(&mut planner, 15_000, &["2-0", "1?[0]"]);
}

#[test]
fn an_idle_provider_doubles_what_waits_at_a_slow_one() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..4, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2,3]"]);
    receive(&mut planner, B, 2, MIB, 100);
    receive(&mut planner, B, 3, MIB, 200);
    // B takes 100 ms for a round trip and as much for a chunk: 0.2 s for one, 0.3 s for two. A has
    // been silent for more than twice that at 0.4 s and 0.6 s.
    check_poll(&mut planner, 390, &[]);
    check_poll(&mut planner, 490, &["2?[0]"]);
    check_poll(&mut planner, 590, &[]);
    check_poll(&mut planner, 690, &["2?[1]"]);
    check_poll(&mut planner, 800, &[]); // no third request
    assert_eq!(planner.status().totals.doubled, 2);
    receive(&mut planner, B, 1, MIB, 400);
    receive(&mut planner, A, 0, MIB, 450);
    check_poll(&mut planner, 450, &["1-1", "2-0"]);
    assert_eq!(
        planner.block_arrived(B, WantId(0), MIB, ms(500)),
        Arrival::Late
    );
    assert!(planner.is_done());
}

#[test]
fn a_bad_double_leaves_the_other_request_alone() {
    for (liar, honest) in [(A, B), (B, A)] {
        let mut planner = with(&[A, B]);
        planner.set_availability(B, Holdings::Nothing);
        want(&mut planner, 0..1, MIB);
        check_poll(&mut planner, 0, &["1?[0]"]);
        planner.set_availability(B, Holdings::Everything);
        planner.progress(A, WantId(9), 100, ms(9_000)); // 11 B/s
        check_poll(&mut planner, 9_000, &["2?[0]"]);
        assert_eq!(
            planner.block_arrived(liar, WantId(0), MIB, ms(9_100)),
            Arrival::Wanted
        );
        planner.block_bad(liar, WantId(0), ms(9_100));
        let dropped = format!("{}!BadBlock", liar.0);
        check_poll(&mut planner, 9_100, &[&dropped]);
        receive(&mut planner, honest, 0, MIB, 9_200);
        assert!(planner.is_done());
    }
}

#[test]
fn a_busy_provider_rests_and_is_asked_again() {
    fn check(retry_after: Duration, wakes_at: u64) {
        let mut planner = with(&[A]);
        want(&mut planner, 0..1, 100);
        check_poll(&mut planner, 0, &["1?[0]"]);
        planner.remove_provider(A, Removal::Busy { retry_after }, ms(10));
        assert_eq!(
            planner.block_arrived(A, WantId(0), 100, ms(11)),
            Arrival::Late
        );
        check_poll(&mut planner, 11, &["1-0"]);
        assert_eq!(planner.next_deadline(), Some(ms(wakes_at)));
        check_poll(&mut planner, wakes_at - 1, &[]);
        check_poll(&mut planner, wakes_at, &["1?[0]"]);
    }
    check(ms(3_000), 3_010);
    check(ms(0), 110);
    check(Duration::MAX, 60_010);
}

#[test]
fn the_wants_of_a_lost_provider_queue_in_their_place() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..6, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2,3]"]);
    planner.remove_provider(A, Removal::Lost, ms(1));
    receive(&mut planner, B, 2, MIB, 60);
    check_poll(&mut planner, 60, &["2?[0,1]"]);
    planner.add_provider(A, ms(61)).unwrap();
    check_poll(&mut planner, 61, &["1?[4,5]"]);
}

#[test]
fn a_block_being_verified_outlives_its_provider() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    assert_eq!(
        planner.block_arrived(A, WantId(0), MIB, ms(50)),
        Arrival::Wanted
    );
    planner.remove_provider(A, Removal::Lost, ms(51));
    check_poll(&mut planner, 51, &[]);
    planner.block_bad(A, WantId(0), ms(52));
    check_poll(&mut planner, 52, &["2?[0]"]);
    assert_eq!(
        planner.add_provider(A, ms(53)),
        Err(Refused::Barred(Blame::BadBlock))
    );
}

#[test]
fn the_budget_limits_what_is_in_flight_and_being_verified() {
    let mut planner = with(&[A, B]);
    planner.budget(0);
    want(&mut planner, 0..4, MIB);
    check_poll(&mut planner, 0, &[]);
    planner.budget(10); // less than any block: one at a time
    check_poll(&mut planner, 1, &["1?[0]"]);
    check_poll(&mut planner, 2, &[]);
    planner.budget(3 << 20);
    check_poll(&mut planner, 3, &["1?[1]", "2?[2]"]);
    assert_eq!(
        planner.block_arrived(B, WantId(2), MIB, ms(60)),
        Arrival::Wanted
    );
    check_poll(&mut planner, 60, &[]);
    assert_eq!(planner.status().held_bytes, 3 << 20);
    planner.block_verified(WantId(2));
    check_poll(&mut planner, 61, &["2?[3]"]);
}

#[test]
fn a_want_can_be_cancelled_in_every_state() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..4, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    assert_eq!(
        planner.block_arrived(A, WantId(0), MIB, ms(5)),
        Arrival::Wanted
    );
    for id in 0..4 {
        planner.cancel_want(WantId(id));
    }
    check_poll(&mut planner, 6, &["1-1"]);
    assert!(planner.is_done());
    assert_eq!(planner.status().held_bytes, 0);
    assert_eq!(planner.status().providers[0].in_flight_bytes, 0);
    planner.block_verified(WantId(0));
    planner.cancel_want(WantId(0));
    check_poll(&mut planner, 7, &[]);
}

#[test]
fn a_verdict_on_a_cancelled_want_is_not_one_on_its_successor() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    assert_eq!(
        planner.block_arrived(A, WantId(0), MIB, ms(5)),
        Arrival::Wanted
    );
    planner.cancel_want(WantId(0));
    want(&mut planner, 0..1, MIB);
    planner.block_verified(WantId(0));
    assert!(!planner.is_done());
    check_poll(&mut planner, 6, &["1?[0]"]);
}

#[test]
fn providers_are_limited_and_a_place_is_used_again() {
    let all: Vec<ProviderId> = (0..PROVIDERS_MAX as u32).map(ProviderId).collect();
    let mut planner = with(&all);
    assert_eq!(
        planner.add_provider(ProviderId(5), ms(0)),
        Ok(()),
        "there already"
    );
    assert_eq!(
        planner.add_provider(ProviderId(1_000), ms(0)),
        Err(Refused::Full)
    );
    planner.remove_provider(ProviderId(63), Removal::Lost, ms(0));
    assert_eq!(planner.add_provider(ProviderId(1_000), ms(0)), Ok(()));
    for id in 2_000..2_000 + 2 * BARRED_MAX as u32 {
        planner.block_bad(ProviderId(id), WantId(0), ms(1));
    }
    assert_eq!(planner.barred.len(), BARRED_MAX);
}

#[test]
fn what_was_withdrawn_is_remembered_up_to_a_limit() {
    let mut planner = with(&[A]);
    for id in 0..WITHDRAWN_MAX as u64 + 1 {
        want(&mut planner, id..id + 1, 100);
        let _ = planner.poll(ms(id));
        planner.cancel_want(WantId(id));
    }
    for id in [1, WITHDRAWN_MAX as u64, 0, 77_777] {
        // Once one was forgotten, what is not known may be that one.
        assert_eq!(
            planner.block_arrived(A, WantId(id), 1, ms(9_999)),
            Arrival::Late,
            "{id}"
        );
    }
}

#[test]
fn time_does_not_run_backwards() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..1, 100);
    check_poll(&mut planner, 50_000, &["1?[0]"]);
    check_poll(&mut planner, 10, &[]);
    receive(&mut planner, A, 0, 100, 20);
    assert_eq!(planner.status().providers[0].rtt, Some(ms(0)));
}

#[test]
fn a_want_is_small() {
    assert!(
        size_of::<(WantId, Want)>() <= 120,
        "{}",
        size_of::<(WantId, Want)>()
    );
}
