//! Whether a helper pulls, and how much: what it answers "want" to, and which offers it accepts.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::super::asker::Mark;
use super::super::cache::RunId;
use super::super::message::{RANGES_MAX, Why};
use super::super::position::Key;
use super::super::stripes::{Neighbourhood, RUN_LEAVES, Shape, copies, has_part};
use super::super::walk::HOMES;
use super::pulls::Pull;
use super::{Accepted, Around, Declined, Helper, Offered, RETRY, RUNS_MAX};
use crate::address::BLOCK_BYTES_MAX;
use crate::exchange::LEAF_END_MAX;

/// The long count of a root that somebody has asked for within a half-life.
const ASKED_LONG: f32 = 0.5;

impl Helper {
    /// How many asks this node would spend on a pull, or why it makes none.
    pub(super) fn would_pull(
        &mut self,
        key: Key,
        rank: usize,
        stays: bool,
        around: Around<'_>,
        now: Duration,
    ) -> Result<u8, Declined> {
        if self.config.quota == 0 || !self.is_on {
            return Err((Why::Off, RETRY));
        }
        if rank >= HOMES {
            return Err((Why::Place, RETRY));
        }
        let standing = self.demand.standing(key, now);
        let need = self.need(stays, around.is_lan);
        // Any `need` askers within one half-life have a count of at least this.
        let long_enough = 1.0 + f32::from(need.saturating_sub(1)) / 2.0;
        if standing.unspent < need || standing.long < long_enough {
            return Err((Why::Demand, RETRY));
        }
        if let Some(shape) = standing.shape
            && self.missing_runs(key, rank, shape).next().is_none()
        {
            return Err((Why::Place, Duration::from_hours(1)));
        }
        let holders = self.demand.holders(key, now).into_iter();
        let whole = holders.filter(|it| it.is_whole).count();
        if whole >= usize::from(self.copies(key, around, now)) {
            return Err((Why::Enough, RETRY));
        }
        self.pulls.room(&self.config, false, now)?;
        let groups: Vec<_> = standing.causes.iter().map(|it| it.group).collect();
        match self.credit.affordable(&groups, now) {
            0 => Err((Why::Budget, Duration::from_hours(1))),
            _ => Ok(need),
        }
    }

    pub(super) fn weigh(
        &mut self,
        offer: &Offered,
        around: Around<'_>,
        now: Duration,
    ) -> Result<Accepted, Declined> {
        let (key, shape) = (offer.key, offer.shape);
        let is_invited = self
            .invited
            .remove(&(offer.peer, key))
            .is_some_and(|until| now <= until);
        if self.denied.contains(&key) {
            return Err((Why::Refused, Duration::from_hours(24)));
        }
        if !is_possible(shape) {
            return Err((Why::Untrue, Duration::from_hours(24)));
        }
        if self.pulls.is_pulling(key) {
            return Err((Why::Enough, RETRY));
        }
        // What is held has been verified; an offer has not. Sizes are verified of neither.
        let known = self.shapes.get(&key).map(|known| known.leaves);
        if self.cache.runs_of(key).next().is_some() && known.is_some_and(|it| it != shape.leaves) {
            return Err((Why::Untrue, Duration::from_hours(24)));
        }
        if !self.is_on || self.config.quota == 0 {
            return Err((Why::Off, RETRY));
        }
        let rank = around.table.rank(key, Some(offer.peer));
        let (causes, asks) = if is_invited {
            self.demand.set_shape(key, shape);
            let need = self.would_pull(key, rank, offer.stays, around, now)?;
            (self.demand.standing(key, now).causes, need)
        } else {
            let by = self.mark(&offer.by);
            self.may_offer(offer, by, now)?;
            (vec![by], 0)
        };
        let place = u64::try_from(rank).unwrap_or(u64::MAX);
        if is_invited {
            self.demand.want(key, shape.parts_of(&offer.ranges));
        }
        // Of what nobody asked for, the sender says what is wanted.
        let parts = self.demand.wanted(key);
        let is_mine = |run: &u64| {
            let is_wanted = || has_part(parts, shape.part_of(*run));
            !is_invited || shape.is_kept_at(*run, place) && is_wanted()
        };
        let ranges = offer.ranges.iter();
        let runs = ranges.flat_map(|range| whole_runs(&range, shape));
        let runs = runs.take(RUNS_MAX);
        let missing = runs.filter(|run| is_mine(run) && !self.holds(key, *run));
        let runs: Vec<u64> = missing.take(RANGES_MAX).collect();
        let offerer = causes.first().filter(|_| asks == 0).map(|it| it.group);
        let accepted = self.begin(key, shape, runs, causes, asks, now)?;
        if let Some(offerer) = offerer.filter(|_| !self.is_asked_for(key, now)) {
            self.offerers.accepted(offerer, key, now);
        }
        Ok(accepted)
    }

