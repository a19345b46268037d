//! Logs that are quiet: a person who shares or fetches sees none, the daemon prints one line, and its log
//! is where `shoal logs` finds it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{
    Daemon, command, refused::Ground, run, scratch, shoal, terminal::Terminal, text, wait_for,
    world::World, write_content,
};

/// The options of a daemon on loopback.
const ALONE: [&str; 3] = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];

fn interrupt(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

/// The lines that `shoal logs` prints, as a person sees them.
fn shown(home: &Path, args: &[&str]) -> Vec<String> {
    let mut command = Command::new(shoal());
    command.arg("--home").arg(home).arg("logs").args(args);
    let output = command.env_remove("SHOAL_HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().map(str::to_owned).collect()
}

#[test]
fn the_log_of_a_daemon_in_the_background_is_shown_and_followed() {
    let dir = scratch();
    let home = dir.path().join("home");
    let none = run(&home, &["logs"]);
    none.fails(1, "path_not_found");
    run(&home, &[&["daemon", "--detach"], &ALONE[..]].concat()).ok();
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    run(&home, &["share", text(&file)]).ok();
    let all = shown(&home, &[]);
    assert!(
        all.iter().any(|it| it.contains("the node serves")),
        "{all:?}"
    );
    assert!(all.iter().any(|it| it.contains("share added")), "{all:?}");
    let last = shown(&home, &["-n", "2"]);
    assert_eq!(last, all[all.len() - 2..]);

    let mut following = command(&home, &["logs", "--follow", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        line["line"].as_str().unwrap().to_owned()
    };
    next();
    run(&home, &["unshare", "file"]).ok();
    while !next().contains("share removed") {}
    interrupt(following.id());
    assert_eq!(following.wait().unwrap().code(), Some(0));
    // What was set aside comes first, and the log of a daemon that has ended is still there.
    run(&home, &["stop"]).ok();
    let log = home.join("log/daemon.log");
    fs::rename(&log, log.with_extension("log.1")).unwrap();
    fs::write(&log, "a later line\n").unwrap();
    let lines = shown(&home, &[]);
    assert!(
        lines.len() > 2 && lines.last().unwrap() == "a later line",
        "{lines:?}"
    );
}

#[test]
fn a_daemon_in_a_terminal_prints_one_line_and_keeps_a_log() {
    let root = scratch();
    let ground = Ground::below(root.path());
    let args = [&["daemon"], &ALONE[..]].concat();
    let mut daemon = Terminal::start(&ground, 200, &args, &[]);
    daemon.wait_for(&["ready: 12D3KooW"]);
    let file = ground.dir.join("file");
    fs::write(&file, "content").unwrap();
    run(&ground.home, &["share", text(&file)]).ok();
    wait_for("its log has it", || {
        let lines = shown(&ground.home, &[]);
        lines
            .iter()
            .any(|it| it.contains("share added"))
            .then_some(())
    });
    let screen = daemon.look();
    assert_eq!(screen.trim().lines().count(), 1, "{screen}");
    daemon.type_keys(b"\x03");
    let ended = daemon.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.screen.trim_end().ends_with("stopped"), "{ended:?}");
}

#[test]
fn a_daemon_that_logs_to_a_file_or_to_nobody_is_found_out() {
    let dir = scratch();
    let file = dir.path().join("its own log");
    let start = |home: &Path, stderr: Stdio| {
        let mut daemon = command(home, &[&["daemon"], &ALONE[..]].concat());
        let mut daemon = daemon
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("ready"), "{line}");
        daemon
    };
    let to_file = dir.path().join("to a file");
    let mut daemon = start(&to_file, fs::File::create(&file).unwrap().into());
    let lines = shown(&to_file, &[]);
    assert!(
        lines.iter().any(|it| it.contains("the node serves")),
        "{lines:?}"
    );
    run(&to_file, &["stop"]).ok();
    daemon.wait().unwrap();

    let to_nobody = dir.path().join("to nobody");
    let mut daemon = start(&to_nobody, Stdio::null());
    let refused = run(&to_nobody, &["logs"]);
    refused.fails(1, "path_not_found");
    let message = refused.json["error"]["message"].as_str().unwrap();
    assert!(message.contains(&daemon.id().to_string()), "{message}");
    run(&to_nobody, &["stop"]).ok();
    daemon.wait().unwrap();
}

/// A daemon whose standard error systemd has connected to the journal is asked of journalctl; this one is
/// a stand-in that says how it was called.
#[test]
fn the_log_of_a_service_is_in_the_journal() {
    let dir = scratch();
    let home = dir.path().join("home");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let name = fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).unwrap();
    let inode = name
        .to_str()
        .unwrap()
        .trim_matches(|c: char| !c.is_ascii_digit());
    // The command that has started it would keep the socket open.
    let mut daemon = {
        let mut command = command(&home, &[&["daemon"], &ALONE[..]].concat());
        command
            .env("JOURNAL_STREAM", format!("9:{inode}"))
            .stdout(Stdio::piped())
            .stderr(OwnedFd::from(theirs))
            .spawn()
            .unwrap()
    };
    // What the journal would read.
    let journal = thread::spawn(move || BufReader::new(ours).lines().map_while(Result::ok).count());
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();

    let journalctl = dir.path().join("journalctl");
    let source = dir.path().join("source");
    fs::write(&source, "#!/bin/sh\necho \"called with $*\"\n").unwrap();
    // Copied by another process: one that is forked meanwhile would keep it open for writing.
    let copied = Command::new("cp").args([&source, &journalctl]).status();
    assert!(copied.unwrap().success());
    fs::set_permissions(&journalctl, fs::Permissions::from_mode(0o700)).unwrap();
    let logs = |args: &[&str], path: &Path| {
        let args = [&["logs"], args].concat();
        let output = command(&home, &args).env("PATH", path).output().unwrap();
        shoal_tests::Ran::new(&output)
    };
    let said = logs(&["-n", "7", "--follow"], dir.path()).ok();
    let said = said["line"].as_str().unwrap();
    assert!(said.contains("--unit=") || said.contains("_PID="), "{said}");
    assert!(said.contains("--lines=7 --follow"), "{said}");
    let without = logs(&[], Path::new("/nowhere"));
    assert_eq!(without.code, Some(1), "{without:?}");
    let hint = without.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("journalctl"), "{hint}");
    run(&home, &["stop"]).ok();
    daemon.wait().unwrap();
    assert!(journal.join().unwrap() > 0, "the journal got the log");
}

