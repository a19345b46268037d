//! Disks that are full. They are small file systems in memory, which only root may mount; without
//! root these tests say so and do nothing.

#![allow(clippy::print_stderr, reason = "a test that does nothing says why")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use shoal_tests::{Daemon, text, wait_for, write_content};

use super::{World, is_root};

/// A file system of a few MiB or a few files; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, limits: &str) -> Option<Self> {
        if !is_root() {
            eprintln!("skipped: a small disk can only be mounted by root");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", limits, "tmpfs"]).arg(at);
        let mounted = mount.output().unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
            eprintln!("skipped: no small disk can be mounted here: {why}");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_fetch_that_does_not_fit_is_refused_before_it_begins() {
    let world = World::new();
    let Some(_disk) = SmallDisk::mount(&world.at("disk"), "size=4m") else {
        return;
    };
    let source = world.beside("big");
    write_content(&source, "too big", 6 << 20);
    let daemon = world.daemon();
    let link = daemon.share(&source)["cid"].as_str().unwrap().to_owned();
    let says = ["6.0 MiB are needed and 4.0 MiB are free"];
    let advises = ["free some space", "-o"];
    let args = ["fetch", &link, "-o", "disk/got"];
    world.check(&args, 6, "no_space", &says, &advises);
    daemon.run(&["status"]).ok();
}

/// There is room for the bytes and not for the files: the disk fills up in the middle.
#[test]
fn a_disk_that_fills_up_in_the_middle_ends_the_fetch_and_the_next_one_goes_on() {
    let world = World::new();
    let disk = world.at("disk");
    let Some(_disk) = SmallDisk::mount(&disk, "size=4m,nr_inodes=30") else {
        return;
    };
    let source = world.beside("tree");
    for n in 0..20 {
        write_content(&source.join(format!("{n:02}")), &n.to_string(), 1000);
    }
    for n in 0..15 {
        File::create(disk.join(format!("in-the-way-{n}"))).unwrap();
    }
    let provider = Daemon::start(&world.beside("provider"), &[]);
    let link = provider.share(&source)["link"].as_str().unwrap().to_owned();
    let daemon = Daemon::start(&world.ground.home, &[&provider]);
    let got = disk.join("got");
    let full = daemon.run(&["fetch", &link, "-o", text(&got)]);
    full.fails(6, "no_space");
    let hint = full.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("run the same fetch again"), "{hint}");
    assert!(!got.exists(), "nothing unfinished is in place");
    daemon.run(&["status"]).ok();

    for n in 0..15 {
        fs::remove_file(disk.join(format!("in-the-way-{n}"))).unwrap();
    }
    daemon.fetch(&link, &got);
    shoal_tests::assert_same_tree(&source, &got);
}

#[test]
fn a_copy_that_does_not_fit_leaves_no_share_and_no_copy() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(&world.beside("disk"), "size=64m") else {
        return;
    };
    let source = world.beside("big");
    write_content(&source, "copied", 100 << 20);
    let ground = world.ground.on(disk.0.join("home"));
    let daemon = Daemon::start(&ground.home, &[]);
    let args = ["share", text(&source), "--copy"];
    let advises = ["free some space", "without --copy"];
    let says = ["no space is left", text(&disk.0)];
    ground.check(&super::refusal(&args, 6, "no_space", &says, &advises));
    let copies = ground.home.join("copies");
    // What a failed share leaves is collected beside the answer.
    wait_for("nothing but the empty folder", || {
        let emptied = !copies.exists() || fs::read_dir(&copies).unwrap().next().is_none();
        emptied.then_some(())
    });
    let listed = daemon.run(&["ls"]).ok();
    assert_eq!(listed["entries"], serde_json::json!([]));
    daemon.share(&source);
}

#[test]
fn a_home_on_a_full_disk_is_refused_and_left_as_it_is() {
    let world = World::new();
    let Some(disk) = SmallDisk::mount(&world.beside("disk"), "size=1m,nr_inodes=4") else {
        return;
    };
    let ground = world.ground.on(disk.0.join("home"));
    let says = ["space"];
    let args = ["daemon"];
    ground.check(&super::refusal(&args, 6, "no_space", &says, &[]));
}
