//! `shoal testnet demo`: what Shoal does, told as it happens.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use futures::FutureExt as _;
use serde::Serialize;
use shoal_api::ApiError;
use shoal_testnet::{DemoFetch, DemoReport, DemoStep, Error, Testnet, demo};

use super::{dir_option, millis, program};
use crate::{
    app::{self, App},
    args::DemoArgs,
    human,
};

/// Who gave most is what a line of 80 columns has room for.
const SOURCES_SHOWN_MAX: usize = 2;

/// The result of `shoal testnet demo --json`.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    report: DemoReport,
    /// Where the nodes run on, with `--keep`.
    kept: Option<PathBuf>,
}

pub(super) async fn run(app: &App, dir: &Path, args: &DemoArgs) -> Result<(), ApiError> {
    let path = args.path.as_deref().map(readable).transpose()?;
    let start = Instant::now();
    let interrupted = app.interrupt.cancelled().boxed_local();
    let testnet = Testnet::up(dir, args.nodes, &program()?, interrupted).await?;
    let (nodes, took) = (args.nodes, human::duration(millis(start)));
    say(app, format_args!("{nodes} nodes are up in {took}."));
    say(app, "Each is a daemon with a home of its own.");
    let tell = |step: DemoStep<'_>| tell(app, step);
    let report = tokio::select! {
        biased;
        () = app.interrupt.cancelled() => Err(Error::Interrupted),
        report = demo(&testnet, path.as_deref(), &tell) => report,
    };
    let report = match report {
        Ok(report) => report,
        Err(cause) => {
            app.output
                .note("Ending the nodes; another Ctrl-C would leave them running.");
            return Err(testnet.down_after(cause).await.into());
        }
    };
    let kept = args.keep.then(|| testnet.dir().to_owned());
    match &kept {
        Some(dir) => {
            say(
                app,
                "The nodes run on, with what they fetched. See them, and end them:",
            );
            for command in ["status", "down"] {
                let option = dir_option(dir);
                say(app, format_args!("  shoal testnet {command}{option}"));
            }
        }
        None => {
            testnet.down().await?;
            say(app, "All nodes are ended, and their homes removed.");
        }
    }
    if app.output.json {
        app.output.result(&Shown { report, kept }, |_| {});
    }
    Ok(())
}

/// A folder that no other demo uses at the same time.
pub(super) fn own_dir() -> PathBuf {
    std::env::temp_dir().join(format!("shoal-demo-{}", std::process::id()))
}

/// What to share: if it is not there, it is better said before anything is started.
fn readable(path: &Path) -> Result<PathBuf, ApiError> {
    let absolute = app::absolute(path)?.into_path_buf();
    match fs::metadata(&absolute) {
        Ok(_) => Ok(absolute),
        Err(error) => {
            let shown = absolute.display();
            Err(ApiError::of_io(&error, format!("cannot share {shown}")))
        }
    }
}

fn tell(app: &App, step: DemoStep<'_>) {
    match step {
        DemoStep::Shared { origin, share } => {
            let name = human::escape(&share.name);
            let files = human::count(share.files, "file");
            let size = human::size(share.size);
            say(
                app,
                format_args!("\n{origin} shares {name} ({files}, {size})."),
            );
            say(app, "Nothing is copied for that. This is its address:");
            say(app, format_args!("  {}", share.cid));
        }
        DemoStep::Fetching { nodes } => {
            let nodes = human::count(nodes as u64, "other node");
            say(
                app,
                format_args!("\n{nodes} fetch it at once; all they are told is the address:"),
            );
        }
        DemoStep::Killed { origin, last } => {
            say(
                app,
                format_args!("\n{origin} is killed. {last} has nothing of it yet:"),
            );
        }
        DemoStep::Fetched(fetch) => say(app, format_args!("  {}", fetch_line(fetch))),
        DemoStep::Identical { copies } => {
            say(
                app,
                format_args!("\nAll {copies} copies are identical to the original, byte by byte."),
            );
        }
    }
}

/// `node-02 in 0.3 s: 40.1 MiB from node-00, 20.0 MiB from node-01`
fn fetch_line(fetch: &DemoFetch) -> String {
    let shown = fetch.from.iter().take(SOURCES_SHOWN_MAX);
    let mut from: Vec<_> = shown
        .map(|source| format!("{} from {}", human::size(source.bytes), source.node))
        .collect();
    let hidden = fetch.from.len().saturating_sub(SOURCES_SHOWN_MAX);
    if hidden > 0 {
        from.push(format!("and {hidden} more"));
    }
    let took = human::duration(fetch.elapsed_ms);
    format!("{} in {took}: {}", fetch.node, from.join(", "))
}

/// A line for people; with `--json` the report is all there is.
fn say(app: &App, line: impl Display) {
    if !app.output.json {
        app.output.result(&(), |text| text.line(line));
    }
}
