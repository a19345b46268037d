//! Why something with a testnet failed, and what a person can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use shoal_api::{ApiError, ErrorCode, HomeError};
use shoal_ground::said::said;

#[cfg(feature = "scenarios")]
use crate::scenario::ScenarioError;
use crate::{capacity::Shortage, launch::log_path};

/// Why something with a testnet failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system or the system refused.
    #[error("cannot {action} {}: {}", .path.display(), said(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is not this user's, who so cannot know what is in it.
    #[error("{} belongs to another user", .dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder is used for something else.
    #[error("{} is not empty, and holds no testnet", .dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// There is a testnet already.
    #[error("there is a testnet in {} already, {}", .dir.display(), nodes_run(*running))]
    Exists {
        /// Its folder.
        dir: PathBuf,
        /// How many of its nodes run.
        running: usize,
    },
    /// There is no testnet.
    #[error("there is no testnet in {}", .dir.display())]
    Absent {
        /// The folder.
        dir: PathBuf,
    },
    /// Another command is at work.
    #[error("another command is at work on the testnet in {}", .dir.display())]
    Busy {
        /// Its folder.
        dir: PathBuf,
    },
    /// The manifest is not one that this program wrote there.
    #[error("{} cannot be used: {why}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no node with this number.
    #[error("there is no node {index}: they are numbered from 0 to {}", .nodes.saturating_sub(1))]
    NoNode {
        /// The number.
        index: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The links are the machine's own.
    #[error("the links of the testnet in {} are not emulated", .dir.display())]
    NotEmulated {
        /// Its folder.
        dir: PathBuf,
    },
    /// There is nothing to choose.
    #[error("nodes in one process have no sockets, and so no transport to choose")]
    NoSockets,
    /// What it needs is there only where all nodes are in one process.
    #[error("{what} can be had only with nodes in one process")]
    NeedsOneProcess {
        /// What, like "the settings of a scenario".
        what: &'static str,
    },
    /// What a scenario says of the configuration of its nodes cannot be used.
    #[error("the settings of the scenario cannot be used: {0}")]
    Settings(String),
    /// A node does not keep to a change of the links.
    #[error("{node} has not taken note of the links after {seconds} s")]
    NotInForce {
        /// Its name.
        node: String,
        /// How long it had.
        seconds: u64,
    },
    /// So many nodes there cannot be.
    #[error("there have to be {min} to {} nodes, not {nodes}", crate::NODES_MAX)]
    Nodes {
        /// How many were asked for.
        nodes: usize,
        /// How many it takes.
        min: usize,
    },
    /// The machine is too small.
    #[error(transparent)]
    TooMany(#[from] Shortage),
    /// What a scenario shares and fetches has no room.
    #[error(
        "the files of this scenario take {} MiB, and there are {} MiB free in {}",
        .needed >> 20, .free >> 20, .dir.display()
    )]
    Space {
        /// Where they would be.
        dir: PathBuf,
        /// Bytes of originals and copies.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A scenario cannot be run as it is written.
    #[cfg(feature = "scenarios")]
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A node that was to do wrong did it in another way than it should.
    #[error("{node} cannot do wrong: {why}")]
    Evil {
        /// Its name.
        node: String,
        /// What its network said.
        why: String,
    },
    /// A node did not start.
    #[error("{node} did not start: {said}{}", tail(.log))]
    Start {
        /// Its name.
        node: String,
        /// What it said.
        said: Box<ApiError>,
        /// The end of its log.
        log: String,
    },
    /// A node did not find the others.
    #[error("{node} sees {seen} of {needed} peers after {seconds} s{}", tail(.log))]
    Peers {
        /// Its name.
        node: String,
        /// How many it sees.
        seen: usize,
        /// How many it should see.
        needed: usize,
        /// How long it had.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// A node did not do what it was told.
    #[error("{node} failed: {said}{}", tail(.log))]
    Command {
        /// Its name.
        node: String,
        /// What it said.
        said: Box<ApiError>,
        /// The end of its log.
        log: String,
    },
    /// A copy is not what the original is.
    #[error("the copy of {node} is not what was shared: {}", at(.path))]
    Different {
        /// Who has the copy.
        node: String,
        /// Where they differ, relative to what was shared.
        path: PathBuf,
    },
    /// A process does not end.
    #[error("{node} (process {pid}) does not end")]
    Stuck {
        /// Its name.
        node: String,
        /// Its process.
        pid: u32,
    },
    /// A home cannot be removed: somebody else works on it, or the file system refused.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It failed, and what was started could not be taken down.
    #[error("{cause}; and it could not be taken down: {remains}")]
    Remains {
        /// What failed first.
        cause: Box<Self>,
        /// What came in the way.
        remains: Box<Self>,
    },
    /// It was asked to end before it was done.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn manifest(path: &Path, why: String) -> Self {
        Self::Manifest {
            path: path.to_owned(),
            why,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Io { source, .. } => ApiError::from_io(source, "").code,
            Self::NotEmpty { .. } => ErrorCode::DestinationExists,
            Self::Exists { .. } => ErrorCode::AlreadyRunning,
            Self::Absent { .. } => ErrorCode::PathNotFound,
            Self::Busy { .. } => ErrorCode::Busy,
            Self::Manifest { .. } | Self::Settings(_) => ErrorCode::Config,
            #[cfg(feature = "scenarios")]
            Self::Scenario(_) => ErrorCode::Config,
            Self::NoNode { .. }
            | Self::Nodes { .. }
            | Self::NotEmulated { .. }
            | Self::NeedsOneProcess { .. }
            | Self::NoSockets => ErrorCode::Usage,
            Self::TooMany(_) => ErrorCode::TooLarge,
            Self::Space { .. } => ErrorCode::NoSpace,
            Self::Start { said, .. } | Self::Command { said, .. } => said.code,
            Self::Foreign { .. } => ErrorCode::NoPermission,
            Self::Different { .. } => ErrorCode::Integrity,
            Self::Remains { cause, .. } => cause.code(),
            Self::Peers { .. }
            | Self::NotInForce { .. }
            | Self::Stuck { .. }
            | Self::Home(_)
            | Self::Evil { .. } => ErrorCode::Internal,
            Self::Interrupted => ErrorCode::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } | Self::NotEmpty { .. } | Self::Foreign { .. } => {
                "choose a new folder with --dir; the folder that it is in has to be there"
                    .to_owned()
            }
            Self::Exists { dir, .. } => format!(
                "use it, end it with `shoal testnet down --dir {0}`, or choose another folder with \
                 --dir",
                dir.display()
            ),
            Self::Absent { .. } => {
                "start one with `shoal testnet up`, or say where it is with --dir".to_owned()
            }
            Self::Busy { .. } => "end it, or wait for it, and try again".to_owned(),
            Self::Manifest { .. } => {
                "was the folder moved, or made by another version? end its nodes with `shoal stop`"
                    .to_owned()
            }
            Self::TooMany(shortage) if shortage.fit == 0 => "end other programs first".to_owned(),
            Self::TooMany(shortage) => {
                format!("this machine has room for --nodes {}", shortage.fit)
            }
            Self::Space { .. } => "make it smaller with --scale, or choose another disk".to_owned(),
            #[cfg(feature = "scenarios")]
            Self::Scenario(error) => return error.hint.clone(),
            Self::Start { said, .. } | Self::Command { said, .. } => return said.hint.clone(),
            Self::Different { .. } => "did it change in the meantime? try again".to_owned(),
            Self::NotEmulated { .. } => {
                "end it, and start it again with `shoal testnet up --link home`".to_owned()
            }
            Self::NoSockets => "leave --transport out, or take --mode process".to_owned(),
            Self::NeedsOneProcess { .. } => "take --mode in-process".to_owned(),
            Self::Settings(_) => "`shoal config` lists all keys with their values".to_owned(),
            Self::NotInForce { node, .. } => {
                format!("see what it does with `shoal testnet logs {node}`")
            }
            Self::Peers { .. } => "is the machine very busy? try fewer nodes".to_owned(),
            Self::Stuck { pid, .. } => format!("see what process {pid} waits for"),
            Self::Remains { .. } => "try again with `shoal testnet down`".to_owned(),
            Self::Nodes { .. }
            | Self::NoNode { .. }
            | Self::Interrupted
            | Self::Home(_)
            | Self::Evil { .. } => {
                return None;
            }
        })
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        if let Error::Home(error) = error {
            return error.into();
        }
        let api_error = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => api_error.hint(hint),
            None => api_error,
        }
    }
}

fn nodes_run(nodes: usize) -> String {
    match nodes {
        0 => "none of its nodes runs".to_owned(),
        1 => "1 of its nodes runs".to_owned(),
        more => format!("{more} of its nodes run"),
    }
}

fn at(path: &Path) -> String {
    match path.as_os_str().is_empty() {
        true => "they differ".to_owned(),
        false => format!("see {}", path.display()),
    }
}

/// What a failed node said last goes into the message: its log is removed with it.
fn tail(log: &str) -> String {
    if log.is_empty() {
        return "; its log is empty".to_owned();
    }
    format!("; its log ends with:\n{log}")
}

/// The last lines of a node's log; empty when there is none.
pub(crate) fn log_tail(home: &Path) -> String {
    /// What a person reads of it.
    const LINES_MAX: usize = 10;
    let text = std::fs::read(log_path(home)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    lines[from..].join("\n")
}
