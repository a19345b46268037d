//! What a planner makes of other fetchers: who has what, and when a source is spared.
//!
//! A member is a provider that fetches the root itself; it stays one when it has everything. All
//! others are sources. A source serves everybody, so what a member has, or will soon have, is asked
//! of a source only where that is much sooner.

use std::time::Duration;

use super::link::time_at;
use super::provider::Provider;
use super::rank::Rank;
use super::types::{Holdings, Order, ProviderId, WantId};
use super::want::Want;
use super::{Planner, Refused, Standing};

/// Over which time the members' inflow is averaged: some updates of their availability.
const INFLOW_TIME: Duration = Duration::from_secs(4);

/// How fast leaves come to the swarm that nobody else in it had: a rate that fades.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    bytes: u64,
    at: Duration,
}

impl Inflow {
    fn add(&mut self, bytes: u64, now: Duration) {
        self.bytes = self.faded(now).saturating_add(bytes);
        self.at = now;
    }

    /// What counts of the bytes: all at first, half after half of [`INFLOW_TIME`], none after it.
    fn faded(&self, now: Duration) -> u64 {
        let left = INFLOW_TIME.saturating_sub(now.saturating_sub(self.at));
        let part = u128::from(self.bytes)
            .saturating_mul(left.as_millis())
            .checked_div(INFLOW_TIME.as_millis())
            .unwrap_or_default();
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// Bytes per second.
    fn rate(&self, now: Duration) -> u64 {
        let time = u64::try_from(INFLOW_TIME.as_millis()).unwrap_or(u64::MAX);
        self.faded(now)
            .saturating_mul(1000)
            .checked_div(time)
            .unwrap_or_default()
    }
}

impl Planner {
    /// Adds a provider that fetches the root as well, and so has a part of it that grows. `key`
    /// stands for it as this fetcher's own key in [`Order::Swarm`] does. It has
    /// [nothing](Holdings::Nothing) until [`set_availability`](Self::set_availability) says what.
    ///
    /// Of one that is there already it is noted that it fetches.
    ///
    /// # Errors
    /// Those of [`add_provider`](Self::add_provider).
    pub fn add_member(&mut self, id: ProviderId, key: u64, now: Duration) -> Result<(), Refused> {
        let was_there = self.providers.contains_key(&id);
        self.add_provider(id, now)?;
        if !was_there {
            self.set_availability(id, Holdings::Nothing);
        }
        if let Some(provider) = self.providers.get_mut(&id) {
            provider.member = Some(key);
        }
        self.members_changed();
        // Of what it has, all counts as shared now.
        self.count_holder(id);
        Ok(())
    }

    /// Says what a provider has; it is not asked again for what it answered to be missing, unless
    /// it comes to have everything. One that repeats itself says that it answers later: its line is
    /// given to others. That is believed for [`PlannerConfig::put_off_max`] after its last block.
    ///
    /// [`PlannerConfig::put_off_max`]: super::PlannerConfig::put_off_max
    pub fn set_availability(&mut self, id: ProviderId, holdings: Holdings) {
        let Some(provider) = self.providers.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut provider.holdings, holdings);
        if before == provider.holdings {
            provider.put_off(self.now, &self.config);
        }
        let completes = provider.holdings == Holdings::Everything && before != provider.holdings;
        // What it had before it was met did not come in just now.
        let is_news = before != Holdings::Nothing;
        provider.cursor = Rank::default();
        let bit = provider.bit();
        if completes {
            for want in self.wants.values_mut() {
                want.lacking &= !bit;
            }
        }
        let news = self.count_holder(id);
        if is_news {
            self.inflow.add(news, self.now);
        }
    }

