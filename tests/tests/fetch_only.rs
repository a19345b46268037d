//! `fetch --only`: some files of a folder, and nothing of the others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;
use shoal_tests::{
    Daemon, Ran, command, content,
    forger::Forgery,
    peer::Peer,
    refused::{Ground, Refusal, snapshot},
    run, scratch, text, wait_for, write_content,
};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// More than all nodes of a tree take, which count as sent.
const NODES: u64 = 16 << 10;

/// Every file of the tree that is shared, and how long it is.
const FILES: [(&str, usize); 6] = [
    ("notes.md", 900),
    ("summer/beach.raw", 3 * MIB),
    ("summer/deep/cliff.raw", MIB + 1),
    ("summer/deep/notes.md", 700),
    ("summer/dune.raw", 2 * MIB),
    ("winter/snow.raw", 5 * MIB),
];

/// A sharer of a tree, and somebody who fetches.
struct Pair {
    a: Daemon,
    b: Daemon,
    link: String,
    dir: TempDir,
}

impl Pair {
    fn new() -> Self {
        let dir = scratch();
        let tree = dir.path().join("tree");
        for (path, bytes) in FILES {
            write_content(&tree.join(path), path, bytes);
        }
        fs::create_dir(tree.join("summer/empty")).unwrap();
        std::os::unix::fs::symlink("beach.raw", tree.join("summer/best")).unwrap();
        let a = Daemon::start(&dir.path().join("a"), &[]);
        let b = Daemon::start(&dir.path().join("b"), &[&a]);
        let link = a.share(&tree)["link"].as_str().unwrap().to_owned();
        Self { a, b, link, dir }
    }

    fn uploaded(&self) -> u64 {
        let status = self.a.run(&["status"]).ok();
        status["uploaded_bytes"].as_u64().unwrap()
    }
}

/// The files below a folder with their lengths, each checked to hold what it should.
fn files(folder: &Path) -> BTreeMap<String, usize> {
    let below = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_owned();
    let paths = snapshot(folder).into_keys();
    let files = paths.filter(|path| path.symlink_metadata().unwrap().is_file());
    let files = files.map(|path| {
        let (name, bytes) = (text(&below(&path)).to_owned(), fs::read(&path).unwrap());
        assert!(bytes == content(&name, bytes.len()), "{name}");
        (name, bytes.len())
    });
    files.collect()
}

fn only(patterns: &[&str]) -> Vec<String> {
    let flags = patterns.iter().flat_map(|it| ["--only", it]);
    flags.map(str::to_owned).collect()
}

