//! `shoal link`: prints the links of shares again.

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode, types::LinkedShare};

use super::{interruptible, named};
use crate::{app::App, args::LinkArgs, daemon, qr};

/// The result of `shoal link --json` for one share.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    share: &'a LinkedShare,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr: Option<qr::Code>,
}

/// The same for several.
#[derive(Serialize)]
struct AllShown<'a> {
    shares: Vec<Shown<'a>>,
}

pub(crate) async fn run(app: &App, args: LinkArgs) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let shares = interruptible(app, client.shares()).await?.shares;
    let mut all = AllShown { shares: Vec::new() };
    for word in &args.shares {
        let found = named::meant(&shares, word)?;
        let share = *found.first().ok_or_else(|| {
            ApiError::new(ErrorCode::NotShared, format!("`{word}` is not shared here"))
        })?;
        let qr = args
            .qr
            .then(|| qr::shown(&app.output, &share.link))
            .flatten();
        all.shares.push(Shown { share, qr });
    }
    let links = all.shares.iter().map(|shown| match args.long {
        true => shown.share.link_long.as_str(),
        false => {
            let LinkedShare {
                link, link_long, ..
            } = shown.share;
            app.output.for_program(link, link_long)
        }
    });
    let links: Vec<_> = links.collect();
    match all.shares.as_slice() {
        [one] => app.output.result(one, |text| {
            for link in &links {
                text.line(text.bold(link));
            }
        }),
        _ => app.output.result(&all, |text| {
            for link in &links {
                text.line(text.bold(link));
            }
        }),
    }
    for code in all.shares.iter().filter_map(|shown| shown.qr.as_ref()) {
        app.output.more(|text| text.line(&code.lines));
    }
    Ok(())
}
