//! What client and server say to each other.
//!
//! The order of the variants and fields is the wire format: a change of it is another protocol
//! version. The tests in `wire_format.rs` freeze it.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::address::{BLOCK_BYTES_MAX, Cid, Digest};
use crate::link::Marks;

use super::{LeafRanges, List};

/// The most wants one message carries: 256 x 34 bytes are 8.5 KiB.
pub const WANTS_PER_MESSAGE_MAX: usize = 256;

/// The most wants a client may have unanswered on one stream: a window of 64 MiB full of 16 KiB
/// blocks. They cost the server 4096 x 40 bytes = 160 KiB. More is a violation.
pub const WANTS_OUTSTANDING_MAX: usize = 4096;

/// Leaves that a member can say are coming to it: of chunks of 1 MiB all that a fetcher has in flight
/// at one provider, of smaller ones the first.
pub const COMING_LEAVES_MAX: usize = 64;

/// The most peers one hint names.
pub const HINT_PEERS_MAX: usize = 16;

/// The most addresses one hint gives per peer. With all limits used a hint takes
/// 16 x (67 + 8 x 258) bytes = 34 KiB, which fits a frame.
pub const HINT_ADDRESSES_MAX: usize = 8;

/// The longest peer id, in bytes: an inline Ed25519 key takes 38, a hash 34.
pub const PEER_ID_BYTES_MAX: usize = 64;

/// The longest address in a hint, in bytes: the longest DNS name is 253.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// The most helpers that one [`Request::Nearby`] names.
pub const NEARBY_HELPERS_MAX: usize = 3;

/// The most addresses that it gives per helper: with both used up it takes
/// 3 x (2 + 64 + 4 x (2 + 256)) bytes = 3.3 KiB.
pub const HELPER_ADDRESSES_MAX: usize = 4;

/// The digests of one [`Request::Want`].
pub type Wants = List<Digest, WANTS_PER_MESSAGE_MAX>;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which root the stream is about; always first, exactly once.
    Open {
        /// The root.
        root: Cid,
    },
    /// Asks for blocks; answered in any order, by a [`Response::Block`] or a
    /// [`Response::Missing`] each.
    Want {
        /// The first block's id; the block at `i` has `id + i`. Ids count up over the stream.
        id: u32,
        /// The blocks, at least one.
        blocks: Wants,
    },
    /// Takes wants back; their answers may be on their way. A block that is being sent ends after
    /// the piece that is.
    Cancel {
        /// The first id.
        id: u32,
        /// How many ids, at least one.
        count: u32,
    },
    /// Nothing more will be asked; what was asked is still wanted.
    Close,
    /// Asks for what follows the first bytes of a block; answered like a block of
    /// [`Want`](Self::Want).
    Rest {
        /// The want's id.
        id: u32,
        /// The block.
        block: Digest,
        /// How many bytes the client has: at least one, and less than [`BLOCK_BYTES_MAX`].
        #[serde(deserialize_with = "offset")]
        offset: NonZeroU32,
    },
    /// Names helpers near the client that it has asked for the root, so that the server can offer
    /// them copies. Answers a [`Response::Nominate`], once on a stream.
    Nearby {
        /// The helpers, the closest to the root's key first.
        helpers: List<Helper, NEARBY_HELPERS_MAX>,
    },
}

impl Request {
    /// Says that the client has all of the root, checked and written: it takes back every want that it
    /// could ever have. To a server that does not know what that means, it is a [`Cancel`](Self::Cancel)
    /// of nothing.
    pub const HAS_ALL: Self = Self::Cancel {
        id: 0,
        count: u32::MAX,
    };
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// What the server has of the root: its first answer, and again whenever it changes.
    Status {
        /// What it has.
        availability: Availability,
        /// What the root's sharer asks of those who have it.
        marks: Marks,
    },
    /// A block, or the rest of one. Its payload follows the frame in pieces: each a `u32` big-endian
    /// length and so many bytes. It ends with the last of `len` bytes, or early with a piece of no
    /// bytes; the bytes before that are good.
    Block {
        /// Which want it answers.
        id: u32,
        /// The payload's length in bytes, at most [`BLOCK_BYTES_MAX`]; of a
        /// [`Rest`](Request::Rest), what follows from its offset.
        #[serde(deserialize_with = "block_len")]
        len: u32,
    },
    /// There will be no block for this want.
    Missing {
        /// Which want it answers.
        id: u32,
        /// Why.
        why: Missing,
    },
    /// These peers have the root, too.
    Hint {
        /// Who.
        peers: List<PeerHint, HINT_PEERS_MAX>,
    },
    /// The end: nothing follows. A stream that ends without it was cut off.
    Close(Reason),
    /// More clients want the root than the server's line carries: the client may name helpers near it
    /// with a [`Request::Nearby`]. Said at most once on a stream.
    Nominate,
}

