//! Why a fetch did not happen.

use std::{fmt, io, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use libp2p::PeerId;
use shoal_protocol::{address::Cid, name::NameError, unixfs::DagError, walk::PathError};

use crate::{limits::Spent, patterns::PatternError, said::said, store::StoreError};

/// Peers that a message names; a peer that does harm can name hundreds that do not exist.
const ASKED_NAMED_MAX: usize = 8;

/// Who was asked for a root and what came of it.
pub(crate) type Asked = Vec<(PeerId, String)>;

/// Why a fetch failed. What was verified is kept unless nothing was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Nobody who has the root was found in time.
    #[error("{root} was not found within {timeout:?}: {}", AskedText(asked))]
    NotFound {
        root: Cid,
        timeout: Duration,
        asked: Asked,
    },
    /// Providers were found, and then nothing moved.
    #[error("no provider delivered anything for {timeout:?}: {}", AskedText(asked))]
    NoProgress { timeout: Duration, asked: Asked },
    /// Something is at the destination.
    #[error("{} exists already", .0.display())]
    DestinationExists(PathBuf),
    /// The destination does not exist, or is not one.
    #[error("cannot fetch to {}: {}", .path.display(), said(cause))]
    NoDestination {
        /// Where the fetch was to go.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// What is at the destination, or below it, is a folder and would be replaced by something
    /// else, or the other way around.
    #[error("in {}, a folder and something else have the same name", .0.display())]
    OtherKind(PathBuf),
    /// The destination cannot be written.
    #[error("cannot write {}", said(.0))]
    Destination(#[from] io::Error),
    /// The destination's file system is too full.
    #[error("{} are needed and {} are free", size(*needed), size(*free))]
    NoSpace { needed: u64, free: u64 },
    /// The tree behind the root is not acceptable.
    #[error("the content is refused: {0}")]
    Refused(#[from] DagError),
    /// The destination's system does not take these names, or not beside others.
    #[error("the file system there does not keep the names of {}", .0.join(", "))]
    Misfits(Vec<String>),
    /// The link's path leads nowhere.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The link's name cannot be a file name here.
    #[error("the name in the link is refused: {0}")]
    Name(NameError),
    /// The limit on transfers that are not over is reached.
    #[error("{0} transfers are unfinished already")]
    Busy(usize),
    /// The root is neither a file nor a folder.
    #[error("the link leads to a symbolic link, which cannot be fetched by itself")]
    BareSymlink,
    /// This month's traffic budget is used up.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// A pattern of what to fetch is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// More patterns than are accepted.
    #[error("there are more than {0} patterns of what to fetch")]
    Patterns(usize),
    /// There is nothing to choose from.
    #[error("the link leads to a single file, and --only chooses among those of a folder")]
    OneFile,
    /// Nothing is as it was asked for; what there is instead, its beginning.
    #[error("nothing in it matches {}", quoted(patterns))]
    NothingMatches {
        patterns: Vec<String>,
        there: Vec<String>,
    },
    /// The bytes of one file were asked for; the first of those that are as asked for.
    #[error("{total} files match, and one can be written: {}", first.join(", "))]
    SeveralFiles { total: usize, first: Vec<String> },
    /// Bytes were asked for, and the link leads to a folder.
    #[error("the link leads to a folder, which has no bytes of its own")]
    NotAFile,
    /// The limit on streams is reached.
    #[error("{0} files are streamed already")]
    Streams(usize),
    /// The index failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The transfer was ended from outside.
    #[error("interrupted")]
    Cancelled,
    /// Somebody had the transfer pause.
    #[error("the transfer was paused")]
    Paused,
    /// Somebody ended the transfer for good, and nothing of it is left.
    #[error("the transfer was cancelled")]
    Removed,
    /// A task of this node panicked.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<tokio::task::JoinError> for FetchError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl FetchError {
    /// Whether the same fetch fails again as long as nobody changes what was asked for or what is
    /// at the destination.
    pub(super) fn is_verdict(&self) -> bool {
        match self {
            Self::DestinationExists(_)
            | Self::OtherKind(_)
            | Self::Refused(_)
            | Self::Misfits(_)
            | Self::Path(_)
            | Self::Name(_)
            | Self::BareSymlink
            | Self::NotAFile
            | Self::Pattern(_)
            | Self::Patterns(_)
            | Self::OneFile
            | Self::NothingMatches { .. }
            | Self::SeveralFiles { .. }
            | Self::Internal(_) => true,
            Self::NotFound { .. }
            | Self::NoProgress { .. }
            | Self::NoDestination { .. }
            | Self::Destination(_)
            | Self::NoSpace { .. }
            | Self::Busy(_)
            | Self::Spent(_)
            | Self::Streams(_)
            | Self::Store(_)
            | Self::Cancelled
            | Self::Paused
            | Self::Removed => false,
        }
    }
}

fn quoted(patterns: &[String]) -> String {
    let quoted: Vec<_> = patterns.iter().map(|it| format!("{it:?}")).collect();
    quoted.join(" or ")
}

fn size(bytes: u64) -> impl fmt::Display {
    ByteSize(bytes).display().iec()
}

struct AskedText<'a>(&'a Asked);

impl fmt::Display for AskedText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody was named by the link or the DHT");
        }
        f.write_str("asked ")?;
        for (index, (peer, answer)) in self.0.iter().take(ASKED_NAMED_MAX).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{peer} ({answer})")?;
        }
        match self.0.len().saturating_sub(ASKED_NAMED_MAX) {
            0 => Ok(()),
            others => write!(f, " and {others} others"),
        }
    }
}
