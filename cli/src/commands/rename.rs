//! `shoal rename`: gives a share another name, with a daemon and without.

use serde::Serialize;
use shoal_api::{
    ApiError, ErrorCode,
    types::{LinkedShare, ShareChange},
};

use super::{interruptible, named};
use crate::{app::App, args::RenameArgs, human, reach::Reach};

/// The result of `shoal rename --json`.
#[derive(Serialize)]
struct Renamed {
    /// What it was called.
    before: String,
    #[serde(flatten)]
    share: LinkedShare,
}

pub(crate) async fn run(app: &App, args: RenameArgs) -> Result<(), ApiError> {
    let reach = Reach::open(app).await?;
    let renamed = interruptible(app, rename(&reach, &args)).await;
    let is_served = reach.is_served();
    reach.close().await;
    let renamed = renamed?;
    app.output.result(&renamed, |text| {
        let (before, name) = (&renamed.before, &renamed.share.share.name);
        text.line(format_args!(
            "{} is now called {}",
            human::escape(before),
            text.bold(human::escape(name))
        ));
        // Without a node nobody could fetch by it now.
        if is_served {
            text.line(&renamed.share.link);
        }
    });
    app.output
        .note("Links that were passed on before still work. The files keep their names.");
    Ok(())
}

async fn rename(reach: &Reach, args: &RenameArgs) -> Result<Renamed, ApiError> {
    let shares = reach.shares().await?;
    let found = named::meant(&shares, &args.share)?;
    let first = found.first().ok_or_else(gone)?;
    let of_root = shares.iter().filter(|it| it.share.cid == first.share.cid);
    let change = ShareChange {
        name: args.name.clone(),
        // The same content from another place keeps its name.
        path: (of_root.count() > 1).then(|| named::place(first)).flatten(),
    };
    let renamed = reach.change_share(&first.share.cid, &change).await?;
    let share = renamed.shares.into_iter().next().ok_or_else(gone)?;
    Ok(Renamed {
        before: first.share.name.clone(),
        share,
    })
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::NotShared, "it is not shared any more")
        .hint("`shoal ls` lists what is shared")
}
