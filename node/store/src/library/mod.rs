//! The shares as readers see them.
//!
//! The library is the only place that changes a share's state, in the database and in memory, and
//! says so through its callback. It serves blocks ([`Library::read`]), compares files with what is
//! recorded of them ([`Library::recheck`], [`Library::verify`], [`Library::scrub`]), renames shares
//! ([`Library::rename`]) and takes them out ([`Library::unshare`]). It never writes or deletes a user's file; the copies that `share --copy`
//! took are its own.
//!
//! One listed share per place: publishing a share replaces an earlier one of the same selection and
//! of the same source, by its real path or as it was written.
//!
//! It ends when its last clone is dropped, which stops the collecting thread and waits for it.

mod check;
mod collect;
mod doubt;
mod files;
mod lost;
mod read;
mod rename;
mod scrub;
mod sweep;
mod terms;
#[cfg(test)]
mod tests;
mod unreadable;
mod unshare;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock};
use shoal_protocol::address::Cid;
use shoal_protocol::link::Marks;

use super::register::{Compared, Register, SharePlace, waits_for_flush};
use super::rows::{Origin, ShareId, ShareRecord, ShareState};
use super::{Batch, BootId, Store, StoreError};
use crate::disks::Disks;
use collect::Collector;
use doubt::Doubts;
use files::OpenFiles;
use sweep::KnownBad;
use unreadable::LastLooks;

pub use check::Checked;
pub use lost::Lost;
pub use read::{BlockKind, Cut, Found, ReadError};
pub use scrub::{Damage, ScrubPosition, Scrubbed};
pub use sweep::{FileVerdict, Verdict, VerifyEvent, VerifySummary};
pub use unreadable::UnreadableFiles;
pub use unshare::{UnshareError, UnshareTarget, Unshared};

/// The view of the shares of one home. Cheap to clone; calls block on disk.
#[derive(Clone)]
pub struct Library {
    inner: Arc<LibraryInner>,
}

struct LibraryInner {
    store: Store,
    boot: BootId,
    /// Serialises changes of share records. Held while committing, never while reading.
    changes: Mutex<()>,
    view: RwLock<View>,
    files: OpenFiles,
    disks: Disks,
    doubts: Doubts,
    known_bad: KnownBad,
    unreadable: LastLooks,
    on_event: Box<dyn Fn(LibraryEvent) + Send + Sync>,
    collector: Collector,
    /// What was acknowledged, beside the database.
    register: Register,
    lost: Mutex<Lost>,
}

/// The readable shares. About 500 bytes each.
#[derive(Default)]
struct View {
    shares: HashMap<ShareId, Arc<ShareRecord>>,
    roots: HashMap<Cid, Vec<ShareId>>,
    /// Those that no peer may read from.
    unserved: HashSet<ShareId>,
}

/// A change of what this node offers.
///
/// It is told after the change is visible, on the thread that made it. Several shares may have one
/// root, so ask [`Library::held`] before drawing a conclusion about a root.
#[derive(Debug, Clone)]
pub enum LibraryEvent {
    /// A share became complete and is offered from now on.
    Added(Arc<ShareRecord>),
    /// A share is no longer offered.
    Removed(Arc<ShareRecord>),
    /// A share was found to differ on disk; its state says how.
    Changed(Arc<ShareRecord>),
    /// The stat of a file of a share leaves its bytes in doubt: the share is to be
    /// [rechecked](Library::recheck). It is served meanwhile, block by block as they match.
    Doubted(Arc<ShareRecord>),
}

impl LibraryEvent {
    /// The share that is offered otherwise than before; none where bytes are merely in doubt.
    #[must_use]
    pub fn changed(&self) -> Option<&Arc<ShareRecord>> {
        match self {
            Self::Added(share) | Self::Removed(share) | Self::Changed(share) => Some(share),
            Self::Doubted(_) => None,
        }
    }
}

/// How much of a root this node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// Nothing is known of it.
    Absent,
    /// It was complete, and something on disk has changed since.
    Changed,
    /// It is being fetched.
    Landing,
    /// All of it.
    Complete,
}

