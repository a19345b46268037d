//! Fetching, and looking at what could be fetched: listing a tree, finding its providers.

use std::{borrow::Cow, fmt, path::PathBuf};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, OneOfBuilder, RefOr, Schema, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use super::{
    AbsolutePath, Nearness,
    schema::{Address, LinkText},
    whole::Whole,
};

/// What to fetch and where to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The link as it was given.
    #[schema(value_type = LinkText)]
    pub link: String,
    /// Where it shall land.
    pub destination: Destination,
    /// Peers to ask first, besides those in the link.
    #[serde(default)]
    #[schema(value_type = Vec<Address>)]
    pub peers: Vec<Multiaddr>,
    /// Glob patterns of what to fetch of a folder, compared with paths below what the link leads
    /// to; a folder that matches takes all below it. Everything without any. What lands is not
    /// served then: it is not what its root says.
    #[serde(default)]
    pub only: Vec<String>,
    /// Replace what is there; folders are merged file by file.
    #[serde(default)]
    pub overwrite: bool,
    /// Give other names to what cannot keep its own, instead of refusing the whole.
    #[serde(default)]
    pub rename_unsafe: bool,
    /// Leave what has landed to the person alone: it is not served, and not known afterwards.
    #[serde(default)]
    pub no_serve: bool,
    /// Answer only when the bytes are flushed to disk.
    #[serde(default)]
    pub sync: bool,
    /// Longest time without a byte until the first block has come. The fetch gives up then, and at
    /// once when everybody who could be asked says no.
    #[serde(default = "timeout_ms_default", deserialize_with = "wait_ms")]
    #[schema(minimum = 1, maximum = 31_622_400_000_u64)]
    pub timeout_ms: u64,
    /// Longest time without a byte from then on: the fetch waits for a provider to come back.
    #[serde(default = "patience_ms_default", deserialize_with = "wait_ms")]
    #[schema(minimum = 1, maximum = 31_622_400_000_u64)]
    pub patience_ms: u64,
}

/// 60 s: the documented default of `--timeout`.
pub const TIMEOUT_MS_DEFAULT: u64 = 60_000;

/// 15 min: the documented default of `--patience`.
pub const PATIENCE_MS_DEFAULT: u64 = 900_000;

/// A leap year: the longest time that somebody may ask to wait.
pub const WAIT_MS_MAX: u64 = 366 * 86_400_000;

/// A time to wait, of 1 ms to [`WAIT_MS_MAX`].
fn wait_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let ms = Whole::deserialize(deserializer)?;
    ms.within(&(1..=WAIT_MS_MAX), "a time to wait, in milliseconds,")
}

fn timeout_ms_default() -> u64 {
    TIMEOUT_MS_DEFAULT
}

fn patience_ms_default() -> u64 {
    PATIENCE_MS_DEFAULT
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

// A derived one would not say that there is one of the two and nothing beside it.
impl PartialSchema for Destination {
    fn schema() -> RefOr<Schema> {
        let way = |name: &str, description: &str| {
            ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::Object))
                .property(name, AbsolutePath::schema())
                .required(name)
                .additional_properties(Some(AdditionalProperties::FreeForm(false)))
                .description(Some(description))
        };
        let into = "In this folder, under the share's name; the folder is made when it is missing";
        let ways = OneOfBuilder::new().item(way("into", into));
        let ways = ways.item(way("at", "At exactly this path"));
        ways.description(Some("Where a fetch lands")).into()
    }
}

