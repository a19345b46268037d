//! Stores that share a database are as far apart as stores that do not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is done to a table of one of the stores.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, Vec<u8>, u8),
    Delete(usize, Vec<u8>),
}

/// Keys of few different bytes, so that they meet, are prefixes of each other and lie at the ends.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, 1, 7, 0xfe, 0xff]), 0..6)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4usize, key(), any::<u8>()).prop_map(|(at, key, value)| Step::Put(at, key, value)),
        1 => (0..4usize, key()).prop_map(|(at, key)| Step::Delete(at, key)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_store_holds_what_was_put_into_it(
        steps in prop::collection::vec(step(), 0..200),
        prefix in key(),
        from in key(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let database = SharedStore::open(dir.path()).unwrap();
        let stores = [0, 1, 0xff, u16::MAX].map(|number| {
            database.store(number, &dir.path().join(number.to_string())).unwrap()
        });
        let tables = stores.each_ref().map(|store| store.table(TableName::Node));
        let mut expected = [const { BTreeMap::new() }; 4];
        for step in steps {
            match step {
                Step::Put(at, key, value) => {
                    tables[at].put(&key, &[value]).unwrap();
                    expected[at].insert(key, vec![value]);
                }
                Step::Delete(at, key) => {
                    tables[at].delete(&key).unwrap();
                    expected[at].remove(&key);
                }
            }
        }
        for (table, expected) in tables.iter().zip(&expected) {
            let all: Vec<_> = expected.clone().into_iter().collect();
            prop_assert_eq!(table.scan(&[], &[], usize::MAX).unwrap(), all);
            let some = expected.iter().filter(|(key, _)| {
                key.starts_with(&prefix) && key.as_slice() >= from.as_slice()
            });
            let some: Vec<_> = some.map(|(key, value)| (key.clone(), value.clone())).collect();
            prop_assert_eq!(table.scan(&prefix, &from, usize::MAX).unwrap(), some);
            for (key, value) in expected {
                let found = table.get(key).unwrap();
                prop_assert_eq!(found.as_ref(), Some(value));
            }
        }
    }
}

#[test]
fn a_number_is_taken_while_its_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let database = SharedStore::open(dir.path()).unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let store = database.store(1, &one).unwrap();
    let clone = store.clone();
    drop(store);
    let error = database.store(1, &other).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(database.store(2, &other).is_ok());
    drop(clone);
    assert!(database.store(1, &other).is_ok());
}

#[test]
fn a_store_holds_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let database = SharedStore::open(dir.path()).unwrap();
    let store = database.store(1, &dir.path().join("one")).unwrap();
    drop(database);
    let error = SharedStore::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    put_share(&store, "node");
    drop(store);
    let database = SharedStore::open(dir.path()).unwrap();
    let store = database.store(1, &dir.path().join("one")).unwrap();
    assert_eq!(store.shares().unwrap().len(), 1);
}

#[test]
fn neither_layout_is_taken_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (own, shared) = (dir.path().join("own"), dir.path().join("shared"));
    drop(Store::open(&own).unwrap());
    drop(SharedStore::open(&shared).unwrap());
    let error = SharedStore::open(&own).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let error = Store::open(&shared).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(Store::open(&own).is_ok() && SharedStore::open(&shared).is_ok());
}
