//! The folder of a testnet: one command at a time changes what is in it.
//!
//! The lock is on the folder itself and held by the system for the life of the process, so that
//! nothing stays behind. Nothing is removed here that a testnet did not make, and no folder of another
//! user is used.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::geteuid;
use tokio::time::{Instant, sleep};

use crate::{
    Error,
    links::{LINKS_FILE, LINKS_STAGED_FILE},
    manifest::{MANIFEST_FILE, Manifest, STAGED_FILE, is_absent},
};

/// A command that only ends what runs is over in this time; one that starts nodes takes longer,
/// and is better told about.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The right to change a testnet; ends with the process or when dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes a folder for a new testnet, or takes an empty one; also says whether it was made.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is a testnet, [`Error::NotEmpty`] when there is something else.
    pub(crate) async fn create(path: &Path) -> Result<(Self, bool), Error> {
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Error::io("make the folder", path)(error)),
        };
        let folder = Self::lock(path).await?;
        let testnet = Manifest::load(folder.path());
        if let Some(manifest) = testnet? {
            let running = manifest
                .nodes
                .iter()
                .filter(|it| it.is_running().unwrap_or(true));
            return Err(Error::Exists {
                running: running.count(),
                dir: folder.path,
            });
        }
        if folder.entries()?.iter().any(|name| name != STAGED_FILE) {
            return Err(Error::NotEmpty { dir: folder.path });
        }
        Ok((folder, made))
    }

    /// The folder that is there; none when there is none.
    ///
    /// # Errors
    /// [`Error::Busy`] when another command keeps it for too long.
    pub(crate) async fn open(path: &Path) -> Result<Option<Self>, Error> {
        match Self::lock(path).await {
            Ok(folder) => Ok(Some(folder)),
            Err(Error::Io { source, .. }) if is_absent(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its path, resolved.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the plan of the links and the manifest, and then the folder itself if `made_dir` and nothing is left in it.
    /// Says whether the folder is gone.
    pub(crate) fn clear(&self, made_dir: bool) -> Result<bool, Error> {
        for file in [LINKS_STAGED_FILE, LINKS_FILE, STAGED_FILE, MANIFEST_FILE] {
            let path = self.path.join(file);
            match fs::remove_file(&path) {
                Err(error) if !is_absent(&error) => return Err(Error::io("remove", &path)(error)),
                _ => {}
            }
        }
        if !made_dir {
            return Ok(false);
        }
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(Error::io("remove", &self.path)(error)),
        }
    }

    /// Whether all that is here is a manifest that was being written when its writer was killed:
    /// only an `up` that had just made the folder, or was given an empty one, leaves that.
    pub(crate) fn is_barely_begun(&self) -> Result<bool, Error> {
        Ok(self.entries()? == [STAGED_FILE])
    }

    async fn lock(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("use the folder", path)(error);
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            let resolved = path.canonicalize().map_err(failed)?;
            let lock = File::open(&resolved).map_err(failed)?;
            // Whoever owns it could put other homes into it, and other processes into the manifest.
            if lock.metadata().map_err(failed)?.uid() != geteuid().as_raw() {
                return Err(Error::Foreign { dir: resolved });
            }
            match lock.try_lock() {
                // Another command may have removed it in the meantime, and a third one made it.
                Ok(()) if is_at(&lock, &resolved).map_err(failed)? => {
                    return Ok(Self {
                        path: resolved,
                        _lock: lock,
                    });
                }
                Ok(()) | Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    sleep(LOCK_POLL).await;
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {
                    return Err(Error::Busy { dir: resolved });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    fn entries(&self) -> Result<Vec<std::ffi::OsString>, Error> {
        let names = fs::read_dir(&self.path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        names.map_err(Error::io("read", &self.path))
    }
}

/// Whether `path` is still what was opened.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (opened, there) = (file.metadata()?, path.metadata()?);
    Ok((opened.dev(), opened.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::chown;

    use super::*;

    #[tokio::test]
    async fn a_folder_is_taken_once_and_only_when_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net");
        assert!(Folder::open(&path).await.unwrap().is_none());
        let (folder, made) = Folder::create(&path).await.unwrap();
        assert!(made);
        drop(folder);
        let (folder, made) = Folder::create(&path).await.unwrap();
        assert!(!made, "an empty folder is taken, and is not ours");

        fs::write(path.join(STAGED_FILE), "{").unwrap();
        assert!(folder.is_barely_begun().unwrap());
        drop(folder);
        let (folder, _) = Folder::create(&path).await.unwrap();
        let manifest = Manifest::new(folder.path(), vec![String::new()], true);
        manifest.save(folder.path()).unwrap();
        assert!(!folder.is_barely_begun().unwrap());
        drop(folder);
        let error = Folder::create(&path).await.unwrap_err();
        assert!(matches!(error, Error::Exists { running: 0, .. }), "{error}");

        let folder = Folder::open(&path).await.unwrap().unwrap();
        assert!(folder.clear(true).unwrap());
        assert!(!path.exists());
        drop(folder);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mine"), "").unwrap();
        let error = Folder::create(&path).await.unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
        let folder = Folder::open(&path).await.unwrap().unwrap();
        assert!(!folder.clear(true).unwrap(), "what is in it stays");
        assert!(path.join("mine").exists());
    }

    #[tokio::test]
    async fn a_folder_of_another_user_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        // Root can make one; for others there is that of root.
        let path = match chown(dir.path(), Some(4711), None) {
            Ok(()) => dir.path(),
            Err(_) => Path::new("/usr"),
        };
        let error = Folder::create(path).await.unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        let error = Folder::open(path).await.unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }
}
