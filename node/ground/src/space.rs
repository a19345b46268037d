//! How much space a file system has, as it says; and having it written to its disk.

use std::{io, os::fd::AsFd, path::Path};

#[cfg(target_os = "linux")]
use rustix::fs::{Mode, OFlags, openat, syncfs};
use rustix::fs::{StatVfs, fstatvfs, statvfs};

/// The space of a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What this user may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl Space {
    /// The space where `path` is; none when the file system says that it has no blocks at all, as
    /// those do that do not know. Blocking.
    ///
    /// # Errors
    /// When the system does not say, above all when there is no such path.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::said(&statvfs(path)?))
    }

    /// The same for an open file or folder. Blocking.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn of(file: impl AsFd) -> io::Result<Option<Self>> {
        Ok(Self::said(&fstatvfs(file)?))
    }

    fn said(stat: &StatVfs) -> Option<Self> {
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        (stat.f_blocks > 0).then(|| Self {
            free: bytes(stat.f_bavail),
            total: bytes(stat.f_blocks),
        })
    }
}

/// Whether the disk where `path` is, or is to be, takes no more files although it has free bytes.
pub fn has_no_inodes(path: &Path) -> bool {
    let stat = path.ancestors().find_map(|there| statvfs(there).ok());
    // Those that make them as they are needed say that they have none at all.
    stat.is_some_and(|stat| stat.f_files > 0 && stat.f_favail == 0 && stat.f_bavail > 0)
}

/// Waits until everything that was written on a file system is on its disk. It is the one that any of
/// `names` below `folder` is on, by the first that may be read; `folder` may be a handle that cannot be
/// read. Where none may be, all file systems are flushed. One call for all files: a flush of each
/// would take minutes for a large tree.
///
/// # Errors
/// Those of the disk.
pub fn flush(folder: impl AsFd, names: &[&Path]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |name: &&Path| openat(&folder, *name, read, Mode::empty()).ok();
        if let Some(readable) = names.iter().find_map(open) {
            return Ok(syncfs(readable)?);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (folder, names);
    rustix::fs::sync();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_system_without_blocks_says_nothing() {
        let dir = std::env::temp_dir();
        let space = Space::at(&dir).unwrap().unwrap();
        assert!(space.free <= space.total && space.total > 0, "{space:?}");
        let same = Space::of(std::fs::File::open(&dir).unwrap());
        assert_eq!(same.unwrap().unwrap().total, space.total);
        assert_eq!(Space::at(Path::new("/proc")).unwrap(), None);
        let missing = Space::at(&dir.join("there is no such thing"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_disk_is_flushed_by_what_may_be_read_of_it() {
        let dir = std::env::temp_dir();
        let (there, missing) = (dir.as_path(), dir.join("there is no such thing"));
        for names in [&[][..], &[there], &[&missing, there], &[&missing]] {
            flush(rustix::fs::CWD, names).unwrap();
        }
        assert!(!has_no_inodes(Path::new("/proc/none")) && !has_no_inodes(&missing));
    }
}
