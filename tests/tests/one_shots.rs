//! Commands that work without a daemon, alone and beside each other on one home: what they share ends
//! with them, and each goes on by itself when the one that served the home has ended.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{
    Daemon, Ran, content,
    peer::{Blocks, Peer},
    run, scratch, text, wait_for, write_content,
};
use tempfile::TempDir;

/// The environment of a node on loopback.
const LOOPBACK: [(&str, &str); 2] = [
    ("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0"),
    ("SHOAL_NETWORK_MDNS", "false"),
];

fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = shoal_tests::command(home, args);
    command
        .envs(LOOPBACK)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A command that serves; killed when dropped.
struct Share {
    child: Child,
    printed: BufReader<ChildStdout>,
    json: Value,
}

impl Share {
    fn start(home: &Path, args: &[&str]) -> Self {
        let mut child = command(home, &[&["share"], args].concat()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        printed.read_line(&mut line).unwrap();
        let json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self {
            child,
            printed,
            json,
        }
    }

    fn link(&self) -> &str {
        self.json["link"].as_str().unwrap()
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended; its exit code and what it said on stderr.
    fn ended(&mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let said = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (status.code(), said)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::io::read_to_string(&mut self.printed);
    }
}

struct World {
    dir: TempDir,
    /// Who fetches.
    other: Daemon,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let other = Daemon::start(&dir.path().join("other"), &[]);
        Self { dir, other }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("files").join(name);
        write_content(&path, name, 100_000);
        path
    }

    fn fetches(&self, link: &str, name: &str) {
        let output = self.dir.path().join(format!("got {name}"));
        let _ = fs::remove_file(&output);
        self.other
            .run(&["fetch", link, "--no-serve", "-o", text(&output)])
            .ok();
        assert!(fs::read(output).unwrap() == content(name, 100_000));
    }

    /// The names of what the home shares.
    fn shared(&self) -> Vec<String> {
        let listed = run(&self.home(), &["ls"]).ok();
        let names = listed["entries"].as_array().unwrap().iter();
        names
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn process(&self) -> Option<u32> {
        let id = run(&self.home(), &["id"]);
        let pid = id.json["process"]["pid"].as_u64()?;
        u32::try_from(pid).ok()
    }
}

#[test]
fn what_one_command_shared_ends_with_it_however_that_is() {
    let world = World::new();
    let (file, kept) = (world.file("one"), world.file("kept"));
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut share = Share::start(&world.home(), &[text(&file)]);
        assert_eq!(share.json["keep"], false);
        world.fetches(share.link(), "one");
        share.signal(signal);
        let (code, said) = share.ended();
        let expected = (signal != Signal::KILL).then_some(0);
        assert_eq!(code, expected, "{signal:?}: {said}");
        assert!(
            said.contains("Serving until Ctrl-C, and no longer"),
            "{said}"
        );
        assert!(world.shared().is_empty(), "{signal:?}");
        assert!(file.exists());
    }
    // Also for a daemon that finds it in the database.
    let share = Share::start(&world.home(), &[text(&file)]);
    share.signal(Signal::KILL);
    drop(share);
    let daemon = Daemon::start(&world.home(), &[]);
    assert!(world.shared().is_empty());
    daemon.run(&["stop"]).ok();

    // With --keep it stays, and what stays is not taken by a command that shares it again.
    let mut share = Share::start(&world.home(), &[text(&kept), "--keep"]);
    share.signal(Signal::INT);
    assert_eq!(share.ended().0, Some(0));
    let mut again = Share::start(&world.home(), &[text(&kept)]);
    assert_eq!(again.json["keep"], true);
    again.signal(Signal::INT);
    let (_, said) = again.ended();
    assert!(said.contains("stays shared"), "{said}");
    assert_eq!(world.shared(), ["kept"]);
    run(&world.home(), &["unshare", text(&kept)]).ok();
    assert!(world.shared().is_empty() && kept.exists());
}

#[test]
fn a_second_share_takes_over_when_the_first_ends_or_is_killed() {
    let world = World::new();
    let (one, two) = (world.file("one"), world.file("two"));
    for signal in [Signal::INT, Signal::KILL] {
        let first = Share::start(&world.home(), &[text(&one)]);
        let mut second = Share::start(&world.home(), &[text(&two)]);
        assert_eq!(world.process(), Some(first.pid()));
        assert_eq!(world.shared(), ["one", "two"]);
        let listed = run(&world.home(), &["ls"]).ok();
        assert_eq!(listed["entries"][1]["processes"][0], second.pid());
        first.signal(signal);
        wait_for("the second command serves the home", || {
            (world.process()? == second.pid()).then_some(())
        });
        assert_eq!(world.shared(), ["two"], "{signal:?}");
        // The link was made when the first one served.
        world.fetches(second.link(), "two");
        second.signal(Signal::INT);
        let (code, said) = second.ended();
        assert_eq!(code, Some(0), "{said}");
        let served = format!("Served by process {}", first.pid());
        assert!(
            said.contains(&served) && said.contains("takes over"),
            "{said}"
        );
        assert!(
            said.contains("shoal --home"),
            "it names the command: {said}"
        );
        assert!(said.contains("this one serves the home now"), "{said}");
        assert!(world.shared().is_empty());
    }
}

#[test]
fn a_second_share_that_ends_first_leaves_the_first_alone() {
    let world = World::new();
    let (one, two) = (world.file("one"), world.file("two"));
    let first = Share::start(&world.home(), &[text(&one)]);
    let mut second = Share::start(&world.home(), &[text(&two)]);
    // The same place by two commands lasts as long as one of them.
    let third = Share::start(&world.home(), &[text(&one)]);
    second.signal(Signal::INT);
    assert_eq!(second.ended().0, Some(0));
    wait_for("its share has ended", || {
        (world.shared() == ["one"]).then_some(())
    });
    third.signal(Signal::KILL);
    drop(third);
    wait_for("its process is forgotten", || {
        let listed = run(&world.home(), &["ls"]).ok();
        let processes = listed["entries"][0]["processes"].as_array()?.clone();
        (processes == [Value::from(first.pid())]).then_some(())
    });
    world.fetches(first.link(), "one");
}

#[test]
fn two_that_start_at_the_same_instant_are_both_served() {
    let world = World::new();
    let names: Vec<String> = (0..4).map(|it| format!("file {it}")).collect();
    let files: Vec<_> = names.iter().map(|it| world.file(it)).collect();
    let home = world.home();
    let shares: Vec<Share> = std::thread::scope(|scope| {
        let starting: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(|| Share::start(&home, &[text(file)])))
            .collect();
        starting.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(world.shared().len(), 4);
    for (share, name) in shares.iter().zip(&names) {
        world.fetches(share.link(), name);
    }
    // One after the other is killed, whoever serves, and the rest goes on.
    let mut left = shares;
    while left.len() > 1 {
        let serving = wait_for("one of them serves", || {
            let pid = world.process()?;
            left.iter().position(|share| share.pid() == pid)
        });
        let share = left.remove(serving);
        share.signal(Signal::KILL);
        drop(share);
        wait_for("the others are served", || {
            let listed = run(&world.home(), &["ls"]).ok();
            let served = world.process().is_some();
            (served && listed["entries"].as_array()?.len() == left.len()).then_some(())
        });
    }
}

#[test]
fn a_daemon_serves_what_a_command_shares_beside_it_for_good() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    let shared = daemon.share(&world.file("one"));
    assert_eq!(shared["keep"], true);
    daemon.run(&["stop"]).ok();
    assert_eq!(world.shared(), ["one"]);
}

/// A peer that stops in the middle of a file until it is let go on.
fn gated(seed: &str) -> (Peer, String) {
    let mut blocks = Blocks::default();
    let cid = blocks.file(&content(seed, 8 << 20)).to_string();
    (Peer::start_gated(blocks, 2), cid)
}

#[test]
fn a_fetch_goes_on_by_itself_when_the_command_that_served_it_ends() {
    let world = World::new();
    let (peer, cid) = gated("long");
    let output = world.dir.path().join("long");
    let first = Share::start(&world.home(), &[text(&world.file("one"))]);
    let args = ["fetch", &cid, "--peer", &peer.address, "-o", text(&output)];
    let fetch = command(&world.home(), &args).spawn().unwrap();
    wait_for("it is in the middle", || {
        let listed = run(&world.home(), &["transfers"]).ok();
        (listed["transfers"][0]["verified_bytes"].as_u64()? >= 1 << 20).then_some(())
    });
    first.signal(Signal::INT);
    wait_for("the fetch serves the home", || {
        (world.process()? == fetch.id()).then_some(())
    });
    peer.open();
    let fetched = Ran::new(&fetch.wait_with_output().unwrap());
    assert!(
        fetched.stderr.contains("this one serves the home now"),
        "{fetched:?}"
    );
    assert!(fetched.stderr.contains("--no-serve"), "{fetched:?}");
    let result = fetched.ok();
    assert!(
        result["resumed_bytes"].as_u64().unwrap() >= 1 << 20,
        "{result}"
    );
    assert!(fs::read(&output).unwrap() == content("long", 8 << 20));
}

#[test]
fn a_fetch_that_is_cancelled_by_another_command_does_not_go_on() {
    let world = World::new();
    let (peer, cid) = gated("cancelled");
    let output = world.dir.path().join("cancelled");
    let _first = Share::start(&world.home(), &[text(&world.file("one"))]);
    let args = ["fetch", &cid, "--peer", &peer.address, "-o", text(&output)];
    let fetch = command(&world.home(), &args).spawn().unwrap();
    wait_for("it runs", || {
        let listed = run(&world.home(), &["transfers"]).ok();
        (listed["transfers"][0]["state"] == "running").then_some(())
    });
    run(&world.home(), &["cancel", "all"]).ok();
    let fetched = Ran::new(&fetch.wait_with_output().unwrap());
    fetched.fails(130, "interrupted");
    assert!(!output.exists());
}

#[test]
fn names_that_a_terminal_would_obey_are_shown_safely() {
    let world = World::new();
    // No file of such a name is shared; a folder above it may have any.
    let folder = world.dir.path().join("a \u{1b}[2Jb\nc");
    let file = folder.join("plain");
    write_content(&file, "plain", 100);
    let home = world.home();
    let _first = Share::start(&home, &[text(&file)]);
    let mut second = command(&home, &["share", text(&world.file("two"))])
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(second.stdout.take().unwrap());
    printed.read_line(&mut String::new()).unwrap();
    let listed = Command::new(shoal_tests::shoal())
        .args(["--home", text(&home), "ls"])
        .output()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(second.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let second = second.wait_with_output().unwrap();
    for bytes in [&listed.stdout, &listed.stderr, &second.stderr] {
        assert!(!bytes.contains(&0x1b), "{}", String::from_utf8_lossy(bytes));
    }
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("\\u{1b}[2J"), "{said}");
}
