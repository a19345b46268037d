//! Blocks that come in parts: where a provider stops, another goes on, and who lies is named where
//! that can be known.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, process::Stdio};

use shoal_tests::{
    Daemon, Ran, command, content,
    halves::{Act, Scripted, one_chunk},
    scratch, text, wait_for,
};

/// One chunk, of which half is 300 KiB.
const CHUNK: usize = 600 << 10;
const HALF: usize = CHUNK / 2;

/// A first provider does what it will with the only chunk, a second one takes over.
struct Case {
    first: &'static [Act],
    second: &'static [Act],
    /// At which offsets the second one is asked for the chunk.
    asked_of_second: &'static [usize],
    /// The bytes that count as the first one's.
    from_first: u64,
}

fn check(case: &Case) {
    let dir = scratch();
    let bytes = content("halves", CHUNK);
    let (root, blocks) = one_chunk(&bytes);
    let first = Scripted::start(&blocks, case.first, true);
    let second = Scripted::start(&blocks, case.second, false);
    second.set_open(false);
    let fetcher = Daemon::start(&dir.path().join("fetcher"), &[]);
    let got = dir.path().join("got");
    let root = root.to_string();
    let peers = ["--peer", &first.address, "--peer", &second.address];
    let args = [&["fetch", &root, "-o", text(&got)], &peers[..]].concat();
    let mut fetch = command(fetcher.home(), &args);
    let fetch = fetch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    wait_for("the first provider's part", || {
        first.is_done().then_some(())
    });
    second.set_open(true);
    let fetched = Ran::new(&fetch.unwrap().wait_with_output().unwrap()).ok();
    assert!(fs::read(&got).unwrap() == bytes, "{fetched}");
    assert_eq!(first.asked(), [0]);
    assert_eq!(second.asked(), case.asked_of_second, "{fetched}");
    let from = |peer: &str| {
        let sources = fetched["from"].as_array().unwrap().iter();
        let of_peer = sources.filter(|source| source["peer"] == peer);
        of_peer.map(|it| it["bytes"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(from(&first.peer_id), case.from_first, "{fetched}");
    let from_second = CHUNK as u64 - case.from_first;
    assert_eq!(from(&second.peer_id), from_second, "{fetched}");
}

#[test]
fn a_block_goes_on_at_another_provider() {
    check(&Case {
        first: &[Act::Half],
        second: &[],
        asked_of_second: &[HALF],
        from_first: HALF as u64,
    });
}

#[test]
fn a_wrong_half_is_blamed_on_nobody_and_the_block_comes_whole() {
    check(&Case {
        first: &[Act::WrongHalf],
        second: &[],
        asked_of_second: &[HALF, 0],
        from_first: 0,
    });
}

#[test]
fn a_wrong_rest_is_blamed_on_nobody_and_the_block_comes_whole() {
    check(&Case {
        first: &[Act::Half],
        second: &[Act::Wrong],
        asked_of_second: &[HALF, 0],
        from_first: 0,
    });
}

#[test]
fn a_beginning_that_another_does_not_know_is_given_up() {
    check(&Case {
        first: &[Act::Half],
        second: &[Act::Beyond],
        asked_of_second: &[HALF, 0],
        from_first: 0,
    });
}

/// A fetch that knows only this peer fails, and says why.
fn check_alone(script: &[Act], exit: i32, reason: &str, asked: &[usize]) {
    let dir = scratch();
    let (root, blocks) = one_chunk(&content("alone", CHUNK));
    let peer = Scripted::start(&blocks, script, false);
    let fetcher = Daemon::start(&dir.path().join("fetcher"), &[]);
    let (got, root) = (dir.path().join("got"), root.to_string());
    let args = ["--peer", &peer.address, "--timeout", "3s"];
    let ran = fetcher.run(&[&["fetch", &root, "-o", text(&got)], &args[..]].concat());
    let message = ran.json["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(ran.code, Some(exit), "{message}");
    assert!(message.contains(reason), "{message}");
    assert!(message.contains(&peer.peer_id), "{message}");
    assert_eq!(peer.asked(), asked);
    assert!(!got.exists());
}

#[test]
fn who_sends_both_halves_and_lies_in_one_is_out() {
    let wrong = "served wrong bytes";
    check_alone(&[Act::Half, Act::Wrong], 5, wrong, &[0, HALF]);
    check_alone(&[Act::WrongHalf], 5, wrong, &[0, HALF]);
    // A second half and its length do not fit what the node above says.
    check_alone(&[Act::Half, Act::Longer], 3, "longer", &[0, HALF]);
}
