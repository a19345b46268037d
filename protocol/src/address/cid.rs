//! Content identifiers: a digest, or the content itself, with the kind of block it is.

use std::{borrow::Cow, fmt, str::FromStr};

use ::cid::{
    CidGeneric, Error as CidError, Version,
    multibase::{self, Base},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{AddressError, Digest, HashFn};
use crate::varint;

/// Largest content carried in an address itself, in bytes (the limit that IPFS uses too).
pub const INLINE_BYTES_MAX: usize = 128;

/// Longest text that is looked at as an address, in bytes: base 16 of the largest inline address
/// takes 2 x (5 + 128) + 1, and decoding base 58 is quadratic in the length.
pub const CID_TEXT_BYTES_MAX: usize = 512;

/// The multihash code of content that stands in its own address.
const IDENTITY: u64 = 0x00;

/// The longest multihash the underlying crate represents: any known hash fits, so that it can be
/// named when it is refused.
type AnyCid = CidGeneric<255>;

/// What the block behind an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// File bytes and nothing else.
    Raw,
    /// A dag-pb node that carries UnixFS.
    DagPb,
}

impl Codec {
    /// The multicodec code, which is one varint byte for both.
    const fn code(self) -> u8 {
        match self {
            Codec::Raw => 0x55,
            Codec::DagPb => 0x70,
        }
    }

    fn from_code(code: u64) -> Result<Codec, AddressError> {
        let name = match code {
            0x55 => return Ok(Codec::Raw),
            0x70 => return Ok(Codec::DagPb),
            0x51 => "cbor",
            0x71 => "dag-cbor",
            0x72 => "libp2p-key",
            0x78 => "git-raw",
            0x0129 => "dag-json",
            0x0200 => "json",
            _ => "unknown",
        };
        Err(AddressError::UnsupportedCodec { name, code })
    }
}

/// A content identifier, normalised to version 1.
///
/// Printed in base 32 lower case. In human-readable formats it is that text, in binary ones its
/// bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    codec: Codec,
    target: Target,
}

/// Where the content of an address is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Target {
    Block(Digest),
    Inline(Box<[u8]>),
}

impl Cid {
    /// Names a block by its digest.
    pub fn new(codec: Codec, digest: Digest) -> Cid {
        Cid {
            codec,
            target: Target::Block(digest),
        }
    }

    /// Names a leaf: file bytes and nothing else.
    pub fn raw(digest: Digest) -> Cid {
        Cid::new(Codec::Raw, digest)
    }

    /// Names a UnixFS node.
    pub fn dag_pb(digest: Digest) -> Cid {
        Cid::new(Codec::DagPb, digest)
    }

    /// What the block is.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The digest to ask for, or `None` if the content is inline.
    pub fn digest(&self) -> Option<Digest> {
        match &self.target {
            Target::Block(digest) => Some(*digest),
            Target::Inline(_) => None,
        }
    }

    /// The content, if the address itself carries it: at most [`INLINE_BYTES_MAX`] bytes.
    pub fn inline(&self) -> Option<&[u8]> {
        match &self.target {
            Target::Block(_) => None,
            Target::Inline(bytes) => Some(bytes),
        }
    }

