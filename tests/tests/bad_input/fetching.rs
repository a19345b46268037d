//! What cannot be fetched: content that is not there, or that nobody should write to a disk, and
//! destinations that are in the way.

use std::{fs, time::Instant};

use serde_json::Value;
use shoal_protocol::address::Cid;
use shoal_tests::{
    DEADLINE, Daemon, forger::Forgery, peer::Peer, refused::snapshot, run, text, write_content,
};

use super::World;

/// The address of a folder that nobody has.
const UNKNOWN: &str = "bafyb4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";

#[test]
fn unsafe_names_refuse_the_whole_fetch_before_a_byte_lands() {
    let world = World::new();
    let _daemon = world.daemon();
    let check = |name: &[u8], says: &[&str]| {
        let mut forgery = Forgery::default();
        let leaf = forgery.leaf(b"content");
        let below = forgery.dir(&[(b"good", &leaf), (name, &leaf)]);
        let root = forgery.dir(&[(b"fine", &leaf), (b"sub", &below)]);
        let forger = Peer::start(forgery.blocks);
        let root = root.to_string();
        let args = ["fetch", &root, "--peer", &forger.address, "-o", "got"];
        let advises = ["nothing was written", "safe names"];
        world.check(&args, 1, "bad_name", says, &advises);
        assert_eq!(forger.sent(), 0, "content of {name:?} was asked for");
    };
    check(b"..", &["`..`"]);
    check(b"../../etc/cron.d/x", &["../../etc/cron.d/x"]);
    check(b"/etc/passwd", &["/etc/passwd"]);
    check(b"nul\0", &["nul\\u{0}"]);
    check(b"\x1b[2Jclear", &["\\u{1b}[2Jclear"]);
    check("gpj\u{202e}exe".as_bytes(), &["gpj\\u{202e}exe"]);
    check(b"latin-\xe9", &["not UTF-8"]);
    check(&[b'x'; 256], &["256"]);
    check(b"good", &["good"]);
}

/// A node that does not parse is nobody's fault on the way: its hash is right.
#[test]
fn trees_that_cannot_be_read_are_refused_with_their_reason() {
    let world = World::new();
    let _daemon = world.daemon();
    let check = |root: &Cid, forgery: Forgery, exit, code: &str, says: &[&str]| {
        let forger = Peer::start(forgery.blocks);
        let root = root.to_string();
        let args = ["fetch", &root, "--peer", &forger.address, "-o", "got"];
        world.check(&args, exit, code, says, &[]);
    };
    let mut forgery = Forgery::default();
    let noise = forgery.node(vec![0xff; 3]);
    let root = forgery.dir(&[(b"noise", &noise)]);
    check(&root, forgery, 5, "integrity", &["the content is refused"]);

    let mut forgery = Forgery::default();
    let sha3 = [&[1, 0x55, 0x16, 32][..], &[0; 32]].concat();
    let root = forgery.raw_dir(&[(b"file", sha3)]);
    check(&root, forgery, 1, "unsupported_hash", &["sha3-256"]);

    let mut forgery = Forgery::default();
    let root = forgery.symlink("/etc/passwd");
    check(&root, forgery, 1, "bad_name", &["symbolic link"]);

    let mut forgery = Forgery::default();
    let mut root = forgery.dir(&[]);
    for _ in 0..300 {
        root = forgery.dir(&[(b"deeper", &root)]);
    }
    check(&root, forgery, 1, "bad_name", &["levels"]);
}

#[test]
fn links_that_lead_outside_are_skipped_and_the_rest_is_fetched() {
    let world = World::new();
    let daemon = world.daemon();
    let mut forgery = Forgery::default();
    let file = forgery.leaf(b"content");
    let escaping = forgery.symlink("../../etc/passwd");
    let absolute = forgery.symlink("/etc/passwd");
    let inside = forgery.symlink("../file");
    let sub = forgery.dir(&[
        (b"inside", &inside),
        ("up\u{200b}and out".as_bytes(), &escaping),
    ]);
    let root = forgery.dir(&[(b"absolute", &absolute), (b"file", &file), (b"sub", &sub)]);
    let forger = Peer::start(forgery.blocks);
    let got = world.at("got");
    let root = root.to_string();
    let args = ["fetch", &root, "--peer", &forger.address, "-o", text(&got)];
    let fetched = daemon.run(&args).ok();
    assert_eq!(fetched["skipped"], 2, "{fetched}");
    let warnings = fetched["warnings"].to_string();
    assert!(warnings.contains("absolute"), "{warnings}");
    assert_eq!(fs::read(got.join("sub/inside")).unwrap(), b"content");
    for skipped in ["absolute", "sub/up\u{200b}and out"] {
        assert!(got.join(skipped).symlink_metadata().is_err(), "{skipped}");
    }

    let mut args: Vec<_> = args.map(Into::into).to_vec();
    args[5] = "again".into();
    let said = world.ground.command(&args).output().unwrap();
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{stderr}");
    assert!(
        stderr.contains("warning: the link sub/up\\u{200b}and out leads outside"),
        "{stderr}"
    );
}

