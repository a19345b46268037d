//! Homes and folders that are moved.

use std::{fs, os::unix::fs::symlink};

use shoal_tests::{Daemon, assert_same_tree, scratch, text, write_content};

use super::World;

#[test]
fn a_home_that_is_moved_still_serves_the_copies_in_it() {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    let (home, moved) = (at("home"), at("elsewhere/moved"));
    write_content(&at("files/sub/file"), "copied", 3_000_000);
    fs::create_dir(at("elsewhere")).unwrap();
    let sharer = Daemon::start(&home, &[]);
    let shared = sharer.run(&["share", "--copy", text(&at("files"))]).ok();
    let root = shared["cid"].as_str().unwrap().to_owned();
    fs::rename(at("files"), at("kept")).unwrap();
    sharer.run(&["stop"]).ok();
    drop(sharer);
    fs::rename(&home, &moved).unwrap();

    let sharer = Daemon::start(&moved, &[]);
    let status = sharer.run(&["status"]).ok();
    assert_eq!(status["shares"][0]["state"], "ok", "{status}");
    let verified = sharer.run(&["verify"]).ok();
    assert_eq!(verified["intact"], true, "{verified}");
    let garbage = sharer.run(&["gc", "--dry-run"]).ok();
    assert_eq!(garbage["copies"], 0, "{garbage}");
    let fetcher = Daemon::start(&at("fetcher"), &[&sharer]);
    fetcher.fetch(&root, &at("got"));
    assert_same_tree(&at("kept"), &at("got"));

    sharer.run(&["unshare", &root]).ok();
    let again = Daemon::start(&at("third"), &[]);
    drop(again);
}

#[test]
fn a_folder_that_is_moved_and_linked_stays_the_share_that_it_was() {
    let world = World::new();
    let (place, big) = (world.path("photos"), world.path("big"));
    write_content(&place.join("one"), "one", 2_000_000);
    fs::create_dir(&big).unwrap();
    let link = world.share(&place);
    fs::rename(&place, big.join("photos")).unwrap();
    symlink(big.join("photos"), &place).unwrap();

    let status = world.sharer.run(&["status"]).ok();
    assert_eq!(status["shares"][0]["state"], "ok", "{status}");
    assert_eq!(world.fetch(&link, "before").code, Some(0));

    // Sharing it again is sharing the same place again.
    world.share(&place);
    let listed = world.sharer.run(&["ls"]).ok();
    assert_eq!(
        listed["entries"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    assert_eq!(world.fetch(&link, "after").code, Some(0));
    assert_same_tree(&big.join("photos"), &world.path("after"));

    // It goes by either name.
    world.sharer.run(&["unshare", text(&place)]).ok();
    world.share(&place);
    world
        .sharer
        .run(&["unshare", text(&big.join("photos"))])
        .ok();
    world
        .sharer
        .run(&["unshare", text(&place)])
        .fails(1, "not_shared");
}

#[test]
fn a_path_means_the_share_that_was_made_under_it() {
    let world = World::new();
    let (old, new) = (world.path("old"), world.path("new"));
    write_content(&old.join("file"), "old", 1000);
    write_content(&new.join("file"), "new", 1000);
    let current = world.path("current");
    symlink(&old, &current).unwrap();
    let first = world.sharer.share(&current)["cid"].clone();
    // Another share of what the link leads to is its own.
    let direct = world.sharer.share(&new)["cid"].clone();
    fs::remove_file(&current).unwrap();
    symlink(&new, &current).unwrap();
    let gone = world.sharer.run(&["unshare", text(&current)]).ok();
    assert_eq!(gone["removed"][0]["cid"], first, "{gone}");
    let gone = world.sharer.run(&["unshare", text(&current)]).ok();
    assert_eq!(gone["removed"][0]["cid"], direct, "{gone}");
}
