//! Requests, results and progress of the API, one definition for the server and its clients.
//!
//! Sizes are bytes, durations milliseconds, times RFC 3339; CIDs, peer ids and addresses are
//! strings as IPFS and libp2p print them. Requests refuse unknown fields, results may gain some.

mod audience;
mod event;
mod fetch;
mod limits;
mod near;
mod node;
mod process;
mod replicas;
mod schema;
mod scrub;
mod share;
mod transfer;
mod upkeep;
mod whole;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ApiError;

pub use audience::{Audience, Recipient};
pub use event::{Event, Occurrence};
pub use fetch::{
    CatRequest, CatResult, Destination, EntryKind, FetchPhase, FetchProgress, FetchRequest,
    FetchResult, FetchUpdate, FindProgress, FindRequest, Found, ListEntry, ListProgress,
    ListRequest, Listing, PATIENCE_MS_DEFAULT, Provider, Renamed, Source, TIMEOUT_MS_DEFAULT,
    Unkept, WAIT_MS_MAX,
};
pub use limits::{LimitSource, Limits, LimitsChange, MonthlyLimit, RateLimit};
pub use near::Nearness;
pub use node::{
    ConnectRequest, Connected, Database, DatabaseState, Direction, Disk, EmulatedLine, Identity,
    Peer, Peers, Rates, Reachability, Replicas, Scope, Status, Stopping, Verdict,
};
pub use process::{NodeProcess, ProcessKind};
pub use replicas::{
    AskedBy, Replica, ReplicaDrop, ReplicaList, ReplicaStats, ReplicaSwitch, ReplicasDropped,
    ReplicasPaused,
};
pub use scrub::{Damage, Scrub, ScrubState};
pub use share::{
    Chunker, Hash, LinkedShare, LostShare, Preserve, ShareChange, ShareInfo, SharePhase,
    ShareProgress, ShareRequest, ShareResult, ShareState, Shares, Skipped, UnshareRequest,
    Unshared, Until,
};
pub use transfer::{OnDone, Transfer, TransferChange, TransferState, Transfers};
pub use upkeep::{
    Collected, FileVerdict, GcPhase, GcProgress, GcRequest, Verified, VerifiedFile, VerifiedShare,
    VerifyProgress, VerifyRequest,
};

/// A path that means the same in every process: the caller's working directory is nothing that a
/// daemon knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf")]
pub struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The path.
    pub fn into_path_buf(self) -> PathBuf {
        self.0
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, Self::Error> {
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(format!("the path is not absolute: {}", path.display()))
        }
    }
}

/// The progress of what has none to tell; never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoProgress {}

/// One line of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum StreamEvent<P, R> {
    /// How far it is; at most a few a second, only the latest counts.
    Progress(P),
    /// Nothing new, but the node is alive.
    Heartbeat,
    /// It is done; the last line.
    Done {
        /// What came of it.
        result: R,
    },
    /// It failed; the last line.
    Error {
        /// Why.
        error: ApiError,
    },
}
