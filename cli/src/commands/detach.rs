//! `shoal daemon --detach`: starts this program again as a daemon of its own session, and returns
//! when that is ready.
//!
//! The daemon's standard output is a pipe to this process until the first line has come; its
//! standard error and its log are files in the home. A daemon that does not get ready is ended, so
//! that nothing half-started stays behind.

use std::{ffi::OsString, process::Stdio, time::Duration};

use serde_json::Value;
use shoal_api::{ApiError, ErrorBody, ErrorCode};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

use super::interruptible;
use crate::{
    app::App,
    human,
    logging::{self, LogFile},
};

/// Opening a large index, with room for a disk that has to spin up.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The ready line holds a few dozen addresses; a daemon that writes more is not ours.
const READY_BYTES_MAX: u64 = 64 << 10;

pub(crate) async fn run(app: &App) -> Result<(), ApiError> {
    let mut child = spawn(app)?;
    let ready = tokio::time::timeout(READY_DEADLINE, first_line(&mut child));
    let line = interruptible(app, async {
        ready
            .await
            .map_err(|_| not_ready(app, "it was not ready within a minute"))?
    })
    .await;
    let ready = line.and_then(|line| parse(app, &line));
    if ready.is_err() {
        // It has ended by itself already, unless it hangs.
        let _ = child.kill().await;
    }
    let ready = ready?;
    app.output.result(&ready, |text| {
        let pid = child.id().unwrap_or_default();
        let peer_id = ready["peer_id"].as_str().unwrap_or_default();
        text.line(format_args!(
            "ready: {} (process {pid})",
            human::escape(peer_id)
        ));
    });
    if let Some(note) = ready["note"].as_str() {
        app.output.note(human::escape(note));
    }
    app.output.note(format_args!(
        "The log is {}, and `shoal logs` shows it; `shoal stop` ends the daemon.",
        human::path(&LogFile::path(&app.home))
    ));
    Ok(())
}

/// Makes this process the leader of a session without a terminal, so that closing one does not end
/// it.
pub(crate) fn leave_session() -> Result<(), ApiError> {
    rustix::process::setsid().map(drop).map_err(|error| {
        ApiError::new(
            ErrorCode::Internal,
            format!("cannot leave the session: {error}"),
        )
    })
}

fn spawn(app: &App) -> Result<Child, ApiError> {
    let program = std::env::current_exe()
        .map_err(|error| ApiError::of_io(&error, "cannot find this program"))?;
    let path = LogFile::path(&app.home);
    let log = logging::append(&path).map_err(|error| logging::unwritable(&path, &error))?;
    let failed = |error| {
        let program = human::path(&program);
        ApiError::of_io(&error, format!("cannot start the daemon {program}"))
    };
    Command::new(&program)
        .args(arguments())
        .arg("--json")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)
}

/// This process's own arguments, as the one in the background.
fn arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--json")
        .map(|argument| {
            if argument == "--detach" {
                "--detached".into()
            } else {
                argument
            }
        })
}

async fn first_line(child: &mut Child) -> Result<String, ApiError> {
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let read = BufReader::new(stdout.take(READY_BYTES_MAX))
            .read_line(&mut line)
            .await;
        read.map_err(|error| ApiError::of_io(&error, "cannot hear the daemon that was started"))?;
    }
    Ok(line)
}

/// The ready line, or the error that the daemon reported in its place.
fn parse(app: &App, line: &str) -> Result<Value, ApiError> {
    let value: Value =
        serde_json::from_str(line).map_err(|_| not_ready(app, "it ended before it was ready"))?;
    match serde_json::from_value::<ErrorBody>(value.clone()) {
        Ok(body) => Err(body.error),
        Err(_) => Ok(value),
    }
}

fn not_ready(app: &App, how: &str) -> ApiError {
    let log = LogFile::path(&app.home);
    ApiError::new(
        ErrorCode::Internal,
        format!("the daemon did not start: {how}"),
    )
    .hint(format!("see {}", log.display()))
}
