//! The process that holds a home, by the lock and not by what it says of itself: for ending a daemon
//! that does not answer.
//!
//! The number in the lock file is only a hint: its process may be gone and the number another's. A
//! process counts as the holder when the kernel lists the lock among its open files. The signal goes
//! through a pidfd that was opened before that look, so that no recycled number is ever hit. Linux
//! only: it reads `/proc`. Nothing here touches the files that the process has open, for their disk
//! may hang.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use shoal_api::HomeLock;

/// Who holds the lock of a home.
#[derive(Debug)]
pub(crate) enum Holder {
    /// Nobody.
    Nobody,
    /// This process.
    Process(Held),
    /// A process of another user, who alone may look at it.
    OfUser {
        /// Its id, where the lock file can be read.
        pid: Option<u32>,
        /// The user.
        user: u32,
    },
    /// Somebody whom this machine's `/proc` does not show: in another container, or on another
    /// machine that has the home mounted.
    Elsewhere {
        /// What the lock file says.
        pid: Option<u32>,
    },
}

/// A process that held the lock when it was looked at.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
}

impl Holder {
    /// The holder of the lock of `home` right now.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn of(home: &Path) -> io::Result<Self> {
        let said = match HomeLock::holder(home) {
            Ok(said) => said,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let user = owner(&HomeLock::file(home)).or_else(|_| owner(home))?;
                return Ok(Self::OfUser { pid: None, user });
            }
            Err(error) => return Err(error),
        };
        if !HomeLock::is_held(home)? {
            return Ok(Self::Nobody);
        }
        let Some(pid) = said else {
            return Ok(Self::Elsewhere { pid: None });
        };
        let elsewhere = Self::Elsewhere { pid: Some(pid) };
        let Some(pidfd) = open(pid)? else {
            return Ok(elsewhere);
        };
        let lock = fs::metadata(HomeLock::file(home))?.ino();
        match has_lock(pid, lock) {
            Ok(true) => Ok(Self::Process(Held { pid, pidfd })),
            Ok(false) => Ok(elsewhere),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Self::OfUser {
                pid: Some(pid),
                user: owner(&process(pid))?,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(elsewhere),
            Err(error) => Err(error),
        }
    }
}

impl Held {
    /// Sends it a signal; one that has ended since needs none.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn process(pid: u32) -> std::path::PathBuf {
    format!("/proc/{pid}").into()
}

fn owner(path: &Path) -> io::Result<u32> {
    fs::metadata(path).map(|there| there.uid())
}

fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process holds a lock on the file with this inode.
fn has_lock(pid: u32, inode: u64) -> io::Result<bool> {
    for entry in fs::read_dir(process(pid).join("fdinfo"))? {
        // A file that was closed meanwhile is no lock.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        if info.lines().any(|line| is_lock(line, inode)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a line of proc_pid_fdinfo(5) is an exclusive flock(2) on this inode:
/// `lock: 1: FLOCK  ADVISORY  WRITE 8502 fe:00:10010984 0 EOF`. The device is not compared: layered file
/// systems show another one there than stat(2) does.
fn is_lock(line: &str, inode: u64) -> bool {
    let Some(lock) = line.strip_prefix("lock:") else {
        return false;
    };
    let fields: Vec<&str> = lock.split_ascii_whitespace().collect();
    let [_, "FLOCK", _, "WRITE", _, file, ..] = fields[..] else {
        return false;
    };
    let found = file.rsplit(':').next();
    found.and_then(|found| found.parse().ok()) == Some(inode)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_lock_is_known_by_its_kind_and_inode() {
        let check = |line: &str, expected| assert_eq!(is_lock(line, 984), expected, "{line}");
        check(
            "lock:\t1: FLOCK  ADVISORY  WRITE 8502 fe:00:984 0 EOF",
            true,
        );
        check(
            "lock:\t1: FLOCK  ADVISORY  WRITE 8502 fe:00:98 0 EOF",
            false,
        );
        check(
            "lock:\t1: FLOCK  ADVISORY  READ 8502 fe:00:984 0 EOF",
            false,
        );
        check(
            "lock:\t1: POSIX  ADVISORY  WRITE 8502 fe:00:984 0 EOF",
            false,
        );
        check("ino:\t984", false);
        check("lock:", false);
    }

    #[test]
    fn only_the_process_that_has_the_lock_is_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        assert!(matches!(Holder::of(home).unwrap(), Holder::Nobody));
        let lock = HomeLock::acquire(home).unwrap();
        let holder = Holder::of(home).unwrap();
        let Holder::Process(held) = holder else {
            panic!("{holder:?}");
        };
        assert_eq!(held.pid, std::process::id());

        // The number of another process, as a recycled one is, and of none.
        for pid in [1, std::os::unix::process::parent_id(), u32::MAX] {
            fs::write(HomeLock::file(home), format!("{pid}\n")).unwrap();
            let holder = Holder::of(home).unwrap();
            assert!(!matches!(holder, Holder::Process(_)), "{holder:?}");
        }
        drop(lock);
        assert!(matches!(Holder::of(home).unwrap(), Holder::Nobody));
    }
}
