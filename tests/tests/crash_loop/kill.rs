//! When a daemon is killed: not after a time, but after so much of its work.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Instant,
};

use shoal_tests::{DEADLINE, Daemon, Ran, dice::Dice};

/// System calls within which a command is sure to be in its first or its last steps: a small share
/// takes about 200 in all.
const CALLS_AT_AN_END: u64 = 200;

/// A point in the work of a daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KillPoint {
    /// Bytes that it has read and written before the point.
    bytes: u64,
    /// Read and write calls after those bytes.
    calls: u64,
}

impl KillPoint {
    /// A point anywhere in work that moves `bytes`, its first and its last steps as often as all
    /// that lies between them.
    pub(crate) fn choose(dice: &mut Dice, bytes: u64) -> Self {
        match dice.below(4) {
            0 => Self {
                bytes: 0,
                calls: dice.below(CALLS_AT_AN_END),
            },
            1 => Self {
                bytes,
                calls: dice.below(CALLS_AT_AN_END),
            },
            _ => Self {
                bytes: dice.below(bytes + 1),
                calls: 0,
            },
        }
    }
}

impl std::fmt::Display for KillPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} MiB", mib(self.bytes))?;
        match self.calls {
            0 => Ok(()),
            calls => write!(f, " and {calls} calls"),
        }
    }
}

/// Bytes as people read them.
pub(crate) fn mib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let bytes = bytes as f64;
    bytes / 1_048_576.0
}

/// Waits until the victim has come to `point`, or until all is over, and kills it there; says whether it
/// was over.
pub(crate) fn kill_at(
    victim: &mut Daemon,
    point: KillPoint,
    mut is_over: impl FnMut() -> bool,
) -> bool {
    let (start, since) = (Work::of(victim), Instant::now());
    let mut arrived: Option<Work> = None;
    let over = loop {
        let now = Work::of(victim);
        if arrived.is_none() && now.bytes - start.bytes >= point.bytes {
            arrived = Some(now);
        }
        let is_there = arrived.is_some_and(|then| now.calls - then.calls >= point.calls);
        let over = is_over();
        if is_there || over {
            break over;
        }
        assert!(since.elapsed() < DEADLINE, "neither {point} nor an end");
        thread::yield_now();
    };
    victim.kill();
    over
}

/// A command on its way, with the daemon that is to be killed meanwhile. The command ends with
/// this.
pub(crate) struct Running {
    child: Child,
    /// What it prints: a file, which takes it all while nobody reads.
    stdout: File,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let stdout = tempfile::tempfile().expect("a temporary file");
        let writing = stdout.try_clone().expect("a descriptor");
        let child = command.stdout(writing).stderr(Stdio::null()).spawn();
        let child = child.expect("the binary runs");
        Self { child, stdout }
    }

    /// Waits until the victim has come to `point`, or the command to its answer, and kills the
    /// victim there; says whether it was the answer. `look` is called all the while.
    pub(crate) fn kill_at(
        &mut self,
        victim: &mut Daemon,
        point: KillPoint,
        mut look: impl FnMut(),
    ) -> bool {
        kill_at(victim, point, || {
            look();
            self.has_answered()
        })
    }

    /// It takes a while to end after it has said what there is to say.
    pub(crate) fn has_answered(&mut self) -> bool {
        let said = self.stdout.metadata().expect("a file").len();
        said > 0 || self.child.try_wait().expect("a child").is_some()
    }

    /// What the command says in the end.
    pub(crate) fn ended(mut self) -> Ran {
        let status = self.child.wait().expect("a child");
        let mut stdout = Vec::new();
        self.stdout.rewind().expect("a file");
        self.stdout.read_to_end(&mut stdout).expect("a file");
        let stderr = Vec::new();
        Ran::new(&Output {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process has done so far, as Linux counts it in `/proc/<pid>/io`.
#[derive(Clone, Copy)]
struct Work {
    bytes: u64,
    calls: u64,
}

impl Work {
    fn of(daemon: &Daemon) -> Self {
        let path = format!("/proc/{}/io", daemon.pid());
        let text = fs::read_to_string(path).expect("the daemon runs");
        let field = |name: &str| -> u64 {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.and_then(|value| value.parse().ok()).expect(name)
        };
        Self {
            bytes: field("rchar") + field("wchar"),
            calls: field("syscr") + field("syscw"),
        }
    }
}
