//! Budgets over real nodes: rates hold, change while a fetch runs, and survive; a month that is
//! used up stops serving and fetching.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use shoal_tests::{
    Daemon, Ran, assert_same_file, command, run, scratch, text, wait_for, write_content,
};

/// Starts a daemon on loopback with further options.
fn daemon(home: &Path, bootstrap: &[&Daemon], options: &[&str]) -> Daemon {
    let fixed = ["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut all: Vec<String> = fixed
        .iter()
        .chain(options)
        .map(|&it| it.to_owned())
        .collect();
    for daemon in bootstrap {
        all.extend(["--bootstrap".to_owned(), daemon.address.clone()]);
    }
    Daemon::start_with(home, all)
}

/// Starts to fetch and does not wait.
fn start_fetch(daemon: &Daemon, link: &str, output: &Path) -> Child {
    let mut fetch = command(daemon.home(), &["fetch", link, "-o", text(output)]);
    fetch
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(fetch: Child) -> Ran {
    Ran::new(&fetch.wait_with_output().unwrap())
}

fn limit_and_source(daemon: &Daemon, what: &str) -> (Value, Value) {
    let limits = daemon.run(&["limits"]).ok();
    (
        limits[what]["limit"].clone(),
        limits[what]["source"].clone(),
    )
}

/// Nothing moves faster than allowed. Only the least time is asserted: slower is any machine.
fn check_least_time(up: bool, fetchers: usize) {
    const RATE: u64 = 8_000_000;
    const SIZE: usize = 12_000_000;
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, "least time", SIZE);
    let (serving, fetching) = if up {
        ("8MB/s", "off")
    } else {
        ("off", "8MB/s")
    };
    let a = daemon(&dir.path().join("a"), &[], &["--up", serving]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    let others: Vec<_> = (0..fetchers)
        .map(|n| {
            daemon(
                &dir.path().join(format!("b{n}")),
                &[&a],
                &["--down", fetching],
            )
        })
        .collect();
    let started = Instant::now();
    let fetches = others.iter().enumerate();
    let fetches: Vec<_> = fetches
        .map(|(n, other)| start_fetch(other, &cid, &dir.path().join(format!("got{n}"))))
        .collect();
    for (n, fetch) in fetches.into_iter().enumerate() {
        finish(fetch).ok();
        assert_same_file(&source, &dir.path().join(format!("got{n}")));
    }
    let elapsed = started.elapsed();
    // Fetchers also serve each other: what went through the one limit is what its node sent.
    let moved = if up {
        a.run(&["status"]).ok()["uploaded_bytes"].as_u64().unwrap()
    } else {
        SIZE as u64
    };
    let least = Duration::from_secs_f64(moved as f64 / RATE as f64 * 0.95 - 0.25);
    assert!(elapsed >= least, "{elapsed:?} < {least:?}");
}

#[test]
fn a_limit_on_sending_holds_for_one_peer() {
    check_least_time(true, 1);
}

#[test]
fn a_limit_on_sending_holds_for_several_peers_together() {
    check_least_time(true, 3);
}

#[test]
fn a_limit_on_receiving_holds() {
    check_least_time(false, 1);
}

#[test]
fn a_limit_changes_while_a_fetch_runs() {
    let dir = scratch();
    let source = dir.path().join("file");
    // At 64 kbit/s this would take two hours.
    write_content(&source, "live", 64 << 20);
    let a = daemon(&dir.path().join("a"), &[], &["--up", "64kbit"]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    let got = dir.path().join("got");
    let fetch = start_fetch(&b, &cid, &got);
    wait_for("b fetches", || {
        let status = b.run(&["status"]).ok();
        let sources = status["transfers"][0]["sources"].as_u64();
        sources.filter(|sources| *sources > 0)
    });
    let limits = a.run(&["limits", "--up", "off"]).ok();
    assert_eq!(limits["up"]["limit"], "off");
    assert_eq!(limits["up"]["bytes_per_second"], Value::Null);
    finish(fetch).ok();
    assert_same_file(&source, &got);
}

#[test]
fn a_limit_of_one_transfer_holds_and_survives() {
    const RATE: f64 = 8e6;
    const SIZE: usize = 12_000_000;
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, "one transfer", SIZE);
    // So slow that nothing arrives before the limit is set.
    let a = daemon(&dir.path().join("a"), &[], &["--up", "64kbit"]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    let got = dir.path().join("got");
    let fetch = start_fetch(&b, &cid, &got);
    let transfer = |b: &Daemon| b.run(&["transfers"]).ok()["transfers"][0].clone();
    wait_for("b fetches", || {
        (transfer(&b)["state"] == "running").then_some(())
    });
    assert_eq!(transfer(&b)["limit"], "off");
    let limited = b.run(&["limits", "--transfer", "1", "--down", "8MB/s"]);
    assert_eq!(limited.ok()["limit"], "8MB/s");
    assert_eq!(
        limit_and_source(&b, "down"),
        (json!("off"), json!("default"))
    );

    let b = b.restart();
    assert_eq!(finish(fetch).code, Some(1), "its daemon was killed");
    assert_eq!(transfer(&b)["limit"], "8MB/s");
    let started = Instant::now();
    a.run(&["limits", "--up", "off"]).ok();
    wait_for("b is done", || {
        (transfer(&b)["state"] == "done").then_some(())
    });
    let least = Duration::from_secs_f64(SIZE as f64 / RATE * 0.9 - 0.25);
    let elapsed = started.elapsed();
    assert!(elapsed >= least, "{elapsed:?} < {least:?}");
    assert_same_file(&source, &got);
    let done = b.run(&["limits", "--transfer", "1", "--down", "off"]);
    done.fails(1, "no_transfer");
}

#[test]
fn the_newest_word_counts_and_survives() {
    let dir = scratch();
    let home = dir.path().join("a");
    fs::create_dir_all(&home).unwrap();
    fs::write(
        home.join("config.toml"),
        "[limits]\nup = \"1MB/s\"\ndown = \"2MB/s\"\n",
    )
    .unwrap();
    let a = Daemon::start(&home, &[]);
    let is = |limit: &str, source: &str| (json!(limit), json!(source));
    assert_eq!(limit_and_source(&a, "up"), is("1MB/s", "configuration"));
    assert_eq!(limit_and_source(&a, "monthly"), is("off", "default"));

    a.run(&["limits", "--up", "20mbit", "--monthly", "500GB"])
        .ok();
    assert_eq!(limit_and_source(&a, "up"), is("20mbit", "live"));
    let a = a.restart();
    assert_eq!(limit_and_source(&a, "up"), is("20mbit", "live"));
    assert_eq!(limit_and_source(&a, "down"), is("2MB/s", "configuration"));
    assert_eq!(limit_and_source(&a, "monthly"), is("500GB", "live"));
    drop(a);

    // A flag of a later start is newer, and what is set after it is newer still.
    let a = daemon(&home, &[], &["--up", "off"]);
    assert_eq!(limit_and_source(&a, "up"), is("off", "flag"));
    a.run(&["limits", "--up", "3MB/s"]).ok();
    assert_eq!(limit_and_source(&a, "up"), is("3MB/s", "live"));
    a.run(&["limits", "--reset"]).ok();
    assert_eq!(limit_and_source(&a, "up"), is("off", "flag"));
    assert_eq!(limit_and_source(&a, "monthly"), is("off", "default"));
    drop(a);
    let a = Daemon::start(&home, &[]);
    assert_eq!(limit_and_source(&a, "up"), is("1MB/s", "configuration"));
    let status = a.run(&["status"]).ok();
    assert_eq!(status["limits"]["down"]["bytes_per_second"], 2_000_000);
}

#[test]
fn a_month_that_is_used_up_stops_fetching_and_serving_until_it_is_raised() {
    let dir = scratch();
    let source = dir.path().join("file");
    write_content(&source, "month", 48 << 20);
    let a = Daemon::start(&dir.path().join("a"), &[]);
    let b = Daemon::start(&dir.path().join("b"), &[&a]);
    let cid = a.share(&source)["cid"].as_str().unwrap().to_owned();
    b.run(&["limits", "--monthly", "8MB"]).ok();
    let got = dir.path().join("got");
    let fetch = finish(start_fetch(&b, &cid, &got));
    fetch.fails(1, "budget_spent");
    let message = fetch.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("8MB"), "{message}");
    let monthly = b.run(&["limits"]).ok()["monthly"].clone();
    assert_eq!(monthly["spent"], true, "{monthly}");
    assert!(monthly["down"].as_u64().unwrap() > 4_000_000, "{monthly}");
    let resets = monthly["resets"].as_str().unwrap();
    assert!(message.contains(resets), "{message} does not say {resets}");
    let warnings = b.run(&["status"]).ok()["warnings"].to_string();
    assert!(warnings.contains("used up"), "{warnings}");

    // It is remembered over a kill; what is not bulk goes on.
    let b = b.restart();
    wait_for("b meets a", || {
        let peers = b.run(&["peers"]).ok()["peers"].as_array().map(Vec::len);
        peers.filter(|count| *count > 0)
    });
    b.run(&["find", &cid]).ok();
    b.run(&["limits", "--monthly", "off"]).ok();
    b.fetch(&cid, &got);
    assert_same_file(&source, &got);

    // The other side: a stops to serve.
    a.run(&["limits", "--monthly", "1MB"]).ok();
    let c = Daemon::start(&dir.path().join("c"), &[&a]);
    let args = ["fetch", &cid, "--peer", &a.address, "--timeout", "3s"];
    let target = dir.path().join("never");
    let more = ["--patience", "3s", "-o", text(&target)];
    let from_a = run(c.home(), &[&args[..], &more].concat());
    assert!(
        from_a.code == Some(0) || from_a.code == Some(3),
        "{from_a:?}"
    );
    assert_eq!(a.run(&["limits"]).ok()["monthly"]["spent"], true);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let dir = scratch();
    let home = dir.path().join("a");
    let a = Daemon::start(&home, &[]);
    for (args, part) in [
        (["limits", "--up", "fast"], "is not a rate"),
        (["limits", "--up", "5"], "20mbit"),
        (["limits", "--down", "5Mb/s"], "bits or bytes"),
        (["limits", "--up", "1kB/s"], "the least"),
        (["limits", "--monthly", "lots"], "is not a size"),
        (["daemon", "--down", "0"], "is not a rate"),
    ] {
        let ran = a.run(&args);
        ran.fails(2, "usage");
        assert!(ran.json.to_string().contains(part), "{args:?}: {ran:?}");
    }
    assert_eq!(limit_and_source(&a, "up"), (json!("off"), json!("default")));
    drop(a);
    run(&home, &["limits"]).fails(4, "no_daemon");

    for (file, part) in [
        ("[limits]\nupp = \"off\"", "`limits.up`"),
        ("[limits]\nup = 5", "line 2"),
        ("[limits]\nup = \"5Mb/s\"", "bits or bytes"),
        ("[limits]\nreset_day = 32", "1 to 31"),
        (
            "[limits]\nschedule = [{ from = \"8\", to = \"18:00\" }]",
            "line 2",
        ),
        (
            "[limits]\nschedule = [{ from = \"08:00\", to = \"18:00\", days = [\"x\"] }]",
            "is no day",
        ),
    ] {
        fs::write(home.join("config.toml"), file).unwrap();
        let ran = run(&home, &["daemon"]);
        ran.fails(2, "config");
        assert!(ran.json.to_string().contains(part), "{file}: {ran:?}");
    }
}
