//! What comes in, is read, goes and comes back after a restart.

use shoal_protocol::replicate::Why as Declined;
use shoal_protocol::replicate::cache::Why;

use super::*;
use crate::tests::site::{self, Site};
use crate::{BlockKind, ReadError};

#[test]
fn what_is_pulled_is_read_by_who_brings_the_root() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 1 << 30);
        let root = Root::new("film", 10);
        kit.pull(&root);
        assert_eq!(kit.runs(&root), [0, 1, 2]);
        for node in &root.nodes {
            assert_eq!(kit.read(&root, node).as_ref(), Some(&node.1));
        }
        let found = |block: &Block| kit.replicas.find(&root.digest(), &block.0).unwrap();
        let node = found(&root.nodes[1]).unwrap();
        assert_eq!((node.kind, node.run), (BlockKind::Node, None));
        let leaf = found(&root.leaves[9]).unwrap();
        assert_eq!((leaf.kind, leaf.run), (BlockKind::Chunk, Some(2)));
        assert_eq!((leaf.key, leaf.block_bytes), (root.key(), LEAF_BYTES));

        let other = Root::new("other", 1).digest();
        let mut out = vec![1];
        let read = kit
            .replicas
            .read(&other, &root.leaves[0].0, Cut::WHOLE, &mut out);
        assert!(matches!(read, Err(ReadError::NotHere)), "by another root");
        assert!(out.is_empty());
        kit.check_disk();
    });
}

#[test]
fn parts_of_a_block_are_those_of_the_whole() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let root = Root::new("film", 2);
        kit.pull(&root);
        let (digest, content) = &root.leaves[1];
        let cuts = [(0, 10), (LEAF_BYTES - 3, 10), (LEAF_BYTES, 1), (777, 5000)];
        // The first read hashes the whole block, the others read the part alone.
        for (offset, bytes_max) in cuts.into_iter().chain([(usize::MAX, usize::MAX)]) {
            let cut = Cut { offset, bytes_max };
            let mut out = Vec::new();
            let read = kit.replicas.read(&root.digest(), digest, cut, &mut out);
            assert_eq!(read.unwrap().block_bytes, LEAF_BYTES);
            let start = offset.min(LEAF_BYTES);
            let end = start.saturating_add(bytes_max).min(LEAF_BYTES);
            assert!(out == content[start..end], "{cut:?}");
        }
    });
}

#[test]
fn a_block_that_repeats_goes_with_its_last_run() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let mut root = Root::new("zeros", 9);
        root.leaves = vec![root.leaves[0].clone(); 9];
        let runs = kit.offer(&root);
        kit.nodes(&root).unwrap();
        for run in runs {
            kit.run(&root, run).unwrap();
        }
        for left in [2, 1, 0] {
            assert!(kit.read(&root, &root.leaves[0]).is_some(), "{left} runs");
            let run = kit.replicas.find(&root.digest(), &root.leaves[0].0);
            let run = run.unwrap().unwrap().run.unwrap();
            let mut writer = kit.replicas.inner.writer();
            let id = RunId {
                key: root.key(),
                run,
            };
            let changes = kit.replicas.inner.helper().run_lost(id);
            kit.replicas.inner.follow(&mut writer, changes).unwrap();
        }
        assert!(kit.read(&root, &root.leaves[0]).is_none());
        kit.replicas.end_pull(&root.digest(), NOW).unwrap();
        kit.check_disk();
    });
}

#[test]
fn what_was_not_to_come_is_not_kept() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 4 * RUN_BYTES);
        let root = Root::new("film", 10);
        let check = |what: &str, came: Result<(), AdmitError>, expected: Declined| match came {
            Err(AdmitError::Declined(why)) => assert_eq!(why, expected, "{what}"),
            other => panic!("{what}: {other:?}"),
        };
        check("nobody asked", kit.run(&root, 0), Declined::Unasked);
        check("nobody asked", kit.nodes(&root), Declined::Unasked);
        kit.offer(&root);
        kit.nodes(&root).unwrap();
        kit.run(&root, 0).unwrap();
        check("it came before", kit.run(&root, 0), Declined::Unasked);
        let short = &root.run(1)[1..];
        let came = kit.replicas.admit_run(&root.digest(), 1, short, NOW);
        check("a leaf is missing", came, Declined::Untrue);
        let long = vec![0; 3 << 20];
        let came = kit
            .replicas
            .admit_nodes(&root.digest(), &[(root.digest(), &long)], NOW);
        check("longer than a block", came, Declined::Untrue);
        check("no such run", kit.run(&root, 3), Declined::Untrue);
        kit.replicas.end_pull(&root.digest(), NOW).unwrap();
        check("the pull has ended", kit.run(&root, 1), Declined::Unasked);
        assert_eq!(kit.runs(&root), [0]);

        let none = Root::new("nothing came", 10);
        kit.offer(&none);
        kit.nodes(&none).unwrap();
        kit.replicas.end_pull(&none.digest(), NOW).unwrap();
        assert!(kit.read(&none, &none.nodes[0]).is_none());
        assert_eq!(kit.replicas.list().len(), 1);
        kit.check_disk();
    });
}

