//! Modes and times: what was shared with them lands with them, folders and symlinks too, and is never
//! wider than it was.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use rustix::process::Signal;
#[cfg(target_os = "linux")]
use shoal_tests::odd_disk::OddDisk;
use shoal_tests::{
    assert_same_attributes, assert_same_tree, make_writable, nobody, remove_all, text, wait_for,
    write_content,
};

use super::{Running, World};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets the times of what is there; of a symlink, its own.
fn touch(path: &Path, when: &str) {
    let touched = Command::new("touch")
        .args(["--no-dereference", "--date", when])
        .arg(path)
        .status();
    assert!(touched.unwrap().success());
}

/// A tree with folders that are private or read-only, files of which nobody may read one, and links.
fn tree(at: &Path) {
    for (name, bytes) in [
        ("private/key", 100),
        ("private/large", 2_500_000),
        ("read-only/deep/er/x", 10),
        ("read-only/empty", 0),
        ("open/x", 70_000),
    ] {
        write_content(&at.join(name), name, bytes);
    }
    fs::create_dir(at.join("nothing-in-it")).unwrap();
    symlink("private/key", at.join("link")).unwrap();
    symlink("../x", at.join("read-only/deep/link")).unwrap();
    for (name, mode) in [
        ("private/key", 0o600),
        ("private/large", 0o444),
        ("read-only/deep/er/x", 0o400),
        ("read-only/empty", 0o444),
        ("open/x", 0o666),
        ("nothing-in-it", 0o711),
        ("open", 0o777),
        ("private", 0o700),
        ("read-only/deep/er", 0o500),
        ("read-only/deep", 0o555),
        ("read-only", 0o555),
    ] {
        set_mode(&at.join(name), mode);
    }
    for (name, when) in [
        ("link", "1950-01-01 UTC"),
        ("read-only/deep/link", "2001-02-03 04:05:06.789 UTC"),
        ("private/key", "1969-12-31 23:59:59.5 UTC"),
        ("private", "1965-07-13 19:57 UTC"),
        ("read-only/deep/er", "2001-02-03 UTC"),
        ("read-only/deep", "2038-01-20 UTC"),
        ("read-only", "2001-02-05 UTC"),
        ("", "2001-02-06 UTC"),
    ] {
        touch(&at.join(name), when);
    }
    set_mode(at, 0o750);
}

const PRESERVE: [&str; 3] = ["share", "--preserve", "mode,mtime"];

#[test]
fn folders_and_links_land_with_their_modes_and_times() {
    if nobody::has_run(
        "preserved::folders_and_links_land_with_their_modes_and_times",
        &[],
        None,
    ) {
        return;
    }
    let world = World::new();
    let (tree_path, got) = (world.path("tree"), world.path("landed/tree"));
    fs::create_dir(world.path("landed")).unwrap();
    let into = format!("{}/", text(&world.path("landed")));
    tree(&tree_path);
    let shared = world
        .sharer
        .run(&[&PRESERVE[..], &[text(&tree_path)]].concat())
        .ok();
    let link = shared["link"].as_str().unwrap();
    let fetched = world.fetcher.fetch(link, &got);
    let kept = serde_json::json!({ "symlinks": 0, "modes": 0, "times": 0 });
    assert_eq!(fetched["unkept"], kept, "{fetched}");
    assert_eq!(fetched["warnings"], serde_json::json!([]), "{fetched}");
    assert_same_tree(&tree_path, &got);
    assert_same_attributes(&tree_path, &got);
    let again = world
        .fetcher
        .run(&[&PRESERVE[..], &[text(&got)]].concat())
        .ok();
    assert_eq!(
        again["cid"], shared["cid"],
        "what landed has the same address"
    );

    // Over itself; then into folders that are narrower, and into one that is wider.
    let over = ["fetch", link, "-o", &into, "--overwrite", "--no-serve"];
    world.fetcher.run(&over).ok();
    assert_same_attributes(&tree_path, &got);
    set_mode(&got.join("open"), 0o700);
    set_mode(&got.join("private"), 0o755);
    world.fetcher.run(&over).ok();
    let mode = |name: &str| got.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("open"), mode("private")), (0o700, 0o700));
    assert_same_tree(&tree_path, &got);
    for path in [&tree_path, &got] {
        make_writable(path);
    }
}