impl Library {
    /// Builds the view of all shares in `store` and starts to collect what earlier processes left.
    ///
    /// `on_event` is called on whichever thread made a change; it must not block or call back.
    pub fn open(
        store: Store,
        on_event: impl Fn(LibraryEvent) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let mut view = View::default();
        let mut batch = store.batch();
        let mut is_going = false;
        let register = Register::open(store.home())?;
        let shares = store.shares()?;
        let found = compare(&register, &shares)?;
        for mut record in shares {
            let is_unshared = found.unshared.contains(&record.id);
            if record.state == ShareState::Staging || is_unshared {
                // Only one process uses a home, so whoever was writing this is gone. And what was
                // unshared stays so, also where damage brings an old state of the database back.
                record.state = ShareState::Removing;
                batch.put_share(&record)?;
            }
            is_going |= record.state == ShareState::Removing;
            if record.is_readable() {
                view.insert(Arc::new(record));
            }
        }
        batch.commit(false)?;
        let collector = Collector::new(store.clone());
        if is_going {
            collector.wake();
        }
        let inner = LibraryInner {
            store,
            boot: BootId::current(),
            changes: Mutex::new(()),
            view: RwLock::new(view),
            files: OpenFiles::default(),
            disks: Disks::default(),
            doubts: Doubts::default(),
            known_bad: KnownBad::default(),
            unreadable: LastLooks::default(),
            on_event: Box::new(on_event),
            collector,
            register,
            lost: Mutex::new(Lost {
                shares: found.lost,
                unreadable_lines: found.unreadable,
            }),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The database under the view.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The disks on which the files of shares lie.
    #[must_use]
    pub fn disks(&self) -> &Disks {
        &self.inner.disks
    }

    /// All shares that are offered, changed ones included, oldest first.
    #[must_use]
    pub fn shares(&self) -> Vec<Arc<ShareRecord>> {
        self.select(|share| share.is_listed())
    }

    /// A share that can be read.
    #[must_use]
    pub fn share(&self, id: ShareId) -> Option<Arc<ShareRecord>> {
        self.inner.view(|view| view.shares.get(&id).cloned())
    }

    /// The readable shares of one root, landing ones included.
    #[must_use]
    pub fn shares_of(&self, root: &Cid) -> Vec<Arc<ShareRecord>> {
        self.inner.view(|view| {
            let ids = view.roots.get(root).map_or(&[][..], Vec::as_slice);
            ids.iter()
                .filter_map(|id| view.shares.get(id).cloned())
                .collect()
        })
    }

    /// The best that any share of `root` has of it.
    #[must_use]
    pub fn held(&self, root: &Cid) -> Held {
        let held = |share: &Arc<ShareRecord>| match share.state {
            ShareState::Live => Held::Complete,
            ShareState::Landing => Held::Landing,
            ShareState::Changed(_) => Held::Changed,
            ShareState::Staging | ShareState::Removing => Held::Absent,
        };
        self.shares_of(root)
            .iter()
            .map(held)
            .max()
            .unwrap_or(Held::Absent)
    }

    /// Whether peers may read a share of this root here, or what has landed of one.
    #[must_use]
    pub fn serves(&self, root: &Cid) -> bool {
        self.inner.view(|view| {
            let ids = view.roots.get(root).map_or(&[][..], Vec::as_slice);
            ids.iter().any(|id| view.is_served(*id))
        })
    }

    /// The shares whose data was written in an earlier boot and never flushed: to be rechecked.
    #[must_use]
    pub fn suspects(&self) -> Vec<Arc<ShareRecord>> {
        let boot = self.inner.boot;
        self.select(|share| share.is_suspect(boot))
    }

    /// The boot that this process runs in, for records of unflushed data.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.inner.boot
    }

    /// Commits `batch` together with `record` and makes the share readable: durably, unless what
    /// was fetched is itself still to be flushed.
    ///
    /// A live share takes the place of earlier ones of the same source and selection, in the same
    /// commit, and lasts no shorter than these: a share of the home does not end with a command.
    pub fn publish(
        &self,
        mut batch: Batch,
        record: ShareRecord,
    ) -> Result<Arc<ShareRecord>, StoreError> {
        let inner = &self.inner;
        let changes = inner.changing();
        let replaced = if record.state == ShareState::Live {
            self.select(|share| {
                share.id != record.id && share.is_listed() && share.is_same_place(&record)
            })
        } else {
            Vec::new()
        };
        for share in &replaced {
            batch.put_share(&removing(share))?;
        }
        let others = replaced.iter().map(|share| &share.terms);
        let record = ShareRecord {
            terms: record.terms.clone().in_place_of(others),
            ..record
        };
        batch.put_share(&record)?;
        batch.commit(!waits_for_flush(&record))?;

        let record = Arc::new(record);
        inner.change_view(|view| {
            replaced.iter().for_each(|share| view.remove(share.id));
            view.insert(Arc::clone(&record));
        });
        if record.state == ShareState::Live
            && let Err(error) = inner.acknowledge(&record, &replaced)
        {
            inner.remove(&[record])?;
            return Err(error);
        }
        drop(changes);
        // The rows of a landed share were read under its old base and state.
        inner.files.forget_share(record.id);
        for share in replaced {
            inner.gone(share);
        }
        if record.state == ShareState::Live {
            inner.tell(LibraryEvent::Added(Arc::clone(&record)));
        }
        Ok(record)
    }

    /// Says whether peers may read from a share; unless something else is said, they may. It is not
    /// kept: whoever keeps why says it again after each start, before anybody is served.
    pub fn set_served(&self, id: ShareId, is_served: bool) {
        self.inner.change_view(|view| {
            match is_served {
                true => view.unserved.remove(&id),
                false => view.unserved.insert(id),
            };
        });
    }

    /// Takes note of marks that a share has, durably; those that it has already stay. News are told
    /// as a change of it.
    pub fn mark(&self, id: ShareId, marks: Marks) -> Result<(), StoreError> {
        let _changes = self.inner.changing();
        let Some(share) = self.share(id) else {
            return Ok(());
        };
        let record = ShareRecord {
            announce: share.announce && !marks.no_announce,
            replicate: share.replicate && !marks.no_replicate,
            ..share.as_ref().clone()
        };
        if record == *share {
            return Ok(());
        }
        let record = self.inner.replace(self.inner.store.batch(), record, true)?;
        if record.is_listed() {
            self.inner.tell(LibraryEvent::Changed(record));
        }
        Ok(())
    }

    /// Whether what is here of the root was fetched from others and is no user's own, whole or changed.
    #[must_use]
    pub fn is_copy(&self, root: &Cid) -> bool {
        let shares = self.shares_of(root);
        shares.iter().all(|share| share.origin == Origin::Fetched)
    }

    /// Whether there is something of the root, and it is not to be announced: no share of it is.
    #[must_use]
    pub fn is_concealed(&self, root: &Cid) -> bool {
        self.marks(root).no_announce
    }

    /// The marks of a root: those that all shares of it have; none, where there is no share of it.
    #[must_use]
    pub fn marks(&self, root: &Cid) -> Marks {
        let shares = self.shares_of(root);
        let all = |has: fn(Marks) -> bool| {
            !shares.is_empty() && shares.iter().all(|share| has(share.marks()))
        };
        Marks {
            no_announce: all(|marks| marks.no_announce),
            no_replicate: all(|marks| marks.no_replicate),
        }
    }

    /// Gives up a share that was never offered, staging or landing; its rows go in the background.
    ///
    /// Rows that are committed for it after this are never collected, so whoever writes them stops
    /// first.
    pub fn discard(&self, id: ShareId) -> Result<(), StoreError> {
        let _changes = self.inner.changing();
        let Some(share) = self.inner.store.share(id)? else {
            return Ok(());
        };
        self.inner.remove(&[Arc::new(share)])
    }

    /// Records that all data of a share has reached the disk.
    pub fn flushed(&self, id: ShareId) -> Result<(), StoreError> {
        let _changes = self.inner.changing();
        let Some(share) = self.share(id) else {
            return Ok(());
        };
        let record = ShareRecord {
            unflushed_boot: None,
            ..share.as_ref().clone()
        };
        let record = self.inner.replace(self.inner.store.batch(), record, true)?;
        match record.is_listed() {
            true => self.inner.acknowledge(&record, &[]),
            false => Ok(()),
        }
    }

    fn select(&self, wanted: impl Fn(&ShareRecord) -> bool) -> Vec<Arc<ShareRecord>> {
        let mut shares: Vec<_> = self.inner.view(|view| {
            view.shares
                .values()
                .filter(|share| wanted(share))
                .cloned()
                .collect()
        });
        shares.sort_by_key(|share| share.id);
        shares
    }
}

impl LibraryInner {
    /// Until dropped, no other thread changes a share's record.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changes.lock()
    }

    fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        look(&self.view.read())
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write());
    }

    /// Commits a new version of a readable share's record. The caller holds [`Self::changing`].
    fn replace(
        &self,
        mut batch: Batch,
        record: ShareRecord,
        sync: bool,
    ) -> Result<Arc<ShareRecord>, StoreError> {
        batch.put_share(&record)?;
        batch.commit(sync)?;
        let record = Arc::new(record);
        self.change_view(|view| view.insert(Arc::clone(&record)));
        Ok(record)
    }

    /// Hides shares for good, durably. The caller holds [`Self::changing`].
    fn remove(&self, shares: &[Arc<ShareRecord>]) -> Result<(), StoreError> {
        let listed = shares.iter().filter(|share| share.is_listed());
        let places: Vec<_> = listed.map(|share| SharePlace::of(share)).collect();
        self.register.unshared(&places)?;
        let mut batch = self.store.batch();
        for share in shares {
            batch.put_share(&removing(share))?;
        }
        batch.commit(true)?;
        self.change_view(|view| shares.iter().for_each(|share| view.remove(share.id)));
        for share in shares {
            self.gone(Arc::clone(share));
        }
        Ok(())
    }

    /// Follows up on a share that was just hidden.
    fn gone(&self, share: Arc<ShareRecord>) {
        self.files.forget_share(share.id);
        self.doubts.forget(share.id);
        self.collector.wake();
        if share.is_listed() {
            self.tell(LibraryEvent::Removed(share));
        }
    }

    fn tell(&self, event: LibraryEvent) {
        (self.on_event)(event);
    }
}

