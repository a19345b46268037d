//! Many nodes that want the same: they serve each other from the first chunk on, and spare the one
//! that has it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use shoal_tests::{
    Daemon, Ran, assert_same_file, command, joining, scratch, text, thin::ThinLine, wait_for,
    write_content,
};
use tempfile::TempDir;

/// What the origin sends per second: 50 Mbit/s.
const ORIGIN_BYTES_PER_SECOND: u64 = 6_250_000;
const FETCHERS: usize = 8;

/// An origin on a thin line, and nodes that know it by that line only.
struct Swarm {
    dir: TempDir,
    source: PathBuf,
    cid: String,
    origin: Daemon,
    line: ThinLine,
    fetchers: Vec<Daemon>,
}

impl Swarm {
    fn new(fetchers: usize, bytes: usize) -> Self {
        let dir = scratch();
        let source = dir.path().join("file");
        write_content(&source, "swarm", bytes);
        let origin = Daemon::start(&dir.path().join("origin"), &[]);
        let cid = origin.share(&source)["cid"].as_str().unwrap().to_owned();
        let line = ThinLine::to(&origin.address, ORIGIN_BYTES_PER_SECOND);
        let options = joining(&line.address);
        let start = |n| {
            let home = dir.path().join(format!("fetcher-{n}"));
            Daemon::start_with(&home, options.clone())
        };
        let fetchers = (0..fetchers).map(start).collect();
        Self {
            dir,
            source,
            cid,
            origin,
            line,
            fetchers,
        }
    }

    fn output(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("got-{name}"))
    }

    /// Starts all fetches together.
    fn fetch_all(&self) -> Vec<(PathBuf, Child)> {
        let fetchers = self.fetchers.iter().enumerate();
        let fetches = fetchers.map(|(n, fetcher)| {
            let output = self.output(&n.to_string());
            let child = fetch(fetcher.home(), &self.cid, &output, Some(&self.line.address));
            (output, child)
        });
        fetches.collect()
    }

    fn uploaded(&self) -> u64 {
        let status = self.origin.run(&["status"]).ok();
        status["uploaded_bytes"].as_u64().unwrap()
    }
}

fn fetch(home: &Path, cid: &str, output: &Path, peer: Option<&str>) -> Child {
    let mut args = vec!["fetch", cid, "-o", text(output)];
    args.extend(peer.iter().flat_map(|peer| ["--peer", peer]));
    let mut command = command(home, &args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn finish(child: Child) -> Value {
    Ran::new(&child.wait_with_output().unwrap()).ok()
}

/// What a fetch got from one peer.
fn bytes_from(fetched: &Value, peer: &str) -> u64 {
    let sources = fetched["from"].as_array().unwrap();
    let of_peer = sources.iter().filter(|source| source["peer"] == peer);
    of_peer
        .map(|source| source["bytes"].as_u64().unwrap())
        .sum()
}

#[test]
fn eight_that_start_together_take_little_more_than_one_copy_from_the_origin() {
    const BYTES: usize = 64 << 20;
    let swarm = Swarm::new(FETCHERS, BYTES);
    let fetches = swarm.fetch_all();
    let mut from_origin = 0;
    for (output, child) in fetches {
        let fetched = finish(child);
        assert_same_file(&swarm.source, &output);
        from_origin += bytes_from(&fetched, &swarm.origin.peer_id);
        assert_eq!(
            fetched["downloaded_bytes"], BYTES as u64,
            "nothing is fetched twice"
        );
    }
    let copies = |bytes: u64| bytes as f64 / BYTES as f64;
    assert!(
        from_origin >= BYTES as u64,
        "every chunk came from somewhere"
    );
    let uploaded = swarm.uploaded();
    assert!(
        copies(uploaded) <= 1.6,
        "the origin sent {:.2} copies",
        copies(uploaded)
    );
}

#[test]
fn a_swarm_goes_on_without_its_origin_and_takes_in_a_ninth() {
    let mut swarm = Swarm::new(FETCHERS, 32 << 20);
    let mut fetches = swarm.fetch_all();
    // Once one has everything, the origin is not needed any more.
    let first = wait_for("the first is done", || {
        let done = |(_, child): &mut (PathBuf, Child)| child.try_wait().unwrap().is_some();
        fetches.iter_mut().position(done)
    });
    swarm.origin.kill();
    let ninth = Daemon::start_with(
        &swarm.dir.path().join("ninth"),
        joining(&swarm.fetchers[first].address),
    );
    let output = swarm.output("ninth");
    finish(fetch(ninth.home(), &swarm.cid, &output, None));
    assert_same_file(&swarm.source, &output);
    for (output, child) in fetches {
        finish(child);
        assert_same_file(&swarm.source, &output);
    }
}

#[test]
fn a_part_is_found_and_served_while_the_rest_is_missing() {
    const BYTES: usize = 96 << 20;
    let swarm = Swarm::new(1, BYTES);
    let holder = &swarm.fetchers[0];
    let (output, child) = swarm.fetch_all().pop().unwrap();
    let downloaded = |daemon: &Daemon| {
        let status = daemon.run(&["status"]).ok();
        status["downloaded_bytes"]
            .as_u64()
            .filter(|bytes| *bytes > 0)
    };
    wait_for("a part is here", || downloaded(holder));
    // From now on nobody gets anything new.
    swarm.origin.signal(Signal::STOP);
    let late = Daemon::start_with(&swarm.dir.path().join("late"), joining(&holder.address));
    wait_for("the DHT names the holder of a part", || {
        let found = late.run(&["find", &swarm.cid, "--timeout", "5s"]);
        let providers = found.json["providers"].as_array()?.clone();
        let is_holder = |it: &&Value| it["peer"] == holder.peer_id.as_str();
        let found = providers.iter().find(is_holder)?;
        let part = found["ranges"].as_array().is_some_and(|it| !it.is_empty());
        (found["complete"] == false && part).then_some(())
    });
    let late_output = swarm.output("late");
    let late_child = fetch(late.home(), &swarm.cid, &late_output, None);
    wait_for("the part is passed on", || downloaded(&late));
    let passed_on = downloaded(&late).unwrap();
    assert!(passed_on < BYTES as u64, "the holder has no more");
    swarm.origin.signal(Signal::CONT);
    finish(child);
    assert_same_file(&swarm.source, &output);
    let fetched = finish(late_child);
    assert_same_file(&swarm.source, &late_output);
    assert!(bytes_from(&fetched, &holder.peer_id) >= passed_on);
}
