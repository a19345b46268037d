//! What people's disks and files do to a node: they hang, they are moved, they are touched.

#![allow(clippy::unwrap_used)]

mod hanging;
#[cfg(target_os = "linux")]
mod kept;
mod own;
mod places;
mod preserved;
#[cfg(target_os = "linux")]
mod refusals;
mod same_bytes;
#[cfg(target_os = "linux")]
mod sparse;
#[cfg(target_os = "linux")]
mod stick;

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use shoal_tests::{Daemon, Ran, command, scratch, text, wait_for};
use tempfile::TempDir;

/// A node that shares and one that fetches, with a folder for their files.
struct World {
    dir: TempDir,
    sharer: Daemon,
    fetcher: Daemon,
}

impl World {
    fn new() -> Self {
        let dir = scratch();
        let sharer = Daemon::start(&dir.path().join("sharer"), &[]);
        let fetcher = Daemon::start(&dir.path().join("fetcher"), &[&sharer]);
        Self {
            dir,
            sharer,
            fetcher,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Shares a path and returns its link, which names the sharer.
    fn share(&self, path: &Path) -> String {
        self.sharer.share(path)["link"].as_str().unwrap().to_owned()
    }

    /// Tries to fetch a link to `name`.
    fn fetch(&self, link: &str, name: &str) -> Ran {
        let to = self.path(name);
        let args = [
            "fetch",
            link,
            "-o",
            text(&to),
            "--timeout",
            "5s",
            "--no-serve",
        ];
        self.fetcher.run(&args)
    }
}

/// A command that runs on while the test does something else.
struct Running(Child);

impl Running {
    fn start(home: &Path, args: &[&str]) -> Self {
        let mut command = command(home, args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// What it came to, once it has ended.
    fn end(mut self) -> Ran {
        wait_for("the end of a command", || {
            (!self.is_running()).then_some(())
        });
        Ran::new(&self.0.wait_with_output().unwrap())
    }
}

/// Runs a command that has to end although a disk hangs.
fn run(daemon: &Daemon, args: &[&str]) -> Ran {
    Running::start(daemon.home(), args).end()
}

/// The warnings that a status tells.
fn warnings(daemon: &Daemon) -> Vec<String> {
    let status = run(daemon, &["status"]).ok();
    let warnings = status["warnings"].as_array().unwrap().iter();
    warnings.map(|it| it.as_str().unwrap().to_owned()).collect()
}
