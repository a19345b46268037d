//! Daemons and commands that stop for a while: a hung daemon is told of and waited for, a dead one
//! ends its commands, and a command that stops or loses its terminal harms no transfer.
//!
//! SIGSTOP is what a suspended laptop, Ctrl-Z and a dead disk look like from outside: nothing is
//! closed, and nothing answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{
    DEADLINE, Daemon, Ran, command, content,
    peer::{Blocks, Peer},
    run, scratch, text, wait_for,
};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const WHOLE: usize = 20 * MIB;
const HALF: usize = 10 * MIB;
/// Far more lines than a command says.
const LINES_MAX: usize = 1024;
/// The user who has nothing, on every system.
const NOBODY: u32 = 65534;

/// A peer that stops in the middle of a file, and a daemon that fetches it.
struct World {
    peer: Peer,
    cid: String,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let mut blocks = Blocks::default();
        let cid = blocks.file(&content("hung", WHOLE)).to_string();
        Self {
            peer: Peer::start_gated(blocks, HALF / MIB),
            cid,
            dir: scratch(),
        }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn got(&self) -> PathBuf {
        self.dir.path().join("got")
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut child = command(&self.home(), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        Running { child, lines }
    }

    /// Begins a fetch, and waits until it is in the middle.
    fn begin(&self, daemon: &Daemon) -> Running {
        let got = self.got();
        let fetch = [
            "fetch",
            &self.cid,
            "--peer",
            &self.peer.address,
            "-o",
            text(&got),
        ];
        let running = self.start(&fetch);
        wait_for("the transfer is in the middle", || {
            let verified = transfer(daemon)["verified_bytes"].as_u64()?;
            (verified >= HALF as u64).then_some(())
        });
        running
    }

    fn assert_whole(&self) {
        assert!(fs::read(self.got()).unwrap() == content("hung", WHOLE));
    }
}

/// A command that runs, and what it says.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Waits for a line on stderr that contains `words`.
    fn says(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|_| panic!("it does not say {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ended(self) -> Ran {
        let Output { status, stdout, .. } = self.child.wait_with_output().unwrap();
        Ran::new(&Output {
            status,
            stdout,
            stderr: Vec::new(),
        })
    }
}

fn transfer(daemon: &Daemon) -> Value {
    let listed = daemon.run(&["transfers"]).ok();
    listed["transfers"].get(0).cloned().unwrap_or_default()
}

fn wait_until_done(daemon: &Daemon) {
    wait_for("the transfer is done", || {
        (transfer(daemon)["state"] == "done").then_some(())
    });
}

#[test]
fn a_daemon_that_hangs_is_told_of_and_waited_for() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    let fetch = world.begin(&daemon);
    daemon.signal(Signal::STOP);
    let waits = ["status", "ls", "transfers"].map(|line| world.start(&[line]));
    let what = format!(
        "the daemon (process {pid}, which is stopped: `kill -CONT {pid}` continues it) does not answer",
        pid = daemon.pid()
    );
    for running in waits.iter().chain([&fetch]) {
        assert!(running.says("warning:").contains(&what), "{what}");
    }
    daemon.signal(Signal::CONT);
    for running in waits {
        running.says("The daemon answers again.");
        running.ended().ok();
    }
    world.peer.open();
    fetch.says("The daemon answers again.");
    assert_eq!(fetch.ended().ok()["size"], WHOLE);
    world.assert_whole();
}

#[test]
fn a_daemon_that_hangs_stops_once_it_goes_on() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    daemon.signal(Signal::STOP);
    let stop = world.start(&["stop"]);
    let said = stop.says("does not answer");
    assert!(
        said.contains(&format!("(process {}, ", daemon.pid())),
        "{said}"
    );
    // Another one is given up by the person who asked, and counts all the same.
    stop.signal(Signal::INT);
    assert_eq!(stop.ended().code, Some(130));
    daemon.signal(Signal::CONT);
    wait_for("it has stopped", || {
        (run(&world.home(), &["status"]).code == Some(4)).then_some(())
    });
}

#[test]
fn a_daemon_without_a_socket_is_stopped_by_its_lock() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    // Stopped, it cannot bind the socket again.
    daemon.signal(Signal::STOP);
    fs::remove_file(world.home().join("api.sock")).unwrap();
    let stop = world.start(&["stop", "--timeout", "2s"]);
    let said = stop.says("Sent SIGTERM");
    let pid = daemon.pid();
    assert!(said.contains(&format!("`kill -CONT {pid}`")), "{said}");
    let still = stop.ended();
    still.fails(1, "internal");
    let message = still.json["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("`kill -CONT {pid}`")),
        "{message}"
    );
    let hint = still.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("--kill"), "{hint}");

    let stop = world.start(&["stop", "--timeout", "30s"]);
    stop.says("Sent SIGTERM");
    daemon.signal(Signal::CONT);
    let stopped = stop.ended().ok();
    assert_eq!(stopped["pid"], pid);
    assert_eq!(stopped["signal"], "SIGTERM");
    run(&world.home(), &["stop"]).fails(4, "no_daemon");
}

