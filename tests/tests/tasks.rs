//! The ten tasks of `docs/tasks.md`: its commands do what it says, and the help has the words that
//! lead to them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{
    Daemon, assert_same_file, command, copies::World as Copies, scratch, shoal, text, wait_for,
    write_content,
};
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../../docs/tasks.md");

/// The most commands of a task.
const COMMANDS_MAX: usize = 2;

const MIB: usize = 1 << 20;

/// A task as the document has it.
struct Task {
    title: &'static str,
    commands: Vec<&'static str>,
    /// A help page, and a text that it has.
    words: Vec<(&'static str, &'static str)>,
}

fn tasks() -> Vec<Task> {
    let sections = DOCUMENT.split("\n## ").skip(1);
    let task = |section: &'static str| {
        let (title, rest) = section.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("```sh\n").unwrap();
        let (commands, says) = rest.split_once("```\n").unwrap();
        Task {
            title,
            commands: commands.lines().collect(),
            words: words(says),
        }
    };
    sections.map(task).collect()
}

/// Each text in quotation marks, with the help page that stands before it between back quotes.
fn words(says: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    let mut page = None;
    // Every second piece is between quotes of the one kind or the other.
    for (number, piece) in says.split('`').enumerate() {
        if number % 2 == 1 {
            page = piece
                .strip_prefix("shoal ")
                .filter(|it| it.ends_with("--help"));
            continue;
        }
        let quoted = piece.split('"').skip(1).step_by(2);
        found.extend(quoted.filter_map(|text| Some((page?, text))));
    }
    found
}

/// The commands of the task with this title.
fn commands(title: &str) -> Vec<&'static str> {
    let task = tasks().into_iter().find(|it| it.title == title);
    task.unwrap_or_else(|| panic!("no task is called {title}"))
        .commands
}

/// A person's machine, with a folder that the person is in; and a node of somebody else.
struct World {
    dir: TempDir,
    home: PathBuf,
    here: PathBuf,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let [home, here] = ["home", "here"].map(|name| dir.path().join(name));
        fs::create_dir(&here).unwrap();
        Self { dir, home, here }
    }

    /// The person's daemon.
    fn daemon(&self) -> Daemon {
        Daemon::start(&self.home, &[])
    }

    /// Somebody else's, which knows the person's.
    fn other(&self, name: &str, options: &[&str], knows: &Daemon) -> Daemon {
        let mut all = shoal_tests::joining(&knows.address);
        all.extend(options.iter().map(|&it| it.to_owned()));
        Daemon::start_with(&self.dir.path().join(name), all)
    }

    /// A file in the person's folder.
    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.here.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_content(&path, name, bytes);
        path
    }

    /// A file of the other one, shared.
    fn offered(&self, other: &Daemon, name: &str, bytes: usize) -> String {
        let path = self.dir.path().join(name);
        write_content(&path, name, bytes);
        link_of(&other.share(&path))
    }

    /// Runs a line of the document as a shell does.
    fn type_line(&self, line: &str) -> Output {
        type_on(&self.home, &self.here, line)
    }

    /// Runs one that has to succeed, and returns all that it says.
    fn says(&self, line: &str) -> String {
        let output = self.type_line(line);
        let said = said(&output);
        assert!(output.status.success(), "{line}: {said}");
        said
    }
}

fn type_on(home: &Path, here: &Path, line: &str) -> Output {
    let folder = shoal().parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line])
        .current_dir(here)
        .env("PATH", format!("{}:{path}", text(&folder)))
        .env("SHOAL_HOME", home)
        .env("SHOAL_NETWORK_MDNS", "false")
        .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
        .env_remove("SHOAL_LOG")
        .stdin(Stdio::null());
    shell.output().unwrap()
}

fn said(output: &Output) -> String {
    let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    of(&output.stdout) + &of(&output.stderr)
}

fn link_of(shared: &Value) -> String {
    shared["link"].as_str().unwrap().to_owned()
}

fn shares(daemon: &Daemon) -> usize {
    daemon.run(&["ls"]).ok()["entries"]
        .as_array()
        .unwrap()
        .len()
}

fn states(daemon: &Daemon) -> Vec<String> {
    let listed = daemon.run(&["transfers"]).ok();
    let listed = listed["transfers"].as_array().unwrap().clone();
    let states = listed
        .iter()
        .map(|it| it["state"].as_str().unwrap().to_owned());
    states.collect()
}

