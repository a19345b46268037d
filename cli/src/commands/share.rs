//! `shoal share`: hashes files where they are and prints the link.

use std::{cell::Cell, num::NonZeroU32};

use serde::Serialize;
use shoal_api::{
    ApiError, ErrorCode, RunningCommand,
    types::{Preserve, SharePhase, ShareRequest, ShareResult},
};

use super::{interruptible, serving, show_warnings};
use crate::{
    app::{self, App},
    args::{Attribute, ShareArgs, WithoutDaemon},
    human,
    output::Output,
    progress::Bar,
    qr,
    session::{Purpose, Session},
};

/// The result of `shoal share --json`.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    result: &'a ShareResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr: Option<qr::Code>,
}

pub(crate) async fn run(app: &App, args: ShareArgs) -> Result<(), ApiError> {
    let (with_qr, keep) = (args.qr, args.terms.keep);
    let (mut request, without) = request(args)?;
    let mut session = Session::open(app, Purpose::Serving, &without).await?;
    // A daemon keeps what it is told to share.
    let command = match keep || session.is_daemon() {
        true => None,
        false => Some(begin(app)?),
    };
    request.command = command.as_ref().map(RunningCommand::id);
    let result = loop {
        let result = share(app, &session, &request).await;
        match &result {
            Err(error) if session.is_lost(app, error).await => {
                session = session.again(app, Purpose::Serving, &without).await?;
            }
            _ => break result,
        }
    };
    if let Ok(result) = &result {
        let serves = command.is_some() || !session.is_daemon();
        let lasts = Lasts {
            until: request.until,
            serves: serves.then_some(keep),
        };
        show(&app.output, result, with_qr, lasts);
        // Without its link, nobody could fetch what this process serves.
        if serves && app.output.written().is_ok() {
            let how = (&without, !with_qr);
            session = serving::serve(app, session, &result.cid, how).await?;
        }
    }
    drop(command);
    session.end_over().await;
    session.close().await;
    result.map(drop)
}

/// Says to whoever serves the home that this command runs.
fn begin(app: &App) -> Result<RunningCommand, ApiError> {
    RunningCommand::begin(&app.home).map_err(|error| {
        let home = human::path(&app.home);
        ApiError::of_io(&error, format!("cannot take a lock in {home}"))
            .hint("choose another home with --home, or share with --keep")
    })
}

/// How long a share lasts, beside the time that its result says.
#[derive(Clone, Copy)]
struct Lasts {
    /// So many copies.
    until: Option<NonZeroU32>,
    /// As long as this command; and whether it was asked for that it stays shared.
    serves: Option<bool>,
}

/// Says how long it is served.
fn until_when(output: &Output, result: &ShareResult, keep: bool) {
    match (keep, result.keep) {
        (false, false) => output.note(
            "Serving until Ctrl-C, and no longer. `shoal daemon --detach` keeps sharing after that.",
        ),
        (false, true) => output.note(
            "Serving until Ctrl-C. It was shared before and stays shared: the next daemon serves it. \
             `shoal unshare` ends that.",
        ),
        (true, _) => output.note(
            "Serving until Ctrl-C. It stays shared, and `shoal daemon --detach` serves it after that. \
             `shoal unshare` ends it.",
        ),
    }
}

async fn share(
    app: &App,
    session: &Session,
    request: &ShareRequest,
) -> Result<ShareResult, ApiError> {
    let bar = Bar::start(&app.output, "starting");
    let phase = Cell::new(SharePhase::Walking);
    let sharing = session.client.share(request, |progress| {
        phase.set(progress.phase);
        bar.share(&progress);
    });
    interruptible(app, sharing)
        .await
        .map_err(|error| match error.code {
            ErrorCode::Interrupted => error.hint(left_by_interrupt(phase.get(), request.wait)),
            _ => error,
        })
}

/// What a share has left that was interrupted after it told of this phase. One that waits for the DHT may
/// have been shared since: a small share is done before it tells of anything else.
fn left_by_interrupt(phase: SharePhase, waits: bool) -> &'static str {
    match phase {
        SharePhase::Walking | SharePhase::Copying | SharePhase::Hashing if !waits => {
            "nothing was shared"
        }
        SharePhase::Walking
        | SharePhase::Copying
        | SharePhase::Hashing
        | SharePhase::Committing => "`shoal ls` shows whether it is shared",
        SharePhase::Announcing => {
            "it is shared, but the DHT may not know it yet; `shoal unshare` stops sharing it"
        }
    }
}

fn request(args: ShareArgs) -> Result<(ShareRequest, WithoutDaemon), ApiError> {
    let paths = args
        .paths
        .iter()
        .map(|path| app::absolute(path))
        .collect::<Result<_, _>>()?;
    let request = ShareRequest {
        paths,
        name: args.name,
        copy: args.copy,
        chunker: args.chunker.into(),
        hash: args.hash.into(),
        preserve: Preserve {
            mode: args.preserve.contains(&Attribute::Mode),
            mtime: args.preserve.contains(&Attribute::Mtime),
        },
        exclude: args.exclude,
        no_announce: args.no_announce,
        no_replicate: args.no_replicate,
        wait: args.wait,
        until: args.terms.copies(),
        expires_ms: args.terms.expires_ms(),
        command: None,
    };
    Ok((request, args.without))
}

fn show(output: &Output, result: &ShareResult, with_qr: bool, lasts: Lasts) {
    let skipped = result.skipped.iter().map(|skipped| {
        format!(
            "left out {}: {}",
            human::escape(&skipped.path),
            skipped.reason
        )
    });
    show_warnings(output, skipped);
    show_warnings(output, result.warnings.iter().cloned());
    let name = human::escape(&result.name);
    let took = human::duration(result.elapsed_ms);
    match result.files {
        0 => output.note(format_args!("Shared {name}: no files, in {took}.")),
        files => output.note(format_args!(
            "Shared {name}: {}, {} in {took}.",
            human::count(files, "file"),
            human::size(result.size),
        )),
    }
    let qr = with_qr.then(|| qr::shown(output, &result.link)).flatten();
    let shown = Shown { result, qr };
    // A person passes the short form on; a script may want to take the link apart.
    let link = output.for_program(&result.link, &result.link_long);
    output.result(&shown, |text| text.line(text.bold(link)));
    output.note(format_args!(
        "Fetch it on another machine with: shoal fetch {}",
        human::shell_quote(&result.link)
    ));
    match lasts.until.map(NonZeroU32::get) {
        None => {}
        Some(1) => output.note("It ends when one peer has all of it."),
        Some(copies) => output.note(format_args!("It ends when {copies} peers have all of it.")),
    }
    if let Some(expires) = result.expires {
        let time = expires.strftime("%Y-%m-%d %H:%M:%S UTC");
        output.note(format_args!("It ends at {time}."));
    }
    if let Some(keep) = lasts.serves {
        until_when(output, result, keep);
    }
    // Last, so that nothing below it moves its top off the screen.
    if let Some(code) = &shown.qr {
        output.more(|text| text.line(&code.lines));
    }
}
