//! Who is asked before whom: near holders and members, far ones, owners.
//!
//! A dearer provider is asked for a leaf that a cheaper one has only where the leaf would come much
//! sooner from it. What a provider says of its class makes it be asked first and gives it no hold on
//! the transfer: one that has delivered nothing yet holds nobody back for longer than
//! [`PlannerConfig::credit`], one that was too slow holds nobody back until it has delivered again,
//! and a leaf is expected to take at least as long as the oldest request there has taken already.
//!
//! [`PlannerConfig::credit`]: super::PlannerConfig::credit

use std::time::Duration;

use super::link::time_at;
use super::provider::{Provider, Trust};
use super::rank::Rank;
use super::schedule::Wait;
use super::tier::Tier;
use super::types::{Class, ProviderId, WantId};
use super::want::Want;
use super::{Planner, Standing};

impl Planner {
    /// Says whether a provider is near. That is for the caller to measure, not for the provider to
    /// say.
    pub fn set_near(&mut self, id: ProviderId, is_near: bool) {
        let Some(provider) = self.providers.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut provider.is_near, is_near) == is_near {
            return;
        }
        provider.cursor = Rank::default();
        let bit = provider.bit();
        self.tiers_changed();
        let held = self.wants.iter().filter(|(_, want)| want.held & bit != 0);
        let held: Vec<_> = held.map(|(id, _)| *id).collect();
        for want in held {
            self.rank_anew(want);
        }
        self.give_way();
        self.coming_to_nobody(bit);
        self.enter_coming(id);
        self.yield_to(id);
    }

    /// Whether a provider is to be asked for a want that cheaper ones have.
    pub(super) fn is_worth_its_price(&self, provider: &Provider, want: &Want) -> bool {
        let tier = provider.tier();
        let Some(wait) = self.wait_for_cheaper(tier, want) else {
            return true;
        };
        self.is_worth_asking(provider.time_to_get(want.charge, &self.config), wait, want)
    }

    /// Whether a provider that brings a want in `sooner` is to be asked for it, where cheaper ones that have
    /// it bring it in `wait`.
    fn is_worth_asking(&self, sooner: Duration, wait: Duration, want: &Want) -> bool {
        !self.config.strict && wait > sooner.saturating_mul(self.factor(want))
    }

    /// Whether an idle helper is to be asked for a want that its provider is expected to deliver late only.
    /// Of what has begun to come in, one that is no dearer has to bring the rest only: unless it is a member,
    /// which passes chunks on to others, and with them the lines that those are waiting for.
    pub(super) fn is_worth_relief(
        &self,
        helper: &Provider,
        holder: &Provider,
        wait: &Wait,
        want: &Want,
    ) -> bool {
        let is_resumed = wait.is_single()
            && holder.has_begun(wait.want)
            && helper.tier() <= holder.tier()
            && !matches!(helper.class, Class::Member { .. });
        let (bytes, gain_min) = match is_resumed {
            true => {
                let rest = holder.rest_of(wait.want, want.charge);
                (rest, self.config.resumed_gain_min)
            }
            false => (want.charge, Duration::ZERO),
        };
        let wait = wait.time;
        let sooner = helper.time_to_get(bytes, &self.config);
        let is_sooner = wait > sooner.saturating_mul(self.config.relief_factor);
        if !is_sooner || wait.saturating_sub(sooner) < gain_min {
            return false;
        }
        if want.tier >= helper.tier() {
            return true;
        }
        let Some((soonest, _)) = self.cheaper(helper.tier(), want) else {
            return true;
        };
        self.is_worth_asking(sooner, soonest.min(wait), want)
    }

    /// Whether an idle near provider is to take over what a dearer one was asked for and is expected
    /// to deliver in `wait`: the near one came too late to be asked first. It goes on where the other
    /// stands.
    ///
    /// Only a provider that has delivered something may do so, and with each want it happens once:
    /// so one that lies keeps a want from coming for no longer than it is trusted.
    pub(super) fn takes_over(
        &self,
        helper: &Provider,
        holder: &Provider,
        wait: Duration,
        want: &Want,
    ) -> bool {
        let may = helper.tier() < holder.tier() && helper.trust == Trust::Proven;
        if !may || want.tier > Tier::Near || want.is_taken_over || want.moves > 0 {
            return false;
        }
        let wait = match holder.link.rate() {
            Some(_) => wait,
            None => wait.max(holder.time_to_get(0, &self.config)),
        };
        let dearer = wait.saturating_mul(self.factor(want));
        self.config.strict || helper.time_to_get(want.charge, &self.config) < dearer
    }

    /// Whether a want waits behind another one at its provider for nothing: a helper no dearer, whose
    /// rate is known and which has nothing to do, would bring it sooner by
    /// [`PlannerConfig::queue_gain_min`] and a quarter of its own time.
    ///
    /// [`PlannerConfig::queue_gain_min`]: super::PlannerConfig::queue_gain_min
    pub(super) fn is_waiting_for_nothing(
        &self,
        helper: &Provider,
        holder: &Provider,
        wait: &Wait,
        want: &Want,
    ) -> bool {
        let first = holder.in_flight.first().map(|(_, id)| *id);
        let waits = first != Some(wait.want) && !holder.has_begun(wait.want);
        let may = helper.in_flight.is_empty()
            && helper.link.is_known(&self.config)
            && helper.trust == Trust::Proven
            && helper.tier() <= holder.tier();
        if !waits || !may {
            return false;
        }
        let own = helper.time_to_get(want.charge, &self.config);
        let gain = wait.time.saturating_sub(own);
        gain >= self.config.queue_gain_min && gain.saturating_mul(4) >= own
    }

    /// Whether a far holder of which nothing is known yet is to be tried with a want that near ones are
    /// expected to bring late only, behind others: if it is fast, it is worth its price from then on. One
    /// is tried at a time. The want moves there: asked for twice, it would take the fetcher's own line from
    /// what comes in. In virtual time (`tests/crowd.rs`, 40 seeds) a second request made the p95 of a crowd 5% longer than
    /// no trial does, and a move 2% shorter; where readers of a region begin in pairs, 14% and 21% shorter.
    pub(super) fn is_worth_trying(
        &self,
        helper: &Provider,
        holder: &Provider,
        wait: &Wait,
        want: &Want,
    ) -> bool {
        let may_try = |it: &Provider| {
            it.class == Class::Holder && it.tier() == Tier::Far && it.link.rate().is_none()
        };
        let is_late = want.tier == Tier::Near
            && holder.tier() == Tier::Near
            && holder.is_known(&self.config)
            && !holder.has_begun(wait.want)
            && wait.time >= self.config.try_far_after;
        let mut others = self.providers.values();
        !self.config.strict
            && is_late
            && may_try(helper)
            && helper.in_flight.is_empty()
            && helper.trust != Trust::Lost
            && !others.any(|it| may_try(it) && !it.in_flight.is_empty())
    }

    pub(super) fn taken_over(&mut self, id: WantId) {
        if let Some(want) = self.wants.get_mut(&id) {
            want.is_taken_over = true;
        }
    }

    fn factor(&self, want: &Want) -> u32 {
        match want.tier {
            Tier::Near => self.config.far_factor,
            Tier::Far | Tier::Owner => self.config.relief_factor,
        }
    }

    /// How long a want takes to come from those that are cheaper than `tier`; none where nobody is
    /// to be relied on for it.
    ///
    /// An owner that is faster than all others is used while much is left to fetch: the time is that
    /// in which the others get through all that they have. Where near ones have the leaf, it is the
    /// time of that leaf alone: a crowd of near ones is to carry the content however long it is.
    fn wait_for_cheaper(&self, tier: Tier, want: &Want) -> Option<Duration> {
        let (soonest, rate) = self.cheaper(tier, want)?;
        let all = match tier {
            Tier::Near => 0,
            Tier::Far => self.queued.near,
            Tier::Owner => self.queued.shared,
        };
        let all = time_at(rate, all);
        match want.tier {
            Tier::Near => Some(soonest.min(all)),
            Tier::Far | Tier::Owner => Some(all),
        }
    }

    /// How soon the first of those that are cheaper than `tier` delivers a want, and how fast all of
    /// them are, in bytes per second; none where nobody is to be relied on for it.
    fn cheaper(&self, tier: Tier, want: &Want) -> Option<(Duration, u64)> {
        let held = want.held & !want.lacking;
        let (mut rate, mut soonest) = (0_u64, None::<Duration>);
        let cheaper = self.providers.values().filter(|it| it.tier() < tier);
        for provider in cheaper.filter(|it| self.is_reliable(it)) {
            let of_provider = provider.link.rate().unwrap_or(self.config.rate_assumed);
            rate = rate.saturating_add(of_provider);
            if provider.bit() & held != 0 {
                let time = provider.expected_for(want.charge, self.now, &self.config);
                soonest = Some(soonest.map_or(time, |soonest| soonest.min(time)));
            }
        }
        Some((soonest?, rate))
    }

    pub(super) fn is_reliable(&self, provider: &Provider) -> bool {
        let is_trusted = match provider.trust {
            Trust::New => provider.silence(self.now) <= self.config.credit,
            Trust::Proven => true,
            Trust::Lost => false,
        };
        provider.standing == Standing::Ready && is_trusted
    }
}
