//! Requests, results and progress of the API, one definition for the server and its clients.
//!
//! Sizes are bytes, durations milliseconds, times RFC 3339; CIDs, peer ids and addresses are strings as IPFS and libp2p
//! print them. Requests refuse unknown fields, results may gain some.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

/// A path that means the same in every process: the caller's working directory is nothing that a daemon knows.
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

/// What to share and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    /// Files and folders, at least one; several become one folder that holds them.
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
    /// Answer only when the root is announced, not when it is merely served.
    #[serde(default)]
    pub wait: bool,
}

/// How file bytes are cut into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Chunker {
    /// Chunks of 1 MiB: the published profile.
    #[default]
    Fixed,
    /// Content-defined chunks, for data whose versions share content.
    Cdc,
}

/// The hash function of new addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preserve {
    /// Keep the permission bits.
    pub mode: bool,
    /// Keep the modification time.
    pub mtime: bool,
}

/// How far a share is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareProgress {
    /// What is being done.
    pub phase: SharePhase,
    /// Files read so far.
    pub files: u64,
    /// Files to read; grows while folders are being walked.
    pub files_total: u64,
    /// Bytes read so far.
    pub bytes: u64,
    /// Bytes to read; grows while folders are being walked.
    pub bytes_total: u64,
}

/// What a share is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharePhase {
    /// Looking for files.
    Walking,
    /// Reading and hashing them.
    Hashing,
    /// Writing the index.
    Committing,
    /// Waiting until the DHT knows the root (`wait`).
    Announcing,
}

/// A share that is being served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareResult {
    /// The root.
    pub cid: String,
    /// What to pass on to others.
    pub link: String,
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
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
    /// What the person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Something that is not part of a share although it lies in a shared folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path, relative to the shared folder.
    pub path: String,
    /// Why it was left out.
    pub reason: String,
}

/// What to stop sharing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnshareRequest {
    /// Every share of this root.
    Cid(String),
    /// The share whose source is this path.
    Path(AbsolutePath),
}

/// The shares that are no longer served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unshared {
    /// Each of them, as it was.
    pub removed: Vec<ShareInfo>,
}

/// The node's shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Each of them, oldest first.
    pub shares: Vec<ShareInfo>,
}

/// One root that this node offers on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareInfo {
    /// The root.
    pub cid: String,
    /// The share's name.
    pub name: String,
    /// Where its bytes are.
    pub path: PathBuf,
    /// Bytes of all files.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// When it was shared.
    pub created: Timestamp,
    /// Whether the DHT is told about it.
    pub announce: bool,
    /// Whether it is served.
    #[serde(flatten)]
    pub state: ShareState,
}

/// Whether a share is served: the field `state`, and `changed` with what is no longer as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ShareState {
    /// Served.
    Ok,
    /// No longer served, because a file is not as it was.
    Changed {
        /// Which file, and what about it.
        changed: String,
    },
}

/// What to fetch and where to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The link as it was given.
    pub link: String,
    /// Where it shall land.
    pub destination: Destination,
    /// Peers to ask first, besides those in the link.
    #[serde(default)]
    pub peers: Vec<Multiaddr>,
    /// Replace what is there; folders are merged file by file.
    #[serde(default)]
    pub overwrite: bool,
    /// Answer only when the bytes are flushed to disk.
    #[serde(default)]
    pub sync: bool,
    /// Longest time without progress before the fetch gives up.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u64,
}

/// 60 s: the documented default of `--timeout`.
pub const TIMEOUT_MS_DEFAULT: u64 = 60_000;

fn timeout_ms_default() -> u64 {
    TIMEOUT_MS_DEFAULT
}

/// Where a fetch lands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// In this folder, under the share's name; the folder is made when it is missing.
    Into(AbsolutePath),
    /// At exactly this path.
    At(AbsolutePath),
}

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchProgress {
    /// What is being done.
    pub phase: FetchPhase,
    /// Verified bytes, those found on disk included.
    pub bytes: u64,
    /// Bytes of the whole fetch, once known.
    pub bytes_total: Option<u64>,
    /// Files that are complete.
    pub files: u64,
    /// Files of the whole fetch, once known.
    pub files_total: Option<u64>,
    /// Verified bytes per second, lately.
    pub rate: u64,
    /// Providers that bytes come from.
    pub sources: u32,
    /// Peers that were asked for providers.
    pub asked: u32,
}

/// What a fetch is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FetchPhase {
    /// Looking for providers.
    Finding,
    /// Reading the tree of names and sizes.
    Listing,
    /// Moving file bytes.
    Fetching,
    /// Renaming into place and recording.
    Landing,
}

/// A fetch that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchResult {
    /// The root.
    pub cid: String,
    /// Where it landed.
    pub path: PathBuf,
    /// Bytes of all files.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// Time from request to answer.
    pub elapsed_ms: u64,
    /// Bytes that came from other peers, this time.
    pub downloaded_bytes: u64,
    /// Bytes that an earlier, interrupted fetch had landed.
    pub resumed_bytes: u64,
    /// Bytes that were copied from other shares on this disk.
    pub local_bytes: u64,
    /// Entries that were listed and not made, such as links that leave the destination.
    pub skipped: u64,
    /// Who sent how much.
    pub from: Vec<Source>,
    /// What the person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// What one peer contributed to a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Who.
    pub peer: PeerId,
    /// Verified bytes.
    pub bytes: u64,
}

