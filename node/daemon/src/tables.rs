//! The network's rows in the store.

use std::io;

use shoal_net::{Change, KvLog};
use shoal_store::{StoreError, Table, TableChange};

/// Rows shown per scan while loading; bounds memory, not the number of rows.
const SCAN_ROWS: usize = 1024;

/// A [`Table`] as the network wants it.
pub(super) struct TableLog {
    table: Table,
}

impl TableLog {
    pub(super) fn new(table: Table) -> Self {
        Self { table }
    }
}

impl KvLog for TableLog {
    fn load(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut from = Vec::new();
        loop {
            let rows = self.table.scan(&[], &from, SCAN_ROWS).map_err(to_io)?;
            for (key, value) in &rows {
                visit(key, value);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == SCAN_ROWS => {
                    from.clone_from(last);
                    // The key right behind the last one.
                    from.push(0);
                }
                _ => return Ok(()),
            }
        }
    }

    fn write(&self, changes: &[Change]) -> io::Result<()> {
        let changes: Vec<_> = changes
            .iter()
            .cloned()
            .map(|Change { key, value }| match value {
                Some(value) => TableChange::Put { key, value },
                None => TableChange::Delete { key },
            })
            .collect();
        self.table.write(&changes, false).map_err(to_io)
    }
}

/// The rows of a node that is alone: it remembers nobody, and nothing of it is kept.
pub(super) struct NoLog;

impl KvLog for NoLog {
    fn load(&self, _visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _changes: &[Change]) -> io::Result<()> {
        Ok(())
    }
}

fn to_io(error: StoreError) -> io::Error {
    io::Error::other(error)
}
