//! What a person sees in a terminal: progress at any width, how to go on, colours only where they
//! are wanted, and nothing that a stranger wrote and a terminal would obey.
//!
//! `first_hour.rs` is a whole session of two people, of which `docs/terminal.md` is the record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod first_hour;
mod record;

use shoal_tests::{
    Daemon,
    forger::Forgery,
    peer::Peer,
    refused::Ground,
    scratch,
    terminal::{Ended, Terminal},
    write_content,
};
use tempfile::TempDir;

use self::record::Names;

const MIB: usize = 1 << 20;

/// A working directory and a home beside it.
struct World {
    root: TempDir,
    ground: Ground,
}

impl World {
    fn new() -> Self {
        let root = scratch();
        let ground = Ground::below(root.path());
        Self { root, ground }
    }

    fn start(&self, columns: u16, args: &[&str]) -> Terminal {
        Terminal::start(&self.ground, columns, args, &[])
    }

    fn run(&self, columns: u16, args: &[&str]) -> Ended {
        self.start(columns, args).end()
    }
}

/// A provider of a folder of three files, 16 MiB, that sends a chunk when it is told to, and a
/// link to it.
fn photos() -> (Peer, String) {
    let mut forgery = Forgery::default();
    let [beach, dunes, sea] = [("beach", 4), ("dunes", 4), ("sea", 8)]
        .map(|(name, mib)| forgery.blocks.file(&shoal_tests::content(name, mib * MIB)));
    let root = forgery.dir(&[(b"beach", &beach), (b"dunes", &dunes), (b"sea", &sea)]);
    let peer = Peer::start_gated(forgery.blocks, 0);
    let link = format!("shoal:{root}?name=photos&peer={}", peer.address);
    (peer, link)
}

/// Lets chunks through one by one, each when the one before is on the screen.
fn advance(terminal: &mut Terminal, provider: &Peer, from: usize, to: usize) -> String {
    let mut screen = String::new();
    for mib in from..=to {
        provider.let_through(1);
        screen = terminal.wait_for(&[&format!("{mib}.0/16.0 MiB")]);
    }
    screen
}

/// The lines of a screen that show progress: from the bar on.
fn progress(screen: &str) -> String {
    let start = screen.find('[').unwrap();
    screen[start..].trim_end().to_owned()
}

const FACTS: [&str; 6] = ["[==", "%", " left", "MiB/s", "1 source", "/3 files"];

#[test]
fn a_session_shows_progress_says_how_to_go_on_and_goes_on() {
    let world = World::new();
    share(&world);
    let _daemon = Daemon::start(&world.ground.home, &[]);
    let (provider, link) = photos();
    let args = ["fetch", &link, "-o", "got/"];

    let mut fetch = world.start(80, &args);
    let screen = advance(&mut fetch, &provider, 1, 6);
    let lines = progress(&screen);
    assert_eq!(lines.lines().count(), 1, "{screen}");
    for fact in FACTS {
        assert!(lines.contains(fact), "{fact}: {screen}");
    }
    fetch.type_keys(b"\x03");
    let ended = fetch.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    for words in [
        "error: interrupted",
        "hint: what was fetched is kept; run the same command to resume",
    ] {
        assert!(ended.screen.contains(words), "{ended:?}");
    }
    assert!(
        !ended.screen.contains('%'),
        "the progress is gone: {ended:?}"
    );

    provider.open();
    let ended = world.run(80, &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.screen.contains("Fetched 3 files, 16.0 MiB"),
        "{ended:?}"
    );
    assert!(ended.screen.contains("were there already"), "{ended:?}");
    assert!(
        !ended.screen.contains('%'),
        "the progress is gone: {ended:?}"
    );
    narrow();
}

