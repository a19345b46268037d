//! `fetch --rename-unsafe`: trees with names that nobody should write to a disk, under others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use shoal_tests::{
    Daemon, Ran, assert_same_tree, command, content,
    forger::Forgery,
    peer::Peer,
    refused::{Ground, Refusal},
    scratch, text, wait_for,
};

const MIB: usize = 1 << 20;

/// A tree of names that lead out of it, hide in it, or are there twice.
fn forged() -> (Forgery, String) {
    let mut forgery = Forgery::default();
    let names: [&[u8]; 10] = [
        b"../../climbs",
        b".",
        b"..",
        b"/etc/passwd",
        b"100%",
        b"\x1b[2J",
        b"fine",
        b"latin-\xe9",
        b"twin.txt",
        b"twin.txt",
    ];
    let leaves = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|n| forgery.leaf(format!("{n}").as_bytes()));
    let entries: Vec<_> = names.into_iter().zip(&leaves).collect();
    let below = forgery.dir(&entries);
    let to_twin = forgery.symlink("fine");
    let out = forgery.symlink("../../fine");
    let long = forgery.blocks.file(&content("long", 3 * MIB));
    let root = forgery.dir(&[
        (b"a\nb", &below),
        (b"a%0Ab", &long),
        (b"link", &to_twin),
        (b"out/of", &out),
    ]);
    (forgery, root.to_string())
}

/// Where it all lands, and what of it has another name in the tree.
const LANDED: [(&str, &str); 10] = [
    ("a%0Ab (2)/%2E", "1"),
    ("a%0Ab (2)/%2E%2E", "2"),
    ("a%0Ab (2)/%2Fetc%2Fpasswd", "3"),
    ("a%0Ab (2)/%1B[2J", "5"),
    ("a%0Ab (2)/..%2F..%2Fclimbs", "0"),
    ("a%0Ab (2)/100%", "4"),
    ("a%0Ab (2)/fine", "6"),
    ("a%0Ab (2)/latin-%E9", "7"),
    ("a%0Ab (2)/twin (2).txt", "9"),
    ("a%0Ab (2)/twin.txt", "8"),
];

fn renamed() -> BTreeMap<String, String> {
    let renamed = [
        ("a%0Ab (2)", "a\\nb"),
        ("a%0Ab (2)/%2E", "a\\nb/."),
        ("a%0Ab (2)/%2E%2E", "a\\nb/.."),
        ("a%0Ab (2)/%2Fetc%2Fpasswd", "a\\nb//etc/passwd"),
        ("a%0Ab (2)/%1B[2J", "a\\nb/\\u{1b}[2J"),
        ("a%0Ab (2)/..%2F..%2Fclimbs", "a\\nb/../../climbs"),
        ("a%0Ab (2)/latin-%E9", "a\\nb/latin-\\xe9"),
        ("a%0Ab (2)/twin (2).txt", "a\\nb/twin.txt"),
    ];
    renamed
        .map(|(to, from)| (to.to_owned(), from.to_owned()))
        .into()
}

/// Makes what the forged tree has to land as.
fn make(at: &Path) {
    for (path, bytes) in LANDED {
        let path = at.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(at.join("a%0Ab"), content("long", 3 * MIB)).unwrap();
    symlink("fine", at.join("link")).unwrap();
}

#[test]
fn unsafe_names_land_under_others_that_are_told() {
    let dir = scratch();
    let ground = Ground::below(dir.path());
    let (forgery, root) = forged();
    let peer = Peer::start(forgery.blocks);
    let args = ["fetch", &root, "--peer", &peer.address, "-o", "got"];
    let refusal = Refusal {
        args: args.map(Into::into).to_vec(),
        exit: 1,
        code: "bad_name",
        says: &["unsafe name"],
        advises: &["nothing was written", "--rename-unsafe"],
    };
    let b = Daemon::start(&dir.path().join("b"), &[]);
    let with_daemon = ground.on(b.home().to_owned());
    ground.check(&refusal);
    with_daemon.check(&refusal);
    assert_eq!(peer.sent(), 0);

    let expected = dir.path().join("expected");
    make(&expected);
    let got = ground.dir.join("got");
    for place in [&ground, &with_daemon] {
        let flags = ["--json", "--rename-unsafe"];
        let args: Vec<_> = args.iter().chain(&flags).map(Into::into).collect();
        let fetched = Ran::new(&place.command(&args).output().unwrap()).ok();
        assert_same_tree(&expected, &got);
        assert_eq!(
            fs::read_dir(&ground.dir).unwrap().count(),
            1,
            "nothing is beside it"
        );
        let listed = fetched["renamed"].as_array().unwrap().iter().map(|it| {
            let text = |key: &str| it[key].as_str().unwrap().to_owned();
            (text("to"), text("from"))
        });
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), renamed(), "{fetched}");
        assert_eq!(
            (&fetched["files"], &fetched["skipped"]),
            (&json!(11), &json!(1))
        );
        fs::remove_dir_all(&got).unwrap();
    }

    // In words, and of a part.
    let more = ["--rename-unsafe", "--only", "*/latin-%E9"];
    let args: Vec<_> = args.iter().chain(&more).map(Into::into).collect();
    let output = ground.command(&args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let told = "Renamed a\\nb/latin-\\xe9 to a%0Ab (2)/latin-%E9";
    assert!(stderr.contains(told), "{stderr}");
    assert!(!stderr.contains("twin"), "{stderr}");
    assert_eq!(fs::read(got.join("a%0Ab (2)/latin-%E9")).unwrap(), b"7");
}

