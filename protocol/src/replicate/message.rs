//! What two neighbours say to each other about replicas.
//!
//! The order of the variants and fields is the wire format: a change of it is another protocol
//! version. The tests in `wire_format.rs` freeze it. Every list has a limit in its type, chosen so
//! that the longest message fits [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX).

use multiaddr::Multiaddr;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::address::Cid;
use crate::exchange::{ADDRESS_BYTES_MAX, LeafRanges, List, PEER_ID_BYTES_MAX};

use super::Key;

/// The most addresses a message gives per peer. A peer then takes at most
/// 2 + 64 + 4 x (2 + 256) bytes = 1.1 KiB.
pub const PEER_ADDRESSES_MAX: usize = 4;

/// The most near peers that a [`Hello`] names: 8 x 1.1 KiB = 8.6 KiB.
pub const HELLO_PEERS_MAX: usize = 8;

/// The most holders, and the most closer nodes, that an [`Answer::Elsewhere`] names: with both
/// used up it takes 12 x 1.1 KiB = 13 KiB.
pub const HOLDERS_MAX: usize = 8;
/// See [`HOLDERS_MAX`].
pub const CLOSER_MAX: usize = 4;

/// The most holders that an [`Offer`] names.
pub const OFFER_HOLDERS_MAX: usize = 3;

/// The most ranges of one root in a message. By the arithmetic of
/// [`LeafRanges`], 2 x 1024 numbers that add up to at most 2^42 take at most
/// 2048 x (1 + 31/7) bytes = 10.9 KiB; with three holders an [`Offer`] takes 14.3 KiB.
pub const RANGES_MAX: usize = 1024;

/// The most keys that one [`Request::Holding`] tells: 256 x (32 + 1 + 3) bytes = 9 KiB with one
/// range each. A holder of more ranges tells fewer keys in a frame.
pub const HELD_MAX: usize = 256;

/// The most ranges that a [`Held`] tells of one key; what is beyond stays unsaid, which costs only
/// requests that the holder could have served.
pub const HELD_RANGES_MAX: usize = 64;

/// What a client says: the side that opened the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who the client is as a helper; always first, and again when it changes.
    Hello(Hello),
    /// Who holds the root behind this key? Answered by a [`Response::Answer`].
    Ask {
        /// The ask's id.
        id: u32,
        /// The key of the root.
        key: Key,
        /// Whether the asker keeps what it fetches and stays, so that its own copy will be near.
        stays: bool,
    },
    /// Names the root itself, so that the server can pull it; after an [`Answer::Want`], or
    /// unasked within the budget of offers. Answered by a [`Response::Reply`].
    Offer(Offer),
    /// What the client holds of which keys. It is believed while the stream lives, and for 10 min.
    Holding {
        /// The keys; at least one.
        held: List<Held, HELD_MAX>,
    },
}

/// What a server says: the side that accepted the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Who the server is as a helper; its first message, and again when it changes.
    Hello(Hello),
    /// Answers a [`Request::Ask`].
    Answer {
        /// The ask's id.
        id: u32,
        /// The answer.
        answer: Answer,
    },
    /// Answers a [`Request::Offer`].
    Reply {
        /// The offer's id.
        id: u32,
        /// The reply.
        reply: Reply,
    },
    /// Does the client hold this key? An asker said so. A [`Request::Holding`] answers it.
    Tell {
        /// The question's id.
        id: u32,
        /// The key.
        key: Key,
    },
}

/// What a node says of itself, and of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Whether it holds and pulls replicas for others at present.
    pub helps: bool,
    /// How much of its quota is free, in MiB.
    pub free_mib: u32,
    /// Helpers that are near it.
    pub near: List<Peer, HELLO_PEERS_MAX>,
}

/// A peer, in its own words' form: the receiver has to parse and filter. Without addresses it is
/// one that the receiver may know itself, from multicast or its address book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The peer id's bytes.
    pub peer: List<u8, PEER_ID_BYTES_MAX>,
    /// Its addresses, as binary multiaddrs.
    pub addresses: List<List<u8, ADDRESS_BYTES_MAX>, PEER_ADDRESSES_MAX>,
}

