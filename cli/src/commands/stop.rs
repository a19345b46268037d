//! `shoal stop`: asks the daemon to end and waits until its process is gone.
//!
//! It asks through the API. A daemon that does not answer there, or has no socket, is asked by SIGTERM,
//! which goes to the process that holds the home's lock and to no other. SIGKILL is sent only with
//! `--kill`. A daemon that hangs finds the request when it continues, whether this command still waits
//! or not.

use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use shoal_api::{ApiError, ErrorCode, HomeLock};
use tokio::time::{Instant, sleep};

use super::interruptible;
use crate::{
    app::App,
    args::StopArgs,
    daemon,
    holder::{Held, Holder},
    human,
};

/// A node that starts or lost its socket has one within seconds, and one that is busy answers: after
/// this time, or half of the whole, it gets a signal.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The kernel takes a killed process apart at once, unless one of its threads waits for a disk.
const KILLED_DEADLINE: Duration = Duration::from_secs(10);
const GONE_POLL: Duration = Duration::from_millis(20);

/// The result of `shoal stop --json`.
#[derive(Serialize)]
struct Stopped {
    stopped: bool,
    pid: Option<u32>,
    /// The last signal that was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'static str>,
}

/// What came of asking through the API.
enum Asked {
    /// It stops.
    Stops(u32),
    /// It ended by itself.
    Ended,
    /// It has not heard, for this reason.
    Unheard(ApiError),
}

pub(crate) async fn run(app: &App, args: &StopArgs) -> Result<(), ApiError> {
    let stopped = interruptible(app, stop(app, args)).await?;
    app.output.result(&stopped, |text| {
        match (stopped.signal, stopped.pid) {
            (Some(signal), Some(pid)) => {
                text.line(format_args!("stopped: process {pid} ended after {signal}"));
            }
            _ => text.line("stopped"),
        };
    });
    Ok(())
}

async fn stop(app: &App, args: &StopArgs) -> Result<Stopped, ApiError> {
    let start = Instant::now();
    let answer = ANSWER_DEADLINE.min(args.timeout / 2);
    let mut stopped = Stopped {
        stopped: true,
        pid: None,
        signal: None,
    };
    match request(app, start + answer, answer).await? {
        Asked::Stops(pid) => stopped.pid = Some(pid),
        Asked::Ended => return Ok(stopped),
        Asked::Unheard(error) => match holder(app, error)? {
            None => return Ok(stopped),
            Some(held) => {
                signal(app, &held, Signal::TERM)?;
                (stopped.pid, stopped.signal) = (Some(held.pid), Some("SIGTERM"));
                app.output.note(format_args!(
                    "Sent SIGTERM to {}, which does not answer; it ends in order when it goes on.",
                    daemon::holder(app)
                ));
            }
        },
    }
    if is_gone(app, start + args.timeout).await? {
        return Ok(stopped);
    }
    let still = still_there(app, args.timeout);
    if !args.kill {
        return Err(still);
    }
    if let Some(held) = holder(app, still)? {
        signal(app, &held, Signal::KILL)?;
        (stopped.pid, stopped.signal) = (Some(held.pid), Some("SIGKILL"));
    }
    if is_gone(app, Instant::now() + KILLED_DEADLINE).await? {
        return Ok(stopped);
    }
    let message = format!("{} was killed and is still there", daemon::holder(app));
    Err(ApiError::new(ErrorCode::Internal, message).hint(
        "the system ends it when the disk that it waits for answers, or is unmounted by force",
    ))
}

/// Asks it until it hears; one that is starting or stopping has no socket and is waited for.
async fn request(app: &App, deadline: Instant, answer: Duration) -> Result<Asked, ApiError> {
    let mut seen = false;
    loop {
        let error = match daemon::connect(app).await {
            Ok(client) => match client.silent_for(answer).stop().await {
                Ok(stopping) => return Ok(Asked::Stops(stopping.pid)),
                Err(error) if error.code == ErrorCode::DaemonLost => {
                    seen = true;
                    error
                }
                Err(error) => return Err(error),
            },
            Err(error) if error.code == ErrorCode::NoPermission => {
                return Ok(Asked::Unheard(error));
            }
            Err(error) => error,
        };
        if !is_held(app)? {
            return if seen { Ok(Asked::Ended) } else { Err(error) };
        }
        if Instant::now() > deadline {
            return Ok(Asked::Unheard(error));
        }
        seen = true;
        sleep(GONE_POLL).await;
    }
}

/// The process to send a signal to; none when it has ended.
///
/// # Errors
/// When there is one that this command must not or cannot signal; `otherwise` when nothing more is known
/// of it.
fn holder(app: &App, otherwise: ApiError) -> Result<Option<Held>, ApiError> {
    let named = |pid: Option<u32>| pid.map_or(String::new(), |pid| format!(" (process {pid})"));
    let found = Holder::of(&app.home).map_err(|error| daemon::no_look(app, &error))?;
    let home = human::path(&app.home);
    match found {
        Holder::Process(held) => Ok(Some(held)),
        Holder::Nobody if otherwise.code == ErrorCode::NoPermission => Err(otherwise),
        Holder::Nobody => Ok(None),
        Holder::OfUser { pid, user } => {
            let user = match user {
                0 => "root".to_owned(),
                user => format!("the user with the number {user}"),
            };
            let message = format!("the daemon{} on {home} belongs to {user}", named(pid));
            Err(
                ApiError::new(ErrorCode::NoPermission, message).hint(format!(
                    "nothing was sent to it; stop it as {user}, for example with sudo"
                )),
            )
        }
        Holder::Elsewhere { pid } => {
            let message = format!(
                "the daemon on {home} does not answer, and no process here holds its lock: the lock \
                 file names{}",
                pid.map_or(" none".to_owned(), |pid| format!(" process {pid}"))
            );
            Err(ApiError::new(ErrorCode::Internal, message).hint(
                "nothing was sent to any process; stop it in the container, or on the machine, that \
                 it runs in",
            ))
        }
    }
}

fn signal(app: &App, held: &Held, signal: Signal) -> Result<(), ApiError> {
    held.signal(signal).map_err(|error| {
        let who = daemon::holder(app);
        ApiError::of_io(&error, format!("cannot signal {who}"))
            .hint("stop it as the user who started it")
    })
}

async fn is_gone(app: &App, deadline: Instant) -> Result<bool, ApiError> {
    while is_held(app)? {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(GONE_POLL).await;
    }
    Ok(true)
}

fn still_there(app: &App, timeout: Duration) -> ApiError {
    let message = format!(
        "{} is still there after {}",
        daemon::holder(app),
        humantime::format_duration(timeout)
    );
    ApiError::new(ErrorCode::Internal, message).hint(
        "it was asked to stop, and does when it goes on; its log says what it waits for; `shoal stop \
         --kill` ends it at once, and keeps shares and the progress of transfers",
    )
}

fn is_held(app: &App) -> Result<bool, ApiError> {
    HomeLock::is_held(&app.home).map_err(|error| daemon::no_look(app, &error))
}
