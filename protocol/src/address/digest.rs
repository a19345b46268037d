//! Hash functions and digests: the names of blocks.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::AddressError;

/// Length of every supported digest, in bytes, as it stands in a multihash.
const HASH_LENGTH: u8 = 32;

/// The same length for arrays.
const HASH_BYTES: usize = HASH_LENGTH as usize;

/// A hash function that blocks may be addressed by.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum HashFn {
    /// BLAKE3 with 256 bits of output: what Shoal produces unless told otherwise.
    #[default]
    #[serde(rename = "blake3")]
    Blake3,
    /// SHA2-256: the published `unixfs-v1-2025` profile.
    #[serde(rename = "sha2-256")]
    Sha2_256,
}

impl HashFn {
    /// The function's name, as in the multicodec table and in `share --hash`.
    pub fn name(self) -> &'static str {
        match self {
            HashFn::Blake3 => "blake3",
            HashFn::Sha2_256 => "sha2-256",
        }
    }

    /// The function's multicodec code, which is one varint byte for both.
    pub(super) const fn code(self) -> u8 {
        match self {
            HashFn::Blake3 => 0x1e,
            HashFn::Sha2_256 => 0x12,
        }
    }

    /// Finds the function with this multicodec code.
    ///
    /// # Errors
    /// [`AddressError::UnsupportedHash`], naming it.
    pub(super) fn from_code(code: u64) -> Result<HashFn, AddressError> {
        match code {
            0x1e => Ok(HashFn::Blake3),
            0x12 => Ok(HashFn::Sha2_256),
            _ => Err(AddressError::UnsupportedHash {
                name: unsupported_name(code),
                code,
            }),
        }
    }
}

impl fmt::Display for HashFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashFn {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<HashFn, AddressError> {
        match text {
            "blake3" => Ok(HashFn::Blake3),
            "sha2-256" => Ok(HashFn::Sha2_256),
            _ => Err(AddressError::Malformed(
                "the hash function is blake3 or sha2-256",
            )),
        }
    }
}

/// Names from the multicodec table, so that a refusal says what the address wants.
fn unsupported_name(code: u64) -> &'static str {
    match code {
        0x00 => "identity",
        0x11 => "sha1",
        0x13 => "sha2-512",
        0x14 => "sha3-512",
        0x15 => "sha3-384",
        0x16 => "sha3-256",
        0x17 => "sha3-224",
        0x18 => "shake-128",
        0x19 => "shake-256",
        0x1a => "keccak-224",
        0x1b => "keccak-256",
        0x1c => "keccak-384",
        0x1d => "keccak-512",
        0x20 => "sha2-384",
        0x22 => "murmur3-x64-64",
        0x56 => "dbl-sha2-256",
        0xd5 => "md5",
        0x1012 => "sha2-256-trunc254-padded",
        0x1014 => "sha2-512-256",
        0x1053 => "ripemd-160",
        0xb201..=0xb240 => "blake2b",
        0xb241..=0xb260 => "blake2s",
        0xb401 => "poseidon-bls12_381-a2-fc1",
        _ => "unknown",
    }
}

/// The 34-byte multihash of a block: hash function code, length 32, digest.
///
/// Two digests compare like their bytes. In binary formats it is these 34 bytes without a length,
/// in human-readable ones lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; Digest::LEN]);

impl Digest {
    /// Length of the byte form: two single-byte varints and the hash.
    pub const LEN: usize = HASH_BYTES.saturating_add(2);

    /// Hashes a block.
    pub fn of(hash_fn: HashFn, bytes: &[u8]) -> Digest {
        let hash = match hash_fn {
            HashFn::Blake3 => *blake3::hash(bytes).as_bytes(),
            HashFn::Sha2_256 => Sha256::digest(bytes).into(),
        };
        Digest::from_hash(hash_fn, &hash)
    }