#[test]
fn others_make_room_and_that_is_told() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 5 * RUN_BYTES);
        let roots: Vec<_> = (0..6).map(|n| Root::new(&n.to_string(), 8)).collect();
        for root in &roots {
            kit.pull(root);
            kit.check_disk();
            assert!(on_disk(kit.replicas.folder()) <= 5 * RUN_BYTES);
        }
        let held: Vec<_> = roots.iter().map(|root| kit.runs(root).len()).collect();
        assert_eq!(held, [0, 0, 0, 0, 2, 2]);
        let told = kit.told();
        let first = roots[0].key();
        let of_first: Vec<_> = told
            .iter()
            .filter(|event| match event {
                ReplicaEvent::Admitted { key, .. }
                | ReplicaEvent::Gone { key, .. }
                | ReplicaEvent::RootGone { key } => *key == first,
            })
            .collect();
        let (bytes, why, cause) = (RUN_BYTES, Why::Space, Cause::Near);
        let admitted = |run| ReplicaEvent::Admitted {
            key: first,
            run,
            bytes,
            cause,
        };
        let gone = |run| ReplicaEvent::Gone {
            key: first,
            run,
            bytes,
            why,
        };
        let all = [admitted(0), admitted(1), gone(0), gone(1)];
        let expected: Vec<_> = all
            .into_iter()
            .chain([ReplicaEvent::RootGone { key: first }])
            .collect();
        assert_eq!(of_first, expected.iter().collect::<Vec<_>>());
        let stats = kit.replicas.stats();
        assert_eq!((stats.roots, stats.runs, stats.admitted_runs), (2, 4, 12));
        assert_eq!(stats.gone[&Why::Space], 8);
    });
}

#[test]
fn a_person_drops_one_or_all_and_the_space_is_free() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 1 << 30);
        let roots = ["a", "b", "c"].map(|name| Root::new(name, 8));
        for root in &roots {
            kit.pull(root);
        }
        let freed = kit.replicas.drop_root(roots[1].key(), NOW).unwrap();
        assert!(freed >= 2 * RUN_BYTES, "{freed}");
        assert!(kit.runs(&roots[1]).is_empty());
        assert_eq!(kit.runs(&roots[2]).len(), 2);
        kit.check_disk();
        assert_eq!(kit.replicas.drop_root(roots[1].key(), NOW).unwrap(), 0);

        // One that is being pulled, too.
        let coming = Root::new("coming", 8);
        kit.offer(&coming);
        kit.nodes(&coming).unwrap();
        kit.replicas.drop_all(NOW).unwrap();
        assert_eq!(on_disk(kit.replicas.folder()), 0);
        assert!(kit.run(&coming, 0).is_err(), "its pull has ended");
        kit.check_disk();
        drop(kit);
        let left = site::rows(&store);
        assert!(left.iter().all(|(family, ..)| *family != "replicas"));
    });
}

#[test]
fn a_denied_root_is_gone_and_never_comes_again() {
    Site::each(|site| {
        let root = Root::new("film", 8);
        for is_first in [true, false] {
            let store = site.open();
            let kit = Kit::open(&store, 1 << 30);
            if is_first {
                kit.pull(&root);
                kit.replicas.deny(&root.digest(), NOW).unwrap();
            }
            assert!(kit.runs(&root).is_empty());
            assert_eq!(kit.try_offer(&root).unwrap_err().0, Declined::Refused);
            kit.pull(&Root::new(&format!("another, {is_first}"), 2));
        }
    });
}

#[test]
fn a_quota_below_what_is_held_takes_effect_at_once() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 1 << 30);
        let roots = ["a", "b", "c"].map(|name| Root::new(name, 8));
        for root in &roots {
            kit.pull(root);
        }
        kit.replicas.set_quota(3 * RUN_BYTES).unwrap();
        kit.check_disk();
        assert_eq!(kit.runs(&roots[2]).len(), 2, "the last ones stay");
        drop(kit);
        let kit = Kit::open(&store, RUN_BYTES + 64 * KIB as u64);
        kit.check_disk();
        assert_eq!(kit.runs(&roots[2]), [1]);
        kit.replicas.set_quota(0).unwrap();
        kit.check_disk();
        assert_eq!(on_disk(kit.replicas.folder()), 0);
        assert_eq!(kit.replicas.free_bytes(), 0);
    });
}

#[test]
fn a_restart_keeps_what_is_held_and_its_order() {
    Site::each(|site| {
        let roots: Vec<_> = (0..12).map(|n| Root::new(&n.to_string(), 4)).collect();
        let trace = |restarts: bool| {
            let mut store = site.open();
            let mut kit = Kit::open(&store, 5 * RUN_BYTES);
            kit.replicas.drop_all(NOW).unwrap();
            let mut held = Vec::new();
            for (n, root) in roots.iter().enumerate() {
                kit.pull(root);
                if n % 3 == 0 {
                    kit.readers(root, 0, 3);
                }
                if restarts {
                    kit.replicas.flush().unwrap();
                    let before = kit.replicas.list();
                    drop((kit, store));
                    store = site.open();
                    kit = Kit::open(&store, 5 * RUN_BYTES);
                    assert_eq!(kit.replicas.list(), before);
                }
                held.push(
                    kit.replicas
                        .list()
                        .iter()
                        .map(|it| it.key)
                        .collect::<BTreeSet<_>>(),
                );
            }
            held
        };
        let (without, with) = (trace(false), trace(true));
        assert_eq!(without, with);
        let read = keys(&[&roots[3], &roots[6], &roots[9]]);
        assert!(with.last().unwrap().is_superset(&read), "those were read");
    });
}

#[test]
fn holdings_come_in_pages() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let roots: Vec<_> = (0..5).map(|n| Root::new(&n.to_string(), 5)).collect();
        for root in &roots {
            kit.pull(root);
        }
        let mut seen = BTreeSet::new();
        let mut after = None;
        loop {
            let page = kit.replicas.holdings(after, 2);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            assert!(page.len() <= 2 && page.iter().all(|it| it.1.leaves() == 5));
            seen.extend(page.iter().map(|it| it.0));
        }
        assert_eq!(seen, keys(&roots.iter().collect::<Vec<_>>()));
    });
}
