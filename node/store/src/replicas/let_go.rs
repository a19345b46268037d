//! Letting go: what is decided is done, and its space is free at once.

use std::collections::BTreeSet;
use std::time::Duration;

use shoal_protocol::address::Digest;
use shoal_protocol::replicate::Key;
use shoal_protocol::replicate::cache::{Change, RunId};
use shoal_protocol::replicate::helper::Helper;
use shoal_protocol::replicate::slabs::{EXTENT_ALIGN, Extent, Freed};

use super::rows::{self, PieceId, PieceRow};
use super::{ReplicaEvent, Replicas, ReplicasInner, Writer};
use crate::layout::Family;
use crate::{Batch, StoreError};

/// A row that has to follow what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owed {
    /// A run has another place among all.
    Standing(RunId),
    /// A run is gone.
    Run(RunId),
    /// A root is gone, and its nodes.
    Root(Key),
}

impl Replicas {
    /// Lets go of a root that a person drops, and says how many bytes that freed. A pull of it ends.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn drop_root(&self, key: Key, now: Duration) -> Result<u64, StoreError> {
        let inner = &self.inner;
        let mut writer = inner.writer();
        inner.drop_root(&mut writer, key, now)
    }

    /// Lets go of everything, as [`drop_root`](Self::drop_root).
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn drop_all(&self, now: Duration) -> Result<u64, StoreError> {
        let inner = &self.inner;
        let mut writer = inner.writer();
        let keys = inner.books().keys();
        let drops = keys
            .into_iter()
            .map(|key| inner.drop_root(&mut writer, key, now));
        drops.sum()
    }

    /// Never keeps a root from now on, nor what is held of it. That is remembered by its key.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn deny(&self, root: &Digest, now: Duration) -> Result<(), StoreError> {
        let inner = &self.inner;
        let mut writer = inner.writer();
        let key = Key::of(root);
        let mut batch = inner.store.batch();
        batch.put(Family::Replicas, rows::denied_key(key), []);
        batch.commit(true)?;
        inner.let_go(&mut writer, |helper| helper.deny(key, now))?;
        inner.books().close_root(key);
        Ok(())
    }

    /// Sets the quota, and lets go of what does not fit; with 0 nothing is kept.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn set_quota(&self, quota: u64) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.let_go(&mut inner.writer(), |helper| helper.set_quota(quota))?;
        Ok(())
    }

    /// Lets go of what nobody has read for a week. To be called once an hour or so.
    ///
    /// # Errors
    /// Those of the disk and the database.
    pub fn expire(&self, now: Duration) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.let_go(&mut inner.writer(), |helper| helper.expire(now))?;
        Ok(())
    }
}

impl ReplicasInner {
    fn drop_root(&self, writer: &mut Writer, key: Key, now: Duration) -> Result<u64, StoreError> {
        let freed = self.let_go(writer, |helper| helper.drop_root(key, now))?;
        self.books().close_root(key);
        Ok(freed)
    }

    /// A run cannot be read any more, or a root, whose nodes cannot.
    pub(super) fn lose(&self, writer: &mut Writer, id: PieceId) -> Result<(), StoreError> {
        self.books().damaged();
        self.let_go(writer, |helper| match id.part {
            rows::Part::Run(run) => helper.run_lost(RunId { key: id.key, run }),
            rows::Part::Nodes(_) => helper.root_lost(id.key),
        })?;
        Ok(())
    }

    /// Decides, and does what was decided; says how many bytes of the disk that freed.
    pub(super) fn let_go(
        &self,
        writer: &mut Writer,
        decision: impl FnOnce(&mut Helper) -> Vec<Change>,
    ) -> Result<u64, StoreError> {
        let changes = decision(&mut self.helper());
        self.follow(writer, changes)
    }

    /// Does what was decided, and says how many bytes of the disk that freed.
    ///
    /// After an error nothing of it can be read, and the rows follow with the next call that writes.
    pub(super) fn follow(
        &self,
        writer: &mut Writer,
        changes: Vec<Change>,
    ) -> Result<u64, StoreError> {
        for change in changes {
            self.note(writer, change);
        }
        self.settle(writer)
    }

