//! What is shared from where, what is refused, what is left behind.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::SystemTime;

use shoal_protocol::chunker::Chunker;
use shoal_protocol::unixfs::symlink as symlink_node;

use super::*;
use crate::{Held, UnshareTarget};

#[test]
fn a_shared_folder_reads_back_from_its_root() {
    let world = World::new();
    let large = noise("large", 21 << 20);
    world.write("top/large.bin", &large);
    world.write("top/sub/small", b"small");
    world.write("top/sub/empty", b"");
    symlink("sub/small", world.path("top/link")).unwrap();
    let record = world.share(&world.request(&["top"])).record;
    assert_eq!((record.files, record.chunks), (3, 22));
    assert_eq!(record.size, large.len() as u64 + 5);
    assert_eq!(world.library.held(&record.root), Held::Complete);

    let entries = |cid: &Cid| {
        let mut block = Vec::new();
        world
            .library
            .read(&cid.digest().unwrap(), Some(&record.root), &mut block)
            .unwrap();
        let Node::Directory { entries, .. } = parse_node(&block).unwrap() else {
            panic!("no folder")
        };
        entries
            .into_iter()
            .map(|entry| (entry.name, entry.cid))
            .collect::<Vec<_>>()
    };
    let top = entries(&record.root);
    let names: Vec<_> = top
        .iter()
        .map(|(name, _)| str::from_utf8(name).unwrap())
        .collect();
    assert_eq!(names, ["large.bin", "link", "sub"]);
    assert!(
        read_file(&world.library, &top[0].1) == large,
        "the large file reads back differently"
    );
    let hash = record.recipe.hash;
    let link = symlink_node(hash, "sub/small", Default::default())
        .unwrap()
        .1
        .cid;
    assert_eq!(top[1].1, link);
    let sub = entries(&top[2].1);
    assert_eq!(read_file(&world.library, &sub[0].1), b"");
    assert_eq!(read_file(&world.library, &sub[1].1), b"small");
}

#[test]
fn content_defined_chunks_cover_the_file() {
    let world = World::new();
    let small = noise("small", 5 << 20);
    let large = noise("large", 40 << 20);
    world.write("small", &small);
    world.write("large", &large);
    for (name, content) in [("small", &small), ("large", &large)] {
        let mut request = world.request(&[name]);
        let fixed = world.share(&request).record.root.clone();
        request.recipe.chunker = Chunker::Cdc;
        let record = world.share(&request).record;
        assert_ne!(record.root, fixed);
        assert!(
            read_file(&world.library, &record.root) == *content,
            "{name}"
        );
    }
}

#[test]
fn sharing_again_replaces_the_earlier_share() {
    let world = World::new();
    world.write("file", b"one");
    let request = world.request(&["file"]);
    let first = world.share(&request).record;
    let second = world.share(&request).record;
    assert_eq!(first.root, second.root);
    assert_eq!(world.library.shares(), [second]);

    world.write("file", b"two");
    let third = world.share(&request).record;
    assert_eq!(world.library.shares(), std::slice::from_ref(&third));
    assert_eq!(world.library.held(&first.root), Held::Absent);
    assert_eq!(world.library.held(&third.root), Held::Complete);
    world.wait_for_records(1);
}

#[test]
fn several_paths_are_one_folder() {
    let world = World::new();
    world.write("a/x", b"x");
    world.write("b/y", b"y");
    world.write("same/x", b"x");
    world.write("same/b/y", b"y");
    let several = world.share(&world.request(&["b", "a/x"])).record;
    let one = world.share(&world.request(&["same"])).record;
    assert_eq!(several.root, one.root);
    assert_eq!(several.selection, ["b", "a/x"]);

    // The folder that holds them is another share, although its base is the same.
    let all = world.share(&ShareRequest {
        paths: vec![world.path("")],
        ..ShareRequest::default()
    });
    assert_eq!(world.library.shares().len(), 3);
    let path = UnshareTarget::at(world.path("b"));
    let part = world.library.unshare(&path).unwrap_err();
    assert!(matches!(part, crate::UnshareError::PartOf { .. }), "{part}");
    world
        .library
        .unshare(&UnshareTarget::Root(all.record.root.clone()))
        .unwrap();
    assert_eq!(world.library.shares().len(), 2);
}

#[test]
fn names_are_as_asked_for() {
    let world = World::new();
    world.write("file", b"x");
    let mut request = world.request(&["file"]);
    assert_eq!(world.share(&request).record.name, "file");
    request.name = Some("other".to_owned());
    assert_eq!(world.share(&request).record.name, "other");
    request.name = Some("../up".to_owned());
    assert!(matches!(
        world.try_share(&request),
        Err(ShareError::ShareName { .. })
    ));
}

