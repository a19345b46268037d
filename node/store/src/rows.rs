//! What the rows of the database mean: shares, files, chunk locations, and how a row is laid out.
//!
//! A row that holds a struct is one version byte and then postcard. Fields are only ever added at
//! the end, together with a new version ([`Row`]) and a new schema, never reordered.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_protocol::address::{Cid, Digest, HashFn};
use shoal_protocol::chunker::Chunker;
use shoal_protocol::link::Marks;

use super::{BootId, StoreError, Terms};

/// A struct that a row holds.
pub(super) trait Row: Serialize + DeserializeOwned {
    /// The layout that is written.
    const VERSION: u8;
    /// The layouts before, and what follows their rows in this one.
    const EARLIER: &'static [(u8, &'static [u8])];
}

impl Row for ShareRecord {
    const VERSION: u8 = 4;
    // Without `written`, `replicate` and `terms`, then without the last two, then without the last:
    // nobody had asked for that.
    const EARLIER: &'static [(u8, &'static [u8])] =
        &[(1, b"\0\x01\0\0\0"), (2, b"\x01\0\0\0"), (3, b"\0\0\0")];
}

impl Row for FileRow {
    const VERSION: u8 = 1;
    const EARLIER: &'static [(u8, &'static [u8])] = &[];
}

/// A file whose last change is younger than this when it is examined may change again without its
/// timestamps moving: two ticks of a 100 Hz kernel, whose coarse clock stamps files.
const TIMESTAMP_GRAIN: Duration = Duration::from_millis(20);

/// The same where times are whole seconds: FAT counts in twos.
const COARSE_TIMESTAMP_GRAIN: Duration = Duration::from_secs(2);

/// Identifies a share in this home; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShareId(pub(super) u64);

/// Identifies a file of a share in this home; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub(super) u64);

impl std::fmt::Display for ShareId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Data older than this has reached the disk by itself: Linux writes dirty pages back after 30 s,
/// looking every 5 s; doubled for a busy disk.
const WRITEBACK_TIME: Duration = Duration::from_secs(60);

/// One share: a root that this node offers, or is fetching in order to offer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRecord {
    /// Its id in this home.
    pub id: ShareId,
    /// The address of the whole.
    pub root: Cid,
    /// The name that links carry.
    pub name: String,
    /// What was shared, or what is fetched into: a file or folder, or, when `selection` is not
    /// empty, the folder that the selected paths are below. Absolute and without symlinks.
    pub source: PathBuf,
    /// Where the bytes lie: `source` itself, a copy of it, or the part path while landing. Absolute
    /// and without symlinks; in the database, that of a copy is relative to the home.
    pub base: PathBuf,
    /// The paths below `source` of a share that was made of several; empty when `source` is the
    /// whole.
    pub selection: Vec<String>,
    /// How the bytes came to be here.
    pub origin: Origin,
    /// Whether the root goes into the DHT.
    pub announce: bool,
    /// How the tree was built, so that it can be built again.
    pub recipe: Recipe,
    /// Content bytes of all files.
    pub size: u64,
    /// Number of files.
    pub files: u64,
    /// Number of chunks of all files, repeats counted.
    pub chunks: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The boot in which the data was written, while it is not known to be flushed to disk.
    pub unflushed_boot: Option<BootId>,
    /// Where it is in its life.
    pub state: ShareState,
    /// The path as it was written when it was shared, where that is another one than `source`: a
    /// symlink on it may lead elsewhere by now.
    pub written: Option<PathBuf>,
    /// Whether others may keep copies of it for others.
    pub replicate: bool,
    /// Until when it is offered.
    pub terms: Terms,
}

