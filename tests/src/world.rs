//! A daemon that shares, and a place for the homes and the files of those who fetch from it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, scratch, text, write_content};

/// A sharer and its surroundings, all in one folder that goes when dropped.
pub struct World {
    /// The folder.
    pub dir: TempDir,
    /// The daemon that shares.
    pub sharer: Daemon,
}

impl World {
    /// A sharer that shares nothing yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a process")]
    pub fn new() -> Self {
        let dir = scratch();
        let sharer = Daemon::start(&dir.path().join("sharer"), &[]);
        Self { dir, sharer }
    }

    /// Writes a file that can be shared.
    #[must_use]
    pub fn file(&self, name: &str, len: usize) -> PathBuf {
        let path = self.dir.path().join("files").join(name);
        write_content(&path, name, len);
        path
    }

    /// Shares a path.
    #[must_use]
    pub fn share(&self, path: &Path, args: &[&str]) -> Value {
        let args = [&["share", text(path)], args].concat();
        self.sharer.run(&args).ok()
    }

    /// The link to a new share of a small file.
    ///
    /// # Panics
    /// When it cannot be shared.
    #[must_use]
    pub fn link(&self, name: &str) -> String {
        let shared = self.share(&self.file(name, 1000), &[]);
        shared["link"].as_str().expect("a link").to_owned()
    }

    /// Another daemon.
    #[must_use]
    pub fn daemon(&self, name: &str) -> Daemon {
        Daemon::start(&self.dir.path().join(name), &[])
    }

    /// Where something can be fetched to.
    ///
    /// # Panics
    /// When there is no room for its folder.
    #[must_use]
    pub fn output(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join("got");
        fs::create_dir_all(&folder).expect("a folder");
        folder.join(name)
    }
}
