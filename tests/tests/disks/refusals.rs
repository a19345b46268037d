//! Disks that do not take everything, as FAT, exFAT, SMB and eCryptfs do not: what a disk cannot keep is
//! left out and said once; only content that it cannot take fails a fetch, by its name, before any of
//! it is fetched.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use rustix::io::Errno;
use shoal_tests::{
    Ran, assert_same_file,
    odd_disk::{OddDisk, Refusals},
    shoal,
    small_disk::{DiskKind, SmallDisk},
    text, uml, write_content,
};

use super::World;

/// What a disk says of what it has fetched so far.
fn downloaded(world: &World) -> u64 {
    let status = world.fetcher.run(&["status"]).ok();
    status["downloaded_bytes"].as_u64().unwrap()
}

/// Asserts that a fetch is refused, says what stands in the way, has fetched and left nothing.
fn assert_refused(world: &World, at: &Path, refused: &Ran, exit: i32, code: &str, says: &[&str]) {
    refused.fails(exit, code);
    let message = refused.json["error"]["message"].as_str().unwrap();
    for part in says {
        assert!(message.contains(part), "{message}: {part}");
    }
    assert_eq!(downloaded(world), 0, "{message}");
    assert_eq!(fs::read_dir(at).unwrap().count(), 0, "{message}");
}

