//! `shoal transfers`, `pause`, `resume` and `cancel`: the daemon's fetches as things.

use shoal_api::{
    ApiError,
    types::{FetchPhase, FetchProgress, Transfer, TransferChange, TransferState},
};
use shoal_ground::units::Rate;

use super::interruptible;
use crate::{
    app::App,
    args::TransferArgs,
    daemon, human,
    output::Text,
    progress::{percent, time_to_come, waits},
};

pub(crate) async fn list(app: &App) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let listed = interruptible(app, client.transfers()).await?;
    if listed.transfers.is_empty() {
        app.output
            .note("There are no transfers: `shoal fetch LINK` begins one.");
    }
    app.output.result(&listed, |text| {
        for transfer in &listed.transfers {
            transfer_lines(text, transfer);
        }
    });
    Ok(())
}

pub(crate) async fn pause(app: &App, args: TransferArgs) -> Result<(), ApiError> {
    tell(app, &args, "pause").await?;
    app.output
        .note("Paused: `shoal resume` or the same fetch goes on.");
    Ok(())
}

pub(crate) async fn resume(app: &App, args: TransferArgs) -> Result<(), ApiError> {
    tell(app, &args, "resume").await?;
    app.output
        .note("It goes on: `shoal transfers` shows how far it is.");
    Ok(())
}

pub(crate) async fn cancel(app: &App, args: TransferArgs) -> Result<(), ApiError> {
    let transfer = tell(app, &args, "cancel").await?;
    app.output.note(match transfer.state {
        TransferState::Done => "Taken off the list: what has landed stays where it is.",
        _ => "Cancelled: nothing of it is left.",
    });
    Ok(())
}

/// Changes what a transfer may receive.
pub(crate) async fn limit(app: &App, transfer: &str, limit: Rate) -> Result<(), ApiError> {
    let client = daemon::connect(app).await?;
    let (target, change) = (target(transfer), TransferChange { limit });
    let transfer = interruptible(app, client.change_transfer(&target, change)).await?;
    app.output
        .result(&transfer, |text| transfer_lines(text, &transfer));
    Ok(())
}

async fn tell(app: &App, args: &TransferArgs, what: &str) -> Result<Transfer, ApiError> {
    let client = daemon::connect(app).await?;
    let target = target(&args.transfer);
    let transfer = interruptible(app, client.tell_transfer(&target, what)).await?;
    app.output
        .result(&transfer, |text| transfer_lines(text, &transfer));
    Ok(transfer)
}

/// What the daemon knows transfers by: a number, or (the beginning of) a root as it prints it.
fn target(word: &str) -> String {
    match ApiError::parse_link(word) {
        Ok(link) => link.root.to_string(),
        Err(_) => word.to_owned(),
    }
}

/// Two lines that read well at any width, and a third if it does not get on by itself.
pub(super) fn transfer_lines(text: &mut Text, transfer: &Transfer) {
    let name = text.bold(human::escape(&transfer.name));
    let id = transfer.id;
    text.line(format_args!("{id}  {name}  {}", what(transfer)));
    text.line(format_args!("  {}", text.dim(human::path(&transfer.path))));
    if !transfer.limit.is_off() && transfer.state != TransferState::Done {
        text.line(format_args!("  receives at most {}", transfer.limit));
    }
    if let Some(disk) = &transfer.waits_for {
        let disk = human::path(disk);
        text.line(format_args!(
            "  {}",
            text.alert(format_args!(
                "waits for the disk at {disk}, which does not answer"
            ))
        ));
    }
    let (TransferState::Paused { reason } | TransferState::Failed { reason }) = &transfer.state
    else {
        return;
    };
    text.line(format_args!(
        "  {} `shoal resume {id}` goes on, `shoal cancel {id}` clears it away.",
        text.alert(format_args!("{}.", human::escape(reason))),
    ));
}

fn what(transfer: &Transfer) -> String {
    let progress = &transfer.progress;
    match &transfer.state {
        TransferState::Queued => "waits for its turn".to_owned(),
        TransferState::Running => running(progress),
        TransferState::Paused { .. } => format!("paused at {}", amount(progress)),
        TransferState::Failed { .. } => "failed".to_owned(),
        TransferState::Done => format!("done, {}", human::size(progress.bytes)),
    }
}

fn running(progress: &FetchProgress) -> String {
    if let Some(waiting) = progress.waiting_ms {
        return format!("{}, {}", amount(progress), waits(waiting));
    }
    match (progress.phase, progress.bytes_total) {
        (FetchPhase::Finding, _) => "looking for providers".to_owned(),
        (FetchPhase::Listing, _) => "reading the tree".to_owned(),
        (FetchPhase::Landing, _) => "moving into place".to_owned(),
        (FetchPhase::Fetching, None) if progress.bytes == 0 && progress.sources == 0 => {
            "looking for providers".to_owned()
        }
        (FetchPhase::Fetching, _) => format!(
            "{} at {}/s from {}, {}",
            amount(progress),
            human::size(progress.rate),
            human::count(progress.sources.into(), "source"),
            time_to_come(progress.eta_ms),
        ),
    }
}

fn amount(progress: &FetchProgress) -> String {
    let bytes = human::size(progress.bytes);
    match progress.bytes_total {
        Some(total) => format!(
            "{}%, {bytes} of {}",
            percent(progress.bytes, total),
            human::size(total)
        ),
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_named_by_number_root_or_link() {
        const CID: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
        let check = |word: &str, expected: &str| assert_eq!(target(word), expected);
        check("7", "7");
        check("bafkr4i", "bafkr4i");
        check(CID, CID);
        check(&format!("shoal:{CID}/a?name=x"), CID);
        check(&format!("ipfs://{CID}"), CID);
    }
}
