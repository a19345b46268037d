//! Limits of the system that are too low: they are named, with a code of their own, and nothing panics
//! or hangs.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use shoal_tests::{Daemon, Ran, text, wait_for, write_content};

use super::{Account, User, is_root};

/// A link to what nobody has.
const UNKNOWN: &str = "bafkr4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";

/// Runs a command that has to end.
fn end(mut child: Child) -> Output {
    wait_for("the end of a command", || child.try_wait().unwrap());
    child.wait_with_output().unwrap()
}

fn limited(account: &Account, limit: &str, args: &[&str]) -> Ran {
    let home = account.path("home");
    let mut command = account.command(&["prlimit", limit], &home, args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ran::new(&end(command.spawn().unwrap()))
}

#[test]
fn a_node_that_cannot_start_says_which_limit_is_too_low() {
    let account = Account::of(User::Limited);
    account.folder("home");
    let check = |limit: &str, says: &[&str]| {
        for args in [
            &["daemon"][..],
            &["daemon", "--detach"],
            &["fetch", UNKNOWN, "-o", "got"],
        ] {
            let refused = limited(&account, limit, args);
            refused.fails(6, "system_limit");
            let error = refused.json["error"].to_string();
            for word in says {
                assert!(error.contains(word), "{limit} {args:?}: {error}");
            }
            assert!(
                !refused.stderr.contains("panic"),
                "{limit} {args:?}: {refused:?}"
            );
        }
    };
    check("--nofile=64:64", &["64 files", "`ulimit -n`", "raise"]);
    let memory = format!("--as={}", 150 << 20);
    check(&memory, &["150.0 MiB", "`ulimit -v`", "raise"]);
    if is_root() {
        // As another user, who runs nothing else.
        check("--nproc=2", &["threads", "`ulimit -u` is 2", "raise"]);
        check("--nproc=12", &["threads", "`ulimit -u` is 12", "raise"]);
    }
}

/// A control group that lets so many threads run in it; gone when dropped.
struct Group(PathBuf);

impl Group {
    /// A new one of the first kind that this machine has; none, with a word on why, where it has none or
    /// makes none.
    fn new(threads: u32) -> Option<Self> {
        let name = format!("shoal-test-{}", std::process::id());
        let roots = [
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/unified",
        ];
        for root in roots.map(Path::new) {
            let group = Self(root.join(&name));
            let is_limited = fs::create_dir(&group.0).is_ok()
                && fs::write(group.0.join("pids.max"), threads.to_string()).is_ok();
            if is_limited {
                return Some(group);
            }
        }
        #[expect(clippy::print_stderr, reason = "a test that does nothing says why")]
        {
            eprintln!("skipped: no control group can be made here");
        }
        None
    }

    /// Runs a command in it that has to end.
    fn run(&self, account: &Account, args: &[&str]) -> Ran {
        let procs = self.0.join("cgroup.procs");
        let join = "echo $$ >\"$0\" && exec \"$@\"";
        let before = ["sh", "-c", join, text(&procs)];
        // As root, whom a group limits like everybody.
        let mut command = account.command(&before, &account.path("home"), args);
        command.uid(0).gid(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ran::new(&end(command.spawn().unwrap()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that was not made is not there.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_control_group_with_too_few_threads_is_named() {
    if !is_root() {
        return;
    }
    let account = Account::of(User::Limited);
    let Some(group) = Group::new(9) else {
        return;
    };
    for args in [&["daemon"][..], &["fetch", UNKNOWN, "-o", "got"]] {
        let refused = group.run(&account, args);
        refused.fails(6, "system_limit");
        let error = refused.json["error"].to_string();
        for word in ["threads", "the control group has 9", "`pids.max`", "raise"] {
            assert!(error.contains(word), "{args:?}: {error}");
        }
        // What is not reached is not named.
        assert!(!error.contains("ulimit"), "{args:?}: {error}");
        assert!(!refused.stderr.contains("panic"), "{args:?}: {refused:?}");
    }
}

/// The system says only that a process has ended itself.
#[test]
#[cfg(target_os = "linux")]
fn an_abort_is_put_down_to_memory_only_where_none_is_left() {
    const FAR_BYTES: u64 = 16 << 30;
    let account = Account::of(User::Nobody);
    for is_reached in [false, true] {
        let home = account.folder(&format!("home-{is_reached}"));
        let limit = format!("--as={FAR_BYTES}");
        let mut command = account.command(&["prlimit", &limit], &home, &["daemon"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let daemon = command.spawn().unwrap();
        wait_for("a daemon", || {
            let status = account.run(&home, &["status"]);
            status.code.filter(|code| *code == 0)
        });
        let pid = daemon.id().to_string();
        if is_reached {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let size = status.lines().find_map(|it| it.strip_prefix("VmSize:"));
            let size = size.unwrap().trim().trim_end_matches(" kB");
            let bytes = size.parse::<u64>().unwrap() << 10;
            let mut lower = Command::new("prlimit");
            lower.args(["--pid", &pid, &format!("--as={bytes}")]);
            if let Some(user) = account.user {
                lower.uid(user).gid(user);
            }
            assert!(lower.status().unwrap().success());
        }
        let aborted = Command::new("kill").args(["-ABRT", &pid]).status();
        assert!(aborted.unwrap().success());
        let ended = end(daemon);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(said.contains("no more memory"), is_reached, "{said}");
        let expected = match is_reached {
            true => (Some(6), None),
            false => (None, Some(6)),
        };
        assert_eq!(
            (ended.status.code(), ended.status.signal()),
            expected,
            "{said}"
        );
    }
}

#[test]
fn a_command_without_a_thread_to_be_had_says_so() {
    if !is_root() {
        return;
    }
    let account = Account::of(User::Limited);
    account.folder("home");
    let refused = limited(&account, "--nproc=1", &["status"]);
    refused.fails(6, "system_limit");
    assert!(!refused.stderr.contains("panic"), "{refused:?}");
}

#[test]
fn a_node_works_with_little_more_than_it_asks_for() {
    let account = Account::of(User::Nobody);
    let sharer = Daemon::start(&account.path("sharer"), &[]);
    let source = account.path("source");
    for number in 0..300 {
        write_content(&source.join(number.to_string()), "many", 5000);
    }
    let link = sharer.share(&source)["link_long"]
        .as_str()
        .unwrap()
        .to_owned();
    account.folder("home");
    let into = account.folder("into");
    for (limit, name) in [("--nofile=128:128", "files"), ("--as=419430400", "memory")] {
        let got = into.join(name);
        let ran = limited(&account, limit, &["fetch", &link, "-o", text(&got)]);
        ran.ok();
        shoal_tests::assert_same_tree(&source, &got);
    }
}

/// The largest file that a process may make; beyond it the system sends SIGXFSZ, which ends a process
/// that does not expect it.
#[test]
fn a_file_that_is_too_large_for_the_process_is_an_error_and_not_its_end() {
    const FILE_BYTES_MAX: usize = 16 << 20;
    let account = Account::of(User::Nobody);
    let sharer = Daemon::start(&account.path("sharer"), &[]);
    let source = account.path("source");
    write_content(&source, "large", 2 * FILE_BYTES_MAX);
    let link = sharer.share(&source)["link_long"]
        .as_str()
        .unwrap()
        .to_owned();
    let (home, into) = (account.folder("home"), account.folder("into"));
    let limit = format!("--fsize={FILE_BYTES_MAX}");
    let daemon = account
        .command(&["prlimit", &limit], &home, &["daemon"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a daemon", || {
        account
            .run(&home, &["status"])
            .code
            .filter(|code| *code == 0)
    });
    let got = into.join("got");
    let refused = account.run(&home, &["fetch", &link, "-o", text(&got)]);
    refused.fails(6, "system_limit");
    let message = refused.json["error"]["message"].as_str().unwrap();
    let number = FILE_BYTES_MAX.to_string();
    for word in [text(&got), &number, "`ulimit -f`"] {
        assert!(message.contains(word), "{message}");
    }
    account.run(&home, &["status"]).ok();
    account.run(&home, &["stop"]).ok();
    assert_eq!(end(daemon).status.code(), Some(0));
}
