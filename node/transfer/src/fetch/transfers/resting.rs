//! The transfers that rest for want of providers.

use super::{
    super::look::Resting,
    Pause, Transfers,
    table::{Entry, State},
};

impl Transfers {
    /// The transfers that rest for want of providers.
    pub(in crate::fetch) fn resting(&self) -> Vec<Resting> {
        let table = self.lock();
        let entries = table.entries.iter();
        entries
            .filter(|(_, entry)| rests(entry))
            .map(|(id, entry)| Resting {
                id: *id,
                bytes: entry.reached().bytes,
                request: entry.request.clone(),
            })
            .collect()
    }

    /// Waits until one more transfer rests for want of providers. Cancel-safe; for one listener.
    pub(in crate::fetch) async fn rested(&self) {
        self.rested.notified().await;
    }

    /// Queues a transfer that rests for want of providers; false when it does not, any more. Its row
    /// is written by [`Transfers::flush`].
    pub(in crate::fetch) fn go_on(&self, id: u64) -> bool {
        let mut table = self.lock();
        if table.closed || !table.entries.get(&id).is_some_and(rests) {
            return false;
        }
        table.queue(id, None, &self.shutdown);
        if let Some(entry) = table.entries.get(&id) {
            self.persist(entry, id);
        }
        true
    }
}

fn rests(entry: &Entry) -> bool {
    matches!(entry.state, State::Paused(Pause::NoProvider(_)))
}
