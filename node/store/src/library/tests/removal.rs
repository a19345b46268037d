//! Shares that go.

use shoal_protocol::name::SafeName;

use super::*;

#[test]
fn unsharing_is_told_leaves_files_alone_and_survives_a_restart() {
    let mut world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    let unshare = |target| world.library().unshare(&target);
    let gone = unshare(UnshareTarget::at(path.clone())).unwrap();
    assert_eq!(gone.shares, std::slice::from_ref(&share));
    assert_eq!(world.told(), ["added", "removed"]);
    assert!(matches!(world.read("content"), Err(ReadError::NotHere)));
    let root = UnshareTarget::Root(share.root.clone());
    assert!(matches!(unshare(root), Err(UnshareError::NotShared { .. })));
    let path_again = UnshareTarget::at(path.clone());
    assert!(matches!(
        unshare(path_again),
        Err(UnshareError::NotShared { .. })
    ));
    world.restart();
    assert!(world.library().shares().is_empty());
    assert_eq!(fs::read_to_string(path).unwrap(), "content");
}

#[test]
fn a_new_name_survives_a_restart_and_is_the_one_that_is_known() {
    let mut world = World::new();
    let path = world.write("file", "content");
    let share = world.share("file");
    let name = |name: &str| SafeName::parse(name).unwrap();
    let root = UnshareTarget::Root(share.root.clone());
    let renamed = world.library().rename(&root, &share.root, &name("other"));
    assert_eq!(renamed.unwrap()[0].name, "other");
    assert_eq!(world.told(), ["added", "changed"]);
    // The same again is no change.
    let at = UnshareTarget::at(path);
    world
        .library()
        .rename(&at, &share.root, &name("other"))
        .unwrap();
    assert!(world.told().is_empty());
    world.restart();
    assert_eq!(world.library().shares()[0].name, "other");
    // The register knows the new name: damage that takes the share tells of it by that.
    let register = fs::read_to_string(world.dir.path().join("home/shares.register")).unwrap();
    let last = register.lines().last().unwrap();
    assert!(last.contains(r#""name":"other""#), "{last}");

    let elsewhere = Cid::raw(digest("other content"));
    for (target, root) in [
        (&at_nothing(), &share.root),
        (&UnshareTarget::Root(elsewhere.clone()), &elsewhere),
        (&root_of(&share), &elsewhere),
    ] {
        let refused = world.library().rename(target, root, &name("x"));
        assert!(matches!(refused, Err(UnshareError::NotShared { .. })));
    }
}

fn at_nothing() -> UnshareTarget {
    UnshareTarget::at("/nothing".into())
}

fn root_of(share: &ShareRecord) -> UnshareTarget {
    UnshareTarget::Root(share.root.clone())
}

#[test]
fn many_readers_and_a_remover_get_right_bytes_or_none() {
    let world = World::new();
    let content: Vec<_> = (0..50).map(|number| format!("content {number}")).collect();
    for (number, content) in content.iter().enumerate() {
        world.write(&format!("top/{number}"), content);
    }
    let kept = world.share("top");
    world.write("other/copy", &content[0]);
    let library = world.library();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut block = Vec::new();
                for content in content.iter().cycle().take(2000) {
                    library
                        .read(&digest(content), Some(&kept.root), &mut block)
                        .unwrap();
                    assert_eq!(block, content.as_bytes());
                }
            });
        }
        for _ in 0..20 {
            let other = world.share("other");
            library
                .unshare(&UnshareTarget::Root(other.root.clone()))
                .unwrap();
        }
    });
}
