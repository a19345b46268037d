//! When copies rest: what costs the owner of this machine more than he gave for others.

use std::sync::atomic::Ordering::Relaxed;

use super::ReplicatorInner;

/// Why a node that keeps copies for others takes none at present. But for the warm-up, it serves none either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// The machine runs on its battery.
    Battery,
    /// The system says that the line costs by the byte.
    Metered,
    /// The day's share of the month's budget is spent.
    Month,
    /// It started less than `replicas.warmup` ago.
    Warmup,
}

impl ReplicatorInner {
    /// Why it takes no copies at present, though it is switched on.
    pub(super) fn paused(&self) -> Option<Paused> {
        let is_young = self.clock.uptime() < self.config.warmup;
        self.resting().or(is_young.then_some(Paused::Warmup))
    }

    /// Why copies use neither the line nor the processor at present.
    pub(super) fn resting(&self) -> Option<Paused> {
        let reasons = [
            (Paused::Battery, self.on_battery.load(Relaxed)),
            (Paused::Metered, self.is_metered.load(Relaxed)),
            (Paused::Month, self.limits.copies_spent()),
        ];
        let holds = |(reason, holds): (Paused, bool)| holds.then_some(reason);
        reasons.into_iter().find_map(holds)
    }
}
