//! What a transfer still needs, found out on a blocking thread.
//!
//! A [`Supply`] runs the two blocking halves of a fetch: [`Supply::list`] reads the tree of names
//! from the root down, and [`Supply::feed`] walks the files of that tree in order. Whatever is on
//! this disk already is used from there (a resumed part, another share); only the rest becomes a
//! [`Need`] for the network side. It never talks to a peer and never blocks the swarm. Both halves
//! end early with [`FetchError::Cancelled`] when the transfer drops its end of the channels.

mod feeder;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, mpsc as blocking},
};

use shoal_protocol::{
    address::{Cid, Codec, Digest},
    link::Link,
    walk::{EntryKind, FileStep, FileWalk, PathStep, PathWalk, Tree, TreeWalk},
};
use shoal_store::{Library, ShareId, Store};
use tokio::sync::mpsc;

pub(super) use self::feeder::whole;

use self::feeder::Feeder;
use super::{
    FetchError,
    journal::LandingJournal,
    landing::{Landing, Target},
    names::Renamed,
    place::{Folder, Unkept},
    progress::Progress,
    zeros::ZeroChunks,
};
use crate::replicate::Reader;

/// Nodes asked for ahead while listing: enough to fill a long link, little enough to stay small
/// (64 directories of at most 256 KiB each).
pub(super) const NODES_ASKED_MAX: usize = 64;

/// Symlinks named to the person that were not made; more of them say nothing new.
pub(super) const SKIPPED_LISTED_MAX: usize = 64;

/// Chunks that are counted to learn how many are zeros: 1 TiB of the usual ones. A few nodes that repeat
/// each other can claim any number, and each that lands takes a row of the database.
const ZERO_LEAVES_MAX: u64 = 1 << 20;

/// What is shown each node of a tree that was read.
pub(super) type OnNode<'a> = dyn FnMut(&Digest, &[u8]) -> Result<(), FetchError> + 'a;

/// Something that is not on this disk.
pub(super) enum Need {
    /// A DAG node; its bytes come back through the channel of verified nodes.
    Node(Digest),
    /// A leaf that is not landed here; its bytes come back like a node's. `leaf` is its number, where
    /// that is known.
    Leaf {
        digest: Digest,
        len: Option<u32>,
        leaf: Option<u64>,
    },
    /// A chunk and where it goes. `len` is exact when the parent block states it, `claimed` what
    /// somebody may have made up.
    Chunk {
        digest: Digest,
        len: Option<u32>,
        claimed: Option<u32>,
        target: Target,
    },
}

/// What [`Supply::feed`] found a tree to hold.
#[derive(Debug, Default)]
pub(super) struct Fed {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) chunks: u64,
    /// Files and links that were not asked for.
    pub(super) left_out: u64,
    pub(super) renamed: Renamed,
    /// Symlinks that lead outside and were not made.
    pub(super) skipped: Skipped,
    /// Symlinks that the file system there does not have.
    pub(super) unmade: Skipped,
    /// Folders that are to have something besides what is in them, each before those in it.
    pub(super) folders: Vec<Folder>,
    /// What the file system has not kept of symlinks.
    pub(super) unkept: Unkept,
}

/// Entries that were not made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// The first 64 of them.
    pub listed: Vec<PathBuf>,
    /// How many there are.
    pub total: u64,
}

impl Skipped {
    fn add(&mut self, path: String) {
        self.total += 1;
        if self.listed.len() < SKIPPED_LISTED_MAX {
            self.listed.push(path.into());
        }
    }
}

/// The blocking side of a transfer.
pub(super) struct Supply {
    pub(super) store: Store,
    pub(super) library: Library,
    /// What this node keeps of the root for others.
    pub(super) replicas: Option<Reader>,
    pub(super) progress: Arc<Progress>,
    /// Keeps what is found for the share in the making; a listing makes none.
    pub(super) journal: Option<Arc<LandingJournal>>,
    /// Whether all of the root is fetched, and not a part of it.
    pub(super) is_whole: bool,
    pub(super) needs: mpsc::Sender<Need>,
    pub(super) nodes: blocking::Receiver<(Digest, Vec<u8>)>,
}

/// What a resumed transfer knows of its earlier run.
pub(super) struct Resume {
    pub(super) share: ShareId,
    /// Whether the journal vouches for the bytes: false after another boot.
    pub(super) trusted: bool,
    /// Whether there was an earlier run at all.
    pub(super) resumed: bool,
}

impl Supply {
    /// Follows the link's path, and reads every name below what it leads to. Nothing has been
    /// written when this returns, and a tree that breaks a limit, or holds an unsafe name unless
    /// that `renames`, is refused whole.
    pub(super) fn list(&self, link: &Link, renames: bool) -> Result<(Cid, Tree), FetchError> {
        let root = self.follow(link)?;
        let tree = self.list_below(&root, renames, &mut |_, _| Ok(()))?;
        Ok((root, tree))
    }

    /// Reads every name below a root, and shows each node once it was read.
    pub(super) fn list_below(
        &self,
        root: &Cid,
        renames: bool,
        on_node: &mut OnNode<'_>,
    ) -> Result<Tree, FetchError> {
        let mut walk = match renames {
            true => TreeWalk::renaming(root.clone())?,
            false => TreeWalk::new(root.clone())?,
        };
        let mut asked: HashMap<Digest, Cid> = HashMap::new();
        while !walk.is_done() {
            for cid in walk.wants(NODES_ASKED_MAX.saturating_sub(asked.len())) {
                // A walk reads inline nodes by itself.
                let Some(digest) = cid.digest() else { continue };
                match self.stored(&digest)? {
                    Some(bytes) => {
                        on_node(&digest, &bytes)?;
                        walk.feed(&cid, &bytes)?;
                    }
                    None => {
                        self.need(Need::Node(digest))?;
                        asked.insert(digest, cid);
                    }
                }
            }
            if !asked.is_empty() {
                let (digest, bytes) = self.nodes.recv().map_err(|_| FetchError::Cancelled)?;
                if let Some(cid) = asked.remove(&digest) {
                    on_node(&digest, &bytes)?;
                    walk.feed(&cid, &bytes)?;
                }
            }
        }
        Ok(walk.finish()?)
    }

