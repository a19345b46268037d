//! The long form of a link, which can be read and written by hand.
//!
//! `shoal:<cid>[/<path>]?name=<name>&peer=<multiaddr>&peer=…&mark=…`. The address alone is enough; the
//! rest is a name to land under, peers to try first and the sharer's marks. Parameters that are not
//! known are left for later versions.

use std::{borrow::Cow, fmt};

use multiaddr::{Multiaddr, Protocol};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Link, LinkError, PEER_BYTES_MAX, PEER_SHOWN_MAX, PEERS_ACCEPTED_MAX, PEERS_PRINTED_MAX,
    last_escaped, percent_decoded, short::is_blank,
};
use crate::name::SafeName;

/// What stands for itself in a path: letters, digits and what no shell, URL or chat takes apart.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b',');

/// In a parameter `/` stands for itself too, so that a peer's address stays readable.
const PARAMETER: &AsciiSet = &PATH.remove(b'/');

/// The marks, as they are written.
const NO_ANNOUNCE: &str = "no-announce";
const NO_REPLICATE: &str = "no-replicate";

/// How the names of a path are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Percent,
    Verbatim,
}

impl Encoding {
    fn decode(self, text: &str) -> Result<Cow<'_, str>, LinkError> {
        match self {
            Encoding::Percent => percent_decoded(text),
            Encoding::Verbatim => Ok(Cow::Borrowed(text)),
        }
    }
}

/// Reads `<cid>[/<path>][?<parameters>]`.
pub(super) fn read(text: &str) -> Result<Link, LinkError> {
    let (target, parameters) = text.split_once('?').unwrap_or((text, ""));
    let mut link = read_target(target, Encoding::Percent)?;
    read_parameters(&mut link, parameters)?;
    Ok(link)
}

/// Reads `<cid>[/<path>]`. White space within the address does not count.
pub(super) fn read_target(text: &str, encoding: Encoding) -> Result<Link, LinkError> {
    let (cid, path) = text.split_once('/').unwrap_or((text, ""));
    let cid: String = cid.chars().filter(|c| !is_blank(*c)).collect();
    let mut link = Link::new(cid.parse()?);
    link.path = read_path(path, encoding)?;
    Ok(link)
}

/// Reads names that are joined by `/`.
pub(super) fn read_path(path: &str, encoding: Encoding) -> Result<Vec<SafeName>, LinkError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let name = |part| SafeName::parse(&encoding.decode(part)?).map_err(LinkError::Path);
    path.split('/').map(name).collect()
}

/// Reads `name=…&peer=…&mark=…`.
fn read_parameters(link: &mut Link, text: &str) -> Result<(), LinkError> {
    for parameter in text.split('&') {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let key: String = key.chars().filter(|c| !is_blank(*c)).collect();
        match key.to_ascii_lowercase().as_str() {
            "name" if link.name.is_some() => return Err(LinkError::TwoNames),
            "name" => {
                let name = SafeName::parse(&percent_decoded(value)?);
                link.name = Some(name.map_err(LinkError::Name)?);
            }
            "peer" if link.peers.len() >= PEERS_ACCEPTED_MAX => {
                return Err(LinkError::TooManyPeers);
            }
            "peer" => link.peers.push(read_peer(value)?),
            "mark" if value.eq_ignore_ascii_case(NO_ANNOUNCE) => link.marks.no_announce = true,
            "mark" if value.eq_ignore_ascii_case(NO_REPLICATE) => link.marks.no_replicate = true,
            _ => {}
        }
    }
    Ok(())
}

/// Refuses what is no multiaddress: it would only be found out when nobody answers there.
fn read_peer(text: &str) -> Result<String, LinkError> {
    let text: String = text.chars().filter(|c| !is_blank(*c)).collect();
    let text = percent_decoded(&text)?;
    let legible = text.starts_with('/')
        && text.len() <= PEER_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && text.parse().is_ok_and(|address| has_keys(&address));
    if legible {
        return Ok(text.into_owned());
    }
    let mut shown: String = text.chars().take(PEER_SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    Err(LinkError::Peer(shown))
}

/// Whether each peer in an address is the hash of a key or a key itself: the beginning of an id may
/// happen to decode to something else.
fn has_keys(address: &Multiaddr) -> bool {
    address.iter().all(|part| match part {
        Protocol::P2p(peer) => match peer.to_bytes().as_slice() {
            // SHA2-256, 32 bytes.
            [0x12, 0x20, hash @ ..] => hash.len() == 32,
            // Identity; a protobuf of the type in field 1 and the key in field 2.
            [0x00, _, 0x08, _, 0x12, length, key @ ..] => key.len() == usize::from(*length),
            _ => false,
        },
        _ => true,
    })
}

/// Writes the whole link but for peers after the fourth.
pub(super) fn print(link: &Link, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = format!("shoal:{}", link.root);
    for name in &link.path {
        text.push('/');
        text.extend(utf8_percent_encode(name, PATH));
    }
    let name = link.name.iter().map(|name| ("name", name.as_str()));
    let peers = link.peers.iter().map(|peer| ("peer", peer.as_str()));
    let marks = [
        (link.marks.no_announce, NO_ANNOUNCE),
        (link.marks.no_replicate, NO_REPLICATE),
    ];
    let marks = marks.into_iter().filter(|(set, _)| *set);
    // Marks are first, where a link that is cut still has them.
    let parameters = marks
        .map(|(_, mark)| ("mark", mark))
        .chain(name)
        .chain(peers.take(PEERS_PRINTED_MAX));
    let mut separator = '?';
    for (key, value) in parameters {
        text.push(separator);
        text.push_str(key);
        text.push('=');
        text.extend(utf8_percent_encode(value, PARAMETER));
        separator = '&';
    }
    f.write_str(&last_escaped(text))
}
