//! Fetches that are done, and whose move to their final name is not on the disk yet.
//!
//! A power loss may keep the rows of such a fetch and undo its move: then what was fetched has its
//! hidden name again, and no transfer knows of it. So there is a row for each from before it is done
//! until the flush, and the next start moves again what was moved back.
//!
//! | key               | value                                |
//! | ----------------- | ------------------------------------ |
//! | `u`, number 8 BE  | a version byte and a [`LandingPlace`]        |
//!
//! They lie in the table of transfers, whose numbers they have. Rows of another layout are left
//! alone.

use std::{io, time::Duration};

use shoal_store::disks::Disks;
use shoal_store::{ShareRecord, ShareState, Store, StoreError, TableName};

use super::record::LandingPlace;

const VERSION: u8 = 1;
const PREFIX: u8 = b'u';

/// Rows looked at at a start: as many fetches as end while one flush takes; what is beyond is seen
/// to at the next start.
const ROWS_MAX: usize = 4096;

/// How long a start waits for each disk.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// The rows of one home.
pub(super) struct Unflushed<'a> {
    store: &'a Store,
}

impl<'a> Unflushed<'a> {
    pub(super) fn of(store: &'a Store) -> Self {
        Self { store }
    }

    /// Notes where a transfer was before it was moved; to be called before it is done.
    pub(super) fn note(&self, id: u64, place: &LandingPlace) -> Result<(), StoreError> {
        let row = postcard::to_extend(place, vec![VERSION]);
        let row = row.map_err(|error| StoreError::Damaged {
            detail: format!("a place cannot be encoded: {error}"),
        })?;
        self.store.table(TableName::Transfers).put(&key(id), &row)
    }

    /// The flush is done.
    pub(super) fn forget(&self, id: u64) -> Result<(), StoreError> {
        self.store.table(TableName::Transfers).delete(&key(id))
    }

    /// Moves again what a power loss has moved back. Blocking; nothing else may run yet.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let disks = Disks::default();
        let table = self.store.table(TableName::Transfers);
        for (key, value) in table.scan(&[PREFIX], &[], ROWS_MAX)? {
            let Some(place) = read(&value) else {
                continue;
            };
            let share = self.store.share(place.share)?;
            let is_landing = |share: &ShareRecord| share.state == ShareState::Landing;
            if share.as_ref().is_some_and(is_landing) {
                // Its transfer was not done after all, and sees to it.
                table.delete(&key)?;
                continue;
            }
            // A disk that hangs must not keep the node from starting.
            let disk = disks.of(&place.destination.parent);
            let moving = place.clone();
            let moved = disk.wait(SETTLE_PATIENCE, move || moving.move_again());
            if let Err(error) = moved.map_err(io::Error::from).flatten() {
                let path = place.destination.path();
                tracing::warn!(%error, path = %path.display(), "a fetch was not moved into place again");
                continue;
            }
            if share.is_none_or(|share| share.unflushed_boot.is_none()) {
                table.delete(&key)?;
            }
        }
        Ok(())
    }
}

impl LandingPlace {
    /// Gives a part that has its hidden name again the one that it had; where something else has
    /// that by now, the part goes.
    fn move_again(&self) -> io::Result<()> {
        let Some(part) = self.existing_part()? else {
            return Ok(());
        };
        match part.publish(&self.destination, false, &[]) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => part.remove(),
            done => done.map(drop),
        }
    }
}

fn key(id: u64) -> Vec<u8> {
    [&[PREFIX][..], &id.to_be_bytes()].concat()
}

