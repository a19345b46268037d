//! More comes in than the disk takes.

use super::*;

#[test]
fn nothing_is_asked_for_while_the_disk_is_behind() {
    let mut planner = Planner::new(PlannerConfig {
        verifying_bytes: 2 << 20,
        verifying_part: 4,
        ..PlannerConfig::default()
    });
    planner.add_provider(A, ms(0)).unwrap();
    want(&mut planner, 0..128, MIB);
    // Blocks come and wait to be written until nothing more is asked for.
    let waiting = |planner: &mut Planner, at| {
        let mut waiting = Vec::new();
        let mut asked = planner.poll(ms(at));
        while let Some(Action::Want { wants, .. }) = asked.pop() {
            for id in wants {
                let arrival = planner.block_arrived(A, id, MIB, ms(at));
                assert_eq!(arrival, Arrival::Wanted);
                waiting.push(id);
                asked.extend(planner.poll(ms(at)));
            }
        }
        waiting
    };
    let first = waiting(&mut planner, 0);
    assert_eq!(first.len(), 4, "two in flight when a third waits");
    for id in first {
        planner.block_verified(id);
    }
    let mut verified = 4;
    while verified < 40 {
        for id in waiting(&mut planner, 1) {
            planner.block_verified(id);
            verified += 1;
        }
    }
    let last = waiting(&mut planner, 2).len();
    assert!(
        (verified / 4 + 1..=verified / 4 + 3).contains(&last),
        "{last}"
    );
}

#[test]
fn nobody_is_relieved_while_the_disk_is_behind() {
    let mut planner = with(&[A, B]);
    want(&mut planner, 0..8, MIB);
    check_poll(&mut planner, 0, &["1?[0,1]", "2?[2,3]"]);
    let arrive = |planner: &mut Planner, ids: &[u64]| {
        for id in ids {
            let arrival = planner.block_arrived(A, WantId(*id), MIB, ms(100));
            assert_eq!(arrival, Arrival::Wanted, "{id}");
        }
    };
    arrive(&mut planner, &[0, 1]);
    check_poll(&mut planner, 100, &["1?[4,5,6,7]"]);
    arrive(&mut planner, &[4, 5, 6, 7]);
    // A has nothing to do, and B is slow, but six chunks wait to be written.
    check_poll(&mut planner, 3000, &[]);
    planner.block_verified(WantId(0));
    planner.block_verified(WantId(1));
    check_poll(&mut planner, 3001, &["1?[2,3]"]);
}
