//! A crowd wants the same from one line, and copies are near most of them before they ask. The small form
//! of the scenario `flash-crowd`, which a build without offers, and one without care for who is near,
//! must fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, path::Path};

use serde_json::Value;
use shoal_tests::{Ran, command, scratch, text};

/// What every node is set to.
const SETTINGS: [&str; 3] = [
    "replicas.warmup=0s",
    "replicas.diversity=all",
    "limits.up=200mbit",
];

/// In each of four regions one reader comes early and one late; both keep nothing. One early reader of
/// a region is too few for its helpers: only what the origin offers brings copies there before the late
/// one comes.
const REGIONS: [&str; 4] = ["a", "b", "c", "d"];

fn scenario(settings: &[&str]) -> String {
    let all: Vec<_> = SETTINGS.iter().chain(settings).collect();
    let mut text = format!(
        r#"
name = "small-crowd"
mode = "in-process"
limit = "1m"
settings = {all:?}

[[group]]
name = "origin"
count = 1
link = {{ up = "10mbit", down = "50mbit", latency = "40ms" }}

[[content]]
name = "news"
size = "8MiB"
owner = "group:origin"
"#
    );
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for region in REGIONS {
        for (name, count, up) in [("standing", 3, 20), ("early", 1, 2), ("late", 1, 2)] {
            write!(
                text,
                r#"
[[group]]
name = "{name}-{region}"
region = "{region}"
count = {count}
link = {{ up = "{up}mbit", down = "50mbit", latency = "40ms" }}
keep = {keep}
"#,
                keep = name == "standing"
            )
            .unwrap();
        }
        write!(
            text,
            "\n[[link]]\nfrom = \"region:{region}\"\nto = \"region:{region}\"\nlatency = \"5ms\"\n"
        )
        .unwrap();
        early.push(format!("group:early-{region}"));
        late.push(format!("group:late-{region}"));
    }
    let (early, late) = (early.join(", "), late.join(", "));
    write!(
        text,
        r#"
# The nodes know their neighbours by then.
[[event]]
at = "5s"
do = "fetch"
nodes = "{early}"

[[event]]
at = "28s"
do = "fetch"
nodes = "{late}"
over = "4s"

[[assert]]
that = "all-fetched"

[[assert]]
that = "no-wrong-bytes"

[[assert]]
that = "quotas-kept"

[[assert]]
that = "pulls-accounted"

[[assert]]
that = "offers-accepted >= 4"

[[assert]]
that = "near-share >= 70%"
nodes = "{late}"

[[assert]]
that = "origin-copies <= 3"
"#
    )
    .unwrap();
    text
}

/// Runs it with further settings.
fn run(settings: &[&str]) -> Ran {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("small-crowd.toml"), scenario(settings)).unwrap();
    fs::create_dir(at("run")).unwrap();
    let mut command = command(Path::new("/nonexistent"), &["testnet", "run"]);
    command
        .arg(at("small-crowd.toml"))
        .args(["--dir", text(&at("net"))])
        .args(["--out", text(&at("report"))])
        .env("XDG_RUNTIME_DIR", at("run"));
    Ran::new(&command.output().unwrap())
}

/// What does not hold.
fn broken(ran: &Ran) -> Vec<String> {
    let assertions = ran.json["assertions"].as_array().unwrap().iter();
    let broken = assertions.filter(|it| it["held"] == false);
    broken
        .map(|it| it["that"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn copies_are_near_a_crowd_before_most_of_it_asks() {
    let ran = run(&[]).ok();
    assert_eq!(ran["passed"], true, "{ran}");
    assert_eq!(ran["totals"]["identical"], Value::from(8), "{ran}");
}

#[test]
fn a_build_without_offers_fails_the_crowd() {
    let ran = run(&["replicas.offers=false"]);
    ran.fails(1, "not_held");
    let broken = broken(&ran);
    let near = "near-share >= 70%".to_owned();
    assert!(broken.contains(&near), "{broken:?}: {ran:?}");
}

#[test]
fn a_build_without_near_ones_first_fails_the_crowd() {
    let ran = run(&["replicas.near=0s"]);
    ran.fails(1, "not_held");
    let broken = broken(&ran);
    let near = "near-share >= 70%".to_owned();
    assert!(broken.contains(&near), "{broken:?}: {ran:?}");
}
