//! Looking after what is shared: verifying, collecting, and how far a share is.

#![allow(clippy::unwrap_used)]

use std::{fs, os::unix::fs::FileExt as _, path::Path, time::SystemTime};

use serde_json::json;
use shoal_tests::{Daemon, http::ask, run, scratch, text, write_content};

/// Overwrites a byte and puts the modification time back, as a failing disk would.
fn rot(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"!", 5).unwrap();
    file.set_modified(modified).unwrap();
}

fn age(path: &Path) {
    let hour = std::time::Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - hour).unwrap();
}

#[test]
fn verify_finds_what_no_look_at_files_would_and_says_what_to_do() {
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    let top = dir.path().join("top");
    for name in ["good", "sub/rotten", "sub/gone"] {
        write_content(&top.join(name), name, 3 << 20);
        age(&top.join(name));
    }
    let shared = daemon.share(&top);
    let other = dir.path().join("other");
    fs::write(&other, "other").unwrap();
    let other = daemon.share(&other);

    let verified = daemon.run(&["verify"]).ok();
    assert_eq!(verified["intact"], true);
    assert_eq!(verified["files"].as_array().unwrap().len(), 4);
    assert!(verified["hashed_bytes"].as_u64().unwrap() > 9 << 20);

    rot(&top.join("sub/rotten"));
    fs::remove_file(top.join("sub/gone")).unwrap();
    let cid = shared["cid"].as_str().unwrap();
    let found = daemon.run(&["verify", cid]);
    found.fails(5, "integrity");
    assert_eq!(found.json["intact"], false);
    let hint = found.json["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("share it again"), "{hint}");
    let verdicts = ["sub/gone", "sub/rotten", "good"].map(|name| top.join(name));
    let expected = [
        json!({ "verdict": "changed", "reason": "is gone" }),
        json!({ "verdict": "changed", "reason": "has other content" }),
        json!({ "verdict": "intact" }),
    ];
    for ((file, path), expected) in found.json["files"]
        .as_array()
        .unwrap()
        .iter()
        .zip(verdicts)
        .zip(expected)
    {
        assert_eq!(file["path"], text(&path));
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&file[field], value, "{file}");
        }
    }
    let status = daemon.run(&["status"]).ok();
    assert_eq!(status["shares"][0]["state"], "changed");
    assert_eq!(status["shares"][1]["state"], "ok");
    daemon
        .run(&["verify", other["link"].as_str().unwrap()])
        .ok();

    daemon.run(&["unshare", cid]).ok();
    daemon.run(&["verify", cid]).fails(1, "not_shared");
    daemon.run(&["verify", "bafy"]).fails(1, "not_shared");
    let home = daemon.home().to_owned();
    drop(daemon);
    run(&home, &["verify"]).fails(4, "no_daemon");
    run(&home, &["gc"]).fails(4, "no_daemon");
}

#[test]
fn gc_frees_what_unsharing_left_and_harms_nothing() {
    let dir = scratch();
    let mut daemon = Daemon::start(&dir.path().join("home"), &[]);
    let kept = dir.path().join("kept");
    write_content(&kept.join("file"), "kept", 5 << 20);
    let kept = daemon.share(&kept);
    let many = dir.path().join("many");
    fs::create_dir(&many).unwrap();
    for index in 0..3000 {
        fs::write(many.join(index.to_string()), index.to_string()).unwrap();
    }
    daemon.run(&["share", text(&many), "--copy"]).ok();
    daemon.run(&["unshare", text(&many)]).ok();
    // A copy that a crash left.
    let copies = daemon.home().join("copies");
    fs::create_dir_all(copies.join("999999999")).unwrap();
    fs::write(copies.join("999999999/file"), vec![0; 1 << 20]).unwrap();

    let looked = daemon.run(&["gc", "--dry-run"]).ok();
    assert_eq!(looked["dry_run"], true);
    assert_eq!(looked["freed_bytes"], 0);
    assert!(copies.join("999999999").exists());
    let collected = daemon.run(&["gc"]).ok();
    assert_eq!(collected["copy_bytes"], 1 << 20);
    assert!(
        collected["freed_bytes"].as_u64().unwrap() >= 1 << 20,
        "{collected}"
    );
    assert!(!copies.join("999999999").exists());
    let again = daemon.run(&["gc"]).ok();
    for field in ["shares", "rows", "blocks", "copies"] {
        assert_eq!(again[field], 0, "{field}");
    }
    daemon.kill();
    let daemon = daemon.restart();
    let verified = daemon.run(&["verify"]).ok();
    assert_eq!(verified["shares"][0]["cid"], kept["cid"]);
    assert_eq!(fs::read_dir(copies).unwrap().count(), 0);
}

#[test]
fn a_share_tells_its_totals_once_they_are_true_and_never_others() {
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    let top = dir.path().join("top");
    write_content(&top.join("large"), "large", 200 << 20);
    for index in 0..100 {
        write_content(&top.join(format!("small/{index}")), "small", 1000);
    }
    for copy in [false, true] {
        let body = json!({ "paths": [text(&top)], "copy": copy });
        let events = ask(daemon.home(), "POST", "/api/v1/shares", Some(&body)).items();
        let last = events.last().unwrap();
        assert_eq!(last["event"], "done", "{last}");
        let progress = events.iter().filter(|it| it["event"] == "progress");
        let mut reports = 0;
        for report in progress {
            reports += 1;
            let known = !report["files_total"].is_null();
            assert_eq!(known, !report["bytes_total"].is_null(), "{report}");
            if known {
                assert_eq!(report["files_total"], 101, "{report}");
                let bytes = (200 << 20) + 100 * 1000;
                assert_eq!(report["bytes_total"], bytes, "{report}");
            }
            if report["phase"] == "walking" {
                assert_eq!(report["bytes"], 0, "{report}");
            }
        }
        assert!(reports > 0);
    }
}
