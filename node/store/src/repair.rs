//! Making a sound database out of what can be read of a damaged one.
//!
//! RocksDB's own repair keeps rows, not what belongs together: it would leave shares of which some
//! rows are gone. Here a new database is written beside the old one, with every share whose rows
//! can all be read and every row of the node's own tables that can be read. Then the two change
//! places. The damaged database is kept, under another name, for whoever knows more; nothing is
//! deleted. Shares that could not be taken along are in the register, and told as lost from then
//! on.
//!
//! Replicas are not taken along: they are copies of what others have, and lie sealed where no row of
//! the new database names them, so the next start frees their space.
//!
//! The caller holds the lock of the home.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{DB, DBRawIterator};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio_util::sync::CancellationToken;

use super::layout::{Family, Layout};
use super::open::{self, DB_DIR};
use super::prefix::Prefix;
use super::rows::{self, ShareId, ShareRecord, ShareState};
use super::{BATCH_BYTES, Batch, Store, StoreError, keys};

/// Where the new database is written.
const NEW_DIR: &str = "db.new";

/// How many damaged databases may be kept in one home.
const KEPT_MAX: u32 = 1000;

/// Tables that are taken along row by row.
const TABLES: [Family; 4] = [
    Family::Transfers,
    Family::Providers,
    Family::Peers,
    Family::Node,
];

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Shares and unfinished fetches that were taken along.
    pub shares: u64,
    /// Shares and unfinished fetches of which something could not be read, by name.
    pub left_out: Vec<String>,
    /// Tables of which some rows could not be read.
    pub tables: Vec<&'static str>,
    /// Where the damaged database is now.
    pub kept: PathBuf,
}

impl Store {
    /// Replaces the database of `home` by one with everything that can be read of it. Blocks on the
    /// disk; takes as long as reading and writing all rows.
    ///
    /// A crash in between leaves the damaged database in its place, or the new one.
    ///
    /// # Errors
    /// When the home cannot be written, [`StoreError::InUse`] while another process has it, and
    /// [`StoreError::NewerSchema`], which is no damage.
    pub fn repair(home: &Path) -> Result<Repaired, StoreError> {
        let old = match Self::open(home) {
            Ok(store) => Some(store),
            Err(StoreError::Damaged { detail }) => {
                tracing::warn!(%detail, "nothing of the database can be read");
                None
            }
            Err(error) => return Err(error),
        };
        let at = home.join(NEW_DIR);
        remove_folder(&at)?;
        let new = open::database_in(home, NEW_DIR, Layout::Own)?;
        let new = Self::over(Arc::new(new), Prefix::default(), None, home)?;
        let mut repair = Repair {
            new,
            ids_end: 0,
            shares: 0,
            left_out: Vec::new(),
            tables: Vec::new(),
        };
        if let Some(old) = &old {
            repair.take_along(old)?;
        }
        let Repair {
            new,
            shares,
            left_out,
            tables,
            ..
        } = repair;
        new.sync()?;
        drop((old, new));
        Ok(Repaired {
            shares,
            left_out,
            tables,
            kept: change_places(home)?,
        })
    }
}

struct Repair {
    new: Store,
    /// Behind the last id that is in use.
    ids_end: u64,
    shares: u64,
    left_out: Vec<String>,
    tables: Vec<&'static str>,
}

impl Repair {
    fn take_along(&mut self, old: &Store) -> Result<(), StoreError> {
        let (shares, is_whole) = readable_rows(&old.inner.db, Family::Shares)?;
        if !is_whole {
            self.tables.push(Family::Shares.name());
        }
        for (key, value) in shares {
            let Ok(share) = rows::decode::<ShareRecord>(&value) else {
                let id = keys::take_u64(&key).map_or(0, |(id, _)| id);
                self.left_out.push(format!("number {id}"));
                continue;
            };
            if matches!(share.state, ShareState::Staging | ShareState::Removing) {
                continue;
            }
            let share = old.located(share);
            match old.check_share(&share, &CancellationToken::new()) {
                Some(Ok(())) => self.take_share(old, &share)?,
                Some(Err(_)) | None => self.left_out.push(share.name),
            }
        }
        for family in TABLES {
            self.take_table(old, family)?;
        }
        // Ids are never used twice; the old end may be unreadable.
        let end = open::reserved_ids(&old.inner.db, Prefix::default()).unwrap_or_default();
        let end = end.max(self.ids_end).to_be_bytes();
        let mut batch = self.new.batch();
        batch.put(Family::Meta, open::NEXT_ID, end);
        batch.commit(true)
    }

