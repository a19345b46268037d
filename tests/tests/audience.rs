//! What the sharer sees: who fetches and how far they are, who has all of it, over restarts too; and
//! shares that end after so many copies or at a time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use serde_json::Value;
use shoal_tests::{
    Daemon, command, http::metric, run, scratch, shoal, text, wait_for, world::World, write_content,
};

const MIB: usize = 1 << 20;

/// What the sharer says of a share.
fn shown_by(world: &World, share: &Value) -> Value {
    shown(world.sharer.home(), share)
}

fn link(share: &Value) -> &str {
    share["link"].as_str().unwrap()
}

fn shown(home: &Path, share: &Value) -> Value {
    run(home, &["show", share["cid"].as_str().unwrap()]).json
}

fn is_over(home: &Path, share: &Value) -> Option<String> {
    let shown = shown(home, share);
    (shown["error"]["code"] == "not_shared").then_some(())?;
    Some(shown["error"]["message"].as_str().unwrap().to_owned())
}

#[test]
fn a_share_for_one_ends_when_one_peer_has_all_of_it() {
    let world = World::new();
    let file = world.file("once", 3 * MIB);
    let share = world.share(&file, &["--once"]);
    let (b, c) = (world.daemon("b"), world.daemon("c"));
    // A part of it is no copy, and neither is a look at it.
    let tree = world.dir.path().join("files");
    let whole = world.share(&tree, &["--until", "2"]);
    let part = ["fetch", link(&whole), "--only", "once", "-o"];
    b.run(&[&part[..], &[text(&world.output("part"))]].concat())
        .ok();
    b.run(&["ls", link(&whole)]).ok();
    let shown = shown_by(&world, &whole);
    assert_eq!(
        shown["until"],
        serde_json::json!({ "copies": 2, "made": 0 }),
        "{shown}"
    );

    let output = world.output("once");
    b.run(&["fetch", link(&share), "--no-serve", "-o", text(&output)])
        .ok();
    let why = wait_for("the share ends", || is_over(world.sharer.home(), &share));
    assert!(why.contains("a peer has all of it"), "{why}");
    assert!(file.exists());
    let fetch = ["fetch", link(&share), "--timeout", "2s", "--no-serve", "-o"];
    let denied = c.run(&[&fetch[..], &[text(&world.output("late"))]].concat());
    assert_ne!(denied.code, Some(0), "only b may have it: {denied:?}");
    assert_eq!(
        shown_by(&world, &whole)["error"],
        Value::Null,
        "the other goes on"
    );
}

#[test]
fn copies_are_counted_by_peers_and_over_restarts() {
    let mut world = World::new();
    let share = world.share(&world.file("three", 2 * MIB), &["--until", "3"]);
    let fetchers = ["b", "c", "d"].map(|name| world.daemon(name));
    let fetch = |daemon: &Daemon, name: &str| {
        let (output, link) = (world.output(name), link(&share));
        daemon
            .run(&["fetch", link, "--no-serve", "-o", text(&output)])
            .ok();
        fs::remove_file(output).unwrap();
    };
    fetch(&fetchers[0], "b");
    let home = world.sharer.home().to_owned();
    let made = |copies: u64| {
        wait_for("the copies are counted", || {
            (shown(&home, &share)["until"]["made"].as_u64()? == copies).then_some(())
        });
    };
    made(1);
    // The same peer again is none more.
    fetch(&fetchers[0], "again");
    fetch(&fetchers[1], "c");
    made(2);
    let before = shown(&home, &share);
    assert_eq!(before["audience"]["copies"], 2, "{before}");
    assert!(before["audience"]["sent_bytes"].as_u64().unwrap() >= 4 * MIB as u64);
    let peers = before["audience"]["peers"].as_array().unwrap();
    assert!(
        peers
            .iter()
            .all(|it| it["complete"] == true && it["percent"] == 100)
    );
    assert!(
        peers
            .iter()
            .any(|it| it["peer_id"] == fetchers[0].peer_id.as_str())
    );
    assert_eq!(metric(&home, "shoal_share_copies"), Some(2));

    // Killed, it has forgotten no copy.
    world.sharer = world.sharer.restart();
    made(2);
    let after = shown_by(&world, &share);
    assert_eq!(after["audience"]["copies"], 2);
    assert_eq!(after["audience"]["peers"].as_array().unwrap().len(), 2);
    let again = after["link"].as_str().unwrap();
    fetchers[2].fetch(again, &world.output("d"));
    let why = wait_for("the share ends", || is_over(&home, &share));
    assert!(why.contains("3 peers have all of it"), "{why}");
}

