#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use shoal_protocol::unixfs::Mtime;
use tempfile::TempDir;

use super::*;

fn scratch() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

fn at(path: &Path) -> Destination {
    let name = SafeName::parse("name").unwrap();
    Destination::resolve(path, false, &name).unwrap()
}

/// Nothing is kept of what lands.
const PLAIN: Attributes = Attributes {
    mode: None,
    mtime: None,
};

fn write(part: &Part, path: &str, text: &str) {
    let mut file = part.open_file(Path::new(path), &PLAIN).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The part of a tree: `a/x` and `b`.
fn tree(destination: &Destination) -> Part {
    let part = Part::tree(destination, destination.part_name(), &PLAIN).unwrap();
    part.make_directory(Path::new("a"), &PLAIN).unwrap();
    write(&part, "a/x", "new x");
    write(&part, "b", "new b");
    part
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn destinations_are_names_or_folders() {
    let (_dir, root) = scratch();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    let check = |output: &str, into: bool, expected: &str| {
        let name = SafeName::parse("name").unwrap();
        let found = Destination::resolve(&root.join(output), into, &name).unwrap();
        assert_eq!(found.path(), root.join(expected), "{output} {into}");
    };
    check("dir", false, "dir/name");
    check("dir", true, "dir/name");
    check("new", false, "new");
    check("file", false, "file");
    check("made/below", true, "made/below/name");
    assert!(!root.join("new").exists());
    let name = SafeName::parse("name").unwrap();
    assert!(Destination::resolve(&root.join("no/such"), false, &name).is_err());
}

#[test]
fn part_names_are_hidden_short_and_new_each_time() {
    let (_dir, root) = scratch();
    let long = Destination {
        parent: root,
        name: "\u{e4}".repeat(127).into(),
    };
    let name = long.part_name();
    assert!(name.len() <= ours::NAME_BYTES_ANYWHERE, "{name:?}");
    let text = name.to_str().unwrap();
    assert!(text.starts_with('.') && text.ends_with(".part"), "{text}");
    assert_ne!(name, long.part_name());
}

#[test]
fn a_file_is_replaced_only_when_told() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("file"));
    let publish = |text: &str, overwrite| {
        let part = Part::file(&destination, destination.part_name()).unwrap();
        write(&part, "", text);
        let published = part.publish(&destination, overwrite, &[]);
        part.remove().unwrap();
        published
    };
    publish("one", false).unwrap();
    let refused = publish("two", false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(read(root.join("file")), "one");
    publish("two", true).unwrap();
    assert_eq!(read(root.join("file")), "two");
    assert_eq!(names(&root), ["file"]);
}

#[test]
fn a_folder_is_merged_into_and_nothing_else_in_it_is_touched() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    tree(&destination)
        .publish(&destination, false, &[])
        .unwrap();
    let have = root.join("tree");
    fs::write(have.join("a/mine"), "mine").unwrap();
    fs::write(have.join("b"), "old").unwrap();
    let part = tree(&destination);
    let refused = part.publish(&destination, false, &[]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(read(have.join("b")), "old");
    part.publish(&destination, true, &[]).unwrap();
    assert_eq!(read(have.join("b")), "new b");
    assert_eq!(read(have.join("a/x")), "new x");
    assert_eq!(read(have.join("a/mine")), "mine");
    assert_eq!(names(&root), ["tree"]);
}

#[test]
fn a_merge_that_cannot_be_whole_replaces_nothing() {
    let check = |make: fn(&Path)| {
        let (_dir, root) = scratch();
        let have = root.join("tree");
        fs::create_dir_all(have.join("a")).unwrap();
        fs::write(have.join("a/x"), "old x").unwrap();
        make(&have);
        let before = names(&have);
        let destination = Destination {
            parent: root.clone(),
            name: "tree".into(),
        };
        let part = tree(&destination);
        assert!(part.publish(&destination, true, &[]).is_err());
        assert_eq!(names(&have), before);
        if have.join("a").is_dir() {
            assert_eq!(read(have.join("a/x")), "old x");
        }
        part.remove().unwrap();
        assert_eq!(names(&root), ["tree"]);
    };
    // A folder where a file would go, and the other way around.
    check(|have| fs::create_dir(have.join("b")).unwrap());
    check(|have| {
        fs::remove_dir_all(have.join("a")).unwrap();
        fs::write(have.join("a"), "a file").unwrap();
    });
    // A symlink is no folder to merge into.
    check(|have| {
        fs::rename(have.join("a"), have.join("elsewhere")).unwrap();
        symlink("elsewhere", have.join("a")).unwrap();
    });
}

#[test]
fn symlinks_in_a_part_are_not_followed() {
    let (_dir, root) = scratch();
    fs::create_dir(root.join("outside")).unwrap();
    fs::write(root.join("outside/secret"), "secret").unwrap();
    let destination = at(&root.join("tree"));
    let part = Part::tree(&destination, destination.part_name(), &PLAIN).unwrap();
    let link = |path: &str, target: &str| {
        let made = part.make_symlink(Path::new(path), target, &PLAIN);
        assert_eq!(made.unwrap(), Unkept::default());
    };
    link("dir", "../outside");
    link("file", "../outside/secret");
    assert!(part.open_file(Path::new("dir/secret"), &PLAIN).is_err());
    assert!(part.open_file(Path::new("file"), &PLAIN).is_err());
    assert!(part.open_existing(Path::new("file")).is_err());
    assert!(part.make_directory(Path::new("dir/new"), &PLAIN).is_err());
    // A symlink in the place of the part itself.
    let name = destination.part_name();
    symlink("outside", root.join(&name)).unwrap();
    assert!(Part::tree(&destination, name, &PLAIN).is_err());
    part.remove().unwrap();
    assert_eq!(names(&root.join("outside")), ["secret"]);
}

#[test]
fn what_was_moved_into_place_can_be_taken_back_once() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let (part, name) = (tree(&destination), OsString::from(".back.part"));
    part.publish(&destination, false, &[]).unwrap();
    destination.take_back(&name).unwrap();
    assert_eq!(names(&root), [".back.part"]);
    tree(&destination)
        .publish(&destination, false, &[])
        .unwrap();
    assert!(destination.take_back(&name).is_err(), "something is there");
}

