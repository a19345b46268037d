#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::symlink,
};

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

fn write(part: &Part, path: &str, text: &str) {
    let mut file = part.open_file(Path::new(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The part of a tree: `a/x` and `b`.
fn tree(destination: &Destination) -> Part {
    let part = Part::tree(destination, destination.part_name()).unwrap();
    part.make_directory(Path::new("a")).unwrap();
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
    assert!(name.len() <= 255, "{name:?}");
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
        let published = part.publish(&destination, overwrite);
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
    tree(&destination).publish(&destination, false).unwrap();
    let have = root.join("tree");
    fs::write(have.join("a/mine"), "mine").unwrap();
    fs::write(have.join("b"), "old").unwrap();
    let part = tree(&destination);
    let refused = part.publish(&destination, false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(read(have.join("b")), "old");
    part.publish(&destination, true).unwrap();
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
        assert!(part.publish(&destination, true).is_err());
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
    let part = Part::tree(&destination, destination.part_name()).unwrap();
    part.make_symlink(Path::new("dir"), "../outside").unwrap();
    part.make_symlink(Path::new("file"), "../outside/secret")
        .unwrap();
    assert!(part.open_file(Path::new("dir/secret")).is_err());
    assert!(part.open_file(Path::new("file")).is_err());
    assert!(part.open_existing(Path::new("file")).is_err());
    assert!(part.make_directory(Path::new("dir/new")).is_err());
    // A symlink in the place of the part itself.
    let name = destination.part_name();
    symlink("outside", root.join(&name)).unwrap();
    assert!(Part::tree(&destination, name).is_err());
    part.remove().unwrap();
    assert_eq!(names(&root.join("outside")), ["secret"]);
}

#[test]
fn what_was_moved_into_place_can_be_taken_back_once() {
    let (_dir, root) = scratch();
    let destination = at(&root.join("tree"));
    let (part, name) = (tree(&destination), OsString::from(".back.part"));
    part.publish(&destination, false).unwrap();
    destination.take_back(&name).unwrap();
    assert_eq!(names(&root), [".back.part"]);
    tree(&destination).publish(&destination, false).unwrap();
    assert!(destination.take_back(&name).is_err(), "something is there");
}

#[test]
fn this_disk_keeps_all_names_and_nothing_stays_of_finding_that_out() {
    let (_dir, path) = scratch();
    let destination = at(&path.join("got"));
    let name = destination.part_name();
    let part = Part::tree(&destination, name.clone()).unwrap();
    let rules = part.name_rules().unwrap();
    assert_eq!(rules, shoal_protocol::name::NameRules::default());
    assert_eq!(fs::read_dir(path.join(name)).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_of_looking_at_names_is_gone_after_the_next_look() {
    let (_dir, path) = scratch();
    let destination = at(&path);
    let name = OsString::from(".name.00112233aabbccdd.part");
    let part = Part::tree(&destination, name).unwrap();
    for end in ["-a", "-\u{e9}", ":", "."] {
        write(&part, &format!(".probe-00112233aabbccdd{end}"), "");
    }
    write(&part, ".probe-of-somebody-else", "");
    part.name_rules().unwrap();
    let left = fs::read_dir(path.join(".name.00112233aabbccdd.part")).unwrap();
    let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, [".probe-of-somebody-else"]);
}
