//! What goes wrong among peers and on disk, and that the right thing happens then.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File, FileTimes},
    os::unix::{
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
};

use rustix::process::Signal;
use shoal_testnet::evil::Behaviour;
use shoal_tests::{
    Daemon, Ran, assert_same_file, command, content, evil::Evil, peer::Blocks, run, scratch, text,
    wait_for, write_content,
};

/// Large enough that a signal lands in the middle of the transfer.
const BIG: usize = 1 << 30;

#[test]
fn a_provider_that_is_killed_in_mid_fetch_is_replaced() {
    let dir = scratch();
    let source = dir.path().join("big");
    write_content(&source, "killed", BIG);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let mut b = Daemon::start(&dir.path().join("b"), &[&a]);
    let c = Daemon::start(&dir.path().join("c"), &[&a]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    assert_eq!(b.share(&source)["cid"], cid.as_str());

    let got = dir.path().join("got");
    let args = [
        "fetch",
        &cid,
        "--peer",
        &b.address,
        "--peer",
        &a.address,
        "-o",
        text(&got),
    ];
    let fetch = command(c.home(), &args)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let uploaded = |daemon: &Daemon| daemon.run(&["status"]).json["uploaded_bytes"].as_u64();
    wait_for("b serves", || uploaded(&b).filter(|bytes| *bytes > 0));
    // The fetcher stands still while its provider is killed, so that it is in the middle for sure.
    c.signal(Signal::STOP);
    let sent: u64 = [&a, &b].into_iter().filter_map(uploaded).sum();
    assert!(
        sent < BIG as u64,
        "the fetch was over before it could be disturbed"
    );
    b.kill();
    c.signal(Signal::CONT);
    let output = fetch.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_same_file(&source, &got);
}

#[test]
fn a_provider_of_wrong_bytes_is_out_and_its_bytes_never_reach_the_disk() {
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, "truth", 40 << 20);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let c = Daemon::start(&dir.path().join("c"), &[&a]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    let mut blocks = Blocks::default();
    let root = blocks.file(&content("truth", 40 << 20));
    assert_eq!(root.to_string(), cid, "the liar knows the file");
    let liar = Evil::start(Behaviour::WrongBytes, &root, blocks, &[]);

    // The liar alone: nothing lands, and the reason is the content.
    let got = dir.path().join("alone");
    let lonely = Daemon::start(&dir.path().join("lonely"), &[]);
    let args = [
        "fetch",
        &cid,
        "--peer",
        &liar.address,
        "-o",
        text(&got),
        "--timeout",
        "5s",
    ];
    let alone = lonely.run(&args);
    alone.fails(5, "integrity");
    assert!(
        alone.json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("wrong bytes"),
        "{alone:?}"
    );
    assert!(liar.deeds().chunks_wrong > 0, "the liar was asked");
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|it| it.unwrap().file_name());
    let parts = names.filter(|name| name.to_string_lossy().contains("alone"));
    assert_eq!(
        parts.count(),
        0,
        "neither the file nor a part of it is there"
    );

    // Beside an honest provider: everything comes from that one.
    let got = dir.path().join("got");
    let before = liar.deeds().chunks_wrong;
    let args = [
        "fetch",
        &cid,
        "--peer",
        &liar.address,
        "--peer",
        &a.address,
        "-o",
        text(&got),
    ];
    let fetched = c.run(&args).ok();
    assert!(liar.deeds().chunks_wrong > before, "the liar was asked");
    assert_eq!(fs::read(&got).unwrap(), content("truth", 40 << 20));
    let from = fetched["from"].as_array().unwrap();
    assert!(
        from.iter()
            .all(|source| source["peer"] == a.peer_id.as_str()),
        "{fetched}"
    );
}

