//! Ctrl-C and SIGTERM: the first ends in order, the second at once.

use shoal_node::api::{ApiError, ErrorCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The token that the first signal cancels. Needs a runtime; the watch lasts as long as the
/// process.
pub(crate) fn watch() -> Result<CancellationToken, ApiError> {
    let token = CancellationToken::new();
    let failed = |error| ApiError::from_io(&error, format!("cannot watch for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let first = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if first.is_cancelled() {
                std::process::exit(i32::from(ErrorCode::Interrupted.exit()));
            }
            first.cancel();
        }
    });
    Ok(token)
}
