//! A disk that hangs: what is on it waits, everything else goes on, and so does that when the disk
//! answers again, without a command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use shoal_tests::{Daemon, assert_same_file, odd_disk::OddDisk, text, wait_for, write_content};

use super::{Running, World, run, warnings};

const BYTES: usize = 3_000_000;

/// The one transfer of a daemon.
fn transfer(daemon: &Daemon) -> Value {
    let listed = run(daemon, &["transfers"]).ok();
    listed["transfers"][0].clone()
}

fn names(warnings: &[String], disk: &Path) -> bool {
    let at = format!("the disk at {} has not answered", disk.display());
    warnings.iter().any(|warning| warning.contains(&at))
}

#[test]
fn a_disk_that_hangs_keeps_only_what_is_on_it_waiting() {
    let world = World::new();
    let Some(disk) = OddDisk::mount(&world.path("disk")) else {
        return;
    };
    let (on_it, beside) = (disk.at.join("on-it"), world.path("beside"));
    write_content(&disk.behind.join("on-it"), "on it", BYTES);
    write_content(&beside, "beside", BYTES);
    let (link, good) = (world.share(&on_it), world.share(&beside));
    assert_eq!(world.fetch(&link, "first").code, Some(0));

    disk.hang();
    let to = world.path("late");
    let home = world.fetcher.home().to_owned();
    let args = [
        "fetch",
        &link,
        "-o",
        text(&to),
        "--timeout",
        "100s",
        "--no-serve",
    ];
    let mut waiting = Running::start(&home, &args);
    wait_for("status to name the disk", || {
        names(&warnings(&world.sharer), &disk.at).then_some(())
    });
    // Nothing of this needs the disk.
    assert_eq!(world.fetch(&good, "good").code, Some(0));
    assert_same_file(&beside, &world.path("good"));
    write_content(&world.path("new"), "new", 1000);
    run(&world.sharer, &["share", text(&world.path("new"))]).ok();
    run(&world.sharer, &["ls"]).ok();
    run(&world.sharer, &["unshare", text(&world.path("new"))]).ok();
    for _ in 0..20 {
        assert!(names(&warnings(&world.sharer), &disk.at), "status goes on");
    }

    // A fetch onto it waits and says why; it alone.
    let onto = disk.at.join("onto");
    let args = ["fetch", &good, "-o", text(&onto), "--timeout", "100s"];
    let mut landing = Running::start(world.sharer.home(), &args);
    wait_for("the transfer to say what it waits for", || {
        let waits_for = transfer(&world.sharer)["waits_for"].clone();
        (waits_for == text(&disk.at)).then_some(())
    });
    let other = world.path("other");
    run(&world.sharer, &["fetch", &good, "-o", text(&other)]).ok();
    assert!(waiting.is_running() && landing.is_running());

    disk.wake();
    waiting.end().ok();
    landing.end().ok();
    assert_same_file(&disk.behind.join("on-it"), &to);
    assert_same_file(&beside, &disk.behind.join("onto"));
    wait_for("status to be content with the disk", || {
        (!names(&warnings(&world.sharer), &disk.at)).then_some(())
    });
}

#[test]
fn a_node_stops_and_starts_while_a_disk_hangs() {
    let world = World::new();
    let Some(disk) = OddDisk::mount(&world.path("disk")) else {
        return;
    };
    let beside = world.path("beside");
    write_content(&disk.behind.join("on-it"), "on it", BYTES);
    write_content(&beside, "beside", BYTES);
    world.share(&disk.at.join("on-it"));
    let good = world.share(&beside);
    disk.hang();
    wait_for("status to name the disk", || {
        names(&warnings(&world.sharer), &disk.at).then_some(())
    });
    run(&world.sharer, &["stop"]).ok();

    let again = Daemon::start(world.sharer.home(), &[]);
    let to = world.path("got");
    let args = ["fetch", &good, "-o", text(&to), "--peer", &again.address];
    run(&world.fetcher, &args).ok();
    assert_same_file(&beside, &to);
    disk.wake();
    run(&again, &["verify"]).ok();
}

/// A file system in a file, mounted over a loop device; thawed and unmounted when dropped.
struct LoopDisk(PathBuf);

impl LoopDisk {
    fn mount(world: &World) -> Option<Self> {
        let (image, at) = (world.path("image"), world.path("frozen"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let made = system("mke2fs", &["-q", "-t", "ext4", text(&image)]);
        let mounted = made && system("mount", &["-o", "loop", text(&image), text(&at)]);
        if !mounted {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI has to have loop devices"
            );
            #[expect(clippy::print_stderr, reason = "a test that does nothing says why")]
            {
                eprintln!("skipped: no file system can be mounted over a loop device here");
            }
            return None;
        }
        Some(Self(at))
    }

    fn freeze(&self) {
        assert!(system("fsfreeze", &["--freeze", text(&self.0)]));
    }

    fn thaw(&self) {
        system("fsfreeze", &["--unfreeze", text(&self.0)]);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.thaw();
        system("umount", &["--lazy", text(&self.0)]);
    }
}

fn system(program: &str, args: &[&str]) -> bool {
    let run = Command::new(program).args(args).output();
    run.is_ok_and(|run| run.status.success())
}

/// Threads that write to a frozen file system cannot be killed, either.
#[test]
fn a_fetch_onto_a_frozen_disk_holds_up_nothing_else_and_no_stop() {
    let world = World::new();
    let Some(disk) = LoopDisk::mount(&world) else {
        return;
    };
    let source = world.path("source");
    write_content(&source, "frozen", BYTES);
    let link = world.share(&source);
    disk.freeze();
    let onto = disk.0.join("onto");
    let home = world.fetcher.home().to_owned();
    let landing = Running::start(
        &home,
        &["fetch", &link, "-o", text(&onto), "--timeout", "100s"],
    );
    wait_for("the transfer to say what it waits for", || {
        let waits_for = transfer(&world.fetcher)["waits_for"].clone();
        (waits_for == text(&disk.0)).then_some(())
    });
    assert_eq!(world.fetch(&link, "beside").code, Some(0));
    run(&world.fetcher, &["pause", "1"]).fails(1, "busy");
    run(&world.fetcher, &["stop"]).ok();
    landing.end();

    let again = Daemon::start(&home, &[&world.sharer]);
    run(&again, &["status"]).ok();
    disk.thaw();
    wait_for("the fetch to go on by itself", || {
        onto.exists().then_some(())
    });
    assert_same_file(&source, &onto);
    drop(again);
}