    /// The binary form of version 1, as links in a DAG carry it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1, self.codec.code()];
        match &self.target {
            Target::Block(digest) => out.extend_from_slice(&digest.key()),
            Target::Inline(bytes) => {
                varint::push(&mut out, IDENTITY);
                varint::push(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
        out
    }

    /// Reads the binary form of version 0 or 1; there may be nothing after it.
    ///
    /// # Errors
    /// [`AddressError`] says whether the bytes are no address or one of an unsupported kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Cid, AddressError> {
        let mut rest = bytes;
        let any = AnyCid::read_bytes(&mut rest).map_err(|error| malformed(bytes, &error))?;
        if !rest.is_empty() {
            return Err(AddressError::Malformed("bytes after its end"));
        }
        let codec = Codec::from_code(any.codec())?;
        let content = any.hash().digest();
        if any.hash().code() == IDENTITY {
            if content.len() > INLINE_BYTES_MAX {
                return Err(AddressError::InlineTooLong {
                    length: content.len(),
                });
            }
            return Ok(Cid {
                codec,
                target: Target::Inline(content.into()),
            });
        }
        let hash_fn = HashFn::from_code(any.hash().code())?;
        let hash = content.try_into().map_err(|_| AddressError::DigestLength {
            hash_fn,
            length: content.len(),
        })?;
        Ok(Cid::new(codec, Digest::from_hash(hash_fn, hash)))
    }
}

/// Reduces the crate's error to what a person can act on.
fn malformed(bytes: &[u8], error: &CidError) -> AddressError {
    if is_cut(bytes) {
        return AddressError::Cut;
    }
    AddressError::Malformed(match error {
        CidError::InvalidCidVersion => "its version is not 0 or 1",
        CidError::VarIntDecodeError => "a number in it is damaged",
        CidError::ParsingError => "its hash is damaged",
        _ => "its parts do not fit together",
    })
}

/// Whether bytes are the beginning of an address: less than they themselves say.
fn is_cut(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    match varint::take(&mut rest) {
        None => return true,
        // Version 0 is a SHA2-256 multihash.
        Some(0x12) => rest = bytes,
        Some(1) if varint::take(&mut rest).is_none() => return true,
        Some(1) => {}
        Some(_) => return false,
    }
    let (_hash_fn, length) = (varint::take(&mut rest), varint::take(&mut rest));
    length.is_none_or(|length| (rest.len() as u64) < length)
}

/// Whether a text that does not decode is the beginning of an address in base 32 or of version 0,
/// the ones that people pass on: letters were lost in the middle of a group.
fn is_cut_text(text: &str) -> bool {
    if text.starts_with("Qm") {
        return text.len() < V0_LETTERS && Base::Base58Btc.decode(text).is_ok();
    }
    let whole_groups = text.strip_prefix('b').map(|letters| {
        let whole = letters.len().saturating_sub(letters.len() % BASE32_GROUP);
        letters
            .get(..whole)
            .and_then(|it| Base::Base32Lower.decode(it).ok())
    });
    let is_base32 = |c: char| matches!(c, 'a'..='z' | '2'..='7');
    let decoded = whole_groups
        .flatten()
        .filter(|_| text.chars().all(is_base32));
    decoded.is_some_and(|bytes| is_cut(&bytes))
}

/// Letters of an address of version 0.
const V0_LETTERS: usize = 46;

/// Letters of base 32 that stand for five whole bytes.
const BASE32_GROUP: usize = 8;

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&multibase::encode(Base::Base32Lower, self.to_bytes()))
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl FromStr for Cid {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Cid, AddressError> {
        if text.len() > CID_TEXT_BYTES_MAX {
            return Err(AddressError::Malformed("it is too long"));
        }
        // Both cases of base 32 and base 16 mean the same; phones begin with a capital, and codes
        // have nothing else.
        let text = match text.as_bytes().first() {
            Some(b'b' | b'B' | b'f' | b'F') => Cow::Owned(text.to_ascii_lowercase()),
            _ => Cow::Borrowed(text),
        };
        let decoded = if Version::is_v0_str(&text) {
            Base::Base58Btc.decode(&*text).ok()
        } else {
            multibase::decode(&*text).ok().map(|(_, bytes)| bytes)
        };
        match decoded {
            Some(bytes) => Cid::from_bytes(&bytes),
            None if is_cut_text(&text) => Err(AddressError::Cut),
            None => Err(AddressError::Malformed("it is incomplete or mistyped")),
        }
    }
}

impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cid, D::Error> {
        if deserializer.is_human_readable() {
            let text = <Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            deserializer.deserialize_bytes(BytesVisitor)
        }
    }
}

