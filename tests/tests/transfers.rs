//! Transfers as things: each is in one state, survives what happens to its daemon, and goes on,
//! rests or goes as it is told.
//!
//! The provider is a peer that stops after some chunks until it is let go on, so every transfer is
//! in the middle for as long as a test wants it to be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{
    Daemon, Ran, command, content,
    peer::{Blocks, Peer},
    run, scratch, text, wait_for,
};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// The length of every file that is fetched, and what of it is there in the middle.
const WHOLE: usize = 40 * MIB;
const HALF: usize = 10 * MIB;

/// A peer that stops in the middle of a file, and a place to fetch it to.
struct Setting {
    peer: Peer,
    cid: String,
    dir: TempDir,
}

impl Setting {
    fn new(seed: &str) -> Self {
        let mut blocks = Blocks::default();
        let cid = blocks.file(&content(seed, WHOLE)).to_string();
        let setting = Self {
            peer: Peer::start_gated(blocks, HALF / MIB),
            cid,
            dir: scratch(),
        };
        fs::create_dir(setting.got()).unwrap();
        setting
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The folder that is fetched into.
    fn got(&self) -> PathBuf {
        self.dir.path().join("got")
    }

    fn fetch_args<'a>(&'a self, output: &'a Path) -> [&'a str; 6] {
        let (address, output) = (self.peer.address.as_str(), text(output));
        ["fetch", &self.cid, "--peer", address, "-o", output]
    }

