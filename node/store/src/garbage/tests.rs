//! Garbage of every kind beside shares of every kind, of which none may be taken for it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use shoal_protocol::address::HashFn;

use super::*;
use crate::rows::{FileStat, FileState, ShareRecord};
use crate::share::{self, ShareRequest};
use crate::tests::site::Site;
use crate::{Library, VerifyEvent};

struct World<'a> {
    site: &'a Site,
}

impl<'a> World<'a> {
    fn each(check: impl Fn(World<'_>)) {
        Site::each(|site| check(World::new(site)));
    }

    fn new(site: &'a Site) -> Self {
        for (name, len) in [("top/a", 10), ("top/sub/b", 3 << 20), ("top/c", 0)] {
            let path = site.dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![7; len]).unwrap();
        }
        Self { site }
    }

    fn store(&self) -> Store {
        self.site.open()
    }

    fn share(&self, library: &Library, path: &str, copy: bool) -> Arc<ShareRecord> {
        let request = ShareRequest {
            paths: vec![self.site.dir.path().join(path)],
            copy,
            ..ShareRequest::default()
        };
        let cancel = CancellationToken::new();
        share::share(library, &request, &|_| {}, &cancel)
            .unwrap()
            .record
    }
}

fn collect(store: &Store, dry_run: bool) -> Garbage {
    store
        .collect_garbage(dry_run, &mut |_, _| {}, &CancellationToken::new())
        .unwrap()
        .unwrap()
}

/// What was found, without what it came to on disk.
fn counts(garbage: &Garbage) -> (u64, u64, u64, u64, u64) {
    let Garbage {
        shares,
        rows,
        blocks,
        block_bytes,
        copies,
        ..
    } = *garbage;
    (shares, rows, blocks, block_bytes, copies)
}

fn assert_intact(library: &Library, share: &ShareRecord) {
    let mut on_event = |event: VerifyEvent| {
        if let VerifyEvent::DamagedNode(digest) = event {
            panic!("{digest:?} is gone");
        }
    };
    let cancel = CancellationToken::new();
    let summary = library.verify(share.id, &mut on_event, &cancel).unwrap();
    assert_eq!((summary.files, summary.changed), (share.files, 0));
}

fn digest(text: &str) -> Digest {
    Digest::of(HashFn::Blake3, text.as_bytes())
}

/// Leaves one row of every kind that no share needs.
fn litter(store: &Store) {
    let gone = store.new_share_id().unwrap();
    let mut files = store.new_file_ids(2).unwrap();
    let (lost, nameless) = (files.next().unwrap(), files.next().unwrap());
    let row = FileRow {
        share: gone,
        path: "lost".to_owned(),
        stat: FileStat::default(),
        state: FileState::Stable,
    };
    let mut batch = store.batch();
    batch.put_file(lost, &row).unwrap();
    batch.put_chunk(lost, 0, &digest("lost"), 4);
    batch.put_chunk(nameless, 0, &digest("nameless"), 8);
    batch.put_block(gone, &digest("held by nobody"), b"held by nobody");
    batch.put(Family::Blocks, digest("alone").key(), b"alone");
    batch.commit(false).unwrap();
    fs::create_dir_all(store.copy_dir(gone).join("deep")).unwrap();
    fs::write(store.copy_dir(gone).join("deep/file"), "copied").unwrap();
}

#[test]
fn garbage_goes_and_everything_else_stays() {
    World::each(|world| {
        let library = Library::open(world.store(), |_| {}).unwrap();
        let live = world.share(&library, "top/sub", false);
        let copied = world.share(&library, "top", true);
        litter(library.store());
        drop(library);

        // The next process: what the one before has left is nobody's work any more.
        let library = Library::open(world.store(), |_| {}).unwrap();
        let store = library.store();
        fs::create_dir(store.copies_dir().join("not a number")).unwrap();
        let found = collect(store, true);
        // A dry run leaves rows in place, and with them the chunk and the block that they refer to.
        assert_eq!(counts(&found), (0, 3, 1, 5, 1));
        assert_eq!(found.copy_bytes, 6);
        assert_eq!(collect(store, true), found, "a dry run changes nothing");

        let collected = collect(store, false);
        assert_eq!(counts(&collected), (0, 4, 2, 5 + 14, 1));
        assert_eq!(counts(&collect(store, false)), (0, 0, 0, 0, 0));
        assert!(!store.has_block(&digest("alone")).unwrap());
        assert!(store.locations(&digest("lost")).next().is_none());
        assert!(store.locations(&digest("nameless")).next().is_none());
        assert!(store.copies_dir().join("not a number").exists());
        assert_eq!(library.shares().len(), 2);
        assert_intact(&library, &live);
        assert_intact(&library, &copied);
    });
}

#[test]
fn a_share_that_goes_is_finished_off() {
    World::each(|world| {
        let library = Library::open(world.store(), |_| {}).unwrap();
        let record = world.share(&library, "top", false);
        drop(library);
        // Without a library nobody else collects.
        let store = world.store();
        let mut batch = store.batch();
        batch
            .put_share(&ShareRecord {
                state: ShareState::Removing,
                ..record.as_ref().clone()
            })
            .unwrap();
        batch.commit(false).unwrap();
        assert_eq!(counts(&collect(&store, true)), (1, 0, 0, 0, 0));
        assert_eq!(counts(&collect(&store, false)), (1, 0, 0, 0, 0));
        assert_eq!(store.shares().unwrap(), []);
        assert_eq!(counts(&collect(&store, false)), (0, 0, 0, 0, 0));
    });
}

#[test]
fn what_is_being_made_is_not_garbage() {
    World::each(|world| {
        let store = world.store();
        let file = store.new_file_ids(1).unwrap().next().unwrap();
        let mut batch = store.batch();
        batch.put_chunk(file, 0, &digest("early"), 5);
        batch.commit(false).unwrap();
        assert_eq!(counts(&collect(&store, false)), (0, 0, 0, 0, 0));
        assert_eq!(store.locations(&digest("early")).count(), 1);
    });
}

#[test]
fn collecting_beside_sharing_takes_nothing_that_is_needed() {
    World::each(|world| {
        const ROUNDS: usize = 30;
        let library = Library::open(world.store(), |_| {}).unwrap();
        let over = CancellationToken::new();
        std::thread::scope(|scope| {
            let collecting = scope.spawn(|| {
                let mut rounds = 0;
                while !over.is_cancelled() {
                    collect(library.store(), false);
                    rounds += 1;
                }
                rounds
            });
            for round in 0..ROUNDS {
                // Each replaces the one before: the same blocks go and come all the time.
                let record = world.share(&library, "top", round % 2 == 0);
                assert_intact(&library, &record);
            }
            over.cancel();
            assert!(collecting.join().unwrap() > 0);
        });
    });
}

#[test]
fn a_cancelled_collection_has_no_result() {
    World::each(|world| {
        let store = world.store();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let collected = store
            .collect_garbage(false, &mut |_, _| {}, &cancel)
            .unwrap();
        assert_eq!(collected, None);
    });
}
