//! What a helper answers, and what it pulls.
//!
//! [`Helper`] is the whole of a node that helps, without its streams and disks: the demand, the
//! credit, the replicas and the pulls that run. Its caller tells what peers say and what came of
//! pulls, and does what it answers. So a network of thousands of helpers runs in a test.
//!
//! What must stay true:
//! 1. Only asks and accepted offers cause pulls: `asks_spent <= asks_distinct`, every pull for asks
//!    spends as many as it needed, and `pulls = pulls_for_asks + offers_accepted`. Whatever replicas
//!    do among each other is never demand.
//! 2. What is held fits the quota.
//! 3. A key that is denied is neither wanted, accepted nor named as held.

mod pulls;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::pulls::{Pull, Pulls};
use super::asker::{Asker, Mark, Salt};
use super::cache::{Cache, Change, RunId, Standing};
use super::credit::{Credit, CreditConfig};
use super::demand::{Demand, DemandConfig};
use super::message::{CLOSER_MAX, RANGES_MAX, Why};
use super::near_table::NearTable;
use super::position::{Key, PeerKey};
use super::stripes::{Neighbourhood, Shape, copies};
use super::walk::HOMES;
use crate::address::BLOCK_BYTES_MAX;
use crate::exchange::{LEAF_END_MAX, LeafRanges};

/// The most invitations to offer that are remembered, 60 bytes each; the oldest goes first.
const INVITED_MAX: usize = 1024;

/// For how long an invitation holds: an asker answers it within a round trip.
const INVITED_TIME: Duration = Duration::from_mins(1);

/// When it is of use to ask again, where nothing better is known.
const RETRY: Duration = Duration::from_mins(1);

/// The numbers of a [`Helper`]; `Default` is their only source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperConfig {
    /// How many bytes of others it holds at most.
    pub quota: u64,
    /// How many distinct askers a root needs within the long half-life of the demand.
    pub need: u8,
    /// Whether one asker is enough while more than half of the quota is free.
    pub eager: bool,
    /// How many pulls run at a time, at most.
    pub pulls_max: usize,
    /// How many of these were caused by offers that nobody asked for.
    pub pulls_offered_max: usize,
    /// How many roots are pulled in an hour, at most.
    pub roots_hourly: usize,
    /// The credit.
    pub credit: CreditConfig,
    /// The demand.
    pub demand: DemandConfig,
}

impl Default for HelperConfig {
    fn default() -> Self {
        Self {
            quota: 2 << 30,
            need: 2,
            eager: false,
            pulls_max: 4,
            pulls_offered_max: 2,
            roots_hourly: 120,
            credit: CreditConfig::default(),
            demand: DemandConfig::default(),
        }
    }
}

/// What a helper has done; every number only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Asks that were answered.
    pub asks: u64,
    /// Of these, the first by their asker within a day or two.
    pub asks_distinct: u64,
    /// Distinct asks that pulls were made for.
    pub asks_spent: u64,
    /// Pulls that asks caused.
    pub pulls_for_asks: u64,
    /// Offers that nobody asked for and that were accepted: each is a pull.
    pub offers_accepted: u64,
    /// Asks and offers that were turned down, by the reason.
    pub declined: BTreeMap<Why, u64>,
    /// Bytes that were pulled.
    pub bytes_pulled: u64,
    /// Bytes that distinct readers read from replicas here.
    pub bytes_served: u64,
}

/// An ask.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// For which root.
    pub key: Key,
    /// Who asks.
    pub peer: PeerKey,
    /// As who it counts.
    pub by: Asker,
    /// Whether its own copy will be near.
    pub stays: bool,
}

/// An offer.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The root's key, which the caller has computed from the root.
    pub key: Key,
    /// Who offers.
    pub peer: PeerKey,
    /// As who it counts.
    pub by: Asker,
    /// Whether what it fetches stays.
    pub stays: bool,
    /// What the root is like, as the sender says.
    pub shape: Shape,
    /// Which leaves are worth a copy.
    pub ranges: LeafRanges,
    /// How many distinct askers it knows of.
    pub asked: u32,
}

/// The neighbourhood in which an ask or an offer comes.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The helpers there.
    pub table: &'a NearTable,
    /// Whether it is the LAN.
    pub is_lan: bool,
}

/// What is answered to an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is held.
    Have {
        /// Which leaves, at most so many ranges as a message carries.
        ranges: LeafRanges,
        /// Whether more would be pulled.
        wants: bool,
    },
    /// It is being pulled.
    Pulling,
    /// It would be pulled.
    Want,
    /// Others hold it, or are closer.
    Elsewhere {
        /// The holders.
        holders: Vec<PeerKey>,
        /// The closer nodes, the closest first.
        closer: Vec<PeerKey>,
    },
    /// No.
    No {
        /// Why.
        why: Why,
        /// When to ask again.
        retry: Duration,
    },
}

