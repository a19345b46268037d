//! Links: the text that a person passes on.
//!
//! A link says what is meant, and may say what it is called, who to ask first and which marks its
//! sharer put on it. It has two forms:
//!
//! - the short one that is passed on, `short`: `shoal:<token>[/<name>][/<path>]`, with a checksum;
//! - the long one that can be read and written by hand, `long`:
//!   `shoal:<cid>[/<path>]?name=<name>&peer=<multiaddr>&peer=…&mark=…`.
//!
//! A bare address, `ipfs://<cid>[/<path>]` and `/ipfs/<cid>[/<path>]` are accepted wherever a link
//! is. What happens to links on their way (line breaks, quotes, HTML, capitals) is undone in one
//! place, `pasted`, before anything is parsed. What cannot be undone is told apart: a link that was
//! cut, one with a mistyped letter, one with a peer that nobody can read.
//!
//! What follows a `#` is reserved for keys that are nobody else's business: it is dropped before
//! anything is parsed, and no link or error ever holds it.

mod checksum;
mod long;
mod pasted;
mod short;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use thiserror::Error;

use crate::{
    address::{AddressError, Cid},
    name::{NameError, SafeName},
};

/// Longest text that is looked at as a link, in bytes: an address of 512, a path of 4096, a name of
/// 3 x 255 and four peers of 512, with room to spare.
pub const LINK_BYTES_MAX: usize = 8 << 10;

/// Most peers that a link is printed with.
pub const PEERS_PRINTED_MAX: usize = 4;

/// Most peers that a link is accepted with.
pub const PEERS_ACCEPTED_MAX: usize = 16;

/// Longest address of one peer, in bytes: a DNS name of 253, the ids of a relay and of a peer with
/// 52 each, and what names the protocols between them.
pub const PEER_BYTES_MAX: usize = 512;

/// Most of a peer that an error repeats, in characters: an address of IPv6 with a peer id.
const PEER_SHOWN_MAX: usize = 120;

/// What stands for itself in a name behind a token: what no shell, URL, chat or markup takes apart.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.');

/// A link, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The root.
    pub root: Cid,
    /// Names from the root down to what is meant; empty for the root itself.
    pub path: Vec<SafeName>,
    /// The name to land under, unless a person chooses another.
    pub name: Option<SafeName>,
    /// Multiaddresses of peers to try first, best first. More than [`PEERS_PRINTED_MAX`] are not
    /// printed.
    pub peers: Vec<String>,
    /// What the sharer asks of those who have it.
    pub marks: Marks,
}

/// What a sharer asks of those who have its link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Not to tell the DHT of it.
    pub no_announce: bool,
    /// Not to keep copies of it for others.
    pub no_replicate: bool,
}

impl Marks {
    /// What either asks for.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            no_announce: self.no_announce || other.no_announce,
            no_replicate: self.no_replicate || other.no_replicate,
        }
    }

    /// Whether copies of it may be kept for others: a helper is told of them by a key that others
    /// could look up, so what is not announced is not replicated either.
    #[must_use]
    pub fn may_replicate(self) -> bool {
        !self.no_announce && !self.no_replicate
    }
}

