//! Starting a daemon so that it can always be found again.
//!
//! A daemon of a testnet is started behind a gate: a shell that waits for a line on its input and
//! then becomes the daemon, in the same process. The line is sent when the process has been written
//! down. A starter that dies before has closed the input, and the shell ends without having touched
//! anything; one that dies later has left the process in the manifest.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use shoal_api::{ApiError, ErrorBody, ErrorCode};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdout},
    time,
};

use crate::process::ProcessId;

/// A start is one database to open and one port to bind; this is for a machine that is very busy.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The ready line holds a few addresses; a program that writes more is not ours.
const READY_BYTES_MAX: u64 = 64 << 10;

/// Waits for the word, then becomes the command that its arguments are.
const GATE: &str = "read -r _ && exec \"$@\" </dev/null";

/// What the node says when it serves.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) peer_id: String,
    pub(crate) listen: Vec<String>,
}

/// The first line of `shoal --json daemon`.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum FirstLine {
    Ready(Ready),
}

impl Ready {
    /// Reads the first line of a node; an error is what the node said instead, or that it said
    /// nothing.
    pub(crate) fn read(line: &str) -> Result<Self, ApiError> {
        if let Ok(FirstLine::Ready(ready)) = serde_json::from_str(line) {
            return Ok(ready);
        }
        Err(match serde_json::from_str::<ErrorBody>(line) {
            Ok(body) => body.error,
            Err(_) => ApiError::new(ErrorCode::Internal, "it ended before it was ready"),
        })
    }
}

/// Where a daemon in `home` writes its log.
#[must_use]
pub fn log_path(home: &Path) -> PathBuf {
    home.join("log").join("daemon.log")
}

/// The command `shoal --home HOME --json`, without what this process's own environment would tell a
/// node; only the log's filter is passed on.
pub(crate) fn shoal(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--home").arg(home).arg("--json");
    without_configuration(&mut command);
    command
}

/// The log of a node, to append to; makes its folder, and the home, with mode 0700.
pub(crate) fn open_log(home: &Path) -> io::Result<File> {
    let path = log_path(home);
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).open(path)
}

fn without_configuration(command: &mut Command) {
    for (variable, _) in std::env::vars_os() {
        let name = variable.as_encoded_bytes();
        if name.starts_with(b"SHOAL_") && name != b"SHOAL_LOG" {
            command.env_remove(variable);
        }
    }
}

/// A daemon in front of its gate. Dropped, it ends without having done anything.
#[derive(Debug)]
pub(crate) struct Gated {
    child: Child,
    id: ProcessId,
}

impl Gated {
    /// Starts the process that becomes a detached daemon on `home`.
    pub(crate) fn spawn(program: &Path, home: &Path, options: &[String]) -> io::Result<Self> {
        let log = open_log(home)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "sh"]).arg(program);
        command.arg("--home").arg(home);
        command.args(["--json", "daemon", "--detached"]);
        command.args(options);
        without_configuration(&mut command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let child = tokio::process::Command::from(command).spawn()?;
        let pid = child.id().unwrap_or_default();
        let id = ProcessId::of(pid)?;
        Ok(Self { child, id })
    }

    /// Which process it is, before the gate and after it.
    pub(crate) fn id(&self) -> ProcessId {
        self.id
    }

    /// Opens the gate, and waits until the daemon serves.
    ///
    /// # Errors
    /// What the node said instead. It may still run then, and is not ended.
    pub(crate) async fn open(mut self) -> Result<Ready, ApiError> {
        let (Some(mut gate), Some(stdout)) = (self.child.stdin.take(), self.child.stdout.take())
        else {
            return Err(ApiError::new(ErrorCode::Internal, "it has no input"));
        };
        let io = |error: io::Error| ApiError::of_io(&error, "cannot talk to it");
        gate.write_all(b"go\n").await.map_err(io)?;
        drop(gate);
        let line = time::timeout(READY_TIMEOUT, first_line(stdout)).await;
        let late = || {
            let seconds = READY_TIMEOUT.as_secs();
            ApiError::new(ErrorCode::Busy, format!("it was not ready in {seconds} s"))
        };
        Ready::read(&line.map_err(|_| late())?.map_err(io)?)
    }
}

async fn first_line(stdout: ChildStdout) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stdout.take(READY_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_first_line_says_whether_a_node_serves() {
        let ready =
            Ready::read(r#"{"event":"ready","peer_id":"12D3","listen":["/ip4/127.0.0.1/tcp/1"]}"#);
        let ready = ready.unwrap();
        assert_eq!(ready.peer_id, "12D3");
        assert_eq!(ready.listen, ["/ip4/127.0.0.1/tcp/1"]);

        let check = |line: &str, code: ErrorCode| {
            assert_eq!(Ready::read(line).unwrap_err().code, code, "{line}");
        };
        check(
            r#"{"error":{"code":"port_in_use","message":"m","hint":null}}"#,
            ErrorCode::PortInUse,
        );
        check(r#"{"event":"stopped"}"#, ErrorCode::Internal);
        check("hello", ErrorCode::Internal);
        check("", ErrorCode::Internal);
    }

    #[tokio::test]
    async fn nothing_runs_before_the_gate_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let echo = Path::new("/bin/echo");
        let gated = Gated::spawn(echo, &home, &[]).unwrap();
        let running = gated.id().find(&home).unwrap().unwrap();
        assert!(!running.ended(Duration::ZERO).await.unwrap(), "it waits");
        drop(gated);
        assert!(running.ended(READY_TIMEOUT).await.unwrap());

        let gated = Gated::spawn(echo, &home, &[]).unwrap();
        let said = gated.open().await.unwrap_err();
        assert_eq!(said.code, ErrorCode::Internal, "what it echoes is no event");
    }
}
