//! Fetches as things: listed, paused, resumed, cancelled.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_ground::units::Rate;
use utoipa::ToSchema;

use super::{FetchProgress, schema::RateText};

/// The transfers of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transfers {
    /// Each that is not over, and the last of those that are; oldest first.
    pub transfers: Vec<Transfer>,
}

/// One fetch, from its request until it is done or cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transfer {
    /// Its number, given once in this home.
    pub id: u64,
    /// The root.
    pub cid: String,
    /// The name of what it makes.
    pub name: String,
    /// Where it lands, or landed.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// When it was first asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// The one state that it is in.
    #[serde(flatten)]
    pub state: TransferState,
    /// How far it is.
    #[serde(flatten)]
    pub progress: FetchProgress,
    /// What it may receive, beside the limits of the node: `5MB/s`, `off`.
    #[schema(value_type = String)]
    pub limit: Rate,
    /// The disk that it waits for because it does not answer, by where that is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub waits_for: Option<PathBuf>,
    /// What became of the program that the configuration has run when a transfer is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_done: Option<OnDone>,
}

/// What became of the program that is run when a transfer is done: its field `state`, and `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum OnDone {
    /// Others run, and it waits for them.
    Waiting,
    /// It runs.
    Running,
    /// It has ended well.
    Done,
    /// It could not be run, did not end in time, or did not end well.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A change of what one transfer may receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferChange {
    /// What it may receive: `5MB/s`, `off`.
    #[schema(value_type = RateText)]
    pub limit: Rate,
}

/// The state of a transfer: the field `state`, and `reason` with why it rests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum TransferState {
    /// It begins when there is room.
    Queued,
    /// It runs.
    Running,
    /// It keeps its progress and goes on when it is resumed.
    Paused {
        /// Why.
        reason: String,
    },
    /// Everything is in its place.
    Done,
    /// It fails again unless what was asked for, or what is at the destination, changes.
    Failed {
        /// Why.
        reason: String,
    },
}
