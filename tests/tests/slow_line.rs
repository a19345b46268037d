//! A line of 12 kB/s between two network namespaces: what comes over it comes once.
//!
//! The long lines are in `scripts/soak-lines`, which this runs for one short one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]
#![cfg(target_os = "linux")]

use std::{path::Path, process::Command};

use shoal_tests::shoal;

#[test]
fn a_block_comes_over_a_slow_line_in_one_go() {
    let is_root = rustix::process::geteuid().is_root();
    let has_tc = Command::new("tc").arg("-V").output().is_ok();
    if !is_root || !has_tc {
        eprintln!("skipped: network namespaces with a token bucket take root and tc");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/soak-lines");
    // 10 s at best; what the machine is busy with besides is not judged here.
    let args = [
        "--rate", "96", "--queue", "64", "--bytes", "120000", "--bar", "3",
    ];
    let ran = Command::new(script)
        .args(args)
        .env("SHOAL_BIN", shoal())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}{errors}");
}
