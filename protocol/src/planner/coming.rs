//! What members say is coming to them, so that nobody near asks an owner for it as well.
//!
//! Near members share a line to the owner, like as not: what it sends twice, all of them wait for. By
//! the rendezvous of [`rank`](super::rank) each leaf has one home; but members come and go, and who
//! has no leaf left helps others with theirs. So a member also says which leaves it has asked an owner
//! for. An owner is not asked for a leaf that is coming to a near member, for as long as it would not
//! be asked for one that a near member has, and [`LEFT_MAX`] at the most. Where two near ones have asked
//! at once, the one with the lesser claim on the leaf gives it up. Each happens once for a leaf: a
//! member that lies keeps it from coming for no longer. Who reads in order waits for nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::exchange::COMING_LEAVES_MAX;

use super::Planner;
use super::provider::Provider;
use super::rank::claim_on;
use super::tier::Tier;
use super::types::{Class, Order, Part, ProviderId, WantId};
use super::want::{Want, WantState};

/// The longest that a leaf is left to the members that it is coming to: a chunk over a line of
/// 128 kbit/s.
const LEFT_MAX: Duration = Duration::from_secs(60);

/// How many requests are given up for one member at a time; the next ones follow with its next word.
const YIELDS_MAX: usize = 16;

/// To which near members a want is coming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// The members, by slot.
    to: u64,
    /// When the first of them said so.
    since: Duration,
    /// A request was given up for one of them.
    has_yielded: bool,
}

impl Coming {
    fn since(since: Duration) -> Self {
        Self {
            to: 0,
            since,
            has_yielded: false,
        }
    }
}

impl Planner {
    /// The leaves that owners were asked for, at most [`COMING_LEAVES_MAX`]: what other members are to
    /// know.
    #[must_use]
    pub fn coming(&self) -> Vec<u64> {
        let owners = self.providers.values();
        let owners = owners.filter(|it| it.tier() == Tier::Owner);
        let asked = owners.flat_map(|owner| &owner.in_flight);
        let leaves = asked.filter_map(|(_, id)| match self.wants.get(id)?.part {
            Part::Leaf(leaf) => Some(leaf),
            Part::Node | Part::Unnumbered => None,
        });
        leaves.take(COMING_LEAVES_MAX).collect()
    }

    /// Takes note of the leaves that a member has asked an owner for; whether they are others than
    /// before.
    pub(super) fn set_coming(&mut self, id: ProviderId, leaves: &[u64]) -> bool {
        let leaves: BTreeSet<u64> = leaves.iter().take(COMING_LEAVES_MAX).copied().collect();
        let Some(provider) = self.providers.get_mut(&id) else {
            return false;
        };
        if provider.coming == leaves {
            return false;
        }
        let bit = provider.bit();
        provider.coming = leaves;
        self.coming_to_nobody(bit);
        self.enter_coming(id);
        true
    }

    /// Takes note of what is coming to a member, if it is near.
    pub(super) fn enter_coming(&mut self, id: ProviderId) {
        let Some(provider) = self.providers.get(&id) else {
            return;
        };
        let (bit, leaves) = (provider.bit(), &provider.coming);
        if leaves.is_empty() || provider.tier() != Tier::Near {
            return;
        }
        let is_coming =
            |want: &Want| matches!(want.part, Part::Leaf(leaf) if leaves.contains(&leaf));
        for (id, _) in self.wants.iter().filter(|(_, want)| is_coming(want)) {
            let coming = self.coming.entry(*id);
            coming.or_insert(Coming::since(self.now)).to |= bit;
        }
    }

    /// Takes note of who said that a new want is coming to it.
    pub(super) fn note_coming(&mut self, id: WantId, part: Part) {
        let Part::Leaf(leaf) = part else {
            return;
        };
        let members = self.providers.values();
        let members = members.filter(|it| it.tier() == Tier::Near && it.coming.contains(&leaf));
        let to = members.fold(0, |to, it| to | it.bit());
        if to != 0 {
            let coming = Coming::since(self.now);
            self.coming.insert(id, Coming { to, ..coming });
        }
    }

    /// Nothing is coming to the member in a slot, for all that is known.
    pub(super) fn coming_to_nobody(&mut self, bit: u64) {
        self.coming.values_mut().for_each(|it| it.to &= !bit);
    }

    /// Whether a provider is an owner that is not to be asked for a leaf, since it is coming to a near
    /// member.
    pub(super) fn is_left_to_members(&self, provider: ProviderId, id: WantId, want: &Want) -> bool {
        let owner = self.providers.get(&provider);
        let owner = owner.filter(|it| it.tier() == Tier::Owner);
        let shares = matches!(self.config.order, Order::Swarm { .. });
        shares && owner.is_some_and(|owner| self.is_coming(owner, id, want))
    }

    fn is_coming(&self, owner: &Provider, id: WantId, want: &Want) -> bool {
        let Some(Coming { to, since, .. }) = self.coming.get(&id) else {
            return false;
        };
        let most = match owner.link.rate() {
            // It may be fast, and there is nothing else to find that out by.
            None if owner.in_flight.is_empty() => self.config.credit,
            _ => {
                let own = owner.link.time_at_best(want.charge.into(), &self.config);
                own.saturating_mul(self.config.far_factor).min(LEFT_MAX)
            }
        };
        let mut members = self.providers.values().filter(|it| it.bit() & to != 0);
        self.now.saturating_sub(*since) <= most && members.any(|it| self.is_reliable(it))
    }

    /// Takes back what an owner was asked for and is sending to a near member, too, that has the
    /// greater claim on it, unless half of it is here; once for each leaf, of [`YIELDS_MAX`] at a time.
    pub(super) fn yield_to(&mut self, member: ProviderId) {
        let provider = self.providers.get(&member);
        let near = provider.filter(|it| it.tier() == Tier::Near && self.is_reliable(it));
        let Some(provider) = near else {
            return;
        };
        let (bit, key) = (provider.bit(), provider.member());
        let (Some(key), Order::Swarm { key: own }) = (key, self.config.order) else {
            return;
        };
        let both = self.coming.iter();
        let both = both.filter(|(_, it)| it.to & bit != 0 && !it.has_yielded);
        let yielded = both.filter_map(|(id, _)| {
            let want = self.wants.get(id)?;
            let WantState::InFlight(flight) = want.state else {
                return None;
            };
            let owner = self.providers.get(&flight.provider)?;
            let yields = owner.class == Class::Owner
                && claim_on(want.part, key) > claim_on(want.part, own)
                && owner.bytes_here(*id) < u64::from(want.charge) / 2
                && self.is_coming(owner, *id, want);
            yields.then_some((*id, flight.provider))
        });
        for (id, owner) in yielded.take(YIELDS_MAX).collect::<Vec<_>>() {
            self.recall(id, owner);
            self.enqueue_if_queued(id);
            if let Some(coming) = self.coming.get_mut(&id) {
                coming.has_yielded = true;
            }
        }
    }
}
