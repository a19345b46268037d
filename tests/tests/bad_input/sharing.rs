//! What cannot be shared, and what is left out of a share.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener, process::CommandExt as _},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use shoal_tests::{Daemon, Ran, command, refused::Refusal, scratch, text, wait_for, write_content};

use super::{NOBODY, World, is_root, refusal, set_mode};

#[test]
fn paths_that_cannot_be_shared() {
    let world = World::new();
    write_content(&world.at("file"), "file", 10);
    write_content(&world.at("sub/file"), "other", 10);
    fifo(&world.at("fifo"));
    symlink("nowhere", world.at("dangling")).unwrap();
    let bad = world.at("bad");
    fs::create_dir_all(bad.join("below")).unwrap();
    File::create(bad.join(OsStr::from_bytes(b"latin-\xe9"))).unwrap();
    File::create(bad.join("below/bell\x07")).unwrap();
    let daemon = world.daemon();
    let home = text(&world.ground.home).to_owned();

    let check = |args: &[&str], code: &str, says: &[&str], advises: &[&str]| {
        let args = [&["share"], args].concat();
        world.check(&args, 1, code, says, advises);
        assert_eq!(shares(&daemon), 0, "{args:?} left a share");
    };
    check(
        &["missing"],
        "path_not_found",
        &["missing does not exist"],
        &["check the path"],
    );
    check(&["file/x"], "path_not_found", &["file/x"], &["check"]);
    check(&["dangling"], "path_not_found", &["dangling"], &["check"]);
    check(
        &["file", "missing"],
        "path_not_found",
        &["missing does not exist"],
        &["check the path"],
    );
    check(
        &["fifo"],
        "bad_name",
        &["fifo is neither a file nor a folder"],
        &["share a file or a folder"],
    );
    check(&["/dev/null"], "bad_name", &["/dev/null"], &["share a"]);
    check(&[&home], "bad_name", &["its own data"], &["--home"]);
    check(
        &["/"],
        "bad_name",
        &["a name cannot be shared"],
        &["rename"],
    );
    check(
        &["file", "sub/file"],
        "bad_name",
        &["two of the paths are called \"file\""],
        &["one by one"],
    );
    check(
        &["bad"],
        "bad_name",
        &["2 names cannot be shared"],
        &["latin-\\xe9 (a name is not UTF-8)", "below/bell\\u{7} ("],
    );
    let named = |name: &'static str, why: &str| {
        let says = ["the share cannot be called", why];
        check(&["file", "--name", name], "bad_name", &says, &["--name"]);
    };
    named("a/b", "contains `/`");
    named("", "is empty");
    named("..", "is `.` or `..`");
    named("\u{202e}gpj", "\\u{202e}gpj");
    let pattern = ["share", "sub", "--exclude", "a["];
    world.check(&pattern, 2, "usage", &["\"a[\" is malformed"], &[]);
    not_utf8(&world);
    still_opens(&world, daemon);
}

/// A path on the command line whose name is not UTF-8.
fn not_utf8(world: &World) {
    let name: OsString = OsStr::from_bytes(b"bad/latin-\xe9").to_owned();
    world.ground.check(&Refusal {
        args: vec!["share".into(), name],
        exit: 1,
        code: "bad_name",
        says: &["the path is not UTF-8", "latin-\\xe9"],
        advises: &["rename it"],
    });
}

#[test]
fn a_file_that_changes_while_it_is_being_shared_is_not_shared() {
    let world = World::new();
    let daemon = world.daemon();
    // Half a second of hashing at least, of which the disk sees nothing.
    let busy = world.beside("busy");
    let mut file = File::create(&busy).unwrap();
    file.set_len(1 << 30).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                file.write_all(b"changed").unwrap();
                thread::yield_now();
            }
        });
        world.check(
            &["share", text(&busy)],
            1,
            "changed_while_sharing",
            &["busy changed while it was being shared"],
            &["share again when it is at rest", "--copy"],
        );
        done.store(true, SeqCst);
    });
    assert_eq!(shares(&daemon), 0);
    daemon.run(&["share", text(&busy)]).ok();
    assert_eq!(shares(&daemon), 1, "at rest it can be shared");
}