    /// Brings it into every want which of them this member has; how many bytes it has that no other
    /// member had.
    fn count_holder(&mut self, id: ProviderId) -> u64 {
        let Some(provider) = self.providers.get(&id).filter(|it| it.member.is_some()) else {
            return 0;
        };
        let bit = provider.bit();
        let mut news = 0_u64;
        let mut moved = Vec::new();
        for (want_id, want) in &mut self.wants {
            let before = want.held;
            want.held = match provider.holdings.has(want.part) {
                true => want.held | bit,
                false => want.held & !bit,
            };
            if want.held == before {
                continue;
            }
            if before == 0 {
                news = news.saturating_add(u64::from(want.charge));
            }
            moved.push(*want_id);
        }
        for want in moved {
            self.rank_anew(want);
        }
        news
    }

    /// Which members have a new want.
    pub(super) fn holders_of(&self, want: &Want) -> u64 {
        self.providers
            .values()
            .filter(|provider| provider.member.is_some() && provider.may_have(want))
            .fold(0, |held, provider| held | provider.bit())
    }

    /// The fetchers that are known have changed: so have the homes.
    pub(super) fn members_changed(&mut self) {
        let keys = self.providers.values().filter_map(|it| it.member).collect();
        if self.members != keys {
            self.members = keys;
            let ids: Vec<WantId> = self.wants.keys().copied().collect();
            for id in ids {
                self.rank_anew(id);
            }
        }
    }

    /// Puts a want where it belongs in the queue, if it is there.
    pub(super) fn rank_anew(&mut self, id: WantId) {
        let Some(want) = self.wants.get_mut(&id) else {
            return;
        };
        let holders = (want.held & !want.lacking).count_ones();
        let rank = Rank::new(self.config.order, (id, want.part), holders, &self.members);
        let before = std::mem::replace(&mut want.rank, rank);
        if before != rank && self.queue.contains(&before) {
            self.dequeue(before, id);
            self.enqueue(id);
        }
    }

    /// Whether a source is to be asked for this want, or whether that is left to the members.
    pub(super) fn is_for(&self, id: ProviderId, rank: Rank) -> bool {
        let (Some(provider), Some(want)) = (self.providers.get(&id), self.wants.get(&rank.id))
        else {
            return false;
        };
        let is_spared = matches!(self.config.order, Order::Swarm { .. })
            && provider.member.is_none()
            && !self.members.is_empty();
        if !is_spared {
            return true;
        }
        if rank.band.is_shared() {
            return self.is_sooner_than_holders(provider, want);
        }
        rank.home == 0 || self.is_sooner_than_homes(provider, want)
    }

    /// Whether a source is asked for what another fetcher is the home of: freely where it is faster
    /// than all of them, one by one where it would take them long to get through.
    fn is_sooner_than_homes(&self, source: &Provider, want: &Want) -> bool {
        let inflow = self.inflow.rate(self.now);
        if source.link.rate().is_none_or(|rate| inflow < rate) {
            return true;
        }
        let wait = time_at(inflow, self.queued_bytes.saturating_sub(self.shared_bytes));
        source.in_flight.is_empty() && self.is_much_sooner_than(wait, source, want)
    }

    fn is_much_sooner_than(&self, wait: Duration, source: &Provider, want: &Want) -> bool {
        let sooner = source.time_to_get(want.charge, &self.config);
        wait > sooner.saturating_mul(self.config.relief_factor)
    }

    /// Whether a source delivers a want much sooner than those that have it come to it.
    fn is_sooner_than_holders(&self, source: &Provider, want: &Want) -> bool {
        let ready = |provider: &&Provider| {
            provider.member.is_some() && provider.standing == Standing::Ready
        };
        let mut members = self.providers.values().filter(ready);
        let held = want.held & !want.lacking;
        if !members.clone().any(|member| member.bit() & held != 0) {
            return true;
        }
        let rate = members.try_fold(0_u64, |sum, member| {
            let rate = member.link.rate().unwrap_or(self.config.rate_assumed);
            sum.checked_add(rate)
        });
        let wait = time_at(rate.unwrap_or(u64::MAX), self.shared_bytes);
        self.is_much_sooner_than(wait, source, want)
    }
}
