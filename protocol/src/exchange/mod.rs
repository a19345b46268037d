//! The exchange protocol's messages, version 5: `/shoal/<network>/exchange/5`.
//!
//! A client opens a stream, says which [root](Request::Open) it is about, and asks for blocks; the
//! server says what it has and answers every want by a block or by why there is none. Both may
//! write ahead: the first wants travel with the opening. Every frame declares its length, every
//! payload too, and both ends say when they are done, since a reset can read like an end. A payload
//! comes in pieces, so that a server can end it early, and a want can ask for the
//! [rest](Request::Rest) of a block whose beginning is there: a slow line sends no byte twice.
//!
//! This module owns the bytes: [`encode`], the `decode_*` functions and, for bytes that come in any
//! pieces, [`FrameDecoder`]. [`pace`] has the deadlines of both ends. What is decoded is within every limit; anything else is a
//! [`WireError`], and the end of the stream. It refuses to know who may ask for what: that is the
//! node's.

mod frame;
mod leaf_set;
mod list;
mod message;
pub mod pace;
mod ranges;

#[cfg(test)]
mod wire_format;
#[cfg(test)]
mod wire_properties;

pub use frame::{
    Event, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameDecoder, Message, PIECE_HEAD_BYTES, WireError,
    decode_request, decode_response, encode, frame_len, piece_head, piece_len,
};
pub use leaf_set::LeafSet;
pub use list::{List, TooLong};
pub use message::{
    ADDRESS_BYTES_MAX, Availability, COMING_LEAVES_MAX, HELPER_ADDRESSES_MAX, HINT_ADDRESSES_MAX,
    HINT_PEERS_MAX, Helper, Missing, NEARBY_HELPERS_MAX, PEER_ID_BYTES_MAX, PeerClass, PeerHint,
    Reason, Request, Response, WANTS_OUTSTANDING_MAX, WANTS_PER_MESSAGE_MAX, Wants,
};
pub use ranges::{LEAF_END_MAX, LeafRanges, RANGES_MAX, RangesError};
