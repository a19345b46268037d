//! `shoal testnet` as people run it: what it starts, and that nothing of it stays behind.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_tests::{Ran, command, scratch, text, wait_for, write_content};
use tempfile::TempDir;

/// A folder for a testnet, and for the sockets of homes whose path is too long for one.
struct Place {
    scratch: TempDir,
    dir: PathBuf,
    runtime: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self::named("net")
    }

    fn named(name: &str) -> Self {
        let scratch = scratch();
        let root = scratch.path().canonicalize().expect("a directory");
        let runtime = root.join("run");
        fs::create_dir(&runtime).expect("a directory");
        Self {
            dir: root.join(name),
            runtime,
            scratch,
        }
    }

    /// `shoal --json testnet` with these words, on this folder.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(Path::new("/nonexistent"), &["testnet"]);
        command
            .args(words)
            .args(["--dir", text(&self.dir)])
            .env("XDG_RUNTIME_DIR", &self.runtime);
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        Ran::new(&self.command(words).output().expect("the binary runs"))
    }

    /// A command on one of the nodes.
    fn on_node(&self, index: usize, words: &[&str]) -> Value {
        let home = self.dir.join(format!("node-{index:02}"));
        shoal_tests::run(&home, words).ok()
    }

    /// The manifest, once there is one.
    fn manifest(&self) -> Option<Value> {
        let text = fs::read(self.dir.join("testnet.json")).ok()?;
        Some(serde_json::from_slice(&text).expect("a manifest is always whole"))
    }

    /// How many processes the manifest lists.
    fn listed(&self) -> usize {
        let manifest = self.manifest().unwrap_or_default();
        let nodes = manifest["nodes"].as_array();
        nodes.map_or(0, |nodes| {
            let listed = nodes.iter().filter(|node| node["process"].is_object());
            listed.count()
        })
    }

    /// Whether nothing is left of a testnet: no process, no socket, no directory.
    #[track_caller]
    fn assert_nothing_is_left(&self) {
        wait_for("the end of every process", || {
            processes_naming(&self.dir).is_empty().then_some(())
        });
        assert!(!self.dir.exists(), "{} is left", self.dir.display());
        let sockets = entries(&self.runtime);
        assert!(sockets.is_empty(), "{sockets:?} are left");
    }
}

/// A test that fails leaves no nodes behind.
impl Drop for Place {
    fn drop(&mut self) {
        // That there is nothing to take down is the usual case.
        let _ = self.command(&["down"]).output();
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries.map(|it| it.expect("an entry").path()).collect()
}

/// The processes that have `dir`, or what is in it, among their arguments.
fn processes_naming(dir: &Path) -> Vec<String> {
    let names = |process: &PathBuf| -> io::Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(process.join("cmdline"))?).replace('\0', " "))
    };
    let processes = entries(Path::new("/proc")).into_iter();
    let lines = processes.filter_map(|process| names(&process).ok());
    lines.filter(|line| line.contains(text(dir))).collect()
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::KILL).expect("the process is ours");
}

#[test]
fn a_testnet_is_a_few_ordinary_daemons_that_find_each_other() {
    let place = Place::new();
    let up = place.run(&["up", "--nodes", "4"]).ok();
    assert_eq!(up["nodes"].as_array().map(Vec::len), Some(4));
    let manifest = place.manifest().expect("a manifest");
    assert_eq!(up["nodes"], manifest["nodes"]);
    for index in 0..4 {
        let status = place.on_node(index, &["status"]);
        assert_eq!(status["peer_id"], up["nodes"][index]["peer_id"]);
        let peers = status["peers"].as_array().map_or(0, Vec::len);
        assert_eq!(peers, 3, "node {index} sees the others");
    }
    let status = place.run(&["status"]).ok();
    assert_eq!(status["running"], 4);
    assert_eq!(status["nodes"][3]["peers"], 3);

    let again = place.run(&["up", "--nodes", "4"]);
    again.fails(1, "already_running");
    assert_eq!(place.run(&["status"]).ok()["running"], 4, "nothing changed");

    let down = place.run(&["down"]).ok();
    assert_eq!((&down["nodes"], &down["stopped"]), (&4.into(), &4.into()));
    assert_eq!(down["killed"], 0, "all ended in order");
    place.assert_nothing_is_left();
    assert_eq!(place.run(&["down"]).ok()["nodes"], 0, "again is no failure");
    place.run(&["status"]).fails(1, "path_not_found");
}

