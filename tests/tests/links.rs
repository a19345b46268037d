//! Emulated links of a testnet, as people use them: what they slow down, cut and let through again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use shoal_tests::{Ran, command, scratch, text, wait_for, write_content};
use tempfile::TempDir;

/// A testnet that ends with the test.
struct Net {
    scratch: TempDir,
    dir: PathBuf,
}

impl Net {
    fn up(words: &[&str]) -> Self {
        let scratch = scratch();
        let dir = scratch.path().join("net");
        fs::create_dir(scratch.path().join("run")).expect("a directory");
        let net = Self { scratch, dir };
        let up = [&["up"], words].concat();
        net.testnet(&up).ok();
        net
    }

    fn testnet(&self, words: &[&str]) -> Ran {
        Ran::new(&self.command(words).output().expect("the binary runs"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(Path::new("/nonexistent"), &["testnet"]);
        command
            .args(words)
            .args(["--dir", text(&self.dir)])
            .env("XDG_RUNTIME_DIR", self.scratch.path().join("run"));
        command
    }

    fn node(&self, index: usize, words: &[&str]) -> Command {
        let mut command = command(&self.dir.join(format!("node-{index:02}")), words);
        command.env("XDG_RUNTIME_DIR", self.scratch.path().join("run"));
        command
    }

    fn run(&self, index: usize, words: &[&str]) -> Value {
        let output = self.node(index, words).output().expect("the binary runs");
        Ran::new(&output).ok()
    }

    /// Shares so many bytes on a node, and returns the link and where they are.
    fn share(&self, index: usize, bytes: usize) -> (String, PathBuf) {
        let file = self.scratch.path().join("content");
        write_content(&file, "links", bytes);
        let shared = self.run(index, &["share", text(&file)]);
        (shared["link"].as_str().expect("a link").to_owned(), file)
    }

    /// Begins to fetch on a node.
    fn fetch(&self, index: usize, link: &str) -> (Child, PathBuf) {
        let to = self.scratch.path().join(format!("copy-{index}"));
        let mut fetch = self.node(index, &["fetch", link, "-o", text(&to), "--timeout", "5m"]);
        let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::piped());
        (fetch.spawn().expect("the binary runs"), to)
    }

    /// Bytes of the one transfer on a node; none when there is none.
    fn fetched(&self, index: usize) -> Option<u64> {
        let listed = self.run(index, &["transfers"]);
        listed["transfers"].get(0)?["verified_bytes"].as_u64()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What a test did not end ends here.
        let _ = self.command(&["down"]).output();
    }
}

#[track_caller]
fn ends_well(fetch: Child, copy: &Path, original: &Path) {
    let output = fetch.wait_with_output().expect("it ends");
    Ran::new(&output).ok();
    assert!(fs::read(copy).expect("a copy") == fs::read(original).expect("a file"));
}

#[test]
fn a_testnet_is_as_slow_as_its_lines_and_changes_while_it_runs() {
    is_as_slow_as_its_lines("tcp");
}

#[test]
fn so_is_one_of_quic() {
    is_as_slow_as_its_lines("quic");
}

fn is_as_slow_as_its_lines(transport: &str) {
    let net = Net::up(&[
        "--transport",
        transport,
        "--nodes",
        "3",
        "--link",
        "lan",
        "--up",
        "20mbit",
        "--latency",
        "20ms",
    ]);
    let line = &net.run(1, &["status"])["emulation"];
    assert_eq!((&line["node"], &line["up"]), (&1.into(), &"20mbit".into()));
    assert_eq!(line["latency_ms"], 20.0);
    let peers = &net.run(1, &["peers"])["peers"];
    assert!(peers.to_string().contains(transport), "{peers}");
    let rtts = peers.as_array().expect("peers").iter();
    for rtt in rtts.filter_map(|peer| peer["rtt_ms"].as_u64()) {
        assert!(rtt > 75, "a round trip of {rtt} ms");
    }

    let (link, file) = net.share(0, 5_000_000);
    let start = Instant::now();
    let (fetch, copy) = net.fetch(1, &link);
    ends_well(fetch, &copy, &file);
    let took = start.elapsed();
    assert!(
        took > Duration::from_millis(1_950),
        "5 MB at 20 Mbit/s in {took:?}"
    );

    // At this rate it would take ten minutes more.
    let changed = net.testnet(&["degrade", "0-1", "--up", "64kbit"]).ok();
    assert_eq!(
        (&changed["version"], &changed["nodes"]),
        (&2.into(), &3.into())
    );
    assert_eq!(net.run(0, &["status"])["emulation"]["up"], "8kB/s");
    let (fetch, copy) = net.fetch(2, &link);
    net.testnet(&["degrade", "all", "--profile", "lan"]).ok();
    ends_well(fetch, &copy, &file);
    let status = net.testnet(&["status"]).ok();
    assert_eq!(status["links"]["version"], 3);
    assert_eq!(status["links"]["nodes"][2]["up"], "125MB/s");
}

#[test]
fn a_fetch_waits_for_the_end_of_a_partition() {
    waits_for_the_end_of_a_partition("tcp");
}

#[test]
fn so_it_does_by_quic() {
    waits_for_the_end_of_a_partition("quic");
}

fn waits_for_the_end_of_a_partition(transport: &str) {
    let line = ["--link", "lan", "--up", "8mbit", "--transport", transport];
    let net = Net::up(&[&["--nodes", "2"], &line[..]].concat());
    let (link, file) = net.share(0, 6_000_000);
    let (fetch, copy) = net.fetch(1, &link);
    wait_for("the first bytes", || {
        net.fetched(1).filter(|bytes| *bytes > 0)
    });
    net.testnet(&["partition", "0", "node-01"]).ok();
    let status = net.testnet(&["status"]).ok();
    assert_eq!(status["links"]["rules"][0]["link"]["blocked"], true);
    // What was under way when it was cut may still land; after that nothing does.
    let before = net.fetched(1);
    assert!(before < Some(6_000_000), "{before:?}");
    net.testnet(&["heal"]).ok();
    ends_well(fetch, &copy, &file);
    assert_eq!(
        net.testnet(&["status"]).ok()["links"]["rules"],
        Value::Array(Vec::new())
    );
}

#[test]
fn a_fetch_goes_on_over_connections_that_break() {
    let net = Net::up(&["--nodes", "2", "--link", "lan", "--up", "16mbit"]);
    net.testnet(&["degrade", "0", "--reset", "1s"]).ok();
    let (link, file) = net.share(0, 6_000_000);
    let (fetch, copy) = net.fetch(1, &link);
    ends_well(fetch, &copy, &file);
}

#[test]
fn what_cannot_be_done_to_links_is_said_so() {
    let net = Net::up(&["--nodes", "1"]);
    for words in [
        &["partition", "0", "1"][..],
        &["heal"],
        &["degrade", "0", "--up", "1mbit"],
    ] {
        let refused = net.testnet(words);
        refused.fails(2, "usage");
        assert!(refused.json.to_string().contains("--link"), "{refused:?}");
    }
    assert!(net.run(0, &["status"])["emulation"].is_null());
    assert!(net.testnet(&["status"]).ok()["links"].is_null());
    net.testnet(&["down"]).ok();
    let net = Net::up(&["--nodes", "1", "--link", "home"]);
    let refused = net.testnet(&["partition", "0", "1-7"]);
    refused.fails(2, "usage");
    assert!(
        refused.json.to_string().contains("no node 7"),
        "{refused:?}"
    );
    net.testnet(&["degrade", "0"]).fails(2, "usage");
    net.testnet(&["degrade", "0", "--latency", "soon"])
        .fails(2, "usage");
}
