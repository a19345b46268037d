//! The socket of a home: where it is, and that it stays there.
//!
//! Owns the files `api.sock` and `api.path` of a home. The socket is in the home where that is
//! possible. Where the path is too long, or the file system there knows no sockets, it is in a folder
//! of its own elsewhere, and `api.path` says where. Sessions that end and sweeps of old files take
//! such folders away, so the holder of a socket looks after it ([`Bound::look`]).
//!
//! Everything here blocks.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use super::home::{
    HomeError, HomeLock, POINTER_FILE, SOCKET_FILE, remove_left_behind, socket_path,
};

/// `sockaddr_un` has 108 bytes for a path and its closing NUL (Linux; 104 on other systems).
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A bound socket and what goes with it when it closes.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    home: PathBuf,
    /// Device and inode of the socket's name: another one there is another's.
    node: (u64, u64),
    files: Vec<PathBuf>,
    dir: Option<PathBuf>,
}

/// Binds the socket of a home with mode 0600, in place of one that a dead process left: in the home,
/// or else in the first other place that takes it.
///
/// There is no moment at which another user could connect: the socket gets its mode in a folder of
/// mode 0700 and is then moved to its place.
pub(super) fn bind(lock: &HomeLock) -> Result<Bound, HomeError> {
    bind_in(lock.home())
}

/// The same for a home whose lock this process holds.
fn bind_in(home: &Path) -> Result<Bound, HomeError> {
    bind_at(home, &places(|name| std::env::var_os(name)))
}

fn bind_at(home: &Path, places: &[PathBuf]) -> Result<Bound, HomeError> {
    let pointer = home.join(POINTER_FILE);
    remove_left_behind(&pointer)?;
    let mut tried = Vec::new();
    match bind_inside(home) {
        Ok(bound) => return Ok(bound),
        Err(error) => tried.push((home.to_owned(), error)),
    }
    for place in places {
        match bind_below(home, place) {
            Ok(bound) => {
                write_pointer(&pointer, &bound.path)?;
                return Ok(bound);
            }
            Err(error) => tried.push((place.clone(), error)),
        }
    }
    Err(HomeError::NoPlace(tried))
}

fn bind_inside(home: &Path) -> io::Result<Bound> {
    let staging = tempfile::Builder::new().prefix(".api-").tempdir_in(home)?;
    let staged = staging.path().join(SOCKET_FILE);
    let listener = bind_private(&staged)?;
    let path = home.join(SOCKET_FILE);
    fs::rename(&staged, &path)?;
    Bound::of(listener, home, path.clone(), vec![path], None)
}

/// Binds in a new folder of mode 0700 below `place`.
fn bind_below(home: &Path, place: &Path) -> io::Result<Bound> {
    let dir = tempfile::Builder::new()
        .prefix("shoal-")
        .tempdir_in(place)?;
    let path = dir.path().join(SOCKET_FILE);
    let listener = bind_private(&path)?;
    Bound::outside(listener, home, path, dir.keep())
}

/// Where sockets of long paths may be, the best first: the runtime directory of the session, that of
/// the user, and where temporary files go. A variable that is not set well is passed over.
fn places(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let user = format!("/run/user/{}", rustix::process::geteuid().as_raw());
    let named = ["XDG_RUNTIME_DIR", "TMPDIR"].map(|name| variable(name).map(PathBuf::from));
    let [runtime, temporary] = named;
    let fixed = ["/tmp", "/var/tmp", "/dev/shm"].map(PathBuf::from);
    [runtime, Some(user.into()), temporary]
        .into_iter()
        .flatten()
        .chain(fixed)
        .filter(|place| place.is_absolute())
        .collect()
}

impl Bound {
    fn of(
        listener: UnixListener,
        home: &Path,
        path: PathBuf,
        files: Vec<PathBuf>,
        dir: Option<PathBuf>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener,
            home: home.to_owned(),
            node: node_of(&path)?,
            path,
            files,
            dir,
        })
    }

    fn outside(
        listener: UnixListener,
        home: &Path,
        path: PathBuf,
        dir: PathBuf,
    ) -> io::Result<Self> {
        let files = vec![path.clone(), home.join(POINTER_FILE)];
        Self::of(listener, home, path, files, Some(dir))
    }

    /// What finds out whether clients still find the socket, and binds it anew if they do not: at the
    /// same place if that can be, else where there is one.
    pub(super) fn look(&self) -> impl FnOnce() -> Option<Result<Self, HomeError>> + Send + 'static {
        let (home, path) = (self.home.clone(), self.path.clone());
        let (node, dir) = (self.node, self.dir.clone());
        move || {
            let is_there = node_of(&path).is_ok_and(|there| there == node)
                && socket_path(&home).is_ok_and(|told| told == path);
            if is_there {
                return None;
            }
            let same = dir.and_then(|dir| bind_again(&home, path, dir).ok());
            Some(same.map_or_else(|| bind_in(&home), Ok))
        }
    }

    /// Closes without taking away the names, which are another's by now.
    pub(super) fn leave(mut self) {
        self.files.clear();
        self.dir = None;
    }
}

