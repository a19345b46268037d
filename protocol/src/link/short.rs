//! The short form of a link: one token that people, chats, shells and QR codes leave whole.
//!
//! `shoal:<token>[/<name>][/<path>]`, without `&`, `?` and `#`. The token is written in Crockford's
//! base 32, in capitals: digits and letters without `I`, `L`, `O` and `U`, so that it is read in any
//! case and `O` for `0`, `I` or `L` for `1` are no mistakes. Its first letter is the version, `S`,
//! which begins no CID in any encoding. What follows is a string of bits, most significant first,
//! five a letter:
//!
//! | bits | what |
//! | --- | --- |
//! | 5 | version: 25, the letter `S` |
//! | 1 | codec: 0 raw, 1 dag-pb |
//! | 1 | hash function: 0 BLAKE3-256, 1 SHA2-256 |
//! | 1 | mark: not announced |
//! | 1 | mark: not to be replicated |
//! | 1 | reserved for a mark: 0, and refused otherwise |
//! | 1 | whether the check of a name follows |
//! | 5 | addresses: 0 for no peer, else 1 + 5 x first + second |
//! | 256 | digest of the root |
//! | 256 | Ed25519 key of the peer, if there is one |
//! | 48 or 144 each | addresses: IPv4 or IPv6, then the port |
//! | 15 | check of the name, if there is one: `checksum::name_check` |
//! | 0 to 4 | zeros, up to a whole letter |
//! | 20 | checksum over the letters before: `checksum::Letters` |
//!
//! An address is 0 none, 1 IPv4 and TCP, 2 IPv4 and QUIC, 3 IPv6 and TCP, 4 IPv6 and QUIC.
//!
//! The longest token fits a QR code of version 5, which has 37 modules a side and is drawn in
//! 45 x 23 cells, border included. It holds 154 characters of the alphanumeric mode; 6 are `SHOAL:`,
//! so 148 letters are left, 740 bits. 16 of the header, 512 of digest and key and 20 of the checksum
//! leave 192: one address of each family, or two of IPv4. The check of a name adds three letters,
//! and a code leaves the name out when it has no room for it. Such a link has at most 151 letters.
//!
//! There is no short form for content that stands in its own address, nor for peers without an
//! Ed25519 key or with none but named and relayed addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use cid::multibase::Base;
use multiaddr::{Multiaddr, Protocol};
use percent_encoding::utf8_percent_encode;

use super::{
    Link, LinkError, Marks, SEGMENT,
    checksum::{CHECK_LETTERS, LETTER_BITS, Letters, NAME_CHECK_BITS, name_check},
    last_escaped,
};
use crate::{
    address::{Cid, Codec, Digest, HashFn},
    name::{SafeName, fold},
};

/// Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The version, and the first letter: `S`.
const VERSION: u8 = 25;

/// Most letters of a token without a name: what a QR code of version 5 has room for.
pub(super) const LETTERS_MAX: usize = QR5_CHARACTERS - "SHOAL:".len();

/// Capacity of a QR code of version 5 in alphanumeric mode at the lowest level of correction
/// (ISO/IEC 18004, table 7).
const QR5_CHARACTERS: usize = 154;

/// Bits before the digest.
const HEADER_BITS: usize = 16;
const DIGEST_BITS: usize = 256;
const KEY_BITS: usize = 256;
const V4_BITS: usize = 32;
const V6_BITS: usize = 128;
const PORT_BITS: usize = 16;

/// Letters that hold the header: from these on it is known how long a token is.
const HEADER_LETTERS: usize = HEADER_BITS.div_ceil(LETTER_BITS);

/// What stands before an Ed25519 key in the bytes of a peer id: an identity multihash of 36 bytes
/// with a protobuf of the key's type and its 32 bytes.
const ED25519_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// One packed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    V4(Ipv4Addr, Transport, u16),
    V6(Ipv6Addr, Transport, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Quic,
}

