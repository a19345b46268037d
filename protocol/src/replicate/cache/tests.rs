#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::paper::Paper;
use super::*;

const UNIT: u64 = RUN_BYTES_MIN;
const MIB: u64 = 1 << 20;

fn key(n: u64) -> Key {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&super::super::asker::mix(n + 1).to_le_bytes());
    Key(bytes)
}

fn id(n: u64) -> RunId {
    RunId {
        key: key(n),
        run: 0,
    }
}

fn mark(who: u32, group: u32) -> Mark {
    Mark { who, group }
}

/// From the head of a queue on, as the paper's transcription says it.
fn queue(cache: &Cache, queue: &BTreeMap<u64, RunId>, names: &BTreeMap<RunId, u64>) -> Vec<u64> {
    let name = |it: &RunId| names[it];
    assert!(queue.values().all(|it| cache.standing(*it).is_some()));
    queue.values().rev().map(name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Random traces, half of them skewed, against the paper's own algorithm.
    #[test]
    fn agrees_with_the_paper(
        size in 1..60_usize,
        trace in proptest::collection::vec((0..100_u64, any::<bool>()), 1..1500),
    ) {
        let mut paper = Paper::new(size);
        let mut cache = Cache::new(size as u64 * UNIT);
        let names = (0..100).map(|n| (id(n), n)).collect();
        let mut reader = 0;
        for (n, is_skewed) in trace {
            let n = if is_skewed { n * n / 400 } else { n };
            // Every read is another reader's, for the paper knows no readers.
            reader += 1;
            let is_hit = paper.read(n);
            prop_assert_eq!(cache.standing(id(n)).is_some(), is_hit);
            if is_hit {
                prop_assert!(cache.read(id(n), mark(reader, reader), Duration::ZERO));
            } else {
                cache.insert(id(n), UNIT, &[], Duration::ZERO).unwrap();
            }
            let (small, main) = paper.queues();
            prop_assert_eq!(queue(&cache, &cache.small, &names), small);
            prop_assert_eq!(queue(&cache, &cache.main, &names), main);
        }
    }

    /// Whatever is done, what is held fits the quota, the books add up, and the changes tell all.
    #[test]
    fn quota_and_books_hold(
        quota in 0..40 * MIB,
        steps in proptest::collection::vec((0..9_u8, 0..30_u64, 0..4_u64, 1..5 * MIB, 0..6_u32), 1..400),
    ) {
        let mut cache = Cache::new(quota);
        let mut rows = BTreeMap::new();
        for (step, n, run, bytes, who) in steps {
            let id = RunId { key: key(n), run };
            let changes = match step {
                0..3 => {
                    let causes = [mark(who, who), mark(who + 1, who / 2)];
                    let done = cache.insert(id, bytes, &causes, Duration::ZERO);
                    if done.is_ok() {
                        rows.insert(id, bytes);
                    }
                    done.unwrap_or_default()
                }
                3 => cache.insert_nodes(key(n), bytes / 50).unwrap_or_default(),
                4 | 5 => {
                    cache.read(id, mark(who, who), Duration::ZERO);
                    Vec::new()
                }
                6 => cache.remove_root(key(n)),
                7 => cache.release(bytes),
                _ => cache.set_quota(quota / 2 + bytes),
            };
            for change in changes {
                if let Change::Gone { run, .. } = change {
                    prop_assert!(rows.remove(&run).is_some());
                }
            }
            prop_assert!(cache.used() <= cache.quota());
            let held: Vec<_> = cache.runs.keys().copied().collect();
            prop_assert_eq!(held, rows.keys().copied().collect::<Vec<_>>());
            let runs: u64 = cache.runs.values().map(|it| weight(it.standing.bytes)).sum();
            let nodes: u64 = cache.roots.values().map(|it| it.node_bytes).sum();
            prop_assert_eq!(cache.used(), runs + nodes);
            prop_assert_eq!(cache.small.len() + cache.main.len(), cache.len());
        }
    }

    #[test]
    fn a_restart_changes_no_order(trace in proptest::collection::vec((0..60_u64, 0..9_u32), 1..400)) {
        let mut cache = Cache::new(20 * UNIT);
        for (n, reader) in &trace {
            cache.insert(id(*n), UNIT, &[], Duration::ZERO).unwrap();
            cache.read(id(*n), mark(*reader, 0), Duration::ZERO);
        }
        let mut again = Cache::new(20 * UNIT);
        for (run, slot) in cache.runs.iter().rev() {
            again.restore(*run, slot.standing);
        }
        again.set_quota(20 * UNIT);
        let order = |cache: &Cache| (cache.small.values().copied().collect::<Vec<_>>(), cache.main.values().copied().collect::<Vec<_>>());
        prop_assert_eq!(order(&again), order(&cache));
        prop_assert_eq!(again.used(), cache.used());
        let mut next = |it: u64| {
            let both = [&mut cache, &mut again].map(|cache| cache.insert(id(it), UNIT, &[], Duration::ZERO).unwrap());
            (both[0].clone(), both[1].clone())
        };
        for n in 100..130 {
            let (one, other) = next(n);
            prop_assert_eq!(one, other, "what goes next is the same");
        }
    }
}

#[test]
fn only_distinct_readers_that_did_not_cause_the_pull_count() {
    let mut cache = Cache::new(10 * UNIT);
    cache
        .insert(id(1), UNIT, &[mark(1, 1), mark(2, 2)], Duration::ZERO)
        .unwrap();
    let mut read = |who| cache.read(id(1), mark(who, who), Duration::ZERO);
    assert_eq!(
        [1, 2, 3, 3, 4, 3, 5, 6].map(&mut read),
        [false, false, true, false, true, false, true, true]
    );
    assert_eq!(cache.standing(id(1)).unwrap().reads, 3);
    assert!(
        !cache.read(id(2), mark(9, 9), Duration::ZERO),
        "it is not held"
    );
}

#[test]
fn one_cause_has_a_tenth_of_the_quota_and_pushes_out_its_own() {
    let quota = 200 * MIB;
    let mut cache = Cache::new(quota);
    for n in 0..40 {
        let honest = mark(
            100 + u32::try_from(n).unwrap(),
            100 + u32::try_from(n).unwrap(),
        );
        cache
            .insert(id(n), 4 * MIB, &[honest], Duration::ZERO)
            .unwrap();
    }
    let greedy = [mark(1, 7), mark(2, 7)];
    for n in 1000..1100 {
        for change in cache
            .insert(id(n), 4 * MIB, &greedy, Duration::ZERO)
            .unwrap()
        {
            let Change::Gone { run, why, .. } = change else {
                continue;
            };
            assert!(
                why == Why::Owner && (1000..1100).any(|it| id(it) == run),
                "{change:?}"
            );
        }
    }
    let has = (1000..1100)
        .filter(|n| cache.standing(id(*n)).is_some())
        .count();
    assert_eq!(has, 5, "20 MiB of 200");
    assert!((0..40).all(|n| cache.standing(id(n)).is_some()));
}

#[test]
fn however_small_the_quota_a_cause_has_one_run() {
    let mut cache = Cache::new(5 * MIB);
    for n in 0..3 {
        cache
            .insert(id(n), 4 * MIB, &[mark(1, 1)], Duration::ZERO)
            .unwrap();
        assert!(cache.standing(id(n)).is_some());
        assert_eq!(cache.len(), 1);
    }
    assert_eq!(
        cache.insert(id(9), 6 * MIB, &[], Duration::ZERO),
        Err(NoRoom { bytes: 6 * MIB })
    );
    assert_eq!(cache.len(), 1, "what does not fit pushes nothing out");
}

#[test]
fn nodes_are_held_with_their_runs() {
    let mut cache = Cache::new(10 * MIB);
    cache.insert_nodes(key(1), MIB).unwrap();
    assert_eq!(cache.used(), MIB);
    assert_eq!(
        cache.settle(key(1)),
        [Change::RootGone(key(1))],
        "no run came"
    );
    cache.insert_nodes(key(1), MIB).unwrap();
    cache.insert(id(1), 4 * MIB, &[], Duration::ZERO).unwrap();
    assert!(cache.settle(key(1)).is_empty());
    let gone = Change::Gone {
        run: id(1),
        bytes: 4 * MIB,
        why: Why::Space,
    };
    assert_eq!(cache.release(1), [gone, Change::RootGone(key(1))]);
    assert_eq!(cache.used(), 0);
    assert_eq!(
        cache.insert_nodes(key(1), 11 * MIB),
        Err(NoRoom { bytes: 11 * MIB })
    );
}

#[test]
fn what_nobody_reads_for_a_week_goes() {
    let day = |n: u64| Duration::from_hours(24 * n);
    let mut cache = Cache::new(10 * MIB);
    cache.insert(id(1), MIB, &[], day(0)).unwrap();
    cache.insert(id(2), MIB, &[], day(0)).unwrap();
    cache.read(id(2), mark(1, 1), day(3));
    assert!(cache.expire(day(6)).is_empty());
    let gone = |n| Change::Gone {
        run: id(n),
        bytes: MIB,
        why: Why::Unread,
    };
    assert_eq!(cache.expire(day(7)), [gone(1), Change::RootGone(key(1))]);
    assert_eq!(cache.expire(day(10)), [gone(2), Change::RootGone(key(2))]);
}

#[test]
fn a_lower_quota_holds_at_once() {
    let mut cache = Cache::new(10 * MIB);
    for n in 0..10 {
        cache.insert(id(n), MIB, &[], Duration::ZERO).unwrap();
    }
    cache.set_quota(3 * MIB);
    assert_eq!((cache.len(), cache.used()), (3, 3 * MIB));
    cache.set_quota(0);
    assert!(cache.is_empty());
    assert_eq!(
        cache.insert(id(1), 1, &[], Duration::ZERO),
        Err(NoRoom { bytes: 1 })
    );
}
