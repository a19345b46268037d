//! The background scrub, which re-hashes what is shared, and what it found.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the scrub is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scrub {
    /// Whether it reads now.
    pub state: ScrubState,
    /// When the latest one that came to its end did.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub last_finished: Option<Timestamp>,
    /// When the next one is due, unless one is running.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    pub next: Option<Timestamp>,
    /// The file that the running one is at, or what was shared while it reads the share's tree.
    #[schema(required, value_type = Option<String>)]
    pub position: Option<PathBuf>,
    /// Bytes that the running one, or else the latest one, has read, those of trees included.
    pub checked_bytes: u64,
    /// Bytes of the files of all shares.
    pub total_bytes: u64,
    /// What it found and has not been mended since, the latest of it.
    pub damaged: Vec<Damage>,
}

/// Whether the scrub reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScrubState {
    /// It never does.
    #[default]
    Off,
    /// Not before the next one is due.
    Waiting,
    /// It does.
    Running,
}

/// Something that nobody changed and that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Damage {
    /// The root of its share.
    pub cid: String,
    /// The file, or what was shared when the share's tree is damaged.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it could not be read. What was read and differs is not served any more.
    pub unreadable: bool,
}
