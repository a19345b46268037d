//! `shoal testnet run` as people run it: a verdict, a report, and nothing left behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{Ran, command, scratch, text, wait_for};
use tempfile::TempDir;

/// Four nodes, one of which is killed and comes back while it fetches.
const SMALL: &str = r#"
name = "small"
description = "Small & quick <b>"
nodes = 4
limit = "2m"
seed = 3

[[content]]
name = "thing"
size = "3MB"
files = 3

[[event]]
do = "fetch"

[[event]]
at = "1s"
do = "kill"
nodes = "node-02"

[[event]]
at = "1500ms"
do = "start"
nodes = "node-02"

[[event]]
at = "2s"
do = "lookup"
nodes = "node-03"

[[assert]]
that = "all-fetched"

[[assert]]
that = "no-wrong-bytes"

[[assert]]
that = "lookups-succeed"

[[assert]]
that = "nodes-up >= 4"
"#;

/// What cannot hold, whatever the nodes do.
const HOPELESS: &str = "\n[[assert]]\nthat = \"fetch-time-median >= 1h\"\n\
                        [[assert]]\nthat = \"done-within 0s\"\n";

/// Twenty nodes, of which two do wrong, one comes back and some are replaced.
const IN_PROCESS: &str = r#"
mode = "in-process"
nodes = 20
limit = "2m"
seed = 5

[[group]]
name = "all"

[[group]]
name = "forger"
count = 1
evil = "wrong-bytes"

[[group]]
name = "poisoner"
count = 1
evil = "junk-records"

[[content]]
name = "thing"
size = "3MB"
files = 3
owner = "node-00"

[[event]]
do = "fetch"
nodes = "group:all"

[[event]]
at = "1s"
do = "kill"
nodes = "node-05"

[[event]]
at = "2s"
do = "start"
nodes = "node-05"

[[event]]
at = "2s"
do = "churn"
nodes = "10-17"
rate = "25%"
every = "1s"
until = "4s"

[[event]]
at = "5s"
do = "lookup"
nodes = "group:all"
count = 100
over = "2s"

[[assert]]
that = "all-fetched"

[[assert]]
that = "no-wrong-bytes"

[[assert]]
that = "evil-share <= 0%"

[[assert]]
that = "lookups-succeed"

[[assert]]
that = "hops-median <= 3"

[[assert]]
that = "memory-per-node <= 16MiB"
"#;

/// A folder for a scenario, its report and its nodes.
struct Place {
    scratch: TempDir,
    root: PathBuf,
}

impl Place {
    fn new(scenario: &str) -> Self {
        let scratch = scratch();
        let root = scratch.path().canonicalize().expect("a directory");
        fs::write(root.join("small.toml"), scenario).expect("a file");
        fs::create_dir(root.join("run")).expect("a directory");
        Self { scratch, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn command(&self, out: &str, words: &[&str]) -> Command {
        let mut command = command(Path::new("/nonexistent"), &["testnet", "run"]);
        command
            .arg(self.path("small.toml"))
            .args(["--dir", text(&self.path("net"))])
            .args(["--out", text(&self.path(out))])
            .args(words)
            .env("XDG_RUNTIME_DIR", self.path("run"));
        command
    }

    fn run(&self, out: &str, words: &[&str]) -> Ran {
        Ran::new(&self.command(out, words).output().expect("the binary runs"))
    }

    fn report(&self, out: &str, file: &str) -> String {
        fs::read_to_string(self.path(out).join(file)).expect("a report")
    }

    /// Whether no process and no home is left.
    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let net = self.path("net");
        wait_for("the end of every process", || {
            processes_naming(&net).is_empty().then_some(())
        });
        assert!(!net.exists(), "{} is left", net.display());
        let sockets = fs::read_dir(self.path("run")).expect("a directory").count();
        assert_eq!(sockets, 0, "sockets are left");
    }
}

/// A test that fails leaves no nodes behind.
impl Drop for Place {
    fn drop(&mut self) {
        let mut down = command(Path::new("/nonexistent"), &["testnet", "down"]);
        // That there is nothing to take down is the usual case.
        let _ = down.args(["--dir", text(&self.path("net"))]).output();
        // Removed after that.
        let _ = &self.scratch;
    }
}

/// The processes that have `dir`, or what is in it, among their arguments.
fn processes_naming(dir: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("a directory").flatten();
    let lines = processes.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(text(dir))).collect()
}

#[test]
fn a_scenario_is_run_judged_and_reported() {
    let place = Place::new(SMALL);
    let ran = place.run("report", &[]).ok();
    assert_eq!(ran["passed"], true, "{ran}");
    assert_eq!((&ran["nodes"], &ran["seed"]), (&4.into(), &3.into()));
    assert_eq!(ran["totals"]["identical"], 3, "{ran}");
    place.assert_nothing_is_left();

    let report: Value = serde_json::from_str(&place.report("report", "report.json")).expect("JSON");
    assert_eq!(report["assertions"], ran["assertions"]);
    assert_eq!(
        report["happenings"].as_array().map(Vec::len),
        Some(3),
        "{report}"
    );
    assert_eq!(report["lookups"][0]["error"], Value::Null);
    let from: u64 = report["fetches"]
        .as_array()
        .expect("fetches")
        .iter()
        .flat_map(|fetch| fetch["from"].as_array().expect("sources"))
        .map(|source| source["bytes"].as_u64().expect("bytes"))
        .sum();
    assert_eq!(report["totals"]["fetched_bytes"], from);

    let page = place.report("report", "report.html");
    assert!(page.contains("Small &amp; quick &lt;b&gt;"));
    for outside in ["http:", "https:", "//", "src=", "href=", "url("] {
        assert!(!page.contains(outside), "{outside} in the page");
    }
}

