//! Machines whose clock is plainly wrong: without a battery it says 1970 until somebody sets it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use serde_json::Value;
use shoal_tests::{assert_same_file, text, wait_for, write_content};

use super::{Account, Background, User, set_mode};

/// Shifts the time of day of a program by the seconds in the file that `CLOCK_OFF` names, as long as it
/// names one that is there.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long off(void) {
  const char *name = getenv("CLOCK_OFF");
  int before = errno, file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  char text[32] = "0";
  if (file >= 0) {
    ssize_t length = read(file, text, sizeof text - 1);
    text[length > 0 ? length : 0] = 0;
    close(file);
  }
  errno = before;
  return atol(text);
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

/// A daemon that believes it is another time, until its clock is set.
struct Wrong<'a> {
    daemon: Background<'a>,
    off: PathBuf,
}

impl<'a> Wrong<'a> {
    /// Starts one that believes it is `at`, in seconds since 1970.
    fn start(account: &'a Account, shim: &Path, name: &str, at: u64, options: &[&str]) -> Self {
        let home = account.folder(name);
        let off = account.path(&format!("{name}-off"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = i128::from(at) - i128::from(now.unwrap().as_secs());
        fs::write(&off, seconds.to_string()).unwrap();
        set_mode(&off, 0o644);
        let started = account
            .command(&[], &home, &[&["daemon", "--detach"], options].concat())
            .env("LD_PRELOAD", shim)
            .env("CLOCK_OFF", &off)
            .output()
            .unwrap();
        assert!(started.status.success(), "{started:?}");
        let daemon = Background { account, home };
        Self { daemon, off }
    }

    /// Has it believe what is true.
    fn set(&self) {
        fs::remove_file(&self.off).unwrap();
    }
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
        let wrong = Wrong::start(&account, &shim, name, at, &[]).daemon;
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

/// Addresses of a node, those of QUIC alone.
fn quic(daemon: &Background<'_>) -> Option<String> {
    let status = daemon.run(&["status"]).ok();
    let addresses = status["addresses"].as_array().unwrap().iter();
    let mut addresses = addresses.filter_map(Value::as_str);
    addresses
        .find(|it| it.contains("/quic-v1"))
        .map(str::to_owned)
}

/// Before 1975 no certificate of QUIC is valid.
#[test]
fn quic_rests_before_1975_and_is_used_once_the_clock_is_set() {
    let both = [
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--listen",
        "/ip4/127.0.0.1/udp/0/quic-v1",
    ];
    let account = Account::of(User::Nobody);
    let shim = shim(account.dir.path());
    let right = account.folder("right");
    let args = [&["daemon", "--detach"], &both[..]].concat();
    account.run(&right, &args).ok();
    let right = Background {
        account: &account,
        home: right,
    };
    let wrong = Wrong::start(&account, &shim, "wrong", 60, &both);
    let (its_clock, wrong) = (&wrong, &wrong.daemon);
    assert_eq!(quic(wrong), None);
    let says_so = || {
        let mut warnings = wrong.warnings().into_iter();
        warnings.any(|it| it.contains("QUIC rests") && it.contains("1970-01-01"))
    };
    assert!(says_so());
    let to_right = quic(&right).unwrap();
    let refused = wrong.run(&["connect", &to_right]);
    refused.fails(1, "unreachable");
    let error = refused.json["error"].to_string();
    assert!(error.contains("QUIC does not work before 1975"), "{error}");

    // The same node by TCP.
    let file = account.path("file");
    write_content(&file, "file", 300_000);
    account.give(&file);
    let shared = right.run(&["share", text(&file)]).ok();
    let link = shared["link_long"].as_str().unwrap();
    let got = account.folder("into").join("got");
    wrong.run(&["fetch", link, "-o", text(&got)]).ok();
    assert_same_file(&file, &got);

    its_clock.set();
    let to_wrong = wait_for("QUIC is listened on", || quic(wrong));
    wait_for("the warning ends", || (!says_so()).then_some(()));
    let other = account.start(&account.folder("other"));
    other.run(&["connect", &to_wrong]).ok();
    wrong.run(&["connect", &to_right]).ok();
    let log = fs::read_to_string(account.path("wrong/log/daemon.log")).unwrap_or_default();
    for says in ["QUIC rests", "QUIC is used from now on"] {
        assert!(log.contains(says), "{says}: {log}");
    }
}