#[test]
fn a_share_that_was_made_again_counts_from_the_start() {
    let world = World::new();
    let file = world.file("again", MIB);
    let share = world.share(&file, &[]);
    let (b, c) = (world.daemon("b"), world.daemon("c"));
    let fetch = |daemon: &Daemon, name: &str| {
        let output = world.output(name);
        daemon
            .run(&["fetch", link(&share), "--no-serve", "-o", text(&output)])
            .ok();
    };
    fetch(&b, "b");
    wait_for("a copy is counted", || {
        (shown_by(&world, &share)["audience"]["copies"] == 1).then_some(())
    });
    let once = world.share(&file, &["--once"]);
    assert_eq!(once["cid"], share["cid"]);
    assert_eq!(shown_by(&world, &share)["until"]["made"], 0);
    fetch(&c, "c");
    wait_for("the share ends", || is_over(world.sharer.home(), &share));
}

#[test]
fn a_share_ends_at_its_time_with_and_without_a_daemon() {
    let mut world = World::new();
    let file = world.file("timed", 1000);
    let long = world.share(&world.file("long", 1000), &["--expires", "2h"]);
    assert!(long["expires"].is_string(), "{long}");
    let share = world.share(&file, &["--expires", "300ms"]);
    let why = wait_for("its time comes", || is_over(world.sharer.home(), &share));
    assert!(why.contains("its time is over"), "{why}");

    // It comes while no daemon runs, too.
    let share = world.share(&file, &["--expires", "300ms"]);
    world.sharer.kill();
    let listed = || run(world.sharer.home(), &["ls"]).ok()["entries"].clone();
    wait_for("only one is left", || {
        let names: Vec<_> = listed()
            .as_array()?
            .iter()
            .map(|it| it["name"].clone())
            .collect();
        (names == ["long"]).then_some(())
    });
    world.sharer = world.sharer.restart();
    is_over(world.sharer.home(), &share).unwrap();
    assert_eq!(shown_by(&world, &long)["expires"], long["expires"]);

    // A command without a daemon ends with its share.
    let home = world.dir.path().join("alone");
    let ended = command(&home, &["share", text(&file), "--expires", "300ms"])
        .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
        .env("SHOAL_NETWORK_MDNS", "false")
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(
        said.contains("Sharing has ended: its time is over."),
        "{said}"
    );
}

#[test]
fn a_command_that_shares_for_one_ends_when_a_command_has_fetched_it() {
    let dir = scratch();
    let file = dir.path().join("file");
    write_content(&file, "file", 3 * MIB);
    let on = |home: &str, args: &[&str]| {
        let mut command = command(&dir.path().join(home), args);
        command
            .args(["--listen", "/ip4/127.0.0.1/tcp/0"])
            .env("SHOAL_NETWORK_MDNS", "false")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let mut share = on("a", &["share", text(&file), "--once"]).spawn().unwrap();
    let mut line = String::new();
    let mut printed = BufReader::new(share.stdout.take().unwrap());
    printed.read_line(&mut line).unwrap();
    let shared: Value = serde_json::from_str(&line).unwrap();
    let output = dir.path().join("got");
    let fetched = on("b", &["fetch", link(&shared), "-o", text(&output)])
        .output()
        .unwrap();
    assert_eq!(fetched.status.code(), Some(0), "{fetched:?}");
    let ended = share.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(said.contains("has all of it"), "{said}");
    assert!(said.contains("Sharing has ended"), "{said}");
}

#[test]
fn the_sharer_sees_who_fetches_and_how_far_they_are() {
    let world = World::new();
    let share = world.share(&world.file("slow", 12 * MIB), &[]);
    let mut options = shoal_tests::joining(&world.sharer.address);
    options.extend(["--down".to_owned(), "1MB/s".to_owned()]);
    let b = Daemon::start_with(&world.dir.path().join("b"), options);
    let mut fetch = command(
        b.home(),
        &["fetch", link(&share), "-o", text(&world.output("slow"))],
    )
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    let mut watching = command(world.sharer.home(), &["status", "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let watched = BufReader::new(watching.stdout.take().unwrap());
    let mut percents = Vec::new();
    for line in watched.lines() {
        let status: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert!(
            fetch.try_wait().unwrap().is_none(),
            "it fetches: {percents:?}"
        );
        let audience = &status["shares"][0]["audience"];
        let Some(peer) = audience["peers"].get(0) else {
            continue;
        };
        assert_eq!(peer["peer_id"], b.peer_id.as_str());
        let percent = peer["percent"].as_u64().unwrap();
        if peer["fetching"] == true && peer["rate"].as_u64().unwrap() > 0 && percent < 100 {
            assert_eq!(audience["fetching"], 1, "{audience}");
            percents.push(percent);
        }
        if percents.len() == 3 {
            break;
        }
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert!(
        percents.is_sorted() && percents[2] > percents[0],
        "{percents:?}"
    );
    let lines = std::process::Command::new(shoal())
        .args(["--home", text(world.sharer.home()), "status"])
        .output()
        .unwrap();
    let lines = String::from_utf8(lines.stdout).unwrap();
    assert!(
        lines.contains("1 peer now at") && lines.contains(&b.peer_id),
        "{lines}"
    );
    fetch.kill().unwrap();
    fetch.wait().unwrap();
}
