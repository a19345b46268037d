//! Where the stores of a test live: in a database of their own, or in one with neighbours.

use std::path::PathBuf;

use rocksdb::IteratorMode;
use tempfile::TempDir;

use super::put_share;
use crate::layout::Family;
use crate::{SharedStore, Store, TableName};

/// The store under test, and those before and behind it, in a database that they share.
const NUMBER: u16 = 7;
const NEIGHBOURS: [u16; 4] = [0, NUMBER - 1, NUMBER + 1, u16::MAX];

/// A folder with a home, whose store may be opened again and again.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    is_shared: bool,
}

/// A row of the database, with the name of its family.
type Row = (&'static str, Vec<u8>, Vec<u8>);

impl Site {
    /// Runs a check over a store that has a database to itself, and over one among neighbours, of
    /// whom it must not touch a row.
    pub(crate) fn each(check: impl Fn(&Self)) {
        let site = |is_shared| Self {
            dir: tempfile::tempdir().unwrap(),
            is_shared,
        };
        check(&site(false));
        let shared = site(true);
        let before = shared.settle();
        assert!(before.len() > 10 * NEIGHBOURS.len(), "neighbours have rows");
        check(&shared);
        assert!(
            shared.neighbours() == before,
            "a neighbour's row is another"
        );
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn open(&self) -> Store {
        match self.is_shared {
            true => self.database().store(NUMBER, &self.home()).unwrap(),
            false => Store::open(&self.home()).unwrap(),
        }
    }

    fn database(&self) -> SharedStore {
        SharedStore::open(&self.dir.path().join("shared")).unwrap()
    }

    /// Gives neighbours the rows that the store under test might take for its own: the same ids,
    /// the same digests, the same keys.
    fn settle(&self) -> Vec<Row> {
        let database = self.database();
        for number in NEIGHBOURS {
            let home = self.dir.path().join(number.to_string());
            let store = database.store(number, &home).unwrap();
            put_share(&store, "node");
            put_share(&store, "one");
            for table in [TableName::Providers, TableName::Peers, TableName::Node] {
                let table = store.table(table);
                for key in [&b""[..], b"a1", b"b2", &[0xff; 8]] {
                    table.put(key, b"neighbour").unwrap();
                }
            }
        }
        drop(database);
        self.neighbours()
    }

    fn neighbours(&self) -> Vec<Row> {
        let database = self.database();
        let stores = NEIGHBOURS.map(|number| {
            let home = self.dir.path().join(number.to_string());
            rows(&database.store(number, &home).unwrap())
        });
        stores.concat()
    }
}

/// Every row of a store, as the database has it.
pub(crate) fn rows(store: &Store) -> Vec<Row> {
    let inner = &store.inner;
    let mine = inner.key(b"");
    let of_family = |family: Family| {
        let handle = inner.family(family);
        let all = inner.db.full_iterator_cf(&handle, IteratorMode::Start);
        let all = all.map(|row| row.unwrap());
        all.filter(|(key, _)| key.starts_with(&mine))
            .map(|(key, value)| (family.name(), key.to_vec(), value.to_vec()))
            .collect::<Vec<_>>()
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}
