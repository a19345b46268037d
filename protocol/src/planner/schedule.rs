//! What [`Planner::poll`] decides.
//!
//! In this order: who is awake again, who has stalled, what is overdue and moves elsewhere, whose
//! window takes more from the queue, and, where that leaves a provider idle, which requests at slow
//! ones it takes over.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::exchange::{COMING_LEAVES_MAX, WANTS_PER_MESSAGE_MAX};

use super::config::SCAN_MAX;
use super::provider::Provider;
use super::rank::Rank;
use super::tier::Tier;
use super::want::{Flight, WantState};
use super::{Action, Blame, Order, Planner, ProviderId, Standing, WantId};

/// After this many moves a want's time grows no further: it is 64 times then.
const MOVES_MAX: u8 = 6;

/// How many leaves that are coming to near members are passed over in one poll to find one that is
/// not: all of four members.
const COMING_SCAN_MAX: usize = 4 * COMING_LEAVES_MAX;

/// A want in flight that an idle provider could take over.
#[derive(Debug)]
pub(super) struct Wait {
    /// How long it is expected to take yet.
    pub(super) time: Duration,
    pub(super) want: WantId,
    /// Whose request takes the longest.
    slowest: ProviderId,
    /// How many requests for it are in flight.
    flights: usize,
}

impl Wait {
    /// Whether one provider alone was asked for it.
    pub(super) fn is_single(&self) -> bool {
        self.flights == 1
    }

