//! `shoal share`: hashes files where they are and prints the link.

use std::cell::Cell;

use serde::Serialize;
use shoal_api::{
    ApiError, ErrorCode,
    types::{Preserve, SharePhase, ShareRequest, ShareResult},
};

use super::{interruptible, show_warnings};
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
    let with_qr = args.qr;
    let (request, without) = request(args)?;
    let session = Session::open(app, Purpose::Serving, &without).await?;
    let result = share(app, &session, &request).await;
    if let Ok(result) = &result {
        show(&app.output, result, with_qr, session.is_foreground());
        // Without its link, nobody could fetch what this process serves.
        if app.output.written().is_ok() {
            session.serve(app).await;
        }
    }
    session.close().await;
    result.map(drop)
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
        | SharePhase::Committing => "`shoal ls` says whether it is shared by now",
        SharePhase::Announcing => {
            "it is shared, though the DHT may not know it yet; `shoal unshare` ends that"
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
    };
    Ok((request, args.without))
}

fn show(output: &Output, result: &ShareResult, with_qr: bool, foreground: bool) {
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
    if foreground {
        output.note("Serving until Ctrl-C; `shoal daemon --detach` would serve in the background.");
    }
    // Last, so that nothing below it moves its top off the screen.
    if let Some(code) = &shown.qr {
        output.more(|text| text.line(&code.lines));
    }
}
