//! `shoal testnet`: a network of real daemons on this machine.
//!
//! What starts, ends and removes nodes is in `shoal-testnet`; here are the words.

mod demo;
#[cfg_attr(not(feature = "scenarios"), path = "unlinked.rs")]
mod links;
#[cfg(feature = "scenarios")]
mod live;
mod logs;
#[cfg(feature = "scenarios")]
mod run;
mod status;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use etcetera::BaseStrategy as _;
use futures::FutureExt as _;
use serde::Serialize;
use shoal_api::{ApiError, ErrorCode};
use shoal_net::emulation::Plan;
use shoal_testnet::{Down, Error, NodeEntry, Setup, Testnet, plan_in};

use crate::{
    app::{self, App},
    args::{TestnetArgs, TestnetCommand, UpArgs},
    human,
};

/// In the platform's data directory, beside the home of this user's own node.
const FOLDER_DEFAULT: &str = "shoal-testnet";

/// The result of `shoal testnet up --json`.
#[derive(Serialize)]
struct Up {
    dir: PathBuf,
    manifest: PathBuf,
    nodes: Vec<NodeEntry>,
    /// What the links are like, if they are emulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Plan>,
    elapsed_ms: u64,
}

/// The result of `shoal testnet kill` and `start --json`.
#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    node: NodeEntry,
    running: bool,
    /// Whether it was otherwise before.
    changed: bool,
}

