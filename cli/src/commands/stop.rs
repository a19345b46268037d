//! `shoal stop`: asks the daemon to end and waits until its process is gone.
//!
//! A daemon that hangs finds the request when it continues, whether this command still waits or not.

use std::time::Duration;

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode, HomeLock};
use tokio::time::{Instant, sleep};

use super::interruptible;
use crate::{app::App, daemon};

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
        let error = match daemon::connect(app).await {
            Ok(client) => match client.silent_for(GONE_DEADLINE).stop().await {
                Ok(stopping) => return Ok(Some(stopping.pid)),
                // It has ended, or the deadline has passed: the lock tells which.
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
                "{} is still there after {} s",
                daemon::holder(app),
                GONE_DEADLINE.as_secs()
            );
            return Err(ApiError::new(ErrorCode::Internal, message).hint(
                "it was asked to stop, and does when it goes on; its log says what it waits for",
            ));
        }
        sleep(GONE_POLL).await;
    }
    Ok(())
}

fn is_held(app: &App) -> Result<bool, ApiError> {
    HomeLock::is_held(&app.home)
        .map_err(|error| ApiError::from_io(&error, format!("cannot look at the lock: {error}")))
}
