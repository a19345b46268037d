//! What is offered without an ask of this node.

use super::*;

#[test]
fn offers_that_nobody_asked_for_keep_nobody_away_who_asks() {
    let mut it = helper();
    for n in 0..30_u8 {
        let accepted = it.offer_of(n.into(), key(n), file(1), 100).unwrap();
        it.pull(key(n), &accepted, file(1));
    }
    assert_eq!(it.offer_of(30, key(30), file(1), 100), Err(Why::Busy));
    it.ask(41, key(99), true);
    assert_eq!(it.ask(42, key(99), true), Said::Want);
}

#[test]
fn what_a_far_peer_offers_is_taken_only_if_somebody_near_has_asked() {
    let mut it = helper();
    let offer = |it: &mut Driver, n, key, is_near| {
        let shape = file(4);
        let offer = Offered {
            key,
            peer: PeerKey(n),
            by: elsewhere(n),
            is_near,
            stays: false,
            shape,
            ranges: LeafRanges::from_sorted(0..4),
            asked: 9,
        };
        let around = Around {
            table: &it.table,
            is_lan: false,
        };
        let accepted = it.helper.offered(&offer, around, NOW);
        it.helper.pull_ended(key, NOW);
        accepted.map(|it| it.runs).map_err(|it| it.0)
    };
    assert_eq!(offer(&mut it, 50, key(1), false), Err(Why::Unasked));
    assert_eq!(
        it.ask(1, key(1), true),
        no(Why::Demand),
        "one is not enough"
    );
    assert_eq!(
        offer(&mut it, 50, key(1), false),
        Ok(vec![0]),
        "but for this"
    );
    assert_eq!(offer(&mut it, 50, key(2), true), Ok(vec![0]), "a near one");
    let counters = it.helper.counters();
    assert_eq!((counters.offers_accepted, counters.asks_spent), (2, 0));
}

#[test]
fn who_offers_what_nobody_asks_for_is_believed_less() {
    let mut it = helper();
    let small = Shape {
        leaves: 1,
        size: 1000,
    };
    for n in 0..16 {
        let accepted = it.offer_of(500, key(n), small, 100).unwrap();
        it.pull(key(n), &accepted, small);
    }
    assert_eq!(it.offer_of(500, key(16), small, 100), Err(Why::Unasked));
    it.ask(1, key(5), true);
    assert!(it.offer_of(500, key(16), small, 100).is_ok());

    let mut offerers = offerers::Offerers::default();
    let day = Duration::from_hours(24);
    for n in 0..16 {
        assert_eq!(offerers.wait(1, NOW), Duration::ZERO);
        offerers.accepted(1, key(n), NOW);
    }
    assert_eq!(offerers.wait(1, NOW), day);
    assert_eq!(offerers.wait(2, NOW), Duration::ZERO, "another network");
    offerers.proved(key(3), 1);
    assert_eq!(offerers.wait(1, NOW), day, "its own asks prove nothing");
    offerers.proved(key(3), 2);
    assert_eq!(offerers.wait(1, NOW), Duration::ZERO);
    offerers.accepted(1, key(99), NOW);
    assert_eq!(offerers.wait(1, NOW + day / 2), day / 2);
    assert_eq!(
        offerers.wait(1, NOW + day),
        Duration::ZERO,
        "it is forgiven"
    );
}

#[test]
fn only_what_many_read_of_a_root_is_pulled() {
    // A node that is the first home, and has credit for all of it.
    let mut it = helper();
    let shape = Shape {
        leaves: 1024,
        size: 1024 * 1000,
    };
    let mut next = 1;
    let mut pull = |it: &mut Driver, ranges: LeafRanges| -> Result<Vec<u64>, Why> {
        let asks = (next..).take(10).find(|n| {
            let said = it.ask(*n, key(1), true);
            said == Said::Want || matches!(said, Said::Have { wants: true, .. })
        });
        let asker = asks.expect("two askers are enough");
        next = asker + 1;
        let offer = Offered {
            key: key(1),
            peer: PeerKey(asker),
            by: elsewhere(asker),
            is_near: true,
            stays: true,
            shape,
            ranges,
            asked: 1,
        };
        let around = Around {
            table: &it.table,
            is_lan: false,
        };
        let accepted = it.helper.offered(&offer, around, NOW).map_err(|it| it.0)?;
        it.pull(key(1), &accepted, shape);
        Ok(accepted.runs)
    };
    // Its stripe of two is every second run.
    let tenth: Vec<u64> = (0..32).step_by(2).collect();
    assert_eq!(pull(&mut it, shape.begun(102)), Ok(tenth));
    for _ in 0..8 {
        assert_eq!(
            pull(&mut it, shape.begun(102)),
            Err(Why::Place),
            "it is here"
        );
    }
    let whole = LeafRanges::from_sorted(0..1024);
    assert_eq!(pull(&mut it, whole.clone()), Err(Why::Place), "one of ten");
    let rest: Vec<u64> = (32..256).step_by(2).collect();
    let pulls = (0..8).map(|_| pull(&mut it, whole.clone()));
    let first = pulls.filter_map(Result::ok).next();
    assert_eq!(first, Some(rest), "once enough read on");
}
