//! `shoal stop`: asks the daemon to end and waits until its process is gone.

use std::time::Duration;

use serde::Serialize;
use shoal_node::{
    api::{ApiError, ErrorCode, HomeLock},
    client::Client,
};
use tokio::time::{Instant, sleep};

use super::interruptible;
use crate::app::App;

/// What an ordered shutdown may take: the API's 22 s, the node's own, and a slow disk.
const GONE_DEADLINE: Duration = Duration::from_secs(60);
const GONE_POLL: Duration = Duration::from_millis(20);

/// The result of `shoal stop --json`.
#[derive(Serialize)]
struct Stopped {
    stopped: bool,
    pid: Option<u32>,
}

pub(crate) async fn run(app: &App) -> Result<(), ApiError> {
    let deadline = Instant::now() + GONE_DEADLINE;
    let pid = interruptible(app, request(app, deadline)).await?;
    interruptible(app, gone(app, deadline)).await?;
    app.output
        .result(&Stopped { stopped: true, pid }, |text| text.line("stopped"));
    Ok(())
}

/// Asks it; one that is starting or stopping has no socket and is waited for.
async fn request(app: &App, deadline: Instant) -> Result<Option<u32>, ApiError> {
    let mut seen = false;
    loop {
        let error = match Client::connect(&app.home).await {
            Ok(client) => match client.stop().await {
                Ok(stopping) => return Ok(Some(stopping.pid)),
                Err(error) if error.code == ErrorCode::DaemonLost => return Ok(None),
                Err(error) => return Err(error),
            },
            Err(error) => error,
        };
        if error.code != ErrorCode::NoDaemon || Instant::now() > deadline {
            return Err(error);
        }
        if !is_held(app)? {
            return if seen { Ok(None) } else { Err(error) };
        }
        seen = true;
        sleep(GONE_POLL).await;
    }
}

async fn gone(app: &App, deadline: Instant) -> Result<(), ApiError> {
    while is_held(app)? {
        if Instant::now() > deadline {
            let message = format!(
                "the daemon is still there after {} s",
                GONE_DEADLINE.as_secs()
            );
            return Err(
                ApiError::new(ErrorCode::Internal, message).hint("its log says what it waits for")
            );
        }
        sleep(GONE_POLL).await;
    }
    Ok(())
}

fn is_held(app: &App) -> Result<bool, ApiError> {
    HomeLock::is_held(&app.home)
        .map_err(|error| ApiError::from_io(&error, format!("cannot look at the lock: {error}")))
}
