//! Sharing real files into a real store.

#![allow(clippy::unwrap_used)]

mod crash;
mod places;
mod vectors;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shoal_protocol::address::Cid;
use shoal_protocol::unixfs::{Node, parse_node};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Store, TableName};

/// Longest wait for something that happens in the background.
const DEADLINE: Duration = Duration::from_secs(30);

/// A home and a folder of files to share from it.
struct World {
    library: Library,
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        let store = Store::open(&dir.path().join("home")).unwrap();
        Self {
            library: Library::open(store, |_| {}).unwrap(),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("files").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn request(&self, names: &[&str]) -> ShareRequest {
        let paths = names.iter().map(|name| self.path(name)).collect();
        ShareRequest {
            paths,
            ..ShareRequest::default()
        }
    }

    fn try_share(&self, request: &ShareRequest) -> Result<Shared, ShareError> {
        share(&self.library, request, &|_| {}, &CancellationToken::new())
    }

    fn share(&self, request: &ShareRequest) -> Shared {
        self.try_share(request).unwrap()
    }

    /// Waits until the store holds exactly `count` records of shares, whatever their state.
    fn wait_for_records(&self, count: usize) {
        let begun = Instant::now();
        while self.library.store().shares().unwrap().len() != count {
            assert!(
                begun.elapsed() < DEADLINE,
                "removed shares are not collected"
            );
            std::thread::yield_now();
        }
    }
}

/// All bytes of the file at `cid`, read block by block through the library.
fn read_file(library: &Library, cid: &Cid) -> Vec<u8> {
    let mut block = Vec::new();
    library
        .read(&cid.digest().unwrap(), None, &mut block)
        .unwrap();
    match cid.codec() {
        shoal_protocol::address::Codec::Raw => block,
        shoal_protocol::address::Codec::DagPb => match parse_node(&block).unwrap() {
            Node::File(node) => node
                .children
                .iter()
                .flat_map(|child| read_file(library, &child.cid))
                .collect(),
            other => panic!("{other:?} is not a file"),
        },
    }
}

/// `len` bytes that do not repeat.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Whether any row of any share is left.
fn is_empty(store: &Store) -> bool {
    // The tables that others own are not touched by sharing.
    let tables = [TableName::Transfers, TableName::Providers, TableName::Peers];
    assert!(
        tables
            .iter()
            .all(|name| store.table(*name).scan(b"", b"", 1).unwrap().is_empty())
    );
    store.shares().unwrap().is_empty()
}

fn modified(path: &Path) -> std::time::SystemTime {
    path.metadata().unwrap().modified().unwrap()
}