    /// Whether an offer that this node did not ask for may be taken: one of which its sender says that
    /// enough have asked, and which somebody near has asked for where the sender is far.
    fn may_offer(&mut self, offer: &Offered, by: Mark, now: Duration) -> Result<(), Declined> {
        let is_wanted = offer.asked >= u32::from(self.config.need);
        if !is_wanted || !offer.is_near && !self.is_asked_for(offer.key, now) {
            return Err((Why::Unasked, RETRY));
        }
        match self.offerers.wait(by.group, now) {
            Duration::ZERO => self.pulls.room(&self.config, true, now),
            wait => Err((Why::Unasked, wait)),
        }
    }

    /// Whether somebody near has asked for a root within a half-life.
    fn is_asked_for(&mut self, key: Key, now: Duration) -> bool {
        self.demand.standing(key, now).long >= ASKED_LONG
    }

    /// Begins a pull of as many of these runs as are affordable and fit a message.
    fn begin(
        &mut self,
        key: Key,
        shape: Shape,
        wanted: Vec<u64>,
        causes: Vec<Mark>,
        asks: u8,
        now: Duration,
    ) -> Result<Accepted, Declined> {
        let groups: Vec<_> = causes.iter().map(|it| it.group).collect();
        let affordable = self.credit.affordable(&groups, now).min(self.config.quota);
        let (mut runs, mut bytes, mut is_short) = (Vec::new(), 0_u64, false);
        for run in wanted {
            let with = bytes.saturating_add(shape.bytes_of(run));
            if with > affordable {
                is_short = true;
                break;
            }
            bytes = with;
            runs.push(run);
        }
        if runs.is_empty() {
            return Err(match is_short {
                true => (Why::Budget, Duration::from_hours(1)),
                false => (Why::Place, Duration::from_hours(1)),
            });
        }
        self.credit.take(bytes, &groups, now);
        self.demand.spend(key, asks);
        self.shapes.insert(key, shape);
        let counters = &mut self.counters;
        counters.asks_spent = counters.asks_spent.saturating_add(asks.into());
        let by_kind = match asks {
            0 => &mut counters.offers_accepted,
            _ => &mut counters.pulls_for_asks,
        };
        *by_kind = by_kind.saturating_add(1);
        let ranges = shape.ranges(runs.iter().copied());
        let pull = Pull {
            runs: runs.iter().copied().collect(),
            reserved: bytes,
            causes,
            is_offered: asks == 0,
        };
        self.pulls.begin(key, pull, now);
        Ok(Accepted { runs, ranges })
    }

    /// How many distinct askers it takes: one, where it keeps nothing on a LAN, or while there is
    /// much room and the node is eager.
    fn need(&self, stays: bool, is_lan: bool) -> u8 {
        let has_room = self.cache.used() < self.config.quota >> 1;
        if is_lan && !stays || self.config.eager && has_room {
            return self.config.need.min(1);
        }
        self.config.need
    }

    pub(super) fn copies(&mut self, key: Key, around: Around<'_>, now: Duration) -> u8 {
        let holders = self.demand.holders(key, now);
        let neighbourhood = Neighbourhood {
            helpers: around.table.len(),
            is_lan: around.is_lan,
            is_busy: holders.iter().any(|it| it.is_busy),
        };
        copies(self.demand.standing(key, now).short, neighbourhood)
    }

    fn missing_runs(&self, key: Key, rank: usize, shape: Shape) -> impl Iterator<Item = u64> {
        let place = u64::try_from(rank).unwrap_or(u64::MAX);
        let held: BTreeSet<_> = self.cache.runs_of(key).collect();
        shape
            .runs_at(place)
            .filter(move |run| !held.contains(run))
            .take(RANGES_MAX)
    }

    fn holds(&self, key: Key, run: u64) -> bool {
        self.cache.standing(RunId { key, run }).is_some()
    }
}

/// The runs of which all leaves are in a range.
fn whole_runs(range: &Range<u64>, shape: Shape) -> Range<u64> {
    let end = match range.end >= shape.leaves {
        true => shape.runs(),
        false => range.end >> RUN_LEAVES.trailing_zeros(),
    };
    range.start.div_ceil(RUN_LEAVES)..end
}

/// Whether there may be such a root: it has leaves, not too many, and none longer than a block.
fn is_possible(shape: Shape) -> bool {
    let most = u128::from(shape.leaves).saturating_mul(BLOCK_BYTES_MAX as u128);
    (1..=LEAF_END_MAX).contains(&shape.leaves) && u128::from(shape.size) <= most
}
