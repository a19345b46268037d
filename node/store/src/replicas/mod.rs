//! Copies that this node keeps for others: their bytes on the disk, and what is decided about them.
//!
//! [`Replicas`] owns the [`Helper`], which decides, and everything of it that lies on the disk: slab
//! files below `replicas` in the home, and rows of the family `replicas`. A decision and its effect
//! happen in one order, that of the writer, so that no run is let go of before it is stored.
//!
//! What must stay true:
//! 1. Bytes are synced before the row that names them is written, and a row is gone for good before
//!    its bytes are punched out or written over. So a process that is killed, or a disk that loses
//!    its power, leaves no row that names other bytes, and what no row names is punched out at the
//!    next start.
//! 2. Nothing is handed out that is not what its digest says: a block is hashed at its first read in
//!    a process, and a read whose bytes were let go of meanwhile counts as none.
//! 3. With the disk and without the root nobody finds content, names, roots or digests of blocks. All
//!    bytes are sealed ([`seal`](shoal_protocol::replicate::seal)), rows have blinded keys and the
//!    digests of sealed bytes only, and neither logs nor events have more.
//! 4. What is held fits the quota, and an admission leaves the disk its floor.
//!
//! Calls block on the disk, but for those that say so. It keeps no clock: `now` is the time since the
//! Unix epoch, by a clock that never goes back while the process runs. It ends when its last clone is
//! dropped; [`flush`](Replicas::flush) before that keeps the counts of the last minutes.
//!
//! Lock order, outermost first: the writer, the helper, the books. The last two are held for no call
//! to the disk.

mod admit;
mod books;
mod cipher;
mod files;
mod let_go;
mod read;
mod restore;
mod rows;
mod scrub;
mod space;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use shoal_protocol::exchange::LeafRanges;
use shoal_protocol::replicate::Key;
use shoal_protocol::replicate::Mark;
use shoal_protocol::replicate::cache::{self, RunId};
use shoal_protocol::replicate::helper::{Helper, HelperConfig};
use shoal_protocol::replicate::slabs::Slabs;

use super::{Store, StoreError};
use books::Books;
use files::SlabFiles;
use let_go::Owed;

pub use admit::{AdmitError, PIECE_BYTES_MAX};
pub use books::{ReplicaInfo, ReplicaStats};
pub use read::ReplicaBlock;
pub use scrub::{ReplicaPosition, ReplicaScrubbed};

/// The folder of the home that holds the slabs.
pub(crate) const REPLICAS_DIR: &str = "replicas";

/// How much is kept for others, and for how much.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaConfig {
    /// The numbers of the decisions, the quota among them.
    pub helper: HelperConfig,
    /// Bytes that stay free on the disk; `None` for the greater of 10% of it and 2 GiB.
    pub floor: Option<u64>,
}

/// Which kind of neighbour caused a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// One on the LAN asked.
    Lan,
    /// A near one asked.
    Near,
    /// A holder or a provider offered it.
    Offer,
}

/// Something has changed of what is held. It is told on the thread that changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaEvent {
    /// A run is stored, and served from now on.
    Admitted {
        /// The key of its root.
        key: Key,
        /// Its number.
        run: u64,
        /// The bytes of its leaves.
        bytes: u64,
        /// What caused it.
        cause: Cause,
    },
    /// A run is gone.
    Gone {
        /// The key of its root.
        key: Key,
        /// Its number.
        run: u64,
        /// The bytes of its leaves.
        bytes: u64,
        /// Why.
        why: cache::Why,
    },
    /// Nothing is held of this root any more.
    RootGone {
        /// The root's key.
        key: Key,
    },
}

/// The replicas of one home; see the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    inner: Arc<ReplicasInner>,
}

struct ReplicasInner {
    store: Store,
    files: SlabFiles,
    floor: Option<u64>,
    helper: Mutex<Helper>,
    books: Mutex<Books>,
    writer: Mutex<Writer>,
    on_event: Box<dyn Fn(ReplicaEvent) + Send + Sync>,
}

/// What only the one that writes knows.
#[derive(Default)]
struct Writer {
    slabs: Slabs,
    /// The number of the next piece; every piece of a process has another.
    next_piece: u64,
    /// Rows that have still to follow what was decided.
    owed: BTreeSet<Owed>,
}

impl Replicas {
    /// Runs a decision, from any thread: it waits for no disk.
    ///
    /// It is for what changes nothing that is held: asks and offers, what peers tell, marks,
    /// counters. Whatever returns changes, and [`Helper::served`], have methods here instead. The
    /// decision must not call back.
    pub fn decide<T>(&self, decision: impl FnOnce(&mut Helper) -> T) -> T {
        decision(&mut self.inner.helper())
    }

    /// A reader got so many bytes of a run from here. From any thread: it waits for no disk.
    pub fn served(&self, key: Key, run: u64, bytes: u64, by: Mark, now: Duration) {
        let is_new = self.inner.helper().served(key, run, bytes, by, now);
        self.inner
            .books()
            .served(RunId { key, run }, bytes, is_new, now);
    }

    /// The leaves of a root that are stored. From any thread: it waits for no disk.
    #[must_use]
    pub fn held(&self, key: Key) -> Option<LeafRanges> {
        self.inner.books().held(key)
    }

    /// At most `limit` keys behind `after`, in order, with the leaves that are stored of each. From
    /// any thread: it waits for no disk.
    #[must_use]
    pub fn holdings(&self, after: Option<Key>, limit: usize) -> Vec<(Key, LeafRanges)> {
        self.inner.books().holdings(after, limit)
    }

    /// What is held, the newest first. From any thread: it waits for no disk.
    #[must_use]
    pub fn list(&self) -> Vec<ReplicaInfo> {
        self.inner.books().list()
    }

    /// How many bytes may still come in: what is left of the quota. From any thread: it waits for no
    /// disk.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let helper = self.inner.helper();
        helper.cache().quota().saturating_sub(helper.cache().used())
    }

    /// The numbers of this process, and the space of the disk.
    #[must_use]
    pub fn stats(&self) -> ReplicaStats {
        let inner = &self.inner;
        let (used, quota) = {
            let helper = inner.helper();
            (helper.cache().used(), helper.cache().quota())
        };
        let disk = inner.disk_space().ok().flatten().unwrap_or_default();
        ReplicaStats {
            used,
            quota,
            floor: inner.floor_of(disk),
            disk_free: disk.free,
            ..inner.books().stats()
        }
    }

    /// Writes down what reads have changed: the counts that decide who is let go of. Without it a
    /// crash loses them, and nothing else.
    ///
    /// # Errors
    /// Those of the database.
    pub fn flush(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let mut writer = inner.writer();
        let (runs, roots) = inner.books().take_dirty();
        writer.owed.extend(runs.into_iter().map(Owed::Standing));
        inner.settle(&mut writer)?;
        let mut batch = inner.store.batch();
        for (key, row) in roots {
            rows::put_root(&mut batch, key, &row)?;
        }
        batch.commit(false)
    }

    /// Where the slabs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.inner.files.folder()
    }
}

impl ReplicasInner {
    fn helper(&self) -> MutexGuard<'_, Helper> {
        self.helper.lock()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    fn tell(&self, event: ReplicaEvent) {
        (self.on_event)(event);
    }
}