#[test]
fn this_disk_keeps_all_names_and_nothing_stays_of_finding_that_out() {
    let (_dir, path) = scratch();
    let destination = at(&path.join("got"));
    let name = destination.part_name();
    let part = Part::tree(&destination, name.clone(), &PLAIN).unwrap();
    let rules = part.name_rules().unwrap();
    assert_eq!(rules, shoal_protocol::name::NameRules::default());
    assert_eq!(fs::read_dir(path.join(name)).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_of_looking_at_names_is_gone_after_the_next_look() {
    let (_dir, path) = scratch();
    let destination = at(&path);
    let name = OsString::from(".name.00112233aabbccdd.part");
    let part = Part::tree(&destination, name, &PLAIN).unwrap();
    for end in ["-a", "-\u{e9}", ":", "."] {
        write(&part, &format!(".probe-00112233aabbccdd{end}"), "");
    }
    write(&part, ".probe-of-somebody-else", "");
    part.name_rules().unwrap();
    let left = fs::read_dir(path.join(".name.00112233aabbccdd.part")).unwrap();
    let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, [".probe-of-somebody-else"]);
}

/// The permissions of what is at `path`.
fn mode(path: impl AsRef<Path>) -> u32 {
    path.as_ref()
        .symlink_metadata()
        .unwrap()
        .permissions()
        .mode()
        & 0o7777
}

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn with_mode(mode: u32) -> Attributes {
    Attributes {
        mode: Some(mode),
        mtime: Mtime::new(-86_400, 500_000_000),
    }
}

fn folder(path: &str, mode: u32) -> Folder {
    Folder {
        path: path.into(),
        attributes: with_mode(mode),
    }
}

#[test]
fn folders_get_their_modes_and_times_at_the_end_and_are_never_wider() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let name = destination.part_name();
    let part = Part::tree(&destination, name.clone(), &with_mode(0o750)).unwrap();
    part.make_directory(Path::new("a"), &with_mode(0o500))
        .unwrap();
    part.make_directory(Path::new("a/b"), &with_mode(0o000))
        .unwrap();
    let file = part.open_file(Path::new("a/b/secret"), &with_mode(0o400));
    file.unwrap().write_all(b"x").unwrap();
    let hidden = root.join(&name);
    assert_eq!(mode(&hidden) & !0o750, 0);
    assert_eq!(mode(hidden.join("a")), 0o700);
    assert_eq!(mode(hidden.join("a/b")), 0o700);
    assert_eq!(mode(hidden.join("a/b/secret")), 0o600);
    let folders = [
        folder("", 0o750),
        folder("a", 0o500),
        // Never from the network: set-user-id and its kin.
        folder("a/b", 0o6000),
    ];
    assert_eq!(part.seal(&folders).unwrap(), Unkept::default());
    part.publish(&destination, false, &folders).unwrap();
    let tree = root.join("tree");
    for (path, expected) in [("", 0o750), ("a", 0o500), ("a/b", 0o000)] {
        let found = tree.join(path).metadata().unwrap();
        assert_eq!(mode(tree.join(path)), expected, "{path}");
        assert_eq!((found.mtime(), found.mtime_nsec()), (-86_400, 500_000_000));
    }
    set_mode(tree.join("a/b"), 0o700);
}

