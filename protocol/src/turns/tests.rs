#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use proptest::prelude::*;

use super::*;
use crate::address::HashFn;

fn block(number: u8) -> Digest {
    Digest::of(HashFn::Blake3, &[number])
}

fn blocks(numbers: &[u8]) -> Vec<Digest> {
    numbers.iter().copied().map(block).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Turns on a line of this rate with so many readers, each of a peer of its own, whose wants are
/// these.
fn turns(rate: Option<u64>, wants: &[&[u8]]) -> Turns {
    let mut turns = Turns::new(TurnsConfig::default());
    turns.set_rate(rate);
    for (id, wants) in (0..).zip(wants) {
        turns.join(ReaderId(id), PeerKey(id), secs(0));
        turns.wait(ReaderId(id), blocks(wants), secs(0));
    }
    turns
}

fn begun(turns: &mut Turns, now: Duration) -> Vec<(u64, Digest)> {
    let begun = turns.serve(now).into_iter();
    begun.map(|(id, block)| (id.0, block)).collect()
}

#[test]
fn a_slow_line_sends_one_block_at_a_time_and_each_to_somebody_else() {
    let wants: [&[u8]; 3] = [&[0, 1], &[0, 1], &[0, 1]];
    let mut turns = turns(Some(100_000), &wants);
    assert_eq!(begun(&mut turns, secs(0)), [(0, block(0))]);
    turns.moved(ReaderId(0), 1 << 20, secs(10));
    assert_eq!(begun(&mut turns, secs(10)), []);
    turns.done(ReaderId(0), secs(10));
    // 0 is on its way to the others by its first receiver: now it is 1's turn, for another reader.
    turns.wait(ReaderId(0), blocks(&[1]), secs(10));
    assert_eq!(begun(&mut turns, secs(10)), [(1, block(1))]);
    turns.moved(ReaderId(1), 1 << 20, secs(20));
    turns.done(ReaderId(1), secs(20));
    // Nothing that was not sent before is left, but what reader 0 has had is not lent for ever.
    assert_eq!(begun(&mut turns, secs(20)), []);
    assert_eq!(turns.next_turn(), Some(secs(23)));
    assert_eq!(begun(&mut turns, secs(23)), [(2, block(0))]);
}

#[test]
fn a_copy_is_passed_on_to_one_after_another_without_a_pause() {
    let wants: [&[u8]; 3] = [&[0], &[0], &[0, 1]];
    let mut turns = turns(None, &wants);
    (0..3).for_each(|id| turns.serves_copy(ReaderId(id)));
    assert_eq!(begun(&mut turns, secs(0)), [(0, block(0)), (2, block(1))]);
    turns.done(ReaderId(2), secs(1));
    turns.wait(ReaderId(2), blocks(&[0]), secs(1));
    assert_eq!(begun(&mut turns, secs(1)), [], "0 is under way");
    turns.moved(ReaderId(0), 1 << 20, secs(2));
    turns.done(ReaderId(0), secs(2));
    assert_eq!(begun(&mut turns, secs(2)), [(1, block(0))]);
    turns.done(ReaderId(1), secs(3));
    assert_eq!(begun(&mut turns, secs(3)), [(2, block(0))]);
}

#[test]
fn without_a_known_rate_every_other_block_goes_out_at_once() {
    let wants: [&[u8]; 4] = [&[0, 1], &[3, 2], &[3, 2], &[3, 2]];
    let mut turns = turns(None, &wants);
    let expected = [(0, block(0)), (1, block(3)), (2, block(2))];
    assert_eq!(begun(&mut turns, secs(0)), expected);
    assert_eq!(
        turns.next_turn(),
        Some(secs(3)),
        "then it is seen who moves"
    );
    for reader in 0..3 {
        turns.moved(ReaderId(reader), 75_000, secs(3));
    }
    assert_eq!(begun(&mut turns, secs(3)), [], "3 and 2 are under way");
    // The receiver of 3 takes nothing more: it holds nothing back any more.
    for reader in [0, 2] {
        turns.moved(ReaderId(reader), 75_000, secs(6));
    }
    assert_eq!(begun(&mut turns, secs(6)), [(3, block(3))]);
}

#[test]
fn a_block_that_went_out_without_a_turn_is_held_back_all_the_same() {
    let mut turns = turns(None, &[&[], &[0, 1]]);
    turns.begin(ReaderId(0), block(0), secs(0));
    assert_eq!(begun(&mut turns, secs(0)), [(1, block(1))]);
}

#[test]
fn a_reader_that_does_not_take_its_share_loses_the_turn() {
    let wants: [&[u8]; 2] = [&[0], &[1]];
    let mut turns = turns(Some(100_000), &wants);
    assert_eq!(begun(&mut turns, secs(0)), [(0, block(0))]);
    assert_eq!(begun(&mut turns, secs(2)), []);
    turns.moved(ReaderId(0), 3 * 40_000, secs(3));
    assert_eq!(begun(&mut turns, secs(3)), [(1, block(1))]);
}

#[test]
fn a_reader_that_was_left_without_for_long_gets_what_it_wants() {
    let wants: [&[u8]; 2] = [&[0], &[0]];
    let mut turns = turns(None, &wants);
    assert_eq!(begun(&mut turns, secs(0)), [(0, block(0))]);
    for at in (3..90).step_by(3) {
        turns.moved(ReaderId(0), 15_000, secs(at));
        assert_eq!(begun(&mut turns, secs(at)), [], "{at}");
    }
    assert_eq!(begun(&mut turns, secs(90)), [(1, block(0))]);
}

#[test]
fn a_starving_reader_comes_before_those_whose_blocks_were_sent_less_often() {
    let wants: [&[u8]; 3] = [&[0], &[0], &[]];
    let mut turns = turns(Some(100_000), &wants);
    assert_eq!(begun(&mut turns, secs(0)), [(0, block(0))]);
    turns.done(ReaderId(0), secs(1));
    // From then on, somebody always wants what nobody has had.
    for at in 1..90 {
        turns.wait(ReaderId(2), blocks(&[at]), secs(at.into()));
        let began = begun(&mut turns, secs(at.into()));
        assert_eq!(began, [(2, block(at))]);
        turns.done(ReaderId(2), secs(at.into()));
    }
    turns.wait(ReaderId(2), blocks(&[90]), secs(90));
    assert_eq!(begun(&mut turns, secs(90)), [(1, block(0))]);
}

#[test]
fn what_ends_without_a_block_counts_for_nothing() {
    let wants: [&[u8]; 2] = [&[0], &[0]];
    let mut turns = turns(Some(100_000), &wants);
    assert_eq!(begun(&mut turns, secs(0)), [(0, block(0))]);
    turns.leave(ReaderId(0), secs(1));
    assert_eq!(begun(&mut turns, secs(1)), [(1, block(0))]);
    turns.withdraw(ReaderId(1), secs(2));
    assert_eq!(begun(&mut turns, secs(200)), []);
    assert_eq!(turns.next_turn(), None);
}

#[test]
fn one_peer_is_not_kept_from_a_block_by_itself() {
    let mut turns = Turns::new(TurnsConfig::default());
    for id in 0..2 {
        turns.join(ReaderId(id), PeerKey(7), secs(0));
        turns.wait(ReaderId(id), blocks(&[0]), secs(0));
    }
    assert_eq!(begun(&mut turns, secs(0)).len(), 2);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut turns = turns(Some(100_000), &[&[]]);
    for number in 0..2 * SENT_MAX as u64 {
        let block = Digest::of(HashFn::Blake3, &number.to_be_bytes());
        turns.wait(ReaderId(0), [block], secs(number));
        assert_eq!(turns.serve(secs(number)), [(ReaderId(0), block)]);
        turns.done(ReaderId(0), secs(number));
    }
    assert_eq!(turns.sent.len(), SENT_MAX);
}

proptest! {
    /// Whatever the readers do: nobody who waits is left without a block for ever, and a line is
    /// never idle while a block could go out.
    #[test]
    fn nobody_waits_for_ever(
        rate in prop_oneof![Just(None), (20_000_u64..1_000_000).prop_map(Some)],
        wants in prop::collection::vec(prop::collection::vec(0_u8..6, 1..6), 1..8),
        paces in prop::collection::vec(0_u64..200_000, 8),
    ) {
        let wants: Vec<&[u8]> = wants.iter().map(Vec::as_slice).collect();
        let mut turns = turns(rate, &wants);
        let mut receiving = vec![0_u64; wants.len()];
        let mut served = vec![false; wants.len()];
        for at in 0..2_000 {
            for (id, _) in begun(&mut turns, secs(at)) {
                served[id as usize] = true;
                receiving[id as usize] = 1 << 20;
            }
            let receives = receiving.iter().any(|left| *left > 0);
            prop_assert!(receives || served.iter().all(|it| *it) || turns.next_turn().is_some());
            for (id, left) in (0..).zip(&mut receiving) {
                let moved = paces[id as usize].min(*left);
                turns.moved(ReaderId(id), moved, secs(at));
                *left -= moved;
                if moved > 0 && *left == 0 {
                    turns.done(ReaderId(id), secs(at));
                }
            }
        }
        prop_assert!(served.iter().all(|it| *it), "{served:?}");
    }
}
