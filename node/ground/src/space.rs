//! How much space a file system has, as it says.

use std::{io, os::fd::AsFd, path::Path};

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
}