impl View {
    fn is_served(&self, id: ShareId) -> bool {
        self.shares.contains_key(&id) && !self.unserved.contains(&id)
    }

    /// Whether it is a share of that root that peers may read from.
    fn is_served_for(&self, id: ShareId, root: &Cid) -> bool {
        let share = self.shares.get(&id);
        share.is_some_and(|share| share.root == *root) && self.is_served(id)
    }

    fn insert(&mut self, share: Arc<ShareRecord>) {
        let ids = self.roots.entry(share.root.clone()).or_default();
        if !ids.contains(&share.id) {
            ids.push(share.id);
        }
        self.shares.insert(share.id, share);
    }

    fn remove(&mut self, id: ShareId) {
        self.unserved.remove(&id);
        let Some(share) = self.shares.remove(&id) else {
            return;
        };
        if let Some(ids) = self.roots.get_mut(&share.root) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.roots.remove(&share.root);
            }
        }
    }
}

/// Compares the register with what the database has.
fn compare(register: &Register, shares: &[ShareRecord]) -> Result<Compared, StoreError> {
    let listed: Vec<_> = shares.iter().filter(|share| share.is_listed()).collect();
    let is_leaving = |share: &&ShareRecord| share.state == ShareState::Removing;
    let leaving: Vec<_> = shares.iter().filter(is_leaving).collect();
    register.compare(&listed, &leaving)
}

fn removing(share: &ShareRecord) -> ShareRecord {
    ShareRecord {
        state: ShareState::Removing,
        ..share.clone()
    }
}
