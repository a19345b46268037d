//! Machines whose clock is plainly wrong: without a battery it says 1970 until somebody sets it.

use std::{path::Path, path::PathBuf, process::Command, time::SystemTime};

use shoal_tests::{assert_same_file, text, write_content};

use super::{Account, Background, User};

/// Shifts the time of day of a program by the seconds in `CLOCK_OFF`.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long off(void) {
  const char *text = getenv("CLOCK_OFF");
  return text ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int done = real(clock, at);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += off();
  return done;
}
time_t time(time_t *to) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (to) *to = at.tv_sec;
  return at.tv_sec;
}
int gettimeofday(struct timeval *to, void *zone) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  to->tv_sec = at.tv_sec;
  to->tv_usec = at.tv_nsec / 1000;
  return 0;
}
"#;

fn shim(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SHIM).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "cc links Rust, too"
    );
    library
}

/// Starts a daemon that believes it is `at`, in seconds since 1970.
fn start_at<'a>(account: &'a Account, shim: &Path, name: &str, at: u64) -> Background<'a> {
    let home = account.folder(name);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let off = i128::from(at) - i128::from(now.unwrap().as_secs());
    let started = account
        .command(&[], &home, &["daemon", "--detach"])
        .env("LD_PRELOAD", shim)
        .env("CLOCK_OFF", off.to_string())
        .output()
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    Background { account, home }
}

/// A day that a test has a machine believe in.
struct Day {
    name: &'static str,
    /// In seconds since 1970.
    at: u64,
    is_plainly_wrong: bool,
}

#[test]
fn nodes_share_and_fetch_whatever_their_clocks_say() {
    let account = Account::of(User::Nobody);
    let shim = shim(account.dir.path());
    let file = account.path("file");
    write_content(&file, "file", 3_000_000);
    account.give(&file);
    let right = account.start(&account.folder("right"));
    let shared = right.run(&["share", text(&file)]).ok();
    let link = shared["link_long"].as_str().unwrap();
    assert!(!right.warnings().iter().any(|it| it.contains("clock")));
    let day = |name, at, is_plainly_wrong| Day {
        name,
        at,
        is_plainly_wrong,
    };
    for Day {
        name,
        at,
        is_plainly_wrong,
    } in [
        day("1970-01-01", 60, true),
        day("1974-12-31", 157_680_000, true),
        day("2038-01-20", 2_147_558_400, false),
        day("2100-01-01", 4_102_444_800, true),
    ] {
        let wrong = start_at(&account, &shim, name, at);
        let place = account.folder(&format!("{name}-files"));
        let (there, back) = (place.join("there"), place.join("back"));
        wrong.run(&["fetch", link, "-o", text(&there)]).ok();
        assert_same_file(&file, &there);
        let own = place.join("own");
        write_content(&own, name, 1_000_000);
        account.give(&own);
        let shared = wrong.run(&["share", text(&own)]).ok();
        let own_link = shared["link_long"].as_str().unwrap();
        right.run(&["fetch", own_link, "-o", text(&back)]).ok();
        assert_same_file(&own, &back);

        let warning = wrong.warnings().into_iter().find(|it| it.contains("clock"));
        assert_eq!(warning.is_some(), is_plainly_wrong, "{name}: {warning:?}");
        assert!(warning.is_none_or(|it| it.contains(name) && it.contains("set it")));
        // Nobody is there: then the clock is the first thing to look at.
        let unknown = "bafkr4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";
        let none = place.join("none");
        let args = ["fetch", unknown, "-o", text(&none), "--timeout", "1s"];
        let refused = wrong.run(&args);
        refused.fails(3, "not_found");
        let hint = refused.json["error"]["hint"].as_str().unwrap();
        assert_eq!(hint.contains("clock"), is_plainly_wrong, "{hint}");
    }
}
