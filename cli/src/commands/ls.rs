//! `shoal ls`: the shares of the daemon, or the tree behind a link; `shoal show`: one of the shares.

use serde::Serialize;
use shoal_api::{
    ApiError, ErrorCode,
    types::{EntryKind, LinkedShare, ListEntry, ListRequest, ShareInfo, ShareState},
};
use shoal_node::config::Multiaddr;

use super::{audience, given, interruptible, named};
use crate::{
    app::App,
    args::{LsArgs, ShowArgs, Timeout},
    daemon, human,
    output::Text,
    progress::Bar,
    reach::Reach,
};

/// Sizes of up to `1023.9 GiB` line up.
const SIZE_COLUMN: usize = 10;

/// Paths of one share that are shown; the JSON has them all.
const PATHS_SHOWN_MAX: usize = 8;

/// The result of `shoal ls --json` without a link.
#[derive(Serialize)]
struct MyShares {
    entries: Vec<LinkedShare>,
}

pub(crate) async fn run(app: &App, args: LsArgs) -> Result<(), ApiError> {
    match args.link.as_slice() {
        [] => my_shares(app).await,
        words => {
            let link = target(app, words, false).await?;
            tree(app, link, args.peer, &args.timeout).await
        }
    }
}

/// The link in the words of a command, or the root of the share that a single word means. Whether a share
/// has to be meant decides which of two errors is told.
async fn target(app: &App, words: &[String], is_share: bool) -> Result<String, ApiError> {
    let error = match given::link(app, words) {
        Ok(link) => return Ok(link),
        Err(error) => error,
    };
    let [word] = words else {
        return Err(error);
    };
    if named::is_link(word) || error.code == ErrorCode::UnsupportedHash {
        return Err(error);
    }
    let shares = match daemon::connect(app).await {
        Ok(client) => interruptible(app, client.shares()).await?.shares,
        Err(_) => return Err(error),
    };
    match named::root(&shares, word) {
        Ok(root) => Ok(root.to_owned()),
        Err(several) if several.code == ErrorCode::Usage => Err(several),
        Err(none) if is_share => Err(none),
        Err(_) => Err(error),
    }
}

async fn my_shares(app: &App) -> Result<(), ApiError> {
    let reach = Reach::open(app).await?;
    let entries = interruptible(app, reach.shares()).await;
    let is_served = reach.is_served();
    reach.close().await;
    let entries = entries?;
    if entries.is_empty() {
        app.output
            .note("Nothing is shared yet: `shoal share PATH` shares something.");
    } else if !is_served {
        app.output.note(
            "No daemon is running, so nobody gets these now: `shoal daemon --detach` serves them.",
        );
    }
    let shares = MyShares { entries };
    app.output.result(&shares, |text| {
        for linked in &shares.entries {
            share_lines(text, &linked.share, "");
        }
    });
    Ok(())
}

/// `shoal show`: one share, and what to pass on.
pub(crate) async fn show(app: &App, args: ShowArgs) -> Result<(), ApiError> {
    let target = target(app, &args.share, true).await?;
    let client = daemon::connect(app).await?;
    let shown = interruptible(app, client.shared(&target)).await?;
    app.output.result(&shown, |text| {
        share_lines(text, &shown.share, "");
        text.line(format_args!("  {}", shown.link));
    });
    Ok(())
}

/// Three lines that read well at any width, and a fourth if there is something to do.
pub(super) fn share_lines(text: &mut Text, share: &ShareInfo, indent: &str) {
    let name = text.bold(human::escape(&share.name));
    let files = human::count(share.files, "file");
    let size = human::size(share.size);
    text.line(format_args!("{indent}{name}  {size}, {files}"));
    text.line(format_args!("{indent}  {}", share.cid));
    let paths = match share.paths.as_slice() {
        [] => std::slice::from_ref(&share.path),
        several => several,
    };
    for path in paths.iter().take(PATHS_SHOWN_MAX) {
        let path = text.dim(human::path(path));
        text.line(format_args!("{indent}  {path}"));
    }
    if let Some(more @ 1..) = paths.len().checked_sub(PATHS_SHOWN_MAX) {
        let more = human::count(more as u64, "more path");
        text.line(format_args!("{indent}  and {more}"));
    }
    audience::lines(text, share, indent);
    match &share.state {
        ShareState::Ok => {}
        ShareState::Checking => text.line(format_args!(
            "{indent}  its files are looked at again; what matches is served meanwhile"
        )),
        ShareState::Changed { changed } => {
            let paths = paths
                .iter()
                .map(|path| human::shell_quote(&path.to_string_lossy()));
            let paths = paths.collect::<Vec<_>>().join(" ");
            text.line(format_args!(
                "{indent}  {} {}",
                text.alert(format_args!("not served: {}.", human::escape(changed))),
                human::escape_message(&format!("Share it again with: shoal share {paths}")),
            ));
        }
    }
}

async fn tree(
    app: &App,
    link: String,
    peers: Vec<Multiaddr>,
    timeout: &Timeout,
) -> Result<(), ApiError> {
    let request = ListRequest {
        link,
        peers,
        timeout_ms: timeout.millis(),
    };
    let client = daemon::connect(app).await?;
    let bar = Bar::start(&app.output, "looking for providers");
    let listing = interruptible(app, client.list(&request, |progress| bar.list(&progress))).await?;
    drop(bar);
    app.output.result(&listing, |text| {
        for entry in &listing.entries {
            entry_line(text, entry);
        }
    });
    let name = listing
        .name
        .as_deref()
        .map_or(String::new(), |name| human::escape(name) + ": ");
    let files = human::count(listing.files, "file");
    let size = match listing.size {
        Some(size) => human::size(size),
        // A file of one chunk is its own address, which does not say how long it is.
        None => "of a size that is known once it is fetched".to_owned(),
    };
    app.output.note(format_args!("{name}{files}, {size}"));
    Ok(())
}

fn entry_line(text: &mut Text, entry: &ListEntry) {
    let path = match entry.path.as_str() {
        "" => ".".to_owned(),
        path => human::escape(path),
    };
    let size = entry.size.map_or(String::new(), human::size);
    let path = match &entry.kind {
        EntryKind::File => path,
        EntryKind::Dir => text.bold(path + "/"),
        EntryKind::Symlink { target } => format!("{path} -> {}", human::escape(target)),
    };
    text.line(format_args!("{size:>SIZE_COLUMN$}  {path}"));
}
