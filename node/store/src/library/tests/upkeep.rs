//! Damage that no look at files finds.

use super::*;

fn verify(world: &World, share: &ShareRecord) -> (VerifySummary, Vec<Digest>) {
    let mut damaged = Vec::new();
    let mut on_event = |event: VerifyEvent| {
        if let VerifyEvent::DamagedNode(digest) = event {
            damaged.push(digest);
        }
    };
    let cancel = CancellationToken::new();
    let library = world.library();
    let summary = library.verify(share.id, &mut on_event, &cancel).unwrap();
    (summary, damaged)
}

#[test]
fn a_damaged_index_is_found_and_mended_by_sharing_again() {
    let world = World::new();
    world.write("top/file", "content");
    let share = world.share("top");
    let root = share.root.digest().unwrap();
    assert_eq!(world.told(), ["added"]);

    let mut batch = world.library().store().batch();
    batch.put_block(share.id, &root, b"not the folder");
    batch.commit(false).unwrap();
    let (summary, damaged) = verify(&world, &share);
    assert_eq!((summary.changed, summary.damaged_nodes), (0, 1));
    assert_eq!(damaged, [root]);
    let index = Some((String::new(), ChangeKind::Index));
    assert_eq!(world.change(&share), index);
    assert_eq!(world.told(), ["changed"]);

    // That the files are as they were does not make it whole.
    assert_eq!(world.recheck(&share).changed, 0);
    assert_eq!(world.change(&share), index);

    let again = world.share("top");
    assert_eq!(again.root, share.root);
    let (summary, damaged) = verify(&world, &again);
    assert_eq!((summary.damaged_nodes, damaged.len()), (0, 0));
    assert_eq!(world.change(&again), None);
}

#[test]
fn a_damaged_index_that_is_whole_again_is_served_again() {
    let world = World::new();
    world.write("top/file", "content");
    let share = world.share("top");
    let root = share.root.digest().unwrap();
    let store = world.library().store();
    let whole = store.block(&root).unwrap().unwrap();
    for (bytes, damaged) in [(&b"not the folder"[..], 1), (&whole, 0)] {
        let mut batch = store.batch();
        batch.put_block(share.id, &root, bytes);
        batch.commit(false).unwrap();
        assert_eq!(verify(&world, &share).0.damaged_nodes, damaged);
    }
    assert_eq!(world.told(), ["added", "changed", "added"]);
}

#[test]
fn who_shares_its_own_is_no_copy_while_a_file_of_it_has_changed() {
    let world = World::new();
    let path = world.write("top/file", "content");
    world.write("top/other", "other");
    let share = world.share("top");
    let library = world.library();
    assert!(!library.is_copy(&share.root));
    fs::write(path, "CONTENT").unwrap();
    assert_eq!(world.recheck(&share).changed, 1);
    assert_eq!(library.held(&share.root), Held::Changed);
    assert!(!library.is_copy(&share.root));

    let fetched = ShareRecord {
        origin: Origin::Fetched,
        ..library.share(share.id).unwrap().as_ref().clone()
    };
    library.publish(library.store().batch(), fetched).unwrap();
    assert!(library.is_copy(&share.root));
    assert!(library.is_copy(&Cid::raw(digest("nothing of it is here"))));
}