/// Why a text is not a link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// More than [`LINK_BYTES_MAX`] bytes.
    #[error("it is longer than {LINK_BYTES_MAX} bytes")]
    TooLong,
    /// Some other kind of link, or a path.
    #[error("it is neither shoal:…, ipfs://<cid>, /ipfs/<cid> nor a bare CID")]
    Scheme,
    /// Its address is malformed, cut or of an unsupported kind: the error within tells.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The end of its token is missing.
    #[error("it is cut: {}", have_of(*.have, *.whole))]
    Cut {
        /// Letters of the token that are there.
        have: usize,
        /// Letters that it should have, if so many are there that they tell.
        whole: Option<usize>,
    },
    /// A letter that no token has.
    #[error("it is mistyped: letter {at} is `{letter}`, which is in no link")]
    Letter {
        /// The letter.
        letter: char,
        /// Its place in the token, from 1.
        at: usize,
    },
    /// The checksum does not hold.
    #[error("it is mistyped: {}", mistyped(*.at, *.meant))]
    Mistyped {
        /// The place in the token, from 1, of the letter that is wrong if only one is.
        at: Option<usize>,
        /// What that letter should be.
        meant: Option<char>,
    },
    /// More letters than a token has.
    #[error("it has too many letters: {0} belong to it, and more follow")]
    Attached(usize),
    /// The name behind the token is not the one that the link was made with.
    #[error("the name at its end is cut or mistyped")]
    NameChanged,
    /// A sound token of a kind that this version does not know.
    #[error("it was made by a newer version of shoal")]
    Newer,
    /// More than one link.
    #[error("it holds several links")]
    Several,
    /// A name in its path is unsafe.
    #[error("in the link's path, {0}")]
    Path(NameError),
    /// The name to land under is unsafe.
    #[error("in the link's name, {0}")]
    Name(NameError),
    /// A peer that is no multiaddress, or too long a one.
    #[error("its peer `{0}` is illegible, cut or mistyped")]
    Peer(String),
    /// More than [`PEERS_ACCEPTED_MAX`] peers.
    #[error("the link has more than {PEERS_ACCEPTED_MAX} peers")]
    TooManyPeers,
    /// A second name to land under.
    #[error("the link has two names")]
    TwoNames,
    /// Percent-encoding that does not decode to UTF-8.
    #[error("the link's percent-encoding is damaged")]
    Encoding,
}

fn have_of(have: usize, whole: Option<usize>) -> impl fmt::Display {
    fmt::from_fn(move |f| match whole {
        Some(whole) => write!(f, "only {have} of its {whole} letters are there"),
        None => f.write_str("only its beginning is there"),
    })
}

fn mistyped(at: Option<usize>, meant: Option<char>) -> impl fmt::Display {
    fmt::from_fn(move |f| match (at, meant) {
        (Some(at), Some(meant)) => write!(f, "letter {at} should probably be `{meant}`"),
        _ => f.write_str("more than one of its letters is wrong"),
    })
}

impl Link {
    /// A link that is nothing but an address.
    pub fn new(root: Cid) -> Link {
        Link {
            root,
            path: Vec::new(),
            name: None,
            peers: Vec::new(),
            marks: Marks::default(),
        }
    }

    /// The short form: one token, and the name and the path behind it.
    ///
    /// It keeps the first peer that can be packed, with at most two of its addresses. None for what
    /// has no short form: content that stands in its own address, and peers of which none can be
    /// packed.
    pub fn short(&self) -> Option<String> {
        short::print(self)
    }

    /// The form that is passed on: the short one, or the long one where there is none.
    pub fn passed_on(&self) -> String {
        self.short().unwrap_or_else(|| self.to_string())
    }
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Link, LinkError> {
        if text.len() > LINK_BYTES_MAX {
            return Err(LinkError::TooLong);
        }
        pasted::read(text)
    }
}

impl fmt::Display for Link {
    /// The long form: all that the link says, but for peers after the fourth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        long::print(self, f)
    }
}

/// A percent-encoded text whose last character, if it is punctuation, is encoded too: what prints or
/// finds links takes punctuation behind them for that of a sentence.
fn last_escaped(mut text: String) -> String {
    if let Some(last) = text.pop() {
        if last.is_ascii_punctuation() && last != '/' {
            let mut bytes = [0; 4];
            for byte in last.encode_utf8(&mut bytes).bytes() {
                text.push_str(percent_encoding::percent_encode_byte(byte));
            }
        } else {
            text.push(last);
        }
    }
    text
}

fn percent_decoded(text: &str) -> Result<Cow<'_, str>, LinkError> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| LinkError::Encoding)
}
