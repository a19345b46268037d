//! Runs the program that a person has set for transfers that are done.
//!
//! The program gets two arguments, the path of what was fetched and its CID; no shell reads them, nor
//! the program's own path. It comes from the configuration file, the environment or a command line, and
//! from nothing else: no request can set it. At most [`RUNNING_MAX`] run at a time and
//! [`WAITING_MAX`] wait; one that takes longer than [`TIME_MAX`] is killed with all that it has started,
//! and so is one that runs when the node ends. That it failed is told in the log and beside its
//! transfer, and changes nothing of that.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use shoal_api::types as api;
use shoal_ground::said::said;
use tokio::{
    process::Command,
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Program;

/// Programs that run at a time.
pub const RUNNING_MAX: usize = 4;
/// Transfers whose program waits for its turn; for one more it is not run.
pub const WAITING_MAX: usize = 256;
/// The longest that one may run.
pub const TIME_MAX: Duration = Duration::from_secs(600);
/// Transfers of which it is known what became of the program: as many as are listed once they are
/// over.
const KNOWN_MAX: usize = 64 + WAITING_MAX;

/// The configured program of a node.
pub(super) struct OnDone {
    program: Option<PathBuf>,
    known: Mutex<BTreeMap<u64, api::OnDone>>,
}

/// Where transfers are named that are done.
pub(super) struct DoneQueue {
    on_done: Arc<OnDone>,
    queue: mpsc::Sender<Done>,
}

struct Done {
    transfer: u64,
    path: PathBuf,
    cid: String,
}

impl OnDone {
    pub(super) fn new(program: &Program) -> Arc<Self> {
        Arc::new(Self {
            program: program.path().map(Path::to_owned),
            known: Mutex::default(),
        })
    }

    /// Begins to run the program for what is named in the queue, until `shutdown`; none where there is
    /// no program.
    pub(super) fn start(
        self: &Arc<Self>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Option<DoneQueue> {
        let program = self.program.clone()?;
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let running = Arc::clone(self).run_all(program, waiting);
        let until = shutdown.clone();
        tasks.spawn(async move { until.run_until_cancelled(running).await });
        Some(DoneQueue {
            on_done: Arc::clone(self),
            queue,
        })
    }

    /// What became of the program that was run for a transfer.
    pub(super) fn of(&self, transfer: u64) -> Option<api::OnDone> {
        self.known.lock().get(&transfer).cloned()
    }

    async fn run_all(self: Arc<Self>, program: PathBuf, mut waiting: mpsc::Receiver<Done>) {
        let room = Arc::new(Semaphore::new(RUNNING_MAX));
        // Dropped with this future, they end with it.
        let mut running = tokio::task::JoinSet::new();
        while let Some(done) = waiting.recv().await {
            let Ok(turn) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            while running.try_join_next().is_some() {}
            let (this, program) = (Arc::clone(&self), program.clone());
            running.spawn(async move {
                this.run_one(&program, &done).await;
                drop(turn);
            });
        }
    }

    async fn run_one(&self, program: &Path, done: &Done) {
        self.note(done.transfer, api::OnDone::Running);
        let ran = run(program.as_os_str(), &done.path, &done.cid, Told::Nobody).await;
        self.note(
            done.transfer,
            match ran {
                Ok(()) => api::OnDone::Done,
                Err(reason) => {
                    let (transfer, program) = (done.transfer, program.display());
                    tracing::warn!(transfer, %program, "on_done: {reason}");
                    api::OnDone::Failed { reason }
                }
            },
        );
    }

    fn note(&self, transfer: u64, state: api::OnDone) {
        let mut known = self.known.lock();
        known.insert(transfer, state);
        while known.len() > KNOWN_MAX {
            known.pop_first();
        }
    }
}

impl DoneQueue {
    /// Has the program run for a transfer. Never waits.
    pub(super) fn note(&self, transfer: u64, path: &Path, cid: &str) {
        self.on_done.note(transfer, api::OnDone::Waiting);
        let done = Done {
            transfer,
            path: path.to_owned(),
            cid: cid.to_owned(),
        };
        if self.queue.try_send(done).is_err() {
            let reason = format!("it was not run: {WAITING_MAX} others wait for their turn");
            tracing::warn!(transfer, "on_done: {reason}");
            self.on_done.note(transfer, api::OnDone::Failed { reason });
        }
    }
}

/// Where a program's own words go.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// Nowhere.
    Nobody,
    /// To this process's standard error.
    Stderr,
}

/// Runs a program for something that was fetched, until it has ended, at most [`TIME_MAX`]. Dropped, it
/// kills the program and all that it has started.
///
/// # Errors
/// One sentence, when it cannot be run, does not end in time, or does not end well.
pub async fn run(program: &OsStr, path: &Path, cid: &str, told: Told) -> Result<(), String> {
    let named = program.display();
    let words = || match told {
        Told::Nobody => Ok(Stdio::null()),
        Told::Stderr => rustix::io::dup(io::stderr()).map(Stdio::from),
    };
    let (stdout, stderr) = words()
        .and_then(|stdout| Ok((stdout, words()?)))
        .map_err(|error| format!("{named} cannot be run: {}", said(&error.into())))?;
    refuse_shell(Path::new(program)).map_err(|why| format!("{named} cannot be run: {why}"))?;
    let started = Command::new(program)
        .arg(path)
        .arg(cid)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        // A group of its own, so that all that it starts can be ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = started.map_err(|error| format!("{named} cannot be run: {}", said(&error)))?;
    let mut group = Group(child.id());
    match tokio::time::timeout(TIME_MAX, child.wait()).await {
        Ok(Ok(status)) => {
            group.0 = None;
            ended(&named.to_string(), status)
        }
        Ok(Err(error)) => Err(format!("{named} cannot be waited for: {}", said(&error))),
        Err(_) => Err(format!(
            "{named} was killed: it had not ended after {} minutes",
            TIME_MAX.as_secs() / 60
        )),
    }
}

/// The processes that a program has started; they are killed when it is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = leader.and_then(Pid::from_raw) {
            // Its processes may have ended meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Refuses a text file that does not say what runs it: some systems would have a shell read it.
fn refuse_shell(program: &Path) -> Result<(), String> {
    if program.components().count() < 2 {
        // Looked for in PATH, by the system.
        return Ok(());
    }
    let mut head = [0; 2];
    let is_text = match File::open(program).and_then(|mut file| file.read_exact(&mut head)) {
        // What cannot be read may be run all the same; what is not there, the system says.
        Err(_) => false,
        Ok(()) => &head != b"#!" && head.iter().all(|byte| byte.is_ascii() && *byte >= b'\t'),
    };
    // A binary begins with a byte that no text has.
    match is_text && head[0] != 0x7f {
        true => Err("it is a text that does not begin with `#!` and what is to run it".to_owned()),
        false => Ok(()),
    }
}

fn ended(named: &str, status: ExitStatus) -> Result<(), String> {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("{named} has ended with exit code {code}")),
        (None, signal) => Err(format!(
            "{named} was ended by signal {}",
            signal.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn script(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        // Written by another process: one that is forked meanwhile would keep it open for writing,
        // and the system would not run it.
        let source = dir.join("source");
        fs::write(&source, text).unwrap();
        let copied = std::process::Command::new("cp")
            .args([&source, &path])
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[tokio::test]
    async fn no_shell_reads_the_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let text = format!(
            "#!/bin/sh\nprintf '%s|' \"$#\" \"$@\" > '{}'\n",
            told.display()
        );
        let program = script(dir.path(), "a program", &text, 0o700);
        let odd = Path::new("/x/$(touch oops)\n-rf `;'\"");
        let ran = run(program.as_os_str(), odd, "bafk", Told::Nobody).await;
        assert_eq!(ran, Ok(()));
        let expected = format!("2|{}|bafk|", odd.display());
        assert_eq!(fs::read_to_string(told).unwrap(), expected);
    }

    #[tokio::test]
    async fn what_does_not_run_or_end_well_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let check = async |program: PathBuf, says: &str| {
            let ran = run(program.as_os_str(), dir, "bafk", Told::Nobody).await;
            let why = ran.unwrap_err();
            assert!(why.contains(says), "{program:?}: {why}");
        };
        check(dir.join("missing"), "cannot be run").await;
        check(dir.to_owned(), "cannot be run").await;
        check(script(dir, "plain", "#!/bin/sh\n", 0o600), "cannot be run").await;
        check(
            script(dir, "bare", "exit 0\n", 0o700),
            "does not begin with",
        )
        .await;
        check(script(dir, "gone", "#!/nowhere\n", 0o700), "cannot be run").await;
        check(
            script(dir, "three", "#!/bin/sh\nexit 3\n", 0o700),
            "exit code 3",
        )
        .await;
        check(
            script(dir, "term", "#!/bin/sh\nkill -9 $$\n", 0o700),
            "signal 9",
        )
        .await;
    }

    #[tokio::test]
    async fn what_hangs_ends_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let text = format!(
            "#!/bin/sh\nsleep 1000 &\necho $! > '{0}.new'\nmv '{0}.new' '{0}'\nwait\n",
            told.display()
        );
        let program = script(dir.path(), "hangs", &text, 0o700);
        let running = run(program.as_os_str(), dir.path(), "bafk", Told::Nobody);
        let child = async {
            loop {
                if let Ok(text) = fs::read_to_string(&told) {
                    return text.trim().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let child = tokio::select! {
            ran = running => panic!("{ran:?}"),
            child = child => child,
        };
        // The future is dropped by now. A killed process stays listed until its parent looks.
        let state = || fs::read_to_string(format!("/proc/{child}/stat"));
        while state().is_ok_and(|it| !it.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