pub(crate) async fn run(app: &App, args: TestnetArgs) -> Result<ExitCode, ApiError> {
    let dir = match (args.dir, &args.command) {
        (Some(dir), _) => app::absolute(&dir)?.into_path_buf(),
        (None, TestnetCommand::Demo(_)) => demo::own_dir(),
        #[cfg(feature = "scenarios")]
        (None, TestnetCommand::Run(_)) => run::own_dir(),
        (None, _) => default_dir()?,
    };
    match args.command {
        TestnetCommand::Up(args) => up(app, &dir, &args).await,
        TestnetCommand::Down => down(app, &dir).await,
        TestnetCommand::Status => status::run(app, &dir).await,
        TestnetCommand::Kill(args) => kill(app, &dir, args.node).await,
        TestnetCommand::Start(args) => start(app, &dir, args.node).await,
        #[cfg(feature = "scenarios")]
        TestnetCommand::Partition(args) => links::partition(app, &dir, args).await,
        #[cfg(feature = "scenarios")]
        TestnetCommand::Heal(args) => links::heal(app, &dir, args).await,
        #[cfg(feature = "scenarios")]
        TestnetCommand::Degrade(args) => links::degrade(app, &dir, &args).await,
        TestnetCommand::Logs(args) => logs::run(app, &dir, &args).await,
        TestnetCommand::Demo(args) => demo::run(app, &dir, &args).await,
        #[cfg(feature = "scenarios")]
        TestnetCommand::Run(args) => return run::run(app, &dir, &args).await,
        #[cfg(feature = "scenarios")]
        TestnetCommand::Scenarios => run::list(app),
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn up(app: &App, dir: &Path, args: &UpArgs) -> Result<(), ApiError> {
    let start = Instant::now();
    let interrupted = app.interrupt.cancelled().boxed_local();
    let setup = Setup {
        nodes: args.nodes,
        transport: args.transport,
        links: links::planned(args),
    };
    let testnet = Testnet::up_as(dir, setup, &program()?, interrupted).await?;
    let up = Up {
        dir: testnet.dir().to_owned(),
        manifest: testnet.manifest_path(),
        nodes: testnet.nodes(),
        links: plan_in(testnet.dir())?,
        elapsed_ms: millis(start),
    };
    app.output.result(&up, |text| {
        for node in &up.nodes {
            let listen = node.listen.first().map(String::as_str).unwrap_or_default();
            let listen = listen.split("/p2p/").next().unwrap_or_default();
            text.line(format_args!(
                "{}  {}",
                text.bold(&node.name),
                human::escape(listen)
            ));
        }
        let nodes = human::count(up.nodes.len() as u64, "node");
        let took = human::duration(up.elapsed_ms);
        let place = human::path(&up.dir);
        text.line(format_args!("{nodes} up in {took}, in {place}"));
        if let Some(plan) = &up.links {
            links::show_first(text, plan);
        }
    });
    let home = human::shell_quote(&up.dir.join("node-00").to_string_lossy());
    app.output.note(format_args!(
        "Each is an ordinary daemon: shoal --home {home} status"
    ));
    app.output.note(format_args!(
        "End them all, and remove their homes: shoal testnet down{}",
        dir_option(&up.dir)
    ));
    Ok(())
}

async fn down(app: &App, dir: &Path) -> Result<(), ApiError> {
    let down = match Testnet::open(dir, &program()?).await? {
        Some(testnet) => super::interruptible(app, async { Ok(testnet.down().await?) }).await?,
        None => Down::default(),
    };
    app.output.result(&down, |text| {
        if down.nodes == 0 {
            return text.line(format_args!("no testnet in {}", human::path(dir)));
        }
        let nodes = human::count(down.nodes as u64, "node");
        let killed = match down.killed {
            0 => String::new(),
            killed => format!(", {killed} of them killed"),
        };
        text.line(format_args!(
            "{nodes} removed, {} ended{killed}",
            down.stopped
        ));
    });
    if down.nodes > 0 && dir.exists() {
        app.output
            .note(format_args!("Left {} itself.", human::path(dir)));
    }
    Ok(())
}

async fn kill(app: &App, dir: &Path, index: usize) -> Result<(), ApiError> {
    let testnet = open(dir).await?;
    let changed = testnet.kill(index).await?;
    show(app, testnet.node(index)?, changed)
}

async fn start(app: &App, dir: &Path, index: usize) -> Result<(), ApiError> {
    let testnet = open(dir).await?;
    let start = async { Ok(testnet.start(index).await?) };
    let changed = super::interruptible(app, start).await;
    if changed.is_err() {
        testnet.kill(index).await?;
    }
    show(app, testnet.node(index)?, changed?)
}

fn show(app: &App, node: NodeEntry, changed: bool) -> Result<(), ApiError> {
    let changed = Changed {
        running: node.is_running()?,
        node,
        changed,
    };
    app.output.result(&changed, |text| {
        let state = match (changed.running, changed.changed) {
            (true, true) => "started",
            (true, false) => "runs already",
            (false, true) => "killed",
            (false, false) => "does not run",
        };
        text.line(format_args!("{} {state}", changed.node.name));
    });
    Ok(())
}

/// The testnet that there has to be.
async fn open(dir: &Path) -> Result<Testnet, ApiError> {
    let testnet = Testnet::open(dir, &program()?).await?;
    let dir = dir.to_owned();
    Ok(testnet.ok_or(Error::Absent { dir })?)
}

/// What the nodes run: this very program.
fn program() -> Result<PathBuf, ApiError> {
    std::env::current_exe().map_err(|error| ApiError::of_io(&error, "cannot find this program"))
}

/// The folder of this user's testnet.
fn default_dir() -> Result<PathBuf, ApiError> {
    let dirs = etcetera::choose_base_strategy().map_err(|_| {
        ApiError::new(ErrorCode::Usage, "there is no home directory for this user")
            .hint("choose a folder with --dir")
    })?;
    Ok(dirs.data_dir().join(FOLDER_DEFAULT))
}

/// How to name this folder to another command, unless it finds it by itself.
fn dir_option(dir: &Path) -> String {
    let default = default_dir().and_then(|it| {
        it.canonicalize()
            .map_err(|error| ApiError::from_io(&error, "there is none"))
    });
    match default {
        Ok(default) if default == dir => String::new(),
        _ => format!(" --dir {}", human::shell_quote(&dir.to_string_lossy())),
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
