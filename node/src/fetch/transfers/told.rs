//! What others are told of transfers: events as they happen, numbers when they ask.

use std::{collections::BTreeMap, sync::Arc};

use shoal_protocol::address::Cid;

use super::{
    super::{FetchError, Fetched, progress::Totals},
    TransferInfo, Transfers,
    table::Entry,
};
use crate::metrics::Numbers;

/// What is told of transfers: on the thread that moves one, under the lock of the table, before
/// anybody learns of it otherwise. Whoever is told must not wait or call back.
pub(crate) enum FetchEvent<'a> {
    /// A transfer is in another state.
    Changed(Box<TransferInfo>),
    /// A transfer is ended for good; what it left is being taken away.
    Removed {
        /// Its number.
        id: u64,
        /// Its root.
        root: &'a Cid,
    },
    /// A run has come to its end.
    Ended {
        /// The number of its transfer.
        id: u64,
        /// What came of it.
        result: &'a Result<Fetched, FetchError>,
    },
}

/// Who is told.
pub(super) type Tell = Arc<dyn Fn(FetchEvent<'_>) + Send + Sync>;

impl Transfers {
    /// Chunk payload that was verified since the process started.
    pub(in crate::fetch) fn totals(&self) -> Totals {
        let table = self.lock();
        let mut totals = table.ended;
        let runs = table.entries.values().filter_map(Entry::run);
        runs.for_each(|run| totals.add(&run.progress.snapshot()));
        totals
    }

    /// Adds its numbers.
    pub(in crate::fetch) fn measure(&self, numbers: &mut Numbers) {
        let table = self.lock();
        let states = ["queued", "running", "paused", "failed", "removing"];
        let mut counts = BTreeMap::from(states.map(|state| (state, 0)));
        for entry in table.entries.values().filter(|entry| !entry.is_over()) {
            *counts.entry(entry.state.name()).or_default() += 1;
        }
        numbers.gauges(
            "shoal_transfers",
            "Fetches that are not over, by state.",
            "state",
            counts,
        );
        numbers.counter(
            "shoal_transfers_refused",
            "Fetches refused because as many as may were not over.",
            table.refused,
        );
    }
}
