//! `--json` of every command against a schema: in success and in failure, and nothing else on
//! stdout. Results that are the API's are held to the API's own document, the others to
//! `schemas/cli.json`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};
use shoal_tests::{
    Daemon, command,
    http::ask,
    schema::{Schemas, api_type},
    scratch, shoal, text, wait_for, write_content,
};
use tempfile::TempDir;

/// Of content that nobody has.
const ABSENT: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
const ALONE: &str = "--no-mdns --listen /ip4/127.0.0.1/tcp/0";

/// Two nodes, and places of which nobody else knows.
struct World {
    dir: TempDir,
    node: Daemon,
    sharer: Daemon,
    /// Of a folder that the other node shares.
    link: String,
    /// The command that waits for what nobody has.
    waiting: RefCell<Option<Child>>,
    schemas: Schemas,
}

/// A command line on a home.
struct Line {
    home: PathBuf,
    words: String,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let sharer = Daemon::start(&dir.path().join("sharer"), &[]);
        let node = Daemon::start(&dir.path().join("node"), &[&sharer]);
        let tree = dir.path().join("tree");
        write_content(&tree.join("large"), "large", 3 << 20);
        write_content(&tree.join("sub/small"), "small", 100);
        let link = sharer.share(&tree)["link"].as_str().unwrap().to_owned();
        fs::write(dir.path().join("file"), "mine").unwrap();
        fs::create_dir(dir.path().join("broken")).unwrap();
        fs::write(dir.path().join("broken/config.toml"), "[netwrok]\n").unwrap();
        let document = ask(node.home(), "GET", "/api/v1/openapi.json", None).json();
        let own = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMAS)).unwrap();
        let own: Value = serde_json::from_str(&own).unwrap();
        let schemas = Schemas::of(&document).with_defs(own["$defs"].clone());
        Self {
            dir,
            node,
            sharer,
            link,
            waiting: RefCell::default(),
            schemas,
        }
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.path().join(name)).to_owned()
    }

    fn on(&self, home: &str, words: impl Into<String>) -> Line {
        Line {
            home: self.dir.path().join(home),
            words: words.into(),
        }
    }

    /// On the home of a node that runs.
    fn node(&self, words: impl Into<String>) -> Line {
        self.on("node", words)
    }

    /// On the home of no node.
    fn nobody(&self, words: impl Into<String>) -> Line {
        self.on("nobody", words)
    }

    fn command(&self, line: &Line) -> Command {
        let words: Vec<_> = line.words.split(' ').collect();
        let mut command = command(&line.home, &words);
        command
            .current_dir(self.dir.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            // Where there is no systemctl.
            .env("PATH", self.path("empty"));
        command
    }

    /// Has a fetch run that does not end by itself, and returns its number.
    fn start_waiting(&self) -> u64 {
        let words = format!("fetch {ABSENT} -o {} --timeout 10m", self.path("absent"));
        let mut waiting = self.command(&self.node(words));
        let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::null());
        *self.waiting.borrow_mut() = Some(waiting.spawn().unwrap());
        wait_for("a fetch that waits", || self.transfer("running"))
    }

    /// The number of the transfer in this state.
    fn transfer(&self, state: &str) -> Option<u64> {
        let listed = ask(self.node.home(), "GET", "/api/v1/transfers", None).json();
        let listed = listed["transfers"].as_array().unwrap();
        listed.iter().find(|it| it["state"] == state)?["id"].as_u64()
    }

    /// Runs a command to its end; a daemon in the foreground is stopped when it is ready.
    fn run(&self, line: &Line) -> Output {
        let mut command = self.command(line);
        let in_foreground = line.words.starts_with("daemon ") && !line.words.contains("--detach");
        if !in_foreground || line.home == self.node.home() {
            return command.output().unwrap();
        }
        let daemon = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut daemon = daemon.spawn().unwrap();
        let mut printed = BufReader::new(daemon.stdout.take().unwrap());
        let mut stdout = Vec::new();
        printed.read_until(b'\n', &mut stdout).unwrap();
        let home = line.home.clone();
        let words = "stop".to_owned();
        let stopped = self.command(&Line { home, words }).output().unwrap();
        assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
        printed.read_to_end(&mut stdout).unwrap();
        let output = daemon.wait_with_output().unwrap();
        Output { stdout, ..output }
    }

    /// Checks that a command printed documents of `schema` and nothing else, and how it ended.
    fn check(&self, what: &str, schema: &Value, count: Count, (output, exit): (&Output, i32)) {
        assert_eq!(output.status.code(), Some(exit), "{what}: {output:?}");
        let stdout = std::str::from_utf8(&output.stdout).unwrap();
        assert!(stdout.ends_with('\n'), "{what}: {output:?}");
        let lines: Vec<&str> = stdout.lines().collect();
        match count {
            Count::One => assert_eq!(lines.len(), 1, "{what}: {stdout}"),
            Count::Many => assert!(lines.len() > 1, "{what}: {stdout}"),
        }
        for line in lines {
            let document = serde_json::from_str(line).unwrap();
            self.schemas.check(schema, &document, what);
        }
    }
}

