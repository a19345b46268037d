//! What happened in a run, with the time of everything: what verdicts and reports are made of.

use std::{path::PathBuf, time::Duration};

/// What happened in a run. Times are since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// How long it took.
    pub elapsed: Duration,
    /// Whether it was ended by its limit, with work that was not done.
    pub cut_off: bool,
    /// Every fetch, in the order in which they began.
    pub fetches: Vec<Fetch>,
    /// Every lookup, in the order in which they ended.
    pub lookups: Vec<Lookup>,
    /// What was done to the network, in the order in which it was done.
    pub happenings: Vec<Happening>,
    /// When nodes went and came, in order; all are up at the start.
    pub changes: Vec<Change>,
    /// What was measured now and then, in order.
    pub samples: Vec<Sample>,
    /// Memory of this process before any node was in it, where they are parts of it.
    pub memory_before: Option<u64>,
}

/// One fetch of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// Who.
    pub node: usize,
    /// Of which item of the script.
    pub item: usize,
    /// When the node was told to.
    pub began: Duration,
    /// When it said that it was done.
    pub done: Option<Duration>,
    /// What came of it.
    pub outcome: Outcome,
    /// Who sent how many bytes; nobody's number for one who is no node of the scenario.
    pub from: Vec<(Option<usize>, u64)>,
}

/// What came of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not over when the run was.
    Unfinished,
    /// The node said that it is done; the copy is here, and has not been looked at.
    Landed(PathBuf),
    /// The copy is what was shared.
    Identical,
    /// The copy is not what was shared.
    Different,
    /// The node gave up, and why.
    Failed(String),
    /// A new node took the place of the one that fetched.
    Replaced,
}

/// One lookup of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// Who.
    pub node: usize,
    /// Of which item of the script.
    pub item: usize,
    /// When it began.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// The length of the way to the answer, where the network says.
    pub hops: Option<u32>,
    /// How many providers were named, or why none was.
    pub found: Result<u32, String>,
}

/// Something that was done to the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// When it was planned.
    pub planned: Duration,
    /// When it was done.
    pub done: Duration,
    /// What, in a line.
    pub what: String,
    /// The node that it was done to, if it is one.
    pub node: Option<usize>,
    /// Why it could not be done.
    pub error: Option<String>,
}

/// A node went or came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// Who.
    pub node: usize,
    /// Whether it is up since.
    pub up: bool,
}

/// What the nodes were like at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Nodes that were up.
    pub up: usize,
    /// Fetches that were not over.
    pub fetching: usize,
    /// Payload that each node had sent, in bytes, in all its lives.
    pub sent: Vec<u64>,
    /// Memory of all nodes that were up, in bytes.
    pub memory: Option<u64>,
    /// What each node had done for others.
    pub helped: Vec<Helped>,
}

/// What a node has done for others, in all its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Helped {
    /// Pulls of copies that began.
    pub pulls: u64,
    /// Of these, pulls of what somebody offered without an ask.
    pub offers: u64,
    /// Asks of distinct askers that it has heard.
    pub asks: u64,
    /// Bytes that came in by them.
    pub pulled: u64,
    /// Bytes that it kept for others at the time.
    pub held: u64,
    /// The most that these might be.
    pub quota: u64,
    /// Of what it kept, the bytes of roots that the run has not shared.
    pub strange: u64,
}

impl Record {
    /// Whether a node was up at a time.
    #[must_use]
    pub fn is_up(&self, node: usize, at: Duration) -> bool {
        let mut changes = self.changes.iter().rev();
        changes
            .find(|change| change.node == node && change.at <= at)
            .is_none_or(|change| change.up)
    }

    /// The last sample up to a time.
    #[must_use]
    pub fn sample(&self, at: Duration) -> Option<&Sample> {
        let mut samples = self.samples.iter().rev();
        samples.find(|sample| sample.at <= at)
    }
}

impl Fetch {
    /// How long it took, when it was done by a time.
    #[must_use]
    pub fn took(&self, by: Duration) -> Option<Duration> {
        let done = self.done.filter(|done| *done <= by)?;
        done.checked_sub(self.began)
    }

    /// All bytes that were sent for it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.from.iter().map(|(_, bytes)| bytes).sum()
    }
}
