//! The binary as people and scripts run it: exit codes, one JSON document, the life of a daemon.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use serde_json::Value;

const CID: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";

/// Anything that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// `shoal` on a home, alone in its network.
fn shoal(home: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command
        .args(line.split_whitespace())
        .env("SHOAL_HOME", home)
        .env("SHOAL_NETWORK_MDNS", "false")
        .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
        .env_remove("SHOAL_LOG")
        .stdin(Stdio::null());
    command
}

fn run(home: &Path, line: &str) -> Output {
    shoal(home, line).output().unwrap()
}

/// The exit code and the one JSON document on stdout.
fn run_json(home: &Path, line: &str) -> (i32, Value) {
    let output = run(home, &format!("{line} --json"));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{line}: {stdout}");
    (
        output.status.code().unwrap(),
        serde_json::from_str(&stdout).unwrap(),
    )
}

/// Ends the daemon when a test fails.
struct Daemon(Child);

impl Daemon {
    fn start(home: &Path) -> (Self, Value) {
        let mut child = shoal(home, "daemon --json")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        (Self(child), serde_json::from_str(&line).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn wait(&mut self) -> i32 {
        let process = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap();
        let deadline = Timespec::try_from(DEADLINE).unwrap();
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        let ended = poll(&mut ended, Some(&deadline)).unwrap();
        assert_eq!(ended, 1, "the process does not end");
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn failures_have_their_exit_codes_in_text_and_in_json() {
    let home = tempfile::tempdir().unwrap();
    let check = |line: &str, exit: i32, code: &str| {
        let (status, document) = run_json(home.path(), line);
        assert_eq!(status, exit, "{line}: {document}");
        assert_eq!(document["error"]["code"], code, "{line}");
        assert!(document["error"]["message"].is_string(), "{line}");

        let output = run(home.path(), line);
        assert_eq!(output.status.code(), Some(exit), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("error: "), "{line}: {text}");
    };
    for line in [
        "status",
        "stop",
        "peers",
        "id",
        &format!("ls {CID}"),
        &format!("find {CID}"),
    ] {
        check(line, 4, "no_daemon");
    }
    check("frobnicate", 2, "usage");
    check("share", 2, "usage");
    check("daemon --listen localhost", 2, "usage");
    check("fetch not-a-link", 2, "usage");
    check("find shoal:bafy", 2, "usage");
    check("ls https://example.org", 2, "usage");
    check(
        &format!("fetch {}", CID.replacen("bafkr4i", "bafkrmi", 1)),
        1,
        "unsupported_hash",
    );
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        0,
        "nothing was left behind"
    );
}

#[test]
fn a_wrong_configuration_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("config.toml"), "[network]\nlisen = []\n").unwrap();
    let (status, document) = run_json(home.path(), "daemon");
    assert_eq!((status, &document["error"]["code"]), (2, &"config".into()));
    assert!(
        document["error"]["message"]
            .as_str()
            .unwrap()
            .contains("network.lisen")
    );
    assert!(
        document["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("network.listen")
    );
}

#[test]
fn a_daemon_is_ready_alone_and_gone_after_stop() {
    let home = tempfile::tempdir().unwrap();
    let (mut daemon, ready) = Daemon::start(home.path());
    assert_eq!(ready["event"], "ready");
    assert!(ready["listen"].is_array());
    let (status, id) = run_json(home.path(), "id");
    assert_eq!((status, &id["peer_id"]), (0, &ready["peer_id"]));

    let (status, second) = run_json(home.path(), "daemon");
    assert_eq!(
        (status, &second["error"]["code"]),
        (1, &"already_running".into())
    );

    let (status, stopped) = run_json(home.path(), "stop");
    assert_eq!((status, &stopped["pid"]), (0, &daemon.0.id().into()));
    assert_eq!(daemon.wait(), 0);
    assert!(!home.path().join("api.sock").exists());
    assert_eq!(run_json(home.path(), "stop").0, 4);
}

#[test]
fn a_detached_daemon_outlives_its_command_and_one_that_fails_says_why() {
    let home = tempfile::tempdir().unwrap();
    let (status, ready) = run_json(home.path(), "daemon --detach");
    assert_eq!((status, &ready["event"]), (0, &"ready".into()));
    let (status, second) = run_json(home.path(), "daemon --detach");
    assert_eq!(
        (status, &second["error"]["code"]),
        (1, &"already_running".into())
    );
    assert_eq!(run_json(home.path(), "status").0, 0);
    assert_eq!(run_json(home.path(), "stop").0, 0);
    let log = std::fs::read_to_string(home.path().join("log/daemon.log")).unwrap();
    assert!(log.contains("ready"), "{log}");
}

#[test]
fn a_signal_ends_a_daemon_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = tempfile::tempdir().unwrap();
        let (mut daemon, _) = Daemon::start(home.path());
        daemon.signal(signal);
        assert_eq!(daemon.wait(), 0, "{signal:?}");
        assert!(!home.path().join("api.sock").exists(), "{signal:?}");
    }
}

