//! Who gets what of a share, and until when it is offered, as lines for people.

use jiff::Timestamp;
use shoal_api::types::{Recipient, ShareInfo};

use crate::{human, output::Text};

/// Peers of a share that are shown; the JSON has more.
const PEERS_SHOWN_MAX: usize = 8;

/// One line for how long it lasts, one for what was sent, one for each of the last peers; none of them
/// where there is nothing to say.
pub(super) fn lines(text: &mut Text, share: &ShareInfo, indent: &str) {
    if let Some(terms) = terms(share) {
        text.line(format_args!("{indent}  {terms}"));
    }
    let audience = &share.audience;
    if audience.sent_bytes == 0 && audience.copies == 0 {
        return;
    }
    let copies = match audience.copies {
        0 => "nobody has all of it yet".to_owned(),
        1 => "1 peer has all of it".to_owned(),
        copies => format!("{copies} peers have all of it"),
    };
    let now = match audience.fetching {
        0 => String::new(),
        fetching => format!(
            ", {} now at {}/s",
            human::count(fetching, "peer"),
            human::size(audience.rate)
        ),
    };
    let sent = human::size(audience.sent_bytes);
    text.line(format_args!("{indent}  sent {sent}{now}, {copies}"));
    for peer in audience.peers.iter().take(PEERS_SHOWN_MAX) {
        text.line(format_args!("{indent}    {}", line(peer)));
    }
}

/// `45%, 3.2 MiB/s, sent 12.0 MiB  12D3KooW…`: a narrow terminal cuts the end off.
fn line(peer: &Recipient) -> String {
    let sent = human::size(peer.sent_bytes);
    let how = match (peer.complete, peer.fetching) {
        (true, _) => "has all of it".to_owned(),
        (false, true) => format!("{}%, {}/s", peer.percent, human::size(peer.rate)),
        (false, false) => {
            let when = match peer.last == Timestamp::UNIX_EPOCH {
                // Nobody has written it down.
                true => String::new(),
                false => format!(", {}", peer.last.strftime("%Y-%m-%d %H:%M UTC")),
            };
            format!("stopped at {}%{when}", peer.percent)
        }
    };
    format!("{how}, sent {sent}  {}", peer.peer_id)
}

/// Until when it is offered, if not for good.
fn terms(share: &ShareInfo) -> Option<String> {
    let mut ends = Vec::new();
    if let [first, rest @ ..] = share.processes.as_slice() {
        ends.push(match rest.len() {
            0 => format!("when process {first} ends"),
            more => format!("when process {first} and {more} more have ended"),
        });
    }
    if let Some(until) = share.until {
        let copies = human::count(u64::from(until.copies), "peer");
        let have = if until.copies == 1 { "has" } else { "have" };
        ends.push(format!(
            "when {copies} {have} all of it, {} by now",
            until.made
        ));
    }
    if let Some(expires) = share.expires {
        ends.push(format!("at {}", expires.strftime("%Y-%m-%d %H:%M:%S UTC")));
    }
    (!ends.is_empty()).then(|| format!("ends {}", ends.join(", or ")))
}