#[test]
fn what_does_not_hold_is_an_exit_code_and_a_log_to_read() {
    let place = Place::new(&format!("{SMALL}{HOPELESS}"));
    let ran = place.run("report", &[]);
    ran.fails(1, "not_held");
    assert_eq!(ran.json["passed"], false);
    let message = ran.json["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("2 of 6 assertions do not hold"),
        "{message}"
    );
    let broken = &ran.json["assertions"][5];
    assert_eq!(
        (&broken["that"], &broken["held"]),
        (&"done-within 0s".into(), &false.into())
    );
    let log = broken["logs"][0].as_str().expect("a log");
    assert!(fs::metadata(log).expect("a log that is there").len() > 0);
    assert!(
        place
            .report("report", "report.html")
            .contains("Failed: 2 of 6")
    );
    place.assert_nothing_is_left();
}

#[test]
fn the_decisions_of_a_seed_are_the_same_in_every_run() {
    let place = Place::new(SMALL);
    place.run("one", &[]).ok();
    place.run("other", &[]).ok();
    let decisions = place.report("one", "decisions.log");
    assert!(decisions.contains("node-02 is killed"), "{decisions}");
    assert_eq!(decisions, place.report("other", "decisions.log"));
}

#[test]
fn the_nodes_of_one_process_are_a_network_like_any_other() {
    let place = Place::new(IN_PROCESS);
    for out in ["one", "other"] {
        let ran = place.run(out, &[]).ok();
        assert_eq!(ran["passed"], true, "{ran}");
        place.assert_nothing_is_left();
    }
    let decisions = place.report("one", "decisions.log");
    assert!(decisions.contains("node-05 is killed"), "{decisions}");
    assert_eq!(decisions, place.report("other", "decisions.log"));
    let report: Value = serde_json::from_str(&place.report("one", "report.json")).expect("JSON");
    let lookups = report["lookups"].as_array().expect("lookups");
    assert_eq!(lookups.len(), 100);
    assert!(lookups.iter().all(|it| it["hops"].is_u64()), "{lookups:?}");
}

#[test]
fn mistakes_are_said_before_anything_is_started() {
    let place = Place::new("nodes = 3\n[[event]]\ndo = \"kill\"\nnodes = \"node-07\"\n");
    let ran = place.run("report", &[]);
    ran.fails(2, "config");
    let message = ran.json["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("small.toml:4:9: `event[0].nodes`"),
        "{message}"
    );
    assert!(!place.path("report").exists());
    place.assert_nothing_is_left();
    let place = Place::new("nodes = 3\ntransport = \"quic\"\n");
    let ran = place.run("report", &["--mode", "in-process"]);
    ran.fails(2, "usage");
    assert!(!place.path("report").exists());
    let place = Place::new("nodes = 9000\n[[content]]\nname = \"thing\"\nsize = \"1KB\"\n");
    let ran = place.run("report", &[]);
    ran.fails(1, "too_large");
    place.assert_nothing_is_left();
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let endless = "nodes = 3\n[[content]]\nname = \"thing\"\nsize = \"1MB\"\n\
                   [[event]]\ndo = \"fetch\"\nat = \"4m\"\n";
    let place = Place::new(endless);
    let mut run = place.command("report", &[]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().expect("the binary runs");
    wait_for("the originals", || {
        place
            .path("net/files/originals/thing")
            .exists()
            .then_some(())
    });
    let pid = i32::try_from(run.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, Signal::INT).expect("the process is ours");
    let ran = Ran::new(&run.wait_with_output().expect("it ends"));
    ran.fails(130, "interrupted");
    place.assert_nothing_is_left();
}

#[test]
fn a_run_that_is_kept_is_a_testnet() {
    let place = Place::new("nodes = 2\n[[content]]\nname = \"thing\"\nsize = \"1MB\"\n");
    let ran = place.run("report", &["--keep", "--transport", "quic"]).ok();
    assert_eq!(ran["kept"], text(&place.path("net")));
    assert!(place.path("net/files/node-01/thing").exists());
    let manifest = fs::read_to_string(place.path("net/testnet.json")).expect("a manifest");
    assert!(manifest.contains("/quic-v1/p2p/"), "{manifest}");
    let mut down = command(Path::new("/nonexistent"), &["testnet", "down"]);
    let down = down.args(["--dir", text(&place.path("net"))]);
    let down = Ran::new(
        &down
            .env("XDG_RUNTIME_DIR", place.path("run"))
            .output()
            .expect("it runs"),
    );
    assert_eq!(down.ok()["stopped"], 2);
    place.assert_nothing_is_left();
}
