//! Opening the files of shares, and keeping the recent ones open.
//!
//! One rule says which file is meant, for looking ([`Looker`]) and for reading ([`open_below`]): the
//! base is the path of the share, symlinks followed, and below it no symlink is. So a folder that
//! was moved and linked from its old place is still the share, and a read never leaves it. Folders
//! on the way are passed and never listed, so they need not be readable.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::Errno;

use crate::disks::Disk;
use crate::rows::{FileId, FileRow, FileStat, ShareId};

/// Files kept open: peers read a few files each, and a process may have 1,024 descriptors in all.
const OPEN_FILES_MAX: usize = 128;

/// How a folder is opened that is only passed on the way to a file: whoever may enter it may pass it,
/// also where they may not list it.
#[cfg(target_os = "linux")]
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Here only a folder that may be listed can be passed.
#[cfg(not(target_os = "linux"))]
const PASS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// An open file of a share, with the row that it was opened for.
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) row: FileRow,
    /// Where it lies, and is closed.
    pub(super) disk: Arc<Disk>,
}

impl OpenFile {
    pub(super) fn stat(&self) -> io::Result<FileStat> {
        Ok(FileStat::of(&self.file.metadata()?))
    }
}

/// The most recently read files, open. Nothing is opened or closed under its lock: a file is let go
/// of on a thread of its disk.
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
        let mut gone = vec![recent.files.insert(id, (uses, file))];
        if recent.files.len() > OPEN_FILES_MAX
            && let Some(oldest) = recent.files.iter().min_by_key(|(_, (used, _))| *used)
        {
            let oldest = *oldest.0;
            gone.push(recent.files.remove(&oldest));
        }
        drop(recent);
        gone.into_iter().flatten().for_each(let_go);
    }

    pub(super) fn forget(&self, id: FileId) {
        let gone = self.lock().files.remove(&id);
        gone.into_iter().for_each(let_go);
    }

    pub(super) fn forget_share(&self, share: ShareId) {
        let gone: Vec<_> = {
            let mut recent = self.lock();
            let of_share = |_: &FileId, it: &mut (u64, Arc<OpenFile>)| it.1.row.share == share;
            recent.files.extract_if(of_share).collect()
        };
        gone.into_iter().for_each(|(_, file)| let_go(file));
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock()
    }
}

fn let_go((_, file): (u64, Arc<OpenFile>)) {
    let disk = Arc::clone(&file.disk);
    disk.let_go(file);
}

/// Opens the file at `path` below `base` for reading, or `base` itself when `path` is empty.
///
/// No component below `base` may be a symlink, whatever has happened to the tree since it was
/// shared, so a read never leaves it. Never waits on a fifo that took the file's place.
pub(super) fn open_below(base: &Path, path: &str) -> io::Result<File> {
    let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if path.is_empty() {
        return Ok(rustix::fs::open(base, read, Mode::empty())?.into());
    }
    open_from(open_base(base)?, Path::new(path), read | OFlags::NOFOLLOW)
}

fn open_base(base: &Path) -> io::Result<File> {
    Ok(rustix::fs::open(base, PASS, Mode::empty())?.into())
}

/// Opens `path` below the open folder `at`, its last component as `flags` say.
fn open_from(mut at: File, path: &Path, flags: OFlags) -> io::Result<File> {
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let Component::Normal(name) = component else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let flags = if components.peek().is_some() {
            PASS | OFlags::NOFOLLOW
        } else {
            flags
        };
        at = File::from(openat(&at, name, flags, Mode::empty())?);
    }
    Ok(at)
}

/// Looks at the files of one share, one after the other, without opening them.
///
/// The folder of the last file stays open: files come by path, so most are in the same one.
pub(super) struct Looker<'a> {
    base: &'a Path,
    folder: Option<(PathBuf, File)>,
}

impl<'a> Looker<'a> {
    pub(super) fn new(base: &'a Path) -> Self {
        Self { base, folder: None }
    }

    /// The metadata of what is at `path`, which may be anything.
    pub(super) fn look(&mut self, path: &str) -> io::Result<std::fs::Metadata> {
        if path.is_empty() {
            return self.base.metadata();
        }
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        if self.folder.as_ref().is_none_or(|(open, _)| open != parent) {
            let pass = PASS | OFlags::NOFOLLOW;
            let folder = open_from(open_base(self.base)?, parent, pass)?;
            self.folder = Some((parent.to_owned(), folder));
        }
        let Some((_, folder)) = &self.folder else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        // Linux opens a file for looking alone, which wakes no device behind it.
        #[cfg(target_os = "linux")]
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let look = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        File::from(openat(folder, name, look, Mode::empty())?).metadata()
    }

    /// Whether the file that was [looked at](Self::look) last may be read: its permissions say so, and
    /// it is not opened.
    pub(super) fn check_readable(&self, path: &str) -> io::Result<()> {
        let may_read = |folder: BorrowedFd<'_>, path: &Path| {
            accessat(folder, path, Access::READ_OK, AtFlags::EACCESS)
        };
        let asked = match (&self.folder, Path::new(path).file_name()) {
            (Some((_, folder)), Some(name)) => may_read(folder.as_fd(), Path::new(name)),
            _ => may_read(CWD, self.base),
        };
        match asked {
            Err(Errno::ACCESS) => Err(Errno::ACCESS.into()),
            // Whatever else is wrong with it is found when it is read.
            _ => Ok(()),
        }
    }
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
        let linked = dir.path().join("base-link");
        assert_eq!(read(&linked, "a/b/file").unwrap(), "in", "the base alone");
        assert!(read(&linked, "link").is_err());
    }

    #[test]
    fn looking_and_reading_mean_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("a/b")).unwrap();
        for file in ["a/b/one", "a/b/two", "a/three", "four"] {
            fs::write(base.join(file), file).unwrap();
        }
        symlink("a", base.join("link")).unwrap();
        symlink(&base, dir.path().join("moved")).unwrap();
        for base in [base.clone(), dir.path().join("moved")] {
            let mut looker = Looker::new(&base);
            for path in ["a/b/one", "a/b/two", "a/three", "four", "a/b/one"] {
                let looked = looker.look(path).unwrap();
                let opened = open_below(&base, path).unwrap().metadata().unwrap();
                assert_eq!(FileStat::of(&looked), FileStat::of(&opened), "{path}");
            }
            assert!(looker.look("link").unwrap().is_symlink());
            for refused in ["link/three", "../base/four", "gone", "four/x"] {
                assert!(looker.look(refused).is_err(), "{refused}");
                assert!(open_below(&base, refused).is_err(), "{refused}");
            }
        }
        let mut file = Looker::new(&base);
        assert!(file.look("").unwrap().is_dir());
    }

    #[test]
    fn only_the_most_recent_files_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        let disks = crate::disks::Disks::default();
        let open = |share| {
            Arc::new(OpenFile {
                file: File::open(dir.path().join("f")).unwrap(),
                row: FileRow {
                    share: ShareId(share),
                    path: String::new(),
                    stat: FileStat::default(),
                    state: crate::FileState::Stable,
                },
                disk: disks.of(dir.path()),
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