#[test]
fn a_part_that_is_sealed_can_be_filled_sealed_and_removed_again() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let name = destination.part_name();
    let folders = [folder("", 0o500), folder("a", 0o000)];
    let open = || Part::tree(&destination, name.clone(), &with_mode(0o500)).unwrap();
    let part = open();
    part.make_directory(Path::new("a"), &with_mode(0o000))
        .unwrap();
    write(&part, "a/x", "x");
    set_mode(root.join(&name).join("a/x"), 0o000);
    part.seal(&folders).unwrap();
    drop(part);

    let part = open();
    assert_eq!(part.look(Path::new("a/x")).unwrap().len(), 1);
    write(&part, "a/x", "y");
    write(&part, "a/new", "z");
    write(&part, "new", "z");
    part.open_existing(Path::new("a/x")).unwrap();
    part.seal(&folders).unwrap();
    assert_eq!(mode(root.join(&name).join("a")), 0o000);
    drop(part);

    Part::existing_tree(&destination, name)
        .unwrap()
        .remove()
        .unwrap();
    assert_eq!(names(&root), Vec::<String>::new());
}

#[test]
fn a_folder_that_is_merged_into_stays_as_narrow_as_it_was() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let part = tree(&destination);
    part.make_directory(Path::new("a/below"), &PLAIN).unwrap();
    part.make_directory(Path::new("new"), &PLAIN).unwrap();
    write(&part, "new/x", "x");
    fs::create_dir_all(root.join("tree/a/below")).unwrap();
    fs::create_dir(root.join("tree/mine")).unwrap();
    for (path, mode) in [
        ("a/below", 0o1755),
        ("a", 0o555),
        ("mine", 0o705),
        ("", 0o700),
    ] {
        set_mode(root.join("tree").join(path), mode);
    }
    let folders = [
        folder("", 0o755),
        folder("a", 0o755),
        folder("a/below", 0o711),
        folder("new", 0o511),
    ];
    part.seal(&folders).unwrap();
    let unkept = part.publish(&destination, true, &folders).unwrap();
    assert_eq!(unkept, Some(Unkept::default()));
    let check = |path: &str, expected: u32| {
        assert_eq!(mode(root.join("tree").join(path)), expected, "{path}");
    };
    check("", 0o700);
    check("a", 0o555);
    check("a/below", 0o1711);
    check("new", 0o511);
    check("mine", 0o705);
    assert_eq!(read(root.join("tree/a/x")), "new x");
    assert_eq!(read(root.join("tree/new/x")), "x");
    assert_eq!(names(&root), ["tree"]);
}