    /// A fetch in the background.
    fn begin(&self, output: &Path) -> Child {
        command(&self.home(), &self.fetch_args(output))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Begins a fetch and waits until it is in the middle.
    fn begin_and_wait(&self, daemon: &Daemon, output: &Path) -> Child {
        let fetch = self.begin(output);
        wait_for("the transfer is in the middle", || {
            let listed = transfer_at(daemon, output)?;
            (listed["verified_bytes"].as_u64()? >= HALF as u64).then_some(())
        });
        fetch
    }

    fn assert_whole(&self, seed: &str, output: &Path) {
        assert!(fs::read(output).unwrap() == content(seed, WHOLE));
        let names = fs::read_dir(self.got()).unwrap().count();
        assert_eq!(names, 1, "no part stays behind");
    }
}

fn ended(fetch: Child) -> Ran {
    Ran::new(&fetch.wait_with_output().unwrap())
}

fn transfers(daemon: &Daemon) -> Vec<Value> {
    let listed = daemon.run(&["transfers"]).ok();
    listed["transfers"].as_array().unwrap().clone()
}

fn transfer_at(daemon: &Daemon, output: &Path) -> Option<Value> {
    let mut listed = transfers(daemon).into_iter();
    listed.find(|it| it["path"] == text(output))
}

fn wait_until(daemon: &Daemon, id: &Value, state: &str) -> Value {
    wait_for(&format!("transfer {id} is {state}"), || {
        let mut listed = transfers(daemon).into_iter();
        listed.find(|it| it["id"] == *id && it["state"] == state)
    })
}

fn left_over(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_transfer_pauses_and_resumes_in_the_middle() {
    let setting = Setting::new("paused");
    let b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    let listed = transfer_at(&b, &output).unwrap();
    assert_eq!(listed["state"], "running", "{listed}");
    assert_eq!(listed["bytes_total"], WHOLE, "{listed}");

    let paused = b.run(&["pause", "1"]).ok();
    assert_eq!(
        (&paused["state"], &paused["cid"]),
        (&"paused".into(), &setting.cid.as_str().into())
    );
    assert_eq!(paused["bytes"], HALF, "{paused}");
    let waited = ended(fetch);
    waited.fails(130, "interrupted");
    let hint = waited.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("shoal resume"), "{hint}");
    assert!(!output.exists());
    assert_eq!(b.run(&["pause", "1"]).ok()["state"], "paused", "again");
    let status = b.run(&["status"]).ok();
    assert_eq!(status["transfers"][0]["state"], "paused", "{status}");

    // The beginning of the root names it as well.
    b.run(&["resume", &setting.cid[..24]]).ok();
    setting.peer.open();
    let done = wait_until(&b, &paused["id"], "done");
    assert_eq!(done["bytes"], WHOLE, "{done}");
    setting.assert_whole("paused", &output);
    assert_eq!(b.run(&["status"]).ok()["transfers"], Value::Array(vec![]));

    for what in ["pause", "resume"] {
        b.run(&[what, "1"]).fails(1, "no_transfer");
        b.run(&[what, "7"]).fails(1, "no_transfer");
    }
    b.run(&["cancel", "1"]).ok();
    assert!(transfers(&b).is_empty(), "what is done can be cleared away");
    assert!(output.exists());
}

#[test]
fn a_killed_daemon_goes_on_with_what_ran_and_not_with_what_was_paused() {
    let setting = Setting::new("killed");
    let other = Setting::new("rests");
    let mut b = Daemon::start(&setting.home(), &[]);
    let rests = other.got().join("file");
    let fetch = command(&setting.home(), &other.fetch_args(&rests))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let listed = wait_for("the first is listed", || transfer_at(&b, &rests));
    b.run(&["pause", &listed["id"].to_string()]).ok();
    ended(fetch);
    let output = setting.got().join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    b.kill();
    ended(fetch).fails(1, "daemon_lost");

    let b = b.restart();
    setting.peer.open();
    other.peer.open();
    let id = transfer_at(&b, &output).unwrap()["id"].clone();
    wait_until(&b, &id, "done");
    setting.assert_whole("killed", &output);
    let paused = transfer_at(&b, &rests).unwrap();
    assert_eq!(paused["state"], "paused", "{paused}");

    // Numbers are not given again.
    let third = setting.got().join("third");
    b.run(&setting.fetch_args(&third)).ok();
    let third = transfer_at(&b, &third).unwrap();
    assert!(third["id"].as_u64() > id.as_u64(), "{third}");
    b.run(&["resume", &paused["id"].to_string()]).ok();
    wait_until(&b, &paused["id"], "done");
    other.assert_whole("rests", &rests);
}

#[test]
fn a_stopped_daemon_goes_on_with_what_was_waited_for() {
    let setting = Setting::new("stopped");
    let b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    b.run(&["stop"]).ok();
    ended(fetch).fails(1, "shutting_down");
    setting.peer.open();
    let b = b.restart();
    wait_until(&b, &Value::from(1), "done");
    setting.assert_whole("stopped", &output);
}

#[test]
fn an_interrupted_fetch_is_listed_and_the_same_fetch_goes_on() {
    let setting = Setting::new("interrupted");
    let b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    kill_process(Pid::from_child(&fetch), Signal::INT).unwrap();
    ended(fetch).fails(130, "interrupted");
    let paused = wait_until(&b, &Value::from(1), "paused");
    assert_eq!(paused["reason"], "interrupted", "{paused}");
    assert_eq!(paused["bytes"], HALF, "{paused}");

    setting.peer.open();
    let fetched = b.run(&setting.fetch_args(&output)).ok();
    assert_eq!(fetched["resumed_bytes"], HALF, "{fetched}");
    setting.assert_whole("interrupted", &output);
    assert_eq!(transfers(&b).len(), 1, "it is the same transfer");
}

#[test]
fn a_fetch_without_a_daemon_is_found_by_the_daemon_and_rests() {
    let setting = Setting::new("alone");
    let output = setting.got().join("file");
    let fetch = setting.begin(&output);
    wait_for("the peer has sent what it may", || {
        (setting.peer.sent() >= (HALF / MIB) as u64).then_some(())
    });
    kill_process(Pid::from_child(&fetch), Signal::INT).unwrap();
    ended(fetch).fails(130, "interrupted");
    let b = Daemon::start(&setting.home(), &[]);
    let paused = transfer_at(&b, &output).unwrap();
    assert_eq!(paused["state"], "paused", "{paused}");
    assert_eq!(paused["reason"], "interrupted", "{paused}");
    setting.peer.open();
    b.run(&["resume", &setting.cid]).ok();
    wait_until(&b, &paused["id"], "done");
    setting.assert_whole("alone", &output);
}

#[test]
fn what_is_cancelled_while_it_runs_leaves_nothing() {
    let setting = Setting::new("cancelled");
    let b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("file");

    let fetch = setting.begin_and_wait(&b, &output);
    assert_eq!(left_over(&setting.got()).len(), 1, "a part");
    let cancelled = b.run(&["cancel", "1"]).ok();
    assert_eq!(cancelled["id"], 1, "{cancelled}");
    ended(fetch).fails(130, "interrupted");
    assert!(left_over(&setting.got()).is_empty());
    assert!(transfers(&b).is_empty());
    b.run(&["cancel", "1"]).fails(1, "no_transfer");
}

#[test]
fn what_rests_can_be_cancelled_after_a_restart() {
    let setting = Setting::new("cancelled");
    let b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    b.run(&["pause", &setting.cid]).ok();
    ended(fetch).fails(130, "interrupted");
    let b = b.restart();
    b.run(&["cancel", &setting.cid]).ok();
    assert!(left_over(&setting.got()).is_empty());
    assert!(transfers(&b).is_empty());

    setting.peer.open();
    let fetched = b.run(&setting.fetch_args(&output)).ok();
    assert_eq!(fetched["resumed_bytes"], 0, "{fetched}");
    assert_eq!(fetched["downloaded_bytes"], WHOLE, "{fetched}");
    setting.assert_whole("cancelled", &output);
}

#[test]
fn more_fetches_than_can_run_wait_for_their_turn() {
    const FETCHES: usize = 18;
    let mut blocks = Blocks::default();
    let cid = blocks.file(&content("queued", 1000)).to_string();
    let setting = Setting {
        peer: Peer::start_gated(blocks, 0),
        cid,
        dir: scratch(),
    };
    fs::create_dir(setting.got()).unwrap();
    let b = Daemon::start(&setting.home(), &[]);
    let outputs = (0..FETCHES).map(|n| setting.got().join(n.to_string()));
    let outputs: Vec<_> = outputs.collect();
    let fetches: Vec<_> = outputs.iter().map(|it| setting.begin(it)).collect();
    wait_for("all are there", || {
        let listed = transfers(&b);
        let count = |state: &str| listed.iter().filter(|it| it["state"] == state).count();
        (count("running") == 16 && count("queued") == FETCHES - 16).then_some(())
    });
    setting.peer.open();
    fetches.into_iter().for_each(|it| drop(ended(it).ok()));
    assert!(outputs.iter().all(|it| it.exists()));
}

#[test]
fn small_files_of_a_tree_are_asked_for_together() {
    const FILES: usize = 200;
    let dir = scratch();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for n in 0..FILES {
        fs::write(tree.join(n.to_string()), content(&n.to_string(), 5_000)).unwrap();
    }
    let mut blocks = Blocks::default();
    let cid = blocks.path(&tree).unwrap().to_string();
    let setting = Setting {
        peer: Peer::start_gated(blocks, 0),
        cid,
        dir,
    };
    fs::create_dir(setting.got()).unwrap();
    let b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("tree");
    let fetch = setting.begin(&output);
    // Nothing was sent, so this is what is in flight: a MiB of them, and the folder itself.
    wait_for("all are asked for", || {
        (setting.peer.asked() > FILES as u64).then_some(())
    });
    setting.peer.open();
    ended(fetch).ok();
    for n in 0..FILES {
        let (got, shared) = (output.join(n.to_string()), tree.join(n.to_string()));
        assert!(fs::read(got).unwrap() == fs::read(shared).unwrap(), "{n}");
    }
    drop(b);
}

/// A file system that is full at will; it goes when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None when this user may not mount one.
    fn mount(at: &Path, bytes: usize) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .output();
        let mounted = mounted.is_ok_and(|it| it.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        drop(unmounted);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_full_disk_pauses_a_transfer_that_goes_on_when_there_is_room() {
    let setting = Setting::new("full");
    let Some(disk) = SmallDisk::mount(&setting.dir.path().join("disk"), WHOLE + 8 * MIB) else {
        eprintln!("skipped: only root can mount a small file system");
        return;
    };
    let b = Daemon::start(&setting.home(), &[]);
    let output = disk.0.join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![1; WHOLE - HALF]).unwrap();
    setting.peer.open();
    let failed = ended(fetch);
    failed.fails(6, "no_space");
    let hint = failed.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("run the same fetch again"), "{hint}");
    let paused = transfer_at(&b, &output).unwrap();
    assert_eq!(paused["state"], "paused", "{paused}");
    let reason = paused["reason"].as_str().unwrap();
    assert!(reason.contains("space"), "{reason}");
    assert!(
        paused["verified_bytes"].as_u64().unwrap() >= HALF as u64,
        "{paused}"
    );

