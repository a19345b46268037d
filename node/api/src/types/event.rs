//! What happens in a node, as those who listen are told.

use jiff::Timestamp;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Damage, FetchResult, ShareInfo, Transfer};

/// An event in its place among all of this run of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Occurrence {
    /// Grows by one with each event, from 1 at the start of the node.
    pub sequence: u64,
    /// When it was published.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened: the field `event`, and what belongs to it beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The node serves.
    NodeReady {
        /// Who it is.
        #[schema(value_type = String)]
        peer_id: PeerId,
        /// Where it can be reached, each with the peer id at the end.
        #[schema(value_type = Vec<String>)]
        addresses: Vec<Multiaddr>,
    },
    /// The node ends; the last event that a listener gets.
    NodeStopping,
    /// The node can be reached elsewhere.
    AddressesChanged {
        /// Where, each with the peer id at the end.
        #[schema(value_type = Vec<String>)]
        addresses: Vec<Multiaddr>,
    },
    /// A share is offered from now on.
    ShareAdded(ShareInfo),
    /// A share is not offered any more.
    ShareRemoved(ShareInfo),
    /// A share differs on disk and is not served any more.
    ShareChanged(ShareInfo),
    /// Peers were told for the first time in this run that this node has a root.
    Announced {
        /// The root.
        cid: String,
        /// How many peers.
        peers: u64,
    },
    /// A fetch waits for room to begin.
    TransferQueued(Transfer),
    /// A fetch began, or goes on.
    TransferStarted(Transfer),
    /// A fetch is further than it was; at most one a second for each.
    TransferProgress(Transfer),
    /// A fetch rests; `reason` says why.
    TransferPaused(Transfer),
    /// A fetch failed; `reason` says why.
    TransferFailed(Transfer),
    /// A fetch is done, and what it fetched is served.
    TransferFinished {
        /// Its number.
        id: u64,
        /// What came of it.
        #[serde(flatten)]
        result: FetchResult,
    },
    /// A fetch was ended for good, and what it left is being taken away.
    TransferRemoved {
        /// Its number.
        id: u64,
        /// The root.
        cid: String,
    },
    /// A peer of this network is connected.
    PeerConnected {
        /// Who.
        #[schema(value_type = String)]
        peer_id: PeerId,
    },
    /// The last connection with a peer has ended.
    PeerDisconnected {
        /// Who.
        #[schema(value_type = String)]
        peer_id: PeerId,
    },
    /// The scrub came across something that nobody changed and that is not as it should be.
    DamageFound(Damage),
    /// A scrub has read everything that is shared.
    ScrubFinished {
        /// Bytes that it read.
        checked_bytes: u64,
    },
    /// A part of a copy for others came in, and is served from now on.
    ReplicaAdmitted {
        /// Stands for its root, which is not kept.
        key: String,
        /// Which run of the root's leaves.
        run: u64,
        /// How many bytes.
        bytes: u64,
        /// What kind of neighbour caused it: `lan`, `near` or `offer`.
        cause: String,
    },
    /// A part of a copy for others was let go of.
    ReplicaGone {
        /// Stands for its root.
        key: String,
        /// Which run of the root's leaves.
        run: u64,
        /// How many bytes.
        bytes: u64,
        /// Why: `space`, `owner`, `unread` or `dropped`.
        reason: String,
    },
    /// Something that the person should look after.
    Warning {
        /// What, one sentence.
        message: String,
    },
    /// This listener was too slow; told only to it.
    Lagged {
        /// How many events it missed, up to the one with this `sequence`.
        missed: u64,
    },
}

impl Event {
    /// The value of the field `event`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NodeReady { .. } => "node_ready",
            Self::NodeStopping => "node_stopping",
            Self::AddressesChanged { .. } => "addresses_changed",
            Self::ShareAdded(_) => "share_added",
            Self::ShareRemoved(_) => "share_removed",
            Self::ShareChanged(_) => "share_changed",
            Self::Announced { .. } => "announced",
            Self::TransferQueued(_) => "transfer_queued",
            Self::TransferStarted(_) => "transfer_started",
            Self::TransferProgress(_) => "transfer_progress",
            Self::TransferPaused(_) => "transfer_paused",
            Self::TransferFailed(_) => "transfer_failed",
            Self::TransferFinished { .. } => "transfer_finished",
            Self::TransferRemoved { .. } => "transfer_removed",
            Self::PeerConnected { .. } => "peer_connected",
            Self::PeerDisconnected { .. } => "peer_disconnected",
            Self::DamageFound(_) => "damage_found",
            Self::ScrubFinished { .. } => "scrub_finished",
            Self::ReplicaAdmitted { .. } => "replica_admitted",
            Self::ReplicaGone { .. } => "replica_gone",
            Self::Warning { .. } => "warning",
            Self::Lagged { .. } => "lagged",
        }
    }
}
