//! Names: shares are named by what `ls` shows, renamed with a daemon and without, and what was fetched is
//! called what it landed as.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use shoal_tests::{Daemon, Ran, command, http::ask, run, shoal, text, wait_for, world::World};

fn cid(share: &Value) -> &str {
    share["cid"].as_str().unwrap()
}

/// The names of all shares, oldest first.
fn names(home: &Path) -> Vec<String> {
    let entries = run(home, &["ls"]).ok()["entries"].clone();
    let entries = entries.as_array().unwrap().iter();
    entries
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A command as a person runs it.
fn said(home: &Path, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(shoal());
    command.arg("--home").arg(home).args(args);
    command.env_remove("SHOAL_HOME").output().unwrap()
}

fn hint(ran: &Ran) -> &str {
    ran.json["error"]["hint"].as_str().unwrap_or_default()
}

fn message(ran: &Ran) -> &str {
    ran.json["error"]["message"].as_str().unwrap_or_default()
}

#[test]
fn a_share_gets_another_name_in_lists_links_and_over_restarts() {
    let mut world = World::new();
    let file = world.file("photos", 3000);
    let share = world.share(&file, &[]);
    let before = share["link"].as_str().unwrap();
    let home = world.sharer.home().to_owned();
    let renamed = run(&home, &["rename", "photos", "Summer 2026"]).ok();
    assert_eq!(renamed["before"], "photos");
    assert_eq!(renamed["name"], "Summer 2026");
    let link = renamed["link"].as_str().unwrap();
    assert!(link.ends_with("/Summer%202026"), "{link}");
    assert_eq!(run(&home, &["link", "Summer 2026"]).ok()["link"], link);
    assert_eq!(names(&home), ["Summer 2026"]);
    // The link from before still works, and brings the name that it carries.
    let b = world.daemon("b");
    let into = world.output("into/");
    b.run(&["fetch", before, "-o", text(&into)]).ok();
    assert!(into.join("photos").exists());

    world.sharer = world.sharer.restart();
    assert_eq!(names(&home), ["Summer 2026"]);
    run(&home, &["rename", &cid(&share)[..14], "by its CID"]).ok();
    run(&home, &["rename", text(&file), "by its path"]).ok();
    assert_eq!(names(&home), ["by its path"]);
    // Without a daemon, too.
    world.sharer.kill();
    run(&home, &["rename", "by its path", "alone"]).ok();
    assert_eq!(names(&home), ["alone"]);
    world.sharer = world.sharer.restart();
    assert_eq!(names(&home), ["alone"]);

    let bad = run(&home, &["rename", "alone", "a/b"]);
    bad.fails(1, "bad_name");
    assert!(message(&bad).contains("`a/b`"), "{bad:?}");
    let typo = run(&home, &["rename", "alon", "x"]);
    typo.fails(1, "not_shared");
    assert!(hint(&typo).contains("did you mean `alone`?"), "{typo:?}");
}

#[test]
fn a_program_renames_by_the_api_and_one_place_alone() {
    let world = World::new();
    let (one, other) = (world.file("one", 2000), world.dir.path().join("other"));
    fs::copy(&one, &other).unwrap();
    let share = world.share(&one, &[]);
    assert_eq!(cid(&share), cid(&world.share(&other, &[])));
    let home = world.sharer.home();
    let patch = |body: Value| {
        let path = format!("/api/v1/shares/{}", cid(&share));
        ask(home, "PATCH", &path, Some(&body))
    };
    let mut listener = shoal_tests::http::Listener::start(home);
    let answer = patch(json!({ "name": "there", "path": text(&other) }));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["shares"][0]["path"], text(&other));
    assert_eq!(names(home), ["one", "there"]);
    let told = listener.wait_for("share_changed");
    assert_eq!(told["name"], "there", "{told}");
    assert_eq!(patch(json!({ "name": "both" })).status, 200);
    assert_eq!(names(home), ["both", "both"]);
    // A command names one of them by its path, and all by the CID.
    run(home, &["rename", text(&one), "first"]).ok();
    assert_eq!(names(home), ["first", "both"]);
    assert!(patch(json!({ "name": "x", "path": "/nothing" })).status >= 400);
    assert!(patch(json!({ "name": "" })).status >= 400);
    assert!(patch(json!({ "name": "x", "more": 1 })).status >= 400);
    // Only what was named is taken back.
    run(home, &["unshare", "both"]).ok();
    assert_eq!(names(home), ["first"]);
}

#[test]
fn what_was_fetched_is_called_what_it_landed_as() {
    let world = World::new();
    let link = world.link("x86_64.iso");
    for (name, daemon) in [("big.iso", true), ("larger.iso", false)] {
        let home = world.dir.path().join(name);
        let node = daemon.then(|| Daemon::start(&home, &[]));
        let output = world.output(name);
        let fetch = ["fetch", &link, "-o", text(&output)];
        let fetched = command(&home, &fetch)
            .env("SHOAL_NETWORK_MDNS", "false")
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .output()
            .unwrap();
        Ran::new(&fetched).ok();
        assert_eq!(names(&home), [name]);
        if let Some(node) = node {
            let link = node.run(&["link", name]).ok();
            assert!(link["link"].as_str().unwrap().ends_with("/big.iso"));
            node.run(&["unshare", "big.iso"]).ok();
            assert!(names(&home).is_empty());
        }
    }
}

