//! Slow lines: who is silent for long, and whose block is coming in.

use super::*;
use crate::exchange::pace;

#[test]
fn a_trickle_is_life_from_the_least_rate_on() {
    fn check(bytes_per_second: u64, expected: &[&str]) {
        let mut planner = with(&[A]);
        want(&mut planner, 0..1, MIB);
        let _ = planner.poll(ms(0));
        let bytes = bytes_per_second as u32;
        let silence_max = pace::SILENCE_MAX.as_secs();
        for second in 1..silence_max {
            planner.progress(A, WantId(0), bytes, ms(1_000 * second));
            check_poll(&mut planner, 1_000 * second, &[]);
        }
        planner.progress(A, WantId(0), bytes, ms(1_000 * silence_max - 1));
        check_poll(&mut planner, 1_000 * silence_max, expected);
    }
    check(pace::RATE_MIN, &[]);
    check(pace::RATE_MIN - 1, &["1!Stalled"]);
}

#[test]
fn only_a_slow_line_explains_a_long_silence() {
    // 1 MiB in 100 s, then nothing: a queue of 1 MiB takes as long again.
    let mut planner = with(&[A]);
    want(&mut planner, 0..2, MIB);
    let _ = planner.poll(ms(0));
    receive(&mut planner, A, 0, MIB, 100_000);
    check_poll(&mut planner, 200_000, &[]);
    check_poll(&mut planner, 200_010, &["1!Stalled"]);
}

#[test]
fn what_comes_in_is_taken_over_and_not_doubled() {
    let mut planner = with(&[A, B]);
    planner.set_availability(A, Holdings::Leaves(LeafRanges::from_sorted([0])));
    planner.set_availability(B, Holdings::Leaves(LeafRanges::from_sorted([1])));
    want(&mut planner, 0..2, MIB);
    check_poll(&mut planner, 0, &["1?[0]", "2?[1]"]);
    let mut at = 0;
    let lives = |planner: &mut Planner, until: u64, at: &mut u64| {
        while *at < until {
            *at += 250;
            planner.progress(A, WantId(0), 3_000, ms(*at)); // 12 kB/s
            let _ = planner.poll(ms(*at));
        }
    };
    lives(&mut planner, 10_000, &mut at);
    planner.progress(B, WantId(1), MIB - 1, ms(10_000));
    receive(&mut planner, B, 1, MIB, 10_000);
    planner.set_availability(B, Holdings::Everything);
    // B takes 10 s for it, A 77 s yet: B is asked for the rest, and A not any more.
    check_poll(&mut planner, 10_250, &["1-0", "2?[0]"]);
    planner.resumes(B, WantId(0), 120_000);
    assert_eq!(planner.status().totals.doubled, 0);
    receive(&mut planner, B, 0, MIB, 20_000);
    assert!(planner.is_done());
    let status = &planner.status().providers[1];
    assert_eq!((status.in_flight, status.in_flight_bytes), (0, 0));
}

#[test]
fn of_what_comes_in_only_the_rest_counts() {
    // A carries 250 kB/s. B, which needs 1.5 s for a whole chunk, has something to do for so many quarters of a second.
    fn check(quarters: u64, expected: &[&str]) {
        let mut planner = with(&[A, B]);
        planner.set_availability(A, Holdings::Leaves(LeafRanges::from_sorted([0])));
        planner.set_availability(B, Holdings::Leaves(LeafRanges::from_sorted([1])));
        want(&mut planner, 0..2, MIB);
        check_poll(&mut planner, 0, &["1?[0]", "2?[1]"]);
        for quarter in 1..=quarters {
            planner.progress(A, WantId(0), 62_500, ms(250 * quarter));
            match quarter {
                1..6 => planner.progress(B, WantId(1), 175_000, ms(250 * quarter)),
                6 => receive(&mut planner, B, 1, MIB, 1_500),
                _ => {}
            }
            check_poll(&mut planner, 250 * quarter, &[]);
        }
        planner.set_availability(B, Holdings::Everything);
        check_poll(&mut planner, 250 * quarters + 100, expected);
    }
    check(6, &["1-0", "2?[0]"]); // 1.2 s, a round trip included, instead of 2.7 s
    check(14, &[]); // half a second instead of 0.6 s
}

