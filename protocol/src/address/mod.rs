//! Content addresses: what a block is called, and how to tell that bytes are it.
//!
//! A [`Digest`] is the 34-byte multihash of a block, the key of the store and of the exchange. A
//! [`Cid`] adds what kind of block it is, and may carry very small content inline. Both exist only
//! in supported forms: BLAKE3-256 and SHA2-256, codecs `raw` and `dag-pb`. Everything else is
//! refused while parsing, by an [`AddressError`] that names it.

mod cid;
mod digest;

use thiserror::Error;

pub use cid::{CID_TEXT_BYTES_MAX, Cid, Codec, INLINE_BYTES_MAX};
pub use digest::{Digest, HashFn};

/// Size of a chunk of the default, fixed-size chunker, in bytes (profile `unixfs-v1-2025`).
pub const CHUNK_BYTES: usize = 1 << 20;

/// Largest block that is built, sent or accepted, in bytes; also the content-defined chunker's
/// maximum.
pub const BLOCK_BYTES_MAX: usize = 2 << 20;

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The text or bytes are not an address at all.
    #[error("not a content address: {0}")]
    Malformed(&'static str),
    /// The beginning of an address, whose end is missing.
    #[error("the content address is cut short")]
    Cut,
    /// A well-formed address whose hash function Shoal cannot verify.
    #[error("unsupported hash function {name} ({code:#x}); supported are blake3 and sha2-256")]
    UnsupportedHash {
        /// The function's name in the multicodec table, or `unknown`.
        name: &'static str,
        /// Its multicodec code.
        code: u64,
    },
    /// A well-formed address of something that is neither file bytes nor UnixFS.
    #[error("unsupported codec {name} ({code:#x}); supported are raw and dag-pb")]
    UnsupportedCodec {
        /// The codec's name in the multicodec table, or `unknown`.
        name: &'static str,
        /// Its multicodec code.
        code: u64,
    },
    /// A supported hash function, with a digest that is not 32 bytes long.
    #[error("unsupported {hash_fn} digest of {length} bytes; only 32 are supported")]
    DigestLength {
        /// The hash function.
        hash_fn: HashFn,
        /// The digest's length in bytes.
        length: usize,
    },
    /// An identity address with more than [`INLINE_BYTES_MAX`] bytes in it.
    #[error("inline address of {length} bytes; at most {INLINE_BYTES_MAX} are accepted")]
    InlineTooLong {
        /// The length of the inline content in bytes.
        length: usize,
    },
}
