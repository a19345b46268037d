//! Damages of the database: a bit that flips, a file that is cut short or gone, in every kind of
//! file, after a clean end and after a kill.
//!
//! Whatever is damaged, nothing is silent: each share that was acknowledged is there and whole, or
//! the start refuses with what to do, or `status` names what is lost. What is refused is repaired
//! by the command that the refusal names. `scripts/soak` runs 200; `SHOAL_DAMAGES` says how many,
//! and `SHOAL_SOAK_SEED` repeats the choices of an earlier run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use shoal_tests::{Daemon, dice, run, scratch, text, wait_for, write_content};
use tempfile::TempDir;

use damage::Damage;

/// Enough to meet each kind of file and of damage about twice.
const SHORT_RUN: u64 = 10;

#[test]
fn no_damage_to_the_database_is_silent() {
    let seed = dice::seed("SHOAL_SOAK_SEED");
    let count = std::env::var("SHOAL_DAMAGES");
    let count = count.map_or(SHORT_RUN, |it| it.parse().expect("a number of damages"));
    say(&format!("SHOAL_SOAK_SEED={seed}, {count} damages"));
    let mut dice = dice::Dice::new(seed, "damages");
    let world = World::new();
    let mut outcomes = BTreeMap::<&str, u64>::new();
    for number in 0..count {
        let model = &world.models[dice.index(world.models.len())];
        let home = world.dir.path().join(format!("home-{number}"));
        copy(&model.home, &home);
        let damage = Damage::choose(&home, &mut dice);
        let outcome = world.survives(&home, &damage);
        say(&format!(
            "{number:3}  {:22} {damage}  {outcome}",
            model.name
        ));
        *outcomes.entry(outcome).or_default() += 1;
        fs::remove_dir_all(&home).unwrap();
    }
    say(&format!("{outcomes:?}"));
}

/// A line for whoever watches.
#[expect(clippy::print_stderr, reason = "a long test says how far it is")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Homes to be damaged, and what they share.
struct World {
    dir: TempDir,
    models: Vec<Model>,
    /// The roots of all homes, which share the same files.
    roots: Vec<String>,
}

/// A home as it is before it is damaged.
struct Model {
    name: &'static str,
    home: PathBuf,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let files = dir.path().join("files");
        write_content(&files.join("chunk"), "damage chunk", 1000);
        write_content(&files.join("large"), "damage large", 3 << 20);
        for number in 0..300 {
            let name = format!("a-folder-of-many-files/file-number-{number:03}");
            write_content(&files.join(name), &number.to_string(), 10);
        }
        let mut world = Self {
            dir,
            models: Vec::new(),
            roots: Vec::new(),
        };
        for (name, compacted, killed) in [
            ("log, stopped", false, false),
            ("log, killed", false, true),
            ("tables, stopped", true, false),
            ("tables and log, killed", true, true),
        ] {
            world.add(name, compacted, killed);
        }
        world
    }

    fn add(&mut self, name: &'static str, compacted: bool, killed: bool) {
        let home = self.dir.path().join(format!("model-{}", self.models.len()));
        let files = self.dir.path().join("files");
        let mut daemon = Daemon::start(&home, &[]);
        let share = |daemon: &Daemon, name: &str| {
            let shared = daemon.share(&files.join(name));
            shared["cid"].as_str().unwrap().to_owned()
        };
        let mut roots = vec![
            share(&daemon, "chunk"),
            share(&daemon, "a-folder-of-many-files"),
        ];
        if compacted {
            daemon.run(&["gc"]).ok();
        }
        roots.push(share(&daemon, "large"));
        self.roots = roots;
        match killed {
            true => daemon.kill(),
            false => drop(run(&home, &["stop"]).ok()),
        }
        self.models.push(Model { name, home });
    }

    /// Starts a daemon on a damaged home and checks that nothing is silent; how it went.
    fn survives(&self, home: &Path, damage: &Damage) -> &'static str {
        let started = start(home);
        if started.is_ok() {
            return self.accounts_for_all(home, damage);
        }
        let error = started.unwrap_err();
        assert_eq!(error["code"], "integrity", "{damage}: {error}");
        let hint = error["hint"].as_str().unwrap_or_default();
        assert!(
            hint.contains("shoal db check --repair"),
            "{damage}: {error}"
        );
        let repaired = run(home, &["db", "check", "--repair"]).ok();
        assert!(repaired["repaired"].is_object(), "{damage}: {repaired}");
        start(home).unwrap_or_else(|error| panic!("{damage}: after the repair: {error}"));
        match self.accounts_for_all(home, damage) {
            "whole" => "refused, repaired, whole",
            _ => "refused, repaired, loss told",
        }
    }

    /// Checks a running daemon, and stops it.
    fn accounts_for_all(&self, home: &Path, damage: &Damage) -> &'static str {
        let status = wait_for("the check of the database", || {
            let status = run(home, &["status"]).ok();
            let is_over = status["database"]["state"] != "checking";
            is_over.then_some(status)
        });
        let verified = run(home, &["verify"]);
        assert!(
            matches!(verified.code, Some(0 | 5)),
            "{damage}: {verified:?}"
        );
        let whole = |root: &String| {
            let shares = status["shares"].as_array().unwrap();
            let is_live = |share: &&Value| share["cid"] == **root && share["state"] == "ok";
            shares.iter().any(|share| is_live(&share)) && is_intact(&verified.json, root)
        };
        let warnings = status["warnings"].to_string();
        let is_told = |root: &String| {
            let lost = status["database"]["lost"].as_array().unwrap();
            lost.iter().any(|share| share["cid"] == **root)
                || is_told_as_changed(&status, root)
                || warnings.contains("lines of the register")
        };
        let missing: Vec<_> = self.roots.iter().filter(|root| !whole(root)).collect();
        for root in &missing {
            assert!(
                is_told(root),
                "{damage}: {root} is lost in silence: {status:#}"
            );
        }
        run(home, &["stop"]).ok();
        let log = fs::read_to_string(home.join("log")).unwrap_or_default();
        assert!(!log.contains("panicked"), "{damage}: {log}");
        match missing.is_empty() {
            true if warnings.contains("damage") => "whole, damage told",
            true => "whole",
            false => "loss told",
        }
    }
}

fn is_intact(verified: &Value, root: &str) -> bool {
    let Some(shares) = verified["shares"].as_array() else {
        return false;
    };
    let mut of_root = shares.iter().filter(|share| share["cid"] == root);
    of_root.any(|share| {
        [
            &share["changed"],
            &share["unreadable"],
            &share["damaged_blocks"],
        ]
        .iter()
        .all(|count| **count == 0)
    })
}

fn is_told_as_changed(status: &Value, root: &str) -> bool {
    let shares = status["shares"].as_array().unwrap();
    let is_it = |share: &&Value| share["cid"] == root && share["state"] != "ok";
    let warnings = status["warnings"].to_string();
    let mut names = shares.iter().filter(is_it).map(|share| &share["name"]);
    names.any(|name| warnings.contains(name.as_str().unwrap()))
}

/// Starts a daemon that outlives its command; the error when it refuses.
fn start(home: &Path) -> Result<(), Value> {
    let options = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let started = run(home, &[&["daemon", "--detach"][..], &options].concat());
    match started.code {
        Some(0) => Ok(()),
        Some(_) => Err(started.json["error"].clone()),
        None => panic!("a signal ended the start: {started:?}"),
    }
}

/// Copies a home that no daemon runs on.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), &to).unwrap_or_else(|error| panic!("{}: {error}", text(&to)));
        }
    }
}
