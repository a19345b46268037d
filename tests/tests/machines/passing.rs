//! Folders that are only passed: they may be entered, and not listed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use shoal_tests::{Daemon, assert_same_file, assert_same_tree, text, wait_for, write_content};

use super::{Account, User, set_mode};

/// A folder that may be entered and not listed, with folders of the user's in it; as it was, for those
/// who take it away, when dropped.
struct Passage {
    account: Account,
    at: PathBuf,
}

impl Passage {
    fn new() -> Self {
        let account = Account::of(User::Nobody);
        let at = account.path("passage");
        for (name, seed) in [("one", "1"), ("two", "2")] {
            write_content(&at.join(name).join("file"), seed, 300_000);
            account.give(&at.join(name));
        }
        for name in ["home", "drop"] {
            account.folder(&format!("passage/{name}"));
        }
        set_mode(&at.join("drop"), 0o333);
        set_mode(&at, 0o111);
        Self { account, at }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        set_mode(&self.at, 0o755);
        set_mode(&self.at.join("drop"), 0o755);
    }
}

#[test]
fn home_share_and_destination_may_lie_below_folders_that_nobody_may_list() {
    let passage = Passage::new();
    let (account, at) = (&passage.account, &passage.at);
    let daemon = account.start(&at.join("home"));

    // Two paths: what they have in common is the folder that may only be entered.
    let (one, two) = (at.join("one"), at.join("two"));
    let shared = daemon.run(&["share", text(&one), text(&two)]).ok();
    let link = shared["link_long"].as_str().unwrap();
    let status = daemon.run(&["status"]).ok();
    assert_eq!(status["shares"][0]["state"], "ok", "{status}");
    let verified = daemon.run(&["verify"]).ok();
    assert_eq!(verified["intact"], true, "{verified}");
    let other = Daemon::start(&account.path("other"), &[]);
    let got = account.path("got");
    other.fetch(link, &got);
    for (name, path) in [("one", &one), ("two", &two)] {
        assert_same_tree(&got.join(name), path);
    }

    // The destination may be entered and written, and not listed.
    let source = account.path("source");
    let link = |path: &Path| {
        let shared = other.share(path);
        shared["link_long"].as_str().unwrap().to_owned()
    };
    write_content(&source.join("sub/file"), "source", 2_000_000);
    let drop = at.join("drop");
    let file = drop.join("file");
    let of_file = link(&source.join("sub/file"));
    daemon.run(&["fetch", &of_file, "-o", text(&file)]).ok();
    assert_same_file(&file, &source.join("sub/file"));
    let (of_folder, into) = (link(&source), format!("{}/", text(&drop)));
    for more in [&[][..], &["--overwrite"]] {
        let args = [&["fetch", &of_folder, "-o", &into], more].concat();
        daemon.run(&args).ok();
        assert_same_tree(&drop.join("source"), &source);
    }
    daemon.run(&["stop"]).ok();
    let again = account.start(&at.join("home"));
    assert_eq!(again.run(&["verify"]).ok()["intact"], true);
}

#[test]
fn a_status_names_what_of_a_share_cannot_be_read() {
    let passage = Passage::new();
    let (account, at) = (&passage.account, &passage.at);
    let daemon = account.start(&at.join("home"));
    let (one, file) = (at.join("one"), at.join("one/file"));
    daemon.run(&["share", text(&one)]).ok();
    let named = || {
        let warnings = daemon.warnings();
        warnings
            .into_iter()
            .find(|it| it.contains("cannot be read"))
    };
    assert_eq!(named(), None);
    let close_and_open = |path: &PathBuf, mode| {
        set_mode(path, 0);
        let warning = wait_for("a warning", named);
        assert!(
            warning.contains(text(&file)) && warning.contains("permission denied"),
            "{warning}"
        );
        set_mode(path, mode);
        wait_for("its end", || named().is_none().then_some(()));
    };
    close_and_open(&file, 0o644);
    close_and_open(&one, 0o755);
    assert!(fs::metadata(&file).is_ok());
}
