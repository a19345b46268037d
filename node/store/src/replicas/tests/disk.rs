//! The space of the disk, and reads while others come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::*;
use crate::tests::site::Site;

#[test]
fn a_disk_below_its_floor_takes_nothing_in_and_gets_its_space_back() {
    Site::each(|site| {
        let store = site.open();
        let kit = Kit::open(&store, 1 << 30);
        let root = Root::new("film", 8);
        kit.pull(&root);
        assert_eq!(kit.replicas.keep_floor().unwrap(), 0);
        drop(kit);
        let floor = Some(u64::MAX >> 1);
        let config = ReplicaConfig {
            floor,
            ..config(1 << 30)
        };
        let kit = Kit::configured(&store, config);
        let more = Root::new("more", 8);
        kit.offer(&more);
        assert!(matches!(kit.nodes(&more), Err(AdmitError::Floor)));
        assert!(matches!(kit.run(&more, 0), Err(AdmitError::Floor)));
        kit.replicas.end_pull(&more.digest(), NOW).unwrap();
        assert_eq!(kit.runs(&root), [0, 1]);
        assert!(kit.replicas.keep_floor().unwrap() >= 2 * RUN_BYTES);
        assert!(kit.runs(&root).is_empty());
        kit.check_disk();
        assert_eq!(kit.replicas.stats().floor, u64::MAX >> 1);
    });
}

#[test]
fn replicas_yield_to_the_users_data_on_their_disk_only() {
    Site::each(|site| {
        let kit = Kit::open(&site.open(), 1 << 30);
        let roots: Vec<_> = (0..4).map(|n| Root::new(&n.to_string(), 8)).collect();
        for root in &roots {
            kit.pull(root);
        }
        let far = 1 << 60;
        let elsewhere = Path::new("/proc/self/nothing");
        assert_eq!(kit.replicas.make_room(elsewhere, far).unwrap(), 0);
        assert_eq!(kit.replicas.yielding(elsewhere).unwrap(), 0);
        let here = site.home().join("not/there/yet");
        assert_eq!(kit.replicas.make_room(&here, 1).unwrap(), 0, "it fits");
        let inner = &kit.replicas.inner;
        let freed = inner.release(&mut inner.writer(), RUN_BYTES + 1).unwrap();
        assert!((RUN_BYTES + 1..3 * RUN_BYTES).contains(&freed), "{freed}");
        assert!(kit.runs(&roots[0]).is_empty(), "the first ones go first");
        assert_eq!(kit.runs(&roots[1]), [0, 1]);
        let yielding = kit.replicas.yielding(&here).unwrap();
        assert!(yielding > 0);
        assert!(kit.replicas.make_room(&here, far).unwrap() >= yielding);
        assert_eq!(kit.replicas.yielding(&here).unwrap(), 0);
        assert!(kit.replicas.list().is_empty());
        kit.check_disk();
    });
}

/// What readers get is what they asked for, however fast slabs are written over.
#[test]
fn no_reader_gets_the_bytes_of_another_root() {
    Site::each(|site| {
        let kit = &Kit::open(&site.open(), 3 * RUN_BYTES);
        let roots: Vec<_> = (0..6).map(|n| Root::new(&n.to_string(), 8)).collect();
        let (roots, is_over, hits) = (&roots, &AtomicBool::new(false), &AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Relaxed) {
                        for root in roots {
                            for block in root.leaves.iter().chain(&root.nodes) {
                                let found = kit.read(root, block);
                                hits.fetch_add(u64::from(found.is_some()), Relaxed);
                                assert!(found.is_none_or(|found| found == block.1));
                            }
                        }
                    }
                });
            }
            for _ in 0..8 {
                for root in roots {
                    kit.pull(root);
                }
            }
            is_over.store(true, Relaxed);
        });
        assert!(hits.load(Relaxed) > 0);
        assert_eq!(kit.replicas.stats().damaged, 0, "a lost race is no damage");
        kit.check_disk();
    });
}
