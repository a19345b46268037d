//! The commands of `shoal` on the home of a node, as a person runs them.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Output, Stdio},
};

use serde::de::DeserializeOwned;
use shoal_api::{ApiError, ErrorBody, ErrorCode};
use tokio::process::Command;

use crate::launch::shoal;

/// Runs `shoal --home HOME --json` with `arguments`, and reads the one document that it prints.
///
/// Dropping the future ends the command, and with it what the node does for it.
pub(crate) async fn run<T: DeserializeOwned>(
    program: &Path,
    home: &Path,
    arguments: &[&OsStr],
) -> Result<T, ApiError> {
    let mut command = Command::from(shoal(program, home));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|error| {
        ApiError::from_io(&error, format!("cannot run {}: {error}", program.display()))
    })?;
    read(&output)
}

fn read<T: DeserializeOwned>(output: &Output) -> Result<T, ApiError> {
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(|error| {
            let message = format!("the answer of the command is not understood: {error}");
            ApiError::new(ErrorCode::Internal, message)
        });
    }
    Err(match serde_json::from_slice::<ErrorBody>(&output.stdout) {
        Ok(body) => body.error,
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let message = format!("the command failed ({}): {said}", output.status);
            ApiError::new(ErrorCode::Internal, message)
        }
    })
}
