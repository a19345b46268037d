//! `shoal transfers`, `pause`, `resume` and `cancel`: the fetches of a home as things.

use std::{collections::BTreeSet, process::ExitCode};

use serde::Serialize;
use shoal_api::{
    ApiError, ErrorCode,
    types::{
        FetchPhase, FetchProgress, OnDone, Transfer, TransferChange, TransferState, Transfers,
    },
};
use shoal_ground::units::Rate;

use super::interruptible;
use crate::{
    app::App,
    args::TransfersArgs,
    daemon, human,
    output::Text,
    progress::{percent, time_to_come, waits},
    reach::{Reach, Tell},
};

/// The word for all transfers that can be told something.
const ALL: &str = "all";
/// Transfers that are named where a word may mean several.
const CANDIDATES_SHOWN_MAX: usize = 10;

pub(crate) async fn list(app: &App) -> Result<(), ApiError> {
    let reach = Reach::open(app).await?;
    let listed = interruptible(app, reach.transfers()).await;
    let is_served = reach.is_served();
    reach.close().await;
    let listed = Transfers { transfers: listed? };
    if listed.transfers.is_empty() {
        app.output
            .note("There are no transfers: `shoal fetch LINK` starts one.");
    } else if !is_served {
        app.output.note(
            "No daemon is running. `shoal daemon --detach`, or the same fetch again, continues a \
             transfer.",
        );
    }
    app.output.result(&listed, |text| {
        for transfer in &listed.transfers {
            transfer_lines(text, transfer);
        }
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

/// What came of several transfers that were told something.
#[derive(Serialize)]
struct ToldAll {
    /// Those that did as they were told.
    transfers: Vec<Transfer>,
    /// What went wrong.
    failed: Vec<Failed>,
}

/// What went wrong with a word of the command line.
#[derive(Serialize)]
struct Failed {
    /// The word, or the number of a transfer that it means.
    transfer: String,
    error: ApiError,
}

/// `shoal pause`, `resume` and `cancel`.
pub(crate) async fn tell(app: &App, args: TransfersArgs, what: Tell) -> Result<ExitCode, ApiError> {
    let reach = Reach::open(app).await?;
    let told = tell_all(app, &reach, &args.transfers, what).await;
    let is_served = reach.is_served();
    reach.close().await;
    let mut told = told?;
    // One that is named alone is the result, or its failure is that of the command.
    let is_one = args.transfers.len() == 1 && args.transfers.first().is_none_or(|it| it != ALL);
    if is_one {
        if let Some(failed) = told.failed.pop() {
            return Err(failed.error);
        }
        if let Some(transfer) = told.transfers.first() {
            app.output
                .result(transfer, |text| transfer_lines(text, transfer));
        }
    }
    let hint = done(&told.transfers, what, is_served);
    if is_one {
        app.output.note(hint);
        return Ok(ExitCode::SUCCESS);
    }
    let lines = |text: &mut Text| {
        for transfer in &told.transfers {
            transfer_lines(text, transfer);
        }
    };
    if told.failed.is_empty() {
        if told.transfers.is_empty() {
            let word = what.word();
            app.output
                .note(format_args!("There is no transfer to {word}."));
        } else {
            app.output.note(hint);
        }
        app.output.result(&told, lines);
        return Ok(ExitCode::SUCCESS);
    }
    for failed in &told.failed {
        let (transfer, error) = (human::escape(&failed.transfer), &failed.error);
        let hint = error.hint.as_ref().map(|hint| format!(": {hint}"));
        let hint = hint.unwrap_or_default();
        app.output
            .warning(&format!("{transfer}: {}{hint}", error.message));
    }
    let all = told.failed.len() + told.transfers.len();
    let message = format!(
        "{} of {} could not be told to {}",
        told.failed.len(),
        human::count(all as u64, "transfer"),
        what.word()
    );
    let error = ApiError::new(ErrorCode::NoTransfer, message)
        .hint("`shoal transfers` lists them with their numbers");
    Ok(app.output.failed_result(&told, &error, lines))
}

async fn tell_all(
    app: &App,
    reach: &Reach,
    words: &[String],
    what: Tell,
) -> Result<ToldAll, ApiError> {
    let known = interruptible(app, reach.transfers()).await?;
    let (mut ids, mut failed) = (BTreeSet::new(), Vec::new());
    for word in words {
        match meant(&known, word, what) {
            Ok(found) => ids.extend(found),
            Err(error) => failed.push(Failed {
                transfer: word.clone(),
                error,
            }),
        }
    }
    let mut transfers = Vec::new();
    for id in ids {
        match interruptible(app, reach.tell(id, what)).await {
            Ok(transfer) => transfers.push(transfer),
            Err(error) if error.code == ErrorCode::Interrupted => return Err(error),
            Err(error) => failed.push(Failed {
                transfer: id.to_string(),
                error,
            }),
        }
    }
    Ok(ToldAll { transfers, failed })
}

/// What a person hears when all went well.
fn done(told: &[Transfer], what: Tell, is_served: bool) -> &'static str {
    let has_landed = told.iter().all(|it| it.state == TransferState::Done);
    match (what, is_served) {
        (Tell::Pause, _) => "Paused. `shoal resume` or the same fetch continues it.",
        (Tell::Resume, true) => "Resumed. `shoal transfers` shows how far it is.",
        (Tell::Resume, false) => {
            "It continues with the next daemon: `shoal daemon --detach` starts one."
        }
        (Tell::Cancel, _) if has_landed => {
            "Removed from the list. The downloaded files stay where they are."
        }
        (Tell::Cancel, _) => "Cancelled. Its partial files are deleted.",
    }
}

/// The numbers of the transfers that a word means: all that can be told `what`, a number, a name, or the
/// beginning of a root. Those that are not over come first.
fn meant(known: &[Transfer], word: &str, what: Tell) -> Result<Vec<u64>, ApiError> {
    if word == ALL {
        let told = known.iter().filter(|it| can_be_told(it, what));
        return Ok(told.map(|it| it.id).collect());
    }
    let target = target(word);
    let number = target.parse::<u64>().ok();
    let ways: [&dyn Fn(&Transfer) -> bool; 3] =
        [&|it| Some(it.id) == number, &|it| it.name == word, &|it| {
            !target.is_empty() && it.cid.starts_with(&target)
        }];
    let is_over =
        |it: &Transfer| matches!(it.state, TransferState::Done | TransferState::Failed { .. });
    for is_meant in ways {
        for over in [false, true] {
            let found = known
                .iter()
                .filter(|it| is_meant(it) && is_over(it) == over);
            match found.collect::<Vec<_>>().as_slice() {
                [] => {}
                [one] => return Ok(vec![one.id]),
                several => return Err(ambiguous(several, word)),
            }
        }
    }
    let message = format!("there is no transfer `{}`", human::escape(word));
    Err(ApiError::new(ErrorCode::NoTransfer, message)
        .hint("`shoal transfers` lists them with their numbers"))
}

fn can_be_told(transfer: &Transfer, what: Tell) -> bool {
    match &transfer.state {
        TransferState::Done => false,
        TransferState::Failed { .. } | TransferState::Paused { .. } => what != Tell::Pause,
        TransferState::Queued | TransferState::Running => what != Tell::Resume,
    }
}

fn ambiguous(several: &[&Transfer], word: &str) -> ApiError {
    let count = human::count(several.len() as u64, "transfer");
    let message = format!("`{}` may mean any of {count}", human::escape(word));
    let shown = several.iter().take(CANDIDATES_SHOWN_MAX);
    let each = shown.map(|it| format!("{} is {}", it.id, human::path(&it.path)));
    let mut each: Vec<_> = each.collect();
    if several.len() > CANDIDATES_SHOWN_MAX {
        each.push("and others".to_owned());
    }
    ApiError::new(ErrorCode::NoTransfer, message)
        .hint(format!("name one by its number: {}", each.join(", ")))
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
    match &transfer.on_done {
        None | Some(OnDone::Done) => {}
        Some(OnDone::Waiting) => text.line("  its program (on_done) waits until others have ended"),
        Some(OnDone::Running) => text.line("  its program (on_done) is running"),
        Some(OnDone::Failed { reason }) => {
            let reason = human::escape_message(reason);
            text.line(format_args!(
                "  {}",
                text.alert(format_args!("on_done: {reason}"))
            ));
        }
    }
    let (TransferState::Paused { reason } | TransferState::Failed { reason }) = &transfer.state
    else {
        return;
    };
    text.line(format_args!(
        "  {} `shoal resume {id}` continues it, `shoal cancel {id}` deletes it.",
        text.alert(format_args!("{}.", human::escape(reason))),
    ));
}

fn what(transfer: &Transfer) -> String {
    let progress = &transfer.progress;
    match &transfer.state {
        TransferState::Queued => "waits until others are done".to_owned(),
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
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn transfer(id: u64, name: &str, cid: &str, state: TransferState) -> Transfer {
        Transfer {
            id,
            cid: cid.to_owned(),
            name: name.to_owned(),
            path: format!("/{id}/{name}").into(),
            created: "1970-01-01T00:00:00Z".parse().unwrap(),
            state,
            progress: FetchProgress {
                phase: FetchPhase::Fetching,
                bytes: 0,
                verified_bytes: 0,
                bytes_total: None,
                files: 0,
                files_total: None,
                rate: 0,
                eta_ms: None,
                sources: 0,
                asked: 0,
                waiting_ms: None,
            },
            limit: Rate::OFF,
            waits_for: None,
            on_done: None,
        }
    }

    #[test]
    fn a_word_means_a_number_a_name_a_root_or_all() {
        let rests = || TransferState::Paused {
            reason: "asked".to_owned(),
        };
        let failed = || TransferState::Failed {
            reason: "not found".to_owned(),
        };
        let known = [
            transfer(1, "a", "bafya", TransferState::Done),
            transfer(2, "a", "bafyb", TransferState::Running),
            transfer(3, "2", "bafyc", rests()),
            transfer(4, "same\n", "bafkd", rests()),
            transfer(5, "same\n", "bafke", TransferState::Queued),
            transfer(6, "b", "bafyg", failed()),
            transfer(7, "c", "bafyf", failed()),
            transfer(8, "c", "bafyf", TransferState::Running),
        ];
        let check = |word: &str, what, expected: &[u64]| {
            let found = meant(&known, word, what).unwrap();
            assert_eq!(found, expected, "{word}");
        };
        check("1", Tell::Cancel, &[1]);
        check("a", Tell::Pause, &[2]);
        check("2", Tell::Pause, &[2]);
        check("bafya", Tell::Cancel, &[1]);
        check("bafkd", Tell::Cancel, &[4]);
        // One that is not over comes first.
        check("bafyf", Tell::Cancel, &[8]);
        check("c", Tell::Cancel, &[8]);
        check("b", Tell::Resume, &[6]);
        check("all", Tell::Pause, &[2, 5, 8]);
        check("all", Tell::Resume, &[3, 4, 6, 7]);
        check("all", Tell::Cancel, &[2, 3, 4, 5, 6, 7, 8]);
        let error = |word: &str| meant(&known, word, Tell::Pause).unwrap_err();
        for word in ["9", "d", "", "bafx"] {
            assert_eq!(error(word).code, ErrorCode::NoTransfer, "{word}");
        }
        let several = error("same\n");
        assert!(
            several.message.contains("`same\\n` may mean any of 2"),
            "{several:?}"
        );
        let hint = several.hint.unwrap();
        assert!(
            hint.contains("4 is /4/same\\n") && hint.contains("5 is"),
            "{hint}"
        );
        assert!(error("bafk").hint.unwrap().contains("4 is"));
    }

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