#[test]
fn a_killed_daemon_leaves_nothing_to_repair() {
    let home = tempfile::tempdir().unwrap();
    let (mut daemon, first) = Daemon::start(home.path());
    daemon.signal(Signal::KILL);
    daemon.wait();
    assert!(home.path().join("api.sock").exists());
    assert_eq!(run_json(home.path(), "status").0, 4);
    let (_daemon, again) = Daemon::start(home.path());
    assert_eq!(again["peer_id"], first["peer_id"]);
    assert_eq!(run_json(home.path(), "status").0, 0);
}

#[test]
fn a_daemon_that_is_killed_in_mid_command_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let (mut daemon, _) = Daemon::start(home.path());
    let mut fetch = shoal(home.path(), &format!("fetch {CID} --json"))
        .current_dir(place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| run_json(home.path(), "status").1["transfers"][0]["cid"] == CID);
    daemon.signal(Signal::KILL);
    daemon.wait();
    let start = Instant::now();
    let mut document = String::new();
    fetch
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut document)
        .unwrap();
    assert_eq!(fetch.wait().unwrap().code(), Some(1), "{document}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["error"]["code"], "daemon_lost");
}

#[test]
fn without_a_daemon_share_serves_until_it_is_interrupted_and_no_longer() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().with_extension("shared");
    std::fs::write(&file, b"content").unwrap();
    let line = format!("share {} --json", file.display());
    let mut child = shoal(home.path(), &line)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut document = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut document)
        .unwrap();
    let mut share = Daemon(child);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(
        document["link"].as_str().unwrap().starts_with("shoal:"),
        "{document}"
    );
    assert_eq!(
        run_json(home.path(), "status").0,
        0,
        "it answers like a daemon"
    );
    share.signal(Signal::INT);
    assert_eq!(share.wait(), 0);
    assert_eq!(run_json(home.path(), "status").0, 4);
    let (status, listed) = run_json(home.path(), "ls");
    assert_eq!((status, &listed["entries"]), (0, &Value::Array(Vec::new())));
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_fetch_that_is_interrupted_says_how_to_go_on() {
    let home = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let child = shoal(home.path(), &format!("fetch {CID} --json --timeout 60s"))
        .current_dir(place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut fetch = Daemon(child);
    until(|| run_json(home.path(), "status").0 == 0);
    fetch.signal(Signal::INT);
    assert_eq!(fetch.wait(), 130);
    let mut document = String::new();
    fetch
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut document)
        .unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["error"]["code"], "interrupted");
    assert!(
        document["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("resume")
    );
    assert!(!home.path().join("api.sock").exists());
}

/// Asks again and again, each time by a command that takes its time, until the answer is yes.
fn until(answer: impl Fn() -> bool) {
    let start = Instant::now();
    while !answer() {
        assert!(start.elapsed() < DEADLINE, "it does not happen");
    }
}
