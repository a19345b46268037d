//! The limit of one transfer, beside those of the node.

use std::sync::Arc;

use shoal_ground::units::Rate;
use shoal_net::{Traffic, Way};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Class, gate, gate::Gate};

/// What one transfer may receive: payload, for what else moves belongs to no transfer. Cheap to
/// clone; all clones are one limit.
#[derive(Clone)]
pub(crate) struct Pace {
    gate: Arc<Gate>,
    received: Traffic,
    wake: Arc<Notify>,
}

impl Default for Pace {
    /// No limit.
    fn default() -> Self {
        Self::of(Rate::OFF)
    }
}

impl Pace {
    /// A limit that holds once [`Pace::keep`] runs.
    pub(crate) fn of(rate: Rate) -> Self {
        let (received, wake) = (Traffic::default(), Arc::<Notify>::default());
        let gate = Gate::new(received.clone(), Way::Down, Arc::clone(&wake));
        gate.set_rate(rate.bytes_per_second());
        Self {
            gate: Arc::new(gate),
            received,
            wake,
        }
    }

    /// The limit.
    pub(crate) fn rate(&self) -> Rate {
        Rate::from_bytes_per_second(self.bytes_per_second().unwrap_or(0))
    }

    /// Changes the limit, also while the transfer runs.
    pub(crate) fn set(&self, rate: Rate) {
        self.gate.set_rate(rate.bytes_per_second());
    }

    /// Lets through whose turn it is, until `end`.
    pub(crate) async fn keep(self, end: CancellationToken) {
        gate::pump([self.gate], self.wake, end).await;
    }

    pub(super) fn bytes_per_second(&self) -> Option<u64> {
        self.gate.rate()
    }

    /// Waits until some of `bytes` may be received, and says how many.
    pub(super) async fn take(&self, bytes: usize) -> usize {
        let taken = self.gate.take(Class::User, bytes as u64).await;
        usize::try_from(taken).unwrap_or(bytes).min(bytes)
    }

    /// So many were received.
    pub(super) fn received(&self, bytes: usize) {
        self.received.add(Way::Down, bytes);
    }
}