#[test]
fn what_matches_lands_and_nothing_else_is_moved_or_served() {
    let pair = Pair::new();
    let check = |link: &str, patterns: &[&str], expected: &[&str]| {
        let got = pair.dir.path().join("got");
        let flags = only(patterns);
        let mut args = vec!["fetch", link, "-o", text(&got)];
        args.extend(flags.iter().map(String::as_str));
        let before = pair.uploaded();
        let fetched = pair.b.run(&args).ok();
        let landed = files(&got);
        assert_eq!(landed.keys().collect::<Vec<_>>(), expected, "{patterns:?}");
        let bytes = landed.values().sum::<usize>() as u64;
        assert_eq!(fetched["size"], bytes, "{fetched}");
        assert_eq!(fetched["downloaded_bytes"], bytes, "{fetched}");
        let sent = pair.uploaded() - before;
        assert!((bytes..bytes + NODES).contains(&sent), "{sent} for {bytes}");
        assert_eq!(fetched["files"], expected.len(), "{fetched}");
        let listed = pair.b.run(&["transfers"]).ok();
        let last = listed["transfers"].as_array().unwrap().last().unwrap();
        assert_eq!(last["state"], "done", "{last}");
        assert_eq!(
            (&last["bytes_total"], &last["files_total"]),
            (&bytes.into(), &expected.len().into())
        );
        let made = snapshot(&got)
            .into_keys()
            .map(|it| it.strip_prefix(&got).unwrap().to_owned());
        let made: Vec<_> = made.collect();
        fs::remove_dir_all(&got).unwrap();
        (fetched["skipped"].as_u64().unwrap(), made)
    };
    let link = pair.link.as_str();
    let (skipped, made) = check(
        link,
        &["summer/*.raw"],
        &["summer/beach.raw", "summer/dune.raw"],
    );
    let paths = ["", "summer", "summer/beach.raw", "summer/dune.raw"];
    assert_eq!(made, paths.map(PathBuf::from), "no other folder is made");
    assert_eq!(skipped, 5, "four files and a link");
    check(link, &["*.md"], &["notes.md"]);
    check(link, &["**/*.md"], &["notes.md", "summer/deep/notes.md"]);
    check(
        link,
        &["winter/", "summer/deep"],
        &[
            "summer/deep/cliff.raw",
            "summer/deep/notes.md",
            "winter/snow.raw",
        ],
    );
    let (skipped, made) = check(link, &["summer/{best,empty}"], &[]);
    assert_eq!((skipped, made.len()), (6, 4), "{made:?}");
    // Below what the link leads to.
    let below = format!("{link}/summer");
    let got = pair.dir.path().join("below");
    let args = ["fetch", &below, "--only", "deep/*.raw", "-o", text(&got)];
    let fetched = pair.b.run(&args).ok();
    assert_eq!(fetched["files"], 1, "{fetched}");
    assert_eq!(fs::read(got.join("deep/cliff.raw")).unwrap().len(), MIB + 1);

    // Nobody takes this node for a provider of the whole, nor of what it has.
    assert_eq!(pair.b.run(&["ls"]).ok()["entries"], Value::Array(vec![]));
    let c = Daemon::start(&pair.dir.path().join("c"), &[&pair.a]);
    let found = c.run(&["find", link]).ok();
    let providers = found["providers"].as_array().unwrap();
    assert_eq!(providers.len(), 1, "{found}");
    assert_eq!(providers[0]["peer"], pair.a.peer_id.as_str(), "{found}");

    // The whole is not taken to be there, and is fetched like any other.
    let (tree, into) = (pair.dir.path().join("tree"), pair.dir.path().join("into"));
    fs::create_dir(&into).unwrap();
    pair.b.fetch(link, &into);
    shoal_tests::assert_same_tree(&tree, &into.join("tree"));
    let args = ["fetch", link, "--only", "*.md", "-o", text(&into)];
    pair.b.run(&args).fails(1, "destination_exists");
}

#[test]
fn what_cannot_be_chosen_is_refused_and_leaves_nothing() {
    let pair = Pair::new();
    let ground = Ground::below(pair.dir.path());
    let (daemon, alone) = (ground.on(pair.b.home().to_owned()), ground);
    let check = |args: &[&str], exit, code, says: &[&str], advises: &[&str]| {
        let peer = ["fetch", "--peer", &pair.a.address];
        let args = peer.iter().chain(args);
        let refusal = Refusal {
            args: args.map(Into::into).collect(),
            exit,
            code,
            says,
            advises,
        };
        daemon.check(&refusal);
        alone.check(&refusal);
    };
    let link = pair.link.as_str();
    check(
        &[link, "--only", "autumn/*", "--only", "*.raw"],
        1,
        "nothing_matches",
        &["\"*.raw\" or \"autumn/*\""],
        &["notes.md, summer, ", "…", "**/", "shoal ls LINK"],
    );
    let malformed = ["\"a[b\"", "malformed"];
    check(
        &[link, "--only", "a[b"],
        2,
        "usage",
        &malformed,
        &["**/*.md"],
    );
    let file = format!("{link}/notes.md");
    let one = ["a single file", "--only"];
    check(
        &[&file, "--only", "*.md"],
        2,
        "usage",
        &one,
        &["without --only"],
    );
    let many = (0..65).flat_map(|n| ["--only".to_owned(), n.to_string()]);
    let many: Vec<_> = many.collect();
    let many = many.iter().map(String::as_str);
    let many: Vec<_> = [link].into_iter().chain(many).collect();
    check(
        &many,
        2,
        "usage",
        &["more than 64 patterns"],
        &["one pattern"],
    );
    assert_eq!(
        pair.b.run(&["transfers"]).ok()["transfers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["state"] != "failed")
            .count(),
        0
    );
}

/// A `fetch --stdout`: its exit code, standard output and standard error.
fn cat(pair: &Pair, args: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let mut command = std::process::Command::new(shoal_tests::shoal());
    command
        .arg("--home")
        .arg(pair.b.home())
        .args(["fetch", "--stdout", &pair.link]);
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), output.stdout, stderr)
}