#[test]
fn who_shares_and_fetches_sees_no_log_line() {
    let world = World::new();
    let dir = world.dir.path();
    let file = dir.join("mine");
    write_content(&file, "mine", 3 << 20);
    let quiet = |stderr: &str| {
        let levels = [" WARN ", " ERROR ", " INFO ", "warning:"];
        assert!(!levels.iter().any(|it| stderr.contains(it)), "{stderr}");
    };
    let on = |home: &str, args: &[&str]| {
        let mut command = Command::new(shoal());
        command.arg("--home").arg(dir.join(home)).args(args);
        command
            .env_remove("SHOAL_HOME")
            .env("SHOAL_NETWORK_MDNS", "false")
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0");
        command
    };
    let mut share = on("fresh", &["share", text(&file), "--once"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut link = String::new();
    BufReader::new(share.stdout.take().unwrap())
        .read_line(&mut link)
        .unwrap();
    // A node has looked for what needs a warning when it is fetched from: it looks every 5 seconds.
    let alone = dir.join("fresh");
    let status = wait_for("it has looked around", || {
        let status = run(&alone, &["status"]).ok();
        (status["uptime_ms"].as_u64()? > 6000).then_some(status)
    });
    assert_eq!(status["warnings"], serde_json::json!([]), "{status}");
    let output = dir.join("got");
    let fetched = on("other", &["fetch", link.trim(), "-o", text(&output)])
        .output()
        .unwrap();
    assert_eq!(fetched.status.code(), Some(0), "{fetched:?}");
    quiet(&String::from_utf8(fetched.stderr).unwrap());
    let said = std::io::read_to_string(share.stderr.take().unwrap()).unwrap();
    assert_eq!(share.wait().unwrap().code(), Some(0), "{said}");
    quiet(&said);
}

#[test]
fn a_fresh_daemon_is_not_warned_of_being_alone_and_one_that_lost_its_peers_is() {
    let world = World::new();
    let alone = || {
        let status = world.sharer.run(&["status"]).ok();
        let warnings = status["warnings"].as_array().unwrap().clone();
        warnings
            .iter()
            .any(|it| it.as_str().unwrap().contains("no peer is connected"))
    };
    assert!(!alone());
    let mut b = Daemon::start(&world.dir.path().join("b"), &[&world.sharer]);
    wait_for("they meet", || {
        let peers = world.sharer.run(&["peers"]).ok();
        (!peers["peers"].as_array()?.is_empty()).then_some(())
    });
    assert!(!alone());
    b.kill();
    wait_for("it is alone", || alone().then_some(()));
}
