//! Odd users and odd machines: folders that may be entered and not listed, files that may not be read,
//! limits that are too low, clocks that are wrong.
//!
//! Permissions and some limits mean nothing to root. Where a test runs as root, what it starts runs as
//! another user.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clock;
mod limits;
mod passing;
mod unreadable;

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use shoal_tests::{Ran, copy_of_shoal, scratch};
use tempfile::TempDir;

/// Users of whom nobody else runs anything: limits on threads count all that a user runs.
#[derive(Clone, Copy, Debug)]
enum User {
    Nobody = 65534,
    Limited = 65123,
}

/// A folder for a user who is not root, with a copy of the binary that they may run.
struct Account {
    dir: TempDir,
    program: PathBuf,
    user: Option<u32>,
}

impl Account {
    /// Whoever runs the tests, or `user` where that is root.
    fn of(user: User) -> Self {
        let dir = scratch();
        let program = dir.path().join("shoal");
        copy_of_shoal(&program);
        set_mode(dir.path(), 0o755);
        Self {
            dir,
            program,
            user: is_root().then_some(user as u32),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives a path, and all below it, to the user.
    fn give(&self, path: &Path) {
        let Some(user) = self.user else { return };
        chown(path, Some(user), Some(user)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.give(&entry.unwrap().path());
            }
        }
    }

    /// Makes a folder of the user's.
    fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        self.give(&path);
        path
    }

    /// A command on a home that runs as the user, its node on loopback; `before` starts it, as
    /// `prlimit` does.
    fn command(&self, before: &[&str], home: &Path, args: &[&str]) -> Command {
        let program = self.program.to_str().unwrap();
        let line: Vec<&str> = before.iter().copied().chain([program]).collect();
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(["--json", "--home"])
            .arg(home)
            .args(args)
            .current_dir(self.dir.path())
            .env("SHOAL_NETWORK_MDNS", "false")
            .env("SHOAL_NETWORK_LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env_remove("SHOAL_LOG")
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn run(&self, home: &Path, args: &[&str]) -> Ran {
        Ran::new(&self.command(&[], home, args).output().unwrap())
    }

    /// Starts a daemon in the background, as the user.
    fn start(&self, home: &Path) -> Background<'_> {
        self.run(home, &["daemon", "--detach"]).ok();
        Background {
            account: self,
            home: home.to_owned(),
        }
    }
}

/// A daemon in the background; stopped when dropped.
struct Background<'a> {
    account: &'a Account,
    home: PathBuf,
}

impl Background<'_> {
    fn run(&self, args: &[&str]) -> Ran {
        self.account.run(&self.home, args)
    }

    /// The warnings that a status tells.
    fn warnings(&self) -> Vec<String> {
        let status = self.run(&["status"]).ok();
        let warnings = status["warnings"].as_array().unwrap().iter();
        warnings.map(|it| it.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        // A test that has failed already is not to fail here again.
        let _ = self.run(&["stop", "--kill", "--timeout", "10s"]);
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
