//! The register against what crashes and damage leave of it.

#![allow(clippy::unwrap_used)]

use shoal_protocol::address::{Cid, Digest, HashFn};
use tempfile::TempDir;

use super::*;
use crate::rows::{Recipe, ShareState};

fn share(id: u64, source: &str, content: &str) -> ShareRecord {
    ShareRecord {
        id: ShareId(id),
        root: Cid::raw(Digest::of(HashFn::Blake3, content.as_bytes())),
        name: format!("name of {source}\nwith a line"),
        source: source.into(),
        base: source.into(),
        selection: Vec::new(),
        origin: Origin::Shared,
        announce: true,
        recipe: Recipe::default(),
        size: 1,
        files: 1,
        chunks: 1,
        created_ms: 1,
        unflushed_boot: None,
        state: ShareState::Live,
        written: None,
        replicate: true,
        terms: crate::Terms::default(),
    }
}

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn register(&self) -> Register {
        Register::open(self.0.path()).unwrap()
    }

    /// What the next start finds when the database has these shares.
    fn compare(&self, listed: &[&ShareRecord]) -> Compared {
        self.register().compare(listed, &[]).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(FILE)
    }
}

fn names(lost: &[Registered]) -> Vec<&str> {
    lost.iter()
        .map(|share| share.place.source.to_str().unwrap())
        .collect()
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_lost_until_it_is_taken_back() {
    let home = Home::new();
    let (one, two) = (share(0, "/one", "1"), share(1, "/two", "2"));
    let register = home.register();
    register.shared(&one, &[]).unwrap();
    register.shared(&two, &[]).unwrap();
    assert!(home.compare(&[&one, &two]).lost.is_empty());
    assert_eq!(names(&home.compare(&[&two]).lost), ["/one"]);
    // The same place with other content: the database is newer than the register.
    let again = share(7, "/one", "other");
    assert!(home.compare(&[&again, &two]).lost.is_empty());
    assert_eq!(home.compare(&[&two]).lost[0].root, again.root.to_string());
    let register = home.register();
    register.unshared(&[SharePlace::of(&again)]).unwrap();
    assert!(home.compare(&[&two]).lost.is_empty());
}

#[test]
fn an_old_state_of_the_database_does_not_bring_back_what_was_unshared() {
    let home = Home::new();
    let one = share(0, "/one", "1");
    let register = home.register();
    register.shared(&one, &[]).unwrap();
    register.unshared(&[SharePlace::of(&one)]).unwrap();
    assert_eq!(home.compare(&[&one]).unshared, [ShareId(0)]);
    home.register().shared(&one, &[]).unwrap();
    assert!(home.compare(&[&one]).unshared.is_empty());
}

#[test]
fn what_was_fetched_is_not_expected_before_it_is_flushed() {
    let home = Home::new();
    let before = share(0, "/one", "1");
    let fetched = ShareRecord {
        origin: Origin::Fetched,
        unflushed_boot: Some(crate::BootId::current()),
        ..share(1, "/one", "2")
    };
    let register = home.register();
    register.shared(&before, &[]).unwrap();
    register.unflushed(SharePlace::of(&fetched)).unwrap();
    assert!(home.compare(&[]).lost.is_empty());
    let found = home.compare(&[&fetched]);
    assert!(found.lost.is_empty() && found.unshared.is_empty());
}

#[test]
fn a_line_that_a_crash_cut_short_was_never_acknowledged() {
    let home = Home::new();
    let (one, two) = (share(0, "/one", "1"), share(1, "/two", "2"));
    home.register().shared(&one, &[]).unwrap();
    let whole = fs::read(home.file()).unwrap();
    home.register().shared(&two, &[]).unwrap();
    let both = fs::read(home.file()).unwrap();
    for cut in whole.len() + 1..both.len() - 1 {
        fs::write(home.file(), &both[..cut]).unwrap();
        let found = home.compare(&[&one]);
        assert!(found.lost.is_empty(), "cut at {cut}");
        assert_eq!(found.unreadable, 0, "cut at {cut}");
        // What is written next is not glued to the rest of it.
        home.register().shared(&two, &[]).unwrap();
        assert_eq!(names(&home.compare(&[]).lost), ["/one", "/two"], "{cut}");
    }
}

#[test]
fn damage_to_the_register_itself_is_counted() {
    let home = Home::new();
    let (one, two) = (share(0, "/one", "1"), share(1, "/two", "2"));
    let register = home.register();
    register.shared(&one, &[]).unwrap();
    register.shared(&two, &[]).unwrap();
    let good = fs::read(home.file()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(home.file(), bad).unwrap();
        let found = home.compare(&[&one, &two]);
        assert!(found.unreadable > 0, "a flipped bit at {at}");
        assert!(found.lost.is_empty(), "a flipped bit at {at}");
        fs::write(home.file(), &good).unwrap();
    }
}

#[test]
fn the_file_stays_small_and_remembers_what_it_has_to() {
    let home = Home::new();
    let kept = share(0, "/kept", "1");
    let register = home.register();
    register.shared(&kept, &[]).unwrap();
    for round in 0..2 * STALE_LINES_MAX {
        let other = share(1, "/other", &round.to_string());
        register.shared(&other, &[]).unwrap();
        register.unshared(&[SharePlace::of(&other)]).unwrap();
    }
    let lines = fs::read_to_string(home.file()).unwrap().lines().count();
    assert!(lines <= STALE_LINES_MAX + 4, "{lines} lines");
    let found = home.compare(&[&share(9, "/other", "x")]);
    assert_eq!(names(&found.lost), ["/kept"]);
    assert_eq!(found.unshared, [ShareId(9)]);
}