    fs::remove_file(&filler).unwrap();
    let fetched = b.run(&setting.fetch_args(&output)).ok();
    let resumed = fetched["resumed_bytes"].as_u64().unwrap();
    assert!(resumed >= HALF as u64, "{fetched}");
    assert!(fs::read(&output).unwrap() == content("full", WHOLE));
}

#[test]
fn where_there_is_no_home_there_are_no_transfers() {
    let dir = scratch();
    let home = dir.path().join("home");
    let listed = run(&home, &["transfers"]).ok();
    assert_eq!(listed["transfers"].as_array().unwrap().len(), 0);
    for what in ["pause", "resume", "cancel"] {
        run(&home, &[what, "1"]).fails(1, "no_transfer");
        let told = run(&home, &[what, "all"]).ok();
        assert_eq!(told["transfers"].as_array().unwrap().len(), 0, "{what}");
    }
    assert!(!home.exists(), "a look makes no home");
}

#[test]
fn transfers_are_told_without_a_daemon_too() {
    let setting = Setting::new("told alone");
    let mut b = Daemon::start(&setting.home(), &[]);
    let output = setting.got().join("file");
    let fetch = setting.begin_and_wait(&b, &output);
    let id = transfer_at(&b, &output).unwrap()["id"].to_string();
    b.kill();
    assert_eq!(ended(fetch).code, Some(1));
    let home = setting.home();
    let on_home = |args: &[&str]| run(&home, args);
    let state = || {
        let listed = on_home(&["transfers"]).ok();
        listed["transfers"][0]["state"].clone()
    };
    assert_eq!(state(), "paused", "it rests, for a daemon to go on");
    assert_eq!(on_home(&["pause", "file"]).ok()["state"], "paused");
    let b = Daemon::start(&home, &[]);
    assert_eq!(
        transfer_at(&b, &output).unwrap()["state"],
        "paused",
        "a daemon leaves it"
    );
    b.run(&["stop"]).ok();
    assert_eq!(on_home(&["resume", &id]).ok()["state"], "queued");
    assert_eq!(state(), "paused", "nothing runs without a daemon");
    on_home(&["cancel", "all"]).ok();
    assert!(
        left_over(&setting.got()).is_empty(),
        "nothing of it is left"
    );
    assert_eq!(state(), Value::Null);
}