#[test]
fn what_was_renamed_is_served_like_anything_else() {
    let dir = scratch();
    let (forgery, root) = forged();
    let b = Daemon::start(&dir.path().join("b"), &[]);
    let fetch = |daemon: &Daemon, more: &[&str], name: &str| {
        let got = dir.path().join(name);
        let args = [&["fetch", &root, "--rename-unsafe", "-o", text(&got)], more].concat();
        daemon.run(&args).ok();
        got
    };
    let first = {
        let peer = Peer::start(forgery.blocks);
        fetch(&b, &["--peer", &peer.address], "first")
    };
    let verified = b.run(&["verify"]).ok();
    assert_eq!(verified["intact"], true, "{verified}");
    let b = b.restart();
    let c = Daemon::start(&dir.path().join("c"), &[&b]);
    let second = fetch(&c, &[], "second");
    assert_same_tree(&first, &second);
    let status = b.run(&["status"]).ok();
    let uploaded = status["uploaded_bytes"].as_u64().unwrap();
    assert!(uploaded > 3 * MIB as u64, "{status}");

    // It is there and shared from there, also for who does not ask for other names.
    let link = format!("shoal:{root}?name=first");
    let again = ["fetch", &link, "-o", text(dir.path()), "--rename-unsafe"];
    for args in [&again[..], &again[..4]] {
        let fetched = b.run(args).ok();
        assert_eq!(fetched["downloaded_bytes"], 0, "{fetched}");
    }
}

#[test]
fn what_cannot_be_renamed_is_refused_all_the_same() {
    let dir = scratch();
    let ground = Ground::below(dir.path());
    let check = |name: &[u8], says: &[&str]| {
        let mut forgery = Forgery::default();
        let leaf = forgery.leaf(b"content");
        let root = forgery.dir(&[(b"fine", &leaf), (name, &leaf)]).to_string();
        let peer = Peer::start(forgery.blocks);
        let args = [
            "fetch",
            &root,
            "--rename-unsafe",
            "--peer",
            &peer.address,
            "-o",
            "got",
        ];
        ground.check(&Refusal {
            args: args.map(Into::into).to_vec(),
            exit: 1,
            code: "bad_name",
            says,
            advises: &["nothing was written", "ask the sharer"],
        });
        assert_eq!(peer.sent(), 0);
    };
    check(&[b'x'; 256], &["256 bytes"]);
    check(&[b'\n'; 86], &["258 bytes"]);
}

#[test]
fn a_killed_daemon_goes_on_under_the_same_names() {
    const LONG: usize = 24 * MIB;
    const HALF: usize = 10 * MIB;
    let dir = scratch();
    let mut forgery = Forgery::default();
    let long = forgery.blocks.file(&content("long", LONG));
    let root = forgery.dir(&[(b"a/b", &long)]).to_string();
    let peer = Peer::start_gated(forgery.blocks, HALF / MIB);
    let mut b = Daemon::start(&dir.path().join("b"), &[]);
    let got = dir.path().join("into/got");
    fs::create_dir(got.parent().unwrap()).unwrap();
    let args = [
        "fetch",
        &root,
        "--peer",
        &peer.address,
        "--rename-unsafe",
        "-o",
        text(&got),
    ];
    let mut fetch = command(b.home(), &args);
    let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let transfer = |daemon: &Daemon| {
        let listed = daemon.run(&["transfers"]).ok();
        listed["transfers"].get(0).cloned().unwrap_or(Value::Null)
    };
    wait_for("the transfer is in the middle", || {
        (transfer(&b)["verified_bytes"].as_u64()? >= HALF as u64).then_some(())
    });
    b.kill();
    Ran::new(&fetch.unwrap().wait_with_output().unwrap()).fails(1, "daemon_lost");
    peer.open();
    let b = b.restart();
    wait_for("the transfer is done", || {
        (transfer(&b)["state"] == "done").then_some(())
    });
    assert!(fs::read(got.join("a%2Fb")).unwrap() == content("long", LONG));
    assert!(
        peer.sent() <= (LONG / MIB) as u64 + 8,
        "{} chunks",
        peer.sent()
    );
    let left: Vec<PathBuf> = fs::read_dir(got.parent().unwrap())
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    assert_eq!(left, [got], "no part stays behind");
}