#[test]
fn a_word_that_may_mean_several_does_nothing_and_names_them() {
    let world = World::new();
    let folders = ["a", "b"].map(|folder| world.file(&format!("{folder}/same"), 1000));
    let [a, b] = folders.each_ref().map(|file| world.share(file, &[]));
    let third = world.share(&world.file("third", 500), &[]);
    let home = world.sharer.home();
    for args in [
        &["unshare", "same"][..],
        &["unshare", "third", "same"],
        &["rename", "same", "x"],
        &["link", "same"],
        &["verify", "same"],
        &["show", "same"],
        &["ls", "same"],
    ] {
        let refused = run(home, args);
        refused.fails(2, "usage");
        assert!(message(&refused).contains("`same`"), "{refused:?}");
        for share in [&a, &b] {
            assert!(hint(&refused).contains(cid(share)), "{refused:?}");
        }
        assert_eq!(names(home), ["same", "same", "third"], "{args:?}");
    }
    let unknown = run(home, &["unshare", "third", "nothing"]);
    unknown.fails(1, "not_shared");
    assert!(message(&unknown).contains("`nothing`"), "{unknown:?}");
    assert_eq!(names(home).len(), 3, "all or nothing");
    // What tells them apart works, several at once.
    let gone = run(home, &["rm", text(&folders[0]), "third", &cid(&b)[..12]]).ok();
    assert_eq!(gone["removed"].as_array().unwrap().len(), 3);
    assert!(names(home).is_empty());
    assert!(third["name"] == "third" && folders[0].exists());
}

#[test]
fn commands_take_the_name_of_a_share() {
    let world = World::new();
    let folder = world.dir.path().join("files/tree");
    let _ = world.file("tree/inner", 2000);
    let tree = world.share(&folder, &[]);
    let two = world.share(&world.file("two", 700), &[]);
    let home = world.sharer.home();
    let verified = run(home, &["verify", "tree", "two", text(&folder)]).ok();
    assert_eq!(verified["shares"].as_array().unwrap().len(), 2);
    assert_eq!(verified["hashed_bytes"].as_u64().unwrap() / 100, 27);
    assert_eq!(
        run(home, &["verify", "two"]).ok()["shares"][0]["name"],
        "two"
    );
    assert_eq!(run(home, &["show", "tree"]).ok()["cid"], tree["cid"]);
    let listed = run(home, &["ls", "tree"]).ok();
    assert!(listed.to_string().contains("inner"), "{listed}");
    let links = run(home, &["link", "two", "tree"]).ok();
    assert_eq!(links["shares"][0]["cid"], two["cid"]);
    assert_eq!(links["shares"][1]["cid"], tree["cid"]);
    // What is broken as a link is told as one.
    let damaged = run(home, &["unshare", "shoal:bafy"]);
    damaged.fails(2, "usage");
}

#[test]
fn other_words_for_commands_work_and_typos_find_the_nearest() {
    let world = World::new();
    let home = world.sharer.home();
    let file = world.file("sent", 1000);
    let sent = run(home, &["send", text(&file)]).ok();
    let b = world.daemon("b");
    let output = world.output("got it");
    b.run(&["get", sent["link"].as_str().unwrap(), "-o", text(&output)])
        .ok();
    assert_eq!(fs::read(&output).unwrap(), fs::read(&file).unwrap());
    assert_eq!(
        b.run(&["rm", "got it"]).ok()["removed"][0]["name"],
        "got it"
    );
    for (typo, command) in [
        ("shrae", "share"),
        ("fecth", "fetch"),
        ("unshar", "unshare"),
    ] {
        let refused = said(home, &[typo]);
        assert_eq!(refused.status.code(), Some(2));
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert!(stderr.contains(&format!("'{command}'")), "{stderr}");
        let refused = run(home, &[typo]);
        refused.fails(2, "usage");
        assert!(
            hint(&refused).contains(&format!("`shoal {command}`")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_share_of_several_paths_lists_them_and_not_the_folder_around_them() {
    let world = World::new();
    let paths = ["one.txt", "sub/two.txt", "not this"].map(|name| world.file(name, 800));
    let home = world.sharer.home();
    let share = run(
        home,
        &["share", text(&paths[0]), text(&paths[1]), "--name", "both"],
    )
    .ok();
    let entry = run(home, &["ls"]).ok()["entries"][0].clone();
    assert_eq!(
        entry["paths"],
        json!([text(&paths[0]), text(&paths[1])]),
        "{entry}"
    );
    for command in [&["ls"][..], &["status"], &["show", "both"]] {
        let stdout = String::from_utf8(said(home, command).stdout).unwrap();
        let lines: Vec<_> = stdout.lines().map(str::trim).collect();
        for path in &paths[..2] {
            assert!(lines.contains(&text(path)), "{stdout}");
        }
        let around = paths[0].parent().unwrap();
        assert!(!lines.contains(&text(around)), "{stdout}");
    }
    // One of them is no share, and the whole is named.
    let part = run(home, &["unshare", text(&paths[0])]);
    part.fails(1, "not_shared");
    assert!(
        message(&part).contains("part of the share `both`"),
        "{part:?}"
    );
    // What it says to share again is what was shared.
    fs::write(&paths[1], "another").unwrap();
    let warning = wait_for("the change is seen", || {
        let status = run(home, &["status"]).ok();
        Some(status["warnings"][0].as_str()?.to_owned())
    });
    for path in &paths[..2] {
        assert!(warning.contains(&format!("'{}'", text(path))), "{warning}");
    }
    run(home, &["unshare", &cid(&share)[..11]]).ok();
    assert!(names(home).is_empty());
}