impl Peer {
    /// A peer by the bytes of its id, with the first [`PEER_ADDRESSES_MAX`] of its addresses that are
    /// short enough. `None` when the id is longer than an id can be.
    #[must_use]
    pub fn new<'a>(
        peer_id: Vec<u8>,
        addresses: impl IntoIterator<Item = &'a Multiaddr>,
    ) -> Option<Self> {
        let addresses = addresses
            .into_iter()
            .filter_map(|address| List::try_from(address.to_vec()).ok())
            .take(PEER_ADDRESSES_MAX);
        Some(Self {
            peer: List::try_from(peer_id).ok()?,
            addresses: List::first_of(addresses),
        })
    }
}

/// What a node answers to an ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It holds replicas of these leaves.
    Have {
        /// Which leaves.
        #[serde(deserialize_with = "ranges")]
        ranges: LeafRanges,
        /// Whether it would pull more of the root: the asker may send an [`Offer`].
        wants: bool,
    },
    /// It pulls the root at present, and will have some of it soon.
    Pulling,
    /// It would pull the root: the asker is to send an [`Offer`].
    Want,
    /// Others have it, or are closer to the key.
    Elsewhere {
        /// Near peers that said they hold some of it.
        holders: List<Peer, HOLDERS_MAX>,
        /// Near helpers that are closer to the key than the server.
        closer: List<Peer, CLOSER_MAX>,
    },
    /// Nothing.
    No {
        /// Why.
        why: Why,
        /// When to ask again, in seconds.
        retry_s: u32,
    },
}

/// A root, for a helper to pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The offer's id.
    pub id: u32,
    /// The root.
    pub root: Cid,
    /// How many leaves it has.
    pub leaves: u64,
    /// How many bytes all of its leaves have.
    pub size: u64,
    /// Which leaves are worth a copy.
    #[serde(deserialize_with = "ranges")]
    pub ranges: LeafRanges,
    /// How many distinct askers the sender knows of; 1 for an asker that knows of itself only.
    pub asked: u32,
    /// Near peers that hold some of it.
    pub holders: List<Peer, OFFER_HOLDERS_MAX>,
}

/// What a helper replies to an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It pulls these leaves.
    Accept {
        /// Which leaves.
        #[serde(deserialize_with = "ranges")]
        ranges: LeafRanges,
    },
    /// It pulls nothing.
    Decline {
        /// Why.
        why: Why,
        /// When to offer again, in seconds.
        retry_s: u32,
    },
}

/// Why a node does not help with a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Why {
    /// It helps nobody at present.
    Off,
    /// Too few have asked it for this root.
    Demand,
    /// There are copies enough near it.
    Enough,
    /// It pulls as much as it pulls at a time, or in an hour.
    Busy,
    /// Its budget is used up, or the part of it that this asker's network may cause.
    Budget,
    /// There is no room.
    Room,
    /// No part of this root is for its place.
    Place,
    /// It keeps no copy of this root.
    Refused,
    /// What was said of the root cannot be true.
    Untrue,
    /// It did not ask for the offer, and takes none now.
    Unasked,
}

/// What a node holds of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The key of the root.
    pub key: Key,
    /// Which leaves; none where it no longer holds any.
    #[serde(deserialize_with = "held_ranges")]
    pub ranges: LeafRanges,
    /// Whether it serves as many as it can.
    pub busy: bool,
}

fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeafRanges, D::Error> {
    at_most(RANGES_MAX, deserializer)
}

fn held_ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeafRanges, D::Error> {
    at_most(HELD_RANGES_MAX, deserializer)
}

/// Room is taken as ranges arrive, and a frame holds no more than 8192 of them.
fn at_most<'de, D: Deserializer<'de>>(max: usize, deserializer: D) -> Result<LeafRanges, D::Error> {
    let ranges = LeafRanges::deserialize(deserializer)?;
    let len = ranges.iter().len();
    if len > max {
        return Err(de::Error::invalid_length(len, &"fewer leaf ranges"));
    }
    Ok(ranges)
}
