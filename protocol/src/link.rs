//! Links: the text that a person passes on.
//!
//! `shoal:<cid>[/<path>]?name=<name>&peer=<multiaddr>&peer=…`. The address alone is enough; the
//! rest is a name to land under and peers to try first. A bare address, `ipfs://<cid>[/<path>]` and
//! `/ipfs/<cid>[/<path>]` are accepted wherever a link is.
//!
//! What follows a `#` is reserved for keys that are nobody else's business: it is dropped before
//! anything is parsed, and no link or error ever holds it.

use std::{borrow::Cow, fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

use crate::{
    address::{AddressError, Cid},
    name::{NameError, SafeName},
};

/// Longest text that is looked at as a link, in bytes: an address of 512, a path of 4096, a name of
/// 3 x 255 and four peers of 512, with room to spare.
pub const LINK_BYTES_MAX: usize = 8 << 10;

/// Most peers that a link is printed with, so that it fits a QR code.
pub const PEERS_PRINTED_MAX: usize = 4;

/// Most peers that a link is accepted with.
pub const PEERS_ACCEPTED_MAX: usize = 16;

/// Longest address of one peer, in bytes: a DNS name of 253, the ids of a relay and of a peer with
/// 52 each, and what names the protocols between them.
pub const PEER_BYTES_MAX: usize = 512;

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

/// A link, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The root.
    pub root: Cid,
    /// Names from the root down to what is meant; empty for the root itself.
    pub path: Vec<SafeName>,
    /// The name to land under, unless a person chooses another.
    pub name: Option<SafeName>,
    /// Multiaddresses of peers to try first, best first; not checked here. More than
    /// [`PEERS_PRINTED_MAX`] are not printed.
    pub peers: Vec<String>,
}

/// Why a text is not a link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// More than [`LINK_BYTES_MAX`] bytes.
    #[error("the link is longer than {LINK_BYTES_MAX} bytes")]
    TooLong,
    /// Some other kind of link, or a path.
    #[error("it is neither shoal:<cid>, ipfs://<cid>, /ipfs/<cid> nor a bare CID")]
    Scheme,
    /// Its address is malformed, or of an unsupported kind: the error within tells.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A name in its path is unsafe.
    #[error("in the link's path, {0}")]
    Path(NameError),
    /// The name to land under is unsafe.
    #[error("in the link's name, {0}")]
    Name(NameError),
    /// A peer is not a multiaddress at all, or too long.
    #[error("a peer in the link is not an address like /ip4/192.0.2.1/tcp/4001/p2p/…")]
    Peer,
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

impl Link {
    /// A link that is nothing but an address.
    pub fn new(root: Cid) -> Link {
        Link {
            root,
            path: Vec::new(),
            name: None,
            peers: Vec::new(),
        }
    }

    /// Reads `<cid>[/<path>]`.
    fn parse_target(text: &str, decode: Decode) -> Result<Link, LinkError> {
        let (cid, path) = text.split_once('/').unwrap_or((text, ""));
        let mut link = Link::new(cid.parse()?);
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() {
            let name = |part| SafeName::parse(&decode(part)?).map_err(LinkError::Path);
            link.path = path.split('/').map(name).collect::<Result<_, _>>()?;
        }
        Ok(link)
    }