impl Packed {
    /// Takes apart `/ip4|ip6/…/tcp/…` or `/…/udp/…/quic-v1`, and a peer id with an Ed25519 key.
    fn parse(address: &str) -> Option<(Packed, [u8; 32])> {
        let address: Multiaddr = address.parse().ok()?;
        let mut parts = address.iter();
        let ip = parts.next()?;
        let (transport, port) = match parts.next()? {
            Protocol::Tcp(port) => (Transport::Tcp, port),
            Protocol::Udp(port) if parts.next()? == Protocol::QuicV1 => (Transport::Quic, port),
            _ => return None,
        };
        let packed = match ip {
            Protocol::Ip4(ip) => Packed::V4(ip, transport, port),
            Protocol::Ip6(ip) => Packed::V6(ip, transport, port),
            _ => return None,
        };
        let Some(Protocol::P2p(peer)) = parts.next() else {
            return None;
        };
        let key = peer.to_bytes().strip_prefix(&ED25519_PREFIX)?.try_into();
        Some((packed, key.ok().filter(|_| parts.next().is_none())?))
    }

    /// Its number in the header.
    fn kind(self) -> u16 {
        match self {
            Packed::V4(_, Transport::Tcp, _) => 1,
            Packed::V4(_, Transport::Quic, _) => 2,
            Packed::V6(_, Transport::Tcp, _) => 3,
            Packed::V6(_, Transport::Quic, _) => 4,
        }
    }

    /// Bits of an address of this kind; none for what is no kind.
    fn bits_of(kind: u16) -> usize {
        match kind {
            1 | 2 => V4_BITS.saturating_add(PORT_BITS),
            3 | 4 => V6_BITS.saturating_add(PORT_BITS),
            _ => 0,
        }
    }

    fn write(self, out: &mut Bits) {
        let port = match self {
            Packed::V4(ip, _, port) => {
                out.push_bytes(&ip.octets());
                port
            }
            Packed::V6(ip, _, port) => {
                out.push_bytes(&ip.octets());
                port
            }
        };
        out.push_bytes(&port.to_be_bytes());
    }

    /// Reads an address of this kind as a multiaddress; none for what is no kind.
    fn read(kind: u16, bits: &mut Reader<'_>) -> Option<String> {
        let ip = match kind {
            1 | 2 => format!("/ip4/{}", Ipv4Addr::from(bits.bytes::<4>()?)),
            3 | 4 => format!("/ip6/{}", Ipv6Addr::from(bits.bytes::<16>()?)),
            _ => return None,
        };
        let port = u16::from_be_bytes(bits.bytes()?);
        Some(match kind {
            1 | 3 => format!("{ip}/tcp/{port}"),
            _ => format!("{ip}/udp/{port}/quic-v1"),
        })
    }
}

/// The peer of a token: the first that can be packed, with those of its addresses that fit.
struct Peer {
    key: [u8; 32],
    first: Packed,
    second: Option<Packed>,
}

impl Peer {
    fn of(link: &Link) -> Option<Peer> {
        let mut packed = link.peers.iter().filter_map(|it| Packed::parse(it));
        let (first, key) = packed.next()?;
        let fits = |address: &Packed| {
            letters_for(kinds(first.kind(), address.kind()), false) <= LETTERS_MAX
        };
        let second = packed
            .find(|(address, of)| *of == key && *address != first && fits(address))
            .map(|(address, _)| address);
        Some(Peer { key, first, second })
    }

    fn kinds(&self) -> u16 {
        kinds(self.first.kind(), self.second.map_or(0, Packed::kind))
    }
}

/// The header's number for two kinds of addresses.
fn kinds(first: u16, second: u16) -> u16 {
    first
        .saturating_mul(5)
        .saturating_add(second)
        .saturating_add(1)
}

