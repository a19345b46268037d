//! What a person can ask of one fetch: not to serve what has landed, or only its bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use shoal_protocol::address::{Digest, HashFn};
use shoal_tests::{
    Daemon, assert_same_file, assert_same_tree, content,
    peer::{Blocks, Peer},
    scratch, shoal, text, write_content,
};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Two nodes that know each other; the first is the sharer.
struct Pair {
    a: Daemon,
    b: Daemon,
    dir: TempDir,
}

impl Pair {
    fn new() -> Self {
        let dir = scratch();
        let a = Daemon::start(&dir.path().join("a"), &[]);
        let b = Daemon::start(&dir.path().join("b"), &[&a]);
        Self { a, b, dir }
    }

    /// Writes a file and shares it; its link.
    fn share_file(&self, name: &str, bytes: usize) -> String {
        let path = self.dir.path().join(name);
        write_content(&path, name, bytes);
        link(&self.a.share(&path))
    }
}

fn link(shared: &Value) -> String {
    shared["link"].as_str().unwrap().to_owned()
}

fn count(of: &Value, what: &str) -> usize {
    of[what].as_array().unwrap().len()
}

#[test]
fn what_is_not_to_be_served_lands_and_is_forgotten() {
    let Pair { a, mut b, dir } = Pair::new();
    let tree = dir.path().join("tree");
    write_content(&tree.join("sub/large"), "large", 3 * MIB);
    write_content(&tree.join("small"), "small", 100);
    let file = tree.join("small");
    let folder = dir.path().join("got");
    fs::create_dir(&folder).unwrap();
    for source in [&tree, &file] {
        let link = link(&a.share(source));
        let got = folder.join(source.file_name().unwrap());
        let fetch = ["fetch", &link, "-o", text(&folder), "--no-serve"];
        b.run(&fetch).ok();
        assert_same(source, &got);
        assert_eq!(count(&b.run(&["ls"]).ok(), "entries"), 0);
        let transfers = b.run(&["transfers"]).ok();
        let latest = transfers["transfers"].as_array().unwrap().last().unwrap();
        assert_eq!(latest["state"], "done", "{transfers}");

        // What the next process finds is nothing that it would go on with or take away.
        b = b.restart();
        assert_eq!(count(&b.run(&["transfers"]).ok(), "transfers"), 0);
        assert_same(source, &got);
        b.run(&fetch).fails(1, "destination_exists");
        b.run(&[&fetch[..], &["--overwrite"]].concat()).ok();
        assert_same(source, &got);
        assert_eq!(count(&b.run(&["ls"]).ok(), "entries"), 0);
    }
    let names = fs::read_dir(&folder).unwrap().count();
    assert_eq!(names, 2, "no part stays behind");
}

fn assert_same(one: &Path, other: &Path) {
    if one.is_dir() {
        assert_same_tree(one, other);
    } else {
        assert_same_file(one, other);
    }
}

/// A `fetch --stdout`, whose standard output is not JSON.
fn cat(home: &Path, link: &str, more: &[&str]) -> Command {
    let mut command = Command::new(shoal());
    command
        .arg("--home")
        .arg(home)
        .args(["fetch", "--stdout", link]);
    command.args(more).env_remove("SHOAL_HOME");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_file_is_written_to_stdout_whole_in_order_and_nowhere_else() {
    let pair = Pair::new();
    let tree = pair.dir.path().join("tree");
    write_content(&tree.join("sub/large"), "large", 21 * MIB + 5);
    write_content(&tree.join("small"), "small", 100);
    write_content(&tree.join("empty"), "empty", 0);
    // The same chunk again and again, each time at its place.
    fs::write(tree.join("zeros"), vec![0; 12 * MIB]).unwrap();
    let link = link(&pair.a.share(&tree));
    let home = pair.b.home();
    for name in ["sub/large", "small", "empty", "zeros"] {
        let output = cat(home, &format!("{link}/{name}"), &[]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {stderr}");
        assert!(
            output.stdout == fs::read(tree.join(name)).unwrap(),
            "{name}"
        );
    }
    assert_eq!(count(&pair.b.run(&["ls"]).ok(), "entries"), 0);
    assert_eq!(count(&pair.b.run(&["transfers"]).ok(), "transfers"), 0);
    let downloaded = pair.b.run(&["status"]).ok()["downloaded_bytes"].as_u64();
    assert!(downloaded >= Some(21 * MIB as u64), "{downloaded:?}");

    // The same without a daemon.
    let alone = pair.dir.path().join("alone");
    let peer = ["--peer", &pair.a.address];
    let output = cat(&alone, &format!("{link}/sub/large"), &peer)
        .output()
        .unwrap();
    assert!(output.stdout == fs::read(tree.join("sub/large")).unwrap());

    // A folder has no bytes.
    let output = cat(home, &link, &[]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("folder") && stderr.contains("shoal ls"),
        "{stderr}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_stream_quietly() {
    let pair = Pair::new();
    let link = pair.share_file("file", 64 * MIB);
    let mut child = cat(pair.b.home(), &link, &[]).spawn().unwrap();
    let mut first = vec![0; 1000];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    assert!(first == content("file", 1000));
    // Its place is free again.
    for _ in 0..5 {
        let mut child = cat(pair.b.home(), &link, &[]).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn what_a_stream_has_written_before_a_failure_is_right() {
    // The last chunk is another one than its address says.
    let (whole, dir) = (content("spoilt", 20 * MIB), scratch());
    let mut blocks = Blocks::default();
    let cid = blocks.file(&whole);
    let last = &whole[19 * MIB..];
    blocks.chunk(Digest::of(HashFn::Blake3, last), vec![7; MIB]);
    let peer = Peer::start(blocks);
    let b = Daemon::start(&dir.path().join("b"), &[]);
    let more = ["--peer", &peer.address, "--timeout", "2s"];
    let output = cat(b.home(), &cid.to_string(), &more).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let written = output.stdout.len();
    assert!(
        written < whole.len() && whole.starts_with(&output.stdout),
        "{written}"
    );
}