    /// Has the books follow, so that nobody reads what is gone, and tells of it.
    fn note(&self, writer: &mut Writer, change: Change) {
        match change {
            Change::Moved(id) => {
                writer.owed.insert(Owed::Standing(id));
            }
            Change::Gone {
                run: id,
                bytes,
                why,
            } => {
                writer.owed.remove(&Owed::Standing(id));
                writer.owed.insert(Owed::Run(id));
                if self.books().remove_run(id, why) {
                    let RunId { key, run } = id;
                    self.tell(ReplicaEvent::Gone {
                        key,
                        run,
                        bytes,
                        why,
                    });
                }
            }
            Change::RootGone(key) => {
                writer.owed.insert(Owed::Root(key));
                let is_pulling = self.helper().is_pulling(key);
                if self.books().remove_root(key, is_pulling) {
                    self.tell(ReplicaEvent::RootGone { key });
                }
            }
        }
    }

    /// Has the rows follow, and then the bytes; says how many bytes of the disk that freed.
    pub(super) fn settle(&self, writer: &mut Writer) -> Result<u64, StoreError> {
        if writer.owed.is_empty() {
            return Ok(0);
        }
        let mut freed = Vec::new();
        let batch = self.pay(&writer.owed, &mut freed)?;
        let committed = match batch.commit(!freed.is_empty()) {
            Err(StoreError::NoSpace { .. }) => {
                // The database needs space to say that there will be some. Nobody reads these bytes
                // any more; should their rows come back, a first read finds them out.
                freed.iter().for_each(|extent| self.files.punch(*extent));
                self.pay(&writer.owed, &mut Vec::new())?.commit(true)
            }
            committed => committed,
        };
        committed?;
        #[cfg(test)]
        super::tests::crash::reached("rows deleted");
        writer.owed.clear();
        let mut bytes = 0;
        for extent in freed {
            bytes += u64::from(extent.bytes.next_multiple_of(EXTENT_ALIGN));
            self.free(writer, extent);
            #[cfg(test)]
            super::tests::crash::reached("one hole punched");
        }
        Ok(bytes)
    }

    /// Gives an extent back that no row names any more.
    pub(super) fn free(&self, writer: &mut Writer, extent: Extent) {
        match writer.slabs.give_back(extent) {
            Some(Freed::Hole(hole)) => self.files.punch(hole),
            Some(Freed::Slab(slab)) => self.files.remove(slab),
            None => tracing::error!(?extent, "a part of a slab was given back twice"),
        }
    }

    /// The batch that has all rows follow, and the extents that are free then.
    fn pay(&self, owed: &BTreeSet<Owed>, freed: &mut Vec<Extent>) -> Result<Batch, StoreError> {
        let mut batch = self.store.batch();
        for owed in owed {
            match *owed {
                Owed::Standing(id) => {
                    let standing = self.helper().cache().standing(id);
                    if let Some(standing) = standing.filter(|_| self.books().has(PieceId::of(id))) {
                        rows::put_standing(&mut batch, id, &standing)?;
                    }
                }
                Owed::Run(id) => {
                    let id = PieceId::of(id);
                    if let Some(row) = self.piece(id)? {
                        rows::delete_piece(&mut batch, id, &row);
                        freed.push(row.extent());
                    }
                }
                Owed::Root(key) => {
                    for (id, row) in self.pieces(&rows::nodes_of(key))? {
                        rows::delete_piece(&mut batch, id, &row);
                        freed.push(row.extent());
                    }
                    batch.delete(Family::Replicas, rows::root_key(key));
                }
            }
        }
        Ok(batch)
    }

    pub(super) fn piece(&self, id: PieceId) -> Result<Option<PieceRow>, StoreError> {
        self.store.row(Family::Replicas, &id.row_key())
    }

    /// All pieces whose keys begin so.
    pub(super) fn pieces(&self, prefix: &[u8]) -> Result<Vec<(PieceId, PieceRow)>, StoreError> {
        let scan = self.store.inner.scan(Family::Replicas, prefix);
        scan.rows(|key, value| Ok((PieceId::parse(key)?, crate::rows::decode(value)?)))
            .collect()
    }
}