    /// Adds the want's other request: the sooner one counts, the later one can be given up.
    fn join(&mut self, other: &Self) {
        if other.time > self.time {
            self.slowest = other.slowest;
        }
        self.time = self.time.min(other.time);
        self.flights = self.flights.saturating_add(other.flights);
    }
}

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
        self.relieve_slow();
        self.take_actions()
    }

    /// When to poll next if nothing happens before; `None` if nothing will change by itself.
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.outbox.is_empty() {
            return Some(self.now);
        }
        let several = self.providers.len() > 1 && self.wants_in_flight() > 0;
        // What is left to others is not left to them for ever.
        let others = |it: &Provider| it.tier() < Tier::Owner;
        let left = !self.queue.is_empty() && self.providers.values().any(others);
        let tick = (several || left).then(|| self.polled.saturating_add(self.config.tick));
        let of_providers = self.providers.values().filter_map(|provider| {
            let wakes_at = match provider.standing {
                Standing::Resting { until } | Standing::Suspect { until } => Some(until),
                Standing::Ready | Standing::Probing => None,
            };
            wakes_at.into_iter().chain(provider.stalls_at()).min()
        });
        tick.into_iter().chain(of_providers).min()
    }

    fn wake(&mut self) {
        for provider in self.providers.values_mut() {
            match provider.standing {
                Standing::Suspect { until } if until <= self.now => {
                    provider.standing = Standing::Ready;
                }
                Standing::Resting { until } if until <= self.now => {
                    provider.standing = Standing::Probing;
                }
                _ => {}
            }
        }
    }

    fn drop_stalled(&mut self) {
        let now = self.now;
        let stalled: Vec<ProviderId> = self
            .providers
            .iter_mut()
            .filter_map(|(id, provider)| provider.has_stalled(now).then_some(*id))
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
        // As long as its rate is not known, what comes says that it is alive.
        let too_long = |asked: Duration| match provider.link.rate() {
            Some(_) => self.now.saturating_sub(asked),
            None => provider.silent_since(asked, self.now),
        };
        provider
            .in_flight
            .iter()
            .take(SCAN_MAX)
            .take_while(|(asked, _)| too_long(*asked) >= patience)
            .filter(|(asked, id)| {
                let moves = self.wants.get(id).map_or(0, |want| want.moves);
                let factor = 1_u32.checked_shl(u32::from(moves)).unwrap_or(u32::MAX);
                too_long(*asked) >= patience.saturating_mul(factor)
            })
            .map(|(_, id)| *id)
            .collect()
    }

    /// Moves a request to the provider that should be soonest, if there is another one; no more is
    /// in flight after than before. One of two requests for the same goes only when the other one is
    /// being answered: until then nobody knows which is the sooner one.
    fn move_from(&mut self, holder: ProviderId, id: WantId) {
        let Some(want) = self.wants.get(&id) else {
            return;
        };
        let is_elsewhere = !matches!(want.state, WantState::InFlight(_));
        let mut others = want.flights().filter(|flight| flight.provider != holder);
        let has_begun = |other: ProviderId| {
            let other = self.providers.get(&other);
            other.is_some_and(|other| other.has_begun(id))
        };
        if is_elsewhere && !others.any(|flight| has_begun(flight.provider)) {
            return;
        }
        let taker = if is_elsewhere {
            None
        } else {
            self.soonest_for(id, holder)
        };
        if !is_elsewhere && taker.is_none() {
            return;
        }
        self.take_away(id, holder);
        if let Some(taker) = taker {
            self.launch(id, taker);
        }
    }

    /// Takes a request away from a provider that was too slow for it.
    fn take_away(&mut self, id: WantId, holder: ProviderId) {
        self.recall(id, holder);
        if let Some(want) = self.wants.get_mut(&id) {
            want.moves = want.moves.saturating_add(1).min(MOVES_MAX);
        }
        if let Some(provider) = self.providers.get_mut(&holder) {
            provider.suspect(self.now, &self.config);
            provider.tally.moved = provider.tally.moved.saturating_add(1);
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
                    && provider.takes(want, &self.config)
            })
            .min_by_key(|(_, provider)| provider.time_to_get(want.charge, &self.config))
            .map(|(other, _)| *other)
    }

    /// Fills the windows from the queue: those of near holders and members, of far ones, of owners,
    /// which are to be spared; of each, providers not measured yet, which have to be; then the
    /// fastest first, so that the earliest wants come soonest; suspect ones last.
    fn refill(&mut self) {
        if self.queue.is_empty() || self.is_behind() {
            return;
        }
        let mut takers: Vec<_> = self
            .providers
            .iter()
            .filter(|(_, provider)| provider.wants_refill(&self.config))
            .map(|(id, provider)| {
                let is_suspect = provider.standing != Standing::Ready;
                (
                    is_suspect,
                    provider.tier(),
                    provider.link.rate().map(Reverse),
                    *id,
                )
            })
            .collect();
        takers.sort_unstable();
        for (.., id) in takers {
            self.fill(id);
        }
    }

    fn fill(&mut self, taker: ProviderId) {
        // Wants that are left to others, and the place behind the last of them.
        let (mut left, mut from) = (0_usize, Rank::default());
        while let Some(provider) = self.providers.get_mut(&taker) {
            let start = provider.cursor.max(from);
            let Some(rank) = self.queue.range(start..).next().copied() else {
                return;
            };
            let Some(want) = self.wants.get(&rank.id) else {
                return;
            };
            if !provider.may_have(want) {
                let next = rank.next_for(provider.tier(), want.part);
                match left {
                    0 => provider.cursor = next,
                    _ => from = next,
                }
                continue;
            }
            if !provider.takes(want, &self.config) || !self.budget_takes(want.charge) {
                return;
            }
            let is_coming = self.is_left_to_members(taker, rank.id, want);
            if !is_coming && self.is_for(taker, rank) {
                self.launch(rank.id, taker);
                continue;
            }
            // By the order of a swarm nothing behind it is for this one either, unless only this one is
            // spared: the dearer a provider is, the farther behind is what it is spared.
            left = left.saturating_add(1);
            let (is_swarm, most) = match self.config.order {
                Order::Swarm { .. } => (true, COMING_SCAN_MAX),
                Order::ById => (false, SCAN_MAX),
            };
            if is_swarm && !is_coming || left == most {
                return;
            }
            from = rank.next();
        }
    }

    /// Lets idle providers help slow ones, once per tick: what they should get much sooner they are
    /// asked for, too, or instead where no second request may be. What has begun to come in is asked for
    /// instead: the helper goes on where it stands, and no byte is sent twice. So is what only waits
    /// behind another request, where the helper has nothing at all to do. Whoever still has half of its
    /// window free is idle, since the queue was offered already. The longest wait goes first;
    /// since providers answer in order, that is a slow one's newest request. Nobody is idle, though,
    /// while nothing is asked for because the disk is behind, and nobody helps of whom it is not known
    /// yet how fast it is, but for a far holder that is tried.
    fn relieve_slow(&mut self) {
        let is_alone = self.providers.len() < 2 || self.wants_in_flight() == 0;
        if self.now < self.relieve_at || is_alone || self.is_behind() {
            return;
        }
        let mut idle: Vec<_> = self
            .providers
            .iter()
            .filter(|(_, provider)| {
                provider.standing == Standing::Ready && provider.wants_refill(&self.config)
            })
            .map(|(id, it)| (it.tier(), Reverse(it.link.rate()), *id))
            .collect();
        if idle.is_empty() {
            return;
        }
        self.relieve_at = self.now.saturating_add(self.config.tick);
        idle.sort_unstable();
        let waits = self.longest_waits();
        for (.., helper) in idle {
            for wait in &waits {
                self.relieve(helper, wait);
            }
        }
    }

    fn relieve(&mut self, helper: ProviderId, wait: &Wait) {
        let (Some(want), Some(provider), Some(holder)) = (
            self.wants.get(&wait.want),
            self.providers.get(&helper),
            self.providers.get(&wait.slowest),
        ) else {
            return;
        };
        let is_as_it_was =
            want.flights().count() == wait.flights && want.flight_at(wait.slowest).is_some();
        let can_help = want.flight_at(helper).is_none()
            && provider.may_have(want)
            && provider.takes(want, &self.config)
            && provider.is_known(&self.config)
            && !self.is_left_to_members(helper, wait.want, want);
        if !is_as_it_was || !can_help {
            return;
        }
        if wait.is_single() && self.takes_over(provider, holder, wait.time, want) {
            self.recall(wait.want, wait.slowest);
            self.taken_over(wait.want);
        } else if wait.is_single()
            && (self.is_waiting_for_nothing(provider, holder, wait, want)
                || self.is_worth_trying(provider, holder, wait, want))
        {
            // It has not begun to come in: nothing is lost, and nobody is to blame.
            self.recall(wait.want, wait.slowest);
        } else if !self.is_worth_relief(provider, holder, wait, want) {
            return;
        } else if wait.is_single() && !holder.has_begun(wait.want) && self.budget_takes(want.charge)
        {
            self.totals.doubled = self.totals.doubled.saturating_add(1);
        } else {
            self.take_away(wait.want, wait.slowest);
        }
        self.launch(wait.want, helper);
    }

    /// The wants in flight with the time they are expected to take yet, longest first; of each
    /// provider only the newest, and no want whose other request is not among these.
    fn longest_waits(&self) -> Vec<Wait> {
        let mut waits: BTreeMap<WantId, Wait> = BTreeMap::new();
        for (id, provider) in &self.providers {
            for (want, time) in self.waits_at(provider) {
                let wait = Wait {
                    time,
                    want,
                    slowest: *id,
                    flights: 1,
                };
                waits
                    .entry(want)
                    .and_modify(|known| known.join(&wait))
                    .or_insert(wait);
            }
        }
        let mut waits: Vec<Wait> = waits
            .into_values()
            .filter(|wait| {
                let want = self.wants.get(&wait.want);
                want.is_some_and(|want| {
                    matches!(want.state, WantState::InFlight(_) | WantState::Doubled(..))
                        && want.flights().count() == wait.flights
                })
            })
            .collect();
        waits.sort_unstable_by_key(|wait| (Reverse(wait.time), wait.want));
        waits
    }

    /// A provider's newest requests with the time they are expected to take yet: what its rate
    /// says, or as long again as it has been silent. One that was not measured has a round trip's
    /// grace. Those of this very poll are not out yet.
    fn waits_at(&self, provider: &Provider) -> impl Iterator<Item = (WantId, Duration)> {
        let is_measured = provider.link.rate().is_some();
        let mut bytes = provider.owed_bytes();
        provider
            .in_flight
            .iter()
            .rev()
            .take(SCAN_MAX)
            .filter_map(move |(asked, id)| {
                let silent = provider.silent_since(*asked, self.now);
                let transfer = provider.link.time_for(bytes, &self.config);
                let charge = self.wants.get(id).map_or(0, |want| want.charge);
                bytes = bytes.saturating_sub(u64::from(charge));
                let time = if is_measured {
                    transfer.max(silent)
                } else {
                    silent
                };
                (*asked < self.now).then_some((*id, time))
            })
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
        self.dequeue(id);
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
