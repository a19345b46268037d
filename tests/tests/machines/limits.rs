//! Limits of the system that are too low: they are named, with a code of their own, and nothing panics
//! or hangs.

use std::process::{Child, Output, Stdio};

use shoal_tests::{Daemon, Ran, text, wait_for, write_content};

use super::{Account, User, is_root};

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
    let link = "bafkr4if3lbq7rs2vbalcff5b2spnw2abmgupbhna2qtlzzyc54ah34hk4q";
    let check = |limit: &str, says: &[&str]| {
        for args in [
            &["daemon"][..],
            &["daemon", "--detach"],
            &["fetch", link, "-o", "got"],
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
