//! Why something could not be shared.

use std::io;
use std::path::{Path, PathBuf};

use shoal_ground::said::{and_more, of_disk, said};
use shoal_protocol::name::{NameError, escaped};
use shoal_protocol::unixfs::BuildError;

use crate::StoreError;
use crate::patterns::PatternError;

/// Names that are listed when names cannot be shared; beyond that only their number is told.
pub(super) const NAMES_LISTED_MAX: usize = 100;

/// Paths that a message names; of those beyond only the number is told. A screen of them.
pub(super) const PATHS_LISTED_MAX: usize = 20;

/// Why nothing was shared. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// No path was given.
    #[error("there is nothing to share: no path was given")]
    NoPath,
    /// Given paths do not exist.
    #[error("{}", missing_text(.0))]
    NotFound(Vec<PathBuf>),
    /// Something may not be read.
    #[error("no permission to read {}", .0.display())]
    PermissionDenied(PathBuf),
    /// Several files and folders may not be read.
    #[error("no permission to read {}", unreadable_text(.0))]
    Unreadable(Unreadable),
    /// There is no thread to be had that could read and hash.
    #[error("cannot read and hash: the system has no thread for it ({})", said(.0))]
    NoThread(io::Error),
    /// A given path is neither a file nor a folder.
    #[error("{} is neither a file nor a folder", .0.display())]
    NotShareable(PathBuf),
    /// A given path holds the node's own home, or lies in it.
    #[error(
        "{} cannot be shared: shoal keeps its own data in {}",
        .path.display(), .home.display()
    )]
    OwnHome {
        /// The given path.
        path: PathBuf,
        /// The home.
        home: PathBuf,
    },
    /// Two given paths have the same last name, and would be one entry.
    #[error("two of the paths are called {0:?}; a share holds each name once")]
    DuplicateName(String),
    /// Names that cannot be shared, because they are not UTF-8 or no receiver would accept them.
    #[error("{}", names_text(names, *total))]
    Names {
        /// The paths, escaped, with what is wrong with each; at most 100.
        names: Vec<String>,
        /// How many there are in all.
        total: u64,
    },
    /// The name that was asked for is one that no receiver would accept.
    #[error("the share cannot be called {}: {reason}", quoted(name))]
    ShareName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// More entries or levels than receivers accept.
    #[error("the folder has more than {max} {what}, which receivers refuse")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many are accepted.
        max: usize,
    },
    /// A pattern of what to leave out is malformed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A file changed between the start and the end of reading it, or vanished.
    #[error("{} changed while it was being shared", .0.display())]
    ChangedWhileSharing(PathBuf),
    /// A file holds less than its size says, and keeps to that.
    #[error("{} holds less than its size says: it is no ordinary file", .0.display())]
    WrongSize(PathBuf),
    /// A file that does not say how long it is has no end.
    #[error("{} has no end", .0.display())]
    Endless(PathBuf),
    /// An entry or a folder that has no UnixFS form.
    #[error("{}: {cause}", .path.display())]
    Unbuildable {
        /// The entry.
        path: PathBuf,
        /// Why.
        cause: BuildError,
    },
    /// No space for the copy.
    #[error("there is no room for the copy {}: {}", .path.display(), said(cause))]
    NoSpace {
        /// The copy.
        path: PathBuf,
        /// What the system says of the disk.
        cause: io::Error,
    },
    /// A copy cannot be written.
    #[error("cannot write the copy {}: {}", .path.display(), said(cause))]
    Copy {
        /// The copy.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot read {}: {}", .path.display(), said(cause))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: io::Error,
    },
    /// The caller gave up.
    #[error("sharing was interrupted")]
    Cancelled,
    /// A hashing thread panicked.
    #[error("a hashing thread panicked; this is a bug in shoal")]
    Panicked,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What may not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// The first paths, escaped, in the order of their names.
    pub listed: Vec<String>,
    /// The same as patterns that leave them out; none for a path that was given itself.
    pub patterns: Vec<String>,
    /// How many there are in all.
    pub total: u64,
}

fn missing_text(paths: &[PathBuf]) -> String {
    let listed = paths.iter().take(PATHS_LISTED_MAX);
    let listed: Vec<_> = listed.map(|path| path.display().to_string()).collect();
    let listed = listed.join(", ");
    let more = and_more(paths.len() as u64, PATHS_LISTED_MAX);
    let verb = if paths.len() == 1 { "does" } else { "do" };
    format!("{listed}{more} {verb} not exist")
}

fn names_text(names: &[String], total: u64) -> String {
    let first = names.first().map_or("", String::as_str);
    match total {
        1 => format!("a name cannot be shared: {first}"),
        _ => format!("{total} names cannot be shared, for example {first}"),
    }
}

/// Those that are listed, and how many more there are.
fn unreadable_text(found: &Unreadable) -> String {
    let Unreadable { listed, total, .. } = found;
    let more = and_more(*total, listed.len());
    format!("{total} files and folders: {}{more}", listed.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", escaped(name))
}

impl ShareError {
    /// Maps a failure on a file that the walk has found.
    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            // It was there a moment ago, as a file and as long as it said.
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                Self::ChangedWhileSharing(path)
            }
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(path),
            _ => Self::Io { path, cause },
        }
    }

    /// Maps a failure to write a copy.
    pub(super) fn copying(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let cause = of_disk(&path, &cause);
                Self::NoSpace { path, cause }
            }
            _ => Self::Copy { path, cause },
        }
    }
}