#[test]
fn a_killed_node_comes_back_where_it_was() {
    let place = Place::new();
    let up = place.run(&["up", "--nodes", "3"]).ok();
    let before = &up["nodes"][1];
    let killed = place.run(&["kill", "1"]).ok();
    assert_eq!(
        (&killed["running"], &killed["changed"]),
        (&false.into(), &true.into())
    );
    let home = place.dir.join("node-01");
    assert_eq!(processes_naming(&home), [""; 0], "it is gone");
    assert_eq!(place.run(&["status"]).ok()["running"], 2);
    assert_eq!(place.run(&["kill", "node-01"]).ok()["changed"], false);

    let started = place.run(&["start", "1"]).ok();
    assert_eq!(started["running"], true);
    assert_eq!(started["peer_id"], before["peer_id"]);
    assert_eq!(started["listen"], before["listen"]);
    assert_eq!(place.on_node(1, &["id"])["peer_id"], before["peer_id"]);
    assert_eq!(place.run(&["start", "1"]).ok()["changed"], false);

    let logs = place.command(&["logs", "1"]).output().expect("it runs");
    let logs = String::from_utf8(logs.stdout).expect("JSON is UTF-8");
    let ready = logs.lines().filter(|line| line.contains(" ready ")).count();
    assert_eq!(ready, 2, "one log over both lives: {logs}");

    place.run(&["kill", "3"]).fails(2, "usage");
    place.run(&["start", "x"]).fails(2, "usage");
}

#[test]
fn following_a_log_ends_with_ctrl_c() {
    let place = Place::new();
    place.run(&["up", "--nodes", "1"]).ok();
    let out = place.runtime.join("out");
    let mut logs = place
        .command(&["logs", "0", "--follow"])
        .stdout(fs::File::create(&out).expect("a file"))
        .spawn()
        .expect("it runs");
    let lines = || fs::read_to_string(&out).expect("a file").lines().count();
    wait_for("the first lines", || (lines() > 0).then_some(()));
    let before = lines();
    place.run(&["kill", "0"]).ok();
    place.run(&["start", "0"]).ok();
    wait_for("what is logged later", || (lines() > before).then_some(()));
    let pid = Pid::from_child(&logs);
    kill_process(pid, Signal::INT).expect("the process is ours");
    assert_eq!(logs.wait().expect("it ends").code(), Some(0));
    fs::remove_file(out).expect("a file");
}

#[test]
fn what_is_not_a_testnets_is_neither_used_nor_removed() {
    let place = Place::new();
    fs::create_dir(&place.dir).expect("a directory");
    fs::write(place.dir.join("mine"), "mine").expect("a file");
    let refused = place.run(&["up", "--nodes", "1"]);
    refused.fails(1, "destination_exists");
    assert_eq!(place.run(&["down"]).ok()["nodes"], 0);
    assert_eq!(entries(&place.dir), [place.dir.join("mine")]);

    fs::remove_file(place.dir.join("mine")).expect("a file");
    place.run(&["up", "--nodes", "1"]).ok();
    fs::write(place.dir.join("mine"), "mine").expect("a file");
    assert_eq!(place.run(&["down"]).ok()["removed"], false);
    assert_eq!(entries(&place.dir), [place.dir.join("mine")]);
    assert_eq!(processes_naming(&place.dir), [""; 0]);
}

