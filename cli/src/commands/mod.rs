//! One module per command, or per few that belong together: arguments to request, call, result to
//! text.

mod audience;
mod background;
mod cat;
pub(crate) mod config;
pub(crate) mod daemon;
pub(crate) mod db;
pub(crate) mod definition;
pub(crate) mod fetch;
pub(crate) mod find;
pub(crate) mod gc;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod logs;
pub(crate) mod ls;
mod named;
pub(crate) mod peers;
pub(crate) mod rename;
pub(crate) mod replicas;
pub(crate) mod service;
mod serving;
pub(crate) mod share;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod testnet;
pub(crate) mod transfers;
pub(crate) mod unshare;
pub(crate) mod verify;

mod detach;
mod given;

use shoal_api::{ApiError, ErrorCode};

use crate::{app::App, human, output::Output};

/// More than a screen of warnings helps nobody; the JSON has them all.
const WARNINGS_SHOWN_MAX: usize = 20;

/// The result of an operation, unless Ctrl-C comes first.
async fn interruptible<T>(
    app: &App,
    operation: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::select! {
        biased;
        result = operation => result,
        () = app.interrupt.cancelled() => {
            Err(ApiError::new(ErrorCode::Interrupted, "interrupted"))
        }
    }
}

/// Shows warnings, the first of them one by one.
fn show_warnings(output: &Output, warnings: impl ExactSizeIterator<Item = String>) {
    let hidden = warnings.len().saturating_sub(WARNINGS_SHOWN_MAX);
    for warning in warnings.take(WARNINGS_SHOWN_MAX) {
        output.warning(&warning);
    }
    if hidden > 0 {
        let more = human::count(hidden as u64, "more warning");
        output.warning(&format!("and {more}, all of them with --json"));
    }
}