    /// Whether these bytes are the block that this digest names.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        *self == Digest::of(self.hash_fn(), bytes)
    }

    /// The function this digest was made with.
    pub fn hash_fn(&self) -> HashFn {
        let [code, ..] = self.0;
        if code == HashFn::Blake3.code() {
            HashFn::Blake3
        } else {
            HashFn::Sha2_256
        }
    }

    /// The 34 bytes that stand for this digest in the store and on the wire.
    pub fn key(&self) -> [u8; Digest::LEN] {
        self.0
    }

    /// Reads the byte form back.
    ///
    /// # Errors
    /// [`AddressError::Malformed`] unless there are exactly 34 bytes; by what the first two say,
    /// [`AddressError::UnsupportedHash`] or [`AddressError::DigestLength`].
    pub fn from_key(key: &[u8]) -> Result<Digest, AddressError> {
        let [code, length, hash @ ..] = key else {
            return Err(AddressError::Malformed("a digest has 34 bytes"));
        };
        let hash_fn = HashFn::from_code(u64::from(*code))?;
        if *length != HASH_LENGTH {
            return Err(AddressError::DigestLength {
                hash_fn,
                length: usize::from(*length),
            });
        }
        let hash: &[u8; HASH_BYTES] = hash
            .try_into()
            .map_err(|_| AddressError::Malformed("a digest has 34 bytes"))?;
        Ok(Digest::from_hash(hash_fn, hash))
    }

    /// The hash itself, without the prefix that says which it is.
    pub(crate) fn hash(&self) -> &[u8; HASH_BYTES] {
        let [_code, _length, hash @ ..] = &self.0;
        hash
    }

    /// Puts the multihash prefix before a hash.
    pub(crate) fn from_hash(hash_fn: HashFn, hash: &[u8; HASH_BYTES]) -> Digest {
        let mut key = [0; Digest::LEN];
        let [code, length, rest @ ..] = &mut key;
        *code = hash_fn.code();
        *length = HASH_LENGTH;
        rest.copy_from_slice(hash);
        Digest(key)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Digest, AddressError> {
        const NOT_HEX: AddressError = AddressError::Malformed("a digest is 68 hex digits");
        let mut key = [0; Digest::LEN];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != key.len() || !rest.is_empty() {
            return Err(NOT_HEX);
        }
        for (byte, pair) in key.iter_mut().zip(pairs) {
            // from_str_radix alone would take a sign.
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return Err(NOT_HEX);
            }
            let pair = str::from_utf8(pair).map_err(|_| NOT_HEX)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NOT_HEX)?;
        }
        Digest::from_key(&key)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        // Arrays over 32 have no serde form; two halves have the same bytes and no length prefix.
        let (head, tail) = self.0.split_at(Digest::LEN / 2);
        let halves: (&[u8; 17], &[u8; 17]) = (
            head.try_into().map_err(serde::ser::Error::custom)?,
            tail.try_into().map_err(serde::ser::Error::custom)?,
        );
        halves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            return text.parse().map_err(de::Error::custom);
        }
        let halves = <[[u8; 17]; 2]>::deserialize(deserializer)?;
        Digest::from_key(halves.as_flattened()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn published_digests_of_the_empty_block() {
        let check = |hash_fn, hex: &str| {
            let digest = Digest::of(hash_fn, b"");
            assert_eq!(digest.to_string(), hex);
            assert_eq!(digest.hash_fn(), hash_fn);
            assert!(digest.matches(b"") && !digest.matches(b"x"));
        };
        check(
            HashFn::Blake3,
            "1e20af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        );
        check(
            HashFn::Sha2_256,
            "1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
    }

    #[test]
    fn key_text_and_serde_forms_round_trip() {
        for hash_fn in [HashFn::Blake3, HashFn::Sha2_256] {
            let digest = Digest::of(hash_fn, b"shoal");
            assert_eq!(Digest::from_key(&digest.key()), Ok(digest));
            assert_eq!(digest.to_string().parse(), Ok(digest));
            assert_eq!(hash_fn.name().parse(), Ok(hash_fn));

            let binary = postcard::to_allocvec(&digest).unwrap();
            assert_eq!(binary, digest.key(), "34 bytes and nothing else");
            assert_eq!(postcard::from_bytes::<Digest>(&binary).unwrap(), digest);

            let json = serde_json::to_string(&digest).unwrap();
            assert_eq!(json, format!("\"{digest}\""));
            assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        let check = |key: &[u8], expected: AddressError| {
            assert_eq!(Digest::from_key(key), Err(expected));
        };
        let good = Digest::of(HashFn::Blake3, b"").key();
        check(&[], AddressError::Malformed("a digest has 34 bytes"));
        check(
            &good[..33],
            AddressError::Malformed("a digest has 34 bytes"),
        );
        check(
            &[&good[..], &[0]].concat(),
            AddressError::Malformed("a digest has 34 bytes"),
        );
        check(
            &[0x16, 32],
            AddressError::UnsupportedHash {
                name: "sha3-256",
                code: 0x16,
            },
        );
        check(
            &[0x1e, 64],
            AddressError::DigestLength {
                hash_fn: HashFn::Blake3,
                length: 64,
            },
        );

        assert!("".parse::<Digest>().is_err());
        assert!("+e".repeat(34).parse::<Digest>().is_err());
        assert!(postcard::from_bytes::<Digest>(&[0; 34]).is_err());
    }
}