#[test]
fn a_recycled_process_id_is_left_alone() {
    let place = Place::new();
    let up = place.run(&["up", "--nodes", "1"]).ok();
    place.run(&["kill", "0"]).ok();
    let mut other = Command::new("sleep").arg("600").spawn().expect("it runs");
    let mut manifest = place.manifest().expect("a manifest");
    manifest["nodes"][0]["process"] = up["nodes"][0]["process"].clone();
    manifest["nodes"][0]["process"]["pid"] = other.id().into();
    let json = serde_json::to_string(&manifest).expect("JSON");
    fs::write(place.dir.join("testnet.json"), json).expect("a file");
    assert_eq!(place.run(&["status"]).ok()["running"], 0);
    assert_eq!(place.run(&["kill", "0"]).ok()["changed"], false);
    assert_eq!(place.run(&["down"]).ok()["stopped"], 0);
    assert_eq!(other.try_wait().expect("it is ours"), None, "it still runs");
    other.kill().expect("it runs");
    other.wait().expect("it ends");
    place.assert_nothing_is_left();
}

#[test]
fn more_nodes_than_there_is_room_for_are_refused_before_anything_is_done() {
    let place = Place::new();
    let refused = place.run(&["up", "--nodes", "10000"]);
    refused.fails(1, "too_large");
    let hint = refused.json["error"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("--nodes"), "{refused:?}");
    assert!(!place.dir.exists());
    place.run(&["up", "--nodes", "0"]).fails(2, "usage");
    place.run(&["up", "--nodes", "10001"]).fails(2, "usage");
    assert!(!place.dir.exists());
}

#[test]
fn a_node_that_does_not_start_is_named_and_nothing_stays() {
    let place = Place::new();
    let up = place
        .command(&["up", "--nodes", "2"])
        .env("SHOAL_NETWORK_LISTEN", "nonsense")
        .env("SHOAL_NETWORK_BOOTSTRAP", "nonsense")
        .output();
    // What is meant for this user's own node does not reach those of a testnet.
    Ran::new(&up.expect("the binary runs")).ok();
    place.run(&["kill", "1"]).ok();
    let home = place.dir.join("node-01");
    fs::write(home.join("config.toml"), "[network]\nlisen = []\n").expect("a file");
    let refused = place.run(&["start", "1"]);
    refused.fails(2, "config");
    let message = refused.json["error"]["message"]
        .as_str()
        .unwrap_or_default();
    assert!(message.contains("node-01"), "{message}");
    assert!(message.contains("network.lisen"), "{message}");
    assert_eq!(place.run(&["status"]).ok()["running"], 1);
    place.run(&["down"]).ok();
    place.assert_nothing_is_left();
}

/// Starts `up`, kills it with -9 at `moment`, and checks that `down` leaves nothing.
fn check_killed_up(place: &Place, nodes: usize, moment: impl Fn() -> bool) {
    let count = nodes.to_string();
    let mut up = place
        .command(&["up", "--nodes", &count])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    wait_for("the moment", || moment().then_some(()));
    kill(up.id());
    up.wait().expect("it ends");
    let listed = place.listed();
    let down = place.run(&["down"]).ok();
    assert_eq!(down["nodes"], nodes, "{listed} processes were listed");
    place.assert_nothing_is_left();
}

#[test]
fn what_a_killed_up_has_started_is_taken_down() {
    let place = Place::new();
    for listed in [0, 1, 2, 5, 6] {
        let begun = || place.manifest().is_some() && place.listed() >= listed;
        check_killed_up(&place, 6, begun);
    }
    // At moments that no event marks.
    for step in 0..8 {
        let delay = Duration::from_millis(step * 37);
        let begun = Instant::now();
        let moment = || place.manifest().is_some() && begun.elapsed() > delay;
        check_killed_up(&place, 6, moment);
    }
}

#[test]
fn sockets_of_homes_with_long_paths_go_too() {
    let place = Place::named(&"long".repeat(25));
    place.run(&["up", "--nodes", "2"]).ok();
    assert_eq!(entries(&place.runtime).len(), 2, "they are elsewhere");
    place.run(&["kill", "1"]).ok();
    place.run(&["down"]).ok();
    place.assert_nothing_is_left();
    check_killed_up(&place, 3, || place.listed() >= 2);
}

