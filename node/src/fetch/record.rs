//! The record by which a repeated fetch finds its earlier run.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::link::Link;

use crate::store::{FileStat, ShareId, Store, StoreError, TableName};

/// The layout that is written; another one is treated as if there were no earlier run.
const VERSION: u8 = 1;

/// One unfinished fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TransferRecord {
    /// The share that the landed rows belong to.
    pub(super) share: ShareId,
    /// The hidden part.
    pub(super) part: PathBuf,
    /// What the system says of the part, once it is about to be moved into place.
    pub(super) moving: Option<FileStat>,
}

/// The place of a record: what is fetched (the path in the link too, or two parts of one root would
/// share their rows), and where to. Names hold no zero byte.
fn key(link: &Link, destination: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut key = link.root.to_bytes();
    for name in &link.path {
        key.push(b'/');
        key.extend_from_slice(name.as_str().as_bytes());
    }
    key.push(0);
    key.extend_from_slice(destination.as_os_str().as_bytes());
    key
}

/// Reads the record of an earlier run, if there is one.
pub(super) fn load(
    store: &Store,
    link: &Link,
    destination: &Path,
) -> Result<Option<TransferRecord>, StoreError> {
    let value = store
        .table(TableName::Transfers)
        .get(&key(link, destination))?;
    Ok(value.and_then(|value| match value.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).ok(),
        _ => None,
    }))
}

/// Writes the record of a run that begins.
pub(super) fn save(
    store: &Store,
    link: &Link,
    destination: &Path,
    record: &TransferRecord,
) -> Result<(), StoreError> {
    let value =
        postcard::to_extend(record, vec![VERSION]).map_err(|error| StoreError::Damaged {
            detail: format!("a transfer cannot be encoded: {error}"),
        })?;
    store
        .table(TableName::Transfers)
        .put(&key(link, destination), &value)
}

/// Forgets a run.
pub(super) fn forget(store: &Store, link: &Link, destination: &Path) -> Result<(), StoreError> {
    store
        .table(TableName::Transfers)
        .delete(&key(link, destination))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::{
        address::{Cid, Digest, HashFn},
        name::SafeName,
    };

    use super::*;

    #[test]
    fn a_run_is_found_by_root_path_and_destination() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let whole = Link::new(Cid::raw(Digest::of(HashFn::Blake3, b"x")));
        let part = Link {
            path: vec![SafeName::parse("a").unwrap()],
            ..whole.clone()
        };
        let record = TransferRecord {
            share: store.new_share_id().unwrap(),
            part: "/x/.y.part".into(),
            moving: Some(FileStat::default()),
        };
        save(&store, &whole, Path::new("/x/y"), &record).unwrap();
        let found = |link, path| load(&store, link, Path::new(path)).unwrap();
        assert_eq!(found(&whole, "/x/y"), Some(record));
        assert_eq!(found(&whole, "/x/z"), None);
        assert_eq!(found(&part, "/x/y"), None);
        forget(&store, &whole, Path::new("/x/y")).unwrap();
        assert_eq!(found(&whole, "/x/y"), None);
    }
}
