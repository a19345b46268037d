//! Looking after what is held: verifying it, and taking out what nothing needs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What to verify.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyRequest {
    /// A link or CID whose shares to verify; without one, everything that is shared.
    pub link: Option<String>,
    /// Whether to list the files that are intact, too.
    pub list_intact: bool,
}

/// How far a verification is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyProgress {
    /// The share that is being read.
    pub name: String,
    /// Files that were verified.
    pub files: u64,
    /// Files to verify.
    pub files_total: u64,
    /// Bytes of files that were read and hashed.
    pub bytes: u64,
    /// Bytes of all files to verify.
    pub bytes_total: u64,
    /// Bytes per second, lately.
    pub rate: u64,
    /// Files and blocks that are not as they should be, so far.
    pub bad: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// Whether everything is as it was shared.
    pub intact: bool,
    /// The shares that were verified, oldest first.
    pub shares: Vec<VerifiedShare>,
    /// The files that are not as they were shared, and, when asked for, the intact ones.
    pub files: Vec<VerifiedFile>,
    /// Files that would belong into `files`, and are one too many.
    pub files_unlisted: u64,
    /// Bytes that were read and hashed, those of blocks in the database included.
    pub hashed_bytes: u64,
    /// Time from request to answer.
    pub elapsed_ms: u64,
}

/// What a verification found of one share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedShare {
    /// The root.
    pub cid: String,
    /// The share's name.
    pub name: String,
    /// What was shared.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Files that were verified.
    pub files: u64,
    /// Files that are not as they were shared.
    pub changed: u64,
    /// Files that cannot be read.
    pub unreadable: u64,
    /// Blocks of the share's tree, held in the home, that are damaged.
    pub damaged_blocks: u64,
}

/// What a verification found of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedFile {
    /// The root of its share.
    pub cid: String,
    /// Where it is.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Its bytes when it was shared.
    pub size: u64,
    /// What was found.
    #[serde(flatten)]
    pub verdict: FileVerdict,
}

/// What was found of a file: the field `verdict`, and `reason` unless it is intact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum FileVerdict {
    /// It holds the bytes that were shared.
    Intact,
    /// It does not.
    Changed {
        /// How it differs.
        reason: String,
    },
    /// It cannot be read.
    Unreadable {
        /// What the system says.
        reason: String,
    },
}

/// What to collect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GcRequest {
    /// Only say what would be taken out.
    pub dry_run: bool,
}

/// How far a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcProgress {
    /// What is being done.
    pub phase: GcPhase,
    /// Rows that were looked at.
    pub rows: u64,
}

/// What a collection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GcPhase {
    /// Looking at rows of shares, files and chunks.
    Rows,
    /// Looking at blocks.
    Blocks,
    /// Looking at copies.
    Copies,
    /// Giving space back to the disk.
    Compacting,
}

/// What was taken out, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// Shares that were given up before, and whose rows were still there.
    pub shares: u64,
    /// Rows of files and chunks that belong to no share.
    pub rows: u64,
    /// Blocks that no share holds.
    pub blocks: u64,
    /// The bytes of those blocks.
    pub block_bytes: u64,
    /// Copies in the home whose share is gone.
    pub copies: u64,
    /// The bytes of those copies.
    pub copy_bytes: u64,
    /// Bytes of the database on disk before.
    pub database_bytes_before: u64,
    /// Bytes of the database on disk after; as before when it was only looked at.
    pub database_bytes_after: u64,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
    /// Time from request to answer.
    pub elapsed_ms: u64,
}
