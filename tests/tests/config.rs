//! The configuration by command: what holds, where it comes from, and changing it.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::{Value, json};
use shoal_tests::{Daemon, Ran, command, run, scratch, text};

const FILE: &str = "config.toml";

/// The setting of `key` in what `config show` printed.
fn setting<'a>(shown: &'a Value, key: &str) -> &'a Value {
    let settings = shown["settings"].as_array().unwrap();
    settings.iter().find(|it| it["key"] == key).unwrap()
}

#[test]
fn every_value_says_where_it_comes_from() {
    let home = scratch();
    let file = home.path().join(FILE);
    fs::write(&file, "[network]\nname = \"test\"\nmdns = false\n").unwrap();
    let mut show = command(home.path(), &["config"]);
    show.env("SHOAL_NETWORK_MDNS", "true");
    let shown = Ran::new(&show.output().unwrap()).ok();
    let check = |key: &str, value: Value, origin: &str, from: Value| {
        let setting = setting(&shown, key);
        assert_eq!(setting["value"], value, "{setting}");
        assert_eq!(setting["origin"], origin, "{setting}");
        assert_eq!(setting["from"], from, "{setting}");
        assert!(!setting["doc"].as_str().unwrap().is_empty(), "{setting}");
    };
    check("network.name", json!("test"), "file", json!(text(&file)));
    let variable = json!("SHOAL_NETWORK_MDNS");
    check("network.mdns", json!(true), "environment", variable);
    check("network.bootstrap", json!([]), "default", Value::Null);
    check("log.format", json!("text"), "default", Value::Null);
    check("limits.up", json!("off"), "default", Value::Null);

    // Nothing was made or changed by looking.
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let got = run(home.path(), &["config", "get", "network.name"]).ok();
    assert_eq!(got["value"], "test");
}

#[test]
fn a_change_is_written_checked_and_taken_back() {
    let home = scratch();
    let home = home.path().join("new");
    run(&home, &["config", "set", "network.mdns", "off"]).ok();
    let file = home.join(FILE);
    let read = || fs::read_to_string(&file).unwrap();
    assert_eq!(read(), "[network]\nmdns = false\n");
    let commented = "# by hand\n[network]\nmdns = false # quiet\n";
    fs::write(&file, commented).unwrap();
    let rate = run(&home, &["config", "set", "limits.up", "20mbit"]).ok();
    assert_eq!(rate["origin"], "file");
    assert_eq!(rate["restart_needed"], false);
    assert_eq!(read(), format!("{commented}\n[limits]\nup = \"20mbit\"\n"));
    assert_eq!(run(&home, &["config", "check"]).ok()["keys"], 2);
    let unset = run(&home, &["config", "unset", "limits.up"]).ok();
    assert_eq!(unset["origin"], "default");
    let again = run(&home, &["config", "unset", "limits.up"]).ok();
    assert_eq!(
        (&unset["changed"], &again["changed"]),
        (&json!(true), &json!(false))
    );
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let home = scratch();
    let file = home.path().join(FILE);
    let before = "[network]\nmdns = true # mine\n";
    fs::write(&file, before).unwrap();
    let check = |line: &str, exit: i32, code: &str, says: &str| {
        let args: Vec<_> = line.split(' ').collect();
        let ran = run(home.path(), &args);
        ran.fails(exit, code);
        let error = ran.json["error"].to_string();
        assert!(error.contains(says), "{line}: {error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{line}");
    };
    check("config set network.lisen x", 2, "usage", "network.listen");
    check("config get mdns", 2, "usage", "network.mdns");
    check("config unset log.colour", 2, "usage", "log.colour");
    check("config set network.mdns maybe", 2, "usage", "boolean");
    check("config set network.listen 4101", 2, "usage", "listen");
    check("config set limits.up fast", 2, "usage", "fast");
    check("config set limits.reset_day -5", 2, "usage", "1 to 31");
    check("config frobnicate", 2, "usage", "frobnicate");

    let other = home.path().join("other.toml");
    fs::write(&other, "[limits]\nreset_day = \"first\"\n").unwrap();
    check(
        &format!("config check {}", text(&other)),
        2,
        "config",
        "reset_day",
    );
    check(
        "config check /nowhere.toml",
        1,
        "path_not_found",
        "/nowhere.toml",
    );
    // A file that is wrong already is not made worse.
    fs::write(&file, "[netwrok]\n").unwrap();
    run(home.path(), &["config", "set", "network.mdns", "off"]).fails(2, "config");
    assert_eq!(fs::read_to_string(&file).unwrap(), "[netwrok]\n");
}

#[test]
fn a_daemon_reads_a_change_when_it_starts_again() {
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    let set = daemon.run(&["config", "set", "limits.up", "20mbit"]);
    assert!(set.stderr.contains("shoal stop"), "{set:?}");
    let set = set.ok();
    assert_eq!(set["restart_needed"], true);
    assert_eq!(daemon.run(&["limits"]).ok()["up"]["limit"], "off");
    let daemon = daemon.restart();
    let limits = daemon.run(&["limits"]).ok();
    assert_eq!(limits["up"]["bytes_per_second"], 2_500_000, "{limits}");
}
