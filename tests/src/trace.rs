//! A process whose system calls are watched: told before and after each, and open to change.
//!
//! [`Traced`] runs a program under ptrace, on a thread of its own, as all of ptrace is bound to
//! one thread. Every call of every thread of the program stops there twice. It works with any
//! program as it is, whatever library makes its calls. The program ends with its [`Traced`].
//!
//! Linux on x86-64 only: which call has which number and which arguments is a matter of both.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Waits for a line, so that it can be seized first, and becomes the program then.
const WAIT_AND_BECOME: &str = r#"read -r _ && exec "$@""#;

/// The longest path that Linux takes.
const PATH_BYTES_MAX: usize = 4096;

/// Who is told of the calls.
pub trait Watcher: Send + 'static {
    /// What is kept from the beginning of a call to its end.
    type Begun;

    /// A call is about to be made; with `None` its end is not told.
    fn begin(&mut self, thread: Thread, call: &Call) -> Option<Self::Begun>;

    /// A call was made and gave `result`, a negative error number if it failed. Nothing in the
    /// program has seen that yet.
    fn end(&mut self, thread: Thread, begun: Self::Begun, call: &Call, result: i64);
}

/// A system call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its number, one of `libc::SYS_*`.
    pub number: i64,
    /// Its arguments; those that it does not take are whatever they are.
    pub args: [u64; 6],
}

impl Call {
    fn of(thread: Pid) -> nix::Result<Self> {
        let it = ptrace::getregs(thread)?;
        Ok(Self {
            number: it.orig_rax.cast_signed(),
            args: [it.rdi, it.rsi, it.rdx, it.r10, it.r8, it.r9],
        })
    }
}

/// A thread that stands still in a system call.
#[derive(Debug, Clone, Copy)]
pub struct Thread(Pid);

impl Thread {
    /// The `len` bytes of its memory at `address`.
    ///
    /// # Errors
    /// When they are not all mapped.
    pub fn read(self, address: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(self.proc("mem"))?.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// Overwrites its memory at `address`.
    ///
    /// # Errors
    /// When that is not all mapped.
    pub fn write(self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let memory = File::options().write(true).open(self.proc("mem"))?;
        memory.write_all_at(bytes, address)
    }

    /// The path at `address`, which ends with a zero byte.
    ///
    /// # Errors
    /// When it does not.
    pub fn path(self, address: u64) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let mut bytes = vec![0; PATH_BYTES_MAX];
        // It may end shortly before what is not mapped.
        let read = File::open(self.proc("mem"))?.read_at(&mut bytes, address)?;
        let end = bytes[..read].iter().position(|byte| *byte == 0);
        bytes.truncate(end.ok_or(io::ErrorKind::InvalidData)?);
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }

    /// What stands for the path at `address`, relative to the folder `at` as in `openat`, in this
    /// process.
    ///
    /// # Errors
    /// When it is no path.
    pub fn path_at(self, at: u64, address: u64) -> io::Result<PathBuf> {
        let path = self.path(address)?;
        #[expect(clippy::cast_possible_truncation, reason = "an int in a register")]
        let base = match at as i32 {
            libc::AT_FDCWD => self.proc("cwd"),
            _ => self.fd(at),
        };
        Ok(base.join(path))
    }

    /// What stands for its descriptor `fd` in this process.
    #[must_use]
    pub fn fd(self, fd: u64) -> PathBuf {
        #[expect(clippy::cast_possible_truncation, reason = "an int in a register")]
        let fd = fd as u32;
        self.proc("fd").join(fd.to_string())
    }