/// A test that fails leaves no nodes behind.
impl Drop for World {
    fn drop(&mut self) {
        let down = self.nobody(format!("testnet --dir {} down", self.path("net")));
        // What does not run is not there to be ended.
        let _ = self.command(&down).output();
        let _ = self.command(&self.on("detached", "stop")).output();
        if let Some(mut waiting) = self.waiting.take() {
            let _ = waiting.kill();
            let _ = waiting.wait();
        }
    }
}

/// Where the schemas of the command line are, below the tests.
const SCHEMAS: &str = "schemas/cli.json";

/// How many documents a command prints.
#[derive(Clone, Copy)]
enum Count {
    One,
    /// One a line.
    Many,
}

/// A command: how it goes well and what it prints then, how it fails and with what.
struct Case {
    command: &'static str,
    schema: &'static str,
    good: fn(&World) -> Line,
    bad: fn(&World) -> Line,
    exit: i32,
    code: &'static str,
}

fn case(
    command: &'static str,
    schema: &'static str,
    good: fn(&World) -> Line,
    bad: fn(&World) -> Line,
    (exit, code): (i32, &'static str),
) -> Case {
    Case {
        command,
        schema,
        good,
        bad,
        exit,
        code,
    }
}

const USAGE: (i32, &str) = (2, "usage");
const NOT_FOUND: (i32, &str) = (3, "not_found");
const NO_DAEMON: (i32, &str) = (4, "no_daemon");
const NO_PATH: (i32, &str) = (1, "path_not_found");
const NO_TRANSFER: (i32, &str) = (1, "no_transfer");
const CONFIG: (i32, &str) = (2, "config");

/// Every command, in an order in which each finds what it needs.
fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "daemon",
            "DaemonEvent",
            |it| it.on("foreground", format!("daemon {ALONE}")),
            |it| it.node(format!("daemon {ALONE}")),
            (1, "already_running"),
        ),
        case(
            "daemon",
            "DaemonEvent",
            |it| it.on("detached", format!("daemon --detach {ALONE}")),
            |it| it.on("broken", "daemon --detach"),
            CONFIG,
        ),
        case(
            "stop",
            "Stopped",
            |it| it.on("detached", "stop"),
            |it| it.nobody("stop"),
            NO_DAEMON,
        ),
        case(
            "id",
            "Identity",
            |it| it.node("id"),
            |it| it.nobody("id"),
            NO_DAEMON,
        ),
        case(
            "connect",
            "Connected",
            |it| it.node(format!("connect {}", it.sharer.address)),
            |it| it.node("connect localhost:1"),
            USAGE,
        ),
        case(
            "peers",
            "Peers",
            |it| it.node("peers"),
            |it| it.nobody("peers"),
            NO_DAEMON,
        ),
    ];
    cases.extend(cases_of_shares());
    cases.extend(cases_of_fetches());
    cases.extend(cases_of_upkeep());
    cases.extend(cases_of_config());
    cases.extend(cases_of_definition());
    cases.extend(cases_of_testnet());
    let status = case(
        "status",
        "Status",
        |it| it.node("status"),
        |it| it.nobody("status"),
        NO_DAEMON,
    );
    cases.push(status);
    cases
}