impl ShareRecord {
    /// What its sharer asks of those who have it.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks {
            no_announce: !self.announce,
            no_replicate: !self.replicate,
        }
    }

    /// Whether both were made of the same place: what is known of one by its written or its real
    /// path is the other by either.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        if self.selection != other.selection {
            return false;
        }
        if !self.selection.is_empty() {
            return self.source == other.source;
        }
        self.is_named(&other.source) || other.written.as_ref().is_some_and(|it| self.is_named(it))
    }

    /// Whether the whole share goes by this path.
    pub(super) fn is_named(&self, path: &Path) -> bool {
        self.selection.is_empty() && (self.source == path || self.written.as_deref() == Some(path))
    }

    /// Whether blocks of this share may be read at all.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        match self.state {
            ShareState::Landing | ShareState::Live | ShareState::Changed(_) => true,
            ShareState::Staging | ShareState::Removing => false,
        }
    }

    /// This record after `change` was found.
    pub(super) fn with_change(&self, change: Change) -> Self {
        let path = change.path.escape_debug();
        tracing::warn!(share = %self.name, %path, "a shared file {}", change.kind);
        Self {
            state: ShareState::Changed(change),
            ..self.clone()
        }
    }

    /// Whether the share is not served because of its tree in the database, not of its files.
    pub(super) fn has_damaged_index(&self) -> bool {
        matches!(&self.state, ShareState::Changed(change) if change.kind == ChangeKind::Index)
    }

    /// Whether the share is offered on purpose: what lists of shares show.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        matches!(self.state, ShareState::Live | ShareState::Changed(_))
    }

    /// Whether the data was written in another boot than `boot` and never flushed, so that it has
    /// to be re-hashed before it counts.
    #[must_use]
    pub fn is_suspect(&self, boot: BootId) -> bool {
        self.unflushed_boot.is_some_and(|written| written != boot)
    }
}

/// How a share's bytes came to be on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The user's own files, shared where they lie.
    Shared,
    /// A copy under `$SHOAL_HOME/copies`, which goes when the share goes.
    Copied,
    /// Fetched from others.
    Fetched,
}

/// Where a share is in its life. Every other than `Live` and `Changed` is invisible to peers'
/// lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareState {
    /// Rows are being written; collected when the process that writes them is gone.
    Staging,
    /// A fetch in progress: its rows are the journal from which it resumes.
    Landing,
    /// Complete and, as far as is known, unchanged.
    Live,
    /// Something on disk is no longer what was shared.
    Changed(Change),
    /// Being taken out; its rows go in the background.
    Removing,
}

/// What was found to differ from what was shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The file, relative to the share's base; empty for the base itself.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
}

/// How a file differs from what was shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// There is no such file any more.
    Missing,
    /// Another file, or something that is not a file, has taken its place.
    Replaced,
    /// Its length differs.
    Resized,
    /// Its modification time differs.
    Modified,
    /// Its bytes differ although its size and times do not say so.
    Content,
    /// Not the files: what the database holds of the share's tree is damaged.
    Index,
}

impl Change {
    /// A share whose tree in the database is damaged.
    pub(super) fn of_index() -> Self {
        Self {
            path: String::new(),
            kind: ChangeKind::Index,
        }
    }
}

impl std::fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "is gone",
            Self::Replaced => "was replaced by another file",
            Self::Resized => "has another size",
            Self::Modified => "was modified",
            Self::Content => "has other content",
            Self::Index => "has a damaged index",
        })
    }
}

/// The choices that decide a share's address, besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The hash function of every block.
    pub hash: HashFn,
    /// How files are cut.
    #[serde(with = "chunker_name")]
    pub chunker: Chunker,
    /// Whether permission bits are kept.
    pub preserve_mode: bool,
    /// Whether modification times are kept.
    pub preserve_mtime: bool,
    /// Glob patterns of what was left out.
    pub exclude: Vec<String>,
}

/// A chunker as its name, so that what is stored does not depend on how the enum is laid out.
mod chunker_name {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use shoal_protocol::chunker::Chunker;

    pub(super) fn serialize<S: Serializer>(chunker: &Chunker, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(chunker)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Chunker, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// One file of a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    /// The share that it belongs to.
    pub share: ShareId,
    /// Its path below the share's base, with `/`; empty when the base is the file.
    pub path: String,
    /// What the system said about it when its bytes were verified.
    pub stat: FileStat,
    /// Whether `stat` vouches for the bytes.
    pub state: FileState,
}

/// What is known of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileState {
    /// Bytes are as recorded while the file's stat is as recorded.
    Stable,
    /// A fetch is writing it: recorded chunks are there, its stat says nothing, so reads are
    /// re-hashed.
    Landing,
    /// Found to differ; not served.
    Changed,
}

/// The part of a file's stat that tells whether it changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Length in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Inode change time in nanoseconds since the Unix epoch; 0 never vouches for anything.
    pub ctime_ns: i64,
    /// Inode number.
    pub ino: u64,
    /// Device number.
    pub dev: u64,
}

