//! `--json` of every command against a schema: in success and in failure, and nothing else on
//! stdout. Results that are the API's are held to the API's own document, the others to
//! `schemas/cli.json`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;

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

use self::cases::cases;

/// Of content that nobody has.
const ABSENT: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";

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

    /// The address of the first share.
    fn shared(&self) -> String {
        let listed = ask(self.node.home(), "GET", "/api/v1/shares", None).json();
        listed["shares"][0]["cid"].as_str().unwrap().to_owned()
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
        let count = match streams || case.command.ends_with("logs") {
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