impl ToSchema for Destination {
    fn name() -> Cow<'static, str> {
        "Destination".into()
    }
}

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchProgress {
    /// What is being done.
    pub phase: FetchPhase,
    /// Bytes that are here: those that were verified, and those of blocks that are still coming in or
    /// being verified. A block that turns out bad, or is lost on its way, is taken back.
    pub bytes: u64,
    /// Verified bytes, those found on disk included: what a fetch that is interrupted now keeps.
    pub verified_bytes: u64,
    /// Bytes of the whole fetch, once known.
    #[schema(required)]
    pub bytes_total: Option<u64>,
    /// Files that are complete.
    pub files: u64,
    /// Files of the whole fetch, once known.
    #[schema(required)]
    pub files_total: Option<u64>,
    /// Bytes that come from other peers per second, over the last seconds; 0 when none do. What was
    /// there before, or is found on this disk, is not among them.
    pub rate: u64,
    /// How long the rest takes at this rate, in milliseconds; unknown while there is no rate to tell
    /// it by, and when it would be over a month.
    #[schema(required)]
    pub eta_ms: Option<u64>,
    /// Providers that have delivered something in the last seconds.
    pub sources: u32,
    /// Peers that were asked for the content.
    pub asked: u32,
    /// How long no byte has come, where the fetch has begun and waits for a provider.
    #[schema(required)]
    pub waiting_ms: Option<u64>,
}

/// How far the transfer of a fetch is that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchUpdate {
    /// The number of the transfer.
    pub transfer: u64,
    /// How far it is.
    #[serde(flatten)]
    pub progress: FetchProgress,
}

/// What a fetch is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

impl fmt::Display for FetchPhase {
    /// As in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A fetch that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FetchResult {
    /// The root.
    pub cid: String,
    /// Where it landed.
    #[schema(value_type = String)]
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
    /// Bytes that were copied on this disk: from other shares, or from one place of what is fetched
    /// to another that holds the same. Zeros, which no peer is asked for, count here too.
    pub local_bytes: u64,
    /// Files and links of the tree that were not made: those that `only` leaves out, links that
    /// leave the destination, and links where the file system has none.
    pub skipped: u64,
    /// What the file system of the destination did not keep; a warning says so.
    pub unkept: Unkept,
    /// What has landed under another name; a warning says how many more there are.
    pub renamed: Vec<Renamed>,
    /// Who sent how much.
    pub from: Vec<Source>,
    /// What the person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// What a file system did not keep of a tree, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unkept {
    /// Symbolic links that were not made, as it has none.
    pub symlinks: u64,
    /// Files and folders that have other permissions than they were shared with.
    pub modes: u64,
    /// Files, folders and links that have another modification time than they were shared with.
    pub times: u64,
}

/// An entry that could not keep its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Renamed {
    /// Its path in the tree, with what cannot be printed escaped.
    pub from: String,
    /// Its path below the destination.
    pub to: String,
}

/// What one peer contributed to a fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// Who.
    #[schema(value_type = String)]
    pub peer: PeerId,
    /// Verified bytes.
    pub bytes: u64,
}

/// Which file's bytes to send.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CatRequest {
    /// The link as it was given; it has to lead to a file, or `only` to one in it.
    #[schema(value_type = LinkText)]
    pub link: String,
    /// Glob patterns of which file to send of a folder: exactly one has to match.
    #[serde(default)]
    pub only: Vec<String>,
    /// Peers to ask first, besides those in the link.
    #[serde(default)]
    #[schema(value_type = Vec<Address>)]
    pub peers: Vec<Multiaddr>,
    /// Longest time without a byte until the first block has come; a reader that waits does not
    /// count.
    #[serde(default = "timeout_ms_default", deserialize_with = "wait_ms")]
    #[schema(minimum = 1, maximum = 31_622_400_000_u64)]
    pub timeout_ms: u64,
    /// Longest time without a byte from then on.
    #[serde(default = "patience_ms_default", deserialize_with = "wait_ms")]
    #[schema(minimum = 1, maximum = 31_622_400_000_u64)]
    pub patience_ms: u64,
}

