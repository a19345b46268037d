//! The node itself: who it is, whom it knows, how it is doing.

use std::path::PathBuf;

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use shoal_ground::units::Rate;
use utoipa::ToSchema;

use super::{
    Limits, LostShare, Nearness, NodeProcess, Scrub, ShareInfo, Transfer, schema::Address,
};

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Where it listens, best with its peer id at the end (`/p2p/…`).
    #[schema(value_type = Address)]
    pub address: Multiaddr,
}

/// A peer that this node is now connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connected {
    /// Who it turned out to be.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// The address that was dialled.
    #[schema(value_type = String)]
    pub address: Multiaddr,
}

/// The peers that this node is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Each of them, nearest first.
    pub peers: Vec<Peer>,
}

/// A peer that this node is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Who.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// The addresses in use.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Multiaddr>,
    /// What it says it runs.
    #[schema(required)]
    pub agent: Option<String>,
    /// How far away it is, once measured.
    #[schema(required)]
    pub rtt_ms: Option<u64>,
    /// How near that is.
    #[schema(required)]
    pub nearness: Option<Nearness>,
    /// Who dialled.
    pub direction: Direction,
    /// How long the oldest connection lasts.
    pub connected_ms: u64,
}

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The other peer.
    Inbound,
    /// This node.
    Outbound,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// Its peer id.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// Where it can be reached, each with the peer id at the end.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Multiaddr>,
    /// Its home.
    #[schema(value_type = String)]
    pub home: PathBuf,
    /// The program's version.
    pub version: String,
    /// The process that it runs in.
    #[serde(default)]
    pub process: NodeProcess,
}

/// How the node is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Who this node is.
    #[schema(value_type = String)]
    pub peer_id: PeerId,
    /// The program's version.
    pub version: String,
    /// The network it belongs to.
    pub network: String,
    /// Time since it started.
    pub uptime_ms: u64,
    /// Where it can be reached, each with the peer id at the end.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Multiaddr>,
    /// How far the widest of these addresses reaches.
    pub scope: Scope,
    /// Who can connect to it.
    pub reachability: Reachability,
    /// The peers it is connected to.
    pub peers: Vec<Peer>,
    /// What it offers.
    pub shares: Vec<ShareInfo>,
    /// The fetches that are not over: queued, running, paused, or failed with something left.
    pub transfers: Vec<Transfer>,
    /// What it holds for others.
    pub replicas: Replicas,
    /// Chunk payload sent since the start.
    pub uploaded_bytes: u64,
    /// Chunk payload received since the start.
    pub downloaded_bytes: u64,
    /// Bytes on the sockets per second, lately.
    pub rates: Rates,
    /// The budgets and their use.
    pub limits: Limits,
    /// The disk that the home is on.
    pub disk: Disk,
    /// The re-hashing of what it offers.
    pub scrub: Scrub,
    /// Whether the database was read whole since the start, and what damage took.
    pub database: Database,
    /// What the person should look after, one sentence each.
    pub warnings: Vec<String>,
    /// The line that is emulated for it, if it is a node of a test network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulation: Option<EmulatedLine>,
}

/// Who can connect to a node, and why that is thought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reachability {
    /// Who.
    pub verdict: Verdict,
    /// Whether that was shown; otherwise it is what is likely.
    pub sure: bool,
    /// Why, as a sentence without capital and full stop.
    pub reason: String,
    /// Where peers on the internet see this node, as far as they agree.
    #[schema(value_type = Vec<String>)]
    pub seen: Vec<Multiaddr>,
}

/// Who can connect to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Anybody.
    Public,
    /// Nobody unasked; two nodes that try at once can connect, for the router shows everybody one port.
    Punchable,
    /// Nobody unasked, and the router shows another port to each peer.
    Hard,
    /// Peers of the local network; nobody outside has been heard of.
    LanOnly,
    /// Not known: too few peers, or none, can tell.
    #[default]
    NobodyToAsk,
}

/// The line that is emulated for a node of a test network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EmulatedLine {
    /// Of the plan in force; it grows with every change.
    pub version: u64,
    /// The node's number in the plan.
    pub node: u64,
    /// What the line carries away from the node, like `20mbit`, or `off` for no limit.
    #[schema(value_type = String)]
    pub up: Rate,
    /// What the line carries to the node.
    #[schema(value_type = String)]
    pub down: Rate,
    /// What the line adds to each link of the node, one way.
    pub latency_ms: f64,
}

/// The widest circle that can reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Programs on the same machine.
    Loopback,
    /// Machines on the same network.
    Lan,
    /// Everybody.
    Public,
}

/// What the node holds for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replicas {
    /// Bytes held.
    pub bytes: u64,
    /// Bytes it may hold.
    pub quota: u64,
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Sent.
    pub up: u64,
    /// Received.
    pub down: u64,
}

/// The space of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// Bytes free for this user.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The state of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Database {
    /// What is known of it.
    pub state: DatabaseState,
    /// Shares that were acknowledged and that it does not have.
    pub lost: Vec<LostShare>,
    /// What cannot be read of it, one sentence each.
    pub damage: Vec<String>,
}

/// What is known of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseState {
    /// It is not being read whole: only a daemon does.
    Unchecked,
    /// It is being read.
    Checking,
    /// Every row was read since the start.
    Sound,
    /// Something cannot be read, or shares are lost.
    Damaged,
}

/// The answer to a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopping {
    /// The process that is going to end.
    pub pid: u32,
}
