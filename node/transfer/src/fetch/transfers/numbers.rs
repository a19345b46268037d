//! The numbers of transfers, told when somebody asks.

use std::collections::BTreeMap;

use shoal_ground::metrics::Numbers;

use super::{super::progress::Totals, Transfers, table::Entry};

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