    /// Where its descriptor `fd` stands in its file.
    ///
    /// # Errors
    /// When there is no such descriptor.
    pub fn position(self, fd: u64) -> io::Result<u64> {
        let path = self.proc("fdinfo").join(fd.to_string());
        let text = fs::read_to_string(path)?;
        let position = text.lines().find_map(|line| line.strip_prefix("pos:"));
        let position = position.and_then(|it| it.trim().parse().ok());
        position.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn proc(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(name)
    }
}

/// A running program whose calls are watched; it is killed when dropped.
pub struct Traced<W> {
    pid: Pid,
    tracer: Option<JoinHandle<W>>,
}

impl<W: Watcher> Traced<W> {
    /// Starts the program, arguments and environment of `command` with `watcher`, and gives what it
    /// writes to its standard output. Its standard error goes to the file `log`.
    ///
    /// # Errors
    /// When the program cannot be started, or the system does not let this process trace it.
    pub fn start(command: &Command, log: &Path, watcher: W) -> io::Result<(Self, ChildStdout)> {
        let mut waiting = Command::new("sh");
        waiting.stderr(File::options().create(true).append(true).open(log)?);
        waiting.args(["-c", WAIT_AND_BECOME, "sh"]);
        waiting.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => waiting.env(name, value),
                None => waiting.env_remove(name),
            };
        }
        let (sender, started) = mpsc::sync_channel(1);
        let tracer = thread::spawn(move || {
            let mut tracer = Tracer {
                watcher,
                calls: HashMap::new(),
            };
            let begun = begin(waiting).map(|(mut child, pid)| {
                let stdout = child.stdout.take().expect("it is piped");
                (pid, stdout)
            });
            let leader = begun.as_ref().map(|(pid, _)| *pid).ok();
            if sender.send(begun).is_ok()
                && let Some(leader) = leader
            {
                tracer.run(leader);
            }
            tracer.watcher
        });
        let (pid, stdout) = started.recv().map_err(io::Error::other)??;
        let tracer = Some(tracer);
        Ok((Self { pid, tracer }, stdout))
    }

    /// Ends the program as `kill -9` does, waits until it is gone, and gives its watcher back.
    ///
    /// # Panics
    /// When the watcher has panicked.
    pub fn kill(mut self) -> W {
        let tracer = self.end().expect("it is ended once");
        match tracer.join() {
            Ok(watcher) => watcher,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn end(&mut self) -> Option<JoinHandle<W>> {
        let tracer = self.tracer.take()?;
        if !tracer.is_finished() {
            // It may have ended by itself a moment ago.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        Some(tracer)
    }
}

impl<W> Drop for Traced<W> {
    fn drop(&mut self) {
        if let Some(tracer) = self.tracer.take() {
            // As above; a watcher that panicked has said so.
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = tracer.join();
        }
    }
}

/// Starts the program and seizes it before its first call.
fn begin(mut waiting: Command) -> io::Result<(Child, Pid)> {
    let mut child = waiting
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    let mut go = child.stdin.take().expect("it is piped");
    let seized = ptrace::seize(pid, options)
        .and_then(|()| ptrace::interrupt(pid))
        .map_err(io::Error::from)
        .and_then(|()| go.write_all(b"\n"));
    if let Err(error) = seized {
        // It ends without a line too.
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok((child, pid))
}

/// The thread that traces.
struct Tracer<W: Watcher> {
    watcher: W,
    /// The calls that threads are in.
    calls: HashMap<Pid, (Call, Option<W::Begun>)>,
}

impl<W: Watcher> Tracer<W> {
    /// Lets the program run from call to call until it has ended.
    fn run(&mut self, leader: Pid) {
        // Only what this thread traces: the children of other threads are theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let going = match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid == leader => {
                    return;
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    let looked = self.syscall(thread);
                    looked.and_then(|()| ptrace::syscall(thread, None))
                }
                Ok(WaitStatus::PtraceEvent(thread, ..)) => ptrace::syscall(thread, None),
                Ok(WaitStatus::Stopped(thread, signal)) => ptrace::syscall(thread, signal),
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => Ok(()),
                Err(error) => panic!("cannot trace on: {error}"),
            };
            match going {
                // It was killed while it stood.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => panic!("cannot trace on: {error}"),
            }
        }
    }

    fn syscall(&mut self, thread: Pid) -> nix::Result<()> {
        match ptrace::syscall_info(thread)?.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => {
                let call = Call::of(thread)?;
                let begun = self.watcher.begin(Thread(thread), &call);
                self.calls.insert(thread, (call, begun));
            }
            libc::PTRACE_SYSCALL_INFO_EXIT => {
                if let Some((call, Some(begun))) = self.calls.remove(&thread) {
                    let result = ptrace::getregs(thread)?.rax.cast_signed();
                    self.watcher.end(Thread(thread), begun, &call, result);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
