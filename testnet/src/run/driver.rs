//! What a run does to a network, whatever its nodes are: processes, or parts of this process.

use std::path::{Path, PathBuf};

use libp2p::PeerId;
use shoal_net::{NetConfig, emulation::Plan};

use super::record::Helped;
use crate::Error;

/// A network that a scenario is run on; its nodes are numbered as in the scenario, and all of them
/// were started before it is handed to a run.
///
/// Every future may be dropped, which ends what it does; a fetch that is dropped is cancelled.
pub trait Driver: Send + Sync {
    /// Starts a node that does not run, and returns when it sees others; a `fresh` one as a new
    /// node, that knows nothing of what it was.
    fn start(&self, node: usize, fresh: bool) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends a node as `kill -9` does.
    fn kill(&self, node: usize) -> impl Future<Output = Result<(), Error>> + Send;

    /// Has a node share a file or folder, and returns its root when the DHT knows of it.
    fn share(&self, node: usize, path: &Path)
    -> impl Future<Output = Result<String, Error>> + Send;

    /// Has a node fetch a root to exactly this path, by the address alone, and serve the copy if it
    /// `keeps` it; `on_progress` hears how many bytes have landed.
    fn fetch(
        &self,
        node: usize,
        root: &str,
        to: &Path,
        keeps: bool,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> impl Future<Output = Result<Fetched, Error>> + Send;

    /// Has a node look for the providers of a root.
    fn lookup(
        &self,
        node: usize,
        root: &str,
    ) -> impl Future<Output = Result<LookedUp, Error>> + Send;

    /// What a node that runs has counted.
    fn counters(&self, node: usize) -> impl Future<Output = Result<Counters, Error>> + Send;

    /// The memory that all running nodes take together, in bytes; none when nobody says.
    fn memory_bytes(&self) -> Option<u64>;

    /// The memory of the process that all nodes are in before they were, in bytes; none when each
    /// has a process of its own.
    fn memory_before(&self) -> Option<u64>;

    /// Replaces the plan of the emulated links, and returns when it is in force on all nodes that
    /// run.
    fn apply(&self, plan: &Plan) -> impl Future<Output = Result<(), Error>> + Send;

    /// How a node of this number that is no ordinary one joins the network.
    fn net_config(&self, node: usize) -> NetConfig;

    /// Tells whom a node of this number is known as.
    fn meet(&self, node: usize, peer: PeerId);

    /// A folder for what is shared and fetched; it goes with the network.
    fn files(&self) -> &Path;

    /// The log of a node, if it has one of its own.
    fn log(&self, node: usize) -> Option<PathBuf>;
}

/// A network that was started for a run, and ends with it.
pub(crate) trait Network: Driver + Sized {
    /// Ends all nodes, and removes their homes and all files of the run.
    ///
    /// # Errors
    /// The first of what remains.
    async fn down(self) -> Result<(), Error>;

    /// Takes it down because of `cause`, and says what came of that.
    async fn down_after(self, cause: Error) -> Error;

    /// Leaves it as it is, as far as it outlives this process.
    ///
    /// # Errors
    /// When what does not outlive it cannot be ended.
    async fn keep(self) -> Result<(), Error>;
}

/// A fetch that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Who sent how many verified bytes; nobody's number for one who is no node of the scenario.
    pub from: Vec<(Option<usize>, u64)>,
}

/// A lookup that named providers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedUp {
    /// How many.
    pub providers: u32,
    /// Peers that were asked.
    pub asked: u32,
    /// The length of the way to the answer; none when the network does not say.
    pub hops: Option<u32>,
}

/// What a node has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chunk payload sent, in bytes.
    pub uploaded: u64,
    /// Chunk payload received, in bytes.
    pub downloaded: u64,
    /// Connected peers.
    pub peers: usize,
    /// What it did for others.
    pub helped: Helped,
}