#[test]
fn nobody_takes_over_what_is_there_as_soon() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..3, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2]"]);
    // Both lines carry 12 kB/s: B has nothing to do when A begins its second chunk.
    for quarter in 1..350 {
        let now = quarter * 250;
        planner.progress(A, WantId(0), 2_990, ms(now));
        planner.progress(B, WantId(2), 2_990, ms(now));
        check_poll(&mut planner, now, &[]);
    }
    receive(&mut planner, A, 0, MIB, 87_500);
    receive(&mut planner, B, 2, MIB, 87_500);
    for quarter in 351..700 {
        let now = quarter * 250;
        planner.progress(A, WantId(1), 2_990, ms(now));
        check_poll(&mut planner, now, &[]);
    }
    receive(&mut planner, A, 1, MIB, 175_000);
    assert!(planner.is_done());
}

#[test]
fn what_waits_behind_another_goes_to_whoever_has_nothing_to_do() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..2, MIB);
    want(&mut planner, 2..3, 100_000);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2]"]);
    // Both lines carry 5 kB/s: A needs 420 s for its two chunks, B 20 s for the end of the file.
    for second in 1..20 {
        planner.progress(A, WantId(0), 5_000, ms(1_000 * second));
        planner.progress(B, WantId(2), 5_000, ms(1_000 * second));
        check_poll(&mut planner, 1_000 * second, &[]);
    }
    receive(&mut planner, B, 2, 100_000, 20_000);
    check_poll(&mut planner, 20_000, &["1-1", "2?[1]"]);
    let status = planner.status();
    assert_eq!(
        (status.totals.doubled, status.providers[0].tally.moved),
        (0, 0)
    );
}

#[test]
fn who_has_not_begun_yet_is_not_the_faster_one() {
    const RECORD: u32 = 16 << 10;
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..2, MIB);
    want(&mut planner, 2..3, 100);
    want(&mut planner, 3..4, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2,3]"]);
    // Both lines carry 5 kB/s in records, and A's answer begins two records sooner: B has sent a
    // small block only, of which nobody can say how fast its line is.
    receive(&mut planner, B, 2, 100, 3_000);
    for record in 1..=60 {
        let now = 3_277 * record;
        planner.progress(A, WantId(0), RECORD, ms(now));
        check_poll(&mut planner, now, &[]);
        if record > 2 {
            planner.progress(B, WantId(3), RECORD, ms(now + 1_600));
        }
        check_poll(&mut planner, now + 1_600, &[]);
    }
    assert_eq!(planner.status().totals.doubled, 0);
}

#[test]
fn what_two_were_asked_for_stays_with_both_until_one_answers() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..1, MIB);
    want(&mut planner, 1..2, 350_000);
    check_poll(&mut planner, 0, &["1?[0,1]"]);
    // Nothing has come of either line; B has nothing to do.
    check_poll(&mut planner, 2_800, &["2?[1]"]);
    // A is busy with the first one, at 5 kB/s. B needs as long to begin as it does.
    for second in 3..9 {
        planner.progress(A, WantId(0), 5_000, ms(1_000 * second));
        check_poll(&mut planner, 1_000 * second, &[]);
    }
    for second in 9..78 {
        planner.progress(A, WantId(0), 5_000, ms(1_000 * second));
        planner.progress(B, WantId(1), 5_000, ms(1_000 * second));
        check_poll(&mut planner, 1_000 * second, &[]);
    }
    receive(&mut planner, B, 1, 350_000, 78_000);
    check_poll(&mut planner, 78_000, &["1-1"]);
}

#[test]
fn a_bad_block_of_several_senders_is_blamed_on_nobody() {
    let mut planner = with(&[A]);
    want(&mut planner, 0..1, MIB);
    check_poll(&mut planner, 0, &["1?[0]"]);
    planner.resumes(A, WantId(0), MIB / 2);
    assert_eq!(
        planner.block_arrived(A, WantId(0), MIB, ms(5)),
        Arrival::Wanted
    );
    planner.block_unproven(A, WantId(0), ms(6));
    assert_eq!(planner.status().held_bytes, 0);
    check_poll(&mut planner, 6, &["1?[0]"]);
    receive(&mut planner, A, 0, MIB, 9);
    assert!(planner.is_done());
}
