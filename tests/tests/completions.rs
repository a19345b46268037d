//! Completions: the names that a node knows are offered, in real shells too. A shell never waits long,
//! starts no node, and runs nothing that a stranger has written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a shell that is missing is told")]

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use shoal_tests::{
    Daemon, joining, refused::Ground, scratch, shoal, terminal::Terminal, text, wait_for,
    write_content,
};
use tempfile::TempDir;

/// A person waits a second at the most; a busy machine gets more.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Asks as a shell's script asks; the last word is the one that is typed.
fn ask(shell: &str, home: &Path, words: &[&str]) -> Output {
    Command::new(shoal())
        .arg("--")
        .arg("shoal")
        .args(words)
        .env("_SHOAL_COMPLETE", shell)
        .env("SHOAL_HOME", home)
        .current_dir(home.parent().unwrap())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What is offered, without what is said of each.
fn offered(home: &Path, words: &[&str]) -> Vec<String> {
    let output = ask("fish", home, words);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let values = lines
        .lines()
        .map(|it| it.split('\t').next().unwrap().to_owned());
    values.collect()
}

/// A home with a daemon that shares these.
fn sharing(names: &[&str]) -> (TempDir, Daemon) {
    let dir = scratch();
    let daemon = Daemon::start(&dir.path().join("home"), &[]);
    for (number, name) in names.iter().enumerate() {
        let path = dir.path().join(format!("file-{number}"));
        write_content(&path, &format!("{number}{name}"), 1000);
        daemon
            .run(&["share", text(&path), &format!("--name={name}")])
            .ok();
    }
    (dir, daemon)
}

#[test]
fn commands_flags_and_values_are_offered_without_a_node() {
    let dir = scratch();
    let home = dir.path().join("home");
    assert_eq!(offered(&home, &["fe"]), ["fetch"]);
    assert_eq!(offered(&home, &["completions", "zs"]), ["zsh"]);
    assert_eq!(offered(&home, &["share", "--qr"]), ["--qr"]);
    assert_eq!(offered(&home, &["share", "--hash", "sha"]), ["sha2-256"]);
    write_content(&dir.path().join("report.pdf"), "report", 10);
    assert_eq!(offered(&home, &["share", "rep"]), ["report.pdf"]);
    for words in [["link", ""], ["pause", ""], ["cancel", ""]] {
        let flags = offered(&home, &words);
        assert!(flags.iter().all(|it| it.starts_with('-')), "{flags:?}");
    }
    assert!(!home.exists(), "a completion makes no home");
}

#[test]
fn shares_are_offered_by_name_or_address() {
    let (dir, daemon) = sharing(&["photos", "my photos", "twice", "twice", "-rf"]);
    let shares = daemon.run(&["ls"]).ok();
    let cids = |name: &str| -> Vec<String> {
        let shares = shares["entries"].as_array().unwrap().iter();
        let named = shares.filter(|it| it["name"] == name);
        named
            .map(|it| it["cid"].as_str().unwrap().to_owned())
            .collect()
    };
    let home = daemon.home();
    assert_eq!(offered(home, &["link", "ph"]), ["photos"]);
    assert_eq!(offered(home, &["link", "my"]), ["my photos"]);
    assert_eq!(offered(home, &["link", r"my\ ph"]), ["my photos"]);
    // A name that is not enough, or that would be a flag.
    let by_cid = offered(home, &["link", "baf"]);
    for cid in [cids("twice"), cids("-rf")].concat() {
        assert!(by_cid.contains(&cid), "{by_cid:?}");
        assert!(offered(home, &["link", ""]).contains(&cid));
    }
    assert!(!offered(home, &["link", ""]).contains(&"twice".to_owned()));
    // A line that names another home asks there.
    let other = dir.path().join("other");
    assert!(offered(&other, &["link", "ph"]).is_empty());
    assert_eq!(
        offered(&other, &["--home", text(home), "link", "ph"]),
        ["photos"]
    );
    fs::write(dir.path().join("phone"), "").unwrap();
    assert_eq!(offered(home, &["link", "./ph"]), ["./phone"]);
}

#[test]
fn transfers_and_peers_are_offered() {
    let (dir, daemon) = sharing(&[]);
    let options = [
        joining(&daemon.address),
        vec!["--up".into(), "1MB/s".into()],
    ]
    .concat();
    let other = Daemon::start_with(&dir.path().join("other"), options);
    for name in ["film", "song"] {
        let path = dir.path().join("theirs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_content(&path, name, 64 << 20);
        let link = other.share(&path)["link"].as_str().unwrap().to_owned();
        let got = dir.path().join(name);
        daemon
            .run(&["fetch", &link, "--background", "-o", text(&got)])
            .ok();
    }
    let home = daemon.home();
    assert_eq!(offered(home, &["pause", "f"]), ["film"]);
    assert_eq!(offered(home, &["pause", "al"]), ["all"]);
    assert_eq!(offered(home, &["resume", "f"]), [""; 0]);
    daemon.run(&["pause", "film"]).ok();
    assert_eq!(offered(home, &["pause", "f"]), [""; 0]);
    assert_eq!(offered(home, &["resume", "f"]), ["film"]);
    assert_eq!(offered(home, &["cancel", "song", "f"]), ["film"]);

    wait_for("the other one has dialled", || {
        let offered = offered(other.home(), &["fetch", "--peer", "/ip4"]);
        (offered == [daemon.address.clone()]).then_some(())
    });
}

#[test]
fn a_node_that_does_not_answer_is_not_waited_for_and_failures_are_silent() {
    let (dir, daemon) = sharing(&["photos"]);
    daemon.signal(Signal::STOP);
    let start = Instant::now();
    let output = ask("fish", daemon.home(), &["link", "ph"]);
    let took = start.elapsed();
    daemon.signal(Signal::CONT);
    assert!(took < ANSWER_MAX, "{took:?}");
    assert!(output.status.success(), "{output:?}");
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );

    let no_folder = dir.path().join("file/home");
    fs::write(dir.path().join("file"), "").unwrap();
    for (shell, home) in [
        ("tcsh", daemon.home()),
        ("", daemon.home()),
        ("bash", &no_folder),
    ] {
        let output = Command::new(shoal())
            .args(["--", "shoal link ph", "ph"])
            .env("_SHOAL_COMPLETE", shell)
            .env("SHOAL_HOME", home)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

/// A shell in a terminal, on the home of a daemon, that has read its script.
fn shell(dir: &Path, home: &Path, program: &str, args: &[&str], setup: &str) -> Option<Terminal> {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    let program = String::from_utf8(found.unwrap().stdout).unwrap();
    if program.trim().is_empty() {
        return None;
    }
    let ground = Ground {
        program: program.trim().into(),
        dir: dir.to_owned(),
        home: home.to_owned(),
    };
    let binaries = shoal().parent().unwrap().to_owned();
    let path = format!("{}:{}", text(&binaries), std::env::var("PATH").unwrap());
    let env = [
        ("PATH", path.as_str()),
        ("PS1", "$ "),
        ("HOME", text(dir)),
        ("LANG", "C.UTF-8"),
    ];
    let mut terminal = Terminal::start(&ground, 100, args, &env);
    terminal.type_keys(format!("{setup}; echo set''up\n").as_bytes());
    // Its prompt is there: the terminal shows keys by itself until then.
    terminal.wait_for(&["\nsetup\n$"]);
    Some(terminal)
}

#[test]
fn bash_completes_in_a_terminal_and_runs_nothing_that_a_name_says() {
    let (dir, daemon) = sharing(&["my photos", "$(touch pwned)"]);
    let setup = "source <(shoal completions bash)";
    let args = ["--norc", "--noprofile", "-i"];
    let mut bash = shell(dir.path(), daemon.home(), "bash", &args, setup).unwrap();
    let mut number = 0;
    let mut check = |typed: &str, becomes: &str| {
        // A command before it tells the line from those that are still on the screen.
        number += 1;
        bash.type_keys(format!(": {number}; {typed}\t").as_bytes());
        bash.wait_for(&[&format!(": {number}; {becomes}")]);
        bash.type_keys(b"\x15");
    };
    check("shoal fet", "shoal fetch ");
    check("shoal link m", "shoal link 'my photos' ");
    check("shoal link 'my p", "shoal link 'my photos' ");
    check("shoal link my\\ p", "shoal link 'my photos' ");
    check("shoal share --hash=sh", "shoal share --hash=sha2-256 ");
    fs::create_dir(dir.path().join("a folder")).unwrap();
    check("shoal share a", "shoal share 'a folder/'");
    check("shoal link $", "shoal link '$(touch pwned)' ");
    bash.type_keys(b"shoal link \\$\t\n");
    bash.wait_for(&["\nshoal:S"]);
    assert!(!dir.path().join("pwned").exists());
}

#[test]
fn zsh_completes_in_a_terminal() {
    let (dir, daemon) = sharing(&["my photos", "$(touch pwned)"]);
    // As a package installs it: a file of the function path, which zsh reads when it needs it.
    let functions = dir.path().join("functions");
    fs::create_dir(&functions).unwrap();
    let script = shoal_tests::run(daemon.home(), &["completions", "zsh"]).ok();
    fs::write(functions.join("_shoal"), script["script"].as_str().unwrap()).unwrap();
    let setup = format!(
        "PS1='$ '; fpath=({} $fpath); autoload -Uz compinit; compinit -u -d zcompdump",
        text(&functions)
    );
    let Some(mut zsh) = shell(dir.path(), daemon.home(), "zsh", &["-f", "-i"], &setup) else {
        eprintln!("skipped: there is no zsh here; scripts/setup --tests installs it");
        return;
    };
    let mut check = |typed: &str, becomes: &str| {
        zsh.type_keys(typed.as_bytes());
        zsh.type_keys(b"\t");
        zsh.wait_for(&[&format!("$ {becomes}")]);
        zsh.type_keys(b"\x15");
    };
    check("shoal link m", r"shoal link my\ photos");
    check("shoal fet", "shoal fetch");
    zsh.type_keys(b"shoal link \\$\t\n");
    zsh.wait_for(&["\nshoal:S"]);
    assert!(!dir.path().join("pwned").exists());
}

#[test]
fn fish_completes() {
    let (dir, daemon) = sharing(&["my photos", "$(touch pwned)"]);
    let fish = |line: &str| -> Option<Vec<String>> {
        let program = format!("shoal completions fish | source; complete -C {line:?}");
        let binaries = shoal().parent().unwrap().to_owned();
        let path = format!("{}:{}", text(&binaries), std::env::var("PATH").unwrap());
        let output = Command::new("fish")
            .args(["--no-config", "-c", &program])
            .env("PATH", path)
            .env("HOME", dir.path())
            .env("SHOAL_HOME", daemon.home())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output();
        let lines = String::from_utf8(output.ok()?.stdout).unwrap();
        Some(
            lines
                .lines()
                .map(|it| it.split('\t').next().unwrap().to_owned())
                .collect(),
        )
    };
    let Some(offered) = fish("shoal link m") else {
        eprintln!("skipped: there is no fish here; scripts/setup --tests installs it");
        return;
    };
    assert_eq!(offered, ["my photos"]);
    assert_eq!(fish("shoal fet").unwrap(), ["fetch"]);
    assert!(!dir.path().join("pwned").exists());
}
