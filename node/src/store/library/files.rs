//! Opening the files of shares, and keeping the recent ones open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, openat};

use crate::store::rows::{FileId, FileRow, FileStat, ShareId};

/// Files kept open: peers read a few files each, and a process may have 1,024 descriptors in all.
const OPEN_FILES_MAX: usize = 128;

/// An open file of a share, with the row that it was opened for.
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) row: FileRow,
}

impl OpenFile {
    pub(super) fn stat(&self) -> io::Result<FileStat> {
        Ok(FileStat::of(&self.file.metadata()?))
    }
}

/// The most recently read files, open.
#[derive(Default)]
pub(super) struct OpenFiles(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    files: HashMap<FileId, (u64, Arc<OpenFile>)>,
    uses: u64,
}

impl OpenFiles {
    pub(super) fn recent(&self, id: FileId) -> Option<Arc<OpenFile>> {
        let mut recent = self.lock();
        recent.uses += 1;
        let uses = recent.uses;
        let (used, file) = recent.files.get_mut(&id)?;
        *used = uses;
        Some(Arc::clone(file))
    }

    /// Keeps `file` open, and lets go of the one that was not read for longest when there are too
    /// many.
    pub(super) fn keep(&self, id: FileId, file: Arc<OpenFile>) {
        let mut recent = self.lock();
        recent.uses += 1;
        let uses = recent.uses;
        recent.files.insert(id, (uses, file));
        if recent.files.len() > OPEN_FILES_MAX
            && let Some(oldest) = recent.files.iter().min_by_key(|(_, (used, _))| *used)
        {
            let oldest = *oldest.0;
            recent.files.remove(&oldest);
        }
    }

    pub(super) fn forget(&self, id: FileId) {
        self.lock().files.remove(&id);
    }

    pub(super) fn forget_share(&self, share: ShareId) {
        self.lock()
            .files
            .retain(|_, (_, file)| file.row.share != share);
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file at `path` below `base` for reading, or `base` itself when `path` is empty.
///
/// No component below the parent of `base` may be a symlink, whatever has happened to the tree
/// since it was shared, so a read never leaves it. Never waits on a fifo that took the file's
/// place.
pub(super) fn open_below(base: &Path, path: &str) -> io::Result<File> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (Some(parent), Some(name)) = (base.parent(), base.file_name()) else {
        let root = rustix::fs::open(base, directory, Mode::empty())?;
        return open_relative(root.into(), Path::new(path));
    };
    let parent = rustix::fs::open(parent, directory, Mode::empty())?;
    let below = Path::new(name).join(path);
    let below = if path.is_empty() {
        Path::new(name)
    } else {
        &below
    };
    open_relative(parent.into(), below)
}

fn open_relative(mut at: File, path: &Path) -> io::Result<File> {
    let walk = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let flags = if components.peek().is_some() {
            walk
        } else {
            read
        };
        at = File::from(openat(&at, name, flags, Mode::empty())?);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(base: &Path, path: &str) -> io::Result<String> {
        let mut text = String::new();
        open_below(base, path)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn files_open_below_the_base_and_symlinks_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join("a/b/file"), "in").unwrap();
        fs::write(dir.path().join("secret"), "out").unwrap();
        symlink("../secret", base.join("link")).unwrap();
        symlink("../..", base.join("a/up")).unwrap();
        symlink(&base, dir.path().join("base-link")).unwrap();

        assert_eq!(read(&base, "a/b/file").unwrap(), "in");
        assert_eq!(read(&base.join("a/b/file"), "").unwrap(), "in");
        for refused in [
            "link",
            "a/up/secret",
            "../secret",
            "a/../../secret",
            "/etc/hostname",
        ] {
            assert!(read(&base, refused).is_err(), "{refused} was opened");
        }
        assert!(read(&base.join("link"), "").is_err());
        assert!(read(&dir.path().join("base-link"), "a/b/file").is_err());
    }

    #[test]
    fn only_the_most_recent_files_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let open = |share| {
            Arc::new(OpenFile {
                file: File::open(dir.path().join("f")).unwrap(),
                row: FileRow {
                    share: ShareId(share),
                    path: String::new(),
                    stat: FileStat::default(),
                    state: crate::store::FileState::Stable,
                },
            })
        };
        let files = OpenFiles::default();
        for id in 0..OPEN_FILES_MAX as u64 {
            files.keep(FileId(id), open(1));
        }
        assert!(files.recent(FileId(0)).is_some());
        files.keep(FileId(1000), open(2));
        assert!(files.recent(FileId(0)).is_some(), "used a moment ago");
        assert!(
            files.recent(FileId(1)).is_none(),
            "the one that was not used for longest"
        );
        assert_eq!(files.lock().files.len(), OPEN_FILES_MAX);
        files.forget_share(ShareId(1));
        assert_eq!(files.lock().files.len(), 1);
    }
}
