//! Transfers that rest for want of providers: a daemon goes on with them by itself once one is back,
//! after a restart of its own too.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use shoal_tests::{
    Daemon, Ran, assert_same_file, command, scratch, text, thin::ThinLine, wait_for, write_content,
};
use tempfile::TempDir;

const FILE_BYTES: usize = 16 << 20;
const BYTES_PER_SECOND: u64 = 2 << 20;

/// A fetch that lost its provider and rests, on a daemon that others bootstrap from.
struct World {
    dir: TempDir,
    /// Gone.
    provider: Option<Daemon>,
    fetcher: Daemon,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        write_content(&dir.path().join("file"), "resting", FILE_BYTES);
        let fetcher = Daemon::start(&dir.path().join("fetcher"), &[]);
        // The two are connected, so the thin line may not be the one that is used.
        let options = [
            "--no-mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--bootstrap",
            &fetcher.address,
            "--up",
            "2MB/s",
        ];
        let options = options.map(str::to_owned).to_vec();
        let mut provider = Daemon::start_with(&dir.path().join("provider"), options);
        let shared = provider.share(&dir.path().join("file"));
        let line = ThinLine::to(&provider.address, BYTES_PER_SECOND);
        // By an address that is nobody's afterwards: what comes back is not there.
        let got = dir.path().join("got");
        let fetch = [
            "fetch",
            shared["cid"].as_str().unwrap(),
            "--peer",
            &line.address,
            "-o",
            text(&got),
            "--timeout",
            "20s",
            "--patience",
            "2s",
        ];
        let fetch = command(fetcher.home(), &fetch)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the fetch is in its middle", || {
            let verified = transfer(&fetcher)["verified_bytes"].as_u64()?;
            (verified > 0).then_some(())
        });
        provider.kill();
        let ended = Ran::new(&fetch.wait_with_output().unwrap());
        ended.fails(3, "not_found");
        let rests = transfer(&fetcher);
        assert_eq!(rests["state"], "paused", "{rests}");
        let reason = rests["reason"].as_str().unwrap();
        assert!(reason.contains("goes on by itself"), "{reason}");
        Self {
            dir,
            provider: Some(provider),
            fetcher,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the provider again, at another address; it tells the fetcher what it has.
    fn provider_is_back(&mut self) {
        drop(self.provider.take());
        let home = self.at("provider");
        self.provider = Some(Daemon::start(&home, &[&self.fetcher]));
    }

    fn assert_it_comes(&self) {
        wait_for("the transfer goes on by itself", || {
            (transfer(&self.fetcher)["state"] == "done").then_some(())
        });
        assert_same_file(&self.at("file"), &self.at("got"));
        assert_nothing_else(&self.at("got"));
    }
}

fn assert_nothing_else(got: &Path) {
    let hidden = got.parent().unwrap().read_dir().unwrap();
    let parts = hidden.filter(|it| {
        let name = it.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".part")
    });
    assert_eq!(parts.count(), 0);
}

fn transfer(daemon: &Daemon) -> Value {
    let listed = daemon.run(&["transfers"]).ok();
    listed["transfers"].get(0).cloned().unwrap_or_default()
}

#[test]
fn a_transfer_that_wants_a_provider_goes_on_when_one_is_heard_of() {
    let mut world = World::new();
    world.provider_is_back();
    world.assert_it_comes();
}

#[test]
fn it_does_so_after_a_restart_too() {
    let mut world = World::new();
    world.fetcher = world.fetcher.restart();
    let rests = transfer(&world.fetcher);
    assert_eq!(rests["state"], "paused", "{rests}");
    world.provider_is_back();
    world.assert_it_comes();
}
