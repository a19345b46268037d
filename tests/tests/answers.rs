//! What a fetch does about peers that say no, are gone, or come back: it ends with what each said,
//! or waits and goes on. Deadlines of ten minutes show that it was an answer that ended it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;
use shoal_tests::{Daemon, Ran, command, content, scratch, text, wait_for, write_content};
use tempfile::TempDir;

const UNKNOWN: &str = "bafkr4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";

/// Never reached: what ends a command is something else.
const FAR: &str = "10m";

/// A provider of one file, and a node that asks.
struct World {
    dir: TempDir,
    a: Daemon,
    b: Daemon,
    source: PathBuf,
    cid: String,
    link: String,
}

impl World {
    fn new(size: usize, options: &[&str]) -> Self {
        let dir = scratch();
        let source = dir.path().join("file");
        write_content(&source, "answers", size);
        let fixed = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let options = fixed.iter().chain(options).map(|it| (*it).to_owned());
        let a = Daemon::start_with(&dir.path().join("a"), options.collect());
        let b = Daemon::start(&dir.path().join("b"), &[&a]);
        let shared = a.share(&source);
        let of = |field: &str| shared[field].as_str().unwrap().to_owned();
        let (cid, link) = (of("cid"), of("link"));
        Self {
            dir,
            a,
            b,
            source,
            cid,
            link,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whatever looks for the content ends with exit code 3 and says all of `expected`.
    fn is_denied(&self, commands: &[&[&str]], expected: &[&str]) {
        for args in commands {
            let to = self.at("nothing");
            let mut args = args.to_vec();
            if args[0] == "fetch" {
                args.extend(["-o", text(&to), "--patience", FAR]);
            }
            args.extend(["--timeout", FAR]);
            says(&self.b.run(&args), expected);
            assert!(!to.exists(), "{args:?}");
        }
    }

    /// A fetch that has bytes and wants more.
    fn under_way(&self, more: &[&str]) -> Child {
        let to = self.at("got");
        let args = [&["fetch", &self.link, "-o", text(&to)], more].concat();
        let mut fetch = command(self.b.home(), &args);
        fetch.stdout(Stdio::piped()).stderr(Stdio::piped());
        let fetch = fetch.spawn().unwrap();
        wait_for("bytes come", || {
            let bytes = self.transfer()["verified_bytes"].as_u64();
            bytes.filter(|bytes| *bytes > 0)
        });
        fetch
    }

    /// The transfer of the node that asks; `Null` before there is one.
    fn transfer(&self) -> Value {
        self.b.run(&["transfers"]).ok()["transfers"][0].clone()
    }
}

/// The command found nobody, and says all of these.
fn says(ran: &Ran, expected: &[&str]) {
    ran.fails(3, "not_found");
    let error = &ran.json["error"];
    let said = format!("{} {}", error["message"], error["hint"]);
    for part in expected {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_provider_that_unshared_says_so_and_that_ends_it() {
    // Several chunks: one that is its own address can be listed without asking anybody.
    let world = World::new(3_000_000, &[]);
    world.a.run(&["unshare", &world.cid]).ok();
    let commands: [&[&str]; 4] = [
        &["fetch", &world.link],
        &["fetch", &world.cid, "--peer", &world.a.address],
        &["ls", &world.link],
        &["find", &world.link],
    ];
    let expected = [
        "nobody has baf",
        world.a.peer_id.as_str(),
        "does not share it any more",
        "named nobody else",
        "share it again",
    ];
    world.is_denied(&commands, &expected);
}

#[test]
fn a_provider_whose_file_changed_says_so_and_that_ends_it() {
    // What it says before it has looked at the file, and what it says afterwards.
    for is_noticed in [false, true] {
        let world = World::new(3_000_000, &[]);
        let file = fs::OpenOptions::new().append(true).open(&world.source);
        file.unwrap().write_all(b"more").unwrap();
        if is_noticed {
            wait_for("the change is noticed", || {
                let status = world.a.run(&["status"]).ok();
                (status["shares"][0]["state"] == "changed").then_some(())
            });
        }
        let expected = [
            world.a.peer_id.as_str(),
            "file has changed",
            "share it again",
        ];
        world.is_denied(&[&["fetch", &world.link]], &expected);
    }
}

#[test]
fn a_peer_that_never_had_it_says_so_and_that_ends_it() {
    let world = World::new(10, &[]);
    let commands: [&[&str]; 1] = [&["fetch", UNKNOWN, "--peer", &world.a.address]];
    let expected = [
        world.a.peer_id.as_str(),
        "does not have it",
        "check the link",
    ];
    world.is_denied(&commands, &expected);
}

#[test]
fn who_cannot_be_reached_has_said_nothing_and_time_ends_it() {
    let mut world = World::new(100_000, &[]);
    world.a.kill();
    let expected = [
        "was not found within 1s",
        &world.a.peer_id,
        "cannot be reached",
        "is online",
    ];
    let to = world.at("nothing");
    for command in [
        &["fetch", &world.link, "-o", text(&to)][..],
        &["find", &world.link],
    ] {
        let args = [command, &["--timeout", "1s"]].concat();
        says(&world.b.run(&args), &expected);
    }

    let lonely = Daemon::start(&world.at("lonely"), &[]);
    let args = ["fetch", UNKNOWN, "--timeout", "1s", "-o", text(&to)];
    let expected = ["was not found within 1s", "no other node", "--peer"];
    says(&lonely.run(&args), &expected);
    // An address without a peer id, at which nobody is.
    let nobody = "/ip4/127.0.0.1/tcp/9";
    let args = [&args[..], &["--peer", nobody]].concat();
    says(&lonely.run(&args), &[nobody, "cannot be reached"]);
}

#[test]
fn what_a_provider_unshares_in_the_middle_is_kept_and_the_fetch_ends() {
    let world = World::new(24 << 20, &["--up", "16mbit"]);
    let fetch = world.under_way(&["--patience", FAR]);
    world.a.run(&["unshare", &world.cid]).ok();
    let ran = Ran::new(&fetch.wait_with_output().unwrap());
    let expected = [
        "the rest of",
        world.a.peer_id.as_str(),
        "does not share it any more",
        "what was fetched is kept",
    ];
    says(&ran, &expected);
    let transfer = world.transfer();
    assert_eq!(transfer["state"], "paused", "{transfer}");
    // Whoever shares the same again has it go on.
    let shared = world.a.share(&world.source);
    assert_eq!(shared["cid"], world.cid.as_str());
    let fetched = world.b.fetch(&world.link, &world.at("got"));
    assert!(fetched["resumed_bytes"].as_u64().unwrap() > 0, "{fetched}");
    is_whole(&world.at("got"), 24 << 20);
}

#[test]
fn a_fetch_waits_for_its_provider_says_so_and_goes_on_when_it_is_back() {
    let mut world = World::new(24 << 20, &["--up", "16mbit"]);
    let fetch = world.under_way(&["--timeout", "2s"]);
    world.a.kill();
    let waiting = wait_for("it says that it waits", || {
        let transfer = world.transfer();
        transfer["waiting_ms"].is_u64().then_some(transfer)
    });
    assert_eq!(waiting["state"], "running", "{waiting}");
    // At the same port, where the fetch still knows it.
    let (at, _) = world.a.address.split_once("/p2p/").unwrap();
    // Slow enough for a report of its progress while it goes on.
    let options = ["--no-mdns", "--listen", at, "--up", "16mbit"];
    let options = options.map(str::to_owned).to_vec();
    world.a = Daemon::start_with(&world.at("a"), options);
    let ran = Ran::new(&fetch.wait_with_output().unwrap());
    let stderr = ran.stderr.clone();
    ran.ok();
    for said in ["waits up to", "goes on"] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    is_whole(&world.at("got"), 24 << 20);
}

#[test]
fn one_shot_fetchers_leave_no_record_that_outlives_them() {
    const FETCHERS: usize = 8;
    let world = World::new(100_000, &[]);
    let c = Daemon::start(&world.at("c"), &[&world.a]);
    for number in 0..FETCHERS {
        let home = world.at(&format!("one-shot-{number}"));
        let to = world.at(&format!("got-{number}"));
        let mut fetch = command(&home, &["fetch", &world.link, "-o", text(&to)]);
        fetch
            .env("SHOAL_NETWORK_MDNS", "false")
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env("SHOAL_NETWORK_BOOTSTRAP", &world.a.address);
        Ran::new(&fetch.output().unwrap()).ok();
    }
    let found = c.run(&["find", &world.cid]).ok();
    let providers = found["providers"].as_array().unwrap();
    let peers: Vec<_> = providers.iter().map(|it| it["peer"].as_str()).collect();
    assert_eq!(peers, [Some(world.a.peer_id.as_str())], "{found}");
}

fn is_whole(path: &Path, size: usize) {
    assert!(fs::read(path).unwrap() == content("answers", size));
}