/// Binds outside of the home where the socket was before.
fn bind_again(home: &Path, path: PathBuf, dir: PathBuf) -> io::Result<Bound> {
    // Nobody else may have made it meanwhile.
    DirBuilder::new().mode(0o700).create(&dir)?;
    let listener = bind_private(&path)?;
    write_pointer(&home.join(POINTER_FILE), &path).map_err(io::Error::other)?;
    Bound::outside(listener, home, path, dir)
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

fn node_of(path: &Path) -> io::Result<(u64, u64)> {
    let there = path.symlink_metadata()?;
    Ok((there.dev(), there.ino()))
}

fn bind_private(path: &Path) -> io::Result<UnixListener> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let message = "the path is too long for a socket";
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, message));
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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
    use crate::HomeLock;

    const LOCK_FILE: &str = "daemon.lock";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    /// Binds in `home`, connects to where a client would look, and checks that nothing stays
    /// behind.
    fn check_socket(home: &Path, inside: bool) {
        let lock = HomeLock::acquire(home).unwrap();
        let bound = bind(&lock).unwrap();
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
            let dead = bind(&lock).unwrap();
            let dead_path = dead.path.clone();
            dead.leave();
            assert!(dead_path.exists());
            let bound = bind(&lock).unwrap();
            UnixStream::connect(socket_path(&home).unwrap()).unwrap();
            assert!(bound.path == dead_path || !dead_path.exists());
            lock.remove_outside_socket().unwrap();
            assert_eq!(bound.path.exists(), bound.path.starts_with(lock.home()));
        }
    }

    #[test]
    fn the_first_place_that_takes_a_socket_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("h".repeat(120));
        let lock = HomeLock::acquire(&home).unwrap();
        let at = |name: &str| dir.path().join(name);
        let (missing, file, deep, good) =
            (at("missing"), at("file"), at(&"d".repeat(100)), at("g"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&deep).unwrap();
        fs::create_dir(&good).unwrap();
        let bad = [missing, file, deep.clone()];
        let bound = bind_at(
            lock.home(),
            &[&bad[..], std::slice::from_ref(&good)].concat(),
        )
        .unwrap();
        assert!(bound.path.starts_with(&good), "{}", bound.path.display());
        UnixStream::connect(socket_path(&home).unwrap()).unwrap();
        drop(bound);

        let HomeError::NoPlace(tried) = bind_at(lock.home(), &bad).unwrap_err() else {
            panic!("another error");
        };
        let places: Vec<_> = tried.iter().map(|(place, _)| place.clone()).collect();
        assert_eq!(places, [&[lock.home().to_owned()][..], &bad].concat());
        assert!(tried[0].1.to_string().contains("too long"), "{tried:?}");
        // What was tried left nothing.
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[test]
    fn variables_that_are_not_set_well_are_passed_over() {
        let check = |runtime: &str, temporary: &str, first: &str| {
            let of = |name: &str| match name {
                "XDG_RUNTIME_DIR" => Some(runtime.into()),
                _ => Some(temporary.into()),
            };
            let places = places(of);
            assert_eq!(places[0], Path::new(first));
            assert!(places.iter().all(|place| place.is_absolute()));
            assert!(places.contains(&"/tmp".into()));
        };
        let user = format!("/run/user/{}", rustix::process::geteuid().as_raw());
        check("/run/mine", "/t", "/run/mine");
        check("", "", &user);
        check("relative", "./t", &user);
    }

    #[test]
    fn a_socket_that_was_swept_away_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        for (home, inside) in [("home".to_owned(), true), ("h".repeat(120), false)] {
            let home = dir.path().join(home);
            let lock = HomeLock::acquire(&home).unwrap();
            let bound = bind(&lock).unwrap();
            assert!(bound.look()().is_none(), "it is there");
            fs::remove_file(&bound.path).unwrap();
            if let Some(dir) = &bound.dir {
                fs::remove_dir(dir).unwrap();
            }
            let again = bound.look()().unwrap().unwrap();
            assert_eq!(again.path, bound.path);
            bound.leave();
            assert_eq!(again.path.starts_with(lock.home()), inside);
            UnixStream::connect(socket_path(&home).unwrap()).unwrap();

            // Where somebody else has taken its place, it is elsewhere.
            fs::remove_file(&again.path).unwrap();
            if !inside {
                fs::write(&again.path, "of somebody else").unwrap();
                let elsewhere = again.look()().unwrap().unwrap();
                UnixStream::connect(socket_path(&home).unwrap()).unwrap();
                assert_ne!(elsewhere.path, again.path);
            }
        }
    }
}
