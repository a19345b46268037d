//! What a planner makes of holders and of other fetchers: who has what, and when an owner is spared.
//!
//! A member is a provider that fetches the root itself; it stays one when it has everything. A holder
//! has what it has. All others are owners. An owner serves everybody, so it is asked for what others
//! have, or for what members will soon have, only where that is much sooner. Members alone take part
//! in that future: nothing is left to a holder but what it has.

use std::time::Duration;

use super::config::SCAN_MAX;
use super::link::time_at;
use super::provider::Provider;
use super::rank::{Band, Held, Rank, claim_on};
use super::tier::Tier;
use super::types::{Class, Holdings, Order, Part, ProviderId, WantId};
use super::want::{Want, WantState};
use super::{Planner, Refused};
use crate::exchange::LeafRanges;

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
        self.classify(id, Class::Member { key });
        Ok(())
    }

    /// Says of which class a provider is; one that was just added is an owner.
    pub fn classify(&mut self, id: ProviderId, class: Class) {
        let Some(provider) = self.providers.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut provider.class, class) == class {
            return;
        }
        provider.cursor = Rank::default();
        self.tiers_changed();
        // Of what it has, all counts as shared now, or nothing any more.
        self.count_holder(id);
    }

    /// Of which class a provider is, if it works.
    #[must_use]
    pub fn class(&self, id: ProviderId) -> Option<Class> {
        self.providers.get(&id).map(|it| it.class)
    }

    /// Says what a provider has; it is not asked again for what it answered to be missing, unless
    /// it comes to have everything. One that repeats itself says that it answers later: its line is
    /// given to others. That is believed for [`PlannerConfig::put_off_max`] after its last block.
    ///
    /// [`PlannerConfig::put_off_max`]: super::PlannerConfig::put_off_max
    pub fn set_availability(&mut self, id: ProviderId, holdings: Holdings) {
        self.set_coming(id, &[]);
        self.set_holdings(id, holdings, false);
    }

    /// Says what part of the root a member has, and which leaves it has asked an owner for: as
    /// [`set_availability`](Self::set_availability), and what only tells of other leaves that are
    /// coming is no repetition.
    pub fn set_growing(
        &mut self,
        id: ProviderId,
        ranges: LeafRanges,
        coming: &[u64],
        now: Duration,
    ) {
        self.advance(now);
        let is_news = self.set_coming(id, coming);
        self.set_holdings(id, Holdings::Leaves(ranges), is_news);
        self.yield_to(id);
    }

    fn set_holdings(&mut self, id: ProviderId, holdings: Holdings, is_news: bool) {
        let Some(provider) = self.providers.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut provider.holdings, holdings);
        if before == provider.holdings && !is_news {
            provider.put_off(self.now, &self.config);
        }
        let completes = provider.holdings == Holdings::Everything && before != provider.holdings;
        // What it had before it was met did not come in just now, nor did what a holder has.
        let comes_in = before != Holdings::Nothing && provider.member().is_some();
        provider.cursor = Rank::default();
        if before != provider.holdings && provider.member().is_none() {
            provider.guess_anew();
        }
        let bit = provider.bit();
        if completes {
            for want in self.wants.values_mut() {
                want.lacking &= !bit;
            }
        }
        let news = self.count_holder(id);
        if comes_in {
            self.inflow.add(news, self.now);
        }
    }

    /// Brings it into every want which of them this holder or member has; how many bytes it has that
    /// no other one had.
    fn count_holder(&mut self, id: ProviderId) -> u64 {
        let Some(provider) = self.providers.get(&id) else {
            return 0;
        };
        let (bit, is_owner) = (provider.bit(), provider.class == Class::Owner);
        let mut news = 0_u64;
        let mut moved = Vec::new();
        for (want_id, want) in &mut self.wants {
            let before = want.held;
            want.held = match !is_owner && provider.holdings.has(want.part) {
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

    /// Which holders and members have a new want.
    pub(super) fn holders_of(&self, want: &Want) -> u64 {
        self.providers
            .values()
            .filter(|provider| provider.class != Class::Owner && provider.says_it_has(want))
            .fold(0, |held, provider| held | provider.bit())
    }

    /// The providers are others, or of other classes: so may be the near ones and the homes.
    pub(super) fn tiers_changed(&mut self) {
        let near = self.providers.values().filter(|it| it.tier() == Tier::Near);
        self.near_slots = near.fold(0, |slots, provider| slots | provider.bit());
        let members = self.providers.values().filter_map(Provider::member);
        let keys = members.collect();
        if self.members != keys {
            self.members = keys;
            let ids: Vec<WantId> = self.wants.keys().copied().collect();
            for id in ids {
                self.rank_anew(id);
            }
            self.give_way();
        }
    }

    /// Takes back what owners were asked for before the fetcher knew that it is a near member's, as
    /// long as there are leaves of its own to ask for instead, and nothing of it has come in.
    pub(super) fn give_way(&mut self) {
        let of_own = self.queue.range(Rank::start_of(Band::UNSHARED)..);
        let of_own = of_own.take_while(|rank| rank.band == Band::UNSHARED && rank.home == 0);
        let room = of_own.take(SCAN_MAX).count();
        let owners = self
            .providers
            .iter()
            .filter(|(_, it)| it.class == Class::Owner);
        let of_others = owners.flat_map(|(owner, it)| {
            let asked = it.in_flight.iter().map(|(_, id)| *id);
            asked
                .filter(|id| self.gives_way(it, *id))
                .map(|id| (*owner, id))
        });
        for (owner, id) in of_others.take(room).collect::<Vec<_>>() {
            self.recall(id, owner);
            self.enqueue_if_queued(id);
        }
    }

    fn gives_way(&self, owner: &Provider, id: WantId) -> bool {
        self.wants.get(&id).is_some_and(|want| {
            want.rank.band == Band::UNSHARED
                && want.rank.home > 0
                && self.is_home_near(want)
                && matches!(want.state, WantState::InFlight(_))
                && !owner.has_begun(id)
        })
    }

    /// Puts a want where it belongs in the queue, if it is there.
    pub(super) fn rank_anew(&mut self, id: WantId) {
        let Some(want) = self.wants.get_mut(&id) else {
            return;
        };
        let held = held_by(want, self.near_slots);
        let rank = Rank::new(self.config.order, (id, want.part), held, &self.members);
        if (want.rank, want.tier) == (rank, held.tier) {
            return;
        }
        let was_queued = self.dequeue(id);
        if let Some(want) = self.wants.get_mut(&id) {
            (want.rank, want.tier) = (rank, held.tier);
        }
        if was_queued {
            self.enqueue(id);
        }
    }

    /// Whether a provider is to be asked for this want, or whether that is left to others.
    pub(super) fn is_for(&self, id: ProviderId, rank: Rank) -> bool {
        let (Some(provider), Some(want)) = (self.providers.get(&id), self.wants.get(&rank.id))
        else {
            return false;
        };
        let tier = provider.tier();
        if want.tier < tier {
            return self.is_worth_its_price(provider, want);
        }
        let is_left_to_homes = matches!(self.config.order, Order::Swarm { .. })
            && tier == Tier::Owner
            && rank.home > 0;
        !is_left_to_homes || self.is_sooner_than_homes(provider, want)
    }

    /// Whether an owner is asked for what another fetcher is the home of: freely where it is faster
    /// than all of them, one by one where it would take them long to get through. A near home is
    /// given its time as long as anything comes in: it may share a line with this fetcher.
    fn is_sooner_than_homes(&self, owner: &Provider, want: &Want) -> bool {
        let inflow = self.inflow.rate(self.now);
        let is_faster = owner.link.rate().is_none_or(|rate| inflow < rate);
        if is_faster && (inflow == 0 || !self.is_home_near(want)) {
            return true;
        }
        let wait = time_at(inflow, self.queued.unshared());
        let sooner = owner.time_to_get(want.charge, &self.config);
        owner.in_flight.is_empty() && wait > sooner.saturating_mul(self.config.relief_factor)
    }
}

impl Planner {
    fn is_home_near(&self, want: &Want) -> bool {
        let claim = |it: &&Provider| it.member().map(|key| claim_on(want.part, key));
        let home = self.providers.values().max_by_key(claim);
        home.is_some_and(|home| home.tier() == Tier::Near)
    }
}

/// The holders and members that have a want. Of nodes it is not asked: they are small, and whoever
/// answers first is the best.
pub(super) fn held_by(want: &Want, near_slots: u64) -> Held {
    let held = want.held & !want.lacking;
    let tier = match want.part {
        Part::Node => Tier::Owner,
        _ if held & near_slots != 0 => Tier::Near,
        _ if held != 0 => Tier::Far,
        _ => Tier::Owner,
    };
    Held {
        count: held.count_ones(),
        tier,
    }
}