#[test]
fn unknown_content_is_not_found_in_bounded_time() {
    let world = World::new();
    let daemon = world.daemon();
    let other = Daemon::start(&world.beside("other"), &[&daemon]);
    let started = Instant::now();
    let nobody = ["was not found within", "no connected node knows one"];
    let advises = ["quote the link"];
    for command in ["fetch", "ls", "find"] {
        let args = [command, UNKNOWN, "--timeout", "1s"];
        world.check(&args, 3, "not_found", &nobody, &advises);
    }
    // Folders that were made for it are taken back.
    let args = ["fetch", UNKNOWN, "--timeout", "1s", "-o", "new/deeper/"];
    world.check(&args, 3, "not_found", &nobody, &advises);
    let asked = [other.peer_id.as_str()];
    for command in ["fetch", "ls"] {
        let peer = &other.address;
        let args = [command, UNKNOWN, "--timeout", "1s", "--peer", peer];
        world.check(&args, 3, "not_found", &asked, &["check the link"]);
    }
    assert!(started.elapsed() < DEADLINE, "each took its second or so");

    // The same without a daemon.
    daemon.run(&["stop"]).ok();
    let args = ["fetch", UNKNOWN, "--timeout", "1s"];
    world.check(&args, 3, "not_found", &nobody, &advises);
}

#[test]
fn a_path_that_is_not_in_the_tree_is_not_found() {
    let world = World::new();
    write_content(&world.beside("tree/file"), "file", 10);
    let daemon = world.daemon();
    let shared = daemon.share(&world.beside("tree"));
    let cid = shared["cid"].as_str().unwrap();
    for (path, says) in [("nothing", "nothing"), ("file/below", "not a directory")] {
        let link = format!("shoal:{cid}/{path}");
        world.check(&["fetch", &link], 3, "not_found", &[says], &["shoal ls"]);
    }
}

#[test]
fn what_is_at_the_destination_stays_unless_it_is_to_be_replaced() {
    let world = World::new();
    let source = world.beside("tree");
    write_content(&source.join("file"), "file", 100_000);
    let daemon = world.daemon();
    let tree = daemon.share(&source)["cid"].as_str().unwrap().to_owned();
    let file = format!("shoal:{tree}/file");
    write_content(&world.at("taken"), "mine", 10);
    write_content(&world.at("folder/file"), "mine", 10);
    write_content(&world.at("other/file/below"), "mine", 10);
    std::os::unix::fs::symlink("nowhere", world.at("dangling")).unwrap();

    let check = |args: &[&str], says: &[&str], advises: &[&str]| {
        let args = [&["fetch"], args].concat();
        world.check(&args, 1, "destination_exists", says, advises);
    };
    let instead = ["-o", "--overwrite"];
    check(&[&file, "-o", "taken"], &["taken exists"], &instead);
    check(&[&file, "-o", "folder"], &["folder/file exists"], &instead);
    check(&[&file, "-o", "dangling"], &["dangling exists"], &instead);
    check(&[&tree, "-o", "taken"], &["taken exists"], &instead);
    let other_kind = ["a folder and something else have the same name"];
    let move_it = ["-o", "move what is there away"];
    check(
        &[&tree, "-o", "taken", "--overwrite"],
        &other_kind,
        &move_it,
    );
    check(
        &[&file, "-o", "other", "--overwrite"],
        &other_kind,
        &move_it,
    );
    let nowhere = ["fetch", &file, "-o", "missing/deeper/got"];
    let advises = ["a folder that exists"];
    world.check(&nowhere, 1, "path_not_found", &["missing/deeper"], &advises);
}

/// The provider is killed while the fetcher stands still; what was fetched stays for the next run.
#[test]
fn a_provider_that_never_comes_back_ends_a_fetch_and_its_progress_is_kept() {
    let world = World::new();
    let source = world.beside("big");
    write_content(&source, "lost provider", 256 << 20);
    let mut provider = Daemon::start(&world.beside("provider"), &[]);
    let cid = provider.share(&source)["cid"].as_str().unwrap().to_owned();
    let fetcher = Daemon::start(&world.ground.home, &[&provider]);
    let args = ["fetch", &cid, "-o", "got", "--patience", "2s"];
    let command = |json: &str| {
        let mut command = world.ground.command(&args.map(Into::into));
        command.arg(json).stdout(std::process::Stdio::piped());
        command
    };
    let fetch = command("--json").spawn().unwrap();
    shoal_tests::wait_for("bytes come", || {
        let status = run(&world.ground.home, &["status"]).json;
        status["downloaded_bytes"]
            .as_u64()
            .filter(|bytes| *bytes > 8 << 20)
    });
    provider.kill();
    let output = fetch.wait_with_output().unwrap();
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert_eq!(error["error"]["code"], "not_found", "{error}");
    let hint = error["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("run the same fetch again"), "{hint}");
    let names: Vec<_> = snapshot(&world.ground.dir).into_keys().collect();
    assert_eq!(names.len(), 2, "the part alone is there: {names:?}");

    let provider = provider.restart();
    fetcher.run(&["connect", &provider.address]).ok();
    let fetched = command("--json").output().unwrap();
    let fetched: Value = serde_json::from_slice(&fetched.stdout).unwrap();
    assert!(
        fetched["resumed_bytes"].as_u64() > Some(8 << 20),
        "{fetched}"
    );
}
