//! Processes that die at a moment of a test's choosing: this test binary again, running one test only,
//! which does its work, says a word and waits.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// Says its word to who is to kill this process, and waits for that.
pub(crate) fn await_death(word: &str) -> ! {
    // The harness captures what is printed; its real standard output is the parent's pipe.
    let mut out = fs::File::options()
        .write(true)
        .open("/proc/self/fd/1")
        .unwrap();
    out.write_all(format!("\nword {word}\n").as_bytes())
        .unwrap();
    loop {
        std::thread::park();
    }
}

/// Runs the test of this name in a process with these variables, and kills it when it says its word,
/// which is returned.
pub(crate) fn killed<'a>(
    test: &str,
    variables: impl IntoIterator<Item = (&'a str, &'a OsStr)>,
) -> String {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(variables)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let word = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("word ").map(str::to_owned));
    child.kill().unwrap();
    child.wait().unwrap();
    word.expect("the child says its word")
}