    /// Copies all rows of a share, which were all read before.
    fn take_share(&mut self, old: &Store, share: &ShareRecord) -> Result<(), StoreError> {
        let ShareId(id) = share.id;
        let mut batch = self.new.batch();
        self.ids_end = self.ids_end.max(id.saturating_add(1));
        for file in old.files_of(share.id) {
            let (file, row) = file?;
            self.ids_end = self.ids_end.max(file.0.saturating_add(1));
            batch.put_file(file, &row)?;
            for chunk in old.chunks_of(file) {
                let chunk = chunk?;
                batch.put_chunk(file, chunk.offset, &chunk.digest, chunk.len);
                batch = self.commit_when_full(batch)?;
            }
        }
        for digest in old.blocks_of(share.id) {
            let digest = digest?;
            let block = old.block(&digest)?;
            let block = block.ok_or_else(|| StoreError::damaged("a block went meanwhile"))?;
            batch.put_block(share.id, &digest, &block);
            batch = self.commit_when_full(batch)?;
        }
        batch.put_share(share)?;
        batch.commit(false)?;
        self.shares += 1;
        Ok(())
    }

    fn take_table(&mut self, old: &Store, family: Family) -> Result<(), StoreError> {
        let (rows, is_whole) = readable_rows(&old.inner.db, family)?;
        if !is_whole {
            self.tables.push(family.name());
        }
        let mut batch = self.new.batch();
        for (key, value) in rows {
            batch.put(family, key, value);
            batch = self.commit_when_full(batch)?;
        }
        batch.commit(false)
    }

    fn commit_when_full(&self, batch: Batch) -> Result<Batch, StoreError> {
        if batch.bytes() < BATCH_BYTES {
            return Ok(batch);
        }
        batch.commit(false)?;
        Ok(self.new.batch())
    }
}

/// The rows of a table, from both ends to what cannot be read; and whether that is all of them.
fn readable_rows(db: &DB, family: Family) -> Result<(Vec<Row>, bool), StoreError> {
    let handle = db
        .cf_handle(family.name())
        .ok_or_else(|| StoreError::damaged("a family is missing"))?;
    let mut rows = Vec::new();
    let mut forward = db.raw_iterator_cf(&handle);
    forward.seek_to_first();
    while let Some(row) = row_of(&forward) {
        rows.push(row);
        forward.next();
    }
    if forward.status().is_ok() {
        return Ok((rows, true));
    }
    let last = rows.last().map(|(key, _)| key.clone());
    let mut backward = db.raw_iterator_cf(&handle);
    backward.seek_to_last();
    while let Some(row) = row_of(&backward)
        && last.as_ref().is_none_or(|last| row.0 > *last)
    {
        rows.push(row);
        backward.prev();
    }
    Ok((rows, false))
}

type Row = (Vec<u8>, Vec<u8>);

fn row_of(rows: &DBRawIterator<'_>) -> Option<Row> {
    rows.item()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
}

/// Puts the new database in the place of the damaged one, which is kept.
fn change_places(home: &Path) -> Result<PathBuf, StoreError> {
    let (db, new) = (home.join(DB_DIR), home.join(NEW_DIR));
    let kept = (1..=KEPT_MAX)
        .map(|number| home.join(format!("{DB_DIR}.damaged-{number}")))
        .find(|path| !path.exists())
        .ok_or_else(|| StoreError::io(home, io::ErrorKind::AlreadyExists.into()))?;
    // In one step where the file system can, so that there is a database at every moment.
    match renameat_with(CWD, &new, CWD, &db, RenameFlags::EXCHANGE) {
        Ok(()) => fs::rename(&new, &kept),
        Err(_) => fs::rename(&db, &kept).and_then(|()| fs::rename(&new, &db)),
    }
    .map_err(|error| StoreError::io(&db, error))?;
    open::sync_folder(home)?;
    Ok(kept)
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}
