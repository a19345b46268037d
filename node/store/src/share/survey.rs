//! How much there is to share, found out before it is hashed.
//!
//! A survey goes over the same entries as the [`Walk`](super::walk::Walk), only to add up sizes,
//! on a thread of its own: some microseconds an entry, so it is done long before the hashing. It
//! decides nothing. What it cannot look at ends it without a result; the walk says why. It ends by
//! itself, on cancellation, or when its handle is dropped.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Scope;

use shoal_protocol::unixfs::ENTRIES_MAX;
use tokio_util::sync::CancellationToken;

use super::place::{SharePlace, last_name};
use super::walk::Excludes;

/// What there is in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A handle to a survey; dropping it ends the survey. The default one never finds anything.
#[derive(Default)]
pub(super) struct Survey {
    found: Arc<OnceLock<Totals>>,
    stop: Arc<AtomicBool>,
}

impl Survey {
    /// Starts to look at `place` on a thread of `scope`.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        place: &'scope SharePlace,
        excludes: &'scope Excludes,
        cancel: &'scope CancellationToken,
    ) -> io::Result<Self> {
        let survey = Self {
            found: Arc::default(),
            stop: Arc::default(),
        };
        let (found, stop) = (Arc::clone(&survey.found), Arc::clone(&survey.stop));
        let looking = move || {
            let mut surveyor = Surveyor {
                excludes,
                cancel,
                stop: &stop,
                totals: Totals::default(),
                folders: Vec::new(),
                entries: 0,
            };
            if surveyor.place(place).is_ok() {
                // This thread is the only one that sets it, and sets it once.
                let _ = found.set(surveyor.totals);
            }
        };
        std::thread::Builder::new()
            .name("shoal-survey".to_owned())
            .spawn_scoped(scope, looking)?;
        Ok(survey)
    }

    /// What it found, once it is done.
    pub(super) fn totals(&self) -> Option<Totals> {
        self.found.get().copied()
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A survey in progress.
struct Surveyor<'a> {
    excludes: &'a Excludes,
    cancel: &'a CancellationToken,
    stop: &'a AtomicBool,
    totals: Totals,
    /// Folders still to be looked into.
    folders: Vec<Folder>,
    entries: usize,
}

struct Folder {
    path: PathBuf,
    /// Its path in the tree that is shared, for patterns.
    tree_path: PathBuf,
}

/// Why there is no result: it was stopped, or something cannot be looked at.
struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Surveyor<'_> {
    fn place(&mut self, place: &SharePlace) -> Result<(), Ended> {
        if place.selection.is_empty() {
            self.given(place.base.clone(), PathBuf::new())?;
        }
        for below in &place.selection {
            self.given(place.base.join(below), PathBuf::from(last_name(below)))?;
        }
        while let Some(folder) = self.folders.pop() {
            for entry in fs::read_dir(&folder.path)? {
                self.entry(&entry?, &folder)?;
            }
        }
        Ok(())
    }

    /// One of the paths that were asked for.
    fn given(&mut self, path: PathBuf, tree_path: PathBuf) -> Result<(), Ended> {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            self.folders.push(Folder { path, tree_path });
        } else if metadata.is_file() {
            self.add(metadata.len());
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry, folder: &Folder) -> Result<(), Ended> {
        self.entries += 1;
        let stopped = self.stop.load(Ordering::Relaxed) || self.cancel.is_cancelled();
        if stopped || self.entries > ENTRIES_MAX {
            return Err(Ended);
        }
        let name = entry.file_name();
        let place = (folder.tree_path.as_path(), Path::new(&name));
        let left_out = self
            .excludes
            .reason(&entry.path(), place, entry.file_type());
        if left_out.is_some() {
            return Ok(());
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            self.folders.push(Folder {
                path: folder.path.join(&name),
                tree_path: folder.tree_path.join(&name),
            });
        } else if kind.is_file() {
            self.add(entry.metadata()?.len());
        }
        Ok(())
    }

    fn add(&mut self, bytes: u64) {
        self.totals.files += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;
    use crate::share::walk::{Walk, WalkStep};

    /// What a survey that is waited for finds.
    fn survey(
        place: &SharePlace,
        excludes: &Excludes,
        cancel: &CancellationToken,
    ) -> Option<Totals> {
        // The threads of a scope are joined at its end; the handle outlives it.
        let survey =
            std::thread::scope(|scope| Survey::start(scope, place, excludes, cancel).unwrap());
        survey.totals()
    }

    /// What the walk comes to.
    fn walked(place: &SharePlace, excludes: &Excludes) -> Totals {
        let mut walk = Walk::new(place, excludes);
        let mut totals = Totals::default();
        while let Some(step) = walk.next().unwrap() {
            if let WalkStep::File { below, .. } = step {
                totals.files += 1;
                totals.bytes += place.path(&below).metadata().unwrap().len();
            }
        }
        totals
    }

    #[test]
    fn a_survey_comes_to_what_the_walk_comes_to() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a/deep", "empty", "target"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for (size, file) in ["a/x", "a/deep/y.o", "b.o", ".hidden", "target/z", "é"]
            .iter()
            .enumerate()
        {
            fs::write(dir.path().join(file), vec![0; size * 1000]).unwrap();
        }
        symlink("a", dir.path().join("link")).unwrap();

        let check = |base: &str, selection: &[&str], exclude: &[&str], files: u64| {
            let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
            let selection: Vec<String> = owned(selection);
            let exclude: Vec<String> = owned(exclude);
            let place = SharePlace {
                base: dir.path().join(base),
                selection,
                name: "top".to_owned(),
                written: None,
            };
            let excludes = Excludes::new(&exclude, Path::new("/no/home")).unwrap();
            let found = survey(&place, &excludes, &CancellationToken::new()).unwrap();
            assert_eq!(found, walked(&place, &excludes), "{place:?} {exclude:?}");
            assert_eq!(found.files, files, "{place:?} {exclude:?}");
        };
        check("", &[], &[], 6);
        check("", &[], &["*.o", "target"], 3);
        check("", &[], &["a/*"], 4);
        check("a/x", &[], &[], 1);
        check("empty", &[], &[], 0);
        check("", &["a", "b.o"], &[], 3);
        check("", &["a", "b.o"], &["a/x"], 2);
    }

    #[test]
    fn a_survey_that_cannot_finish_has_no_result() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "x").unwrap();
        let place = |base: &Path| SharePlace {
            base: base.to_owned(),
            selection: Vec::new(),
            name: "top".to_owned(),
            written: None,
        };
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        let none = Excludes::none();
        assert_eq!(survey(&place(dir.path()), &none, &cancelled), None);
        let gone = place(&dir.path().join("gone"));
        assert_eq!(survey(&gone, &none, &CancellationToken::new()), None);
    }
}
