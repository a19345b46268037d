//! Drivers for tests over the real binary: real processes, sockets, databases and files.
//!
//! A [`Daemon`] is one `shoal daemon` with its own home; it is killed when dropped. Commands run
//! through [`Daemon::run`] and come back with their exit code and JSON. Waiting is for events, with
//! deadlines that only a broken build meets.

pub mod asker;
pub mod copies;
pub mod dice;
pub mod evil;
pub mod forger;
pub mod halves;
pub mod http;
pub mod neighbour;
pub mod netns;
pub mod nobody;
#[cfg(target_os = "linux")]
pub mod odd_disk;
pub mod peer;
pub mod refused;
pub mod schema;
pub mod secrets;
pub mod small_disk;
pub mod terminal;
pub mod thin;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod trace;
#[cfg(target_os = "linux")]
pub mod uml;
pub mod world;

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shoal_testnet::NodeProcess;
use tempfile::TempDir;

/// What no step of a test needs on a working build, on a slow and busy machine either.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The binary under test: `SHOAL_BIN`, or the one beside the test's own.
pub fn shoal() -> PathBuf {
    if let Some(path) = std::env::var_os("SHOAL_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let release = test
        .parent()
        .and_then(Path::parent)
        .expect("tests run from target/release/deps");
    let binary = release.join("shoal");
    assert!(
        binary.exists(),
        "{} is missing: run scripts/build first",
        binary.display()
    );
    binary
}

/// Copies the binary under test, for those who may not enter the folder that it is in.
///
/// Another process copies: a child that another thread of a test starts meanwhile would inherit the
/// open file, and until it runs its own program the system starts none that is open for writing.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_of_shoal(to: &Path) {
    let copied = Command::new("cp").arg(shoal()).arg(to).status();
    assert!(copied.is_ok_and(|it| it.success()), "{}", to.display());
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The one JSON document on stdout; `Null` when there was none.
    pub json: Value,
    /// Everything on stderr.
    pub stderr: String,
}

impl Ran {
    /// Reads what a finished command left.
    pub fn new(output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let json = match stdout.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|error| {
                panic!("stdout is not one JSON document ({error}): {text}")
            }),
        };
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self {
            code: output.status.code(),
            json,
            stderr,
        }
    }

    /// The JSON of a command that has to succeed.
    pub fn ok(self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.json
    }

    /// Asserts a failure with this exit code and error code.
    pub fn fails(&self, exit: i32, code: &str) {
        assert_eq!(self.code, Some(exit), "{self:?}");
        assert_eq!(self.json["error"]["code"], code, "{self:?}");
        let message = self.json["error"]["message"].as_str();
        assert!(
            message.is_some_and(|message| !message.is_empty()),
            "{self:?}"
        );
    }
}

/// Runs `shoal --json` with `args` on `home`.
pub fn run(home: &Path, args: &[&str]) -> Ran {
    Ran::new(&command(home, args).output().expect("the binary runs"))
}

/// The command that [`run`] runs, for those who want to start it themselves.
pub fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(shoal());
    command
        .arg("--home")
        .arg(home)
        .arg("--json")
        .args(args)
        .stdin(Stdio::null());
    command.env_remove("SHOAL_HOME");
    command
}

/// The options of a node on loopback that joins by this address.
#[must_use]
pub fn joining(bootstrap: &str) -> Vec<String> {
    let options = [
        "--no-mdns",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--bootstrap",
        bootstrap,
    ];
    options.map(str::to_owned).to_vec()
}

/// A running daemon on loopback, without mDNS.
pub struct Daemon {
    process: NodeProcess,
    /// Its address with its peer id, as others bootstrap to it.
    pub address: String,
    /// Its peer id.
    pub peer_id: String,
    options: Vec<String>,
}

impl Daemon {
    /// Starts a daemon on `home` that joins the network through `bootstrap`.
    pub fn start(home: &Path, bootstrap: &[&Daemon]) -> Self {
        let mut options = vec![
            "--no-mdns".into(),
            "--listen".into(),
            "/ip4/127.0.0.1/tcp/0".into(),
        ];
        for daemon in bootstrap {
            options.extend(["--bootstrap".into(), daemon.address.clone()]);
        }
        Self::start_with(home, options)
    }

    /// Starts a daemon with exactly these options.
    pub fn start_with(home: &Path, options: Vec<String>) -> Self {
        let started = NodeProcess::start(&shoal(), home, &options);
        let process = started.unwrap_or_else(|error| panic!("{error}"));
        let address = process.listen().first().expect("an address").clone();
        let peer_id = process.peer_id().to_owned();
        Self {
            process,
            address,
            peer_id,
            options,
        }
    }

