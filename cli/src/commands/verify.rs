//! `shoal verify`: reads everything that is shared and compares it with its addresses.

use std::process::ExitCode;

use shoal_api::{
    ApiError, ErrorCode,
    client::Client,
    types::{FileVerdict, Verified, VerifiedFile, VerifiedShare, VerifyRequest},
};

use super::{interruptible, named};
use crate::{app::App, args::VerifyArgs, daemon, human, output::Text, progress::Bar};

pub(crate) async fn run(app: &App, args: VerifyArgs) -> Result<ExitCode, ApiError> {
    let client = daemon::connect(app).await?;
    let verified = interruptible(app, verify(app, &client, &args.shares)).await?;
    if verified.shares.is_empty() {
        app.output
            .note("Nothing is shared yet: `shoal share PATH` shares something.");
    }
    match problem(&verified) {
        None => {
            app.output.result(&verified, |text| lines(text, &verified));
            Ok(ExitCode::SUCCESS)
        }
        Some(error) => Ok(app
            .output
            .failed_result(&verified, &error, |text| lines(text, &verified))),
    }
}

/// Verifies what the words mean, one root after the other; all shares, where there is no word.
async fn verify(app: &App, client: &Client, words: &[String]) -> Result<Verified, ApiError> {
    let mut roots = Vec::new();
    if words.is_empty() {
        roots.push(None);
    } else {
        let shares = client.shares().await?.shares;
        for word in words {
            let root = Some(named::root(&shares, word)?.to_owned());
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
    }
    let mut all: Option<Verified> = None;
    for link in roots {
        let request = VerifyRequest {
            link,
            list_intact: app.output.json,
        };
        let bar = Bar::start(&app.output, "reading");
        let verifying = client.verify(&request, |progress| bar.verify(&progress));
        let one = verifying.await?;
        all = Some(match all {
            Some(all) => together(all, one),
            None => one,
        });
    }
    all.ok_or_else(|| ApiError::new(ErrorCode::NotShared, "nothing is shared"))
}

/// What two verifications have found.
fn together(one: Verified, other: Verified) -> Verified {
    Verified {
        intact: one.intact && other.intact,
        shares: [one.shares, other.shares].concat(),
        files: [one.files, other.files].concat(),
        files_unlisted: one.files_unlisted.saturating_add(other.files_unlisted),
        hashed_bytes: one.hashed_bytes.saturating_add(other.hashed_bytes),
        elapsed_ms: one.elapsed_ms.saturating_add(other.elapsed_ms),
    }
}

/// The failure that a command ends with when not everything is as it was shared.
fn problem(verified: &Verified) -> Option<ApiError> {
    if verified.intact {
        return None;
    }
    let sum = |count: fn(&VerifiedShare) -> u64| verified.shares.iter().map(count).sum::<u64>();
    let mut found = Vec::new();
    for (count, noun, what) in [
        (sum(|share| share.changed), "file", "changed"),
        (sum(|share| share.unreadable), "file", "cannot be read"),
        (sum(|share| share.damaged_blocks), "block", "damaged"),
    ] {
        if count > 0 {
            found.push(format!("{} {what}", human::count(count, noun)));
        }
    }
    let hint = match sum(|share| share.changed + share.damaged_blocks) {
        0 => "check the disk and the permissions of what cannot be read".to_owned(),
        _ => "what changed is not served any more: put it back as it was, or share it again; \
              `shoal status` says how"
            .to_owned(),
    };
    Some(ApiError::new(ErrorCode::Integrity, found.join(", ")).hint(hint))
}

fn lines(text: &mut Text, verified: &Verified) {
    for file in &verified.files {
        file_line(text, file);
    }
    if verified.files_unlisted > 0 {
        text.line(format_args!("and {} more", verified.files_unlisted));
    }
    for share in &verified.shares {
        share_line(text, share);
    }
    let rate = verified
        .hashed_bytes
        .saturating_mul(1000)
        .checked_div(verified.elapsed_ms)
        .unwrap_or(verified.hashed_bytes);
    text.line(format_args!(
        "read {} in {} ({}/s)",
        human::size(verified.hashed_bytes),
        human::duration(verified.elapsed_ms),
        human::size(rate),
    ));
}

fn file_line(text: &mut Text, file: &VerifiedFile) {
    let path = human::path(&file.path);
    match &file.verdict {
        FileVerdict::Intact => text.line(format_args!("intact      {path}")),
        FileVerdict::Changed { reason } => {
            let verdict = text.alert("changed");
            text.line(format_args!("{verdict}     {path}: {reason}"));
        }
        FileVerdict::Unreadable { reason } => {
            let verdict = text.alert("unreadable");
            let reason = human::escape(reason);
            text.line(format_args!("{verdict}  {path}: {reason}"));
        }
    }
}

fn share_line(text: &mut Text, share: &VerifiedShare) {
    let bad = share.changed + share.unreadable;
    let name = text.bold(human::escape(&share.name));
    let files = human::count(share.files, "file");
    let mut verdict = match bad {
        0 => format!("{files} intact"),
        bad => format!("{} of {files} intact", share.files.saturating_sub(bad)),
    };
    if share.damaged_blocks > 0 {
        let blocks = human::count(share.damaged_blocks, "block");
        verdict = format!("{verdict}, {blocks} of its index damaged");
    }
    text.line(format_args!("{name}  {verdict}"));
}
