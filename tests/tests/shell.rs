//! What makes the command at home in a shell: completions, manual pages, links as QR codes.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, OpenOptions},
    io,
    process::{Command, Output, Stdio},
};

use serde_json::json;
use shoal_tests::{Daemon, run, scratch, shoal, text, write_content};

#[test]
fn every_shell_gets_its_script() {
    let home = scratch();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let made = run(home.path(), &["completions", shell]).ok();
        assert_eq!(made["shell"], shell);
        let script = made["script"].as_str().unwrap();
        assert!(script.contains("_SHOAL_COMPLETE"), "{shell}: {script}");
    }
    run(home.path(), &["completions", "sh"]).fails(2, "usage");
    // Nothing was made by asking.
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn each_command_has_its_manual_page() {
    let dir = scratch();
    let page = run(dir.path(), &["man"]).ok();
    assert!(page["page"].as_str().unwrap().contains(".TH shoal 1"));

    let pages = dir.path().join("new/pages");
    let written = run(dir.path(), &["man", text(&pages)]).ok();
    let files = written["files"].as_array().unwrap();
    assert_eq!(files.len(), fs::read_dir(&pages).unwrap().count());
    let check = |name: &str, contains: &str| {
        let path = pages.join(name);
        assert!(files.contains(&json!(text(&path))), "{written}");
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.contains(contains), "{name}: {page}");
    };
    check("shoal.1", "shoal\\-fetch(1)");
    check("shoal-fetch.1", "\\-\\-overwrite");
    check("shoal-testnet-up.1", "\\-\\-home");
    for section in ["FILES", "ENVIRONMENT", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
        check("shoal-fetch.1", &format!(".SH {section}\n"));
    }

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert_ne!(run(dir.path(), &["man", text(&file)]).code, Some(0));
}

#[test]
fn a_share_prints_its_link_as_a_code_too() {
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    let check = |name: &str| {
        let path = dir.path().join(name);
        write_content(&path, name, 1000);
        // One document, which `run` sees to.
        let shared = daemon.run(&["share", "--qr", text(&path)]).ok();
        let (link, code) = (shared["link"].as_str().unwrap(), &shared["qr"]);
        let held = code["link"].as_str().unwrap();
        assert!(held.starts_with("SHOAL:S"), "{shared}");
        assert!(code["lines"].as_str().unwrap().starts_with("████"));

        let plain = Command::new(shoal())
            .args(["--home", text(daemon.home()), "share", "--qr", text(&path)])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let lines = format!("{link}\n{}\n", code["lines"].as_str().unwrap());
        assert_eq!(String::from_utf8(plain.stdout).unwrap(), lines);
        // What the code holds fetches the same.
        let fetched = dir.path().join("fetched");
        daemon
            .run(&["fetch", held, "--overwrite", "-o", text(&fetched)])
            .ok();
        assert_eq!(fs::read(&fetched).unwrap(), fs::read(&path).unwrap());
    };
    check("photo.jpg");
    check(&"ü".repeat(120));
    let path = dir.path().join("photo.jpg");
    assert!(daemon.share(&path).get("qr").is_none());
}

/// Commands that print a result: with a daemon, with `--json` and without.
fn printing<'a>(link: &'a str, file: &'a str) -> Vec<Vec<&'a str>> {
    let both: [&[&str]; 16] = [
        &["status"],
        &["id"],
        &["peers"],
        &["transfers"],
        &["ls"],
        &["ls", link],
        &["find", link],
        &["link", link],
        &["share", file],
        &["verify"],
        &["gc", "--dry-run"],
        &["limits"],
        &["config"],
        &["completions", "bash"],
        &["man"],
        &["testnet", "scenarios"],
    ];
    let plain: [&[&str]; 5] = [
        &["help"],
        &["fetch", "--help"],
        &["--version"],
        &["fetch", link, "--stdout"],
        &["--quiet", "id"],
    ];
    let json = both.iter().map(|args| [&["--json"], *args].concat());
    let plain = both.iter().chain(&plain).map(|args| args.to_vec());
    json.chain(plain).collect()
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    let file = dir.path().join("file");
    write_content(&file, "file", 300_000);
    let shared = daemon.share(&file);
    let run = |args: &[&str], stdout: Stdio| -> Output {
        let mut command = Command::new(shoal());
        let command = command.args(["--home", text(daemon.home())]).args(args);
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .unwrap()
    };
    for args in printing(shared["link"].as_str().unwrap(), text(&file)) {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = run(&args, full.into());
        let says = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(6), "{args:?}: {says}");
        assert!(says.contains("to standard output"), "{args:?}: {says}");

        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let ended = run(&args, writer.into());
        let says = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {says}");
        assert!(!says.contains("error"), "{args:?}: {says}");
    }
}
