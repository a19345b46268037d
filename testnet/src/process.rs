//! Processes by an identity that is never given to another one.
//!
//! A process id is used again once its process is gone; together with the time that it started at
//! it is not. What is signalled here is a pidfd, which was looked at after it was opened, so that a
//! recycled id is never hit. Linux only: it reads `/proc`.

use std::{
    ffi::OsStr,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

/// Whoever does not wait for an end any more leaves a thread that does, for no longer than this.
const END_POLL: Duration = Duration::from_millis(200);

/// Which process is meant, also after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its process id.
    pub pid: u32,
    /// When it started, in the system's ticks since the machine did.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that has this id now.
    ///
    /// # Errors
    /// When there is none, or the system does not say.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        Ok(Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// A hold on the process, if it still runs and works on `home`.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn find(self, home: &Path) -> io::Result<Option<Running>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = match Stat::read(self.pid) {
            Ok(stat) => stat,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let ours = stat.start_ticks == self.start_ticks && !stat.is_zombie();
        Ok((ours && names(self.pid, home)?).then_some(Running {
            pid: self.pid,
            pidfd: Arc::new(pidfd),
        }))
    }
}

/// A process that ran when it was found.
#[derive(Debug)]
pub(crate) struct Running {
    pid: u32,
    pidfd: Arc<OwnedFd>,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal; none is needed by one that has ended since.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended; false when it has not in time.
    pub(crate) async fn ended(&self, deadline: Duration) -> io::Result<bool> {
        let pidfd = Arc::clone(&self.pidfd);
        tokio::task::spawn_blocking(move || wait(&pidfd, deadline)).await?
    }

    /// Waits until it has ended, for as long as it takes.
    pub(crate) async fn end(&self) -> io::Result<()> {
        while !self.ended(END_POLL).await? {}
        Ok(())
    }
}

/// Waits for the end of a process. Blocking.
fn wait(pidfd: &OwnedFd, deadline: Duration) -> io::Result<bool> {
    let until = Instant::now() + deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        // A pidfd is readable once its process has ended, also before its parent has asked.
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What `/proc/<pid>/stat` says that matters here.
struct Stat {
    state: u8,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
    }

    /// See proc_pid_stat(5): the second field is a name in parentheses that may hold anything, the
    /// third the state, the 22nd the start.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start_ticks })
    }

    /// Ended, and kept only until its parent asks how.
    fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// Whether the arguments of a process name `home`.
fn names(pid: u32, home: &Path) -> io::Result<bool> {
    let arguments = match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(arguments) => arguments,
        Err(error) if is_gone(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    // It has none for a moment while it replaces its program; its start has told who it is.
    let replaced = arguments.is_empty();
    let mut arguments = arguments.split(|&byte| byte == 0);
    Ok(replaced || arguments.any(|argument| OsStr::from_bytes(argument) == home))
}

/// What reading `/proc` says of a process that is not there any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::Read as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn the_start_is_found_behind_any_name() {
        let check = |name: &str| {
            let text = format!("7 ({name}) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 99 99\n");
            let stat = Stat::parse(&text).unwrap();
            assert_eq!((stat.state, stat.start_ticks), (b'S', 4711), "{name}");
        };
        check("shoal");
        check("a b) Z 1 (c");
        assert!(Stat::parse("7 (shoal) S 1 7").is_none());
        assert!(Stat::parse("").is_none());
    }

    /// A process that names `home` and waits until its input ends.
    fn child(home: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "echo && read -r _", "sh", home]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Before, it may be in the middle of becoming the shell.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    }

    #[tokio::test]
    async fn only_the_very_process_is_found_and_only_while_it_runs() {
        let home = Path::new("/some/home");
        let mut child = child("/some/home");
        let id = ProcessId::of(child.id()).unwrap();
        assert!(id.find(Path::new("/some/other")).unwrap().is_none());
        let recycled = ProcessId {
            start_ticks: id.start_ticks + 1,
            ..id
        };
        assert!(recycled.find(home).unwrap().is_none());

        let running = id.find(home).unwrap().unwrap();
        assert!(!running.ended(Duration::ZERO).await.unwrap());
        running.signal(Signal::KILL).unwrap();
        assert!(running.ended(DEADLINE).await.unwrap());
        assert!(id.find(home).unwrap().is_none(), "a zombie does not run");
        child.wait().unwrap();
        assert!(id.find(home).unwrap().is_none());
        running.signal(Signal::KILL).unwrap();
    }
}
