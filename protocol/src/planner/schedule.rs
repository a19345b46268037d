//! What [`Planner::poll`] decides.
//!
//! In this order: who is awake again, who has stalled, what is overdue and moves elsewhere, whose
//! window takes more from the queue, and, where the queue has nothing for an idle provider, which slow
//! requests are worth a duplicate.

use std::cmp::Reverse;
use std::time::Duration;

use crate::exchange::WANTS_PER_MESSAGE_MAX;

use super::config::SCAN_MAX;
use super::provider::Provider;
use super::want::{Flight, WantState};
use super::{Action, Blame, Planner, ProviderId, Standing, WantId};

/// After this many moves a want's time grows no further: 64 times.
const MOVES_MAX: u8 = 6;

impl Planner {
    /// What to send now, in this order. To be called after every input and at
    /// [`next_deadline`](Self::next_deadline).
    pub fn poll(&mut self, now: Duration) -> Vec<Action> {
        self.advance(now);
        self.polled = self.now;
        self.wake();
        self.drop_stalled();
        self.move_overdue();
        self.refill();
        self.double_slow();
        self.take_actions()
    }

    /// When to poll next if nothing happens before; `None` if nothing will change by itself.
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.outbox.is_empty() {
            return Some(self.now);
        }
        let several = self.providers.len() > 1 && self.wants_in_flight() > 0;
        let tick = several.then(|| self.polled.saturating_add(self.config.tick));
        let of_providers = self.providers.values().filter_map(|provider| {
            let wakes_at = match provider.standing {
                Standing::Resting { until } => Some(until),
                Standing::Ready | Standing::Suspect => None,
            };
            wakes_at.into_iter().chain(provider.stalls_at()).min()
        });
        tick.into_iter().chain(of_providers).min()
    }

    fn wake(&mut self) {
        for provider in self.providers.values_mut() {
            if matches!(provider.standing, Standing::Resting { until } if until <= self.now) {
                provider.standing = Standing::Ready;
            }
        }
    }

    fn drop_stalled(&mut self) {
        let (now, config) = (self.now, &self.config);
        let stalled: Vec<ProviderId> = self
            .providers
            .iter_mut()
            .filter_map(|(id, provider)| provider.has_stalled(now, config).then_some(*id))
            .collect();
        for id in stalled {
            self.drop_provider(id, Blame::Stalled);
        }
    }

    fn move_overdue(&mut self) {
        if self.providers.len() < 2 {
            return;
        }
        let holders: Vec<ProviderId> = self.providers.keys().copied().collect();
        for holder in holders {
            for id in self.overdue_at(holder) {
                self.move_from(holder, id);
            }
        }
    }

    /// The oldest requests at a provider that have taken longer than they may.
    fn overdue_at(&self, holder: ProviderId) -> Vec<WantId> {
        let Some(provider) = self.providers.get(&holder) else {
            return Vec::new();
        };
        let patience = provider.patience(&self.config);
        let too_long = |asked: Duration| self.now.saturating_sub(asked);
        provider
            .in_flight
            .iter()
            .take(SCAN_MAX)
            .take_while(|(asked, _)| too_long(*asked) >= patience)
            .filter(|(asked, id)| {
                let moves = self
                    .wants
                    .get(id)
                    .map_or(0, |want| want.moves.min(MOVES_MAX));
                let factor = 1_u32.checked_shl(u32::from(moves)).unwrap_or(u32::MAX);
                too_long(*asked) >= patience.saturating_mul(factor)
            })
            .map(|(_, id)| *id)
            .collect()
    }

    /// Moves a request to the provider that should be soonest, if there is another one; no more is
    /// in flight after than before.
    fn move_from(&mut self, holder: ProviderId, id: WantId) {
        let Some(want) = self.wants.get(&id) else {
            return;
        };
        let is_elsewhere = !matches!(want.state, WantState::InFlight(_));
        let taker = if is_elsewhere {
            None
        } else {
            self.soonest_for(id, holder)
        };
        if !is_elsewhere && taker.is_none() {
            return;
        }
        self.recall(id, holder);
        if let Some(want) = self.wants.get_mut(&id) {
            want.moves = want.moves.saturating_add(1);
        }
        if let Some(provider) = self.providers.get_mut(&holder) {
            provider.suspect();
            provider.tally.overdue = provider.tally.overdue.saturating_add(1);
        }
        if let Some(taker) = taker {
            self.launch(id, taker);
        }
    }

    fn soonest_for(&self, id: WantId, holder: ProviderId) -> Option<ProviderId> {
        let want = self.wants.get(&id)?;
        self.providers
            .iter()
            .filter(|(other, provider)| {
                **other != holder
                    && provider.standing == Standing::Ready
                    && provider.may_have(want)
                    && provider.takes(want.charge, &self.config)
            })
            .min_by_key(|(_, provider)| provider.time_to_get(want.charge, &self.config))
            .map(|(other, _)| *other)
    }

    /// Fills the windows from the queue, the fastest provider's first, so that the earliest wants
    /// come soonest.
    fn refill(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let mut takers: Vec<_> = self
            .providers
            .iter()
            .filter(|(_, provider)| provider.wants_refill(&self.config))
            .map(|(id, provider)| (Reverse(provider.link.rate().unwrap_or(0)), *id))
            .collect();
        takers.sort_unstable();
        for (_, id) in takers {
            self.fill(id);
        }
    }

    fn fill(&mut self, taker: ProviderId) {
        while let Some(provider) = self.providers.get_mut(&taker) {
            let Some(id) = self.queue.range(provider.cursor..).next().copied() else {
                return;
            };
            let Some(want) = self.wants.get(&id) else {
                return;
            };
            if !provider.may_have(want) {
                provider.cursor = WantId(id.0.saturating_add(1));
                continue;
            }
            let charge = want.charge;
            if !provider.takes(charge, &self.config) || !self.budget_takes(charge) {
                return;
            }
            self.launch(id, taker);
        }
    }

    /// Doubles requests at slow providers where an idle one should be much sooner. The longest
    /// wait goes first; since providers answer in order, that is a slow one's newest request.
    fn double_slow(&mut self) {
        if self.providers.len() < 2 || self.wants_in_flight() == 0 {
            return;
        }
        let idle: Vec<ProviderId> = self
            .providers
            .iter()
            .filter(|(_, provider)| {
                provider.standing == Standing::Ready
                    && provider.wants_refill(&self.config)
                    && self.queue.range(provider.cursor..).next().is_none()
            })
            .map(|(id, _)| *id)
            .collect();
        for thief in idle {
            for (waits, id) in self.doubles_for(thief) {
                if !self.is_worth_doubling(thief, id, waits) {
                    break;
                }
                self.launch(id, thief);
                self.totals.doubled = self.totals.doubled.saturating_add(1);
            }
        }
    }

    /// The requests of others that the thief could double, with the time they are expected to
    /// take yet, longest first.
    fn doubles_for(&self, thief: ProviderId) -> Vec<(Duration, WantId)> {
        let Some(provider) = self.providers.get(&thief) else {
            return Vec::new();
        };
        let mut doubles = Vec::new();
        for (id, victim) in &self.providers {
            if *id != thief {
                doubles.extend(self.waits_at(victim).filter(|(_, want)| {
                    self.wants.get(want).is_some_and(|want| {
                        matches!(want.state, WantState::InFlight(_)) && provider.may_have(want)
                    })
                }));
            }
        }
        doubles.sort_unstable_by(|a, b| b.cmp(a));
        doubles
    }

    /// A provider's newest requests with the time they are expected to take yet.
    fn waits_at(&self, victim: &Provider) -> impl Iterator<Item = (Duration, WantId)> {
        let silent = victim.silent_for(self.now);
        let mut bytes = victim.in_flight_bytes;
        victim
            .in_flight
            .iter()
            .rev()
            .take(SCAN_MAX)
            .map(move |(_, id)| {
                let waits = victim.link.time_for(bytes, &self.config).max(silent);
                let charge = self.wants.get(id).map_or(0, |want| want.charge);
                bytes = bytes.saturating_sub(u64::from(charge));
                (waits, *id)
            })
    }

    fn is_worth_doubling(&self, thief: ProviderId, id: WantId, waits: Duration) -> bool {
        let (Some(provider), Some(want)) = (self.providers.get(&thief), self.wants.get(&id)) else {
            return false;
        };
        let sooner = provider.time_to_get(want.charge, &self.config);
        waits > sooner.saturating_mul(self.config.steal_factor)
            && provider.takes(want.charge, &self.config)
            && self.budget_takes(want.charge)
    }

    fn budget_takes(&self, charge: u32) -> bool {
        let nothing_held = self.held_bytes == 0 && self.budget_bytes > 0;
        nothing_held || self.held_bytes.saturating_add(u64::from(charge)) <= self.budget_bytes
    }

    fn launch(&mut self, id: WantId, at: ProviderId) {
        let (Some(want), Some(provider)) = (self.wants.get_mut(&id), self.providers.get_mut(&at))
        else {
            return;
        };
        if !want.launch(Flight {
            provider: at,
            asked: self.now,
        }) {
            return;
        }
        provider.launch(id, want.charge, self.now, &self.config);
        self.held_bytes = self.held_bytes.saturating_add(u64::from(want.charge));
        self.queue.remove(&id);
        self.launched.entry(at).or_default().push(id);
    }

    fn take_actions(&mut self) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.outbox);
        for (provider, wants) in std::mem::take(&mut self.launched) {
            for wants in wants.chunks(WANTS_PER_MESSAGE_MAX) {
                actions.push(Action::Want {
                    provider,
                    wants: wants.to_vec(),
                });
            }
        }
        actions
    }
}