#[test]
fn each_of_the_ten_tasks_takes_few_commands_and_is_found_by_the_help() {
    let tasks = tasks();
    assert_eq!(tasks.len(), 10);
    for task in &tasks {
        let title = task.title;
        assert!(
            (1..=COMMANDS_MAX).contains(&task.commands.len()),
            "{title}: {:?}",
            task.commands
        );
        assert!(!task.words.is_empty(), "{title} names no words of the help");
        for (page, words) in &task.words {
            let help = Command::new(shoal())
                .args(page.split(' '))
                .output()
                .unwrap();
            let help = said(&help).split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                help.contains(words),
                "{title}: `shoal {page}` lacks {words}"
            );
        }
        for command in &task.commands {
            let words: Vec<_> = command.split(' ').collect();
            is_explained(title, &words);
        }
    }
}

/// The command of a line is in the list of commands and has a manual page; both have its flags.
fn is_explained(title: &str, words: &[&str]) {
    let [program, command, rest @ ..] = words else {
        panic!("{title}: {words:?} is no command");
    };
    assert_eq!(*program, "shoal", "{title}");
    let pages = scratch();
    shoal_tests::run(pages.path(), &["man", text(pages.path())]).ok();
    let page = fs::read_to_string(pages.path().join(format!("shoal-{command}.1"))).unwrap();
    let help = Command::new(shoal())
        .args([command, "--help"])
        .output()
        .unwrap();
    let help = said(&help);
    for flag in rest.iter().filter(|it| it.starts_with("--")) {
        assert!(
            help.contains(flag),
            "{title}: `shoal {command} --help` lacks {flag}"
        );
        let flag = flag.replace('-', "\\-");
        assert!(
            page.contains(&flag),
            "{title}: shoal-{command}(1) lacks {flag}"
        );
    }
    for section in ["EXIT STATUS", "FILES", "ENVIRONMENT"] {
        assert!(page.contains(section), "shoal-{command}(1) lacks {section}");
    }
}

#[test]
fn stop_sharing_photos() {
    let world = World::new();
    let daemon = world.daemon();
    let photo = world.file("photos/beach.raw", MIB);
    daemon.share(&world.here.join("photos"));
    for line in commands("Stop sharing photos") {
        world.says(line);
    }
    assert_eq!(shares(&daemon), 0);
    assert!(photo.exists());
}

#[test]
fn see_who_downloads_from_me() {
    let world = World::new();
    let daemon = world.daemon();
    daemon.run(&["limits", "--up", "2MB/s"]).ok();
    let file = world.file("film", 64 * MIB);
    let link = link_of(&daemon.share(&file));
    let other = world.other("other", &[], &daemon);
    let got = world.dir.path().join("got");
    other
        .run(&["fetch", &link, "--background", "-o", text(&got)])
        .ok();
    let lines = commands("See who downloads from me");
    wait_for("the peer is named while it downloads", || {
        let said = world.says(lines[0]);
        let mut about = said.lines().filter(|line| line.contains(&other.peer_id));
        about.any(|line| line.contains("%")).then_some(())
    });
}

#[test]
fn limit_uploads_tonight() {
    let world = World::new();
    let daemon = world.daemon();
    let up = || daemon.run(&["limits"]).ok()["up"]["limit"].clone();
    let before = up();
    let lines = commands("Limit uploads tonight");
    world.says(lines[0]);
    assert_eq!(up(), "1MB/s");
    world.says(lines[1]);
    assert_eq!(up(), before);
}

#[test]
fn find_where_a_download_landed() {
    let world = World::new();
    let daemon = world.daemon();
    let other = world.other("other", &[], &daemon);
    let link = world.offered(&other, "song", MIB);
    let landed = world.here.join("music/song");
    fs::create_dir(landed.parent().unwrap()).unwrap();
    daemon.fetch(&link, &landed);
    let said = world.says(commands("Find where a download landed")[0]);
    assert!(said.contains(text(&landed)), "{said}");
}

#[test]
fn pause_everything() {
    let world = World::new();
    let daemon = world.daemon();
    let other = world.other("other", &["--up", "1MB/s"], &daemon);
    for name in ["one", "two"] {
        let link = world.offered(&other, name, 64 * MIB);
        let output = world.here.join(name);
        daemon
            .run(&["fetch", &link, "--background", "-o", text(&output)])
            .ok();
    }
    world.says(commands("Pause everything")[0]);
    assert_eq!(states(&daemon), ["paused", "paused"]);
}

