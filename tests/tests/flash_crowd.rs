//! A crowd wants the same from one line: with `replicas.offers`, helpers near its members are named,
//! offered copies and take them; without, nothing of that happens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fmt::Write as _, fs, path::Path};

use shoal_tests::{Ran, command, scratch, text};

/// In each of four regions one reader wants it, which is too few for the helpers there to pull anything
/// for asks.
const REGIONS: [&str; 4] = ["a", "b", "c", "d"];

/// What has to hold whether copies are offered or not.
const ALWAYS: [&str; 3] = ["no-wrong-bytes", "quotas-kept", "pulls-accounted"];
const OFFERED: &str = "offers-accepted >= 4";

fn scenario(offers: bool) -> String {
    let mut text = format!(
        r#"
name = "small-crowd"
mode = "in-process"
limit = "45s"
settings = ["replicas.offers={offers}", "replicas.warmup=0s", "replicas.diversity=all"]

[[group]]
name = "origin"
count = 1
link = {{ up = "5mbit", down = "50mbit", latency = "40ms" }}

[[content]]
name = "news"
size = "8MiB"
owner = "group:origin"
"#
    );
    let mut readers = Vec::new();
    for region in REGIONS {
        for (name, count, up) in [("standing", 3, 20), ("reader", 1, 2)] {
            write!(
                text,
                r#"
[[group]]
name = "{name}-{region}"
region = "{region}"
count = {count}
link = {{ up = "{up}mbit", down = "50mbit", latency = "40ms" }}
"#
            )
            .unwrap();
        }
        write!(
            text,
            "\n[[link]]\nfrom = \"region:{region}\"\nto = \"region:{region}\"\nlatency = \"5ms\"\n"
        )
        .unwrap();
        readers.push(format!("group:reader-{region}"));
    }
    let readers = readers.join(", ");
    // The nodes know their neighbours by then.
    write!(
        text,
        "\n[[event]]\nat = \"5s\"\ndo = \"fetch\"\nnodes = \"{readers}\"\n"
    )
    .unwrap();
    for that in ALWAYS.into_iter().chain([OFFERED]) {
        write!(text, "\n[[assert]]\nthat = \"{that}\"\n").unwrap();
    }
    text
}

fn run(offers: bool) -> Ran {
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("small-crowd.toml"), scenario(offers)).unwrap();
    fs::create_dir(at("run")).unwrap();
    let mut command = command(Path::new("/nonexistent"), &["testnet", "run"]);
    command
        .arg(at("small-crowd.toml"))
        .args(["--dir", text(&at("net"))])
        .args(["--out", text(&at("report"))])
        .env("XDG_RUNTIME_DIR", at("run"));
    Ran::new(&command.output().unwrap())
}

#[test]
fn helpers_near_a_crowd_take_the_copies_that_they_are_offered() {
    let ran = run(true).ok();
    assert_eq!(ran["passed"], true, "{ran}");
}

#[test]
fn without_offers_nobody_takes_any() {
    let ran = run(false);
    ran.fails(1, "not_held");
    let assertions = ran.json["assertions"].as_array().unwrap().iter();
    let broken: Vec<_> = assertions.filter(|it| it["held"] == false).collect();
    assert_eq!(broken.len(), 1, "{ran:?}");
    assert_eq!(broken[0]["that"], OFFERED);
    assert_eq!(broken[0]["seen"], "0", "{ran:?}");
}
