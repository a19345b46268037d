//! Changes that become visible together.

use rocksdb::{WriteBatch, WriteOptions};
use shoal_protocol::address::Digest;

use super::layout::Family;
use super::rows::{self, FileId, FileRow, Origin, ShareId, ShareRecord};
use super::{Store, StoreError, keys};

/// From this size on a batch should be committed: large enough that a commit's fixed cost is spread
/// over thousands of rows, small beside the write buffers.
pub const BATCH_BYTES: usize = 1 << 20;

/// An atomic set of changes to the store.
///
/// Nothing is visible before [`commit`](Self::commit); a batch that is dropped changes nothing.
pub struct Batch {
    store: Store,
    writes: WriteBatch,
}

impl Batch {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            writes: WriteBatch::default(),
        }
    }

    /// Bytes gathered so far; compare with [`BATCH_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.writes.size_in_bytes()
    }

    /// Keeps `block` for `share`; it goes when the last share that refers to it goes.
    pub fn put_block(&mut self, share: ShareId, digest: &Digest, block: &[u8]) {
        self.put(Family::Blocks, digest.key(), block);
        self.put(Family::Refs, keys::reference(digest, share), []);
        self.put(Family::ShareBlocks, keys::share_block(share, digest), []);
    }

    /// Writes a file's row, found by its id and by its path in its share.
    pub fn put_file(&mut self, id: FileId, row: &FileRow) -> Result<(), StoreError> {
        self.put(Family::Files, keys::file(id), rows::encode(row)?);
        self.put(
            Family::ShareFiles,
            keys::share_file(row.share, &row.path),
            keys::file(id),
        );
        Ok(())
    }

    /// Takes a file's row out; its chunks are taken out one by one.
    pub fn remove_file(&mut self, id: FileId, row: &FileRow) {
        self.delete(Family::Files, keys::file(id));
        self.delete(Family::ShareFiles, keys::share_file(row.share, &row.path));
    }

    /// Records that the `len` bytes at `offset` of `file` are the chunk `digest`.
    pub fn put_chunk(&mut self, file: FileId, offset: u64, digest: &Digest, len: u32) {
        self.put(
            Family::Locations,
            keys::location(digest, file, offset),
            len.to_be_bytes(),
        );
        self.put(
            Family::FileChunks,
            keys::file_chunk(file, offset),
            keys::chunk_value(digest, len),
        );
    }

    /// Forgets that `digest` lies at `offset` of `file`.
    pub fn remove_chunk(&mut self, file: FileId, offset: u64, digest: &Digest) {
        self.delete(Family::Locations, keys::location(digest, file, offset));
        self.delete(Family::FileChunks, keys::file_chunk(file, offset));
    }

    /// Writes a share's record.
    ///
    /// What readers see follows [`Library`](super::Library), so a record that changes what is
    /// served goes through [`Library::publish`](super::Library::publish).
    pub fn put_share(&mut self, record: &ShareRecord) -> Result<(), StoreError> {
        let base = record.base.strip_prefix(self.store.home());
        let row = match base {
            // What is the home's own is where the home is.
            Ok(base) if record.origin == Origin::Copied => rows::encode(&ShareRecord {
                base: base.to_owned(),
                ..record.clone()
            }),
            _ => rows::encode(record),
        };
        self.put(Family::Shares, keys::share(record.id), row?);
        Ok(())
    }

    /// Makes the changes visible, all or none; with `sync` they also survive a power loss from then
    /// on.
    ///
    /// Commits are ordered: a synced one makes every earlier one durable too.
    pub fn commit(self, sync: bool) -> Result<(), StoreError> {
        let store = self.store.clone();
        let _no_collection = store.inner.blocks_kept();
        self.commit_unguarded(sync)
    }

    /// As [`commit`](Self::commit) without `sync`; empty afterwards. What could not be written stays in
    /// the batch, to be committed again.
    pub fn commit_or_keep(&mut self) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        let _no_collection = inner.blocks_kept();
        inner.check_released()?;
        inner.db.write(WriteBatch::from_data(self.writes.data()))?;
        self.writes.clear();
        Ok(())
    }

    /// As [`commit`](Self::commit), for the collector, which holds the guard itself.
    pub(super) fn commit_unguarded(self, sync: bool) -> Result<(), StoreError> {
        self.store.inner.check_released()?;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        Ok(self.store.inner.db.write_opt(self.writes, &options)?)
    }

    pub(super) fn put(&mut self, family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let inner = &self.store.inner;
        let key = inner.key(key.as_ref());
        self.writes.put_cf(&inner.family(family), key, value);
    }

    pub(super) fn delete(&mut self, family: Family, key: impl AsRef<[u8]>) {
        let inner = &self.store.inner;
        let key = inner.key(key.as_ref());
        self.writes.delete_cf(&inner.family(family), key);
    }
}