/// Letters of a token whose header says this.
fn letters_for(addresses: u16, named: bool) -> usize {
    let of_peer = addresses.checked_sub(1).map_or(0, |pair| {
        let [first, second] = [pair / 5, pair % 5].map(Packed::bits_of);
        KEY_BITS.saturating_add(first).saturating_add(second)
    });
    let of_name = if named { NAME_CHECK_BITS } else { 0 };
    HEADER_BITS
        .saturating_add(DIGEST_BITS)
        .saturating_add(of_peer)
        .saturating_add(of_name)
        .div_ceil(LETTER_BITS)
        .saturating_add(CHECK_LETTERS)
}

/// The short form of a link, if it has one.
pub(super) fn print(link: &Link) -> Option<String> {
    let token = token(link)?;
    let mut text = format!("shoal:{token}");
    for name in link.name.iter().chain(&link.path) {
        let segment = utf8_percent_encode(name, SEGMENT).to_string();
        text.push('/');
        text.push_str(&last_escaped(segment));
    }
    Some(text)
}

fn token(link: &Link) -> Option<String> {
    let digest = link.root.digest()?;
    let peer = Peer::of(link);
    if peer.is_none() && !link.peers.is_empty() {
        return None;
    }
    let mut bits = Bits::default();
    bits.push(u16::from(VERSION), LETTER_BITS);
    bits.push(u16::from(link.root.codec() == Codec::DagPb), 1);
    bits.push(u16::from(digest.hash_fn() == HashFn::Sha2_256), 1);
    bits.push(u16::from(link.marks.no_announce), 1);
    bits.push(u16::from(link.marks.no_replicate), 1);
    bits.push(0, 1);
    bits.push(u16::from(link.name.is_some()), 1);
    bits.push(peer.as_ref().map_or(0, Peer::kinds), 5);
    bits.push_bytes(digest.hash());
    if let Some(peer) = &peer {
        bits.push_bytes(&peer.key);
        for address in [Some(peer.first), peer.second].into_iter().flatten() {
            address.write(&mut bits);
        }
    }
    if let Some(name) = &link.name {
        bits.push(name_check(&fold(name)), NAME_CHECK_BITS);
    }
    let mut letters = bits.letters();
    let check = Letters::check(&letters);
    letters.extend(check);
    letters.iter().map(|it| letter(*it)).collect()
}

/// What a token says.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) root: Cid,
    pub(super) marks: Marks,
    pub(super) peers: Vec<String>,
    /// The check of the name that follows.
    pub(super) name_check: Option<u16>,
}

impl Token {
    /// Whether a name is the one that the token was made with; as good as always true for none.
    pub(super) fn is_name(&self, name: &SafeName) -> bool {
        self.name_check == Some(name_check(&fold(name)))
    }
}

/// Whether a text begins like a token, and so is no CID.
pub(super) fn is_token(text: &str) -> bool {
    text.chars().find(|c| !is_blank(*c)).and_then(value) == Some(VERSION)
}

/// The mistake in a text that is a token but for its first letter, the version.
pub(super) fn mistyped_version(text: &str) -> Option<LinkError> {
    let letters = text.chars().filter(|c| !is_blank(*c)).map_while(value);
    let meant: Vec<u8> = std::iter::once(VERSION).chain(letters.skip(1)).collect();
    let is_whole = Header::of(&meant).is_some_and(|it| it.letters == meant.len());
    (is_whole && Letters::hold(&meant)).then(|| mistyped(Some((0, VERSION))))
}

/// Reads the token that a text begins with, and returns what follows it.
///
/// White space between letters does not count.
///
/// # Errors
/// [`LinkError::Cut`], [`LinkError::Letter`], [`LinkError::Mistyped`], [`LinkError::Attached`] or
/// [`LinkError::Newer`].
pub(super) fn read(text: &str) -> Result<(Token, &str), LinkError> {
    let mut letters = Vec::new();
    let mut rest = text.chars();
    loop {
        let whole = Header::of(&letters).map(|header| header.letters);
        if whole.is_some_and(|whole| letters.len() >= whole) {
            break;
        }
        match rest.next() {
            Some(c) if is_blank(c) => {}
            Some(c) => match value(c) {
                Some(letter) => letters.push(letter),
                None if c.is_alphanumeric() => {
                    let at = letters.len().saturating_add(1);
                    return Err(LinkError::Letter { letter: c, at });
                }
                None => return Err(too_short(&letters, whole)),
            },
            None => return Err(too_short(&letters, whole)),
        }
    }
    let rest = rest.as_str();
    if let Some(error) = attached(&letters, rest) {
        return Err(error);
    }
    if !Letters::hold(&letters) {
        return Err(mistyped(Letters::suspect(&letters)));
    }
    Ok((unpack(&letters)?, rest))
}

