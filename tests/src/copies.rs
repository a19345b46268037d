//! A network on this machine in which nodes keep copies for others.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, scratch, text, write_content};

/// Three runs of leaves, so that each of two homes has a part.
pub const FILE_BYTES: usize = 10 << 20;

/// Slow enough that a fetch lasts a second or two, so that nobody is asked too late.
pub const SLOW: &str = "[limits]\ndown = '40mbit'\n";

/// Helps from the first moment on.
pub const HELPS: &str = "[replicas]\nwarmup = '0s'\n";

/// A network of which all nodes are on this machine, and so near.
pub struct World {
    /// Where everything lies.
    pub dir: TempDir,
    /// Shares, and helps nobody.
    pub origin: Daemon,
    /// Those that help.
    pub helpers: Vec<Daemon>,
}

impl World {
    /// An origin, and so many nodes that help.
    #[must_use]
    pub fn new(helpers: usize) -> Self {
        let dir = scratch();
        let first = start(&dir, "helper-0", HELPS, &[]);
        let origin = start(&dir, "origin", "[replicas]\nscope = 'off'\n", &[&first]);
        let mut all = vec![first];
        for n in 1..helpers {
            let next = start(&dir, &format!("helper-{n}"), HELPS, &[&all[0]]);
            all.push(next);
        }
        Self {
            dir,
            origin,
            helpers: all,
        }
    }

    /// A daemon that fetches for others, asks, and does not help: it has not run for long enough.
    #[must_use]
    pub fn fetcher(&self, name: &str) -> Daemon {
        self.fetcher_among(self.helpers.len() as u64, name)
    }

    /// The same, where so many help.
    #[must_use]
    pub fn fetcher_among(&self, helpers: u64, name: &str) -> Daemon {
        let fetcher = start(&self.dir, name, SLOW, &[&self.helpers[0]]);
        fetcher.wait_for_helpers(helpers);
        fetcher
    }

    /// A file of [`FILE_BYTES`], of a content of its own.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        write_content(&path, name, FILE_BYTES);
        path
    }

    /// Fetches without keeping it.
    ///
    /// # Panics
    /// When nothing is fetched.
    pub fn fetch_and_forget(&self, fetcher: &Daemon, link: &str, name: &str) -> Value {
        let output = self.dir.path().join(format!("got-{name}"));
        let fetched = fetcher
            .run(&["fetch", link, "--no-serve", "-o", text(&output)])
            .ok();
        fs::remove_file(output).expect("what was fetched");
        fetched
    }
}

/// Starts a node on a home with this configuration.
pub fn start(dir: &TempDir, name: &str, config: &str, bootstrap: &[&Daemon]) -> Daemon {
    let home = dir.path().join(name);
    configure(&home, config);
    Daemon::start(&home, bootstrap)
}

/// Makes a home with this configuration.
///
/// # Panics
/// When the disk refuses.
pub fn configure(home: &Path, config: &str) {
    fs::create_dir_all(home).expect("a folder");
    fs::write(home.join("config.toml"), config).expect("a file");
}
