//! The program that is run when a transfer is done: its arguments, its failures, who may set it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use shoal_tests::{Daemon, Ran, command, http::ask, run, text, wait_for, world::World};

/// Programs that are run when something is fetched.
trait Programs {
    /// Where they write what they were given.
    fn told(&self) -> PathBuf;
    /// A program that writes what it was given, and does `then`.
    fn program(&self, name: &str, then: &str) -> PathBuf;
    /// A daemon whose configuration has this program.
    fn daemon_with(&self, name: &str, program: &Path) -> Daemon;
}

impl Programs for World {
    fn told(&self) -> PathBuf {
        self.dir.path().join("told")
    }

    fn program(&self, name: &str, then: &str) -> PathBuf {
        let (path, told) = (self.dir.path().join(name), self.told());
        let told = told.display();
        let text = format!("#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" >> '{told}'\n{then}\n");
        let source = self.dir.path().join("source");
        fs::write(&source, text).unwrap();
        // Copied by another process: one that is forked meanwhile would keep it open for writing.
        let copied = Command::new("cp").args([&source, &path]).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn daemon_with(&self, name: &str, program: &Path) -> Daemon {
        let home = self.dir.path().join(name);
        run(
            &home,
            &["config", "set", "transfers.on_done", text(program)],
        )
        .ok();
        Daemon::start(&home, &[])
    }
}

/// What became of the program of the first transfer.
fn on_done(daemon: &Daemon, state: &str) -> Value {
    wait_for(&format!("the program is {state}"), || {
        let listed = daemon.run(&["transfers"]).ok();
        let on_done = listed["transfers"][0]["on_done"].clone();
        (on_done["state"] == state).then_some(on_done)
    })
}

#[test]
fn a_daemon_runs_it_with_the_path_and_the_cid() {
    let world = World::new();
    let b = world.daemon_with("b", &world.program("notes it", ""));
    let output = world.output("$(touch oops) 'x");
    let fetched = b.fetch(&world.link("a"), &output);
    on_done(&b, "done");
    let cid = fetched["cid"].as_str().unwrap();
    let expected = format!("2|{}|{cid}|", output.display());
    assert_eq!(fs::read_to_string(world.told()).unwrap(), expected);
}

#[test]
fn one_that_fails_or_hangs_is_told_and_changes_nothing() {
    let world = World::new();
    let b = world.daemon_with("b", &world.program("fails", "exit 7"));
    b.fetch(&world.link("a"), &world.output("a"));
    let failed = on_done(&b, "failed");
    assert!(
        failed["reason"].as_str().unwrap().contains("exit code 7"),
        "{failed}"
    );

    let c = world.daemon_with("c", &world.dir.path().join("missing"));
    c.fetch(&world.link("a"), &world.output("c"));
    let failed = on_done(&c, "failed");
    let reason = failed["reason"].as_str().unwrap();
    assert!(
        reason.contains("missing") && reason.contains("cannot be run"),
        "{reason}"
    );

    // One that hangs holds up no transfer, and ends with the daemon.
    let pid = world.dir.path().join("pid");
    let hangs = format!(
        "echo $$ > '{0}.new' && mv '{0}.new' '{0}'\nsleep 1000",
        pid.display()
    );
    let d = world.daemon_with("d", &world.program("hangs", &hangs));
    for name in ["1", "2", "3", "4", "5", "6"] {
        d.fetch(&world.link("a"), &world.output(&format!("d{name}")));
    }
    on_done(&d, "running");
    let pid = wait_for("the program runs", || fs::read_to_string(&pid).ok());
    let listed = d.run(&["transfers"]).ok();
    assert_eq!(
        listed["transfers"][5]["on_done"]["state"], "waiting",
        "{listed}"
    );
    d.run(&["stop"]).ok();
    let stat = format!("/proc/{}/stat", pid.trim());
    wait_for("it is gone", || {
        let state = fs::read_to_string(&stat).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}

#[test]
fn a_command_runs_it_itself_and_warns_when_it_fails() {
    let world = World::new();
    let home = world.dir.path().join("alone");
    let program = world.program("notes it", "echo its own words");
    let output = world.output("alone");
    let fetch = |home: &Path, output: &Path, program: &Path| {
        let args = [
            "fetch",
            &world.link("a"),
            "-o",
            text(output),
            "--on-done",
            text(program),
        ];
        let mut command = command(home, &args);
        command
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env("SHOAL_NETWORK_MDNS", "false");
        Ran::new(&command.output().unwrap())
    };
    let ran = fetch(&home, &output, &program);
    assert!(ran.stderr.contains("its own words"), "{ran:?}");
    let fetched = ran.ok();
    assert_eq!(fetched["warnings"], json!([]));
    let expected = format!(
        "2|{}|{}|",
        output.display(),
        fetched["cid"].as_str().unwrap()
    );
    assert_eq!(fs::read_to_string(world.told()).unwrap(), expected);
    // The program of the configuration, too, since no daemon does.
    run(
        &home,
        &["config", "set", "transfers.on_done", text(&program)],
    )
    .ok();
    let fails = world.program("fails", "exit 1");
    let fetched = fetch(&home, &world.output("again"), &fails).ok();
    let warning = fetched["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("fails") && warning.contains("exit code 1"),
        "{warning}"
    );
    let told = fs::read_to_string(world.told()).unwrap();
    assert_eq!(told.matches("2|").count(), 3, "{told}");
}

#[test]
fn no_request_can_set_it() {
    let world = World::new();
    let request = json!({
        "link": world.link("a"),
        "destination": { "at": text(&world.output("a")) },
        "on_done": "/bin/true",
    });
    let answer = ask(
        world.sharer.home(),
        "POST",
        "/api/v1/fetches",
        Some(&request),
    )
    .json();
    assert_eq!(answer["error"]["code"], "usage", "{answer}");
    let home = world.dir.path().join("bad");
    for bad in ["true", "./true", ""] {
        run(&home, &["config", "set", "transfers.on_done", bad]).fails(2, "usage");
    }
}
