//! What this node knows about bytes: which blocks it holds, where their bytes lie, and what it
//! shares.
//!
//! [`share`] makes an index of files. [`disks`] are the file systems that they lie on; [`own`] knows
//! Shoal's own files among them, and [`patterns`] picks files by their names.
//!
//! - [`Store`] is the database: typed rows over one RocksDB, batches, ids.
//! - [`Replicas`](replicas::Replicas) are the copies that this node keeps for others.
//! - [`Library`] is the view of the shares that readers see: it serves blocks, notices changed
//!   files, and takes shares out.
//!
//! Everything here blocks on disk and is called from blocking threads; nothing here needs a runtime
//! or knows the network. Chunk bytes stay in the users' files, which are only ever read; the
//! database holds DAG nodes, and what is kept for others lies sealed in files of the home. The store ends when its last clone is dropped: the database is closed
//! and its lock released. It needs no orderly end, every committed batch survives `kill -9`.
//!
//! Lock order, outermost first: the guard of shares that are going, the library's guard of changes,
//! the collection guard, the library's view. None is held while a file is read.

mod batch;
mod boot;
pub mod disks;
mod error;
mod garbage;
mod ids;
mod keys;
mod layout;
mod library;
mod open;
pub mod own;
pub mod patterns;
mod prefix;
mod register;
mod remove;
mod repair;
pub mod replicas;
mod rows;
mod scan;
pub mod share;
mod shared;
mod table;
mod terms;
#[cfg(test)]
mod tests;
mod threads;
mod totals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rocksdb::{BoundColumnFamily, DB, DBPinnableSlice};
use shoal_protocol::address::{Cid, Digest};

pub use batch::{BATCH_BYTES, Batch};
pub use boot::BootId;
pub use error::StoreError;
pub use garbage::{Garbage, GarbagePhase};
pub use library::{
    BlockKind, Checked, Cut, Damage, FileVerdict, Found, Held, Library, LibraryEvent, Lost,
    ReadError, ScrubPosition, Scrubbed, UnreadableFiles, UnshareError, UnshareTarget, Unshared,
    Verdict, VerifyEvent, VerifySummary,
};
pub use register::{Registered, SharePlace};
pub use repair::Repaired;
pub use rows::{
    Change, ChangeKind, FileChunk, FileId, FileRow, FileStat, FileState, Location, Origin, Recipe,
    ShareId, ShareRecord, ShareState,
};
pub use shared::SharedStore;
pub use table::{Table, TableChange, TableName, TableRow};
pub use terms::{COMMANDS_MAX, Expiry, Moment, Terms};
pub use totals::ShareTotals;

use ids::Ids;
use layout::{Family, Layout};
use prefix::Prefix;
use shared::Claim;
use threads::Database;

/// The folder of the home that holds the copies `share --copy` takes, one folder per share.
const COPIES_DIR: &str = "copies";

/// The database of one home. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

struct StoreInner {
    db: Database,
    /// What every key of this store begins with, in a database that it shares.
    prefix: Prefix,
    /// Its place there.
    _claim: Option<Claim>,
    ids: Ids,
    /// Every file id below this one was taken by an earlier process.
    first_new_id: u64,
    /// Held shared by every commit and alone by the collector, so that a block whose last reference
    /// goes is not deleted under a commit that refers to it again.
    collection: RwLock<()>,
    /// Held by whoever takes out the shares that are going.
    collecting: Mutex<()>,
    home: PathBuf,
    /// Nothing is written any more.
    released: AtomicBool,
}

