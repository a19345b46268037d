//! `shoal fetch`: gets what a link names, verified; the same command again resumes it.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use shoal_api::{
    ApiError, ErrorCode,
    types::{Destination, FetchRequest, FetchResult},
};
use shoal_node::{
    config::{Config, Overrides},
    on_done::{self, Told},
};
use tokio::sync::watch;

use super::{background, cat, given, interruptible, show_warnings};
use crate::{
    app::{self, App},
    args::{FetchArgs, WithoutDaemon},
    human,
    output::Output,
    progress::{Bar, Waiting},
    session::{Purpose, Session, environment},
};

/// What a command whose terminal was closed takes at most until it has left its transfer to the
/// daemon.
const HANGUP_GRACE: Duration = Duration::from_secs(5);

/// More than a screen of new names helps nobody; the JSON has them.
const RENAMED_SHOWN_MAX: usize = 20;

pub(crate) async fn run(app: &App, args: FetchArgs) -> Result<(), ApiError> {
    let link = given::link(app, &args.link)?;
    if args.stdout {
        return cat::run(app, link, args).await;
    }
    let (background, on_done) = (args.background, args.on_done.clone());
    let (request, without) = request(link, args)?;
    if background {
        return background::run(app, &request).await;
    }
    let mut session = Session::open(app, Purpose::Fetching, &without).await?;
    let result = loop {
        let result = fetch(app, &session, &request).await;
        match &result {
            Err(error) if session.is_lost(app, error).await => {
                session = session.again(app, Purpose::Fetching, &without).await?;
            }
            _ => break result,
        }
    };
    let result = match result {
        Ok(mut result) => {
            let failed = run_programs(app, &session, on_done, &result).await;
            result.warnings.extend(failed);
            show(&app.output, &request, &result);
            let is_served = !request.no_serve && request.only.is_empty();
            serves_on(&app.output, &session, is_served);
            Ok(())
        }
        Err(error) => Err(error),
    };
    session.close().await;
    result
}

/// Says whether what was fetched is served on, and how not to.
fn serves_on(output: &Output, session: &Session, is_served: bool) {
    if !is_served {
        return;
    }
    output.note(match session.is_daemon() {
        true => "The daemon serves it on from there; --no-serve or `shoal unshare` prevents that.",
        false => {
            "The next daemon serves it on from there; --no-serve or `shoal unshare` prevents that."
        }
    });
}

/// Runs what is to be run when a fetch is done: what the command line says, and what the configuration
/// says where no daemon does. The failures, one sentence each.
async fn run_programs(
    app: &App,
    session: &Session,
    given: Option<PathBuf>,
    result: &FetchResult,
) -> Vec<String> {
    let mut failed = Vec::new();
    let mut programs = Vec::new();
    if !session.is_daemon() {
        match Config::load(&app.home, environment(), Overrides::default()) {
            Ok(config) => programs.extend(config.transfers.on_done.path().map(Path::to_owned)),
            Err(error) => failed.push(format!("on_done: {error}")),
        }
    }
    programs.extend(given);
    for program in programs {
        let running = on_done::run(program.as_os_str(), &result.path, &result.cid, Told::Stderr);
        match app.interrupt.run_until_cancelled(running).await {
            Some(Ok(())) => {}
            Some(Err(why)) => failed.push(format!("on_done: {why}")),
            None => failed.push(format!(
                "on_done: {} was ended with this command",
                human::path(&program)
            )),
        }
    }
    failed
}

async fn fetch(
    app: &App,
    session: &Session,
    request: &FetchRequest,
) -> Result<FetchResult, ApiError> {
    let bar = Bar::start(&app.output, "starting");
    let (knows, mut transfer) = watch::channel(None);
    let waiting = Waiting::new(&app.output, request.patience_ms);
    let fetching = session.client.fetch(request, |update| {
        knows.send_replace(Some(update.transfer));
        waiting.see(&update.progress);
        bar.fetch(&update.progress);
    });
    let mut fetching = pin!(fetching);
    let fetched = interruptible(app, fetching.as_mut()).await;
    if app.hangup.is_cancelled() && fetched.is_err() && !session.is_foreground() {
        // As long as this command still waits for it, the transfer runs.
        tokio::select! {
            _ = &mut fetching => {}
            () = leave_to_daemon(session, &mut transfer) => {}
        }
    }
    fetched.map_err(|error| match error.code {
        // This command was; a transfer that was paused by another one says so itself.
        ErrorCode::Interrupted if error.hint.is_none() => {
            error.hint("what was fetched is kept; run the same command to resume")
        }
        _ => error,
    })
}

