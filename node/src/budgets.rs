//! The memory that content takes on its way here, in one place.
//!
//! Each of these numbers is computed from another, so that a peer is never cut off for sending what
//! it was asked for, however long the disk takes to write it: what all transfers ask for at a time
//! fits the buffers, and what a connection may leave unread is what its streams may send.

use shoal_protocol::address::BLOCK_BYTES_MAX;

/// Transfers that run at a time; each takes a part of the shared buffers, so more would only be
/// slower together. More of them wait.
pub(crate) const TRANSFERS_MAX: usize = 16;

/// Readers that a file is streamed to at a time.
pub(crate) const STREAMS_MAX: usize = 4;

/// All that fetch at a time. Each has one stream to a peer, so a peer has as many streams of ours at
/// the most.
pub(crate) const FETCHES_MAX: usize = TRANSFERS_MAX + STREAMS_MAX;

/// Blocks that were asked for and are not landed yet, over all transfers, wherever they are: asked
/// for, unread in a connection, or in a buffer. 64 MiB, from the 150 MiB that a whole daemon may
/// take.
pub(crate) const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

/// What each fetch may have in flight in any case: one block. A fetch whose disk has stalled, or
/// whose reader does not read, keeps it from no other.
pub(crate) const IN_FLIGHT_BYTES_MIN: u64 = BLOCK_BYTES_MAX as u64;

/// What one fetch may have in flight while it is alone: 24 MiB are 2 Gbit/s at a round trip of
/// 100 ms.
pub(crate) const FETCH_IN_FLIGHT_BYTES_MAX: u64 = 24 << 20;

/// Bytes that may be sent to the side that opened a stream before it has read any. It opened the
/// stream to ask for something, and reads the answer: 16 MiB are 160 MB/s at a round trip of 100 ms.
/// The wire of the multiplexer fixes this number.
pub(crate) const OPENER_WINDOW_BYTES: u32 = 16 << 20;

/// Unread bytes of all streams of a connection: a full window for each fetch, and one for
/// everything else that is asked over it. Only a peer that ignores its windows sends more. One that
/// keeps to what it was asked for stays below [`IN_FLIGHT_BYTES_MAX`].
pub(crate) const UNREAD_BYTES_MAX: usize = (FETCHES_MAX + 1) * OPENER_WINDOW_BYTES as usize;

const _: () = {
    let others = (FETCHES_MAX as u64 - 1) * IN_FLIGHT_BYTES_MIN;
    assert!(
        FETCH_IN_FLIGHT_BYTES_MAX + others <= IN_FLIGHT_BYTES_MAX,
        "one fetch leaves a block to each of the others"
    );
    assert!(
        IN_FLIGHT_BYTES_MAX <= UNREAD_BYTES_MAX as u64,
        "what was asked for may be unread as a whole"
    );
};
