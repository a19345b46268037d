//! What damage takes, and what is kept of a damaged database.

use super::*;

#[test]
fn what_an_empty_database_has_lost_is_told_until_it_is_shared_again_or_forgotten() {
    let mut world = World::new();
    for name in ["one", "two"] {
        world.write(name, name);
        world.share(name);
    }
    world.library = None;
    fs::remove_dir_all(world.dir.path().join("home/db")).unwrap();
    world.restart();
    let lost = |world: &World| {
        let lost = world.library().lost().shares;
        lost.into_iter().map(|share| share.name).collect::<Vec<_>>()
    };
    assert_eq!(lost(&world), ["one", "two"]);
    world.share("one");
    assert_eq!(lost(&world), ["two"]);
    world.restart();
    assert_eq!(lost(&world), ["two"]);
    let target = UnshareTarget::at(world.path("two"));
    let gone = world.library().unshare(&target).unwrap();
    assert_eq!((gone.shares.len(), gone.forgotten.len()), (0, 1));
    world.restart();
    assert!(lost(&world).is_empty());
    assert_eq!(world.library().shares().len(), 1);
}

#[test]
fn a_check_finds_what_cannot_be_read_and_a_repair_keeps_the_rest() {
    let mut world = World::new();
    for number in 0..200 {
        world.write(&format!("good/file number {number}"), &number.to_string());
        world.write(&format!("bad/file number {number}"), &number.to_string());
    }
    let (good, bad) = (world.share("good"), world.share("bad"));
    // A row of one of them goes, as no orderly program takes it.
    let mut batch = world.library().store().batch();
    batch.remove_file(
        FileId(300),
        &world.library().store().file(FileId(300)).unwrap().unwrap(),
    );
    batch.commit(true).unwrap();
    let checked = world.library().check(&CancellationToken::new()).unwrap();
    assert_eq!(checked.damaged_shares.len(), 1, "{checked:?}");
    assert!(checked.complete && checked.damaged_tables.is_empty());
    let damaged = match checked.damaged_shares[0].as_str() {
        "good" => &good,
        _ => &bad,
    };
    assert_eq!(
        world.change(damaged),
        Some((String::new(), ChangeKind::Index))
    );
    world.library = None;
    let repaired = Store::repair(&world.dir.path().join("home")).unwrap();
    assert_eq!((repaired.shares, repaired.left_out.len()), (1, 1));
    assert!(repaired.kept.join("CURRENT").exists());
    world.restart();
    assert_eq!(world.library().shares().len(), 1);
    assert_eq!(world.library().lost().shares.len(), 1);
    let checked = world.library().check(&CancellationToken::new()).unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    // Ids are not used twice.
    assert!(world.share("good").id > bad.id);
}