fn cases_of_shares() -> [Case; 4] {
    [
        case(
            "share",
            "Shared",
            |it| it.node(format!("share {} --qr", it.path("file"))),
            |it| it.node(format!("share {}", it.path("nothing"))),
            NO_PATH,
        ),
        case(
            "ls",
            "MyShares",
            |it| it.node("ls"),
            |it| it.nobody("ls"),
            NO_DAEMON,
        ),
        case(
            "ls",
            "Listing",
            |it| it.node(format!("ls {}", it.link)),
            |it| it.node("ls hello"),
            USAGE,
        ),
        case(
            "find",
            "Found",
            |it| it.node(format!("find {}", it.link)),
            |it| it.node(format!("find {ABSENT} --timeout 200ms")),
            NOT_FOUND,
        ),
    ]
}

fn cases_of_fetches() -> [Case; 6] {
    [
        case(
            "fetch",
            "FetchResult",
            |it| it.node(format!("fetch {} -o {}/", it.link, it.path("into"))),
            |it| it.node(format!("fetch {ABSENT} --timeout 200ms")),
            NOT_FOUND,
        ),
        case(
            "pause",
            "Transfer",
            |it| it.node(format!("pause {}", it.start_waiting())),
            |it| it.node("pause 999"),
            NO_TRANSFER,
        ),
        case(
            "transfers",
            "Transfers",
            |it| it.node("transfers"),
            |it| it.nobody("transfers"),
            NO_DAEMON,
        ),
        case(
            "resume",
            "Transfer",
            |it| it.node(format!("resume {}", it.transfer("paused").unwrap())),
            |it| it.node("resume 999"),
            NO_TRANSFER,
        ),
        case(
            "cancel",
            "Transfer",
            |it| it.node(format!("cancel {ABSENT}")),
            |it| it.node("cancel"),
            USAGE,
        ),
        case(
            "limits",
            "Limits",
            |it| it.node("limits --up 200MB/s --monthly off"),
            |it| it.node("limits --up fast"),
            USAGE,
        ),
    ]
}

fn cases_of_upkeep() -> [Case; 3] {
    [
        case(
            "verify",
            "Verified",
            |it| it.node("verify"),
            |it| it.node("verify bafy"),
            USAGE,
        ),
        case(
            "unshare",
            "Unshared",
            |it| it.node(format!("unshare {}", it.path("file"))),
            |it| it.node(format!("unshare {ABSENT}")),
            (1, "not_shared"),
        ),
        case(
            "gc",
            "Collected",
            |it| it.node("gc"),
            |it| it.nobody("gc"),
            NO_DAEMON,
        ),
    ]
}

fn cases_of_config() -> [Case; 5] {
    [
        case(
            "config set",
            "ConfigChanged",
            |it| it.node("config set limits.up 20mbit"),
            |it| it.node("config set limits.up fast"),
            USAGE,
        ),
        case(
            "config show",
            "ConfigShown",
            |it| it.node("config show"),
            |it| it.on("broken", "config show"),
            CONFIG,
        ),
        case(
            "config get",
            "Setting",
            |it| it.node("config get limits.up"),
            |it| it.node("config get limits.upp"),
            USAGE,
        ),
        case(
            "config check",
            "ConfigChecked",
            |it| it.node("config check"),
            |it| it.node("config check /nowhere.toml"),
            NO_PATH,
        ),
        case(
            "config unset",
            "ConfigChanged",
            |it| it.node("config unset limits.up"),
            |it| it.node("config unset limits"),
            USAGE,
        ),
    ]
}

fn cases_of_definition() -> [Case; 6] {
    [
        case(
            "completions",
            "Completions",
            |it| it.nobody("completions bash"),
            |it| it.nobody("completions sh"),
            USAGE,
        ),
        case(
            "man",
            "ManualPage",
            |it| it.nobody("man"),
            |it| it.nobody("man a b"),
            USAGE,
        ),
        case(
            "man",
            "ManualPages",
            |it| it.nobody(format!("man {}", it.path("pages"))),
            |it| it.nobody(format!("man {}/below", it.path("file"))),
            (1, "internal"),
        ),
        case(
            "service install",
            "UnitPrinted",
            |it| it.nobody("service install --print"),
            |it| it.nobody("service install --prnt"),
            USAGE,
        ),
        case(
            "service install",
            "UnitChanged",
            |it| it.nobody("service install"),
            |it| it.node("service install"),
            (1, "already_running"),
        ),
        case(
            "service uninstall",
            "UnitChanged",
            |it| it.nobody("service uninstall"),
            |it| it.nobody("service uninstall now"),
            USAGE,
        ),
    ]
}