fn share(world: &World) {
    let folder = world.ground.dir.join("notes");
    write_content(&folder.join("plan"), "plan", 3 * MIB);
    write_content(&folder.join("week/monday"), "monday", 1000);
    let mut daemon = Daemon::start(&world.ground.home, &[]);
    let ended = world.run(80, &["share", "notes"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in [
        "Shared notes: 2 files, 3.0 MiB in",
        "Fetch it on another machine with: shoal fetch shoal:S",
    ] {
        assert!(ended.screen.contains(words), "{ended:?}");
    }
    daemon.kill();
}

/// Forty columns: all facts are still there, over two lines.
fn narrow() {
    let world = World::new();
    let _daemon = Daemon::start(&world.ground.home, &[]);
    let (provider, link) = photos();
    let args = ["fetch", &link, "-o", "got/"];
    let mut fetch = world.start(40, &args);
    let screen = advance(&mut fetch, &provider, 1, 6);
    let lines = progress(&screen);
    assert_eq!(lines.lines().count(), 2, "{screen}");
    for fact in FACTS {
        assert!(lines.contains(fact), "{fact}: {screen}");
    }
    provider.open();
    let ended = fetch.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        !ended.screen.contains('%'),
        "the progress is gone: {ended:?}"
    );
}

#[test]
fn without_a_daemon_it_looks_the_same() {
    let check = |daemon: bool| {
        let world = World::new();
        let _daemon = daemon.then(|| Daemon::start(&world.ground.home, &[]));
        let (provider, link) = photos();
        let args = ["fetch", &link, "-o", "got/"];
        let mut fetch = world.start(80, &args);
        let on_its_way = advance(&mut fetch, &provider, 1, 3);
        fetch.type_keys(b"\x03");
        let interrupted = fetch.end();
        provider.open();
        let done = world.run(80, &args);
        let names = Names::of(world.root.path());
        let lines = progress(&on_its_way);
        let shape: String = lines.chars().filter(|c| !c.is_numeric()).collect();
        // Who serves it on is not the same, and each says so.
        let serves_on = if daemon {
            "The daemon serves it on"
        } else {
            "The next daemon serves it on"
        };
        assert!(done.screen.contains(serves_on), "{done:?}");
        let done_screen = done.screen.replace(serves_on, "It is served on");
        let shown = [shape, interrupted.screen, done_screen].map(|it| names.normalised(&it));
        (shown, interrupted.code, done.code)
    };
    assert_eq!(check(true), check(false));
}

/// How long a file of one block is says the block alone, so there is nothing to have a part of.
#[test]
fn of_a_single_block_no_share_is_told_before_it_is_here() {
    let world = World::new();
    let mut forgery = Forgery::default();
    let block = forgery.blocks.file(&shoal_tests::content("block", MIB / 2));
    let provider = Peer::start_gated(forgery.blocks, 0);
    let link = format!("shoal:{block}?name=block&peer={}", provider.address);
    let args = ["fetch", &link, "-o", "block"];
    let mut fetch = world.start(80, &args);
    let screen = fetch.wait_for(&["looking for providers, asked 1 peer"]);
    assert!(!screen.contains('%'), "{screen}");
    provider.open();
    let ended = fetch.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.screen.contains("512.0 KiB"), "{ended:?}");
}

#[test]
fn colours_are_for_terminals_and_not_for_those_who_refuse_them() {
    let world = World::new();
    let _daemon = Daemon::start(&world.ground.home, &[]);
    let check = |args: &[&str], env: &[(&str, &str)], coloured: bool| {
        let ended = Terminal::start(&world.ground, 80, args, env).end();
        assert_eq!(ended.raw.contains("\x1b["), coloured, "{args:?}: {ended:?}");
    };
    for args in [&["id"][..], &["status"], &["unshare", "nothing"]] {
        check(args, &[], true);
        check(args, &[("NO_COLOR", "1")], false);
        check(&[args, &["--color", "never"]].concat(), &[], false);
        let always = [args, &["--color", "always"]].concat();
        check(&always, &[("NO_COLOR", "1")], true);
    }
}

#[test]
fn what_is_not_a_terminal_gets_results_and_no_progress() {
    let world = World::new();
    let _daemon = Daemon::start(&world.ground.home, &[]);
    let (provider, link) = photos();
    provider.open();
    let args = ["fetch", &link, "-o", "got/"].map(Into::into);
    let output = world.ground.command(&args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("Fetched 3 files"), "{stderr:?}");
    assert!(stderr.contains("\nThe daemon serves it on"), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 2, "{stderr:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.ends_with("/got/photos\n"), "{stdout:?}");
}

#[test]
fn nothing_that_a_stranger_wrote_steers_the_terminal() {
    let world = World::new();
    let _daemon = Daemon::start(&world.ground.home, &[]);
    let mut forgery = Forgery::default();
    let file = forgery.leaf(b"content");
    let red = forgery.symlink("../\x1b[31mred\x1b]0;title\x07\u{9b}2J");
    let names = [("link", &red), ("in\u{200b}visible", &file)];
    let root = forgery.dir(&names.map(|(name, cid)| (name.as_bytes(), cid)));
    let bad = forgery.dir(&[(b"\x1b[2Jclear", &file)]);
    let forger = Peer::start(forgery.blocks);
    let check = |args: &[&str], shown: &[&str]| {
        let args = [args, &["--peer", &forger.address]].concat();
        let ended = Terminal::start(&world.ground, 80, &args, &[("NO_COLOR", "1")]).end();
        for words in shown {
            assert!(ended.screen.contains(words), "{ended:?}");
        }
        for steering in [
            "\x1b[31m", "\x1b]0;", "\x07", "\u{9b}", "\x1b[2J", "\u{200b}",
        ] {
            assert!(!ended.raw.contains(steering), "{args:?}: {ended:?}");
        }
    };
    let (root, bad) = (root.to_string(), bad.to_string());
    let escaped = ["link -> ../\\u{1b}[31mred", "in\\u{200b}visible"];
    check(&["ls", &root], &escaped);
    check(
        &["fetch", &root, "-o", "got"],
        &["the link link leads outside"],
    );
    check(&["fetch", &bad, "-o", "bad"], &["\\u{1b}[2Jclear"]);
}
