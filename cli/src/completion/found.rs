//! What the node that serves a home knows, as candidates of a completion.

use std::{ffi::OsStr, path::Path, time::Duration};

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};
use shoal_api::{
    ApiError,
    client::Client,
    types::{Direction, LinkedShare, Peer, Transfer, TransferState},
};

use super::line::unquoted;
use crate::human;

/// A node that has not answered after this is not waited for: flags and paths are there without it.
const NODE_DEADLINE: Duration = Duration::from_millis(700);

/// More candidates than this help nobody to choose.
const CANDIDATES_MAX: usize = 500;

/// Shares by name, or by CID where the name is not enough; and paths, once the word looks like one.
pub(super) fn shares(home: &Path, typed: &OsStr) -> Vec<CompletionCandidate> {
    let word = unquoted(&typed.to_string_lossy());
    if word.starts_with(['/', '.', '~']) || word.contains('/') {
        return PathCompleter::any().complete(OsStr::new(&word));
    }
    let shares = ask(home, async |client| Ok(client.shares().await?.shares));
    let is_alone = |name: &str| shares.iter().filter(|it| it.share.name == name).count() == 1;
    let by_cid = word.starts_with("baf");
    let named = |it: &LinkedShare| {
        let (share, size) = (&it.share, human::size(it.share.size));
        if is_word(&share.name) && is_alone(&share.name) && !by_cid {
            (share.name.clone(), format!("{size}, {}", share.cid))
        } else {
            (
                share.cid.clone(),
                format!("{size}, {}", human::escape(&share.name)),
            )
        }
    };
    candidates(shares.iter().map(named), &word)
}

/// Transfers that a command can change, by name or number, and `all`.
pub(super) fn transfers(home: &Path, command: &str, typed: &OsStr) -> Vec<CompletionCandidate> {
    let word = unquoted(&typed.to_string_lossy());
    let transfers = ask(home, async |client| Ok(client.transfers().await?.transfers));
    let changed: Vec<_> = transfers.iter().filter(|it| is_for(it, command)).collect();
    let is_alone = |name: &str| transfers.iter().filter(|it| it.name == name).count() == 1;
    let named = changed.iter().map(|it| {
        let state = state(&it.state);
        if is_word(&it.name) && is_alone(&it.name) && it.name.parse::<u64>().is_err() {
            (it.name.clone(), format!("{}, {state}", it.id))
        } else {
            (
                it.id.to_string(),
                format!("{}, {state}", human::escape(&it.name)),
            )
        }
    });
    let all = (!changed.is_empty()).then(|| ("all".to_owned(), "all of them".to_owned()));
    candidates(named.chain(all), &word)
}

/// Peers that this node has dialled, by the address where they listen.
pub(super) fn peers(home: &Path, typed: &OsStr) -> Vec<CompletionCandidate> {
    let word = unquoted(&typed.to_string_lossy());
    let peers = ask(home, async |client| Ok(client.peers().await?.peers));
    let dialled = peers
        .iter()
        .filter(|it| it.direction == Direction::Outbound);
    candidates(dialled.filter_map(address), &word)
}

fn address(peer: &Peer) -> Option<(String, String)> {
    let (address, id) = (
        peer.addresses.first()?.to_string(),
        peer.peer_id.to_string(),
    );
    let address = match address.contains("/p2p/") {
        true => address,
        false => format!("{address}/p2p/{id}"),
    };
    let agent = peer.agent.as_deref().map(human::escape).unwrap_or_default();
    let distance = human::distance(peer.rtt_ms, peer.nearness);
    Some((address, format!("{agent}{distance}")))
}

fn is_for(transfer: &Transfer, command: &str) -> bool {
    match &transfer.state {
        TransferState::Done => command == "cancel",
        TransferState::Failed { .. } | TransferState::Paused { .. } => command != "pause",
        TransferState::Queued | TransferState::Running => command != "resume",
    }
}

fn state(state: &TransferState) -> &'static str {
    match state {
        TransferState::Queued => "waits for its turn",
        TransferState::Running => "runs",
        TransferState::Paused { .. } => "paused",
        TransferState::Done => "done",
        TransferState::Failed { .. } => "failed",
    }
}

/// Those whose value goes on from what was typed, with what is said of each.
fn candidates(
    found: impl Iterator<Item = (String, String)>,
    typed: &str,
) -> Vec<CompletionCandidate> {
    let fitting = found.filter(|(value, _)| value.starts_with(typed) && is_plain_text(value));
    let fitting = fitting.take(CANDIDATES_MAX);
    fitting
        .map(|(value, help)| CompletionCandidate::new(value).help(Some(help.into())))
        .collect()
}

/// Whether a name can be typed as an argument.
fn is_word(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('-') && name != "all" && is_plain_text(name)
}

/// Whether a terminal shows all of a text and obeys none of it.
pub(super) fn is_plain_text(text: &str) -> bool {
    !text.contains('\n') && human::escape_message(text) == text
}

/// Asks the node of the home, if one runs; none of what it says matters when it fails.
fn ask<T>(home: &Path, question: impl AsyncFnOnce(Client) -> Result<Vec<T>, ApiError>) -> Vec<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let answer = runtime.block_on(async {
        let question = async { question(Client::connect(home).await?).await };
        tokio::time::timeout(NODE_DEADLINE, question).await
    });
    // A thread that looks up something is not waited for.
    runtime.shutdown_background();
    answer.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_typed_is_offered() {
        for (name, can) in [
            ("photos", true),
            ("my photos", true),
            ("-rf", false),
            ("all", false),
            ("", false),
            ("a\nb", false),
            ("\x1b[2J", false),
            ("\u{202e}gpj.exe", false),
        ] {
            assert_eq!(is_word(name), can, "{name:?}");
        }
    }

    #[test]
    fn no_node_is_no_candidate() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("none");
        assert!(shares(&path, OsStr::new("p")).is_empty());
        assert!(transfers(&path, "pause", OsStr::new("")).is_empty());
        assert!(peers(&path, OsStr::new("")).is_empty());
        assert!(!path.exists());
    }
}
