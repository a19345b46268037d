//! One node as a child of this process, for tests.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
};

use crate::launch::{READY_TIMEOUT, Ready, log_path, open_log, shoal};

/// A running `shoal daemon`; it is killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    home: PathBuf,
    ready: Ready,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process could not be started, or its home not made.
    #[error("cannot start {}: {cause}", .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The process ended, or said something else than that it is ready.
    #[error("the node in {} did not become ready: {said}", .home.display())]
    NotReady {
        /// Its home.
        home: PathBuf,
        /// What it said instead, on stdout or in its log.
        said: String,
    },
}

impl NodeProcess {
    /// Starts `program` as a daemon on `home` with `options`, and waits until it serves.
    ///
    /// # Errors
    /// [`StartError`], after a minute at the latest; nothing keeps running then.
    pub fn start(program: &Path, home: &Path, options: &[String]) -> Result<Self, StartError> {
        let spawned = spawn(program, home, options);
        let mut child = spawned.map_err(|cause| StartError::Spawn {
            program: program.to_owned(),
            cause,
        })?;
        let line = first_line(&mut child).unwrap_or_default();
        match Ready::read(&line) {
            Ok(ready) => Ok(Self {
                child,
                home: home.to_owned(),
                ready,
            }),
            Err(error) => {
                // Either may fail only because the process is gone already.
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(log_path(home)).unwrap_or_default();
                Err(StartError::NotReady {
                    home: home.to_owned(),
                    said: format!("{error}\n{log}"),
                })
            }
        }
    }

    /// Its home.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its peer id.
    #[must_use]
    pub fn peer_id(&self) -> &str {
        &self.ready.peer_id
    }

    /// Where it listens, each address with its peer id, for others to bootstrap to.
    #[must_use]
    pub fn listen(&self) -> &[String] {
        &self.ready.listen
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &Path, home: &Path, options: &[String]) -> io::Result<Child> {
    let log = open_log(home)?;
    shoal(program, home)
        .arg("daemon")
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
}

/// The first line that the process prints; none when it ends or takes too long.
fn first_line(child: &mut Child) -> Option<String> {
    let stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // The thread keeps the pipe open and empty for as long as the process lives.
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        if let Some(Ok(line)) = lines.next() {
            let _ = sender.send(line);
        }
        lines.for_each(drop);
    });
    receiver.recv_timeout(READY_TIMEOUT).ok()
}
