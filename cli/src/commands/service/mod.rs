//! `shoal service`: the daemon as a systemd user service, which starts when its user logs in.
//!
//! The unit itself is in [`mod@unit`]; here is what systemd is told, or, where there is none, what the
//! person is told instead. Nothing but the unit and the link that enables it is ever removed.

mod unit;

use std::{
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode, HomeLock, client::Client};
use tokio::{
    net::UnixStream,
    process::Command,
    time::{Instant, sleep},
};

use super::interruptible;
use crate::{
    app::App,
    args::{InstallArgs, ServiceCommand},
    daemon, human,
};

/// Opening a large index, with room for a disk that has to spin up.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(50);

/// The words of one call of `systemctl --user`.
type Step = &'static [&'static str];

const RELOAD: Step = &["daemon-reload"];
const ENABLE: Step = &["enable", unit::NAME];
const START: Step = &["start", unit::NAME];
const RESTART: Step = &["restart", unit::NAME];
const DISABLE: Step = &["disable", "--now", unit::NAME];

/// The result of `shoal service --json`.
#[derive(Serialize)]
struct Changed {
    unit: PathBuf,
    /// Whether it was otherwise before.
    changed: bool,
    /// Whether systemd was told.
    systemd: bool,
    /// What the person has to run, since systemd was not told.
    next: Vec<String>,
}

/// The result of `shoal service install --print --json`.
#[derive(Serialize)]
struct Printed {
    unit: PathBuf,
    text: String,
}

pub(crate) async fn run(app: &App, command: ServiceCommand) -> Result<(), ApiError> {
    let path = unit::folder()?.join(unit::NAME);
    match command {
        ServiceCommand::Install(args) => interruptible(app, install(app, path, &args)).await,
        ServiceCommand::Uninstall => interruptible(app, uninstall(app, path)).await,
    }
}

async fn install(app: &App, path: PathBuf, args: &InstallArgs) -> Result<(), ApiError> {
    let program = std::env::current_exe()
        .map_err(|error| ApiError::of_io(&error, "cannot find this program"))?;
    let text = unit::text(&program, &app.home)?;
    if args.print {
        let printed = Printed { unit: path, text };
        let lines = printed.text.trim_end();
        app.output.result(&printed, |out| out.line(lines));
        return Ok(());
    }
    let before = unit::read(&path)?;
    refuse_other_node(app).await?;
    let changed = before.as_deref() != Some(&text);
    if changed {
        unit::write(&path, &text)?;
    }
    // A service that runs goes on with a new unit only when it is started again.
    let steps = [RELOAD, ENABLE, if changed { RESTART } else { START }];
    let systemd = tell(&steps).await?;
    if systemd {
        wait_until_ready(app).await?;
    }
    show(
        app,
        "installed",
        &Changed::new(path, changed, systemd, &steps),
    );
    if systemd {
        app.output
            .note("It runs, and starts again when you log in. To have it run while you are not:");
        app.output.note("  loginctl enable-linger");
    }
    Ok(())
}

async fn uninstall(app: &App, path: PathBuf) -> Result<(), ApiError> {
    let there = unit::read(&path)?.is_some();
    let stopped = if there {
        tell(&[DISABLE]).await
    } else {
        Ok(false)
    };
    // Where systemd cannot be reached it runs nothing, and the unit goes all the same.
    let changed = unit::remove(&path)?;
    let mut systemd = stopped?;
    if systemd {
        systemd = tell(&[RELOAD]).await?;
    }
    let steps: &[Step] = if changed { &[RELOAD] } else { &[] };
    show(app, "removed", &Changed::new(path, changed, systemd, steps));
    if changed && !systemd {
        app.output
            .note("A daemon that still runs ends with `shoal stop`.");
    }
    Ok(())
}

impl Changed {
    fn new(unit: PathBuf, changed: bool, systemd: bool, steps: &[Step]) -> Self {
        let next = if systemd { &[] } else { steps };
        Self {
            unit,
            changed,
            systemd,
            next: next.iter().map(|step| command_line(step)).collect(),
        }
    }
}

fn show(app: &App, done: &str, result: &Changed) {
    let place = human::path(&result.unit);
    app.output
        .result(result, |text| match (result.changed, done) {
            (true, _) => text.line(format_args!("{done} {place}")),
            (false, "installed") => text.line(format_args!("{place} is as it has to be")),
            (false, _) => text.line(format_args!("there is no {place}")),
        });
    if !result.next.is_empty() {
        app.output
            .note("There is no systemctl here. Where there is one, run:");
    }
    for line in &result.next {
        app.output.note(format_args!("  {line}"));
    }
}

/// A node that runs on the home and is not the service's would keep the service from starting.
async fn refuse_other_node(app: &App) -> Result<(), ApiError> {
    let held = HomeLock::is_held(&app.home).map_err(|error| daemon::no_look(app, &error))?;
    if !held || is_service(&app.home).await? {
        return Ok(());
    }
    let message = format!("another node is running on {}", app.home.display());
    Err(ApiError::new(ErrorCode::AlreadyRunning, message)
        .hint("end it with `shoal stop` and repeat the command, or choose a home with --home"))
}

/// Whether the node on this home is the one that systemd runs.
async fn is_service(home: &Path) -> Result<bool, ApiError> {
    let words = ["show", "--property=MainPID", "--value", unit::NAME];
    let Some(output) = systemctl(&words).await? else {
        return Ok(false);
    };
    let service = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    Ok(service.is_some() && service == process_on(home).await)
}

/// The process that serves the home's socket; none while it is starting or ending.
async fn process_on(home: &Path) -> Option<i32> {
    let socket = UnixStream::connect(shoal_api::socket_path(home).ok()?).await;
    socket.ok()?.peer_cred().ok()?.pid()
}

/// Waits for the daemon that systemd has started.
async fn wait_until_ready(app: &App) -> Result<(), ApiError> {
    let deadline = Instant::now() + READY_DEADLINE;
    while let Err(error) = Client::connect(&app.home).await {
        if error.code != ErrorCode::NoDaemon {
            return Err(error);
        }
        if Instant::now() > deadline {
            let message = "the service was started, and its daemon does not answer";
            return Err(ApiError::new(ErrorCode::Internal, message)
                .hint("see `journalctl --user --unit shoal`"));
        }
        sleep(READY_POLL).await;
    }
    Ok(())
}

/// Takes the steps; says whether there is a systemd to take them.
async fn tell(steps: &[Step]) -> Result<bool, ApiError> {
    for step in steps {
        let Some(output) = systemctl(step).await? else {
            return Ok(false);
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let message = format!("`{}` failed: {}", command_line(step), said.trim());
            return Err(ApiError::new(ErrorCode::Internal, message)
                .hint("repeat the command in a session of this user, as a login makes one"));
        }
    }
    Ok(true)
}

/// Runs `systemctl --user`; none when there is no such program.
async fn systemctl(words: &[&str]) -> Result<Option<Output>, ApiError> {
    let mut command = Command::new("systemctl");
    command.arg("--user").args(words).stdin(Stdio::null());
    match command.kill_on_drop(true).output().await {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ApiError::of_io(&error, "cannot run systemctl")),
    }
}

fn command_line(step: &[&str]) -> String {
    format!("systemctl --user {}", step.join(" "))
}
