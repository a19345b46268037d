//! Whether this node serves as many readers of copies as it can, as homes are told.
//!
//! It says so once a reader was turned away, and for a minute after the last one: a neighbourhood whose
//! holders are busy keeps one copy more.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Replicator, ReplicatorInner};

/// For how long a node counts as busy after it has turned a reader away.
const BUSY_FOR: Duration = Duration::from_mins(1);

/// Until when this node counts as busy; none where that was told to be over.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<Option<Duration>>);

impl Busy {
    /// A reader was turned away. Whether that is news.
    fn turned_away(&self, now: Duration) -> bool {
        self.0
            .lock()
            .replace(now.saturating_add(BUSY_FOR))
            .is_none()
    }

    /// Whether it has been over since this was asked last.
    fn is_over(&self, now: Duration) -> bool {
        let mut until = self.0.lock();
        let is_over = until.is_some_and(|until| until <= now);
        if is_over {
            *until = None;
        }
        is_over
    }

    fn holds(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl Replicator {
    /// A reader of copies was turned away, for there is no place for it.
    pub(crate) fn turned_away(&self) {
        let inner = &self.inner;
        if inner.busy.turned_away(inner.clock.now()) {
            inner.all_changed();
        }
    }
}

impl ReplicatorInner {
    /// Whether this node serves as many readers of copies as it can.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.holds()
    }

    /// Has homes hear that it is over, if it is.
    pub(super) fn look_whether_busy_is_over(&self) {
        if self.busy.is_over(self.clock.now()) {
            self.all_changed();
        }
    }

    /// Homes hear again of everything that is held for others.
    fn all_changed(&self) {
        let keys = self.replicas.decide(|helper| {
            let keys = helper.cache().keys();
            keys.collect::<Vec<_>>()
        });
        for key in keys {
            self.changed(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_busy_until_a_minute_after_the_last_reader_that_it_turned_away() {
        let (busy, at) = (Busy::default(), Duration::from_secs);
        assert!(!busy.holds() && !busy.is_over(at(0)));
        assert!(busy.turned_away(at(0)) && busy.holds());
        assert!(!busy.turned_away(at(30)), "it is known");
        assert!(!busy.is_over(at(89)) && busy.holds());
        assert!(busy.is_over(at(90)) && !busy.holds());
        assert!(!busy.is_over(at(91)), "it is told once");
        assert!(busy.turned_away(at(100)));
    }
}
