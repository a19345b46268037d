//! Who gets what from this node: of one share, and peer by peer.

use jiff::Timestamp;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who has got something of a share from this node, and how much; kept over restarts. What the last
/// ten seconds brought may be missing after the process was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Audience {
    /// Bytes of its files that were sent, to all peers together.
    pub sent_bytes: u64,
    /// How many peers have said that they have all of it.
    pub copies: u64,
    /// How many peers fetch it right now.
    pub fetching: u64,
    /// What goes to them now, in bytes per second.
    pub rate: u64,
    /// The peers, those that fetch first, then the latest ones. A status has at most 16 of a share,
    /// one share at most 256.
    pub peers: Vec<Recipient>,
}

/// A peer that has got something of a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recipient {
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// Whether it fetches right now.
    pub fetching: bool,
    /// Whether it has said that it has all of it.
    pub complete: bool,
    /// Bytes of its files that were sent to it, at all times.
    pub sent_bytes: u64,
    /// How much of the share this node has sent to it since it last began to fetch it anew, of 100;
    /// what it gets from others is not in it. 100 only when it has all of it.
    pub percent: u8,
    /// What goes to it now, in bytes per second.
    pub rate: u64,
    /// When it last got something, or asked for it.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
}