#[test]
fn a_daemon_that_hangs_is_killed_when_that_is_asked_for() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    let file = world.dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    daemon.share(&file);
    daemon.signal(Signal::STOP);
    let stopped = run(&world.home(), &["stop", "--timeout", "1s", "--kill"]).ok();
    assert_eq!(stopped["pid"], daemon.pid());
    assert_eq!(stopped["signal"], "SIGKILL");
    let again = daemon.restart();
    assert_eq!(again.run(&["ls"]).ok()["entries"][0]["name"], "file");
}

#[test]
fn stop_signals_no_process_but_the_holder_of_the_lock() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    daemon.signal(Signal::STOP);
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    let lock = world.home().join("daemon.lock");
    fs::write(&lock, format!("{}\n", bystander.id())).unwrap();
    let refused = run(&world.home(), &["stop", "--timeout", "1s", "--kill"]);
    let spared = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    refused.fails(1, "internal");
    let message = refused.json["error"]["message"].as_str().unwrap();
    let named = format!("process {}", bystander.id());
    assert!(message.contains(&named), "{message}");
    assert!(spared, "the bystander got a signal");

    fs::write(&lock, format!("{}\n", daemon.pid())).unwrap();
    daemon.signal(Signal::CONT);
    // It may have found the request of before, and be gone by now.
    let stopped = daemon.run(&["stop"]);
    assert!(matches!(stopped.code, Some(0 | 4)), "{stopped:?}");
}

#[test]
fn a_daemon_of_another_user_is_said_to_be_one() {
    if !rustix::process::geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "a test that does nothing says why")]
        {
            eprintln!("skipped: only root has processes that another user may not signal");
        }
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    let program = world.dir.path().join("shoal");
    shoal_tests::copy_of_shoal(&program);
    for folder in [world.dir.path(), &world.home()] {
        set_mode(folder, 0o755);
    }
    // With and without the right to read which process it is.
    for (mode, named) in [
        (0o600, String::new()),
        (0o644, format!(" (process {})", daemon.pid())),
    ] {
        set_mode(&world.home().join("daemon.lock"), mode);
        let mut stop = Command::new(&program);
        stop.arg("--home").arg(world.home());
        stop.args(["--json", "stop", "--timeout", "1s", "--kill"]);
        let refused = Ran::new(&stop.uid(NOBODY).gid(NOBODY).output().unwrap());
        refused.fails(6, "no_permission");
        let message = refused.json["error"]["message"].as_str().unwrap();
        let expected = format!(
            "the daemon{named} on {} belongs to root",
            text(&world.home())
        );
        assert_eq!(message, expected);
    }
    assert_eq!(daemon.run(&["id"]).ok()["peer_id"], daemon.peer_id);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_daemon_that_dies_while_it_hangs_ends_its_commands() {
    let world = World::new();
    let mut daemon = Daemon::start(&world.home(), &[]);
    let fetch = world.begin(&daemon);
    daemon.signal(Signal::STOP);
    let status = world.start(&["status"]);
    status.says("does not answer");
    daemon.kill();
    for running in [status, fetch] {
        running.ended().fails(1, "daemon_lost");
    }
}

#[test]
fn a_command_that_is_stopped_finds_its_transfer_done() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    let fetch = world.begin(&daemon);
    fetch.signal(Signal::STOP);
    world.peer.open();
    wait_until_done(&daemon);
    fetch.signal(Signal::CONT);
    assert_eq!(fetch.ended().ok()["size"], WHOLE);
    world.assert_whole();
}

#[test]
fn a_closed_terminal_leaves_the_transfer_to_the_daemon() {
    let world = World::new();
    let daemon = Daemon::start(&world.home(), &[]);
    let fetch = world.begin(&daemon);
    // The kernel says so to all that the terminal has in the foreground, and a shell to its jobs.
    fetch.signal(Signal::HUP);
    fetch.signal(Signal::HUP);
    assert_eq!(fetch.ended().code, Some(130));
    assert_eq!(transfer(&daemon)["state"], "running");
    world.peer.open();
    wait_until_done(&daemon);
    world.assert_whole();
}
