//! Sharing, unsharing, and what is shared.

use std::{num::NonZeroU32, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{AbsolutePath, Audience, fetch::WAIT_MS_MAX, whole::Whole};
use crate::CommandId;

/// What to share and how.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    /// Files and folders, at least one; several become one folder that holds them.
    #[schema(min_items = 1)]
    pub paths: Vec<AbsolutePath>,
    /// The share's name; without one that of the only path.
    #[serde(default)]
    pub name: Option<String>,
    /// Serve from a copy in the store instead of from the files themselves.
    #[serde(default)]
    pub copy: bool,
    /// How file bytes are cut into chunks.
    #[serde(default)]
    pub chunker: Chunker,
    /// The hash function of the addresses.
    #[serde(default)]
    pub hash: Hash,
    /// File attributes that become part of the address.
    #[serde(default)]
    pub preserve: Preserve,
    /// Glob patterns of what to leave out, matched against paths relative to the shared folder.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Keep the root out of the DHT, for holders of the link only.
    #[serde(default)]
    pub no_announce: bool,
    /// Ask others not to keep copies of it for others.
    #[serde(default)]
    pub no_replicate: bool,
    /// Answer only when the root is announced, not when it is merely served.
    #[serde(default)]
    pub wait: bool,
    /// End it when so many peers have all of it.
    #[serde(default, deserialize_with = "copies")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 2_147_483_647)]
    pub until: Option<NonZeroU32>,
    /// End it after this time, in milliseconds.
    #[serde(default, deserialize_with = "expires_ms")]
    #[schema(minimum = 1, maximum = 3_162_240_000_000_u64)]
    pub expires_ms: Option<u64>,
    /// End it with this command, which holds the lock of this name in the home; without one it is a
    /// share of the home.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-fA-F]{16}$")]
    pub command: Option<CommandId>,
}

/// The most copies after which a share may end: the largest number of 32 bits that every program knows.
const COPIES_MAX: u64 = i32::MAX as u64;

/// The longest time after which a share may end: a hundred leap years.
const EXPIRES_MS_MAX: u64 = 100 * WAIT_MS_MAX;

fn copies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    let copies = Option::<Whole>::deserialize(deserializer)?;
    let copies = copies.map(|it| it.within::<D::Error>(&(1..=COPIES_MAX), "the number of copies"));
    let copies = copies.transpose()?;
    Ok(copies.and_then(|it| u32::try_from(it).ok().and_then(NonZeroU32::new)))
}

fn expires_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let ms = Option::<Whole>::deserialize(deserializer)?;
    let range = 1..=EXPIRES_MS_MAX;
    ms.map(|it| it.within(&range, "the time that a share lasts, in milliseconds,"))
        .transpose()
}

/// How file bytes are cut into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Chunker {
    /// Chunks of 1 MiB: the published profile.
    #[default]
    Fixed,
    /// Content-defined chunks, for data whose versions share content.
    Cdc,
}

/// The hash function of new addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Hash {
    /// BLAKE3-256.
    #[default]
    #[serde(rename = "blake3")]
    Blake3,
    /// SHA2-256, as the published UnixFS profile has it.
    #[serde(rename = "sha2-256")]
    Sha2_256,
}

/// File attributes that are kept; each changes the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preserve {
    /// Keep the permission bits.
    pub mode: bool,
    /// Keep the modification time.
    pub mtime: bool,
}

/// How far a share is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareProgress {
    /// What is being done.
    pub phase: SharePhase,
    /// Files that this phase is done with.
    pub files: u64,
    /// Files of the whole share, once they are counted; within the first second as a rule.
    #[schema(required)]
    pub files_total: Option<u64>,
    /// Bytes that this phase is done with.
    pub bytes: u64,
    /// Bytes of all files, known when `files_total` is.
    #[schema(required)]
    pub bytes_total: Option<u64>,
    /// Bytes per second, lately.
    pub rate: u64,
}

/// What a share is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SharePhase {
    /// Looking for files, and nothing was read yet.
    Walking,
    /// Copying into the home (`copy`).
    Copying,
    /// Reading and hashing them.
    Hashing,
    /// Writing the index.
    Committing,
    /// Waiting until the DHT knows the root (`wait`).
    Announcing,
}

/// A share that is being served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareResult {
    /// The root.
    pub cid: String,
    /// What to pass on to others: the short form where there is one.
    pub link: String,
    /// The same in the form that can be read and written by hand, with all addresses it may have.
    pub link_long: String,
    /// The share's name.
    pub name: String,
    /// Bytes of all files.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// Leaf chunks, repeats counted.
    pub chunks: u64,
    /// Time from request to answer.
    pub elapsed_ms: u64,
    /// Whether it stays shared when the command that asked for it has ended.
    #[serde(default)]
    pub keep: bool,
    /// When it ends, if a time was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
    /// What the person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Something that is not part of a share although it lies in a shared folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// Its path, relative to the shared folder.
    pub path: String,
    /// Why it was left out.
    pub reason: String,
}

/// What to stop sharing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnshareRequest {
    /// Every share of this root.
    Cid(String),
    /// The share whose source is this path.
    Path(AbsolutePath),
}

/// How a share is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareChange {
    /// Its new name, which may be the name of a file: at most 255 bytes and without `/`.
    #[schema(value_type = super::schema::NameText)]
    pub name: String,
    /// Change only the share at this path; without one, all shares of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<AbsolutePath>,
}

/// The shares that are no longer served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unshared {
    /// Each of them, as it was.
    pub removed: Vec<ShareInfo>,
    /// Shares that damage to the database had taken, and that are not told any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forgotten: Vec<LostShare>,
}

/// The node's shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shares {
    /// Each of them, oldest first.
    pub shares: Vec<LinkedShare>,
}

/// A share, and what to pass on to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkedShare {
    /// The share.
    #[serde(flatten)]
    pub share: ShareInfo,
    /// Its link, in the short form where it has one.
    pub link: String,
    /// Its link in the form that can be read and written by hand.
    pub link_long: String,
}

/// One root that this node offers on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareInfo {
    /// The root.
    pub cid: String,
    /// The share's name.
    pub name: String,
    /// Where its bytes are; of a share of several paths, the folder that holds them all.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// The paths that a share of several is made of; none, where `path` is all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub paths: Vec<PathBuf>,
    /// Bytes of all files.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// When it was shared.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// Whether the DHT is told about it.
    pub announce: bool,
    /// Whether others may keep copies of it for others.
    pub replicate: bool,
    /// Whether it is served.
    #[serde(flatten)]
    pub state: ShareState,
    /// Who has got how much of it; not told with events.
    #[serde(default)]
    pub audience: Audience,
    /// After how many copies it ends, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// When it ends, if a time was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires: Option<Timestamp>,
    /// The processes of the commands that it ends with; none for a share of the home.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<u32>,
}

/// After how many copies a share ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Until {
    /// How many peers are to have all of it.
    pub copies: u32,
    /// How many of these there are since it was asked for.
    pub made: u64,
}

/// Whether a share is served: the field `state`, and `changed` with what is no longer as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ShareState {
    /// Served.
    Ok,
    /// It is not known whether its files are as they were: they are looked at again. What matches is
    /// served meanwhile.
    Checking,
    /// No longer served, because a file is not as it was.
    Changed {
        /// Which file, and what about it.
        changed: String,
    },
}

/// A share that was acknowledged and that damage to the database took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LostShare {
    /// Its name.
    pub name: String,
    /// Its root.
    pub cid: String,
    /// What was shared: one path, or the several that it was made of.
    #[schema(value_type = Vec<String>)]
    pub paths: Vec<PathBuf>,
}
