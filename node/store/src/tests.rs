//! The store over a real database: what survives, what is refused, what is collected.

#![allow(clippy::unwrap_used)]

pub(super) mod death;
mod shared;
pub(super) mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rocksdb::{DB, Options};
use shoal_protocol::address::HashFn;
use shoal_protocol::replicate::Salt;
use tempfile::TempDir;

use self::site::Site;
use super::*;
use crate::replicas::{ReplicaConfig, Replicas};

/// A home with an open store; the store may be closed and opened again.
struct Home {
    dir: TempDir,
    store: Option<Store>,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(Store::open(dir.path()).unwrap());
        Self { dir, store }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn db(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    fn close(&mut self) {
        self.store = None;
    }

    /// The database of the home, which is closed, as RocksDB opens it.
    fn raw(&self) -> DB {
        DB::open_cf(
            &Options::default(),
            self.db(),
            Family::ALL.map(Family::name),
        )
        .unwrap()
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(HashFn::Blake3, text.as_bytes())
}

fn record(id: ShareId, state: ShareState) -> ShareRecord {
    ShareRecord {
        id,
        root: Cid::raw(digest("root")),
        name: "name".to_owned(),
        source: "/base".into(),
        base: "/base".into(),
        selection: Vec::new(),
        origin: Origin::Shared,
        announce: true,
        recipe: Recipe::default(),
        size: 1,
        files: 1,
        chunks: 1,
        created_ms: 1,
        unflushed_boot: None,
        state,
        written: None,
        replicate: true,
        terms: Terms::default(),
    }
}

fn locations(store: &Store, chunk: &str) -> Vec<Location> {
    store
        .locations(&digest(chunk))
        .collect::<Result<_, _>>()
        .unwrap()
}

fn holders(store: &Store, block: &str) -> Vec<ShareId> {
    store
        .shares_of_block(&digest(block))
        .collect::<Result<_, _>>()
        .unwrap()
}

fn file_row(share: ShareId, path: &str) -> FileRow {
    let stat = FileStat {
        size: 5,
        mtime_ns: 1,
        ctime_ns: 2,
        ino: 3,
        dev: 4,
    };
    FileRow {
        share,
        path: path.to_owned(),
        stat,
        state: FileState::Stable,
    }
}

/// Stores a share of two files that hold the same two chunks, and one block.
fn put_share(store: &Store, block: &str) -> ShareId {
    let share = store.new_share_id().unwrap();
    let mut batch = store.batch();
    batch.put_share(&record(share, ShareState::Live)).unwrap();
    batch.put_block(share, &digest(block), block.as_bytes());
    for (file, path) in store.new_file_ids(2).unwrap().zip(["a", "b/c"]) {
        batch.put_file(file, &file_row(share, path)).unwrap();
        batch.put_chunk(file, 0, &digest("one"), 3);
        batch.put_chunk(file, 3, &digest("two"), 2);
    }
    batch.commit(true).unwrap();
    share
}

#[test]
fn rows_are_found_from_every_side_and_survive_reopening() {
    Site::each(|site| {
        let store = site.open();
        let share = put_share(&store, "node");
        drop(store);
        let store = &site.open();

        assert_eq!(
            store.share(share).unwrap(),
            Some(record(share, ShareState::Live))
        );
        assert_eq!(store.shares().unwrap().len(), 1);
        assert_eq!(
            store
                .shares_of_root(&Cid::raw(digest("root")))
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            store
                .shares_of_root(&Cid::raw(digest("other")))
                .unwrap()
                .len(),
            0
        );

        let files: Vec<_> = store.files_of(share).collect::<Result<_, _>>().unwrap();
        assert_eq!(
            files
                .iter()
                .map(|(_, row)| row.path.as_str())
                .collect::<Vec<_>>(),
            ["a", "b/c"]
        );
        let (second, row) = store.file_by_path(share, "b/c").unwrap().unwrap();
        assert_eq!((second, &row), (files[1].0, &file_row(share, "b/c")));
        assert!(store.file_by_path(share, "b").unwrap().is_none());

        let chunks: Vec<_> = store.chunks_of(second).collect::<Result<_, _>>().unwrap();
        let one = FileChunk {
            offset: 0,
            digest: digest("one"),
            len: 3,
        };
        let two = FileChunk {
            offset: 3,
            digest: digest("two"),
            len: 2,
        };
        assert_eq!(chunks, [one, two]);
        let at = |file, offset, len| Location { file, offset, len };
        let places = [at(files[0].0, 3, 2), at(second, 3, 2)];
        assert_eq!(locations(store, "two"), places);
        assert!(locations(store, "three").is_empty());

        assert_eq!(store.block(&digest("node")).unwrap().unwrap(), b"node");
        assert_eq!(store.block_len(&digest("node")).unwrap(), Some(4));
        assert!(!store.has_block(&digest("one")).unwrap());
        assert_eq!(holders(store, "node"), [share]);
    });
}

#[test]
fn ids_are_not_reused_after_reopening() {
    Site::each(|site| {
        let mut store = site.open();
        let first = store.new_share_id().unwrap();
        let files: Vec<_> = store.new_file_ids(100_000).unwrap().collect();
        drop(store);
        store = site.open();
        let next = store.new_share_id().unwrap();
        assert!(next.0 > first.0 && next.0 > files.last().unwrap().0);
    });
}

#[test]
fn a_batch_that_is_dropped_changes_nothing() {
    Site::each(|site| {
        let store = site.open();
        let share = store.new_share_id().unwrap();
        let mut batch = store.batch();
        batch.put_share(&record(share, ShareState::Live)).unwrap();
        batch.put_block(share, &digest("x"), b"x");
        drop(batch);
        assert!(store.shares().unwrap().is_empty());
        assert!(!store.has_block(&digest("x")).unwrap());
    });
}

#[test]
fn blocks_and_locations_go_with_the_last_share_that_has_them() {
    Site::each(|site| {
        let store = &site.open();
        let (first, second) = (put_share(store, "node"), put_share(store, "node"));
        let go = || false;

        assert!(store.remove_rows(first, &go).unwrap());
        assert!(store.has_block(&digest("node")).unwrap());
        assert_eq!(holders(store, "node"), [second]);
        assert_eq!(locations(store, "one").len(), 2);
        assert!(store.share(first).unwrap().is_none());

        assert!(store.remove_rows(second, &go).unwrap());
        let left = site::rows(store);
        let left = left
            .iter()
            .filter(|(family, ..)| *family != Family::Meta.name());
        assert_eq!(left.count(), 0, "rows are left");
    });
}

#[test]
fn a_removal_that_was_stopped_goes_on_later() {
    Site::each(|site| {
        let store = site.open();
        let share = put_share(&store, "node");
        let stopped = || true;
        assert!(!store.remove_rows(share, &stopped).unwrap());
        assert!(store.share(share).unwrap().is_some());
        assert!(store.remove_rows(share, &|| false).unwrap());
        assert!(store.share(share).unwrap().is_none());
    });
}

#[test]
fn tables_are_apart_and_scan_in_pages() {
    Site::each(|site| {
        let store = site.open();
        let table = store.table(TableName::Providers);
        let put = |key: &[u8]| TableChange::Put {
            key: key.to_vec(),
            value: vec![1],
        };
        table
            .write(&[put(b"a1"), put(b"a2"), put(b"a3"), put(b"b1")], true)
            .unwrap();
        table
            .write(
                &[
                    TableChange::Delete {
                        key: b"a2".to_vec(),
                    },
                    put(b"a4"),
                ],
                false,
            )
            .unwrap();
        table.put(b"b2", b"x").unwrap();
        table.delete(b"b1").unwrap();

        let keys = |prefix: &[u8], from: &[u8], limit| -> Vec<Vec<u8>> {
            table
                .scan(prefix, from, limit)
                .unwrap()
                .into_iter()
                .map(|(key, _)| key)
                .collect()
        };
        assert_eq!(keys(b"a", b"", 10), [b"a1", b"a3", b"a4"]);
        assert_eq!(keys(b"a", b"", 2), [b"a1", b"a3"]);
        assert_eq!(keys(b"a", b"a3\0", 2), [b"a4"]);
        assert_eq!(keys(b"", b"", 10).len(), 4);
        assert_eq!(table.get(b"b2").unwrap().unwrap(), b"x");
        assert!(table.get(b"b1").unwrap().is_none());
        assert!(store.table(TableName::Peers).get(b"a1").unwrap().is_none());
    });
}

#[test]
fn a_second_store_of_one_home_is_refused_until_the_first_is_closed() {
    let mut home = Home::new();
    let error = Store::open(home.dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    home.close();
    assert!(Store::open(home.dir.path()).is_ok());
}

/// The database of the build before this schema: what it kept of shares is found where it is now.
#[test]
fn a_home_of_the_schema_before_opens_wherever_it_was_moved() {
    let mut home = Home::new();
    let (plain, copied) = (
        put_share(home.store(), "node"),
        put_share(home.store(), "copy"),
    );
    home.close();
    let db = home.raw();
    db.put_cf(&db.cf_handle("meta").unwrap(), "schema", 1u32.to_be_bytes())
        .unwrap();
    let shares = db.cf_handle("shares").unwrap();
    let earlier = |record: &ShareRecord| {
        // Without the last fields, which were not there.
        let mut row = postcard::to_extend(record, vec![1]).unwrap();
        assert_eq!(row.split_off(row.len() - 5), [0, 1, 0, 0, 0]);
        row
    };
    let copy = ShareRecord {
        origin: Origin::Copied,
        base: format!("/where/it/was/copies/{copied}/name").into(),
        ..record(copied, ShareState::Live)
    };
    for record in [&record(plain, ShareState::Live), &copy] {
        db.put_cf(&shares, keys::share(record.id), earlier(record))
            .unwrap();
    }
    drop(shares);
    drop(db);

    // Twice: once brought to this schema, and once as it is then, somewhere else again.
    let moved = home.dir.path().with_extension("moved");
    for from_to in [
        (home.dir.path(), moved.as_path()),
        (&moved, home.dir.path()),
    ] {
        fs::rename(from_to.0, from_to.1).unwrap();
        let store = Store::open(from_to.1).unwrap();
        assert_eq!(
            store.share(plain).unwrap().unwrap(),
            record(plain, ShareState::Live)
        );
        let found = store.share(copied).unwrap().unwrap();
        assert_eq!(found.base, store.copy_dir(copied).join("name"));
        assert_eq!((found.source, found.written), (copy.source.clone(), None));
        assert_eq!(store.shares().unwrap().len(), 2);
        let row = store
            .inner
            .get(Family::Shares, &keys::share(copied))
            .unwrap();
        let base: ShareRecord = rows::decode(&row.unwrap()).unwrap();
        assert_eq!(base.base, PathBuf::from(format!("copies/{copied}/name")));
    }
    assert!(
        !open::is_earlier(&Store::open(home.dir.path()).unwrap().inner.db, Layout::Own).unwrap()
    );
}

/// The database of the build before replicas: it gets their family, and keeps all else.
#[test]
fn a_home_of_the_schema_without_replicas_opens() {
    let mut home = Home::new();
    let share = put_share(home.store(), "node");
    home.close();
    let db = home.raw();
    db.drop_cf("replicas").unwrap();
    db.put_cf(&db.cf_handle("meta").unwrap(), "schema", 2u32.to_be_bytes())
        .unwrap();
    drop(db);
    for _ in 0..2 {
        let store = Store::open(home.dir.path()).unwrap();
        assert_eq!(
            store.share(share).unwrap().unwrap(),
            record(share, ShareState::Live)
        );
        assert!(!open::is_earlier(&store.inner.db, Layout::Own).unwrap());
        let config = ReplicaConfig::default();
        let replicas = Replicas::open(&store, config, Salt([0; 32]), Duration::ZERO, |_| {});
        assert!(replicas.unwrap().list().is_empty());
    }
}

#[test]
fn a_released_store_takes_nothing_more_and_another_one_opens() {
    let home = Home::new();
    let share = put_share(home.store(), "node");
    home.store().release().unwrap();
    assert!(home.store().batch().commit(false).is_err());
    assert!(
        home.store().share(share).unwrap().is_some(),
        "it can be read"
    );
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let mut home = Home::new();
    put_share(home.store(), "node");
    home.close();

    let db = home.raw();
    db.put_cf(&db.cf_handle("meta").unwrap(), "schema", 7u32.to_be_bytes())
        .unwrap();
    drop(db);
    let check = || {
        let error = Store::open(home.dir.path()).err().unwrap();
        assert!(
            matches!(
                error,
                StoreError::NewerSchema {
                    found: 7,
                    supported: layout::SCHEMA
                }
            ),
            "{error}"
        );
    };
    check();

    let db = home.raw();
    db.create_cf("added_later", &Options::default()).unwrap();
    drop(db);
    check();
}

#[test]
fn a_database_that_lost_its_schema_is_damaged_not_new() {
    let mut home = Home::new();
    let share = put_share(home.store(), "node");
    home.close();
    let db = home.raw();
    let meta = db.cf_handle("meta").unwrap();
    let schema = db.get_cf(&meta, "schema").unwrap().unwrap();
    db.delete_cf(&meta, "schema").unwrap();
    drop(meta);
    drop(db);
    let error = Store::open(home.dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");

    let db = home.raw();
    db.put_cf(&db.cf_handle("meta").unwrap(), "schema", schema)
        .unwrap();
    drop(db);
    home.close();
    home.store = Some(Store::open(home.dir.path()).unwrap());
    assert!(home.store().share(share).unwrap().is_some());
}

/// Ways to damage a database, each of which must be told and must not make it worse.
#[test]
fn a_damaged_database_is_refused_and_nothing_is_deleted() {
    let check = |what: &str, damage: &dyn Fn(&Path)| {
        let mut home = Home::new();
        put_share(home.store(), "node");
        home.store()
            .inner
            .db
            .flush_cf(&home.store().inner.family(Family::Meta))
            .unwrap();
        home.close();
        damage(&home.db());
        let before = names(&home.db());
        let error = Store::open(home.dir.path())
            .err()
            .unwrap_or_else(|| panic!("{what}: opened"));
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{what}: {error}"
        );
        let after = names(&home.db());
        assert!(
            before.iter().all(|name| after.contains(name)),
            "{what}: {before:?} {after:?}"
        );
    };
    check("no manifest", &|db| {
        fs::remove_file(find(db, "MANIFEST-")).unwrap();
    });
    check("manifest of noise", &|db| {
        fs::write(find(db, "MANIFEST-"), [7; 4096]).unwrap();
    });
    check("current of noise", &|db| {
        fs::write(db.join("CURRENT"), "noise").unwrap();
    });
    check("no table", &|db| fs::remove_file(find(db, ".sst")).unwrap());
    check("table of noise", &|db| {
        fs::write(find(db, ".sst"), [7; 4096]).unwrap();
    });
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // RocksDB rolls its own text logs at every attempt to open.
    names.filter(|name| !name.starts_with("LOG")).collect()
}

fn find(dir: &Path, part: &str) -> PathBuf {
    let name = names(dir)
        .into_iter()
        .find(|name| name.contains(part))
        .unwrap();
    dir.join(name)
}

#[test]
fn totals_of_damaged_records_stay_at_the_largest_number() {
    let share = |size, files| {
        let record = record(ShareId(1), ShareState::Live);
        Arc::new(ShareRecord {
            size,
            files,
            ..record
        })
    };
    let totals = |shares: &[Arc<ShareRecord>]| {
        let ShareTotals { bytes, files } = ShareTotals::of(shares);
        (bytes, files)
    };
    assert_eq!(totals(&[]), (0, 0));
    assert_eq!(totals(&[share(3, 1), share(4, 2)]), (7, 3));
    let most = share(u64::MAX, u64::MAX);
    assert_eq!(
        totals(&[share(3, 1), most.clone(), most]),
        (u64::MAX, u64::MAX)
    );
}
