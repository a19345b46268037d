//! The record by which a repeated fetch finds its earlier run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::address::Cid;

use crate::store::{ShareId, Store, StoreError, TableName};

/// The layout that is written; another one is treated as if there were no earlier run.
const VERSION: u8 = 1;

/// One unfinished fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TransferRecord {
    /// The share that the landed rows belong to.
    pub(super) share: ShareId,
    /// The hidden part.
    pub(super) part: PathBuf,
}

/// The place of a record: what is fetched, and where to.
fn key(root: &Cid, destination: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut key = root.to_bytes();
    key.push(0);
    key.extend_from_slice(destination.as_os_str().as_bytes());
    key
}

/// Reads the record of an earlier run, if there is one.
pub(super) fn load(
    store: &Store,
    root: &Cid,
    destination: &Path,
) -> Result<Option<TransferRecord>, StoreError> {
    let value = store
        .table(TableName::Transfers)
        .get(&key(root, destination))?;
    Ok(value.and_then(|value| match value.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).ok(),
        _ => None,
    }))
}

/// Writes the record of a run that begins.
pub(super) fn save(
    store: &Store,
    root: &Cid,
    destination: &Path,
    record: &TransferRecord,
) -> Result<(), StoreError> {
    let value =
        postcard::to_extend(record, vec![VERSION]).map_err(|error| StoreError::Damaged {
            detail: format!("a transfer cannot be encoded: {error}"),
        })?;
    store
        .table(TableName::Transfers)
        .put(&key(root, destination), &value)
}

/// Forgets a run.
pub(super) fn forget(store: &Store, root: &Cid, destination: &Path) -> Result<(), StoreError> {
    store
        .table(TableName::Transfers)
        .delete(&key(root, destination))
}