#[test]
fn what_a_disk_does_not_keep_is_left_out_counted_and_said_once() {
    let world = World::new();
    let refusals = Refusals {
        symlinks: Some(Errno::PERM),
        modes: true,
        times: true,
        ..Refusals::default()
    };
    let Some(disk) = OddDisk::mount_refusing(&world.path("disk"), refusals) else {
        return;
    };
    let tree = world.path("tree");
    write_content(&tree.join("big"), "big", 3_000_000);
    write_content(&tree.join("sub/small"), "small", 10);
    fs::set_permissions(tree.join("big"), fs::Permissions::from_mode(0o606)).unwrap();
    fs::set_permissions(tree.join("sub"), fs::Permissions::from_mode(0o701)).unwrap();
    symlink("big", tree.join("latest")).unwrap();
    symlink("../big", tree.join("sub/up")).unwrap();
    let share = ["share", "--preserve", "mode,mtime", text(&tree)];
    let shared = world.sharer.run(&share).ok();
    let link = shared["link"].as_str().unwrap();
    let fetched = world.fetcher.fetch(link, &disk.at.join("got"));
    // Of two files and two folders, one has a mode that no mask of a process lets through at once.
    let unkept = serde_json::json!({ "symlinks": 2, "modes": 1, "times": 4 });
    assert_eq!(fetched["unkept"], unkept, "{fetched}");
    assert_eq!(fetched["skipped"], 2, "{fetched}");
    let warnings = fetched["warnings"].as_array().unwrap();
    let about = |word: &str| {
        let of = warnings
            .iter()
            .filter(|it| it.as_str().unwrap().contains(word));
        of.count()
    };
    for word in ["latest, sub/up", "permissions of 1", "exact times of 4"] {
        assert_eq!(about(word), 1, "{word}: {fetched}");
    }
    assert_same_file(&tree.join("big"), &disk.at.join("got/big"));
    assert!(disk.behind.join("got/latest").symlink_metadata().is_err());
    world.fetcher.run(&["verify"]).ok();

    // The same for people.
    let again = disk.at.join("again");
    let mut command = Command::new(shoal());
    command.arg("--home").arg(world.fetcher.home());
    let said = command
        .args(["fetch", link, "-o", text(&again)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.matches("no symbolic links").count(), 1, "{said}");
    assert!(said.contains("latest"), "{said}");
}

/// An error of the disk is no word on what it keeps.
#[test]
fn a_disk_in_trouble_is_not_one_without_symlinks() {
    let world = World::new();
    let tree = world.path("tree");
    write_content(&tree.join("big"), "big", 3_000_000);
    symlink("big", tree.join("latest")).unwrap();
    let link = world.share(&tree);
    for (number, (errno, code, says)) in [
        (Errno::IO, "internal", "the disk reports an error"),
        (Errno::DQUOT, "no_space", "the quota on the disk is used up"),
    ]
    .into_iter()
    .enumerate()
    {
        let refusals = Refusals {
            symlinks: Some(errno),
            ..Refusals::default()
        };
        let folder = world.path(&number.to_string());
        let Some(disk) = OddDisk::mount_refusing(&folder, refusals) else {
            return;
        };
        let got = disk.at.join("got");
        let refused = world.fetcher.run(&["fetch", &link, "-o", text(&got)]);
        let exit = if code == "internal" { 1 } else { 6 };
        assert_refused(&world, &disk.at, &refused, exit, code, &[text(&got), says]);
    }
}

#[test]
fn names_that_are_too_long_are_named_before_anything_is_fetched() {
    const LIMIT: usize = 143;
    let world = World::new();
    let refusals = Refusals {
        name_bytes: Some(LIMIT),
        ..Refusals::default()
    };
    let Some(disk) = OddDisk::mount_refusing(&world.path("disk"), refusals) else {
        return;
    };
    let (fits, long) = ("f".repeat(LIMIT), "l".repeat(LIMIT + 1));
    let share = |name: &str| {
        write_content(&world.path(name), name, 1_500_000);
        let (shared, _) = name.split_once('/').unwrap_or((name, ""));
        world.share(&world.path(shared))
    };
    let link = share(&format!("tree/{fits}"));
    let link_of_long = share(&format!("other/sub/{long}"));
    // Our own part of it, too, has a name that fits.
    let link_of_file = share(&fits);
    let link_of_long_file = share(&long);
    let into = format!("{}/", text(&disk.at));

    let fetch = |link: &str| world.fetcher.run(&["fetch", link, "-o", &into]);
    let named = format!("sub/{long}");
    let says = ["at most 143 bytes", &named];
    assert_refused(
        &world,
        &disk.at,
        &fetch(&link_of_long),
        1,
        "bad_name",
        &says,
    );
    let refused = fetch(&link_of_long_file);
    assert_refused(
        &world,
        &disk.at,
        &refused,
        1,
        "bad_name",
        &[&long, "too long"],
    );
    for (link, name) in [(&link, "tree"), (&link_of_file, fits.as_str())] {
        fetch(link).ok();
        assert!(disk.at.join(name).exists());
    }
}

#[test]
fn files_that_are_too_large_are_named_before_anything_is_fetched() {
    let world = World::new();
    let refusals = Refusals {
        file_bytes: Some((4 << 20) - 1),
        ..Refusals::default()
    };
    let Some(disk) = OddDisk::mount_refusing(&world.path("disk"), refusals) else {
        return;
    };
    let tree = world.path("tree");
    for name in ["a", "b"] {
        write_content(&tree.join(name), name, 3_000_000);
    }
    write_content(&tree.join("films/film"), "film", 9_000_000);
    let into = format!("{}/", text(&disk.at));
    for path in [&tree.join("films/film"), &tree] {
        let link = world.share(path);
        let refused = world.fetcher.run(&["fetch", &link, "-o", &into]);
        let says = ["too large", "film (8.6 MiB)"];
        assert_refused(&world, &disk.at, &refused, 6, "no_space", &says);
    }
    // What fits can be had.
    let link = world.share(&tree);
    let some = ["fetch", &link, "--only", "a", "--only", "b", "-o", &into];
    world.fetcher.run(&some).ok();
    assert_same_file(&tree.join("a"), &disk.at.join("tree/a"));
}

/// A disk may have room for bytes and for no more files.
#[test]
fn a_disk_without_free_inodes_is_not_said_to_be_without_space() {
    let world = World::new();
    let tree = world.path("tree");
    for number in 0..100 {
        write_content(&tree.join(number.to_string()), "small", 100);
    }
    let Some(disk) = SmallDisk::with_inodes(64, 64 << 20, &world.path("small")) else {
        return;
    };
    let says = |refused: &Ran| {
        refused.fails(6, "no_space");
        let error = refused.json["error"].to_string();
        for word in ["no free inodes", "`df -i`", text(&disk.at)] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(!error.contains("no space is left"), "{error}");
    };
    let link = world.share(&tree);
    let got = disk.at.join("got");
    says(&world.fetcher.run(&["fetch", &link, "-o", text(&got)]));
    // Nothing more can be made there, the home and a copy either.
    let mut taken = 0;
    while fs::write(disk.at.join(taken.to_string()), "").is_ok() {
        taken += 1;
    }
    says(
        &world
            .fetcher
            .run(&["fetch", &link, "-o", text(&disk.at.join("other"))]),
    );
    says(&shoal_tests::run(&disk.at.join("home"), &["daemon"]));
}

/// As FAT says it, which takes no file of 4 GiB.
#[test]
fn a_file_of_4_gib_is_named_before_anything_is_fetched_to_fat() {
    const DISK_BYTES: u64 = 64 << 20;
    if uml::has_run("refusals::a_file_of_4_gib_is_named_before_anything_is_fetched_to_fat") {
        return;
    }
    let world = World::new();
    let folder = world.path("disk");
    let Some(disk) = SmallDisk::mount(DiskKind::Fat, DISK_BYTES, &folder, "") else {
        return;
    };
    let tree = world.path("tree");
    write_content(&tree.join("a"), "a", 3_000_000);
    let film = tree.join("films/film");
    fs::create_dir(tree.join("films")).unwrap();
    fs::File::create(&film).unwrap().set_len(4 << 30).unwrap();
    let into = format!("{}/", text(&disk.at));
    let link = world.share(&tree);
    let refused = world.fetcher.run(&["fetch", &link, "-o", &into]);
    let says = ["too large", "film (4.0 GiB)"];
    assert_refused(&world, &disk.at, &refused, 6, "no_space", &says);
    let some = ["fetch", &link, "--only", "a", "-o", &into];
    world.fetcher.run(&some).ok();
    assert_same_file(&tree.join("a"), &disk.at.join("tree/a"));
}

/// FAT keeps no two names that differ in case only, and none with a colon.
#[test]
fn names_that_fat_does_not_keep_are_named_before_anything_is_fetched() {
    const DISK_BYTES: u64 = 64 << 20;
    if uml::has_run("refusals::names_that_fat_does_not_keep_are_named_before_anything_is_fetched") {
        return;
    }
    let world = World::new();
    let folder = world.path("disk");
    let Some(disk) = SmallDisk::mount(DiskKind::Fat, DISK_BYTES, &folder, "") else {
        return;
    };
    let into = format!("{}/", text(&disk.at));
    for (tree, names) in [("case", ["README", "readme"]), ("colon", ["a", "b:c"])] {
        for name in names {
            write_content(&world.path(tree).join(name), name, 10_000);
        }
        let link = world.share(&world.path(tree));
        let refused = world.fetcher.run(&["fetch", &link, "-o", &into]);
        assert_refused(&world, &disk.at, &refused, 1, "bad_name", &[names[1]]);
    }
    for (tree, name, lands) in [("case", "readme", "readme (2)"), ("colon", "b:c", "b%3Ac")] {
        let link = world.share(&world.path(tree));
        let renamed = ["fetch", &link, "--rename-unsafe", "-o", &into];
        world.fetcher.run(&renamed).ok();
        let landed = disk.at.join(tree).join(lands);
        assert_same_file(&world.path(tree).join(name), &landed);
    }
    world.fetcher.run(&["verify"]).ok();
}