/// A command on the testnet, or on one that is not there.
macro_rules! testnet {
    ($command:literal, $schema:literal, $words:literal) => {
        case(
            concat!("testnet ", $command),
            $schema,
            |it| {
                it.nobody(format!(
                    "testnet --dir {} {} {}",
                    it.path("net"),
                    $command,
                    $words
                ))
            },
            |it| {
                it.nobody(format!(
                    "testnet --dir {} {} {}",
                    it.path("no"),
                    $command,
                    $words
                ))
            },
            NO_PATH,
        )
    };
}

fn cases_of_testnet() -> [Case; 7] {
    [
        case(
            "testnet up",
            "TestnetUp",
            |it| it.nobody(format!("testnet --dir {} up --nodes 2", it.path("net"))),
            |it| it.nobody(format!("testnet --dir {} up --nodes none", it.path("net"))),
            USAGE,
        ),
        testnet!("kill", "TestnetChanged", "1"),
        testnet!("status", "TestnetStatus", "-q"),
        testnet!("start", "TestnetChanged", "1"),
        testnet!("logs", "TestnetLine", "0"),
        case(
            "testnet down",
            "TestnetDown",
            |it| it.nobody(format!("testnet --dir {} down", it.path("net"))),
            |it| it.nobody("testnet down now"),
            USAGE,
        ),
        case(
            "testnet demo",
            "Demo",
            |it| {
                let (dir, tree) = (it.path("demo"), it.path("tree"));
                it.nobody(format!("testnet --dir {dir} demo --nodes 3 {tree}"))
            },
            |it| it.nobody("testnet demo /nowhere"),
            NO_PATH,
        ),
    ]
}

#[test]
fn every_command_prints_what_its_schema_says_and_nothing_else() {
    let world = World::new();
    fs::create_dir(world.path("empty")).unwrap();
    let mut run = BTreeSet::new();
    for case in cases() {
        let line = (case.bad)(&world);
        let failed = world.run(&line);
        let what = format!("{} fails", line.words);
        world.check(
            &what,
            &api_type("ErrorBody"),
            Count::One,
            (&failed, case.exit),
        );
        let error: Value = serde_json::from_slice(&failed.stdout).unwrap();
        assert_eq!(error["error"]["code"], case.code, "{what}: {error}");

        let line = (case.good)(&world);
        let output = world.run(&line);
        let streams = line.words.starts_with("daemon -") && !line.words.contains("--detach");
        let count = match streams || case.command == "testnet logs" {
            true => Count::Many,
            false => Count::One,
        };
        let schema = schema_of(&world, case.schema);
        world.check(&line.words, &schema, count, (&output, 0));
        run.insert(case.command.to_owned());
    }
    assert_eq!(run, commands(""), "every command of the binary is here");

    let waited = world.waiting.take().unwrap().wait_with_output().unwrap();
    let error = api_type("ErrorBody");
    world.check(
        "a fetch that was paused",
        &error,
        Count::One,
        (&waited, 130),
    );
}

/// The command line's own schema of this name, or else the API's.
fn schema_of(world: &World, name: &str) -> Value {
    match world.schemas.has_def(name) {
        true => json!({ "$ref": format!("#/$defs/{name}") }),
        false => api_type(name),
    }
}

/// All commands below this one that can be run, as the binary itself lists them.
fn commands(above: &str) -> BTreeSet<String> {
    let words = above.split_whitespace();
    let help = Command::new(shoal())
        .args(words)
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then_some(name)
    });
    let mut found = BTreeSet::new();
    for name in names {
        let command = format!("{above} {name}").trim().to_owned();
        let below = commands(&command);
        match below.is_empty() {
            true => found.extend([command]),
            false => found.extend(below),
        }
    }
    found
}

#[test]
fn what_fails_with_a_result_prints_both_in_one_document() {
    let world = World::new();
    let file = world.path("file");
    let shared = world.run(&world.node(format!("share {file}")));
    assert_eq!(shared.status.code(), Some(0), "{shared:?}");
    fs::write(file, "not what it was").unwrap();
    let found = world.run(&world.node("verify"));
    let schema = schema_of(&world, "VerifiedBadly");
    world.check("verify", &schema, Count::One, (&found, 5));
}