impl Store {
    /// Opens the database of `home`, creating both when they are missing.
    ///
    /// Fails without touching anything when another process uses the home, when a newer version
    /// wrote the database, and when it is damaged.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        open::make_home(home)?;
        let db = open::database(home, Layout::Own)?;
        let store = Self::over(Arc::new(db), Prefix::default(), None, home)?;
        store.migrate()?;
        Ok(store)
    }

    /// Brings the rows of an earlier schema to this one, all or none.
    fn migrate(&self) -> Result<(), StoreError> {
        if !open::is_earlier(&self.inner.db, Layout::Own)? {
            return Ok(());
        }
        let mut batch = self.batch();
        for record in self.shares()? {
            batch.put_share(&record)?;
        }
        batch.put(
            Family::Meta,
            Layout::Own.schema_key(),
            layout::SCHEMA.to_be_bytes(),
        );
        batch.commit(true)?;
        tracing::info!(
            schema = layout::SCHEMA,
            "the database was brought to this version"
        );
        Ok(())
    }

    /// The store whose keys begin with `prefix`.
    fn over(
        db: Arc<DB>,
        prefix: Prefix,
        claim: Option<Claim>,
        home: &Path,
    ) -> Result<Self, StoreError> {
        let first_new_id = open::reserved_ids(&db, prefix)?;
        let inner = StoreInner {
            db: Database::new(db),
            prefix,
            _claim: claim,
            ids: Ids::after(first_new_id),
            first_new_id,
            collection: RwLock::new(()),
            collecting: Mutex::default(),
            home: home
                .canonicalize()
                .map_err(|error| StoreError::io(home, error))?,
            released: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The home that this store belongs to.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// The folder that holds the copies of all shares.
    fn copies_dir(&self) -> PathBuf {
        self.inner.home.join(COPIES_DIR)
    }

    /// Where the copy that `share --copy` takes for a share lies.
    #[must_use]
    pub fn copy_dir(&self, share: ShareId) -> PathBuf {
        self.copies_dir().join(share.to_string())
    }

    /// A new, unused share id.
    pub fn new_share_id(&self) -> Result<ShareId, StoreError> {
        Ok(ShareId(self.take_ids(1)?.start))
    }

    /// `count` new, unused, consecutive file ids.
    pub fn new_file_ids(&self, count: u64) -> Result<impl Iterator<Item = FileId>, StoreError> {
        Ok(self.take_ids(count)?.map(FileId))
    }

    /// A new, empty batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    /// Waits until every batch that was committed so far would survive a power loss.
    pub fn sync(&self) -> Result<(), StoreError> {
        Ok(self.inner.db.flush_wal(true)?)
    }

    /// How often RocksDB failed in the background since it was opened: damage that a compaction
    /// met, or a full disk.
    #[must_use]
    pub fn background_errors(&self) -> u64 {
        let errors = self
            .inner
            .db
            .property_int_value("rocksdb.background-errors");
        errors.ok().flatten().unwrap_or_default()
    }

    /// Has every commit fail, or succeed again: for tests of what goes on without it.
    pub fn refuse_writes(&self, refuse: bool) {
        self.inner.released.store(refuse, Relaxed);
    }

    /// Makes everything durable that was committed, and gives up the database although clones of
    /// this store are left, on threads that hang in the kernel: nothing is written from then on, and
    /// another process may open it. For a process that is about to end.
    pub fn release(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let _last = inner.commits_stopped();
        inner.released.store(true, Relaxed);
        inner.db.flush_wal(true)?;
        inner.db.cancel_all_background_work(true);
        // RocksDB's lock is one of the process: it goes when any descriptor of its file is closed.
        let lock = open::lock_file(&inner.home);
        drop(std::fs::File::open(&lock).map_err(|error| StoreError::io(&lock, error))?);
        Ok(())
    }

    /// A table whose rows belong to the caller.
    #[must_use]
    pub fn table(&self, name: TableName) -> Table {
        Table::new(self.clone(), name)
    }

    /// The bytes of a block that the database itself holds.
    pub fn block(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let block = self.inner.get(Family::Blocks, &digest.key())?;
        Ok(block.map(|block| block.to_vec()))
    }

    /// The bytes of a block, where the database has them and they are what the digest says; `None`
    /// also where they cannot be read for damage.
    ///
    /// # Errors
    /// Failures that say nothing about the block.
    pub fn sound_block(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        match self.block(digest) {
            Ok(block) => Ok(block.filter(|block| digest.matches(block))),
            Err(StoreError::Damaged { detail }) => {
                tracing::warn!(?digest, %detail, "a block in the database is damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The length in bytes of a block that the database itself holds.
    pub fn block_len(&self, digest: &Digest) -> Result<Option<usize>, StoreError> {
        let block = self.inner.get(Family::Blocks, &digest.key())?;
        Ok(block.map(|block| block.len()))
    }

    /// Whether the database itself holds a block.
    pub fn has_block(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.block_len(digest)?.is_some())
    }

    /// The blocks that the database holds for a share, in the order of their keys.
    pub fn blocks_of(&self, share: ShareId) -> impl Iterator<Item = Result<Digest, StoreError>> {
        self.blocks_from(share, &[])
    }

    /// As [`blocks_of`](Self::blocks_of), from the digest with the key `from` on.
    fn blocks_from(
        &self,
        share: ShareId,
        from: &[u8],
    ) -> impl Iterator<Item = Result<Digest, StoreError>> {
        let share = keys::share(share);
        let from = [&share, from].concat();
        self.inner
            .scan_from(Family::ShareBlocks, &share, &from)
            .rows(|key, _| {
                let (_, rest) = keys::take_u64(key)?;
                Ok(keys::take_digest(rest)?.0)
            })
    }

    /// The shares that keep a block, oldest first, readable or not.
    pub fn shares_of_block(
        &self,
        digest: &Digest,
    ) -> impl Iterator<Item = Result<ShareId, StoreError>> {
        self.inner.scan(Family::Refs, &digest.key()).rows(|key, _| {
            let (_, rest) = keys::take_digest(key)?;
            Ok(ShareId(keys::take_u64(rest)?.0))
        })
    }

    /// The places where a chunk's bytes lie, oldest first, readable or not. There may be any
    /// number.
    pub fn locations(&self, digest: &Digest) -> impl Iterator<Item = Result<Location, StoreError>> {
        self.inner
            .scan(Family::Locations, &digest.key())
            .rows(|key, value| {
                let (_, rest) = keys::take_digest(key)?;
                let (file, rest) = keys::take_u64(rest)?;
                let (offset, _) = keys::take_u64(rest)?;
                let (len, _) = keys::take_u32(value)?;
                let (offset, len) = keys::chunk_place(offset, len)?;
                Ok(Location {
                    file: FileId(file),
                    offset,
                    len,
                })
            })
    }

    /// A file's row.
    pub fn file(&self, id: FileId) -> Result<Option<FileRow>, StoreError> {
        self.row(Family::Files, &keys::file(id))
    }

    /// The file at `path` below the base of `share`.
    pub fn file_by_path(
        &self,
        share: ShareId,
        path: &str,
    ) -> Result<Option<(FileId, FileRow)>, StoreError> {
        let key = keys::share_file(share, path);
        let Some(value) = self.inner.get(Family::ShareFiles, &key)? else {
            return Ok(None);
        };
        let id = FileId(keys::take_u64(&value)?.0);
        Ok(self.file(id)?.map(|row| (id, row)))
    }

    /// The recorded chunks of a file, by offset.
    pub fn chunks_of(&self, file: FileId) -> impl Iterator<Item = Result<FileChunk, StoreError>> {
        self.chunks_from(file, 0)
    }

    /// As [`chunks_of`](Self::chunks_of), from the one at `offset` on.
    fn chunks_from(
        &self,
        file: FileId,
        offset: u64,
    ) -> impl Iterator<Item = Result<FileChunk, StoreError>> {
        let from = keys::file_chunk(file, offset);
        self.inner
            .scan_from(Family::FileChunks, &keys::file(file), &from)
            .rows(|key, value| {
                let (_, rest) = keys::take_u64(key)?;
                let (offset, _) = keys::take_u64(rest)?;
                let (digest, rest) = keys::take_digest(value)?;
                let (len, _) = keys::take_u32(rest)?;
                let (offset, len) = keys::chunk_place(offset, len)?;
                Ok(FileChunk {
                    offset,
                    digest,
                    len,
                })
            })
    }

    /// The files of a share, by path in byte order.
    pub fn files_of(
        &self,
        share: ShareId,
    ) -> impl Iterator<Item = Result<(FileId, FileRow), StoreError>> {
        self.files_from(share, "")
    }

    /// As [`files_of`](Self::files_of), from the one at `path` on.
    fn files_from(
        &self,
        share: ShareId,
        path: &str,
    ) -> impl Iterator<Item = Result<(FileId, FileRow), StoreError>> {
        let from = keys::share_file(share, path);
        let ids = self
            .inner
            .scan_from(Family::ShareFiles, &keys::share(share), &from)
            .rows(|_, value| Ok(FileId(keys::take_u64(value)?.0)));
        ids.map(|id| {
            let id = id?;
            let row = self
                .file(id)?
                .ok_or_else(|| StoreError::damaged("a file has no row"))?;
            Ok((id, row))
        })
    }

    /// All shares in every state, oldest first.
    pub fn shares(&self) -> Result<Vec<ShareRecord>, StoreError> {
        self.inner
            .scan(Family::Shares, &[])
            .rows(|_, value| rows::decode(value))
            .map(|record| Ok(self.located(record?)))
            .collect()
    }

    /// A share's record.
    pub fn share(&self, id: ShareId) -> Result<Option<ShareRecord>, StoreError> {
        let record = self.row(Family::Shares, &keys::share(id))?;
        Ok(record.map(|record| self.located(record)))
    }

    /// A share as it was read, its copy where the home is now: a home may be moved as a whole.
    fn located(&self, record: ShareRecord) -> ShareRecord {
        let base = match (record.origin, record.base.file_name()) {
            // The schema before kept the whole path, which a copy's name is the end of.
            (Origin::Copied, Some(name)) => self.copy_dir(record.id).join(name),
            _ => return record,
        };
        ShareRecord { base, ..record }
    }

    /// The shares of one root, oldest first.
    pub fn shares_of_root(&self, root: &Cid) -> Result<Vec<ShareRecord>, StoreError> {
        let mut shares = self.shares()?;
        shares.retain(|share| share.root == *root);
        Ok(shares)
    }

    fn take_ids(&self, count: u64) -> Result<std::ops::Range<u64>, StoreError> {
        self.inner.ids.take(count, |end| {
            let (inner, family) = (&self.inner, self.inner.family(Family::Meta));
            let key = inner.key(open::NEXT_ID);
            inner.check_released()?;
            Ok(inner.db.put_cf(&family, key, end.to_be_bytes())?)
        })
    }

    fn row<T: rows::Row>(&self, family: Family, key: &[u8]) -> Result<Option<T>, StoreError> {
        let value = self.inner.get(family, key)?;
        value.map(|value| rows::decode(&value)).transpose()
    }
}

impl StoreInner {
    fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.db
            .cf_handle(family.name())
            .expect("the database is only opened with every family")
    }

    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        let family = self.family(family);
        Ok(self.db.get_pinned_cf(&family, self.key(key))?)
    }

    /// An error once the database was given up.
    fn check_released(&self) -> Result<(), StoreError> {
        match self.released.load(Relaxed) {
            true => Err(StoreError::Database {
                detail: "this process has given the database up".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Until dropped, no block is collected.
    fn blocks_kept(&self) -> RwLockReadGuard<'_, ()> {
        self.collection.read()
    }

    /// Until dropped, nothing is committed.
    fn commits_stopped(&self) -> RwLockWriteGuard<'_, ()> {
        self.collection.write()
    }
}
