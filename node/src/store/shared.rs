//! Many stores over one database, each behind a prefix of its own.
//!
//! A process that runs hundreds of nodes opens one database and gives each node a [`Store`] of it:
//! one cache, one log and two background threads, instead of so many of each. Every key of a store
//! begins with the store's number, so no store sees a row of another, and each behaves as if it had
//! the database to itself. The database is closed when its last store and its last [`SharedStore`]
//! are dropped.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::DB;

use super::layout::Layout;
use super::{Inner, Store, StoreError, keys, open};

/// What every key of a store in a shared database begins with: its number, big-endian. The
/// database's own rows begin with a letter, which no number of 16 bits does.
pub(super) const PREFIX_BYTES: usize = size_of::<u32>();

/// A database that many stores share. Cheap to clone.
#[derive(Clone)]
pub struct SharedStore {
    db: Arc<DB>,
    taken: Arc<Taken>,
}

/// The numbers of the stores that are open.
type Taken = Mutex<HashSet<u16>>;

/// The number of an open store; given back when dropped.
pub(super) struct Claim {
    number: u16,
    taken: Arc<Taken>,
}

/// What every key of a store begins with: nothing, for one that has a database to itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Prefix(Option<[u8; PREFIX_BYTES]>);

impl SharedStore {
    /// Opens the shared database below `folder`, creating both when they are missing.
    ///
    /// # Errors
    /// As [`Store::open`]; the database of an ordinary store is refused as damaged.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        open::make_home(folder)?;
        let db = open::database(folder, Layout::Shared)?;
        Ok(Self {
            db: Arc::new(db),
            taken: Arc::default(),
        })
    }

    /// The store with this number, for the node that lives in `home`, which is made when it is
    /// missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another store with this number is open.
    pub fn store(&self, number: u16, home: &Path) -> Result<Store, StoreError> {
        open::make_home(home)?;
        let claim = Claim::take(number, &self.taken).ok_or_else(|| StoreError::InUse {
            home: home.to_owned(),
        })?;
        let prefix = Prefix(Some(u32::from(number).to_be_bytes()));
        Store::over(Arc::clone(&self.db), prefix, Some(claim), home)
    }
}

impl Claim {
    fn take(number: u16, taken: &Arc<Taken>) -> Option<Self> {
        let mut numbers = taken.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.insert(number).then(|| Self {
            number,
            taken: Arc::clone(taken),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut numbers = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.remove(&self.number);
    }
}

impl Prefix {
    /// A store's key as the database has it.
    pub(super) fn key<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        match self.0 {
            None => Cow::Borrowed(key),
            Some(prefix) => Cow::Owned([&prefix, key].concat()),
        }
    }

    /// How much longer a key is in the database.
    pub(super) fn len(&self) -> usize {
        self.0.map_or(0, |prefix| prefix.len())
    }

    /// All keys of the store, from the first to the one behind the last; open ends where it has
    /// the database to itself.
    pub(super) fn range(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let first = self.0.map(|prefix| prefix.to_vec());
        let end = self.0.and_then(|prefix| keys::prefix_end(&prefix));
        (first, end)
    }
}

impl Inner {
    /// The key of a row as the database has it.
    pub(super) fn key<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        self.prefix.key(key)
    }
}