#[test]
fn attributes_are_kept_only_when_asked_for() {
    let world = World::new();
    let file = world.write("top/file", b"x");
    let plain = world.share(&world.request(&["top"])).record.root.clone();
    let mut request = world.request(&["top"]);
    request.recipe.preserve_mode = true;
    request.recipe.preserve_mtime = true;
    let kept = world.share(&request).record.root.clone();
    assert_ne!(kept, plain);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let mode = world.share(&request).record.root.clone();
    assert_ne!(mode, kept);
    let file = fs::File::options().write(true).open(&file).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_ne!(world.share(&request).record.root, mode);
    assert_eq!(world.share(&world.request(&["top"])).record.root, plain);
}

#[test]
fn a_copy_outlives_the_original_and_goes_with_its_share() {
    let world = World::new();
    let file = world.write("top/sub/file", b"content");
    symlink("sub/file", world.path("top/link")).unwrap();
    world.write("top/left.out", b"");
    let mut request = world.request(&["top"]);
    request.recipe.exclude = vec!["*.out".to_owned()];
    request.recipe.preserve_mtime = true;
    let in_place = world.share(&request).record;
    request.copy = true;
    let copied = world.share(&request);
    assert_eq!(
        copied.record.root, in_place.root,
        "a copy has the same address"
    );
    assert_eq!(copied.skipped_total, 1);
    assert_eq!(
        in_place.unflushed_boot,
        Some(world.library.boot()),
        "it was just written"
    );
    assert_eq!(copied.record.unflushed_boot, None, "a copy is flushed");
    assert_eq!(world.library.shares(), [copied.record]);

    let again = world.share(&request).record;
    assert_eq!(world.library.shares(), std::slice::from_ref(&again));
    fs::remove_file(&file).unwrap();
    let digest = shoal_protocol::address::Digest::of(again.recipe.hash, b"content");
    let mut block = Vec::new();
    world.library.read(&digest, None, &mut block).unwrap();
    assert_eq!(block, b"content");

    world
        .library
        .unshare(&UnshareTarget::at(world.path("top")))
        .unwrap();
    world.wait_for_records(0);
    assert!(!again.base.exists());
    assert!(world.path("top/sub").exists());
}

#[test]
fn several_copied_paths_have_the_address_they_have_in_place() {
    let world = World::new();
    world.write("a", b"a");
    world.write("b/c", b"c");
    let mut request = world.request(&["a", "b"]);
    request.recipe.preserve_mode = true;
    let in_place = world.share(&request).record.root.clone();
    request.copy = true;
    assert_eq!(world.share(&request).record.root, in_place);
}

#[test]
fn what_cannot_be_shared_leaves_nothing_behind() {
    let world = World::new();
    world.write("bad/name\n", b"x");
    let large = world.write("large", &noise("large", 24 << 20));
    let names = world.try_share(&world.request(&["bad"])).unwrap_err();
    assert!(
        matches!(names, ShareError::Names { total: 1, .. }),
        "{names}"
    );
    let missing = world.try_share(&world.request(&["missing"])).unwrap_err();
    assert!(matches!(missing, ShareError::NotFound(_)), "{missing}");

    let cancel = CancellationToken::new();
    cancel.cancel();
    let request = world.request(&["large"]);
    let cancelled = share(&world.library, &request, &|_| {}, &cancel).unwrap_err();
    assert!(matches!(cancelled, ShareError::Cancelled), "{cancelled}");

    let mut copy = world.request(&["bad"]);
    copy.copy = true;
    assert!(world.try_share(&copy).is_err());

    let before = modified(&large);
    world.wait_for_records(0);
    assert!(is_empty(world.library.store()));
    assert!(world.library.shares().is_empty());
    assert_eq!(modified(&large), before);
    let copies = world.dir.path().join("home/copies");
    assert!(!copies.exists() || fs::read_dir(copies).unwrap().next().is_none());
}

#[test]
fn a_file_that_changes_meanwhile_fails_the_share() {
    let world = World::new();
    // The folder is walked in order: by the time that progress is told, `a` was read.
    let path = world.write("top/a", &noise("a", 64 << 20));
    let file = fs::File::options().append(true).open(&path).unwrap();
    let touch = |_: Progress| {
        std::io::Write::write_all(&mut &file, b"more").unwrap();
    };
    let request = world.request(&["top"]);
    let result = build_with_progress_at_every_chunk(&world, &request, &touch);
    let error = result.unwrap_err();
    assert!(
        matches!(error, ShareError::ChangedWhileSharing(_)),
        "{error}"
    );
}

/// Shares with a meter that reports at once, so that the test acts in the middle of reading.
fn build_with_progress_at_every_chunk(
    world: &World,
    request: &ShareRequest,
    on_progress: &dyn Fn(Progress),
) -> Result<Shared, ShareError> {
    let place = SharePlace::of(&request.paths, world.library.store().home())?;
    let staged = Staged::begin(&world.library, &place, request)?;
    let mut meter = Meter::new(on_progress, Survey::default());
    meter.interval = Duration::ZERO;
    staged.finish(
        &place,
        &Excludes::none(),
        &mut meter,
        &CancellationToken::new(),
    )
}