/// The terminal was closed: has the daemon go on with the transfer although nobody waits for it.
async fn leave_to_daemon(session: &Session, transfer: &mut watch::Receiver<Option<u64>>) {
    let leaving = async {
        let known = transfer.wait_for(Option::is_some).await.map(|id| *id);
        if let Ok(Some(id)) = known {
            session
                .client
                .tell_transfer(&id.to_string(), "resume")
                .await?;
        }
        Ok::<_, ApiError>(())
    };
    // Nobody is there to be told that it did not work.
    let _ = tokio::time::timeout(HANGUP_GRACE, leaving).await;
}

fn request(link: String, args: FetchArgs) -> Result<(FetchRequest, WithoutDaemon), ApiError> {
    let request = FetchRequest {
        destination: destination(args.output)?,
        timeout_ms: args.deadlines.timeout.millis(),
        patience_ms: args.deadlines.patience_millis(),
        link,
        peers: args.peer,
        only: args.only,
        overwrite: args.overwrite,
        rename_unsafe: args.rename_unsafe,
        no_serve: args.no_serve,
        sync: args.sync,
    };
    Ok((request, args.without))
}

/// What `-o` means: an existing folder or a trailing `/` is a place to put things into, anything
/// else the final name.
fn destination(output: Option<PathBuf>) -> Result<Destination, ApiError> {
    let Some(output) = output else {
        return Ok(Destination::Into(app::absolute(Path::new("."))?));
    };
    let path = app::absolute(&output)?;
    let trailing_slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if trailing_slash || is_dir(path.as_path()) {
        Ok(Destination::Into(path))
    } else {
        Ok(Destination::At(path))
    }
}

/// Whether there is a folder; no, where its disk does not answer: the daemon, which can wait for that,
/// looks again.
fn is_dir(path: &Path) -> bool {
    let path = path.to_owned();
    app::looked(move || path.is_dir()).unwrap_or(false)
}

fn show(output: &Output, request: &FetchRequest, result: &FetchResult) {
    show_warnings(output, result.warnings.iter().cloned());
    for renamed in result.renamed.iter().take(RENAMED_SHOWN_MAX) {
        let (from, to) = (
            human::escape_message(&renamed.from),
            human::escape(&renamed.to),
        );
        output.note(format_args!("Renamed {from} to {to}"));
    }
    if let Some(more @ 1..) = result.renamed.len().checked_sub(RENAMED_SHOWN_MAX) {
        let more = human::count(more as u64, "more name");
        output.note(format_args!("and {more}: --json lists them"));
    }
    let mut summary = format!(
        "Fetched {}, {} in {}",
        human::count(result.files, "file"),
        human::size(result.size),
        human::duration(result.elapsed_ms),
    );
    if !result.from.is_empty() {
        summary += &format!(" from {}", human::count(result.from.len() as u64, "peer"));
    }
    if result.resumed_bytes > 0 {
        summary += &format!("; {} were there already", human::size(result.resumed_bytes));
    }
    if result.local_bytes > 0 {
        summary += &format!("; {} copied on this disk", human::size(result.local_bytes));
    }
    if !request.only.is_empty() {
        let skipped = human::count(result.skipped, "file");
        summary += &format!("; {skipped} left out. A part of a share is not served on");
    }
    output.note(format_args!("{summary}."));
    output.result(result, |text| text.line(human::path(&result.path)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn where_it_lands() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().to_owned();
        let new = there.join("new");
        let absolute = |path: &Path| app::absolute(path).unwrap();
        let here = std::env::current_dir().unwrap();

        let check = |output: Option<PathBuf>, expected: Destination| {
            assert_eq!(destination(output.clone()).unwrap(), expected, "{output:?}");
        };
        check(None, Destination::Into(absolute(&here)));
        check(Some(there.clone()), Destination::Into(absolute(&there)));
        check(Some(new.clone()), Destination::At(absolute(&new)));
        let slash = format!("{}/", new.display());
        check(
            Some(slash.clone().into()),
            Destination::Into(absolute(Path::new(&slash))),
        );
        check(
            Some("name".into()),
            Destination::At(absolute(&here.join("name"))),
        );
    }
}
