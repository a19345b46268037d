//! Plain key-value tables for the parts of the node that keep their own rows.

use super::layout::Family;
use super::{Batch, Store, StoreError};

/// A family whose keys and values belong to the part of the node that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableName {
    /// Resumable state of fetches.
    Transfers,
    /// The DHT's provider records.
    Providers,
    /// Remembered peers.
    Peers,
    /// What the node keeps of itself; each part names its rows `part.what`.
    Node,
}

/// A handle to one table. Cheap to clone; calls block on disk.
#[derive(Clone)]
pub struct Table {
    store: Store,
    family: Family,
}

/// One change of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// Sets a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Takes a key out; one that is absent is fine.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

/// A key and its value.
pub type TableRow = (Vec<u8>, Vec<u8>);

impl Table {
    pub(super) fn new(store: Store, name: TableName) -> Self {
        let family = match name {
            TableName::Transfers => Family::Transfers,
            TableName::Providers => Family::Providers,
            TableName::Peers => Family::Peers,
            TableName::Node => Family::Node,
        };
        Self { store, family }
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.store.inner.get(self.family, key)?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Sets `key`, without waiting for the disk.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        batch.put(self.family, key, value);
        batch.commit(false)
    }

    /// Takes `key` out, without waiting for the disk; an absent one is fine.
    pub fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut batch = self.store.batch();
        batch.delete(self.family, key);
        batch.commit(false)
    }

    /// Makes all `changes` or none, in order; with `sync` they survive a power loss from then on.
    pub fn write(&self, changes: &[TableChange], sync: bool) -> Result<(), StoreError> {
        let mut batch: Batch = self.store.batch();
        for change in changes {
            match change {
                TableChange::Put { key, value } => batch.put(self.family, key, value),
                TableChange::Delete { key } => batch.delete(self.family, key),
            }
        }
        batch.commit(sync)
    }

    /// At most `limit` rows whose keys start with `prefix`, in key order, from the key `from` on.
    ///
    /// To page on, pass the last key with a zero byte appended; an empty `from` starts at the
    /// first.
    pub fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<TableRow>, StoreError> {
        let mut scan = self.store.inner.scan_from(self.family, prefix, from);
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some((key, value)) = scan.next()?
        {
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(rows)
    }
}
