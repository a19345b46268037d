//! What a person sees in a terminal: progress at any width, how to go on, colours only where they
//! are wanted, and nothing that a stranger wrote and a terminal would obey.
//!
//! With `SHOAL_RECORD` in the environment the session is written to `docs/terminal.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, path::Path};

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
    let mut record = Record::of(&world);
    share(&world, &mut record);
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
    record.add("A fetch, on its way", &args, &screen);
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
    record.add("Ctrl-C", &args, &ended.screen);

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
    record.add("The same again", &args, &ended.screen);
    for command in ["ls", "status", "peers", "id"] {
        let ended = world.run(80, &[command]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        record.add(&format!("`shoal {command}`"), &[command], &ended.screen);
    }
    narrow(&mut record);
    record.keep();
}

fn share(world: &World, record: &mut Record) {
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
    record.add("Sharing", &["share", "notes"], &ended.screen);
    daemon.kill();
}

/// Forty columns: all facts are still there, over two lines.
fn narrow(record: &mut Record) {
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
    record.add("Forty columns", &args, &screen);
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
        let names = Names::of(&world);
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

/// Letters of the token of a link with a name and one address of IPv4.
const TOKEN_LETTERS: usize = 123;

/// What differs from run to run, and what stands for it.
struct Names {
    root: String,
}

impl Names {
    fn of(world: &World) -> Self {
        let root = world.root.path().to_str().unwrap().to_owned();
        Self { root }
    }

    fn normalised(&self, screen: &str) -> String {
        let mut text = screen.replace(&self.root, "/home/ann");
        text = shortened(&text, "SG", TOKEN_LETTERS, "SGKAY4T9…");
        for (start, len, instead) in [
            ("bafy", 59, "bafyb4i…"),
            ("bafk", 59, "bafkr4i…"),
            ("12D3KooW", 52, "12D3KooW…"),
        ] {
            text = shortened(&text, start, len, instead);
        }
        for prefix in ["/tcp/", "/udp/"] {
            text = without_digits(&text, prefix);
        }
        let lines: Vec<_> = text.trim_end().lines().map(without_measures).collect();
        lines.join("\n")
    }
}

fn shortened(text: &str, start: &str, len: usize, instead: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(start) {
        out += &rest[..at];
        let word = &rest[at..];
        let end = word.find(|c: char| !c.is_ascii_alphanumeric());
        let end = end.unwrap_or(word.len());
        out += if end == len { instead } else { &word[..end] };
        rest = &word[end..];
    }
    out + rest
}

fn without_digits(text: &str, prefix: &str) -> String {
    let mut parts = text.split(prefix);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{text}{prefix}4101{rest}")
    })
}

/// Numbers that a clock made.
fn without_measures(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let measured = |index: usize| {
        let word = |offset: usize| words.get(index + offset).copied().unwrap_or_default();
        let before = index.checked_sub(1).map_or("", |it| words[it]);
        let number = word(0).starts_with(|c: char| c.is_ascii_digit());
        let time = matches!(word(1), "s" | "s," | "s." | "ms")
            && (["in", "up", "for"].contains(&before)
                || word(1) == "ms"
                || word(2).starts_with("left"));
        number && (time || word(1).contains("B/s") || word(1).starts_with("GiB"))
    };
    let shown = (0..words.len()).map(|index| match measured(index) {
        true => "1.0",
        false => words[index],
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The session as a document.
struct Record {
    names: Names,
    text: String,
}

impl Record {
    fn of(world: &World) -> Self {
        let text = "# In a terminal\n\nRecorded from real runs by `tests/tests/terminal.rs`; \
                    addresses are shortened, and\nmeasured numbers stand at 1.0.\n";
        Self {
            names: Names::of(world),
            text: text.to_owned(),
        }
    }

    fn add(&mut self, title: &str, args: &[&str], screen: &str) {
        let args: Vec<String> = args.iter().map(|word| quoted(word)).collect();
        let command = self.names.normalised(&args.join(" "));
        let screen = self.names.normalised(screen);
        let section = format!("\n## {title}\n\n```\n$ shoal {command}\n{screen}\n```\n");
        self.text.write_str(&section).unwrap();
    }

    fn keep(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/terminal.md");
        if std::env::var_os("SHOAL_RECORD").is_some() {
            fs::write(&file, &self.text).unwrap();
        }
        let kept = fs::read_to_string(file).unwrap();
        let titles = |text: &str| {
            let titles = text.lines().filter(|line| line.starts_with("## "));
            titles.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(titles(&kept), titles(&self.text), "record it again");
    }
}

fn quoted(word: &str) -> String {
    match word.contains(['&', '?']) {
        true => format!("'{word}'"),
        false => word.to_owned(),
    }
}
