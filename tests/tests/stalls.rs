//! A provider or a fetcher stops in the middle of a fetch for a while, as a laptop does that sleeps,
//! and goes on: then the fetch goes on by itself, whoever waits for it.
//!
//! SIGSTOP stands for the sleep. Seven seconds are longer than any heartbeat. `scripts/soak` stops for
//! 70 and 700 s too: `SHOAL_SOAK_STOPS` has the lengths in seconds. There the fetch has to move within
//! ten seconds after the process is back; here it only has to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use shoal_tests::{
    Daemon, Ran, assert_same_file, command, run, scratch, text, thin::ThinLine, wait_for,
    write_content,
};
use tempfile::TempDir;

/// The length of the line: 6 s for the file.
const BYTES_PER_SECOND: u64 = 1_000_000;
const FILE_BYTES: usize = 6 << 20;
/// The fetch is in its middle from here on.
const MIDDLE_BYTES: u64 = 1 << 20;
/// It moves when it has got so much more than when its process came back.
const MOVES_BYTES: u64 = 256 << 10;
/// Where the time counts.
const GOES_ON_WITHIN: Duration = Duration::from_secs(10);
const STOP_SHORT: u64 = 7;

/// Who fetches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fetcher {
    /// A command alone.
    OneShot,
    /// A daemon, and a command waits.
    Attended,
    /// A daemon alone.
    Unattended,
}

/// Who stops.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stops {
    Provider,
    Fetcher,
}

#[test]
fn a_fetch_goes_on_when_its_provider_or_its_fetcher_does() {
    let soak = std::env::var("SHOAL_SOAK_STOPS").ok();
    let stops: Vec<u64> = match &soak {
        Some(stops) => stops.split(',').map(|it| it.parse().unwrap()).collect(),
        None => vec![STOP_SHORT],
    };
    for seconds in stops {
        thread::scope(|scope| {
            for stops in [Stops::Provider, Stops::Fetcher] {
                for fetcher in [Fetcher::OneShot, Fetcher::Attended, Fetcher::Unattended] {
                    let (time, is_timed) = (Duration::from_secs(seconds), soak.is_some());
                    scope.spawn(move || stopped(fetcher, stops, time, is_timed));
                }
            }
        });
    }
}

fn stopped(fetcher: Fetcher, stops: Stops, time: Duration, is_timed: bool) {
    let mut scene = Scene::begin(fetcher);
    let pid = match (stops, &scene.daemon) {
        (Stops::Provider, _) => scene.provider.pid(),
        (Stops::Fetcher, Some(daemon)) => daemon.pid(),
        (Stops::Fetcher, None) => scene.fetch.as_ref().unwrap().id(),
    };
    signal(pid, Signal::STOP);
    // This is the stop.
    thread::sleep(time);
    let is_provider = stops == Stops::Provider;
    let before = is_provider.then(|| scene.bytes().unwrap());
    signal(pid, Signal::CONT);
    let back = Instant::now();
    let before = before.unwrap_or_else(|| wait_for("it answers", || scene.bytes()));
    let moves = || {
        scene
            .bytes()
            .is_none_or(|bytes| bytes >= before + MOVES_BYTES)
    };
    wait_for("the fetch goes on", || moves().then_some(()));
    let took = back.elapsed();
    say(&format!(
        "{stops:?} of {fetcher:?} stopped for {time:?}: goes on after {took:.1?}"
    ));
    assert!(!is_timed || took < GOES_ON_WITHIN, "{took:?}");
    scene.end();
}

#[expect(clippy::print_stderr, reason = "a long test says how far it is")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A fetch in its middle.
struct Scene {
    dir: TempDir,
    provider: Daemon,
    daemon: Option<Daemon>,
    fetch: Option<Child>,
}

impl Scene {
    fn begin(fetcher: Fetcher) -> Self {
        let dir = scratch();
        let file = dir.path().join("file");
        write_content(&file, &format!("{fetcher:?}"), FILE_BYTES);
        let provider = Daemon::start(&dir.path().join("provider"), &[]);
        let cid = provider.share(&file)["cid"].as_str().unwrap().to_owned();
        let line = ThinLine::to(&provider.address, BYTES_PER_SECOND);
        let home = home(dir.path());
        let daemon = (fetcher != Fetcher::OneShot).then(|| Daemon::start(&home, &[]));
        let got = dir.path().join("got");
        let fetch = command(
            &home,
            &["fetch", &cid, "--peer", &line.address, "-o", text(&got)],
        )
        .env("SHOAL_NETWORK_MDNS", "false")
        .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut scene = Self {
            dir,
            provider,
            daemon,
            fetch: Some(fetch),
        };
        wait_for("the fetch is in its middle", || {
            (scene.bytes()? >= MIDDLE_BYTES).then_some(())
        });
        if fetcher == Fetcher::Unattended {
            let fetch = scene.fetch.take().unwrap();
            signal(fetch.id(), Signal::HUP);
            let ended = Ran::new(&fetch.wait_with_output().unwrap());
            assert_eq!(ended.code, Some(130), "{ended:?}");
        }
        scene
    }

    fn home(&self) -> PathBuf {
        home(self.dir.path())
    }

    /// Bytes that are there; none while the node does not say so, or has ended with its command.
    fn bytes(&self) -> Option<u64> {
        let listed = run(&self.home(), &["transfers"]);
        listed.json["transfers"][0]["bytes"].as_u64()
    }

    fn end(&mut self) {
        match self.fetch.take() {
            Some(fetch) => {
                Ran::new(&fetch.wait_with_output().unwrap()).ok();
            }
            None => wait_for("the transfer is done", || {
                let listed = run(&self.home(), &["transfers"]).json;
                (listed["transfers"][0]["state"] == "done").then_some(())
            }),
        }
        let at = |name: &str| self.dir.path().join(name);
        assert_same_file(&at("file"), &at("got"));
    }
}

fn home(dir: &Path) -> PathBuf {
    dir.join("fetcher")
}
