//! What is known in memory of what is stored: which pieces there are, which of their blocks were
//! hashed, and the numbers that people see.
//!
//! A piece is in the books exactly while its bytes may be read: it comes in when its rows are
//! written, and goes before they are deleted. About 200 bytes for each run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use shoal_protocol::exchange::LeafRanges;
use shoal_protocol::replicate::cache::{RunId, Why};
use shoal_protocol::replicate::{Key, Shape};

use super::Cause;
use super::rows::{Part, PieceId, RootRow, millis};

/// What is held of one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaInfo {
    /// The root's key.
    pub key: Key,
    /// How many leaves the root has, as the peer said that offered it.
    pub leaves: u64,
    /// How many bytes they have.
    pub size: u64,
    /// The bytes that are stored here, nodes included.
    pub bytes: u64,
    /// How many runs are stored.
    pub runs: u64,
    /// Which leaves.
    pub held: LeafRanges,
    /// When it was first pulled, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often another reader read another part of it.
    pub reads: u64,
    /// When it was last read or added to, in milliseconds since the Unix epoch.
    pub used_ms: u64,
    /// What caused it.
    pub cause: Cause,
}

/// The numbers of the store; those that count are of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStats {
    /// Roots of which something is stored.
    pub roots: u64,
    /// Runs that are stored.
    pub runs: u64,
    /// What is held counts as so many bytes.
    pub used: u64,
    /// How much that may be.
    pub quota: u64,
    /// Bytes that stay free on the disk.
    pub floor: u64,
    /// Bytes that are free there.
    pub disk_free: u64,
    /// Runs that came in.
    pub admitted_runs: u64,
    /// Their bytes.
    pub admitted_bytes: u64,
    /// Bytes that peers read.
    pub served_bytes: u64,
    /// Runs that were let go of, by the reason.
    pub gone: BTreeMap<Why, u64>,
    /// Pieces whose bytes were damaged.
    pub damaged: u64,
}

#[derive(Default)]
pub(super) struct Books {
    roots: BTreeMap<Key, Root>,
    /// Of each piece that may be read, which blocks were hashed, one bit each.
    pieces: HashMap<u64, u64>,
    /// Runs and roots whose rows do not say what reads have changed.
    dirty_runs: BTreeSet<RunId>,
    dirty_roots: BTreeSet<Key>,
    counted: ReplicaStats,
}

struct Root {
    row: RootRow,
    used_ms: u64,
    /// The number of the piece and the bytes of each part.
    parts: BTreeMap<Part, (u64, u64)>,
    /// Whether its row is in the database.
    is_saved: bool,
}

impl Root {
    fn runs(&self) -> impl Iterator<Item = u64> {
        self.parts.keys().filter_map(|part| match part {
            Part::Run(run) => Some(*run),
            Part::Nodes(_) => None,
        })
    }

    fn held(&self) -> LeafRanges {
        self.row.shape().ranges(self.runs())
    }
}

impl Books {
    /// Takes note of a root that is going to be pulled.
    pub(super) fn open_root(&mut self, key: Key, shape: Shape, cause: Cause, now: Duration) {
        let row = RootRow {
            leaves: shape.leaves,
            size: shape.size,
            since_ms: millis(now),
            cause,
            reads: 0,
        };
        let root = self.roots.entry(key).or_insert(Root {
            row,
            used_ms: millis(now),
            parts: BTreeMap::new(),
            is_saved: false,
        });
        let RootRow { leaves, size, .. } = row;
        if root.row.leaves != leaves || root.row.size != size {
            // Another offer says something else of the root; the helper goes by the last one.
            (root.row.leaves, root.row.size) = (leaves, size);
            root.is_saved = false;
        }
    }

    /// Brings back a root that a row tells of.
    pub(super) fn restore_root(&mut self, key: Key, row: RootRow) {
        let used_ms = row.since_ms;
        let root = Root {
            row,
            used_ms,
            parts: BTreeMap::new(),
            is_saved: true,
        };
        self.roots.insert(key, root);
    }

    /// The row of a root that is pulled or held, and whether the database has it.
    pub(super) fn root(&self, key: Key) -> Option<(RootRow, bool)> {
        self.roots.get(&key).map(|it| (it.row, it.is_saved))
    }

    /// A piece may be read from now on.
    pub(super) fn put_piece(&mut self, id: PieceId, number: u64, bytes: u64, used: Duration) {
        let Some(root) = self.roots.get_mut(&id.key) else {
            return;
        };
        root.is_saved = true;
        root.used_ms = root.used_ms.max(millis(used));
        root.parts.insert(id.part, (number, bytes));
        self.pieces.insert(number, 0);
    }

    /// Counts a run that came in; `None` for a root that is not in the books.
    pub(super) fn admitted(&mut self, key: Key, bytes: u64) -> Option<Cause> {
        self.counted.admitted_runs += 1;
        self.counted.admitted_bytes = self.counted.admitted_bytes.saturating_add(bytes);
        Some(self.roots.get(&key)?.row.cause)
    }