/// A token of too few letters is cut, unless one of its first letters says a wrong length.
fn too_short(letters: &[u8], whole: Option<usize>) -> LinkError {
    other_length(letters).unwrap_or(LinkError::Cut {
        have: letters.len(),
        whole,
    })
}

/// Letters that follow a whole token: something was attached to it, unless one of its first letters
/// says a wrong length.
fn attached(letters: &[u8], rest: &str) -> Option<LinkError> {
    let more: Vec<u8> = rest.chars().map_while(value).collect();
    let is_more = rest.chars().next().is_some_and(char::is_alphanumeric);
    if !is_more {
        return None;
    }
    let all: Vec<u8> = letters.iter().chain(&more).copied().collect();
    Some(other_length(&all).unwrap_or(LinkError::Attached(letters.len())))
}

/// Why a token has another length than it says: a newer version made it, or a letter of its header
/// is mistyped.
///
/// The checksum alone does not tell the first: it still holds when a zero at the end is lost or
/// added. So the header has to say something that this version does not know.
fn other_length(letters: &[u8]) -> Option<LinkError> {
    if Letters::hold(letters) {
        let is_newer = Header::of(letters).is_some_and(|it| !it.is_known);
        return is_newer.then_some(LinkError::Newer);
    }
    let (at, meant) = Letters::suspect(letters).filter(|(at, _)| *at < HEADER_LETTERS)?;
    let mut mended = letters.to_vec();
    *mended.get_mut(at)? = meant;
    let whole = Header::of(&mended)?.letters;
    (whole == letters.len()).then(|| mistyped(Some((at, meant))))
}

fn mistyped(suspect: Option<(usize, u8)>) -> LinkError {
    LinkError::Mistyped {
        at: suspect.map(|(at, _)| at.saturating_add(1)),
        meant: suspect.and_then(|(_, meant)| letter(meant)),
    }
}

/// The part of a token that says how long it is.
struct Header {
    letters: usize,
    /// Whether this version makes such headers.
    is_known: bool,
}

impl Header {
    /// What the first letters say, once there are enough of them.
    fn of(letters: &[u8]) -> Option<Header> {
        let mut bits = Reader::new(letters.get(..HEADER_LETTERS)?);
        let (version, _kinds_and_marks) = (bits.number(LETTER_BITS)?, bits.number(4)?);
        let (reserved, named, addresses) = (bits.number(1)?, bits.number(1)?, bits.number(5)?);
        let is_address = |kind| Packed::bits_of(kind) > 0;
        let are_known = addresses
            .checked_sub(1)
            .is_none_or(|pair| is_address(pair / 5));
        Some(Header {
            letters: letters_for(addresses, named == 1),
            is_known: version == u16::from(VERSION) && reserved == 0 && are_known,
        })
    }
}

fn unpack(letters: &[u8]) -> Result<Token, LinkError> {
    let packed = letters.len().saturating_sub(CHECK_LETTERS);
    let mut bits = Reader::new(letters.get(..packed).unwrap_or_default());
    // The checksum holds, so what does not fit was made like this: by another version.
    read_fields(&mut bits).ok_or(LinkError::Newer)
}

