//! A home is used by one node at a time: the lock that says so, and where its socket is.
//!
//! Owns the file `daemon.lock` of a home; the socket beside it is `socket.rs`'s. The lock is held by
//! the operating system for the life of the process, so that nothing has to be repaired after `kill
//! -9`; its holder alone may replace the socket. Nothing here is ever deleted but a socket that
//! this process, or a dead holder of the lock, made.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use shoal_ground::said::{of_disk, said};

use super::{ApiError, ErrorCode};

const LOCK_FILE: &str = "daemon.lock";
pub(super) const SOCKET_FILE: &str = "api.sock";
/// Holds the socket's path when it is not in the home itself.
pub(super) const POINTER_FILE: &str = "api.path";

/// Somebody who looks whether the lock is free (`shoal stop`) holds it for microseconds: 10 tries,
/// 20 ms apart.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The right to run a node on a home and to bind its socket; ends with the process or when dropped.
#[derive(Debug)]
pub struct HomeLock {
    home: PathBuf,
    file: File,
}

impl HomeLock {
    /// Takes the lock; makes the home (mode 0700) when it is missing.
    ///
    /// Blocks for at most 200 ms.
    ///
    /// # Errors
    /// [`HomeError::InUse`] when another process holds it, [`HomeError::Io`] when the home cannot
    /// be used.
    pub fn acquire(home: &Path) -> Result<Self, HomeError> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(home)
            .map_err(HomeError::io("create", home))?;
        let home = home
            .canonicalize()
            .map_err(HomeError::io("resolve", home))?;
        let path = Self::file(&home);
        let mut file = open_lock(&path).map_err(HomeError::io("open", &path))?;
        if !try_lock(&file).map_err(HomeError::io("lock", &path))? {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(HomeError::InUse {
                home,
                pid: pid.trim().parse().ok(),
            });
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(HomeError::io("write", &path))?;
        Ok(Self { home, file })
    }

    /// Gives the lock up before the process ends, for one whose threads hang in the kernel: the
    /// system would keep it until the last of them is gone.
    pub fn release(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock of the home was not given up");
        }
    }

    /// The home, resolved.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The file that the lock of a home is on.
    pub fn file(home: &Path) -> PathBuf {
        home.join(LOCK_FILE)
    }

    /// Whether a process holds the lock of this home right now.
    ///
    /// # Errors
    /// When the lock file exists and cannot be read.
    pub fn is_held(home: &Path) -> io::Result<bool> {
        match File::open(Self::file(home)) {
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The process that holds the lock of this home right now, if it has said which it is.
    ///
    /// # Errors
    /// When the lock file exists and cannot be read.
    pub fn holder(home: &Path) -> io::Result<Option<u32>> {
        if !Self::is_held(home)? {
            return Ok(None);
        }
        let text = fs::read_to_string(Self::file(home))?;
        Ok(text.trim().parse().ok())
    }

    /// Removes a socket that a dead node left outside of its home, for those who are about to
    /// remove the home.
    ///
    /// # Errors
    /// [`HomeError::Io`] when the home cannot be written to.
    pub fn remove_outside_socket(&self) -> Result<(), HomeError> {
        remove_left_behind(&self.home.join(POINTER_FILE))
    }
}

/// Where the API socket of this home is, if a node runs on it.
///
/// # Errors
/// When the home names a socket that is not its owner's.
pub fn socket_path(home: &Path) -> io::Result<PathBuf> {
    let target = match fs::read(home.join(POINTER_FILE)) {
        Ok(bytes) => PathBuf::from(std::ffi::OsStr::from_bytes(bytes.trim_ascii_end())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(home.join(SOCKET_FILE));
        }
        Err(error) => return Err(error),
    };
    // The folder is in a place that others can write to; a dead node's name may have been taken by
    // somebody else.
    if target.symlink_metadata()?.uid() != fs::metadata(home)?.uid() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} belongs to another user", target.display()),
        ));
    }
    Ok(target)
}

/// Removes the socket that a dead node had outside of its home.
pub(super) fn remove_left_behind(pointer: &Path) -> Result<(), HomeError> {
    let Some(home) = pointer.parent() else {
        return Ok(());
    };
    if !pointer.exists() {
        return Ok(());
    }
    if let Ok(socket) = socket_path(home) {
        let _ = fs::remove_file(&socket);
        let _ = socket.parent().map(fs::remove_dir);
    }
    fs::remove_file(pointer).map_err(HomeError::io("remove", pointer))
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another node runs on it.
    #[error("another node{} is running on {}", process(*pid), home.display())]
    InUse {
        /// The home.
        home: PathBuf,
        /// The other process, when it said so.
        pid: Option<u32>,
    },
    /// There is no place for the socket.
    #[error("there is no place for the socket of the API: {}", listed(.0))]
    NoPlace(Vec<(PathBuf, io::Error)>),
    /// The file system refused.
    #[error("cannot {action} {}: {}", path.display(), said(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Each place that was tried, and what the system said.
fn listed(tried: &[(PathBuf, io::Error)]) -> String {
    let each = tried
        .iter()
        .map(|(path, error)| format!("{}: {}", path.display(), said(error)));
    each.collect::<Vec<_>>().join("; ")
}

impl HomeError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            let source = of_disk(&path, &source);
            Self::Io {
                action,
                path,
                source,
            }
        }
    }
}

impl From<HomeError> for ApiError {
    fn from(error: HomeError) -> Self {
        let message = error.to_string();
        match error {
            HomeError::InUse { .. } => Self::new(ErrorCode::AlreadyRunning, message)
                .hint("use it, end it with `shoal stop`, or choose another home with --home"),
            HomeError::NoPlace(_) => Self::new(ErrorCode::Internal, message).hint(
                "choose a home with a shorter path with --home, or set XDG_RUNTIME_DIR to a folder of \
                 your own",
            ),
            HomeError::Io { source, .. } => Self::from_io(&source, message)
                .hint("choose a folder of your own with --home or SHOAL_HOME"),
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (process {pid})"))
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn try_lock(file: &File) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY_INTERVAL),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_home_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        assert!(!HomeLock::is_held(&home).unwrap());
        let lock = HomeLock::acquire(&home).unwrap();
        assert_eq!(mode(&home), 0o700);
        assert!(HomeLock::is_held(&home).unwrap());
        let error = HomeLock::acquire(&home).unwrap_err();
        assert!(
            matches!(error, HomeError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        assert_eq!(ApiError::from(error).code, ErrorCode::AlreadyRunning);
        let holder = || HomeLock::holder(&home).unwrap();
        assert_eq!(holder(), Some(std::process::id()));
        drop(lock);
        assert_eq!(holder(), None, "what a dead holder wrote is nobody's");
        assert!(!HomeLock::is_held(&home).unwrap());
        HomeLock::acquire(&home).unwrap();
    }
}