/// What is to be pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The runs, in order.
    pub runs: Vec<u64>,
    /// Their leaves.
    pub ranges: LeafRanges,
}

/// Why not, and when to come again.
pub type Declined = (Why, Duration);

/// A node that helps; see the module's head.
pub struct Helper {
    config: HelperConfig,
    is_on: bool,
    demand: Demand,
    credit: Credit,
    cache: Cache,
    /// What the roots are like of which something is held or pulled.
    shapes: BTreeMap<Key, Shape>,
    pulls: Pulls,
    /// Who may offer what: the answer was "want".
    invited: BTreeMap<(PeerKey, Key), Duration>,
    denied: BTreeSet<Key>,
    counters: Counters,
}

impl Helper {
    /// A helper that holds nothing yet.
    #[must_use]
    pub fn new(config: HelperConfig, salt: Salt, now: Duration) -> Self {
        Self {
            config,
            is_on: true,
            demand: Demand::new(config.demand, salt),
            credit: Credit::new(config.credit, now),
            cache: Cache::new(config.quota),
            shapes: BTreeMap::new(),
            pulls: Pulls::default(),
            invited: BTreeMap::new(),
            denied: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// Whether it helps at present: it is switched on, warmed up, and neither on a battery nor on a
    /// line that costs.
    pub fn set_on(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// Denies a key for good, and lets go of what is held of it.
    pub fn deny(&mut self, key: Key, now: Duration) -> Vec<Change> {
        self.denied.insert(key);
        self.pull_ended(key, now);
        let changes = self.cache.remove_root(key);
        self.forget(changes)
    }

    /// Answers an ask, and counts the asker.
    pub fn asked(&mut self, ask: &Ask, around: Around<'_>, now: Duration) -> Said {
        let key = ask.key;
        if !self.is_on {
            return self.no(Why::Off, RETRY);
        }
        if self.denied.contains(&key) {
            return self.no(Why::Refused, Duration::from_hours(24));
        }
        self.counters.asks = self.counters.asks.saturating_add(1);
        let by = ask.by.mark(self.demand.salt());
        if self.demand.ask(key, by, now) {
            self.counters.asks_distinct = self.counters.asks_distinct.saturating_add(1);
        }
        let rank = around.table.rank(key, Some(ask.peer));
        let would_pull = self.would_pull(key, rank, ask.stays, around, now);
        if let Some(ranges) = self.held(key) {
            let wants = would_pull.is_ok() && self.invite(ask.peer, key, now);
            return Said::Have { ranges, wants };
        }
        if self.pulls.is_pulling(key) {
            return Said::Pulling;
        }
        let declined = match would_pull {
            Ok(_) => {
                self.invite(ask.peer, key, now);
                return Said::Want;
            }
            Err(declined) => declined,
        };
        let holders = self.demand.holders(key, now).into_iter().map(|it| it.peer);
        let holders: Vec<_> = holders.filter(|it| *it != ask.peer).collect();
        let closest = around.table.closest(key, Some(ask.peer)).into_iter();
        let closer: Vec<_> = closest
            .take(rank.min(CLOSER_MAX))
            .map(|it| it.peer)
            .collect();
        if holders.is_empty() && closer.is_empty() {
            return self.no(declined.0, declined.1);
        }
        Said::Elsewhere { holders, closer }
    }

    /// Accepts an offer, or says why not.
    ///
    /// # Errors
    /// Why it is declined, and when to come again.
    pub fn offered(
        &mut self,
        offer: &Offered,
        around: Around<'_>,
        now: Duration,
    ) -> Result<Accepted, Declined> {
        let accepted = self.weigh(offer, around, now);
        if let Err((why, _)) = accepted {
            self.count_declined(why);
        }
        accepted
    }

    /// A run that was being pulled is here, verified, with so many bytes. What has changed; nothing
    /// is to be stored where it is an error.
    ///
    /// # Errors
    /// [`Why::Unasked`] for a run that is not being pulled, [`Why::Budget`] where the root has more
    /// bytes than it was said to have and they are not affordable, [`Why::Room`] without room. The
    /// pull is to end.
    pub fn run_arrived(
        &mut self,
        key: Key,
        run: u64,
        bytes: u64,
        now: Duration,
    ) -> Result<Vec<Change>, Why> {
        let pull = self.pulls.get_mut(key).ok_or(Why::Unasked)?;
        if !pull.runs.remove(&run) {
            return Err(Why::Unasked);
        }
        let missing = bytes.saturating_sub(pull.reserved);
        pull.reserved = pull.reserved.saturating_sub(bytes);
        if missing > 0 && !self.credit.take(missing, &pull.groups(), now) {
            return Err(Why::Budget);
        }
        let id = RunId { key, run };
        let changes = self
            .cache
            .insert(id, bytes, &pull.causes, now)
            .map_err(|_| Why::Room)?;
        self.counters.bytes_pulled = self.counters.bytes_pulled.saturating_add(bytes);
        Ok(self.forget(changes))
    }

    /// Nodes of a root that is being pulled are here, with so many bytes.
    ///
    /// # Errors
    /// As [`run_arrived`](Self::run_arrived).
    pub fn nodes_arrived(
        &mut self,
        key: Key,
        bytes: u64,
        now: Duration,
    ) -> Result<Vec<Change>, Why> {
        let pull = self.pulls.get_mut(key).ok_or(Why::Unasked)?;
        if !self.credit.take(bytes, &pull.groups(), now) {
            return Err(Why::Budget);
        }
        let changes = self.cache.insert_nodes(key, bytes).map_err(|_| Why::Room)?;
        self.counters.bytes_pulled = self.counters.bytes_pulled.saturating_add(bytes);
        Ok(self.forget(changes))
    }

    /// A pull has ended, complete or not; the rest of what was reserved for it is given back.
    pub fn pull_ended(&mut self, key: Key, now: Duration) -> Vec<Change> {
        let Some(pull) = self.pulls.end(key) else {
            return Vec::new();
        };
        self.credit.bytes(now);
        self.credit.give_back(pull.reserved, &pull.groups());
        let changes = self.cache.settle(key);
        if self.cache.runs_of(key).next().is_none() {
            self.shapes.remove(&key);
        }
        self.forget(changes)
    }

    /// A run of a replica was served to a reader.
    pub fn served(&mut self, key: Key, run: u64, bytes: u64, to: &Asker, now: Duration) {
        let by = to.mark(self.demand.salt());
        self.cache.read(RunId { key, run }, by, now);
        let Some(shape) = self.shapes.get(&key).copied() else {
            return;
        };
        if self.demand.read(key, run, shape, by, now) {
            self.credit.earn(bytes, now);
            self.counters.bytes_served = self.counters.bytes_served.saturating_add(bytes);
        }
    }

    /// A peer holds so many leaves of a root; none withdraws what it said.
    pub fn told(&mut self, key: Key, peer: PeerKey, leaves: u64, is_busy: bool, now: Duration) {
        if !self.denied.contains(&key) {
            self.demand.told(key, peer, leaves, is_busy, now);
        }
    }

    /// The stream of a peer has ended.
    pub fn left(&mut self, peer: PeerKey, now: Duration) {
        self.demand.left(peer, now);
        self.invited.retain(|(of, _), _| *of != peer);
    }

    /// Whom this home offers a stripe next, and with which runs: the helpers of the places that no
    /// ask reaches. Each place is named once an hour.
    pub fn next_place(
        &mut self,
        key: Key,
        around: Around<'_>,
        now: Duration,
    ) -> Option<(PeerKey, Accepted)> {
        let shape = self.shapes.get(&key).copied()?;
        if !self.is_on || around.table.rank(key, None) >= HOMES {
            return None;
        }
        let wanted = u64::from(self.copies(key, around, now)).saturating_mul(shape.stripes());
        let others = around.table.closest(key, None);
        for (place, helper) in (1_u64..wanted).zip(others).skip(HOMES.saturating_sub(1)) {
            let runs: Vec<u64> = shape.runs_at(place).take(RANGES_MAX).collect();
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            if !runs.is_empty() && self.demand.offer_once(key, place, now) {
                let ranges = shape.ranges(runs.iter().copied());
                return Some((helper.peer, Accepted { runs, ranges }));
            }
        }
        None
    }

    /// Brings back a run that a row tells of, after a restart; [`set_quota`](Self::set_quota) then
    /// makes all of them fit.
    pub fn restore_run(&mut self, id: RunId, standing: Standing, shape: Shape) {
        if !self.denied.contains(&id.key) {
            self.shapes.insert(id.key, shape);
            self.cache.restore(id, standing);
        }
    }

    /// Sets the quota, and lets go of what does not fit.
    pub fn set_quota(&mut self, quota: u64) -> Vec<Change> {
        self.config.quota = quota;
        let changes = self.cache.set_quota(quota);
        self.forget(changes)
    }

    /// Lets go of so many bytes, for a user's data.
    pub fn release(&mut self, bytes: u64) -> Vec<Change> {
        let changes = self.cache.release(bytes);
        self.forget(changes)
    }

    /// Lets go of what nobody reads.
    pub fn expire(&mut self, now: Duration) -> Vec<Change> {
        let changes = self.cache.expire(now);
        self.forget(changes)
    }

    /// Lets go of a root that a person drops.
    pub fn drop_root(&mut self, key: Key, now: Duration) -> Vec<Change> {
        self.pull_ended(key, now);
        let changes = self.cache.remove_root(key);
        self.forget(changes)
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What it holds.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Whether it pulls this root at present.
    #[must_use]
    pub fn is_pulling(&self, key: Key) -> bool {
        self.pulls.is_pulling(key)
    }

    /// The leaves that it holds of a root.
    #[must_use]
    pub fn held(&self, key: Key) -> Option<LeafRanges> {
        let shape = self.shapes.get(&key)?;
        let ranges = shape.ranges(self.cache.runs_of(key).take(RANGES_MAX));
        (!ranges.is_empty()).then_some(ranges)
    }

    /// How many asks this node would spend on a pull, or why it makes none.
    fn would_pull(
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
        if let Some(shape) = standing.shape {
            if self.missing_runs(key, rank, shape).next().is_none() {
                return Err((Why::Place, Duration::from_hours(1)));
            }
            let whole = self
                .demand
                .holders(key, now)
                .iter()
                .filter(|it| it.is_whole)
                .count();
            if whole >= usize::from(self.copies(key, around, now)) {
                return Err((Why::Enough, RETRY));
            }
        }
        self.pulls.room(&self.config, false, now)?;
        let groups: Vec<_> = standing.causes.iter().map(|it| it.group).collect();
        match self.credit.affordable(&groups, now) {
            0 => Err((Why::Budget, Duration::from_hours(1))),
            _ => Ok(need),
        }
    }

    fn weigh(
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
        if !self.is_on || self.config.quota == 0 {
            return Err((Why::Off, RETRY));
        }
        let rank = around.table.rank(key, Some(offer.peer));
        let (causes, asks) = if is_invited {
            self.demand.set_shape(key, shape);
            let need = self.would_pull(key, rank, offer.stays, around, now)?;
            (self.demand.standing(key, now).causes, need)
        } else {
            if offer.asked < u32::from(self.config.need) {
                return Err((Why::Unasked, RETRY));
            }
            self.pulls.room(&self.config, true, now)?;
            (vec![offer.by.mark(self.demand.salt())], 0)
        };
        let missing: Vec<u64> = if is_invited {
            self.missing_runs(key, rank, shape).collect()
        } else {
            (0..shape.runs().min(LEAF_END_MAX))
                .filter(|run| !self.holds(key, *run))
                .take(RANGES_MAX)
                .collect()
        };
        let is_offered = |run: &u64| {
            let leaves = shape.leaves_of(*run);
            offer.ranges.contains(leaves.start)
                && offer.ranges.contains(leaves.end.saturating_sub(1))
        };
        let runs = missing.into_iter().filter(is_offered);
        self.begin(key, shape, runs, causes, asks, now)
    }

    /// Begins a pull of as many of these runs as are affordable and fit a message.
    fn begin(
        &mut self,
        key: Key,
        shape: Shape,
        wanted: impl Iterator<Item = u64>,
        causes: Vec<Mark>,
        asks: u8,
        now: Duration,
    ) -> Result<Accepted, Declined> {
        let groups: Vec<_> = causes.iter().map(|it| it.group).collect();
        let affordable = self.credit.affordable(&groups, now).min(self.config.quota);
        let (mut runs, mut bytes, mut is_short) = (Vec::new(), 0_u64, false);
        for run in wanted.take(RANGES_MAX) {
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

    fn copies(&mut self, key: Key, around: Around<'_>, now: Duration) -> u8 {
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

    fn invite(&mut self, peer: PeerKey, key: Key, now: Duration) -> bool {
        self.invited.retain(|_, until| *until >= now);
        if self.invited.len() >= INVITED_MAX {
            let oldest = self.invited.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(of, _)| *of) {
                self.invited.remove(&oldest);
            }
        }
        self.invited
            .insert((peer, key), now.saturating_add(INVITED_TIME));
        true
    }

    fn no(&mut self, why: Why, retry: Duration) -> Said {
        self.count_declined(why);
        Said::No { why, retry }
    }

    fn count_declined(&mut self, why: Why) {
        let count = self.counters.declined.entry(why).or_default();
        *count = count.saturating_add(1);
    }

    /// Forgets the shapes of roots of which nothing is held or pulled any more.
    fn forget(&mut self, changes: Vec<Change>) -> Vec<Change> {
        for change in &changes {
            if let Change::RootGone(key) = change
                && !self.pulls.is_pulling(*key)
            {
                self.shapes.remove(key);
            }
        }
        changes
    }
}

/// Whether there may be such a root: it has leaves, not too many, and none longer than a block.
fn is_possible(shape: Shape) -> bool {
    let most = u128::from(shape.leaves).saturating_mul(BLOCK_BYTES_MAX as u128);
    (1..=LEAF_END_MAX).contains(&shape.leaves) && u128::from(shape.size) <= most
}