/// A file whose bytes were all sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatResult {
    /// The file's own root.
    pub cid: String,
    /// Bytes.
    pub size: u64,
    /// Time from request to the last byte.
    pub elapsed_ms: u64,
    /// Bytes that came from other peers.
    pub downloaded_bytes: u64,
    /// Bytes that were read from shares on this disk.
    pub local_bytes: u64,
    /// Who sent how much.
    pub from: Vec<Source>,
}

/// Whose tree to list without fetching its files.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// The link as it was given.
    #[schema(value_type = LinkText)]
    pub link: String,
    /// Peers to ask first, besides those in the link.
    #[serde(default)]
    #[schema(value_type = Vec<Address>)]
    pub peers: Vec<Multiaddr>,
    /// Longest time without an answer that helps before it gives up.
    #[serde(default = "timeout_ms_default", deserialize_with = "wait_ms")]
    #[schema(minimum = 1, maximum = 31_622_400_000_u64)]
    pub timeout_ms: u64,
}

/// How far a listing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListProgress {
    /// Entries seen so far.
    pub entries: u64,
    /// Peers that were asked for providers.
    pub asked: u32,
}

/// The tree behind a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listing {
    /// The root.
    pub cid: String,
    /// The name in the link, if it has one.
    #[schema(required)]
    pub name: Option<String>,
    /// Bytes of all files; none while nobody knows: a single file of one chunk is named by its content
    /// alone.
    #[schema(required)]
    pub size: Option<u64>,
    /// Files.
    pub files: u64,
    /// Parents before children, siblings by their bytes.
    pub entries: Vec<ListEntry>,
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListEntry {
    /// Its path below the root, parts joined by `/`; empty when the root is a bare file.
    pub path: String,
    /// Its size in bytes; none for folders and links.
    #[schema(required)]
    pub size: Option<u64>,
    /// Its own address; none for links.
    #[schema(required)]
    pub cid: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
}

/// What an entry of a tree is: the field `kind`, and `target` for links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindRequest {
    /// The link as it was given.
    #[schema(value_type = LinkText)]
    pub link: String,
    /// Longest time without an answer that helps before it gives up.
    #[serde(default = "timeout_ms_default", deserialize_with = "wait_ms")]
    #[schema(minimum = 1, maximum = 31_622_400_000_u64)]
    pub timeout_ms: u64,
}

/// How far a search is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindProgress {
    /// Providers found so far.
    pub providers: u32,
    /// Peers that were asked.
    pub asked: u32,
}

/// Who provides a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// The root.
    pub cid: String,
    /// At least one; nearest first.
    pub providers: Vec<Provider>,
    /// Peers that were asked.
    pub asked: u32,
}

/// A peer that says it can serve (part of) a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provider {
    /// Who.
    #[schema(value_type = String)]
    pub peer: PeerId,
    /// Where it can be reached.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Multiaddr>,
    /// Whether it has everything; unknown when it did not answer.
    #[schema(required)]
    pub complete: Option<bool>,
    /// The half-open ranges of leaves that a partial provider has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(u64, u64)>,
    /// How far away it is; unknown when it did not answer.
    #[schema(required)]
    pub rtt_ms: Option<u64>,
    /// How near it is; unknown when it is not connected, or was not measured yet.
    #[schema(required)]
    pub nearness: Option<Nearness>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_a_whole_number_however_it_is_written() {
        #[track_caller]
        fn check(written: &str, expected: Option<u64>) {
            let request = format!(r#"{{"link":"x","timeout_ms":{written}}}"#);
            let request = serde_json::from_str::<FindRequest>(&request);
            assert_eq!(request.ok().map(|it| it.timeout_ms), expected, "{written}");
        }
        check("1", Some(1));
        check("1053.0", Some(1_053));
        check("1e3", Some(1_000));
        check("31622400000", Some(WAIT_MS_MAX));
        check("31622400001", None);
        check("31622400000.5", None);
        check("0.0", None);
        check("-1.0", None);
        check("-1", None);
        check("1e300", None);
        check("\"1\"", None);
        check("null", None);
    }
}