    /// The address of what the link's path leads to; the root itself without a path.
    pub(super) fn follow(&self, link: &Link) -> Result<Cid, FetchError> {
        let mut walk = PathWalk::new(link.root.clone(), link.path.clone());
        loop {
            match walk.step()? {
                PathStep::Need(cid) => {
                    let bytes = self.node(&cid)?;
                    walk.feed(&cid, &bytes)?;
                }
                PathStep::Found(cid) => return Ok(cid),
            }
        }
    }

    /// Walks all files of `tree`, lands what is on this disk, and emits the rest as needs. Returns
    /// when everything was emitted; what is in flight then is the transfer's.
    pub(super) fn feed(
        &self,
        tree: &Tree,
        landing: &Landing,
        resume: &Resume,
    ) -> Result<Fed, FetchError> {
        let mut feeder = Feeder::new(self, landing, resume);
        feeder.entry(&[], &tree.root)?;
        for (index, entry) in (0..).zip(&tree.entries) {
            feeder.entry(&tree.path(index), &entry.kind)?;
        }
        Ok(feeder.done())
    }

    /// How many bytes of a tree are chunks of zeros, which take no room where there are holes. The nodes
    /// of its files are read for that; it ends once more than `room` bytes are something else, as it
    /// does not fit then, and after [`ZERO_LEAVES_MAX`].
    pub(super) fn zeros(&self, tree: &Tree, room: u64) -> Result<u64, FetchError> {
        let mut count = ZeroCount::default();
        let kinds = tree.entries.iter().map(|entry| &entry.kind);
        for kind in kinds.chain([&tree.root]) {
            let EntryKind::File { cid, size, .. } = kind else {
                continue;
            };
            match (cid.codec(), cid.digest()) {
                (Codec::Raw, Some(digest)) => count.leaf(&digest, size.unwrap_or(0)),
                (Codec::Raw, None) => {}
                (Codec::DagPb, _) => self.count_zeros(cid, room, &mut count)?,
            }
            if count.others > room || count.leaves >= ZERO_LEAVES_MAX {
                break;
            }
        }
        Ok(count.zeros)
    }

    fn count_zeros(&self, cid: &Cid, room: u64, count: &mut ZeroCount) -> Result<(), FetchError> {
        let mut walk = FileWalk::new(cid.clone());
        while count.others <= room && count.leaves < ZERO_LEAVES_MAX {
            if self.needs.is_closed() {
                return Err(FetchError::Cancelled);
            }
            match walk.step()? {
                FileStep::Need(node) => {
                    let bytes = self.node(&node)?;
                    walk.feed(&node, &bytes)?;
                }
                FileStep::Leaf { len, cid, .. } => {
                    if let Some(digest) = cid.digest() {
                        count.leaf(&digest, len.unwrap_or(0));
                    }
                }
                FileStep::Inline { data, .. } => count.others += data.len() as u64,
                FileStep::Done { .. } => break,
            }
        }
        Ok(())
    }

    pub(super) fn need(&self, need: Need) -> Result<(), FetchError> {
        self.needs
            .blocking_send(need)
            .map_err(|_| FetchError::Cancelled)
    }

    /// A DAG node from the store, kept for this fetch from then on.
    fn stored(&self, digest: &Digest) -> Result<Option<Vec<u8>>, FetchError> {
        let found = self.store.sound_block(digest)?;
        let found = found.or_else(|| self.kept_for_others(digest));
        if let (Some(bytes), Some(journal)) = (&found, &self.journal) {
            journal.keep(digest, bytes)?;
        }
        Ok(found)
    }

    /// The next block that was asked for, verified.
    pub(super) fn received(&self) -> Result<(Digest, Vec<u8>), FetchError> {
        self.nodes.recv().map_err(|_| FetchError::Cancelled)
    }

    /// A block that this node keeps for others, verified.
    pub(super) fn kept_for_others(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.replicas.as_ref()?.read_own(digest)
    }

    /// A DAG node from the store, or from the network by way of the transfer.
    pub(super) fn node(&self, cid: &Cid) -> Result<Vec<u8>, FetchError> {
        if let Some(inline) = cid.inline() {
            return Ok(inline.to_vec());
        }
        let Some(wanted) = cid.digest() else {
            return Ok(Vec::new());
        };
        if let Some(bytes) = self.stored(&wanted)? {
            return Ok(bytes);
        }
        self.need(Need::Node(wanted))?;
        loop {
            let (digest, bytes) = self.nodes.recv().map_err(|_| FetchError::Cancelled)?;
            if digest == wanted {
                return Ok(bytes);
            }
        }
    }
}

/// What chunks hold.
#[derive(Default)]
struct ZeroCount {
    chunks: ZeroChunks,
    /// Bytes of chunks of zeros.
    zeros: u64,
    /// Bytes of all other chunks.
    others: u64,
    /// Chunks.
    leaves: u64,
}

impl ZeroCount {
    fn leaf(&mut self, digest: &Digest, len: u64) {
        let is_zeros = u32::try_from(len).is_ok_and(|len| self.chunks.is(digest, len));
        let of = match is_zeros {
            true => &mut self.zeros,
            false => &mut self.others,
        };
        *of = of.saturating_add(len);
        self.leaves = self.leaves.saturating_add(1);
    }
}