#[test]
fn what_is_read_only_goes_on_after_a_kill_for_a_user_who_is_not_root() {
    let name = "preserved::what_is_read_only_goes_on_after_a_kill_for_a_user_who_is_not_root";
    if nobody::has_run(name, &[], None) {
        return;
    }
    let mut world = World::new();
    let (tree, got) = (world.path("tree"), world.path("landed/tree"));
    let into = format!("{}/", text(&world.path("landed")));
    for index in 0..600 {
        let path = tree.join(format!("d/{index}"));
        write_content(&path, &index.to_string(), 20_000);
        set_mode(&path, 0o444);
    }
    write_content(&tree.join("big"), "big", 9_000_000);
    set_mode(&tree.join("big"), 0o444);
    set_mode(&tree.join("d"), 0o555);
    set_mode(&tree, 0o555);
    fs::create_dir(world.path("landed")).unwrap();
    let shared = world
        .sharer
        .run(&["share", "--preserve", "mode", text(&tree)])
        .ok();
    let link = shared["link"].as_str().unwrap();
    // Once among the small files, once within the large one.
    for landed in [3_000_000, 15_000_000] {
        world.fetcher.run(&["limits", "--down", "40mbit"]).ok();
        let args = ["fetch", link, "-o", text(&got)];
        let running = Running::start(world.fetcher.home(), &args);
        wait_for("some of it has landed", || {
            let listed = world.fetcher.run(&["transfers"]).ok();
            let verified = listed["transfers"][0]["verified_bytes"].as_u64()?;
            (verified > landed).then_some(())
        });
        world.fetcher = world.fetcher.restart();
        running.end();
    }
    world.fetcher.fetch(link, &got);
    assert_same_tree(&tree, &got);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for name in ["", "d", "d/7", "big"] {
        assert_eq!(mode(&got.join(name)), mode(&tree.join(name)), "{name}");
    }
    let over = ["fetch", link, "-o", &into, "--overwrite", "--no-serve"];
    world.fetcher.run(&over).ok();
    assert_eq!(mode(&got.join("d")), 0o555);
    assert_eq!(fs::read_dir(world.path("landed")).unwrap().count(), 1);

    // One that is cancelled half-way is gone.
    let cid = shared["cid"].as_str().unwrap();
    world.fetcher.run(&["unshare", cid]).ok();
    remove_all(&got);
    world.fetcher.run(&["limits", "--down", "40mbit"]).ok();
    let running = Running::start(world.fetcher.home(), &["fetch", link, "-o", text(&got)]);
    let id = wait_for("some of it has landed", || {
        let listed = world.fetcher.run(&["transfers"]).ok();
        let mut listed = listed["transfers"].as_array().unwrap().iter();
        let transfer = listed.find(|it| it["state"] == "running")?;
        let verified = transfer["verified_bytes"].as_u64()?;
        (verified > 3_000_000).then(|| transfer["id"].to_string())
    });
    world.fetcher.run(&["cancel", &id]).ok();
    running.end();
    let left = fs::read_dir(world.path("landed")).unwrap();
    let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    make_writable(&tree);
}

#[test]
fn a_file_that_nobody_may_read_lands_like_that() {
    let world = World::new();
    let (tree, secret) = (world.path("tree"), world.path("tree/secret"));
    write_content(&secret, "secret", 70_000);
    set_mode(&secret, 0o000);
    let share = ["share", "--preserve", "mode", text(&tree)];
    let shared = world.sharer.run(&share);
    if shared.code != Some(0) {
        // Only root reads it.
        return shared.fails(6, "no_permission");
    }
    let link = shared.json["link"].as_str().unwrap();
    let got = world.path("got");
    world.fetcher.fetch(link, &got);
    let found = got.join("secret").metadata().unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o000);
    assert_eq!(found.len(), 70_000);
}

/// Killed in the middle of a merge, which makes a folder of the user's writable as long as it takes.
#[test]
#[cfg(target_os = "linux")]
fn a_merge_that_is_killed_gives_a_folder_its_mode_back_with_the_next_run() {
    const FILES: usize = 100;
    let mut world = World::new();
    let Some(disk) = OddDisk::mount(&world.path("disk")) else {
        return;
    };
    let tree = world.path("tree");
    for number in 0..FILES {
        write_content(&tree.join("sub").join(number.to_string()), "x", 10);
    }
    let link = world.share(&tree);
    let behind = disk.behind.join("tree/sub");
    fs::create_dir_all(&behind).unwrap();
    fs::write(behind.join("mine"), "mine").unwrap();
    set_mode(&behind, 0o550);
    let mode = || behind.metadata().unwrap().permissions().mode() & 0o7777;
    // Once the folder is writable nothing is done, until the daemon has its signal.
    disk.hang_at_mode(0o750);
    let args = ["fetch", &link, "--overwrite", "-o", text(&disk.at)];
    let running = Running::start(world.fetcher.home(), &args);
    wait_for("the merge begins", || (mode() == 0o750).then_some(()));
    world.fetcher.signal(Signal::KILL);
    disk.wake();
    world.fetcher.kill();
    running.end();
    assert_eq!(mode(), 0o750, "it has ended before");

    world.fetcher = world.fetcher.restart();
    wait_for("the fetch goes on by itself", || {
        let listed = world.fetcher.run(&["transfers"]).ok();
        (listed["transfers"][0]["state"] == "done").then_some(())
    });
    assert_eq!(mode(), 0o550);
    assert_eq!(fs::read_dir(&behind).unwrap().count(), FILES + 1);
    assert_eq!(
        fs::read_dir(&disk.behind).unwrap().count(),
        1,
        "a part is left"
    );
}