    /// Runs a command against this daemon.
    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.home(), args)
    }

    /// The home of this daemon.
    pub fn home(&self) -> &Path {
        self.process.home()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// A number among its metrics; 0 where there is none of that name.
    pub fn number(&self, name: &str) -> u64 {
        http::metric(self.home(), name).unwrap_or(0)
    }

    /// Waits until so many helpers are near.
    pub fn wait_for_helpers(&self, helpers: u64) {
        wait_for("it meets the helpers", || {
            let near = self.number("shoal_replica_neighbours{where=\"near\"}");
            (near == helpers).then_some(())
        });
    }

    /// Shares a path, returning the command's result.
    pub fn share(&self, path: &Path) -> Value {
        self.run(&["share", text(path)]).ok()
    }

    /// Fetches a link to a path, returning the command's result.
    pub fn fetch(&self, link: &str, output: &Path) -> Value {
        self.run(&["fetch", link, "-o", text(output)]).ok()
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("the process is ours");
    }

    /// Kills it and starts it again with the same options; its port is a new one.
    pub fn restart(mut self) -> Self {
        self.kill();
        let home = self.home().to_owned();
        Self::start_with(&home, self.options)
    }
}

/// What a daemon may have taken at most: the 150 MiB that it may take for its work, and the binary
/// itself.
pub const RESIDENT_KIB_MAX: u64 = 200 << 10;

/// The most memory that a process has had so far, in KiB.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn resident_kib_max(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.expect("its memory").trim().trim_end_matches(" kB");
    number.parse().expect("a number")
}

/// Waits until `condition` yields something, looking again and again.
///
/// # Panics
/// When it has not within [`DEADLINE`].
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{what} did not happen in {DEADLINE:?}"
        );
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A new directory that goes when dropped.
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("shoal-test-")
        .tempdir()
        .expect("a temporary directory")
}

/// A path as the command line takes it.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Bytes that look random and are the same for the same seed.
pub fn content(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Writes a file of [`content`].
pub fn write_content(path: &Path, seed: &str, len: usize) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("a directory");
    }
    let mut bytes = blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .take(len as u64);
    let mut file = fs::File::create(path).expect("a file");
    io::copy(&mut bytes, &mut file).expect("room for the file");
}

/// Whether two files, of any size, hold the same bytes.
pub fn assert_same_file(one: &Path, other: &Path) {
    assert_eq!(
        hash_file(one),
        hash_file(other),
        "{} and {}",
        one.display(),
        other.display()
    );
}

fn hash_file(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut file = fs::File::open(path).expect("a file");
    io::copy(&mut file, &mut hasher).expect("a readable file");
    hasher.finalize()
}

/// Whether two trees hold the same names, kinds, bytes and link targets.
pub fn assert_same_tree(one: &Path, other: &Path) {
    let (left, right) = (listing(one, one), listing(other, other));
    assert_eq!(
        left.len(),
        right.len(),
        "{} and {}",
        one.display(),
        other.display()
    );
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right);
    }
}

/// Whether two trees have the same permissions and modification times, folders and symlinks too.
///
/// # Panics
/// When they have not.
pub fn assert_same_attributes(one: &Path, other: &Path) {
    let found = |path: &Path| {
        let it = path.symlink_metadata().expect("an entry");
        (it.mode() & 0o7777, it.mtime(), it.mtime_nsec())
    };
    assert_eq!(found(one), found(other), "{}", other.display());
    if !one.symlink_metadata().expect("an entry").is_dir() {
        return;
    }
    for entry in fs::read_dir(one).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        assert_same_attributes(&one.join(&name), &other.join(&name));
    }
}

/// Removes a file or a folder, also a folder that its owner may not change.
///
/// # Panics
/// When it cannot be removed.
pub fn remove_all(path: &Path) {
    make_writable(path);
    let removed = match path.symlink_metadata().expect("an entry").is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.expect("it can be removed");
}

/// Gives the owner of all folders at and below `path` their permissions back.
///
/// # Panics
/// When they are not this user's.
pub fn make_writable(path: &Path) {
    let found = path.symlink_metadata().expect("an entry");
    if !found.is_dir() {
        return;
    }
    if found.mode() & 0o700 != 0o700 {
        let mode = fs::Permissions::from_mode(found.mode() & 0o7777 | 0o700);
        fs::set_permissions(path, mode).expect("our folder");
    }
    for entry in fs::read_dir(path).expect("a folder") {
        make_writable(&entry.expect("an entry").path());
    }
}

/// Bytes of the disk that the files of a folder take; none where there is no folder.
///
/// # Panics
/// When a file cannot be looked at.
pub fn allocated_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten();
    let blocks = files.map(|it| it.expect("an entry").metadata().expect("a file").blocks());
    // The unit is fixed, whatever the file system's own is.
    blocks.sum::<u64>() * 512
}

/// As [`assert_same_tree`], for those who want to know.
pub fn is_same_tree(one: &Path, other: &Path) -> bool {
    listing(one, one) == listing(other, other)
}

fn listing(root: &Path, path: &Path) -> Vec<(PathBuf, String)> {
    let name = path.strip_prefix(root).expect("below the root").to_owned();
    let kind = path.symlink_metadata().expect("an entry").file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).expect("a link");
        return vec![(name, format!("link to {}", target.display()))];
    }
    if kind.is_file() {
        return vec![(name, hash_file(path).to_hex().to_string())];
    }
    let mut entries: Vec<_> = fs::read_dir(path)
        .expect("a directory")
        .map(|it| it.expect("an entry").path())
        .collect();
    entries.sort();
    let below = entries.iter().flat_map(|entry| listing(root, entry));
    std::iter::once((name, "directory".to_owned()))
        .chain(below)
        .collect()
}
