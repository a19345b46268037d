//! UnixFS: files, directories and symlinks as a DAG of blocks.
//!
//! Building is streaming: a [`FileBuilder`] or [`DirBuilder`] is given the addresses of what is
//! below, hands every node it completes to a sink and keeps only what is still open, so that a
//! 1 TiB file needs a few hundred KiB. What it builds follows the profile `unixfs-v1-2025`, so the
//! same bytes have one address everywhere. Reading ([`parse_node`]) takes one node at a time, in
//! any shape other tools write, and refuses what is damaged, unsupported or over a limit below.
//!
//! Nothing here reads or hashes file bytes: the leaves are the caller's.

mod dagpb;
mod data;
mod dir;
mod file;
mod hamt;
mod protobuf;
mod read;

use thiserror::Error;

pub use dir::{DIR_BLOCK_BYTES_MAX, DirBuilder};
pub use file::{FILE_LINKS, FileBuilder, symlink};
pub(crate) use hamt::{DIGITS as HAMT_DIGITS, HashedName};
pub use read::{Child, DirEntry, FileNode, Node, Slot, parse_node};

use crate::{
    address::{AddressError, Cid},
    name::NameError,
};

/// Most links that one node may have.
///
/// A directory block of 2 MiB whose links take the 38 bytes they need at least (a version 0 address
/// of 34 bytes, no name, no size) has 55,188; this is the next power of two.
pub const LINKS_PER_NODE_MAX: usize = 1 << 16;

/// Most links that one node of a file may have: eight times what the profile writes.
///
/// Together with [`FILE_DEPTH_MAX`] it bounds what a walk through a file keeps:
/// 16 x 8192 x 56 bytes = 7 MiB.
pub const FILE_LINKS_MAX: usize = 8 * FILE_LINKS;

/// Most nodes on the way from a file's root to a leaf. The profile needs four for 1 EiB; unbalanced
/// layouts of other tools need about ten for 1 TiB.
pub const FILE_DEPTH_MAX: usize = 16;

/// Most directories on the way from a tree's root to an entry, the root counted.
pub const TREE_DEPTH_MAX: usize = 256;

/// Most entries in one tree, each counted wherever it appears.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Longest target of a symlink, in bytes: Linux's `PATH_MAX`.
pub const TARGET_BYTES_MAX: usize = 4096;

/// Largest file, in bytes: what a signed 64-bit file offset can reach.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// A modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    secs: i64,
    nanos: u32,
}

impl Mtime {
    /// A time as seconds since 1970 (negative before) and nanoseconds after that second.
    ///
    /// `None` unless `nanos` is below 10^9.
    pub const fn new(secs: i64, nanos: u32) -> Option<Mtime> {
        if nanos < 1_000_000_000 {
            Some(Mtime { secs, nanos })
        } else {
            None
        }
    }

    /// Seconds since 1970-01-01 00:00 UTC, negative before.
    pub fn secs(self) -> i64 {
        self.secs
    }

    /// Nanoseconds after [`Mtime::secs`], below 10^9.
    pub fn nanos(self) -> u32 {
        self.nanos
    }
}

/// What UnixFS 1.5 can keep of a file besides its bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Permission bits, set-id and sticky bits included: `0` to [`Attributes::MODE_MASK`].
    pub mode: Option<u32>,
    /// Modification time.
    pub mtime: Option<Mtime>,
}

impl Attributes {
    /// The bits of a mode that are written and read.
    pub const MODE_MASK: u32 = 0o7777;

    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }
}

/// A DAG node that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub cid: Cid,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// A file, directory or symlink whose DAG is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The address of its root.
    pub cid: Cid,
    /// Bytes of the root block and of all blocks below, each counted as often as it is linked:
    /// the size that a parent's link carries.
    pub tsize: u64,
    /// Bytes of content: of the file, or of all files below the directory.
    pub size: u64,
}

/// Why a directory or symlink cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A name that every receiver would refuse.
    #[error("`{name}` cannot be shared: {reason}")]
    Name {
        /// The name, escaped for printing.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// A second entry with the same name.
    #[error("two entries are called `{0}`")]
    Duplicate(String),
    /// Two names that a sharded directory cannot keep apart: their 64-bit hashes are equal.
    #[error("`{0}` and `{1}` have the same hash and cannot be in one large directory")]
    HashCollision(String, String),
    /// A symlink target that is empty, over [`TARGET_BYTES_MAX`] or contains NUL.
    #[error("a symlink's target is empty, too long or contains NUL")]
    Target,
}

/// Why a DAG is refused.
///
/// All but the last two blame whoever made the root: its providers pass on what verifies.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DagError {
    /// The bytes of a node are not what they claim to be.
    #[error("damaged DAG: {0}")]
    Malformed(&'static str),
    /// Something that UnixFS knows and Shoal does not read.
    #[error("unsupported DAG: {0}")]
    Unsupported(&'static str),
    /// A named limit is broken.
    #[error("refused DAG: more than {max} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        max: u64,
    },
    /// A link to something that cannot be fetched or verified.
    #[error("a link in the DAG: {0}")]
    Address(#[from] AddressError),
    /// An entry whose name is unsafe.
    #[error("unsafe name `{name}`: {reason}")]
    Name {
        /// The name, escaped for printing.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// Two entries of one directory with the same name, escaped for printing.
    #[error("two entries are called `{0}`")]
    Duplicate(String),
    /// A block whose content is longer or shorter than the link to it says.
    #[error("a block has {actual} bytes of content, the link to it says {expected}")]
    Length {
        /// What the link says.
        expected: u64,
        /// What the block holds.
        actual: u64,
    },
    /// A node was fed that was not asked for: the caller's mistake.
    #[error("{0} was not asked for")]
    Unexpected(Cid),
    /// The walk was finished before all nodes were fed: the caller's mistake.
    #[error("{0} nodes are still missing")]
    Incomplete(usize),
}

impl DagError {
    pub(crate) fn limit(what: &'static str, max: usize) -> DagError {
        DagError::Limit {
            what,
            max: max as u64,
        }
    }
}