    /// Reads `name=…&peer=…`. Unknown parameters are left for later versions.
    fn parse_parameters(&mut self, text: &str) -> Result<(), LinkError> {
        for parameter in text.split('&') {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match key {
                "name" if self.name.is_some() => return Err(LinkError::TwoNames),
                "name" => {
                    let name = SafeName::parse(&percent_decoded(value)?);
                    self.name = Some(name.map_err(LinkError::Name)?);
                }
                "peer" if self.peers.len() >= PEERS_ACCEPTED_MAX => {
                    return Err(LinkError::TooManyPeers);
                }
                "peer" => self.peers.push(parse_peer(&percent_decoded(value)?)?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// How the names of a path are written.
type Decode = fn(&str) -> Result<Cow<'_, str>, LinkError>;

fn percent_decoded(text: &str) -> Result<Cow<'_, str>, LinkError> {
    percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| LinkError::Encoding)
}

fn verbatim(text: &str) -> Result<Cow<'_, str>, LinkError> {
    Ok(Cow::Borrowed(text))
}

/// Refuses what cannot be a multiaddress; whether it is one is for the network to say.
fn parse_peer(text: &str) -> Result<String, LinkError> {
    let plausible = text.starts_with('/')
        && text.len() <= PEER_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if plausible {
        Ok(text.to_owned())
    } else {
        Err(LinkError::Peer)
    }
}

/// Strips a prefix in whatever case it is written: QR codes and phones like capitals.
fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Link, LinkError> {
        if text.len() > LINK_BYTES_MAX {
            return Err(LinkError::TooLong);
        }
        let text = text.split_once('#').map_or(text, |(link, _secret)| link);
        if let Some(path) = text.strip_prefix("/ipfs/") {
            return Link::parse_target(path, verbatim);
        }
        let (target, parameters) = text.split_once('?').unwrap_or((text, ""));
        if let Some(target) = strip_scheme(target, "shoal:") {
            let mut link = Link::parse_target(target, percent_decoded)?;
            link.parse_parameters(parameters)?;
            return Ok(link);
        }
        if let Some(target) = strip_scheme(target, "ipfs://") {
            return Link::parse_target(target, percent_decoded);
        }
        if text.contains([':', '/', '?']) {
            return Err(LinkError::Scheme);
        }
        Ok(Link::new(text.parse()?))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shoal:{}", self.root)?;
        for name in &self.path {
            write!(f, "/{}", utf8_percent_encode(name, PATH))?;
        }
        let name = self.name.iter().map(|name| ("name", name.as_str()));
        let peers = self.peers.iter().map(|peer| ("peer", peer.as_str()));
        let mut separator = '?';
        for (key, value) in name.chain(peers.take(PEERS_PRINTED_MAX)) {
            write!(
                f,
                "{separator}{key}={}",
                utf8_percent_encode(value, PARAMETER)
            )?;
            separator = '&';
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::address::{Digest, HashFn};

    const CID: &str = "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi";
    const PEER: &str = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWQYzV";

    fn name(name: &str) -> SafeName {
        SafeName::parse(name).unwrap()
    }

    fn bare() -> Link {
        Link::new(CID.parse().unwrap())
    }

    #[test]
    fn prints_and_parses() {
        let check = |link: Link, text: &str| {
            assert_eq!(link.to_string(), text);
            assert_eq!(text.parse(), Ok(link));
        };
        check(bare(), &format!("shoal:{CID}"));
        check(
            Link {
                name: Some(name("linux 6.tar&co")),
                ..bare()
            },
            &format!("shoal:{CID}?name=linux%206.tar%26co"),
        );
        check(
            Link {
                path: vec![name("a b"), name("ü?#%")],
                peers: vec![PEER.into(), "/dns6/x.example/udp/4/quic-v1".into()],
                ..bare()
            },
            &format!(
                "shoal:{CID}/a%20b/%C3%BC%3F%23%25?peer={PEER}&peer=/dns6/x.example/udp/4/quic-v1"
            ),
        );
        check(
            Link {
                name: Some(name("x")),
                peers: vec![PEER.into()],
                ..bare()
            },
            &format!("shoal:{CID}?name=x&peer={PEER}"),
        );
    }

    #[test]
    fn accepts_other_forms() {
        let check = |text: String, expected: Link| assert_eq!(text.parse(), Ok(expected), "{text}");
        let below = Link {
            path: vec![name("a"), name("100% b")],
            ..bare()
        };
        check(CID.into(), bare());
        check(format!("SHOAL:{CID}/"), bare());
        check(format!("shoal:{CID}?"), bare());
        check(format!("shoal:{CID}?later=1&flag"), bare());
        check(format!("ipfs://{CID}"), bare());
        check(
            format!("ipfs://{CID}/a/100%25%20b/?filename=z"),
            below.clone(),
        );
        check(format!("/ipfs/{CID}/a/100% b"), below);
    }

    #[test]
    fn fragments_go_nowhere() {
        for text in [
            format!("shoal:{CID}#sEcReT"),
            format!("{CID}#sEcReT?peer=x"),
        ] {
            let link: Link = text.parse().unwrap();
            assert_eq!(link, bare());
        }
        for text in [
            "shoal:x#sEcReT",
            "http://x#sEcReT",
            "#sEcReT",
            &format!("shoal:{CID}/..#sEcReT"),
        ] {
            let error = text.parse::<Link>().unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("sEcReT"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn refusals() {
        let check = |text: String, expected: LinkError| {
            assert_eq!(text.parse::<Link>(), Err(expected), "{text}");
        };
        check("magnet:?xt=urn".into(), LinkError::Scheme);
        check("https://example.org/x".into(), LinkError::Scheme);
        check("./file".into(), LinkError::Scheme);
        check(format!("{CID}/path"), LinkError::Scheme);
        check(
            format!("shoal:{CID}/../x"),
            LinkError::Path(NameError::Dots),
        );
        check(
            format!("shoal:{CID}/a//b"),
            LinkError::Path(NameError::Empty),
        );
        check(
            format!("shoal:{CID}/a%2Fb"),
            LinkError::Path(NameError::Slash),
        );
        check(
            format!("shoal:{CID}?name=a%2F..%2Fb"),
            LinkError::Name(NameError::Slash),
        );
        check(
            format!("shoal:{CID}?name="),
            LinkError::Name(NameError::Empty),
        );
        check(format!("shoal:{CID}?name=a&name=b"), LinkError::TwoNames);
        check(format!("shoal:{CID}?name=%ff"), LinkError::Encoding);
        check(format!("shoal:{CID}?peer="), LinkError::Peer);
        check(format!("shoal:{CID}?peer=example.org"), LinkError::Peer);
        check(format!("shoal:{CID}?peer=/ip4/%0a"), LinkError::Peer);
        check(
            format!("shoal:{CID}?{}", format!("peer={PEER}&").repeat(17)),
            LinkError::TooManyPeers,
        );
        check("x".repeat(LINK_BYTES_MAX + 1), LinkError::TooLong);

        // An unsupported hash is another mistake than a typing error.
        let sha3 = format!("shoal:f01551620{}", "ab".repeat(32))
            .parse::<Link>()
            .unwrap_err();
        assert!(matches!(
            sha3,
            LinkError::Address(AddressError::UnsupportedHash { .. })
        ));
        let typo = format!("shoal:{}", &CID[..50]).parse::<Link>().unwrap_err();
        assert!(matches!(
            typo,
            LinkError::Address(AddressError::Malformed(_))
        ));
    }

    #[test]
    fn prints_four_peers() {
        let link = Link {
            peers: vec![PEER.into(); 6],
            ..bare()
        };
        assert_eq!(link.to_string().matches("peer=").count(), PEERS_PRINTED_MAX);
    }

    fn any_name() -> impl Strategy<Value = SafeName> {
        "[^/\\x00]{1,20}".prop_filter_map("unsafe", |text| SafeName::parse(&text).ok())
    }

    proptest! {
        #[test]
        fn round_trips(
            content in any::<[u8; 4]>(),
            path in prop::collection::vec(any_name(), 0..4),
            name in prop::option::of(any_name()),
            peers in prop::collection::vec("/[!-~]{0,40}", 0..=PEERS_PRINTED_MAX),
        ) {
            let root = Cid::dag_pb(Digest::of(HashFn::Blake3, &content));
            let link = Link { root, path, name, peers };
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }

        #[test]
        fn no_text_panics(text in "(shoal:|ipfs://|/ipfs/|)(bafkqaaa)?[/?#&=%a-z0-9.\\PC]{0,60}") {
            if let Ok(link) = text.parse::<Link>() {
                let printed = Link { peers: link.peers.iter().take(4).cloned().collect(), ..link };
                prop_assert_eq!(printed.to_string().parse(), Ok(printed));
            }
        }
    }
}