#[test]
fn an_edited_file_is_never_served_under_its_old_address() {
    let check = |name: &str, edit: fn(&Path)| {
        let dir = scratch();
        let source = dir.path().join("file");
        write_content(&source, name, 3 << 20);
        let a = Daemon::start(&dir.path().join("a"), &[]);
        let b = Daemon::start(&dir.path().join("b"), &[&a]);
        let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
        edit(&source);
        let got = dir.path().join("got");
        let args = [
            "fetch",
            &cid,
            "--peer",
            &a.address,
            "-o",
            text(&got),
            "--timeout",
            "3s",
        ];
        let fetched = b.run(&args);
        assert_ne!(fetched.code, Some(0), "{name}: {fetched:?}");
        assert!(!got.exists(), "{name}");
        let status = wait_for("status says changed", || {
            let status = a.run(&["status"]).ok();
            (status["shares"][0]["state"] == "changed").then_some(status)
        });
        let warned = status["warnings"].to_string();
        assert!(
            warned.contains("shoal share"),
            "{name}: how to share again: {warned}"
        );
    };
    check("appended", |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes.push(1);
        fs::write(path, bytes).unwrap();
    });
    check("edited with its time put back", |path| {
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"other", 1_500_000).unwrap();
        file.set_times(FileTimes::new().set_modified(modified))
            .unwrap();
    });
    check("replaced by a file of the same size and time", |path| {
        let metadata = fs::metadata(path).unwrap();
        let other = path.with_extension("other");
        fs::write(&other, content("something else", 3 << 20)).unwrap();
        let times = FileTimes::new().set_modified(metadata.modified().unwrap());
        File::options()
            .write(true)
            .open(&other)
            .unwrap()
            .set_times(times)
            .unwrap();
        fs::rename(&other, path).unwrap();
        assert_ne!(fs::metadata(path).unwrap().ino(), metadata.ino());
    });
    check("truncated", |path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
    });
    check("deleted", |path| fs::remove_file(path).unwrap());
}

#[test]
fn a_share_that_was_acknowledged_survives_kill_9() {
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, "survives", 5 << 20);
    let mut a = Daemon::start(&dir.path().join("a"), &[]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    a.kill();
    let a = a.restart();
    let listed = a.run(&["ls"]).ok();
    assert_eq!(listed["entries"][0]["cid"], cid.as_str(), "{listed}");
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let got = dir.path().join("got");
    b.fetch(&cid, &got);
    assert_eq!(fs::read(&got).unwrap(), content("survives", 5 << 20));
}

/// A daemon that was killed after it had fetched a part of `link` to `got`.
fn killed_in_mid_fetch(home: &Path, provider: &Daemon, link: &str, got: &Path) -> Daemon {
    let mut b = Daemon::start(home, &[provider]);
    let args = ["fetch", link, "-o", text(got)];
    let fetch = command(b.home(), &args)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("b has fetched a part", || {
        let status = b.run(&["status"]).json;
        status["downloaded_bytes"]
            .as_u64()
            .filter(|bytes| *bytes > 16 << 20)
    });
    b.kill();
    let lost = fetch.wait_with_output().unwrap();
    assert_eq!(
        lost.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&lost.stdout)
    );
    assert!(!got.exists(), "nothing unfinished is in place");
    b
}

#[test]
fn a_fetch_goes_on_where_kill_9_ended_it() {
    let dir = scratch();
    let source = dir.path().join("big");
    write_content(&source, "resumed", BIG);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    let got = dir.path().join("got");
    let b = killed_in_mid_fetch(&dir.path().join("b"), &a, &cid, &got).restart();
    // It goes on by itself; the same fetch waits for that.
    let fetched = b.fetch(&cid, &got);
    assert_same_file(&source, &got);
    let resumed = fetched["resumed_bytes"].as_u64().unwrap();
    let downloaded = fetched["downloaded_bytes"].as_u64().unwrap();
    assert!(resumed > 8 << 20, "{fetched}");
    assert_eq!(resumed + downloaded, BIG as u64, "{fetched}");
}

#[test]
fn a_part_that_was_deleted_is_fetched_again() {
    let dir = scratch();
    let source = dir.path().join("big");
    write_content(&source, "deleted", BIG);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    let landing = dir.path().join("landing");
    fs::create_dir(&landing).unwrap();
    let got = landing.join("got");
    let b = killed_in_mid_fetch(&dir.path().join("b"), &a, &cid, &got);
    let parts: Vec<_> = fs::read_dir(&landing).unwrap().collect();
    assert_eq!(parts.len(), 1, "{parts:?}");
    for part in parts {
        fs::remove_file(part.unwrap().path()).unwrap();
    }
    let b = b.restart();
    b.fetch(&cid, &got);
    assert!(fs::read(&got).unwrap() == content("deleted", BIG));
    // The daemon goes on by itself, maybe before anybody waits: what it counts is all it fetched.
    let downloaded = &b.run(&["status"]).ok()["downloaded_bytes"];
    assert_eq!(downloaded, BIG, "nothing counted as resumed");
    assert_eq!(fs::read_dir(&landing).unwrap().count(), 1);
}