    pub(super) fn has(&self, id: PieceId) -> bool {
        let root = self.roots.get(&id.key);
        root.is_some_and(|it| it.parts.contains_key(&id.part))
    }

    /// A run may not be read any more; `false` if it was not there.
    pub(super) fn remove_run(&mut self, id: RunId, why: Why) -> bool {
        self.dirty_runs.remove(&id);
        let root = self.roots.get_mut(&id.key);
        let piece = root.and_then(|it| it.parts.remove(&Part::Run(id.run)));
        let Some((number, _)) = piece else {
            return false;
        };
        self.pieces.remove(&number);
        *self.counted.gone.entry(why).or_default() += 1;
        true
    }

    /// Nothing of a root may be read any more; `false` if nothing was there. What is known of it
    /// stays while it is pulled.
    pub(super) fn remove_root(&mut self, key: Key, is_pulling: bool) -> bool {
        let Some(root) = self.roots.get_mut(&key) else {
            return false;
        };
        let parts = std::mem::take(&mut root.parts);
        for (number, _) in parts.values() {
            self.pieces.remove(number);
        }
        let was_saved = std::mem::replace(&mut root.is_saved, false);
        self.dirty_roots.remove(&key);
        if !is_pulling {
            self.roots.remove(&key);
        }
        was_saved
    }

    /// Forgets a root whose pull has left nothing.
    pub(super) fn close_root(&mut self, key: Key) {
        if self.roots.get(&key).is_some_and(|it| it.parts.is_empty()) {
            self.roots.remove(&key);
            self.dirty_roots.remove(&key);
        }
    }

    /// Whether a piece may be read.
    pub(super) fn is_readable(&self, piece: u64) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// Whether a block of a piece was hashed.
    pub(super) fn is_hashed(&self, piece: u64, index: u8) -> bool {
        let hashed = self.pieces.get(&piece);
        hashed.is_some_and(|hashed| hashed & bit(index) != 0)
    }

    pub(super) fn hashed(&mut self, piece: u64, index: u8) {
        if let Some(hashed) = self.pieces.get_mut(&piece) {
            *hashed |= bit(index);
        }
    }

    pub(super) fn damaged(&mut self) {
        self.counted.damaged += 1;
    }

    pub(super) fn served(&mut self, id: RunId, bytes: u64, is_new: bool, now: Duration) {
        self.counted.served_bytes = self.counted.served_bytes.saturating_add(bytes);
        let Some(root) = self.roots.get_mut(&id.key) else {
            return;
        };
        root.used_ms = root.used_ms.max(millis(now));
        if root.parts.contains_key(&Part::Run(id.run)) {
            self.dirty_runs.insert(id);
        }
        if is_new {
            root.row.reads = root.row.reads.saturating_add(1);
            if root.is_saved {
                self.dirty_roots.insert(id.key);
            }
        }
    }

    /// What reads have changed since the last time.
    pub(super) fn take_dirty(&mut self) -> (BTreeSet<RunId>, Vec<(Key, RootRow)>) {
        let roots = std::mem::take(&mut self.dirty_roots).into_iter();
        let roots = roots.filter_map(|key| Some((key, self.roots.get(&key)?.row)));
        let roots = roots.collect();
        (std::mem::take(&mut self.dirty_runs), roots)
    }

    pub(super) fn held(&self, key: Key) -> Option<LeafRanges> {
        let held = self.roots.get(&key)?.held();
        (!held.is_empty()).then_some(held)
    }

    pub(super) fn holdings(&self, after: Option<Key>, limit: usize) -> Vec<(Key, LeafRanges)> {
        let behind = self.roots.range((
            after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
            std::ops::Bound::Unbounded,
        ));
        let held = behind.map(|(key, root)| (*key, root.held()));
        held.filter(|(_, held)| !held.is_empty())
            .take(limit)
            .collect()
    }

    pub(super) fn list(&self) -> Vec<ReplicaInfo> {
        let held = self.roots.iter().filter(|(_, root)| !root.parts.is_empty());
        let mut list: Vec<_> = held
            .map(|(key, root)| ReplicaInfo {
                key: *key,
                leaves: root.row.leaves,
                size: root.row.size,
                bytes: root.parts.values().map(|(_, bytes)| bytes).sum(),
                runs: root.runs().count() as u64,
                held: root.held(),
                since_ms: root.row.since_ms,
                reads: root.row.reads,
                used_ms: root.used_ms,
                cause: root.row.cause,
            })
            .collect();
        list.sort_by_key(|it| (std::cmp::Reverse(it.since_ms), it.key));
        list
    }

    /// The keys of all roots that are held or pulled.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.roots.keys().copied().collect()
    }

    pub(super) fn stats(&self) -> ReplicaStats {
        let held = self.roots.values().filter(|it| !it.parts.is_empty());
        ReplicaStats {
            roots: held.clone().count() as u64,
            runs: held.map(|it| it.runs().count() as u64).sum(),
            ..self.counted.clone()
        }
    }
}

fn bit(index: u8) -> u64 {
    1_u64.checked_shl(index.into()).unwrap_or_default()
}