/// Takes the binary form whether or not the format can lend its input.
struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Cid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a content identifier")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Cid, E> {
        Cid::from_bytes(bytes).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const EMPTY_V1: &str = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";

    fn inline(bytes: &[u8]) -> Cid {
        Cid {
            codec: Codec::Raw,
            target: Target::Inline(bytes.into()),
        }
    }

    #[test]
    fn known_addresses() {
        let check = |text: &str, expected: Cid| {
            let cid: Cid = text.parse().unwrap();
            assert_eq!(cid, expected, "{text}");
            assert_eq!(Cid::from_bytes(&cid.to_bytes()), Ok(cid.clone()));
            assert_eq!(cid.to_string().parse(), Ok(cid.clone()));

            let binary = postcard::to_allocvec(&cid).unwrap();
            assert_eq!(postcard::from_bytes::<Cid>(&binary).unwrap(), cid);
            let json = serde_json::to_string(&cid).unwrap();
            assert_eq!(serde_json::from_str::<Cid>(&json).unwrap(), cid);
        };
        let empty = Cid::raw(Digest::of(HashFn::Sha2_256, b""));
        check(EMPTY_V1, empty.clone());
        // The same in other bases.
        check(
            "f01551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            empty,
        );
        // Version 0 is the version 1 dag-pb address of the same digest: kubo's empty directory.
        check(
            "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
            Cid::dag_pb(Digest::of(HashFn::Sha2_256, &[0x0a, 0x02, 0x08, 0x01])),
        );
        check("bafkqaaa", inline(b""));
        check(&inline(&[7; 127]).to_string(), inline(&[7; 127]));
        check(&inline(&[7; 128]).to_string(), inline(&[7; 128]));
    }

    #[test]
    fn an_address_is_read_in_either_case() {
        let cid: Cid = EMPTY_V1.parse().unwrap();
        assert_eq!(EMPTY_V1.to_uppercase().parse(), Ok(cid.clone()));
        assert_eq!(format!("B{}", &EMPTY_V1[1..]).parse(), Ok(cid));
    }

    #[test]
    fn an_address_that_was_cut_says_so_wherever_it_was() {
        let v0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";
        for (whole, from) in [(EMPTY_V1, 1), (v0, 2)] {
            for letters in from..whole.len() {
                let cut = whole[..letters].parse::<Cid>();
                assert_eq!(cut, Err(AddressError::Cut), "{letters} of {whole}");
            }
        }
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let check = |hex: &str, expected: &str| {
            let error = format!("f{hex}").parse::<Cid>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        let hash = "ab".repeat(32);
        check(
            &format!("01551620{hash}"),
            "unsupported hash function sha3-256 (0x16); supported are blake3 and sha2-256",
        );
        check(
            &format!("0155a0e40220{hash}"),
            "unsupported hash function blake2b (0xb220); supported are blake3 and sha2-256",
        );
        check(
            &format!("01711e20{hash}"),
            "unsupported codec dag-cbor (0x71); supported are raw and dag-pb",
        );
        check(
            &format!("01551e40{hash}{hash}"),
            "unsupported blake3 digest of 64 bytes; only 32 are supported",
        );
        check(
            &format!("0155008101{}", "00".repeat(129)),
            "inline address of 129 bytes; at most 128 are accepted",
        );
        check(
            &format!("01551e20{hash}00"),
            "not a content address: bytes after its end",
        );
        check("01551e20ab", "the content address is cut short");
        check(
            "02551e20",
            "not a content address: its version is not 0 or 1",
        );
        check("", "the content address is cut short");
        assert!("".parse::<Cid>().is_err());
        assert!("readme.txt".parse::<Cid>().is_err());
        assert!(
            format!("/ipfs/{EMPTY_V1}").parse::<Cid>().is_err(),
            "links are not addresses"
        );
        assert!("b".repeat(CID_TEXT_BYTES_MAX + 1).parse::<Cid>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<Cid>();
        }

        #[test]
        fn what_parses_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            let mut framed = vec![1, 0x55, 0];
            varint::push(&mut framed, bytes.len() as u64);
            framed.extend_from_slice(&bytes);
            for bytes in [&bytes, &framed] {
                if let Ok(cid) = Cid::from_bytes(bytes) {
                    prop_assert_eq!(Cid::from_bytes(&cid.to_bytes()), Ok(cid));
                }
            }
        }
    }
}
