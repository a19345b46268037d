//! `shoal service` where there is no systemctl: what is written, what is left alone, what is said.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::Value;
use shoal_tests::{Daemon, Ran, command, scratch, shoal, text};
use tempfile::TempDir;

/// A user's configuration, and a home, of which nobody else knows.
struct Place {
    scratch: TempDir,
    units: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scratch = scratch();
        let units = scratch.path().join("config/systemd/user");
        Self { scratch, units }
    }

    fn home(&self) -> PathBuf {
        self.scratch.path().join("a $home at 100%")
    }

    fn unit(&self) -> PathBuf {
        self.units.join("shoal.service")
    }

    fn run_on(&self, home: &Path, words: &[&str]) -> Ran {
        let mut command = command(home, &["service"]);
        command
            .args(words)
            .env("XDG_CONFIG_HOME", self.scratch.path().join("config"))
            .env("PATH", self.scratch.path());
        Ran::new(&command.output().expect("the binary runs"))
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_on(&self.home(), words)
    }

    /// What is in the units' folder.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.units).into_iter().flatten();
        entries.map(|it| it.expect("an entry").path()).collect()
    }
}

#[test]
fn printing_a_unit_writes_nothing() {
    let place = Place::new();
    let printed = place.run(&["install", "--print"]).ok();
    assert_eq!(printed["unit"], text(&place.unit()));
    let unit = printed["text"].as_str().expect("the unit");
    let program = shoal().canonicalize().expect("the binary");
    let start = format!(
        "ExecStart=\":{}\" \"--home\" \"{}\" \"daemon\"\n",
        text(&program).replace('%', "%%"),
        text(&place.home()).replace('%', "%%"),
    );
    assert!(unit.contains(&start), "{unit}");
    assert!(!place.units.exists() && !place.home().exists());
}

#[test]
fn a_unit_is_installed_replaced_and_removed_as_a_whole() {
    let place = Place::new();
    let printed = place.run(&["install", "--print"]).ok();
    let installed = place.run(&["install"]).ok();
    assert_eq!(installed["changed"], true);
    assert_eq!(installed["systemd"], false);
    assert_eq!(
        installed["next"][1],
        "systemctl --user enable shoal.service"
    );
    let written = fs::read_to_string(place.unit()).expect("a unit");
    assert_eq!(printed["text"], written);
    assert_eq!(place.run(&["install"]).ok()["changed"], false);

    let other = place.scratch.path().join("other");
    assert_eq!(place.run_on(&other, &["install"]).ok()["changed"], true);
    let written = fs::read_to_string(place.unit()).expect("a unit");
    assert!(written.contains(text(&other)), "{written}");
    assert_eq!(place.files(), [place.unit()]);

    let wants = place.units.join("default.target.wants");
    fs::create_dir(&wants).expect("a directory");
    symlink(place.unit(), wants.join("shoal.service")).expect("a link");
    assert_eq!(place.run(&["uninstall"]).ok()["changed"], true);
    assert_eq!(place.files(), std::slice::from_ref(&wants));
    assert_eq!(fs::read_dir(&wants).expect("a directory").count(), 0);
    let again = place.run(&["uninstall"]).ok();
    assert_eq!(again["changed"], false);
    assert_eq!(again["next"], Value::Array(Vec::new()));
}

#[test]
fn a_unit_of_somebody_else_is_neither_replaced_nor_removed() {
    let place = Place::new();
    fs::create_dir_all(&place.units).expect("a directory");
    let check = |what: &str| {
        for words in [["install"], ["uninstall"]] {
            place.run(&words).fails(1, "destination_exists");
        }
        let entry = place.unit().symlink_metadata();
        assert!(entry.is_ok(), "{what} is still there");
        assert_eq!(place.files().len(), 1, "{what} is alone");
    };
    let theirs = "[Service]\nExecStart=/bin/true\n";
    fs::write(place.unit(), theirs).expect("a unit");
    check("a unit written by hand");
    assert_eq!(
        fs::read_to_string(place.unit()).ok().as_deref(),
        Some(theirs)
    );
    fs::remove_file(place.unit()).expect("the unit goes");
    symlink("/dev/null", place.unit()).expect("a link");
    check("a masked unit");
}

#[test]
fn a_node_that_runs_on_the_home_keeps_the_unit_from_being_written() {
    let place = Place::new();
    let daemon = Daemon::start(&place.home(), &[]);
    let refused = place.run(&["install"]);
    refused.fails(1, "already_running");
    let hint = refused.json["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("shoal stop"), "{refused:?}");
    assert!(!place.unit().exists());
    daemon.run(&["stop"]).ok();
    place.run(&["install"]).ok();
}
