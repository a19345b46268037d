//! The background scrub of a running daemon.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::FileExt as _, net::UnixStream},
    path::Path,
    time::SystemTime,
};

use serde_json::{Value, json};
use shoal_tests::{DEADLINE, Daemon, scratch, text, wait_for, write_content};

/// One who listens to a daemon's events.
struct Listener(BufReader<UnixStream>);

impl Listener {
    fn start(daemon: &Daemon) -> Self {
        let mut stream = UnixStream::connect(daemon.home().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET /api/v1/events HTTP/1.0\r\n\r\n").unwrap();
        let mut listener = Self(BufReader::new(stream));
        // From the head of the answer on, every event is told.
        while listener.line() != "\r\n" {}
        listener
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the events ended");
        line
    }

    /// The next event of this name.
    fn next(&mut self, name: &str) -> Value {
        loop {
            let line = self.line();
            let Some(data) = line.strip_prefix("data:") else {
                continue;
            };
            let event: Value = serde_json::from_str(data).unwrap();
            if event["event"] == name {
                return event;
            }
        }
    }
}

fn start(home: &Path, scrub: &str) -> Daemon {
    fs::create_dir_all(home).unwrap();
    fs::write(home.join("config.toml"), format!("[scrub]\n{scrub}\n")).unwrap();
    Daemon::start(home, &[])
}

/// The one file of a share that was copied into the home.
fn copy_in(home: &Path) -> std::path::PathBuf {
    let mut at = home.join("copies");
    while at.is_dir() {
        let mut entries = fs::read_dir(&at).unwrap();
        at = entries.next().unwrap().unwrap().path();
    }
    at
}

/// Overwrites a byte and puts the modification time back, as a failing disk would.
fn rot(path: &Path, byte: &[u8]) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(byte, 1_500_000).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn a_rotten_copy_is_found_told_and_never_served() {
    let dir = scratch();
    let mut daemon = start(
        &dir.path().join("home"),
        "interval = \"1s\"\nrate = \"1GB/s\"",
    );
    let file = dir.path().join("file");
    write_content(&file, "file", 3 << 20);
    let hour = std::time::Duration::from_secs(3600);
    let old = fs::File::options().write(true).open(&file).unwrap();
    old.set_modified(SystemTime::now() - hour).unwrap();
    let shared = daemon.run(&["share", text(&file), "--copy"]).ok();
    let other = dir.path().join("other");
    fs::write(&other, "other").unwrap();
    let other = daemon.share(&other);

    let mut events = Listener::start(&daemon);
    events.next("scrub_finished");
    let status = daemon.run(&["status"]).ok();
    assert_eq!(status["scrub"]["damaged"], json!([]));
    assert_eq!(status["scrub"]["total_bytes"], (3 << 20) + 5);
    assert!(status["scrub"]["last_finished"].is_string(), "{status}");
    // The first one may have begun before the shares were there.
    let finished = events.next("scrub_finished");
    let checked = finished["checked_bytes"].as_u64().unwrap();
    assert!(checked > 3 << 20, "{finished}");

    let copy = copy_in(daemon.home());
    let mut whole = [0];
    let copied = fs::File::open(&copy).unwrap();
    copied.read_exact_at(&mut whole, 1_500_000).unwrap();
    rot(&copy, &[!whole[0]]);
    let found = events.next("damage_found");
    assert_eq!(found["cid"], shared["cid"]);
    assert_eq!(found["path"], text(&copy));
    let damage = json!({
        "cid": shared["cid"],
        "path": text(&copy),
        "reason": "has other content",
        "unreadable": false,
    });
    for round in ["found", "a restart later"] {
        let status = daemon.run(&["status"]).ok();
        assert_eq!(status["scrub"]["damaged"], json!([damage]), "{round}");
        assert_eq!(status["shares"][0]["state"], "changed", "{round}");
        assert_eq!(status["shares"][1]["state"], "ok", "{round}");
        let warnings = status["warnings"].to_string();
        assert!(warnings.contains("the scrub found damage"), "{warnings}");
        let reader = Daemon::start(&dir.path().join(round), &[&daemon]);
        let args = ["fetch", shared["cid"].as_str().unwrap(), "--timeout", "3s"];
        let refused = reader.run(&[&args[..], &["-o", text(&dir.path().join("out"))]].concat());
        assert_ne!(refused.code, Some(0), "{round}");
        assert!(!dir.path().join("out").exists(), "{round}");
        let got = dir.path().join(format!("{round} other"));
        reader.fetch(other["link"].as_str().unwrap(), &got);
        daemon = daemon.restart();
    }

    rot(&copy, &whole);
    daemon.run(&["verify"]).ok();
    let status = daemon.run(&["status"]).ok();
    assert_eq!(status["scrub"]["damaged"], json!([]));
    assert_eq!(status["shares"][0]["state"], "ok");
}

#[test]
fn a_slow_scrub_goes_on_after_a_stop_where_it_was() {
    let dir = scratch();
    let mut daemon = start(
        &dir.path().join("home"),
        "interval = \"1s\"\nrate = \"500kB/s\"",
    );
    let file = dir.path().join("file");
    // At half a megabyte a second, nine minutes.
    let sparse = fs::File::create(&file).unwrap();
    sparse.set_len(256 << 20).unwrap();
    daemon.share(&file);
    let status = |daemon: &Daemon| daemon.run(&["status"]).ok()["scrub"].clone();
    let before = wait_for("a scrub that has read something", || {
        let scrub = status(&daemon);
        let read = scrub["checked_bytes"].as_u64().unwrap();
        (scrub["state"] == "running" && read > 1 << 20).then_some(scrub)
    });
    daemon.run(&["stop"]).ok();
    daemon = daemon.restart();
    let after = wait_for("the scrub to go on", || {
        let scrub = status(&daemon);
        (scrub["state"] == "running").then_some(scrub)
    });
    let read = |scrub: &Value| scrub["checked_bytes"].as_u64().unwrap();
    assert!(read(&after) >= read(&before), "{before} {after}");
    // None came to its end meanwhile; there may have been one before anything was shared.
    assert_eq!(after["last_finished"], before["last_finished"]);
    assert_eq!(after["position"], text(&file));
}

#[test]
fn a_scrub_that_is_off_or_not_due_reads_nothing() {
    let dir = scratch();
    for (config, state) in [
        ("interval = \"off\"", "off"),
        ("rate = \"off\"", "off"),
        ("", "waiting"),
    ] {
        let daemon = start(&dir.path().join(format!("home{}", config.len())), config);
        let file = dir.path().join("file");
        fs::write(&file, "content").unwrap();
        daemon.share(&file);
        let scrub = daemon.run(&["status"]).ok()["scrub"].clone();
        assert_eq!(scrub["state"], state, "{config}");
        assert_eq!(scrub["checked_bytes"], 0, "{config}");
        assert_eq!(scrub["next"].is_string(), state == "waiting", "{scrub}");
    }
    let home = dir.path().join("bad");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.toml"), "[scrub]\ninterval = \"soon\"\n").unwrap();
    let refused = shoal_tests::run(&home, &["daemon"]);
    refused.fails(2, "config");
}