/// Whose tree to list without fetching its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// The link as it was given.
    pub link: String,
    /// Peers to ask first, besides those in the link.
    #[serde(default)]
    pub peers: Vec<Multiaddr>,
    /// Longest time without progress before it gives up.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u64,
}

/// How far a listing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListProgress {
    /// Entries seen so far.
    pub entries: u64,
    /// Peers that were asked for providers.
    pub asked: u32,
}

/// The tree behind a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The root.
    pub cid: String,
    /// The name in the link, if it has one.
    pub name: Option<String>,
    /// Bytes of all files.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// Parents before children, siblings by their bytes.
    pub entries: Vec<ListEntry>,
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Its path below the root, parts joined by `/`; empty when the root is a bare file.
    pub path: String,
    /// Its size in bytes; none for folders and links.
    pub size: Option<u64>,
    /// Its own address; none for links.
    pub cid: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What an entry of a tree is: the field `kind`, and `target` for links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
}

/// Whose providers to look for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindRequest {
    /// The link as it was given.
    pub link: String,
    /// Longest time without progress before it gives up.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u64,
}

/// How far a search is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindProgress {
    /// Providers found so far.
    pub providers: u32,
    /// Peers that were asked.
    pub asked: u32,
}

/// Who provides a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The root.
    pub cid: String,
    /// At least one; nearest first.
    pub providers: Vec<Provider>,
    /// Peers that were asked.
    pub asked: u32,
}

/// A peer that says it can serve (part of) a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Who.
    pub peer: PeerId,
    /// Where it can be reached.
    pub addresses: Vec<Multiaddr>,
    /// Whether it has everything; unknown when it did not answer.
    pub complete: Option<bool>,
    /// The half-open ranges of leaves that a partial provider has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(u64, u64)>,
    /// How far away it is; unknown when it did not answer.
    pub rtt_ms: Option<u64>,
}

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Where it listens, best with its peer id at the end (`/p2p/…`).
    pub address: Multiaddr,
}

/// A peer that this node is now connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// Who it turned out to be.
    pub peer_id: PeerId,
    /// The address that was dialled.
    pub address: Multiaddr,
}

/// The peers that this node is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// Each of them, nearest first.
    pub peers: Vec<Peer>,
}

/// A peer that this node is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Who.
    pub peer_id: PeerId,
    /// The addresses in use.
    pub addresses: Vec<Multiaddr>,
    /// What it says it runs.
    pub agent: Option<String>,
    /// How far away it is, once measured.
    pub rtt_ms: Option<u64>,
    /// Who dialled.
    pub direction: Direction,
    /// How long the oldest connection lasts.
    pub connected_ms: u64,
}

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The other peer.
    Inbound,
    /// This node.
    Outbound,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its peer id.
    pub peer_id: PeerId,
    /// Where it can be reached, each with the peer id at the end.
    pub addresses: Vec<Multiaddr>,
    /// Its home.
    pub home: PathBuf,
    /// The program's version.
    pub version: String,
}

/// How the node is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Who this node is.
    pub peer_id: PeerId,
    /// The program's version.
    pub version: String,
    /// The network it belongs to.
    pub network: String,
    /// Time since it started.
    pub uptime_ms: u64,
    /// Where it can be reached, each with the peer id at the end.
    pub addresses: Vec<Multiaddr>,
    /// Who can reach it.
    pub scope: Scope,
    /// The peers it is connected to.
    pub peers: Vec<Peer>,
    /// What it offers.
    pub shares: Vec<ShareInfo>,
    /// The fetches in progress.
    pub transfers: Vec<Transfer>,
    /// What it holds for others.
    pub replicas: Replicas,
    /// Chunk payload sent since the start.
    pub uploaded_bytes: u64,
    /// Chunk payload received since the start.
    pub downloaded_bytes: u64,
    /// Bytes per second, lately.
    pub rates: Rates,
    /// The disk that the home is on.
    pub disk: Disk,
    /// What the person should look after, one sentence each.
    pub warnings: Vec<String>,
}

/// The widest circle that can reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Programs on the same machine.
    Loopback,
    /// Machines on the same network.
    Lan,
    /// Everybody.
    Public,
}

/// A fetch in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its number, unique in this home.
    pub id: u64,
    /// The root.
    pub cid: String,
    /// Its name.
    pub name: String,
    /// How far it is.
    #[serde(flatten)]
    pub progress: FetchProgress,
}

/// What the node holds for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// Bytes held.
    pub bytes: u64,
    /// Bytes it may hold.
    pub quota: u64,
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Sent.
    pub up: u64,
    /// Received.
    pub down: u64,
}

/// The space of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes free for this user.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// The answer to a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The process that is going to end.
    pub pid: u32,
}

/// One line of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        error: super::ApiError,
    },
}
