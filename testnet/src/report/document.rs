//! What is in a report: the fields of `report.json`.

use std::path::PathBuf;

use serde::Serialize;

use crate::{evil::Deeds, scenario::Compare};

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The format of this document.
    pub version: u32,
    /// The scenario.
    pub scenario: String,
    /// What it shows.
    pub description: String,
    /// What chance was drawn from.
    pub seed: u64,
    /// What the nodes were.
    pub mode: String,
    /// Whether everything held that was asserted.
    pub passed: bool,
    /// How long the timeline took.
    pub elapsed_ms: u64,
    /// Whether it was ended by its limit, with work that was not done.
    pub cut_off: bool,
    /// In the order in which they were asserted.
    pub assertions: Vec<Assertion>,
    /// The sums of the run.
    pub totals: Totals,
    /// What the configuration of the nodes says, key by key.
    pub settings: Vec<String>,
    /// The run that it is compared with.
    pub compared: Option<Compared>,
    /// By their numbers.
    pub nodes: Vec<Node>,
    /// What was shared.
    pub contents: Vec<Content>,
    /// What was done to the network, in order.
    pub happenings: Vec<Happening>,
    /// In the order in which they began.
    pub fetches: Vec<Fetch>,
    /// In the order in which they ended.
    pub lookups: Vec<Lookup>,
    /// What was measured now and then.
    pub samples: Vec<Sample>,
}

/// The run that a run is compared with: the same choices of chance, and other settings.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// What it is called.
    pub name: String,
    /// What the configuration of its nodes says besides that of the scenario.
    pub settings: Vec<String>,
    /// Whether nodes do wrong in it as in the scenario; otherwise they are ordinary ones.
    pub evil: bool,
    /// How long its timeline took.
    pub elapsed_ms: u64,
    /// Whether it was ended by its limit, with work that was not done.
    pub cut_off: bool,
    /// Its sums.
    pub totals: Totals,
    /// In the order in which they began.
    pub fetches: Vec<Fetch>,
}

impl Compared {
    /// The run that `report` is of.
    pub(crate) fn of(compare: &Compare, report: Report) -> Self {
        Self {
            name: compare.name.clone(),
            settings: compare.settings.iter().map(ToString::to_string).collect(),
            evil: compare.evil,
            elapsed_ms: report.elapsed_ms,
            cut_off: report.cut_off,
            totals: report.totals,
            fetches: report.fetches,
        }
    }
}

/// Something that had to hold.
#[derive(Clone, Debug, Serialize)]
pub struct Assertion {
    /// What, as it was written.
    pub that: String,
    /// Of which time; the end without one.
    pub at_ms: Option<u64>,
    /// Whether it holds.
    pub held: bool,
    /// What had to be.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// Where it went wrong; empty when it holds.
    pub because: String,
    /// The logs to read.
    pub logs: Vec<PathBuf>,
}

/// The sums of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Fetches that were begun.
    pub fetches: usize,
    /// Fetches whose copies are what was shared.
    pub identical: usize,
    /// Payload that fetches took.
    pub fetched_bytes: u64,
    /// Of this what came from owners.
    pub from_owners_bytes: u64,
    /// What came from other nodes of the scenario.
    pub from_peers_bytes: u64,
    /// What came from nodes that do wrong.
    pub from_evil_bytes: u64,
    /// Half of all fetches took less.
    pub fetch_median_ms: Option<u64>,
    /// The longest fetch.
    pub fetch_max_ms: Option<u64>,
    /// Lookups that were made.
    pub lookups: usize,
    /// Lookups that named a provider.
    pub lookups_found: usize,
    /// Half of all lookups took less.
    pub lookup_median_ms: Option<u64>,
    /// 19 of 20 lookups took less.
    pub lookup_p95_ms: Option<u64>,
    /// Half of all lookups took fewer hops.
    pub hops_median: Option<u64>,
    /// 19 of 20 lookups took fewer hops.
    pub hops_p95: Option<u64>,
    /// Memory per node at the end.
    pub memory_per_node_bytes: Option<u64>,
}

/// A node of the scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Where it is.
    pub region: Option<String>,
    /// What it does wrong.
    pub evil: Option<String>,
    /// Whether it was up at the end.
    pub up: bool,
    /// What it has done wrong.
    pub deeds: Option<Deeds>,
    /// Payload that it sent.
    pub sent_bytes: u64,
}

/// Something that was shared.
#[derive(Clone, Debug, Serialize)]
pub struct Content {
    /// Its name.
    pub name: String,
    /// Who shared it.
    pub owner: String,
    /// Its bytes.
    pub bytes: u64,
    /// Its files.
    pub files: usize,
}

/// Something that was done to the network.
#[derive(Clone, Debug, Serialize)]
pub struct Happening {
    /// When it was planned.
    pub planned_ms: u64,
    /// When it was done.
    pub done_ms: u64,
    /// What.
    pub what: String,
    /// Why it could not be done.
    pub error: Option<String>,
}

/// One fetch of one node.
#[derive(Clone, Debug, Serialize)]
pub struct Fetch {
    /// Who.
    pub node: String,
    /// What.
    pub content: String,
    /// When the node was told to.
    pub began_ms: u64,
    /// When it was done.
    pub done_ms: Option<u64>,
    /// `identical`, `different`, `failed`, `unfinished` or `replaced`.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// Who sent how much.
    pub from: Vec<Source>,
}

/// Who sent how much.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// Who; none for one who is no node of the scenario.
    pub node: Option<String>,
    /// How much.
    pub bytes: u64,
}

/// One lookup of one node.
#[derive(Clone, Debug, Serialize)]
pub struct Lookup {
    /// Who.
    pub node: String,
    /// For what.
    pub content: String,
    /// When.
    pub began_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// The length of the way, where the network says.
    pub hops: Option<u32>,
    /// Providers that were named.
    pub providers: Option<u32>,
    /// Why none was.
    pub error: Option<String>,
}

/// What was measured at a time.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// When.
    pub at_ms: u64,
    /// Nodes that were up.
    pub up: usize,
    /// Fetches that were not over.
    pub fetching: usize,
    /// Payload that owners had sent.
    pub sent_by_owners_bytes: u64,
    /// Payload that all others had sent.
    pub sent_by_others_bytes: u64,
    /// Memory of all nodes.
    pub memory_bytes: Option<u64>,
}
