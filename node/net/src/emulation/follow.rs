//! A plan in a file, which every daemon of a test network reads and follows.
//!
//! Who changes the plan replaces the file by a rename, so that what is read is whole. A file that
//! cannot be read, or is gone, leaves the last plan in force.

use std::{
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Emulator, Plan};

/// How often is looked whether the file was replaced: a change is in force about this soon.
const POLL: Duration = Duration::from_millis(100);

/// The longest file: 10,000 nodes take about 200 bytes each, and as many rules no more.
const BYTES_MAX: u64 = 16 << 20;

/// A plan in a file, and the emulator that it is for.
#[derive(Debug)]
pub struct LinksFile {
    path: PathBuf,
    read: Stamp,
    emulator: Emulator,
}

/// What tells one file from the one that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
}

impl LinksFile {
    /// Reads the plan. Blocking.
    ///
    /// # Errors
    /// When there is no file, or no plan in it; the message says which file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (plan, read) = load(path).map_err(|error| {
            let what = format!("no plan for links in {}: {error}", path.display());
            io::Error::new(error.kind(), what)
        })?;
        Ok(Self {
            path: path.to_owned(),
            read,
            emulator: Emulator::new(plan),
        })
    }

    /// The network that is emulated.
    #[must_use]
    pub fn emulator(&self) -> Emulator {
        self.emulator.clone()
    }

    /// Puts each plan in force that replaces the last one, until shutdown.
    pub async fn follow(mut self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let (path, known) = (self.path.clone(), self.read);
            let looked = tokio::task::spawn_blocking(move || {
                let there = Stamp::of(&path.metadata()?);
                if there == known {
                    return Ok(None);
                }
                load(&path).map(Some)
            });
            match looked
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            {
                Ok(None) => {}
                Ok(Some((plan, read))) => {
                    tracing::info!(version = plan.version, "the plan for links has changed");
                    self.read = read;
                    self.emulator.apply(plan);
                }
                Err(error) => {
                    tracing::debug!(%error, "the last plan for links stays in force");
                }
            }
        }
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn load(path: &Path) -> io::Result<(Plan, Stamp)> {
    let file = std::fs::File::open(path)?;
    let read = Stamp::of(&file.metadata()?);
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok((serde_json::from_str(&text)?, read))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_replaced_plan_comes_into_force_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("links.json");
        let error = LinksFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("links.json"), "{error}");
        let replace = |text: &str| {
            let staged = dir.path().join("staged");
            fs::write(&staged, text).unwrap();
            fs::rename(&staged, &path).unwrap();
        };
        replace("{");
        LinksFile::open(&path).unwrap_err();
        replace(r#"{"version": 1}"#);
        let file = LinksFile::open(&path).unwrap();
        let emulator = file.emulator();
        let mut changes = emulator.changes();
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(file.follow(shutdown.clone()));
        replace("{");
        replace(r#"{"version": 2}"#);
        let changed = tokio::time::timeout(Duration::from_secs(60), changes.changed());
        changed.await.unwrap().unwrap();
        assert_eq!(emulator.plan().version, 2);
        shutdown.cancel();
        following.await.unwrap();
    }
}