#[test]
fn special_files_are_left_out_and_named() {
    let world = World::new();
    let tree = world.at("tree");
    write_content(&tree.join("file"), "file", 10);
    fifo(&tree.join("fifo"));
    let _socket = UnixListener::bind(tree.join("socket")).unwrap();
    let daemon = world.daemon();
    let shared = daemon.run(&["share", text(&tree)]).ok();
    assert_eq!(shared["files"], 1);
    let expected = serde_json::json!([
        {"path": "fifo", "reason": "a fifo"},
        {"path": "socket", "reason": "a socket"},
    ]);
    assert_eq!(shared["skipped"], expected);
    let said = world
        .ground
        .command(&["share".into(), tree.into()])
        .output()
        .unwrap();
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{stderr}");
    for line in [
        "warning: left out fifo: a fifo",
        "warning: left out socket: a socket",
    ] {
        assert!(stderr.lines().any(|it| it == line), "{stderr}");
    }
}

/// An empty folder is a share like any other: it arrives as an empty folder.
#[test]
fn an_empty_folder_is_shared_as_one() {
    let world = World::new();
    fs::create_dir(world.at("empty")).unwrap();
    let daemon = world.daemon();
    let other = Daemon::start(&world.beside("other"), &[&daemon]);
    let shared = daemon.share(&world.at("empty"));
    assert_eq!((&shared["files"], &shared["size"]), (&0.into(), &0.into()));
    let got = world.at("got");
    other.fetch(shared["link"].as_str().unwrap(), &got);
    assert_eq!(fs::read_dir(got).unwrap().count(), 0);
    let said = world
        .ground
        .command(&["share".into(), "empty".into()])
        .output()
        .unwrap();
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(
        stderr.starts_with("Shared empty: no files, in "),
        "{stderr}"
    );
}

#[test]
fn what_may_not_be_read_is_named() {
    let world = World::new();
    let closed = world.at("tree/closed");
    fs::create_dir_all(&closed).unwrap();
    write_content(&world.at("tree/file"), "file", 10);
    let program = world.beside("shoal");
    shoal_tests::copy_of_shoal(&program);
    set_mode(world.root.path(), 0o777);
    fs::create_dir(&world.ground.home).unwrap();
    set_mode(&world.ground.home, 0o777);

    // Nothing of it is in the working directory of the check, which has to be readable for that.
    let tree = world.beside("tree");
    fs::rename(world.at("tree"), &tree).unwrap();
    set_mode(&tree.join("closed"), 0o000);
    let args = ["share", text(&tree)];
    let says = ["no permission to read", "tree/closed"];
    let advises = ["readable", "--exclude"];
    let refusal = refusal(&args, 6, "no_permission", &says, &advises);
    let ground = world.ground.with_program(program);
    ground.check_with(&refusal, |command| {
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
    });
    set_mode(&tree.join("closed"), 0o700);
}

fn fifo(path: &std::path::Path) {
    use rustix::fs::{CWD, FileType, Mode};
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
}

fn shares(daemon: &Daemon) -> usize {
    let listed = daemon.run(&["ls"]).ok();
    listed["entries"].as_array().unwrap().len()
}

/// After all that, the database still opens and holds nothing.
fn still_opens(world: &World, daemon: Daemon) {
    daemon.run(&["stop"]).ok();
    drop(daemon);
    assert_eq!(shares(&world.daemon()), 0);
}

#[test]
fn an_interrupted_share_does_not_deny_what_is_shared() {
    let dir = scratch();
    let file = dir.path().join("file");
    fs::write(&file, "shared").unwrap();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    // Nobody is there to announce it to, so it waits.
    let share = command(daemon.home(), &["share", text(&file), "--wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("it is shared", || {
        let listed = daemon.run(&["ls"]).ok();
        (!listed["entries"].as_array()?.is_empty()).then_some(())
    });
    kill_process(Pid::from_child(&share), Signal::INT).unwrap();
    let interrupted = Ran::new(&share.wait_with_output().unwrap());
    interrupted.fails(130, "interrupted");
    let hint = interrupted.json["error"]["hint"].as_str().unwrap();
    assert!(!hint.contains("nothing"), "{hint}");
}
