//! Rows of transfers on their way to the database.
//!
//! The table of transfers is looked at by everybody who asks how things are, so no row is written
//! under its lock. A change is noted here under that lock, which takes no time, and written by
//! [`Outbox::flush`] after it, on a thread that may block. Of several notes on one transfer the last
//! is written; a later one is never overtaken by an earlier one.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use shoal_store::StoreError;

use super::super::record::{Records, TransferRecord};

/// What is to be written.
pub(super) struct Outbox {
    records: Records,
    pending: Mutex<Pending>,
    /// Held while rows are written, so that they are in the order of their notes.
    writing: Mutex<()>,
}

/// At most one row for each transfer that is not over.
#[derive(Default)]
struct Pending {
    rows: BTreeMap<u64, Option<TransferRecord>>,
    next_id: Option<u64>,
}

impl Outbox {
    pub(super) fn new(records: Records) -> Self {
        Self {
            records,
            pending: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Notes that a transfer's row is to be this one; none when it is to go. Never waits.
    pub(super) fn note(&self, id: u64, record: Option<TransferRecord>) {
        self.pending().rows.insert(id, record);
    }

    /// Notes the next number to give. Never waits.
    pub(super) fn note_next_id(&self, next_id: u64) {
        self.pending().next_id = Some(next_id);
    }

    /// Writes what was noted so far. Blocking.
    ///
    /// # Errors
    /// When the database fails; what was noted is written by a later call then.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.writing.lock();
        let Pending { rows, next_id } = std::mem::take(&mut *self.pending());
        if rows.is_empty() && next_id.is_none() {
            return Ok(());
        }
        let written = self.records.write(&rows, next_id);
        if written.is_err() {
            let mut pending = self.pending();
            for (id, row) in rows {
                pending.rows.entry(id).or_insert(row);
            }
            pending.next_id = pending.next_id.or(next_id);
        }
        written
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock()
    }
}
