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

mod admission;
mod offerers;
mod pulls;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::offerers::Offerers;
use self::pulls::Pulls;
pub use self::types::{
    Accepted, Around, Ask, Counters, Declined, HelperConfig, Offered, PULLS_MAX, Said,
};
use super::asker::{Asker, Mark, Salt};
use super::cache::{Cache, Change, RunId, Standing};
use super::credit::Credit;
use super::demand::Demand;
use super::message::{CLOSER_MAX, RANGES_MAX, Why};
use super::position::{Key, PeerKey};
use super::stripes::{Shape, has_part};
use super::walk::HOMES;
use crate::exchange::LeafRanges;

/// The most invitations to offer that are remembered, 60 bytes each; the oldest goes first.
const INVITED_MAX: usize = 1024;

/// For how long an invitation holds: an asker answers it within a round trip.
const INVITED_TIME: Duration = Duration::from_mins(1);

/// Runs that are looked at for one pull: those of 4 TiB in leaves of 1 MiB.
const RUNS_MAX: usize = 1 << 20;

/// When it is of use to ask again, where nothing better is known.
const RETRY: Duration = Duration::from_mins(1);

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
    offerers: Offerers,
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
            offerers: Offerers::default(),
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
        let mut changes = self.pull_ended(key, now);
        changes.extend(self.cache.remove_root(key));
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
        let by = self.mark(&ask.by);
        self.offerers.proved(key, by.group);
        if self.demand.ask(key, by, now) {
            self.counters.asks_distinct = self.counters.asks_distinct.saturating_add(1);
        }
        let rank = around.table.rank(key, Some(ask.peer));
        let would_pull = self.would_pull(key, rank, ask.stays, around, now);
        if let Some(ranges) = self.held(key) {
            let wants = would_pull.is_ok() && !self.pulls.is_pulling(key);
            if wants {
                self.invite(ask.peer, key, now);
            }
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

    /// What is kept of an asker or reader: made once for each stream.
    #[must_use]
    pub fn mark(&self, of: &Asker) -> Mark {
        of.mark(self.demand.salt())
    }

    /// A run of a replica was served to a reader.
    ///
    /// `true` for the first time that this reader read this part of the root, within a day or two.
    pub fn served(&mut self, key: Key, run: u64, bytes: u64, by: Mark, now: Duration) -> bool {
        self.cache.read(RunId { key, run }, by, now);
        if !self.shapes.contains_key(&key) {
            return false;
        }
        let is_new = self.demand.read(key, run, by, now);
        if is_new {
            self.offerers.proved(key, by.group);
            self.credit.earn(bytes, now);
            self.counters.bytes_served = self.counters.bytes_served.saturating_add(bytes);
        }
        is_new
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
    /// ask reaches. Each place is named once an hour. What one group alone asks for stays where it
    /// is: a helper books what a home offers to the home, not to those who asked there.
    pub fn next_place(
        &mut self,
        key: Key,
        around: Around<'_>,
        now: Duration,
    ) -> Option<(PeerKey, Accepted)> {
        let shape = self.shapes.get(&key).copied()?;
        let is_home = around.table.rank(key, None) < HOMES;
        if !self.is_on || !is_home || !self.demand.standing(key, now).is_diverse {
            return None;
        }
        let wanted = u64::from(self.copies(key, around, now)).saturating_mul(shape.stripes());
        let parts = self.demand.wanted(key);
        let others = around.table.closest(key, None);
        for (place, helper) in (1_u64..wanted).zip(others).skip(HOMES.saturating_sub(1)) {
            let is_wanted = |run: &u64| has_part(parts, shape.part_of(*run));
            let runs = shape.runs_at(place).take(RUNS_MAX).filter(is_wanted);
            let runs: Vec<u64> = runs.take(RANGES_MAX).collect();
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

    /// Brings back the nodes of a root that a row tells of.
    pub fn restore_nodes(&mut self, key: Key, bytes: u64) {
        if !self.denied.contains(&key) {
            self.cache.restore_nodes(key, bytes);
        }
    }

    /// A run is held no more: its bytes could not be stored, or are damaged.
    pub fn run_lost(&mut self, id: RunId) -> Vec<Change> {
        let changes = self.cache.remove_run(id);
        self.forget(changes)
    }

    /// A root is held no more: its nodes are damaged. A pull of it goes on.
    pub fn root_lost(&mut self, key: Key) -> Vec<Change> {
        let changes = self.cache.remove_root(key);
        self.forget(changes)
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
        let mut changes = self.pull_ended(key, now);
        changes.extend(self.cache.remove_root(key));
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

    /// What a root is like of which something is held or pulled, as it was said.
    #[must_use]
    pub fn shape(&self, key: Key) -> Option<Shape> {
        self.shapes.get(&key).copied()
    }

    /// Whether it pulls this root at present.
    #[must_use]
    pub fn is_pulling(&self, key: Key) -> bool {
        self.pulls.is_pulling(key)
    }

    /// The keys that are most in demand, as bytes for [`restore_demand`](Self::restore_demand).
    pub fn save_demand(&mut self, now: Duration) -> Vec<u8> {
        self.demand.save(now)
    }

    /// Brings back the demand that was saved so long ago. Bytes that cannot be read bring back
    /// nothing.
    pub fn restore_demand(&mut self, saved: &[u8], age: Duration, now: Duration) {
        self.demand.restore(saved, age, now);
    }

    /// How many bytes may be pulled now, whoever causes it.
    pub fn credit(&mut self, now: Duration) -> u64 {
        self.credit.bytes(now)
    }

    /// The leaves that it holds of a root.
    #[must_use]
    pub fn held(&self, key: Key) -> Option<LeafRanges> {
        let shape = self.shapes.get(&key)?;
        let ranges = shape.ranges(self.cache.runs_of(key).take(RANGES_MAX));
        (!ranges.is_empty()).then_some(ranges)
    }

    fn invite(&mut self, peer: PeerKey, key: Key, now: Duration) {
        self.invited.retain(|_, until| *until >= now);
        if self.invited.len() >= INVITED_MAX {
            let oldest = self.invited.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(of, _)| *of) {
                self.invited.remove(&oldest);
            }
        }
        self.invited
            .insert((peer, key), now.saturating_add(INVITED_TIME));
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
