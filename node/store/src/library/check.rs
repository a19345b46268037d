//! Reading the whole database, so that damage is found before somebody needs what it took.
//!
//! RocksDB keeps a checksum with every block and compares it when the block is read: reading every
//! row is what it takes to know. A share whose rows cannot all be read, or whose tree has another
//! hash than its address says, is marked as one with a damaged index and not served any more. What
//! no share needs is told by the name of its table. Nothing is repaired here.

use tokio_util::sync::CancellationToken;

use super::Library;
use crate::layout::Family;
use crate::rows::{Origin, ShareRecord};
use crate::{Store, StoreError};

/// Rows read between two looks at whether to stop: a few milliseconds.
const ROWS_PER_LOOK: u64 = 4096;

/// What a check of the database found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Shares of which every row was read.
    pub shares: u64,
    /// Shares of which something is missing or cannot be read, by name.
    pub damaged_shares: Vec<String>,
    /// Tables that cannot be read to their end, and what the database said.
    pub damaged_tables: Vec<(&'static str, String)>,
    /// False when it was cancelled before the end.
    pub complete: bool,
}

impl Checked {
    /// Whether everything was read, and nothing was wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.complete && self.damaged_shares.is_empty() && self.damaged_tables.is_empty()
    }
}

impl Library {
    /// Reads every row of the database and hashes every DAG node in it; marks the shares that are
    /// damaged. It reads about 100 MB/s and no file of a user.
    ///
    /// # Errors
    /// When a finding cannot be recorded. Damage is a finding, no error.
    pub fn check(&self, cancel: &CancellationToken) -> Result<Checked, StoreError> {
        let mut found = Checked::default();
        for share in self.select(|share| share.is_listed()) {
            match self.store().check_share(&share, cancel) {
                Some(Ok(())) => found.shares += 1,
                Some(Err(detail)) => {
                    tracing::error!(share = %share.name, %detail, "the index of a share is damaged");
                    found.damaged_shares.push(share.name.clone());
                    self.mark_damaged_index(share.id)?;
                }
                None => return Ok(found),
            }
        }
        for family in Family::ALL {
            match self.store().read_family(family, cancel) {
                Ok(Some(())) => {}
                Ok(None) => return Ok(found),
                Err(error) => {
                    tracing::error!(table = family.name(), %error, "the database is damaged");
                    found
                        .damaged_tables
                        .push((family.name(), error.to_string()));
                }
            }
        }
        found.complete = true;
        Ok(found)
    }
}

impl Store {
    /// Reads all rows of a share; what is wrong with them, if anything is. `None` when cancelled.
    pub(crate) fn check_share(
        &self,
        share: &ShareRecord,
        cancel: &CancellationToken,
    ) -> Option<Result<(), String>> {
        let mut check = ShareCheck {
            store: self,
            share,
            cancel,
            rows: 0,
        };
        match check.run() {
            Ok(()) => Some(Ok(())),
            Err(Stop::Cancelled) => None,
            Err(Stop::Damaged(detail)) => Some(Err(detail)),
        }
    }

    /// Reads a table to its end; `None` when cancelled.
    fn read_family(
        &self,
        family: Family,
        cancel: &CancellationToken,
    ) -> Result<Option<()>, StoreError> {
        let mut scan = self.inner.scan_uncached(family);
        let mut rows = 0_u64;
        while scan.next()?.is_some() {
            rows += 1;
            if rows.is_multiple_of(ROWS_PER_LOOK) && cancel.is_cancelled() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}

struct ShareCheck<'a> {
    store: &'a Store,
    share: &'a ShareRecord,
    cancel: &'a CancellationToken,
    rows: u64,
}

enum Stop {
    Cancelled,
    Damaged(String),
}

impl ShareCheck<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        self.files()?;
        self.nodes()
    }

    fn files(&mut self) -> Result<(), Stop> {
        let mut files = 0;
        for file in self.store.files_of(self.share.id) {
            let (id, row) = file?;
            files += 1;
            let mut end = 0;
            for chunk in self.store.chunks_of(id) {
                let chunk = chunk?;
                self.row()?;
                end = chunk.offset.saturating_add(u64::from(chunk.len));
            }
            // A fetch in progress has the chunks that have landed; so do files that are fetched in
            // part.
            if self.is_whole() && end != row.stat.size {
                let path = &row.path;
                let size = row.stat.size;
                return Err(damaged(format!(
                    "{path:?}: chunks to {end} of {size} bytes"
                )));
            }
        }
        if self.is_whole() && files != self.share.files {
            let expected = self.share.files;
            return Err(damaged(format!("{files} of {expected} files are there")));
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<(), Stop> {
        for digest in self.store.blocks_of(self.share.id) {
            let digest = digest?;
            self.row()?;
            if self.store.sound_block(&digest)?.is_none() {
                return Err(damaged(format!("the DAG node {digest:?} is not there")));
            }
        }
        Ok(())
    }

    /// Whether all of it has to be there, as it was recorded.
    fn is_whole(&self) -> bool {
        self.share.is_listed() && self.share.origin != Origin::Fetched
    }

    fn row(&mut self) -> Result<(), Stop> {
        self.rows += 1;
        match self.rows.is_multiple_of(ROWS_PER_LOOK) && self.cancel.is_cancelled() {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }
}

fn damaged(detail: String) -> Stop {
    Stop::Damaged(detail)
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Damaged(error.to_string())
    }
}
