//! The process that a node runs in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The process that serves a home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NodeProcess {
    /// Its number.
    pub pid: u32,
    /// Whether it stays when its command is done.
    pub kind: ProcessKind,
    /// Its command line, as far as it fits 200 characters; what a terminal would obey is escaped.
    pub command: String,
}

/// What a process serves a home for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProcessKind {
    /// It is a daemon.
    #[default]
    Daemon,
    /// It is a command that works without a daemon, and ends with what it does.
    Command,
}