#[test]
fn the_dht_answers_while_bulk_data_moves() {
    let dir = scratch();
    let source = dir.path().join("big");
    let small = dir.path().join("small");
    write_content(&source, "bulk", BIG);
    write_content(&small, "small", 1000);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let c = Daemon::start(&dir.path().join("c"), &[&a]);
    let big = b.share(&source)["cid"].as_str().unwrap().to_owned();
    let small = a.share(&small)["cid"].as_str().unwrap().to_owned();
    let got = dir.path().join("got");
    let mut fetch = command(c.home(), &["fetch", &big, "-o", text(&got)])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut answered = 0;
    while fetch.try_wait().unwrap().is_none() {
        // Both ends of the transfer look something up; the swarm of each has to be free for it.
        for daemon in [&b, &c] {
            let found = daemon.run(&["find", &small]).ok();
            assert_eq!(found["providers"][0]["peer"], a.peer_id.as_str());
            answered += 1;
        }
    }
    assert!(fetch.wait().unwrap().success());
    assert!(answered > 0);
}

/// Permissions mean nothing to root, so as root the commands run as nobody.
#[test]
fn what_may_not_be_read_or_written_is_named_and_nothing_is_left() {
    const NOBODY: u32 = 65534;
    let dir = scratch();
    let open_to_all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(dir.path(), open_to_all.clone()).unwrap();
    let program = dir.path().join("shoal");
    shoal_tests::copy_of_shoal(&program);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let source = dir.path().join("file");
    write_content(&source, "readable", 100_000);
    let link = a.share(&source)["link"].as_str().unwrap().to_owned();
    let secret = dir.path().join("secret");
    write_content(&secret, "secret", 10);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();

    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, open_to_all).unwrap();
    let into_closed = format!("{}/", text(&closed));
    let runs_as_root = fs::metadata(&source).unwrap().uid() == 0;
    for args in [
        ["share", text(&secret), "--no-announce"],
        ["fetch", &link, "-o"],
    ] {
        let mut command = std::process::Command::new(&program);
        command.arg("--home").arg(&home).arg("--json").args(args);
        if args[0] == "fetch" {
            command.arg(&into_closed);
        }
        if runs_as_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let ran = Ran::new(&command.output().unwrap());
        ran.fails(6, "no_permission");
        let message = ran.json["error"]["message"].as_str().unwrap();
        let path = if args[0] == "fetch" { &closed } else { &secret };
        assert!(message.contains(text(path)), "{message}");
    }
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}

#[test]
fn bad_input_is_refused_with_the_right_code() {
    let dir = scratch();
    let home = dir.path().join("home");
    let missing = dir.path().join("missing");
    run(&home, &["status"]).fails(4, "no_daemon");
    let a = Daemon::start(&home, &[]);
    a.run(&["share", text(&missing)]).fails(1, "path_not_found");
    a.run(&["fetch", "shoal:nonsense"]).fails(2, "usage");
    a.run(&["fetch", "bafkrmieqi"]).fails(2, "usage");
    a.run(&["unshare", text(&missing)]).fails(1, "not_shared");
    let existing = dir.path().join("existing");
    write_content(&existing, "mine", 10);
    let cid = a.share(&existing)["cid"].as_str().unwrap().to_owned();
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    b.run(&["fetch", &cid, "-o", text(&existing)])
        .fails(1, "destination_exists");
    assert_eq!(fs::read(&existing).unwrap(), content("mine", 10));
    let unknown = "bafkr4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";
    let nobody = b.run(&["fetch", unknown, "-o", text(&missing), "--timeout", "2s"]);
    nobody.fails(3, "not_found");
    assert!(!missing.exists());
    let second = run(
        &home,
        &["daemon", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"],
    );
    second.fails(1, "already_running");
}
