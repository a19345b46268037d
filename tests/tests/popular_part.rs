//! Of a film whose beginning everybody watches, only the beginning gets copies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use shoal_tests::{Daemon, copies::World, shoal, wait_for, write_content};

const MIB: usize = 1 << 20;
const FILM: usize = 96 * MIB;
const WATCHED: usize = 12 * MIB;

/// What may be on its way from the film's provider to somebody who stops watching: what a stream has
/// asked for ahead, and what pipes and sockets hold.
const AHEAD: usize = 16 * MIB;

/// Watches the beginning of a film, and stops.
fn watch(node: &Daemon, cid: &str) {
    let mut command = Command::new(shoal());
    command.arg("--home").arg(node.home());
    let mut child = command
        .args(["fetch", "--stdout", cid])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut seen = vec![0; WATCHED];
    stdout.read_exact(&mut seen).unwrap();
    drop(stdout);
    child.wait().unwrap();
}

fn kept(node: &Daemon) -> u64 {
    let listed = node.run(&["replicas", "ls"]).ok();
    let replicas = listed["replicas"].as_array().unwrap().iter();
    let leaves = |it: &Value| it["leaves"].as_u64().unwrap();
    replicas.map(leaves).sum()
}

#[test]
fn the_beginning_of_a_film_spreads_and_nothing_else_does() {
    let world = World::new(2);
    let film = world.dir.path().join("film");
    write_content(&film, "film", FILM);
    let shared = world.origin.share(&film);
    let cid = shared["cid"].as_str().unwrap();
    for name in ["first", "second", "third"] {
        watch(&world.fetcher(name), cid);
    }
    wait_for("copies of the beginning", || {
        let is_done =
            |it: &Daemon| it.number("shoal_replica_pulls_ended_total{outcome=\"complete\"}") > 0;
        world.helpers.iter().any(is_done).then_some(())
    });
    let leaves: u64 = world.helpers.iter().map(kept).sum();
    let most = (WATCHED + AHEAD) / MIB;
    assert!(
        (4..=most as u64).contains(&leaves),
        "{leaves} of {} leaves",
        FILM / MIB
    );
}