#[test]
fn send_a_file_that_stops_being_shared_after_two_copies() {
    let world = World::new();
    let daemon = world.daemon();
    world.file("report.pdf", MIB);
    let line = commands("Send a file that stops being shared after two copies")[0];
    let shared = world.type_line(line);
    assert!(shared.status.success(), "{}", said(&shared));
    let link = String::from_utf8(shared.stdout).unwrap();
    for name in ["first", "second"] {
        assert_eq!(shares(&daemon), 1, "before the {name} copy");
        let other = world.other(name, &[], &daemon);
        let copy = world.dir.path().join(format!("copy-{name}"));
        other.fetch(link.trim(), &copy);
        assert_same_file(&world.here.join("report.pdf"), &copy);
    }
    wait_for("the share ends", || (shares(&daemon) == 0).then_some(()));
}

#[test]
fn find_the_link_again() {
    let world = World::new();
    let daemon = world.daemon();
    world.file("photos/beach.raw", MIB);
    let link = link_of(&daemon.share(&world.here.join("photos")));
    let said = world.says(commands("Find the link again")[0]);
    assert_eq!(said.trim(), link);
}

#[test]
fn free_the_space_that_copies_for_others_take() {
    let copies = Copies::new(2);
    let shared = copies.origin.share(&copies.file("popular"));
    for name in ["first", "second"] {
        let fetcher = copies.fetcher(name);
        copies.fetch_and_forget(&fetcher, shared["cid"].as_str().unwrap(), name);
    }
    let helper = &copies.helpers[0];
    let kept = || {
        let listed = helper.run(&["replicas", "ls"]).ok();
        listed["replicas"].as_array().unwrap().len()
    };
    wait_for("a copy is kept", || (kept() > 0).then_some(()));
    let line = commands("Free the space that copies for others take")[0];
    let dropped = type_on(helper.home(), copies.dir.path(), line);
    assert!(dropped.status.success(), "{}", said(&dropped));
    assert_eq!(kept(), 0);
}

/// Stops the daemon of a home that a command has left in the background.
struct Background<'a>(&'a Path);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = command(self.0, &["stop", "--kill"]).output();
    }
}

#[test]
fn go_on_after_the_terminal_was_closed() {
    let world = World::new();
    let hub = Daemon::start(&world.dir.path().join("hub"), &[]);
    let other = world.other("other", &["--up", "8MB/s"], &hub);
    let link = world.offered(&other, "film", 32 * MIB);
    let got = world.here.join("film");
    let mut fetch = command(&world.home, &["fetch", &link, "-o", text(&got)]);
    let mut fetch = fetch
        .env("SHOAL_NETWORK_MDNS", "false")
        .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("some of it is there", || {
        let listed = shoal_tests::run(&world.home, &["transfers"]);
        let verified = listed.json["transfers"][0]["verified_bytes"].as_u64()?;
        (verified > 0).then_some(())
    });
    // What a terminal sends that is closed.
    let pid = Pid::from_raw(i32::try_from(fetch.id()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    fetch.wait().unwrap();
    assert!(!got.exists());

    let _background = Background(&world.home);
    for line in commands("Go on after the terminal was closed") {
        world.says(line);
    }
    wait_for("all of it is there", || got.exists().then_some(()));
    assert_same_file(&world.dir.path().join("film"), &got);
}

#[test]
fn see_why_nothing_comes() {
    let world = World::new();
    let daemon = world.daemon();
    let mut other = world.other("other", &["--up", "1MB/s"], &daemon);
    let link = world.offered(&other, "film", 64 * MIB);
    daemon
        .run(&[
            "fetch",
            &link,
            "--background",
            "-o",
            text(&world.here.join("film")),
        ])
        .ok();
    wait_for("some of it is there", || {
        let listed = daemon.run(&["transfers"]).ok();
        let verified = listed["transfers"][0]["verified_bytes"].as_u64()?;
        (verified > 0).then_some(())
    });
    other.kill();
    let lines = commands("See why nothing comes");
    wait_for("the transfer says what it waits for", || {
        world
            .says(lines[0])
            .contains("waits for a provider")
            .then_some(())
    });
    let output = world.type_line(&lines[1].replace("LINK", &link));
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&other.peer_id), "{said}");
}
