//! The first step of a fetch: reading the shape of a tree.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Tree, assemble,
    summary::{Summary, check_totals, summarise},
};
use crate::{
    address::{Cid, Codec},
    unixfs::{DagError, ENTRIES_MAX, HAMT_DIGITS, Node, TREE_DEPTH_MAX, parse_node},
};

/// Most distinct nodes of one tree: every entry may be one, and the shards of full directories are
/// fewer than their entries.
pub const TREE_NODES_MAX: usize = 2 * ENTRIES_MAX;

/// Most nodes on the way from the root to a node. A directory is at most [`HAMT_DIGITS`] nodes
/// deep, so a tree beyond this would be refused at the end too; here it is refused before it was
/// read.
const NODE_DEPTH_MAX: usize = TREE_DEPTH_MAX * HAMT_DIGITS;

/// Reads every directory, shard, symlink and dag-pb file root below a root.
///
/// Blocks that are reached several times are wanted once. Content is not read: a raw leaf is known
/// by its link, a larger file by its root node.
#[derive(Debug)]
pub struct TreeWalk {
    root: Cid,
    /// Whether unsafe names get others, and do not refuse the tree.
    renames: bool,
    nodes: BTreeMap<Cid, State>,
    /// Wanted nodes that [`TreeWalk::wants`] has not named yet.
    unnamed: VecDeque<Cid>,
    /// Nodes that have not been fed.
    missing: usize,
    /// Entries and text in all distinct nodes read so far.
    entries: usize,
    text_bytes: usize,
    /// What the root claims to hold, once it was read.
    claimed_bytes: Option<u64>,
}

#[derive(Debug)]
enum State {
    /// Wanted, at this many nodes below the root.
    Wanted(usize),
    Read(Summary),
}

/// What is known of a tree's size while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Entries found so far; those of a directory that is in several places are counted once.
    pub entries: usize,
    /// What the root claims to hold, in bytes: exact for a file, with the size of nodes included
    /// for a directory. `None` until the root was read, and for a root that is a raw leaf.
    pub bytes: Option<u64>,
}

impl TreeWalk {
    /// Starts at a root.
    ///
    /// # Errors
    /// [`DagError`] if the root's content stands in its address and is refused.
    pub fn new(root: Cid) -> Result<TreeWalk, DagError> {
        TreeWalk::start(root, false)
    }

    /// Starts at a root, and gives other names to entries of one folder whose own are unsafe or the
    /// same: see [`landing_names`](crate::name::landing_names).
    ///
    /// # Errors
    /// As [`TreeWalk::new`].
    pub fn renaming(root: Cid) -> Result<TreeWalk, DagError> {
        TreeWalk::start(root, true)
    }

    fn start(root: Cid, renames: bool) -> Result<TreeWalk, DagError> {
        let mut walk = TreeWalk {
            root,
            renames,
            nodes: BTreeMap::new(),
            unnamed: VecDeque::new(),
            missing: 0,
            entries: 0,
            text_bytes: 0,
            claimed_bytes: None,
        };
        let root = walk.root.clone();
        walk.discover(&root, 0)?;
        Ok(walk)
    }

    /// Names up to `max` nodes to fetch next, in the order of their discovery.
    ///
    /// Each is named once: fetching it, also from elsewhere if that fails, is then the caller's.
    pub fn wants(&mut self, max: usize) -> Vec<Cid> {
        let count = max.min(self.unnamed.len());
        self.unnamed.drain(..count).collect()
    }

    /// Takes the bytes of a node, which must have been verified against its address. Feeding it
    /// again changes nothing.
    ///
    /// # Errors
    /// [`DagError`] if the DAG is refused, or [`DagError::Unexpected`] if the node is not wanted.
    pub fn feed(&mut self, cid: &Cid, bytes: &[u8]) -> Result<(), DagError> {
        match self.nodes.get(cid) {
            None => Err(DagError::Unexpected(cid.clone())),
            Some(State::Read(_)) => Ok(()),
            Some(State::Wanted(depth)) => {
                let depth = *depth;
                self.read(cid, depth, bytes)?;
                self.missing = self.missing.saturating_sub(1);
                Ok(())
            }
        }
    }

    /// Whether all nodes were fed.
    pub fn is_done(&self) -> bool {
        self.missing == 0
    }

    /// What is known of the tree's size so far.
    pub fn totals_hint(&self) -> Totals {
        Totals {
            entries: self.entries,
            bytes: self.claimed_bytes,
        }
    }

    /// Puts the tree together.
    ///
    /// # Errors
    /// [`DagError`] if the nodes do not make an acceptable tree, or [`DagError::Incomplete`] unless
    /// [`TreeWalk::is_done`].
    pub fn finish(self) -> Result<Tree, DagError> {
        if !self.is_done() {
            return Err(DagError::Incomplete(self.missing));
        }
        let read = |(cid, state)| match state {
            State::Read(summary) => Some((cid, summary)),
            State::Wanted(_) => None,
        };
        let nodes = self.nodes.into_iter().filter_map(read).collect();
        assemble::assemble(&self.root, &nodes, self.renames)
    }

    /// Wants a node unless it is known already. Leaves are not nodes.
    fn discover(&mut self, cid: &Cid, depth: usize) -> Result<(), DagError> {
        if cid.codec() == Codec::Raw || self.nodes.contains_key(cid) {
            return Ok(());
        }
        if depth >= NODE_DEPTH_MAX {
            return Err(DagError::limit("levels in one tree", TREE_DEPTH_MAX));
        }
        if self.nodes.len() >= TREE_NODES_MAX {
            return Err(DagError::limit("nodes in one tree", TREE_NODES_MAX));
        }
        // This recurses only into what stands in ever shorter addresses, at most 128 bytes long.
        if let Some(bytes) = cid.inline() {
            return self.read(cid, depth, bytes);
        }
        self.nodes.insert(cid.clone(), State::Wanted(depth));
        self.unnamed.push_back(cid.clone());
        self.missing = self.missing.saturating_add(1);
        Ok(())
    }

    fn read(&mut self, cid: &Cid, depth: usize, bytes: &[u8]) -> Result<(), DagError> {
        let node = parse_node(bytes)?;
        if *cid == self.root {
            self.claimed_bytes = Some(claimed_bytes(&node));
        }
        let summary = summarise(node, self.renames)?;
        self.entries = self.entries.saturating_add(summary.entries().count());
        self.text_bytes = self.text_bytes.saturating_add(summary.text_bytes());
        check_totals(self.entries, self.text_bytes)?;
        for below in summary.links() {
            self.discover(below, depth.saturating_add(1))?;
        }
        self.nodes.insert(cid.clone(), State::Read(summary));
        Ok(())
    }
}

/// What a root says its content takes, in bytes.
fn claimed_bytes(root: &Node) -> u64 {
    match root {
        Node::File(file) => file.size,
        Node::Directory { entries, .. } => entries
            .iter()
            .map(|entry| entry.tsize)
            .fold(0, u64::saturating_add),
        Node::Shard { slots, .. } => slots
            .iter()
            .map(|slot| slot.tsize)
            .fold(0, u64::saturating_add),
        Node::Symlink { .. } => 0,
    }
}
