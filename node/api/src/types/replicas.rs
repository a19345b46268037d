//! What the node keeps for others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The copies that the node keeps for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaList {
    /// Each root of which it keeps something, the newest first.
    pub replicas: Vec<Replica>,
}

/// What the node keeps of one root. It does not know the root, nor what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    /// The root's key, 64 hexadecimal digits: derived from the root, which it does not give away.
    pub key: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Bytes of the whole root.
    pub size: u64,
    /// Leaves that are kept.
    pub leaves: u64,
    /// Leaves of the whole root.
    pub leaves_total: u64,
    /// When the first of it came.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it was last read, or the last of it came.
    #[schema(value_type = String, format = DateTime)]
    pub used: Timestamp,
    /// How often another peer read another part of it.
    pub reads: u64,
    /// What caused it.
    pub asked_by: AskedBy,
}

/// What caused a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AskedBy {
    /// A peer on the same local network asked.
    Lan,
    /// A peer nearby asked.
    Near,
    /// A peer that has the content offered it.
    Offer,
}

/// The numbers of what is kept for others; those that count are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaStats {
    /// Whether it keeps copies for others.
    pub on: bool,
    /// Why it takes none at present, if something keeps it from that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<ReplicasPaused>,
    /// Roots of which something is kept.
    pub roots: u64,
    /// What is kept, in bytes of the quota.
    pub bytes: u64,
    /// How much that may be.
    pub quota: u64,
    /// How much stays free on the disk.
    pub floor: u64,
    /// How much is free there.
    pub disk_free: u64,
    /// Asks of peers that were answered.
    pub asks: u64,
    /// Of these, the first of each asker for a root within a day or two.
    pub asks_distinct: u64,
    /// Roots that were pulled because near peers asked.
    pub pulls_for_asks: u64,
    /// Roots that were pulled because a peer offered them.
    pub pulls_for_offers: u64,
    /// Asks and offers that were turned down, by the reason.
    pub declined: BTreeMap<String, u64>,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that peers read.
    pub bytes_out: u64,
    /// Parts that were let go of, by the reason.
    pub gone: BTreeMap<String, u64>,
    /// Parts whose bytes were damaged.
    pub damaged: u64,
}

/// Why a node takes no copies for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicasPaused {
    /// The machine runs on its battery.
    Battery,
    /// The system says that the line is metered.
    Metered,
    /// The day's share of the month's budget is spent.
    Month,
    /// The node has just started.
    Warmup,
}

/// Which copies to drop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicaDrop {
    /// The key of a root, or its first eight digits or more; without one, all.
    #[schema(pattern = "^[0-9A-Fa-f]{8,64}$")]
    pub key: Option<String>,
}

/// What was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicasDropped {
    /// The roots of which something was kept.
    pub roots: u64,
    /// Bytes of the disk that are free again.
    pub freed_bytes: u64,
}

/// Whether copies are kept for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplicaSwitch {
    /// Whether the node keeps copies for others from now on, over restarts. Off drops all that it
    /// keeps.
    pub on: bool,
}