#[test]
fn one_file_is_chosen_for_stdout() {
    let pair = Pair::new();
    let (code, bytes, stderr) = cat(&pair, &["--only", "**/cliff.*"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(bytes == content("summer/deep/cliff.raw", MIB + 1));
    let sent = pair.uploaded();
    let bytes = (MIB + 1) as u64;
    assert!((bytes..bytes + NODES).contains(&sent), "{sent} for {bytes}");

    let check = |args: &[&str], says: &[&str]| {
        let (code, bytes, stderr) = cat(&pair, args);
        assert_eq!((code, bytes.len()), (Some(1), 0), "{args:?}: {stderr}");
        for word in says {
            assert!(
                stderr.contains(word),
                "{args:?} do not say {word:?}: {stderr}"
            );
        }
    };
    let several = [
        "2 files match",
        "notes.md, summer/deep/notes.md",
        "--only PATH",
    ];
    check(&["--only", "**/*.md"], &several);
    check(
        &["--only", "summer/empty"],
        &["nothing in it matches \"summer/empty\""],
    );
    check(&["--only", "summer/best"], &["nothing in it matches"]);
    check(&[], &["a folder", "LINK/PATH", "--only GLOB"]);
    assert!(pair.uploaded() < sent + NODES, "no content is asked for");
}

/// A forged tree whose provider stops after some chunks.
struct Gated {
    peer: Peer,
    link: String,
    dir: TempDir,
}

const LONG: usize = 24 * MIB;
const HALF: usize = 10 * MIB;

impl Gated {
    fn new() -> Self {
        let mut forgery = Forgery::default();
        let files = ["sub/long", "sub/other", "small"];
        let [long, other, small] = files.map(|name| {
            let bytes = if name == "small" { 3 * MIB } else { LONG };
            forgery.blocks.file(&content(name, bytes))
        });
        let sub = forgery.dir(&[(b"long", &long), (b"other", &other)]);
        let root = forgery.dir(&[(b"small", &small), (b"sub", &sub)]);
        Self {
            peer: Peer::start_gated(forgery.blocks, HALF / MIB),
            link: format!("shoal:{root}?name=got"),
            dir: scratch(),
        }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The folder that is fetched into.
    fn into(&self) -> PathBuf {
        self.dir.path().join("into")
    }

    fn got(&self) -> PathBuf {
        self.into().join("got")
    }

    fn fetch(&self, patterns: &[&str]) -> Vec<String> {
        let into = format!("{}/", text(&self.into()));
        let args = [
            "fetch",
            &self.link,
            "--peer",
            &self.peer.address,
            "-o",
            &into,
        ];
        let args = args.map(str::to_owned).into_iter();
        args.chain(only(patterns)).collect()
    }

    /// Begins a fetch of a file of [`LONG`] bytes, and waits until it is in the middle.
    fn begin_and_wait(&self, patterns: &[&str]) -> Child {
        let args = self.fetch(patterns);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let mut fetch = command(&self.home(), &args);
        let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        wait_for("the transfer is in the middle", || {
            let transfer = self.transfer(1)?;
            (transfer["verified_bytes"].as_u64()? >= HALF as u64).then_some(())
        });
        fetch.unwrap()
    }

    fn run(&self, args: &[String]) -> Ran {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        run(&self.home(), &args)
    }

    fn transfer(&self, id: u64) -> Option<Value> {
        let listed = run(&self.home(), &["transfers"]).ok();
        let mut listed = listed["transfers"].as_array().unwrap().clone().into_iter();
        listed.find(|it| it["id"] == id)
    }

    fn wait_until(&self, id: u64, state: &str) -> Value {
        wait_for(&format!("transfer {id} is {state}"), || {
            self.transfer(id).filter(|it| it["state"] == state)
        })
    }

    /// How much is in the folder that is fetched into.
    fn names(&self) -> usize {
        fs::read_dir(self.into()).unwrap().count()
    }
}

#[test]
fn a_killed_daemon_goes_on_with_what_was_chosen() {
    let setting = Gated::new();
    let mut daemon = Daemon::start(&setting.home(), &[]);
    let fetch = setting.begin_and_wait(&["sub/long", "no*"]);
    let transfer = setting.transfer(1).unwrap();
    assert_eq!(transfer["bytes_total"], LONG, "{transfer}");
    assert_eq!(transfer["files_total"], 1, "{transfer}");
    daemon.kill();
    Ran::new(&fetch.wait_with_output().unwrap()).fails(1, "daemon_lost");

    setting.peer.open();
    let _daemon = daemon.restart();
    setting.wait_until(1, "done");
    assert_eq!(
        files(&setting.got()),
        BTreeMap::from([("sub/long".to_owned(), LONG)])
    );
    let sent = setting.peer.sent();
    assert!(
        sent <= (LONG / MIB) as u64 + 8,
        "{sent} chunks for {}",
        LONG / MIB
    );
    assert_eq!(setting.names(), 1, "no part stays behind");
}

#[test]
fn other_patterns_are_another_transfer() {
    let setting = Gated::new();
    let _daemon = Daemon::start(&setting.home(), &[]);
    let fetch = setting.begin_and_wait(&["sub/long", "x"]);
    run(&setting.home(), &["pause", "1"]).ok();
    Ran::new(&fetch.wait_with_output().unwrap()).fails(130, "interrupted");
    setting.peer.open();

    // In another order they are the same.
    let fetched = setting.run(&setting.fetch(&["x", "sub/long", "x"])).ok();
    assert_eq!(fetched["resumed_bytes"], HALF, "{fetched}");
    assert_eq!(fetched["downloaded_bytes"], LONG - HALF, "{fetched}");
    fs::remove_dir_all(setting.got()).unwrap();

    let setting = Gated::new();
    let daemon = Daemon::start(&setting.home(), &[]);
    let fetch = setting.begin_and_wait(&["sub/long"]);
    run(&setting.home(), &["pause", "1"]).ok();
    Ran::new(&fetch.wait_with_output().unwrap()).fails(130, "interrupted");
    setting.peer.open();
    let fetched = setting.run(&setting.fetch(&["small"])).ok();
    assert_eq!(
        (&fetched["files"], &fetched["resumed_bytes"]),
        (&1.into(), &0.into())
    );
    assert_eq!(
        files(&setting.got()),
        BTreeMap::from([("small".to_owned(), 3 * MIB)])
    );

    // The first one finds its place taken, and what is there stays as it is.
    run(&setting.home(), &["resume", "1"]).ok();
    let failed = setting.wait_until(1, "failed");
    assert!(
        failed["reason"].as_str().unwrap().contains("exists"),
        "{failed}"
    );
    assert_eq!(setting.names(), 2, "what was fetched, and a part");
    daemon.run(&["cancel", "1"]).ok();
    assert_eq!(setting.names(), 1);
    assert_eq!(files(&setting.got()).len(), 1);

    // With --overwrite the two are merged.
    let mut args = setting.fetch(&["sub/other"]);
    args.push("--overwrite".to_owned());
    setting.run(&args).ok();
    let merged = BTreeMap::from([
        ("small".to_owned(), 3 * MIB),
        ("sub/other".to_owned(), LONG),
    ]);
    assert_eq!(files(&setting.got()), merged);
}