fn read_fields(bits: &mut Reader<'_>) -> Option<Token> {
    let version = bits.number(LETTER_BITS)?;
    let codec = match bits.number(1)? {
        0 => Codec::Raw,
        _ => Codec::DagPb,
    };
    let hash_fn = match bits.number(1)? {
        0 => HashFn::Blake3,
        _ => HashFn::Sha2_256,
    };
    let marks = Marks {
        no_announce: bits.number(1)? == 1,
        no_replicate: bits.number(1)? == 1,
    };
    let (reserved, named, addresses) = (bits.number(1)?, bits.number(1)?, bits.number(5)?);
    let root = Cid::new(codec, Digest::from_hash(hash_fn, &bits.bytes()?));
    let peers = match addresses.checked_sub(1) {
        None => Vec::new(),
        Some(pair) => read_peers(bits, pair / 5, pair % 5)?,
    };
    let name_check = match named {
        0 => None,
        _ => Some(bits.number(NAME_CHECK_BITS)?),
    };
    let known = version == u16::from(VERSION) && reserved == 0 && bits.is_padding();
    known.then_some(Token {
        root,
        marks,
        peers,
        name_check,
    })
}

fn read_peers(bits: &mut Reader<'_>, first: u16, second: u16) -> Option<Vec<String>> {
    let key: [u8; 32] = bits.bytes()?;
    let id: Vec<u8> = ED25519_PREFIX.iter().chain(&key).copied().collect();
    let id = Base::Base58Btc.encode(id);
    let mut peers = vec![Packed::read(first, bits)?];
    if second != 0 {
        peers.push(Packed::read(second, bits)?);
    }
    let with_id = peers.iter().map(|address| format!("{address}/p2p/{id}"));
    Some(with_id.collect())
}

/// White space, and what nobody sees.
pub(super) fn is_blank(c: char) -> bool {
    let invisible = matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}'
    );
    c.is_whitespace() || invisible
}

/// What a letter stands for, also where it is mistaken for another that is not in the alphabet.
fn value(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        c => c,
    };
    let at = ALPHABET.iter().position(|it| char::from(*it) == c)?;
    u8::try_from(at).ok()
}

/// Whether a character stands for something in a token.
pub(super) fn is_letter(c: char) -> bool {
    value(c).is_some()
}

fn letter(value: u8) -> Option<char> {
    ALPHABET.get(usize::from(value)).copied().map(char::from)
}

/// Bits that are written, most significant first.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn push(&mut self, number: u16, bits: usize) {
        for at in (0..bits).rev() {
            self.0.push((number >> at) & 1 == 1);
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(u16::from(*byte), 8);
        }
    }

    /// Five bits a letter, zeros at the end.
    fn letters(&self) -> Vec<u8> {
        let letter = |bits: &[bool]| {
            (0..LETTER_BITS).fold(0, |value, at| {
                (value << 1) | u8::from(bits.get(at).copied().unwrap_or_default())
            })
        };
        self.0.chunks(LETTER_BITS).map(letter).collect()
    }
}

/// Bits that are read out of letters.
struct Reader<'a> {
    letters: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn new(letters: &[u8]) -> Reader<'_> {
        Reader { letters, at: 0 }
    }

    fn bit(&mut self) -> Option<u16> {
        let letter = self.letters.get(self.at / LETTER_BITS)?;
        let place = self.at % LETTER_BITS;
        self.at = self.at.saturating_add(1);
        Some(u16::from((letter << place) & 0b10000 != 0))
    }

    fn number(&mut self, bits: usize) -> Option<u16> {
        let mut number = 0;
        for _ in 0..bits {
            number = (number << 1) | self.bit()?;
        }
        Some(number)
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            let [_, low] = self.number(8)?.to_be_bytes();
            *byte = low;
        }
        Some(bytes)
    }

    /// Whether all that is left is less than a letter of zeros.
    fn is_padding(&mut self) -> bool {
        let mut left = 0_usize;
        while let Some(bit) = self.bit() {
            left = left.saturating_add(1);
            if bit != 0 || left >= LETTER_BITS {
                return false;
            }
        }
        true
    }
}