/// A small folder to share.
fn letters(place: &Place) -> PathBuf {
    let folder = place.scratch.path().join("letters");
    fs::create_dir_all(folder.join("old/empty")).expect("a directory");
    write_content(&folder.join("one"), "one", 3 << 20);
    fs::write(folder.join("old/two"), "two").expect("a file");
    symlink("old/two", folder.join("link")).expect("a link");
    folder
}

#[test]
fn a_demo_shows_that_a_late_node_gets_all_of_it_although_the_origin_is_gone() {
    let place = Place::new();
    let letters = letters(&place);
    let shown = place.run(&["demo", "--nodes", "4", text(&letters)]).ok();
    assert_eq!(shown["nodes"], 4);
    assert_eq!(shown["bytes"], (3 << 20) + 3);
    assert_eq!(shown["identical"], true);
    assert_eq!((&shown["files"], &shown["kept"]), (&2.into(), &Value::Null));
    assert!(
        shown["cid"]
            .as_str()
            .is_some_and(|cid| cid.starts_with('b'))
    );
    let fetches = shown["fetches"].as_array().expect("a list");
    let nodes: Vec<_> = fetches.iter().map(|fetch| &fetch["node"]).collect();
    assert_eq!(nodes, ["node-01", "node-02", "node-03"]);
    for fetch in fetches {
        let late = fetch["node"] == "node-03";
        assert_eq!(fetch["origin_runs"], !late, "{fetch}");
        let from = fetch["from"].as_array().expect("a list");
        let bytes: u64 = from.iter().filter_map(|it| it["bytes"].as_u64()).sum();
        assert!(bytes >= 3 << 20, "{fetch}");
        let origin = from.iter().any(|source| source["node"] == "node-00");
        assert!(
            !(late && origin),
            "a node that is gone gives nothing: {fetch}"
        );
    }
    place.assert_nothing_is_left();
    assert_eq!(entries(&letters).len(), 3, "what was shared is as it was");
}

#[test]
fn a_demo_that_is_kept_runs_on_and_is_taken_down_as_any_testnet() {
    let place = Place::new();
    let letters = letters(&place);
    let shown = place
        .run(&["demo", "--nodes", "3", "--keep", text(&letters)])
        .ok();
    assert_eq!(shown["kept"], text(&place.dir));
    assert_eq!(
        place.run(&["status"]).ok()["running"],
        2,
        "the origin is gone"
    );
    let copy = place.dir.join("files/node-02/letters/link");
    assert_eq!(fs::read(copy).expect("a copy"), b"two");
    place.run(&["down"]).ok();
    place.assert_nothing_is_left();
}

#[test]
fn a_demo_that_cannot_be_is_refused_before_anything_is_done() {
    let place = Place::new();
    place.run(&["demo", "--nodes", "2"]).fails(2, "usage");
    let missing = place.scratch.path().join("missing");
    let refused = place.run(&["demo", text(&missing)]);
    refused.fails(1, "path_not_found");
    assert!(!place.dir.exists());
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    let check = |signal: Signal, moment: &dyn Fn() -> bool| {
        let mut demo = place
            .command(&["demo"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        wait_for("the moment", || moment().then_some(()));
        kill_process(Pid::from_child(&demo), signal).expect("the process is ours");
        if signal == Signal::KILL {
            demo.wait().expect("it ends");
            place.run(&["down"]).ok();
        } else {
            let ended = demo.wait_with_output().expect("it ends");
            Ran::new(&ended).fails(130, "interrupted");
        }
        place.assert_nothing_is_left();
    };
    let files = place.dir.join("files");
    let starting = || place.listed() > 1;
    let sharing = || files.exists();
    let fetching = || files.join("node-01").exists();
    check(Signal::INT, &starting);
    check(Signal::INT, &sharing);
    check(Signal::INT, &fetching);
    check(Signal::TERM, &fetching);
    check(Signal::KILL, &sharing);
    check(Signal::KILL, &fetching);
}