/// How a file's stat compares with the recorded one. A stat vouches for a file or leaves it in
/// doubt; only its length can accuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Nothing differs: the bytes are the recorded ones.
    Same,
    /// The length is the recorded one and something else is not: the hash decides. A restored
    /// backup has another inode, `touch` moves the times, a remount can move all of them.
    Doubtful,
    /// It has another length, so the bytes are not the recorded ones.
    Resized,
}

impl FileStat {
    /// What `metadata` says.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            mtime_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
            ino: metadata.ino(),
            dev: metadata.dev(),
        }
    }

    /// This stat as it may be recorded at `now`, the time at which it was taken.
    ///
    /// A file that changed a moment ago can change once more within the same tick of the file
    /// system's clock. Its ctime is recorded as 0 then, which makes every read compare hashes.
    #[must_use]
    pub fn recorded_at(self, now: SystemTime) -> Self {
        let grain = match self.ctime_ns % 1_000_000_000 {
            0 => COARSE_TIMESTAMP_GRAIN,
            _ => TIMESTAMP_GRAIN,
        };
        if self.changed_within(grain, now) {
            Self {
                ctime_ns: 0,
                ..self
            }
        } else {
            self
        }
    }

    /// Whether the file changed so short a time before `now` that its bytes may not be on disk yet.
    #[must_use]
    pub fn may_be_unflushed(&self, now: SystemTime) -> bool {
        self.changed_within(WRITEBACK_TIME, now)
    }

    fn changed_within(&self, time: Duration, now: SystemTime) -> bool {
        let nanos = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
        let now = nanos(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        // A ctime of 0 says that it was too fresh to be recorded.
        self.ctime_ns == 0 || now - i128::from(self.ctime_ns) < nanos(time)
    }

    pub(super) fn compare(&self, now: &Self) -> Comparison {
        if self == now && !self.is_unsized() {
            Comparison::Same
        } else if self.size == now.size || (self.is_unsized() && now.size == 0) {
            Comparison::Doubtful
        } else {
            Comparison::Resized
        }
    }

    /// How a file has changed whose stat is `now` and whose bytes are not the recorded ones.
    pub(super) fn blame(&self, now: &Self) -> ChangeKind {
        if self.size != now.size && !(self.is_unsized() && now.size == 0) {
            ChangeKind::Resized
        } else if self.ino != now.ino {
            ChangeKind::Replaced
        } else if self.mtime_ns != now.mtime_ns {
            ChangeKind::Modified
        } else {
            ChangeKind::Content
        }
    }

    /// This stat of a file that holds `size` bytes and says that it holds none, as files in `/proc`
    /// do. Such a stat never vouches for anything.
    #[must_use]
    pub fn unsized_with(self, size: u64) -> Self {
        Self {
            size,
            ctime_ns: 0,
            ..self
        }
    }

    /// Whether the recorded length may be one that the system does not tell: nothing vouches for
    /// the file, so its bytes are read anyway.
    pub(super) fn is_unsized(&self) -> bool {
        self.size > 0 && self.ctime_ns == 0
    }
}

fn nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// A place where a chunk's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: FileId,
    /// Byte offset in it.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
}

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileChunk {
    /// Byte offset in the file.
    pub offset: u64,
    /// The address of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub len: u32,
}

/// Encodes a struct row.
pub(super) fn encode<T: Row>(row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(row, vec![T::VERSION])
        .map_err(|error| StoreError::damaged(format!("a row cannot be encoded: {error}")))
}

/// Decodes a struct row of this layout or of one before.
pub(super) fn decode<T: Row>(bytes: &[u8]) -> Result<T, StoreError> {
    let Some((version, body)) = bytes.split_first() else {
        return Err(StoreError::damaged("a row is empty"));
    };
    let read = |body: &[u8]| {
        postcard::from_bytes(body)
            .map_err(|error| StoreError::damaged(format!("a row cannot be decoded: {error}")))
    };
    if *version == T::VERSION {
        return read(body);
    }
    match T::EARLIER.iter().find(|(earlier, _)| earlier == version) {
        Some((_, rest)) => read(&[body, rest].concat()),
        None => Err(StoreError::damaged(format!(
            "a row has the unknown version {version}"
        ))),
    }
}

#[cfg(test)]
mod tests;
