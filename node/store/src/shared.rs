//! Many stores over one database, each behind a prefix of its own.
//!
//! A process that runs hundreds of nodes opens one database and gives each node a [`Store`] of it:
//! one cache, one log and two background threads, instead of so many of each. Every key of a store
//! begins with the store's number, so no store sees a row of another, and each behaves as if it had
//! the database to itself. The database is closed when its last store and its last [`SharedStore`]
//! are dropped.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::DB;

use super::layout::Layout;
use super::prefix::Prefix;
use super::{Store, StoreError, open};

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
        let prefix = Prefix::of(number);
        Store::over(Arc::clone(&self.db), prefix, Some(claim), home)
    }
}

impl Claim {
    fn take(number: u16, taken: &Arc<Taken>) -> Option<Self> {
        let mut numbers = taken.lock();
        numbers.insert(number).then(|| Self {
            number,
            taken: Arc::clone(taken),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut numbers = self.taken.lock();
        numbers.remove(&self.number);
    }
}