#[test]
fn a_merge_that_fails_gives_folders_their_modes_back() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let part = tree(&destination);
    fs::create_dir_all(root.join("tree/b")).unwrap();
    fs::create_dir_all(root.join("tree/a")).unwrap();
    set_mode(root.join("tree/a"), 0o550);
    set_mode(root.join("tree"), 0o550);
    assert!(
        part.publish(&destination, true, &[folder("a", 0o700)])
            .is_err()
    );
    assert_eq!(mode(root.join("tree")), 0o550);
    assert_eq!(mode(root.join("tree/a")), 0o550);
}

/// A process that is killed in the middle of a merge.
#[test]
fn a_merge_that_does_not_end_is_made_good_by_the_next_run_or_by_removing_the_part() {
    for goes_on in [true, false] {
        let (_dir, root) = scratch();
        let destination = at(&root.join("tree"));
        let name = destination.part_name();
        let refill = || {
            let part = Part::tree(&destination, name.clone(), &PLAIN).unwrap();
            part.make_directory(Path::new("a"), &PLAIN).unwrap();
            write(&part, "a/x", "new x");
            part
        };
        fs::create_dir_all(root.join("tree/a")).unwrap();
        set_mode(root.join("tree/a"), 0o550);
        set_mode(root.join("tree"), 0o511);
        let cut_off = |part: &Part| {
            let opened = own::open_own_directory(&part.parent, &part.name).unwrap();
            let noted = NotedModes::open(&opened, part.notes_name()).unwrap();
            let target = &destination.name;
            let mut merge = Merge::into(&part.parent, target, &part.goes_to, noted).unwrap();
            merge.cut_off(&opened).unwrap();
        };
        let modes = || (mode(root.join("tree")), mode(root.join("tree/a")));
        cut_off(&refill());
        assert_eq!(modes(), (0o711, 0o750), "nothing is tested");
        // Twice: the second run finds what the first has left.
        let part = refill();
        cut_off(&part);
        if goes_on {
            part.publish(&destination, true, &[]).unwrap();
            assert_eq!(read(root.join("tree/a/x")), "new x");
        } else {
            part.remove().unwrap();
        }
        assert_eq!(modes(), (0o511, 0o550));
        set_mode(root.join("tree"), 0o711);
        assert_eq!(names(&root), ["tree"]);
        assert_eq!(names(&root.join("tree")), ["a"]);
    }
}

#[test]
fn this_disk_takes_symlinks_long_names_large_files_and_holes() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let (name, file) = (destination.part_name(), destination.part_name());
    let part = Part::tree(&destination, name.clone(), &PLAIN).unwrap();
    assert!(part.keeps_symlinks().unwrap());
    assert_eq!(part.name_limit(10).unwrap(), None);
    assert_eq!(part.name_limit(255).unwrap(), None);
    assert_eq!(part.name_limit(300).unwrap(), Some(255));
    let single = Part::file(&destination, file.clone()).unwrap();
    for part in [&part, &single] {
        assert!(part.takes_file_of(5 << 30).unwrap());
        assert!(!part.takes_file_of(u64::MAX / 2).unwrap());
        assert!(part.keeps_holes().unwrap());
    }
    assert_eq!(fs::read_dir(root.join(name)).unwrap().count(), 0);
    assert_eq!(root.join(file).metadata().unwrap().len(), 0);
}
