//! What can go wrong in the store, as one closed enum.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};
use shoal_ground::memory;
use shoal_ground::said::{NO_INODES, about, said};
use shoal_ground::space::has_no_inodes;

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock of this home.
    #[error("the database in {} is in use by another process", .home.display())]
    InUse {
        /// The home that is locked.
        home: PathBuf,
    },
    /// The database was written by a newer version of Shoal; it was left untouched.
    #[error(
        "the database has schema {found}, this version of shoal reads up to {supported}; \
             nothing in it was changed"
    )]
    NewerSchema {
        /// The version found on disk.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },
    /// The database is damaged; nothing was deleted.
    #[error("the database is damaged, nothing was deleted: {detail}")]
    Damaged {
        /// What was found, in RocksDB's or the decoder's words.
        detail: String,
    },
    /// The disk under the home is full.
    #[error("there is no room on the disk that holds the database: {detail}")]
    NoSpace {
        /// Which file, as far as that is known.
        detail: String,
    },
    /// The home or the database may not be read or written.
    #[error("no permission to use the database: {detail}")]
    NoPermission {
        /// Which file, in the system's words.
        detail: String,
    },
    /// A limit of this process is too low for the database.
    #[error("the database needs more than {limit} allows: {detail}")]
    Limit {
        /// The limit, by the name that people know it by.
        limit: &'static str,
        /// RocksDB's words.
        detail: String,
    },
    /// A file of the home could not be used.
    #[error("cannot use {}: {}", .path.display(), said(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Any other failure that RocksDB reports.
    #[error("database: {detail}")]
    Database {
        /// RocksDB's words.
        detail: String,
    },
}

impl StoreError {
    pub(super) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged {
            detail: detail.into(),
        }
    }

    /// Maps a system error on `path`, keeping apart what has its own remedy.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                detail: about(&path, &source).to_string(),
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NoPermission {
                    detail: format!("{}: {}", path.display(), said(&source)),
                }
            }
            _ => Self::Io { path, source },
        }
    }
}

/// The limit that RocksDB has met, by what the system said to it; none where no limit is behind that.
fn limit_in(detail: &str) -> Option<&'static str> {
    if detail.contains("Too many open files in system") {
        return Some("the limit of the machine on open files");
    }
    if detail.contains("Too many open files") {
        return Some("the limit on open files (`ulimit -n`)");
    }
    // No file of a database is longer than what any file system takes.
    if detail.contains("File too large") && getrlimit(Resource::Fsize).current.is_some() {
        return Some("the limit on the size of files (`ulimit -f`)");
    }
    let is_memory = detail.contains("Cannot allocate memory") && memory::reached().is_some();
    is_memory.then_some("the limit on memory (`ulimit -v`)")
}

/// RocksDB's words on a full disk, with what else is known of it: it may be full of files.
fn no_room(detail: String) -> String {
    let words = detail.split_whitespace().map(|it| it.trim_end_matches(':'));
    let mut paths = words.filter(|it| it.starts_with('/'));
    match paths.next().filter(|path| has_no_inodes(Path::new(path))) {
        Some(_) => format!("{NO_INODES}: {detail}"),
        None => detail,
    }
}

impl From<rocksdb::Error> for StoreError {
    /// RocksDB hands over its status as text only, so the text decides.
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let detail = error.into_string();
        if kind == rocksdb::ErrorKind::Corruption {
            Self::Damaged { detail }
        } else if detail.contains("No space left on device") || detail.contains("quota exceeded") {
            Self::NoSpace {
                detail: no_room(detail),
            }
        } else if detail.contains("Permission denied") || detail.contains("Read-only file system") {
            Self::NoPermission { detail }
        } else if let Some(limit) = limit_in(&detail) {
            Self::Limit { limit, detail }
        } else {
            Self::Database { detail }
        }
    }
}
