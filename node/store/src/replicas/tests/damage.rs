//! Bytes that are not what they were, files that are gone, and a database that refuses.

use std::os::unix::fs::FileExt;

use shoal_protocol::replicate::cache::Why;

use super::*;
use crate::tests::site::Site;

/// Damages a byte of where a block lies.
fn damage(kit: &Kit, root: &Root, block: &Block) {
    let name = shoal_protocol::replicate::seal::block_name(&root.digest(), &block.0);
    let prefix = rows::block_all(&name);
    let inner = &kit.replicas.inner;
    let mut scan = inner
        .store
        .inner
        .scan(crate::layout::Family::Replicas, &prefix);
    let (_, row) = scan.next().unwrap().unwrap();
    let row: rows::BlockRow = crate::rows::decode(row).unwrap();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(inner.files.path(row.slab))
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, row.offset.into()).unwrap();
    file.write_all_at(&[!byte[0]], row.offset.into()).unwrap();
}

fn scrub(kit: &Kit) -> (u64, u64) {
    let (mut at, mut steps, mut damaged) = (None, 0, 0);
    while let Some(step) = kit.replicas.scrub(at).unwrap() {
        (at, steps) = (Some(step.position), steps + 1);
        damaged += u64::from(step.is_damaged);
    }
    (steps, damaged)
}

#[test]
fn a_damaged_leaf_is_never_handed_out_and_goes_with_its_run() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let root = Root::new("film", 12);
        kit.pull(&root);
        damage(&kit, &root, &root.leaves[5]);
        kit.told();
        assert_eq!(kit.read(&root, &root.leaves[5]), None);
        assert_eq!(kit.runs(&root), [0, 2]);
        let gone = ReplicaEvent::Gone {
            key: root.key(),
            run: 1,
            bytes: RUN_BYTES,
            why: Why::Dropped,
        };
        assert_eq!(kit.told(), [gone]);
        assert_eq!(kit.replicas.stats().damaged, 1);
        kit.check_disk();
    });
}

#[test]
fn a_damaged_node_takes_its_root_along() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let root = Root::new("film", 12);
        kit.pull(&root);
        damage(&kit, &root, &root.nodes[2]);
        assert_eq!(kit.read(&root, &root.nodes[2]), None);
        assert!(kit.runs(&root).is_empty());
        let last = kit.told().pop();
        assert_eq!(last, Some(ReplicaEvent::RootGone { key: root.key() }));
        kit.check_disk();
    });
}

#[test]
fn a_scrub_finds_damage_that_nobody_read() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let (leaf, node) = (Root::new("leaf", 12), Root::new("node", 4));
        kit.pull(&leaf);
        kit.pull(&node);
        assert_eq!(scrub(&kit), (6, 0), "four runs and two pieces of nodes");
        // What was read once is not hashed again by reads.
        assert!(kit.read(&leaf, &leaf.leaves[0]).is_some());
        damage(&kit, &leaf, &leaf.leaves[0]);
        damage(&kit, &node, &node.nodes[0]);
        assert_eq!(scrub(&kit).1, 2);
        assert_eq!(kit.runs(&leaf), [1, 2]);
        assert!(kit.runs(&node).is_empty());
        assert_eq!(scrub(&kit), (3, 0));
        kit.check_disk();
    });
}

#[test]
fn slabs_that_are_gone_or_short_take_their_rows_along() {
    Site::each(|site| {
        let root = Root::new("film", 8);
        let ways: [&dyn Fn(&Path); 2] = [
            &|slab: &Path| fs::remove_file(slab).unwrap(),
            &|slab: &Path| {
                let file = fs::File::options().write(true).open(slab).unwrap();
                file.set_len(5000).unwrap();
            },
        ];
        for damage in ways {
            let store = site.open();
            let kit = Kit::open(&store, 1 << 30);
            kit.pull(&root);
            let slab = kit.replicas.inner.files.path(0);
            drop(kit);
            damage(&slab);
            let kit = Kit::open(&store, 1 << 30);
            assert!(kit.runs(&root).is_empty());
            kit.check_disk();
            // And while it runs.
            kit.pull(&root);
            ways[1](&slab);
            for block in root.leaves.iter().chain(&root.nodes) {
                assert_eq!(kit.read(&root, block), None);
            }
            assert!(kit.runs(&root).is_empty());
            kit.check_disk();
        }
    });
}

#[test]
fn bytes_that_no_row_names_are_punched_out() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 1 << 30);
        let root = Root::new("film", 4);
        kit.pull(&root);
        let files = &kit.replicas.inner.files;
        let (slab, other) = (files.path(0), files.path(7));
        fs::copy(&slab, &other).unwrap();
        drop(kit);
        let file = fs::File::options().write(true).open(&slab).unwrap();
        file.write_all_at(&vec![7; 1 << 20], 32 << 20).unwrap();
        let kit = Kit::open(&store, 1 << 30);
        assert!(!other.exists());
        assert_eq!(kit.runs(&root), [0]);
        kit.check_disk();
    });
}

#[test]
fn a_database_that_refuses_keeps_nothing_half_done() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 4 * RUN_BYTES);
        let (first, second) = (Root::new("first", 8), Root::new("second", 8));
        kit.pull(&first);
        let runs = kit.offer(&second);
        kit.nodes(&second).unwrap();
        store.refuse_writes(true);
        assert!(kit.run(&second, runs[0]).is_err());
        assert!(kit.replicas.drop_root(first.key(), NOW).is_err());
        assert!(kit.runs(&first).is_empty(), "it is not read any more");
        store.refuse_writes(false);
        // What the first call could not write down is done by the next.
        kit.replicas.end_pull(&second.digest(), NOW).unwrap();
        kit.check_disk();
        assert!(kit.replicas.list().is_empty());
        kit.pull(&first);
        assert_eq!(kit.runs(&first), [0, 1]);
        kit.check_disk();
    });
}
