//! Shares that go.

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
