//! What an evil peer has done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// What an evil peer has done so far: all that it sent, whether anybody fell for it or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deeds {
    /// Streams that others opened to it.
    pub streams_served: u64,
    /// Streams that it opened to others.
    pub streams_opened: u64,
    /// DAG nodes that it served; these are right, or nobody would come as far as the chunks.
    pub nodes_sent: u64,
    /// Chunks that it served as they are.
    pub chunks_sent: u64,
    /// Chunks that it served wrong, in their bytes or in their length.
    pub chunks_wrong: u64,
    /// Wants that it never answered.
    pub wants_ignored: u64,
    /// Wants that it could not serve, having said that it has everything.
    pub wants_denied: u64,
    /// Bytes that it served one at a time.
    pub bytes_dripped: u64,
    /// Wants that it sent to others.
    pub wants_sent: u64,
    /// Frames that mean nothing, or the same as the one before.
    pub frames_sent: u64,
    /// Peers that do not exist and that it named.
    pub peers_invented: u64,
    /// Keys that it told others it provides, and values that it left with them.
    pub records_sent: u64,
    /// Lookups that it answered with providers that do not exist.
    pub lookups_misled: u64,
    /// Bytes that it took of what it had asked for, one at a time.
    #[serde(default)]
    pub bytes_sipped: u64,
    /// Streams on which it asked for everything and took nothing.
    #[serde(default)]
    pub readers_frozen: u64,
    /// Identities that it took one after the other.
    #[serde(default)]
    pub identities_used: u64,
    /// Asks for copies that it answered with what is not so.
    #[serde(default)]
    pub asks_misled: u64,
    /// Offers of copies that it accepted, to serve none of it.
    #[serde(default)]
    pub offers_swallowed: u64,
    /// Keys that it told others it holds copies of: one is counted for each peer that was told.
    #[serde(default)]
    pub holdings_invented: u64,
    /// Honest peers that it named as holders of what they do not hold.
    #[serde(default)]
    pub victims_named: u64,
    /// Asks for copies that it sent, of content that nobody wants.
    #[serde(default)]
    pub asks_sent: u64,
    /// Offers of copies that it sent, of such content or of content that is not what it says.
    #[serde(default)]
    pub offers_sent: u64,
    /// Of these, those that others accepted.
    #[serde(default)]
    pub offers_taken: u64,
}

/// The counters behind [`Deeds`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// What others have wanted of it: their deed, and not its own.
    pub(super) wants_heard: Count,
    pub(super) streams_served: Count,
    pub(super) streams_opened: Count,
    pub(super) nodes_sent: Count,
    pub(super) chunks_sent: Count,
    pub(super) chunks_wrong: Count,
    pub(super) wants_ignored: Count,
    pub(super) wants_denied: Count,
    pub(super) bytes_dripped: Count,
    pub(super) wants_sent: Count,
    pub(super) frames_sent: Count,
    pub(super) peers_invented: Count,
    pub(super) records_sent: Count,
    pub(super) lookups_misled: Count,
    pub(super) bytes_sipped: Count,
    pub(super) readers_frozen: Count,
    pub(super) identities_used: Count,
    pub(super) asks_misled: Count,
    pub(super) offers_swallowed: Count,
    pub(super) holdings_invented: Count,
    pub(super) victims_named: Count,
    pub(super) asks_sent: Count,
    pub(super) offers_sent: Count,
    pub(super) offers_taken: Count,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub(super) fn snapshot(&self) -> Deeds {
        Deeds {
            streams_served: self.streams_served.get(),
            streams_opened: self.streams_opened.get(),
            nodes_sent: self.nodes_sent.get(),
            chunks_sent: self.chunks_sent.get(),
            chunks_wrong: self.chunks_wrong.get(),
            wants_ignored: self.wants_ignored.get(),
            wants_denied: self.wants_denied.get(),
            bytes_dripped: self.bytes_dripped.get(),
            wants_sent: self.wants_sent.get(),
            frames_sent: self.frames_sent.get(),
            peers_invented: self.peers_invented.get(),
            records_sent: self.records_sent.get(),
            lookups_misled: self.lookups_misled.get(),
            bytes_sipped: self.bytes_sipped.get(),
            readers_frozen: self.readers_frozen.get(),
            identities_used: self.identities_used.get(),
            asks_misled: self.asks_misled.get(),
            offers_swallowed: self.offers_swallowed.get(),
            holdings_invented: self.holdings_invented.get(),
            victims_named: self.victims_named.get(),
            asks_sent: self.asks_sent.get(),
            offers_sent: self.offers_sent.get(),
            offers_taken: self.offers_taken.get(),
        }
    }
}