#[test]
fn several_transfers_are_told_at_once_and_each_failure_is_named() {
    let setting = Setting::new("told several");
    let b = Daemon::start(&setting.home(), &[]);
    let (one, other) = (setting.got().join("one"), setting.got().join("other"));
    let (first, second) = (setting.begin(&one), setting.begin(&other));
    for output in [&one, &other] {
        wait_for("the transfer runs", || {
            (transfer_at(&b, output)?["state"] == "running").then_some(())
        });
    }
    let id = transfer_at(&b, &one).unwrap()["id"].to_string();
    let told = b.run(&["pause", &id, "other", "nothing\n", "999"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert_eq!(told.json["error"]["code"], "no_transfer");
    assert_eq!(told.json["transfers"].as_array().unwrap().len(), 2);
    let failed = told.json["failed"].as_array().unwrap();
    assert_eq!(failed[0]["transfer"], "nothing\n");
    assert_eq!(failed[1]["error"]["code"], "no_transfer");
    assert!(told.stderr.contains("nothing\\n"), "{}", told.stderr);
    assert_eq!(
        (ended(first).code, ended(second).code),
        (Some(130), Some(130))
    );
    // Both have one root, which names neither of them.
    let ambiguous = b.run(&["resume", &setting.cid]);
    ambiguous.fails(1, "no_transfer");
    let hint = ambiguous.json["error"]["hint"].as_str().unwrap();
    assert!(
        hint.contains(text(&one)) && hint.contains(text(&other)),
        "{hint}"
    );
    setting.peer.open();
    let told = b.run(&["resume", "all"]).ok();
    assert_eq!(told["transfers"].as_array().unwrap().len(), 2);
    for output in [&one, &other] {
        let id = transfer_at(&b, output).unwrap()["id"].clone();
        wait_until(&b, &id, "done");
        assert!(fs::read(output).unwrap() == content("told several", WHOLE));
    }
    assert_eq!(
        b.run(&["pause", "all"]).ok()["transfers"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

#[test]
fn a_fetch_in_the_background_returns_at_once_and_goes_on() {
    let setting = Setting::new("background");
    let output = setting.got().join("file");
    let args = [&setting.fetch_args(&output)[..], &["--background"]].concat();
    let refused = run(&setting.home(), &args);
    refused.fails(4, "no_daemon");
    let hint = refused.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("shoal daemon --detach"), "{hint}");

    let b = Daemon::start(&setting.home(), &[]);
    let transfer = b.run(&args).ok();
    assert_eq!(transfer["path"], text(&output), "{transfer}");
    setting.peer.open();
    wait_until(&b, &transfer["id"], "done");
    setting.assert_whole("background", &output);
}

#[test]
fn work_for_a_daemon_only_is_not_done_without_one() {
    let dir = scratch();
    let (home, file) = (dir.path().join("home"), dir.path().join("file"));
    fs::write(&file, b"x").unwrap();
    let cid = "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am";
    for args in [&["share", text(&file)][..], &["fetch", cid]] {
        let args = [args, &["--daemon-only"]].concat();
        run(&home, &args).fails(4, "no_daemon");
        assert!(!home.exists(), "{args:?} made a home");
    }
    let args = [
        "fetch",
        cid,
        "--daemon-only",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
    ];
    run(&home, &args).fails(2, "usage");

    let daemon = Daemon::start(&home, &[]);
    let args = ["share", text(&file), "--no-announce", "--daemon-only"];
    assert_eq!(daemon.run(&args).ok()["files"], 1);
}