fn read(value: &[u8]) -> Option<LandingPlace> {
    let (version, body) = value.split_first()?;
    (*version == VERSION).then(|| postcard::from_bytes(body).ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, path::Path};

    use shoal_protocol::address::{Cid, Digest, HashFn};

    use super::*;
    use crate::fetch::place::Destination;
    use shoal_store::{BootId, Origin, Recipe, Terms};

    /// A fetch that is done, whose part has its hidden name; its share is as `share` says.
    struct Case {
        home: tempfile::TempDir,
        store: Store,
        place: LandingPlace,
    }

    impl Case {
        fn new(share: impl FnOnce(ShareRecord) -> Option<ShareRecord>) -> Self {
            let home = tempfile::tempdir().unwrap();
            let store = Store::open(home.path()).unwrap();
            let id = store.new_share_id().unwrap();
            let parent = home.path().join("landed");
            fs::create_dir(&parent).unwrap();
            fs::write(parent.join(".x.part"), "fetched").unwrap();
            let record = ShareRecord {
                id,
                root: Cid::raw(Digest::of(HashFn::Blake3, b"fetched")),
                name: "x".to_owned(),
                source: parent.join("x"),
                base: parent.join("x"),
                selection: Vec::new(),
                origin: Origin::Fetched,
                announce: true,
                recipe: Recipe::default(),
                size: 7,
                files: 1,
                chunks: 1,
                created_ms: 1,
                unflushed_boot: Some(BootId::current()),
                state: ShareState::Live,
                written: None,
                replicate: true,
                terms: Terms::default(),
            };
            if let Some(record) = share(record) {
                let mut batch = store.batch();
                batch.put_share(&record).unwrap();
                batch.commit(false).unwrap();
            }
            let place = LandingPlace {
                destination: Destination {
                    parent,
                    name: "x".into(),
                },
                part: ".x.part".into(),
                share: id,
                moving: None,
            };
            Unflushed::of(&store).note(7, &place).unwrap();
            Self { home, store, place }
        }

        fn rows(&self) -> usize {
            let table = self.store.table(TableName::Transfers);
            table.scan(&[PREFIX], &[], 10).unwrap().len()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.home.path().join("landed")).unwrap();
            let name = |it: fs::DirEntry| it.file_name().into_string().unwrap();
            let mut names: Vec<String> = entries.map(|it| name(it.unwrap())).collect();
            names.sort();
            names
        }

        fn settle(&self) {
            Unflushed::of(&self.store).settle().unwrap();
        }
    }

    #[test]
    fn what_was_moved_back_is_moved_again() {
        let case = Case::new(Some);
        case.settle();
        assert_eq!(case.names(), ["x"]);
        assert_eq!(fs::read(case.place.destination.path()).unwrap(), b"fetched");
        assert_eq!(case.rows(), 1, "that is not on the disk, either");
        case.settle();
        assert_eq!(case.names(), ["x"]);
        Unflushed::of(&case.store).forget(7).unwrap();
        assert_eq!(case.rows(), 0);
    }

    #[test]
    fn what_is_on_the_disk_or_shared_no_more_needs_no_row() {
        let flushed = |share| {
            Some(ShareRecord {
                unflushed_boot: None,
                ..share
            })
        };
        for case in [Case::new(flushed), Case::new(|_| None)] {
            case.settle();
            assert_eq!((case.names(), case.rows()), (vec!["x".to_owned()], 0));
        }
    }

    #[test]
    fn nothing_is_replaced_and_no_part_stays() {
        let case = Case::new(Some);
        fs::write(case.place.destination.path(), "another").unwrap();
        case.settle();
        assert_eq!(case.names(), ["x"]);
        assert_eq!(fs::read(case.place.destination.path()).unwrap(), b"another");
    }

    #[test]
    fn a_fetch_that_is_not_done_after_all_is_left_to_its_transfer() {
        let landing = |share| {
            Some(ShareRecord {
                state: ShareState::Landing,
                ..share
            })
        };
        let case = Case::new(landing);
        case.settle();
        assert_eq!((case.names(), case.rows()), (vec![".x.part".to_owned()], 0));
    }

    #[test]
    fn a_place_that_is_gone_is_no_error() {
        let case = Case::new(Some);
        fs::remove_dir_all(Path::new(&case.place.destination.parent)).unwrap();
        case.settle();
        assert_eq!(case.rows(), 1);
    }
}