/// What a server has of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// All of it.
    Complete,
    /// Some leaves, and the nodes above them.
    Partial {
        /// Which leaves, numbered in the order of the whole DAG.
        ranges: LeafRanges,
        /// Which leaves it has asked an owner for, in any order: near members leave them to it.
        coming: List<u64, COMING_LEAVES_MAX>,
    },
    /// Nothing.
    Absent,
    /// Nothing any more: it was withdrawn.
    Gone,
    /// It may have it, but serves too many at present: what is unanswered will stay so, and is to
    /// be asked again.
    Busy {
        /// When to come back, in milliseconds.
        retry_after_ms: u32,
    },
    /// A copy of some leaves, and the nodes above them, that does not grow: the server fetches
    /// nothing of the root. [`LeafRanges::all`] says that it has all of it.
    Held {
        /// Which leaves, numbered in the order of the whole DAG.
        ranges: LeafRanges,
    },
}

impl Response {
    /// The answer that says what there is of a root without marks.
    #[must_use]
    pub fn status(availability: Availability) -> Self {
        Self::Status {
            availability,
            marks: Marks::default(),
        }
    }
}

/// What a peer is for those who fetch a root. It says so itself: whoever is told otherwise loses a
/// moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerClass {
    /// It has the root by itself and serves everybody.
    #[default]
    Owner,
    /// It keeps a copy of the root or of a part, which does not grow.
    Holder,
    /// It fetches the root.
    Member,
}

/// Why a server can't send a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// It does not have it.
    NotHere,
    /// The file it was in has changed since it was shared.
    Changed,
    /// Its disk does not give it.
    Unreadable,
    /// The block ends at the offset that was asked for, or before it.
    Beyond,
}

/// Why a server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The client closed, and everything was answered.
    Done,
    /// The root was withdrawn.
    Gone,
    /// The node ends.
    ShuttingDown,
    /// The client broke the protocol.
    Protocol,
    /// The client did not take what it asked for.
    TooSlow,
    /// The server sheds load.
    Busy,
}

/// Another peer that has the root, in its own words' form: who reads it has to parse and filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHint {
    /// The peer id's bytes.
    pub peer: List<u8, PEER_ID_BYTES_MAX>,
    /// What it is.
    pub class: PeerClass,
    /// Its addresses, as binary multiaddrs. None where the server knows none that the client can
    /// dial: a colleague behind the same router may know some.
    pub addresses: List<List<u8, ADDRESS_BYTES_MAX>, HINT_ADDRESSES_MAX>,
}

/// A helper near a client, in its own words' form: who reads it has to parse and filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// The peer id's bytes.
    pub peer: List<u8, PEER_ID_BYTES_MAX>,
    /// Its addresses, as binary multiaddrs.
    pub addresses: List<List<u8, ADDRESS_BYTES_MAX>, HELPER_ADDRESSES_MAX>,
}

/// On the wire, marks are a byte: 1 for those that are not to be announced, 2 for those that are not
/// to be replicated, and 3 for both.
impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bits = u8::from(self.no_announce) | u8::from(self.no_replicate) << 1;
        bits.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bits = u8::deserialize(deserializer)?;
        match bits {
            0..=3 => Ok(Self {
                no_announce: bits & 1 != 0,
                no_replicate: bits & 2 != 0,
            }),
            _ => Err(de::Error::custom("a mark that this version does not know")),
        }
    }
}

fn offset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU32, D::Error> {
    let offset = NonZeroU32::deserialize(deserializer)?;
    match usize::try_from(offset.get()) {
        Ok(bytes) if bytes < BLOCK_BYTES_MAX => Ok(offset),
        _ => Err(de::Error::custom("an offset beyond every block")),
    }
}

fn block_len<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let len = u32::deserialize(deserializer)?;
    match usize::try_from(len) {
        Ok(bytes) if bytes <= BLOCK_BYTES_MAX => Ok(len),
        _ => Err(de::Error::custom("a block longer than allowed")),
    }
}
