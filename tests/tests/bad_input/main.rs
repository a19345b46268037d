//! Bad input over the real binary: what is refused says so with the right exit code, in words that
//! help, in text and in JSON, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fetching;
mod homes;
mod lines;
mod links;
mod sharing;
mod space;

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::Path};

use shoal_tests::{
    Daemon,
    refused::{Ground, Refusal},
    scratch,
};
use tempfile::TempDir;

/// The user `nobody`: permissions mean nothing to root.
const NOBODY: u32 = 65534;

/// A working directory, a home beside it, and what goes with them when the test is over.
struct World {
    root: TempDir,
    ground: Ground,
}

impl World {
    fn new() -> Self {
        let root = scratch();
        let ground = Ground::below(root.path());
        Self { root, ground }
    }

    /// A place below the working directory.
    fn at(&self, name: &str) -> std::path::PathBuf {
        self.ground.dir.join(name)
    }

    /// A place outside of what is watched.
    fn beside(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn daemon(&self) -> Daemon {
        Daemon::start(&self.ground.home, &[])
    }

    fn check(&self, args: &[&str], exit: i32, code: &str, says: &[&str], advises: &[&str]) {
        self.ground.check(&refusal(args, exit, code, says, advises));
    }
}

fn refusal<'a>(
    args: &[&str],
    exit: i32,
    code: &'a str,
    says: &'a [&'a str],
    advises: &'a [&'a str],
) -> Refusal<'a> {
    Refusal {
        args: args.iter().map(OsString::from).collect(),
        exit,
        code,
        says,
        advises,
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether this process is root, to whom permissions mean nothing and who may mount.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
