//! The link that a command was given: one argument, or the pieces that a shell made of it.

use shoal_api::{ApiError, ErrorCode};
use shoal_protocol::link::{Link, PEERS_PRINTED_MAX};

use crate::{app::App, human};

/// Reads the link in the arguments of a command, and returns it as the API takes it.
///
/// A hint goes to stderr where a shell seems to have taken a part of it away.
///
/// # Errors
/// As [`ApiError::parse_link`]; also when several arguments are not clearly pieces of one link.
pub(super) fn link(app: &App, words: &[String]) -> Result<String, ApiError> {
    let (text, link) = put_together(words)?;
    if lost_its_peers(&text, &link) {
        app.output.note(format_args!(
            "hint: this link names no peer to ask; if more of it stood behind an `&`, the shell took \
             that away: put the whole link in quotes, like shoal fetch '{}&peer=…'",
            human::escape(&link.to_string()),
        ));
    }
    // In one form, whatever it came in, and without what may be a key.
    Ok(match link.peers.len() {
        ..=PEERS_PRINTED_MAX => link.to_string(),
        _ => text,
    })
}

/// The link and the text that it was read from: the words with spaces between them, as a shell
/// separates them where a link was wrapped, or where a chat has made spaces of `%20`.
fn put_together(words: &[String]) -> Result<(String, Link), ApiError> {
    let text = words.join(" ");
    let Some((last, before)) = words.split_last().filter(|(_, before)| !before.is_empty()) else {
        return ApiError::parse_link(&text).map(|link| (text, link));
    };
    // Only where each word is needed: another word may be meant as something else.
    if ApiError::parse_link(&before.join(" ")).is_ok() {
        let last = human::escape(last);
        let message = format!("`{last}` is no part of the link before it");
        return Err(ApiError::new(ErrorCode::Usage, message).hint(
            "give one link; put it in quotes if there are spaces in it, and say where to put it with \
             -o PATH",
        ));
    }
    ApiError::parse_link(&text).map(|link| (text, link))
}

/// Whether a link looks like the half that a shell leaves of `…?name=x&peer=…`.
fn lost_its_peers(text: &str, link: &Link) -> bool {
    text.contains('?') && link.name.is_some() && link.peers.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::name::SafeName;

    use super::*;

    const CID: &str = "bafkr4ifpcne3t6mptuzuqtcjltsmtsg5p2wvqsnelpc5gm2yurh6psvs6m";
    const PEER: &str =
        "/ip4/192.0.2.1/tcp/4101/p2p/12D3KooWSHj3RRbBjD15g6wekV8y3mm57Pobmps2g2WJm6F67Lay";

    fn given() -> Link {
        Link {
            name: Some(SafeName::parse("my photos").unwrap()),
            peers: vec![PEER.to_owned()],
            ..Link::new(CID.parse().unwrap())
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn pieces_of_one_link_are_put_together() {
        let short = given().short().unwrap();
        let (head, tail) = short.split_at(60);
        for text in [
            format!("{head} {tail}"),
            format!("{} {} {tail}", &head[..30], &head[30..]),
            short.replace("%20", " "),
            format!("Shoal: {head} {tail}").replacen("shoal:", "", 1),
        ] {
            let (_, link) = put_together(&words(&text)).unwrap();
            assert_eq!(link, given(), "{text}");
        }
    }

    #[test]
    fn what_is_no_piece_is_refused() {
        let short = given().short().unwrap();
        let check = |text: &str, says: &str| {
            let error = put_together(&words(text)).unwrap_err();
            assert_eq!(error.code, ErrorCode::Usage, "{text}");
            assert!(error.message.contains(says), "{text}: {}", error.message);
        };
        check(&format!("{short} photos/"), "`photos/` is no part");
        check(&format!("{CID} photos"), "`photos` is no part");
        check(&format!("{short} {short}"), "is no part");
        check(
            &format!("shoal:{CID}?name=my photos"),
            "`photos` is no part",
        );
        check(&format!("{} photos", &short[..70]), "is cut");
    }

    #[test]
    fn half_a_link_is_noticed() {
        let check = |text: &str, half: bool| {
            let link = text.parse().unwrap();
            assert_eq!(lost_its_peers(text, &link), half, "{text}");
        };
        check(&format!("shoal:{CID}?name=x"), true);
        check(&format!("shoal:{CID}"), false);
        check(&given().to_string(), false);
        check(&given().short().unwrap(), false);
    }
}
