//! A home is used by one node at a time: the lock that says so, and where its socket is.
//!
//! Owns the files `daemon.lock`, `api.sock` and `api.path` of a home. The lock is held by the
//! operating system for the life of the process, so that nothing has to be repaired after `kill
//! -9`; its holder alone may replace the socket. Nothing here is ever deleted but a socket that
//! this process, or a dead holder of the lock, made.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{ApiError, ErrorCode};

const LOCK_FILE: &str = "daemon.lock";
const SOCKET_FILE: &str = "api.sock";
/// Holds the socket's path when it is not in the home itself.
const POINTER_FILE: &str = "api.path";

/// `sockaddr_un` has 108 bytes for a path and its closing NUL (Linux; 104 on other systems).
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

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
        let path = home.join(LOCK_FILE);
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

    /// Whether a process holds the lock of this home right now.
    ///
    /// # Errors
    /// When the lock file exists and cannot be read.
    pub fn is_held(home: &Path) -> io::Result<bool> {
        match File::open(home.join(LOCK_FILE)) {
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
        let text = fs::read_to_string(home.join(LOCK_FILE))?;
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

    /// Binds the home's API socket with mode 0600, in place of one that a dead process left.
    ///
    /// There is no moment at which another user could connect: the socket gets its mode in a folder
    /// of mode 0700 and is then moved to its place.
    pub(super) fn bind(&self) -> Result<Bound, HomeError> {
        let pointer = self.home.join(POINTER_FILE);
        remove_left_behind(&pointer)?;
        let staging = tempfile::Builder::new()
            .prefix(".api-")
            .tempdir_in(&self.home)
            .map_err(HomeError::io("write to", &self.home))?;
        let staged = staging.path().join(SOCKET_FILE);
        if fits(&staged) {
            let listener = bind_private(&staged)?;
            let path = self.home.join(SOCKET_FILE);
            fs::rename(&staged, &path).map_err(HomeError::io("create", &path))?;
            return Ok(Bound {
                listener,
                files: vec![path.clone()],
                path,
                dir: None,
            });
        }
        let dir = runtime_dir()?;
        let path = dir.join(SOCKET_FILE);
        let listener = bind_private(&path)?;
        write_pointer(&pointer, &path)?;
        Ok(Bound {
            listener,
            files: vec![path.clone(), pointer],
            path,
            dir: Some(dir),
        })
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

/// A bound socket and what goes with it when it closes.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    files: Vec<PathBuf>,
    dir: Option<PathBuf>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir(dir);
        }
    }
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
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HomeError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl From<HomeError> for ApiError {
    fn from(error: HomeError) -> Self {
        let message = error.to_string();
        match error {
            HomeError::InUse { .. } => Self::new(ErrorCode::AlreadyRunning, message)
                .hint("use it, end it with `shoal stop`, or choose another home with --home"),
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

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

fn bind_private(path: &Path) -> Result<UnixListener, HomeError> {
    let listener = UnixListener::bind(path).map_err(HomeError::io("bind", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(HomeError::io("prepare", path))?;
    Ok(listener)
}

/// A new folder of mode 0700 in the session's runtime directory, or where temporary files go.
fn runtime_dir() -> Result<PathBuf, HomeError> {
    let parent = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_dir())
        .unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new()
        .prefix("shoal-")
        .tempdir_in(&parent)
        .map_err(HomeError::io("write to", &parent))?;
    Ok(dir.keep())
}

/// Removes the socket that a dead node had outside of its home.
fn remove_left_behind(pointer: &Path) -> Result<(), HomeError> {
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

fn write_pointer(pointer: &Path, socket: &Path) -> Result<(), HomeError> {
    let new = pointer.with_extension("new");
    fs::write(&new, socket.as_os_str().as_bytes())
        .and_then(|()| fs::rename(&new, pointer))
        .map_err(HomeError::io("write", pointer))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixStream;

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

    /// Binds in `home`, connects to where a client would look, and checks that nothing stays
    /// behind.
    fn check_socket(home: &Path, inside: bool) {
        let lock = HomeLock::acquire(home).unwrap();
        let bound = lock.bind().unwrap();
        let path = socket_path(home).unwrap();
        assert_eq!(path, bound.path);
        assert_eq!(path.starts_with(lock.home()), inside, "{}", path.display());
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        drop(bound);
        assert!(!path.exists());
        let left: Vec<_> = fs::read_dir(home)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, [LOCK_FILE]);
    }

    #[test]
    fn the_socket_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        check_socket(&dir.path().join("home"), true);
        check_socket(&dir.path().join("h".repeat(120)), false);
    }

    #[test]
    fn a_dead_nodes_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for home in [dir.path().join("home"), dir.path().join("h".repeat(120))] {
            let lock = HomeLock::acquire(&home).unwrap();
            let mut dead = lock.bind().unwrap();
            let dead_path = dead.path.clone();
            dead.files.clear();
            dead.dir = None;
            drop(dead);
            assert!(dead_path.exists());
            let bound = lock.bind().unwrap();
            UnixStream::connect(socket_path(&home).unwrap()).unwrap();
            assert!(bound.path == dead_path || !dead_path.exists());
            lock.remove_outside_socket().unwrap();
            assert_eq!(bound.path.exists(), bound.path.starts_with(lock.home()));
        }
    }
}
