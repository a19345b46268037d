//! What the planner shows of itself.

use std::time::Duration;

use super::{Class, Holdings, Planner, ProviderId, Standing, Tally};

/// A planner's state, for people and for the caller's decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it goes on.
    pub progress: Progress,
    /// Wants that wait.
    pub queued: usize,
    /// Wants in flight.
    pub in_flight: usize,
    /// Blocks received and not yet verified.
    pub verifying: usize,
    /// What counts against the budget, in bytes.
    pub held_bytes: u64,
    /// Counts since the start.
    pub totals: Totals,
    /// The providers, by id.
    pub providers: Vec<ProviderStatus>,
}

/// Whether a transfer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is wanted.
    Done,
    /// Every want can be served by some provider.
    Moving,
    /// Some wants can't be served by any provider there is, others can.
    Hampered {
        /// How many can't.
        unserved: usize,
    },
    /// No want can be served, and none is in flight: without another provider it ends here.
    Stalled {
        /// How many wants there are.
        unserved: usize,
    },
}

/// What a planner counts since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes received that were no longer needed.
    pub late_bytes: u64,
    /// Requests that doubled another.
    pub doubled: u64,
    /// Providers dropped, for whatever blame.
    pub dropped: u64,
}

/// One provider's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatus {
    /// Whose.
    pub id: ProviderId,
    /// Its class.
    pub class: Class,
    /// Whether it is near.
    pub is_near: bool,
    /// What it may be asked.
    pub standing: Standing,
    /// Its measured payload rate, in bytes per second.
    pub rate: Option<u64>,
    /// Its measured round-trip time, reading and scheduling on its side included.
    pub rtt: Option<Duration>,
    /// How much should be in flight there, in bytes.
    pub window_bytes: u64,
    /// How much is.
    pub in_flight_bytes: u64,
    /// How many requests that is.
    pub in_flight: usize,
    /// What it has done so far.
    pub tally: Tally,
}

impl Planner {
    /// The state at present. It looks at every queued want: not for every block.
    pub fn status(&self) -> Status {
        Status {
            progress: self.progress_made(),
            queued: self.wants_pending(),
            in_flight: self.wants_in_flight(),
            verifying: self.verifying,
            held_bytes: self.held_bytes,
            totals: self.totals,
            providers: self.provider_statuses(),
        }
    }

    /// Whether a provider works that says it has every block.
    #[must_use]
    pub fn has_everything(&self, id: ProviderId) -> bool {
        let provider = self.providers.get(&id);
        provider.is_some_and(|it| it.holdings == Holdings::Everything)
    }

    /// Whether a provider is near, has everything and stays. An owner does all that and is no copy.
    #[must_use]
    pub fn is_near_copy(&self, id: ProviderId) -> bool {
        let provider = self.providers.get(&id);
        provider.is_some_and(|it| {
            it.is_near && it.class == Class::Holder && it.holdings == Holdings::Everything
        })
    }

    /// Whether there [is](Self::is_near_copy) a near copy.
    #[must_use]
    pub fn has_near_copy(&self) -> bool {
        let mut ids = self.providers.keys();
        ids.any(|id| self.is_near_copy(*id))
    }

    /// Whether nothing is asked of a provider now.
    #[must_use]
    pub fn is_idle(&self, id: ProviderId) -> bool {
        let provider = self.providers.get(&id);
        provider.is_none_or(|it| it.in_flight.is_empty())
    }

    fn progress_made(&self) -> Progress {
        let unserved = self.unserved();
        match (self.wants.len(), unserved) {
            (0, _) => Progress::Done,
            (_, 0) => Progress::Moving,
            (wants, _) if wants == unserved => Progress::Stalled { unserved },
            _ => Progress::Hampered { unserved },
        }
    }

    /// How many queued wants no provider has.
    fn unserved(&self) -> usize {
        self.queue
            .iter()
            .filter_map(|rank| self.wants.get(&rank.id))
            .filter(|want| {
                !self
                    .providers
                    .values()
                    .any(|provider| provider.may_have(want))
            })
            .count()
    }

    fn provider_statuses(&self) -> Vec<ProviderStatus> {
        self.providers
            .iter()
            .map(|(id, provider)| ProviderStatus {
                id: *id,
                class: provider.class,
                is_near: provider.is_near,
                standing: provider.standing,
                rate: provider.link.rate(),
                rtt: provider.link.rtt(),
                window_bytes: provider.link.window(&self.config),
                in_flight_bytes: provider.in_flight_bytes,
                in_flight: provider.in_flight.len(),
                tally: provider.tally,
            })
            .collect()
    }
}
