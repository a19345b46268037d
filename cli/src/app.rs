//! The surroundings that every command gets.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use etcetera::BaseStrategy as _;
use shoal_api::{ApiError, ErrorCode, types::AbsolutePath};
use tokio_util::sync::CancellationToken;

use crate::{human, output::Output};

/// What a command works with.
pub(crate) struct App {
    /// The node's home, absolute; may not exist yet.
    pub(crate) home: PathBuf,
    /// Where results, hints and errors go.
    pub(crate) output: Output,
    /// Fires at Ctrl-C, and when the terminal closes.
    pub(crate) interrupt: CancellationToken,
    /// Fires when the terminal closes, before `interrupt` does.
    pub(crate) hangup: CancellationToken,
}

/// How long a disk may take to say what is there.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

/// What a look at a disk finds; nothing, where the disk does not answer.
pub(crate) fn looked<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, told) = mpsc::sync_channel(1);
    let looking = thread::Builder::new().spawn(move || {
        // Nobody may be left to hear of it.
        let _ = tell.send(look());
    });
    looking.ok()?;
    told.recv_timeout(LOOK_PATIENCE).ok()
}

/// The home that was asked for, or the platform's place for it.
pub(crate) fn home(asked: Option<&Path>) -> Result<PathBuf, ApiError> {
    match asked {
        Some(home) => absolute(home).map(AbsolutePath::into_path_buf),
        None => etcetera::choose_base_strategy()
            .map(|dirs| dirs.data_dir().join("shoal"))
            .map_err(|_| {
                ApiError::new(ErrorCode::Usage, "there is no home directory for this user")
                    .hint("choose a folder with --home or SHOAL_HOME")
            }),
    }
}

/// A path that means the same in the daemon's working directory.
pub(crate) fn absolute(path: &Path) -> Result<AbsolutePath, ApiError> {
    let absolute = std::path::absolute(path)
        .map_err(|error| ApiError::of_io(&error, format!("cannot use the path {path:?}")))?;
    if absolute.to_str().is_none() {
        return Err(ApiError::new(
            ErrorCode::BadName,
            format!("the path is not UTF-8: {}", human::path(&absolute)),
        )
        .hint("rename it; names have to mean the same on every machine"));
    }
    absolute
        .try_into()
        .map_err(|error: String| ApiError::new(ErrorCode::Usage, error))
}
