//! Whom a provider offers copies to, when more peers ask for a root than its line carries.
//!
//! A provider cannot see which helpers are near its askers. So it asks the askers, once its line has
//! been full for [`OffersConfig::full_for`] and a root has [`OffersConfig::askers_min`] distinct
//! askers; each names up to three helpers near it. Askers that name a common helper are one group,
//! which is a neighbourhood. Each group is offered one copy, cut in stripes, in turns with all other
//! groups; further copies are for the homes of that neighbourhood to offer on.
//!
//! [`Offers`] owns the books of who asked, who named whom, and which offers were made. It reads no
//! clock, rolls no dice and sends nothing: the caller carries out what [`Offers::poll`] returns.
//!
//! What must stay true:
//! 1. Only helpers that an asker has named are offered anything, and nothing while the line is free.
//! 2. A group is offered each stripe once at a time, and at most [`OffersConfig::outstanding_max`]
//!    offers of a root have no reply.
//! 3. A helper that declines is left alone for the time that it says, and one that is silent for
//!    longer each time.
//! 4. What helpers pull is never demand: a helper that was offered a copy is no asker.

mod crowd;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use self::crowd::Crowd;
use super::asker::Mark;
use super::message::RANGES_MAX;
use super::position::{Key, PeerKey};
use super::stripes::Shape;
use crate::backoff::Backoff;
use crate::exchange::LeafRanges;

/// The most roots whose askers are remembered. With all limits used up, their books take 1.5 MiB.
pub const CROWDS_MAX: usize = 64;

/// The most askers that are remembered of one root, about 120 bytes each.
pub const ASKERS_MAX: usize = 128;

/// The most helpers that are remembered of one root, about 80 bytes each: 3 of each asker.
pub const HELPERS_MAX: usize = 3 * ASKERS_MAX;

/// The numbers of [`Offers`]; `Default` is their only source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffersConfig {
    /// How many distinct askers make a crowd.
    pub askers_min: usize,
    /// How many distinct askers have to have named helpers before the first offer: what a helper
    /// needs itself.
    pub nominators_min: usize,
    /// For how long the line has to be full.
    pub full_for: Duration,
    /// For how long the line counts as full after the provider has told somebody that it is busy.
    pub busy_for: Duration,
    /// Offers of one root without a reply, at most.
    pub outstanding_max: usize,
    /// Each offer waits for a random time up to this, so that providers of one root do not all offer
    /// to the same helper at once.
    pub spread: Duration,
    /// For how long an asker that is gone still counts.
    pub remembered: Duration,
    /// The pauses after a helper was silent.
    pub silent: Backoff,
}

impl Default for OffersConfig {
    fn default() -> Self {
        Self {
            askers_min: 4,
            nominators_min: 2,
            full_for: Duration::from_secs(2),
            busy_for: Duration::from_secs(10),
            outstanding_max: 4,
            spread: Duration::from_millis(500),
            remembered: Duration::from_mins(10),
            silent: Backoff::new(Duration::from_mins(1), Duration::from_hours(1)),
        }
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Ask this asker of a root for helpers near it.
    Nominate {
        /// The root's key.
        key: Key,
        /// The asker.
        peer: PeerKey,
    },
    /// Offer a stripe.
    Offer(Planned),
}

/// An offer that is to be made. It counts as made until [`Offers::replied`] says what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The root's key.
    pub key: Key,
    /// To whom.
    pub to: PeerKey,
    /// What the root is like.
    pub shape: Shape,
    /// The leaves of the stripe.
    pub ranges: LeafRanges,
    /// How many distinct askers have named helpers.
    pub asked: u32,
    /// After which time.
    pub after: Duration,
}

/// What came of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replied {
    /// The helper pulls the stripe.
    Accepted,
    /// It does not, and says when to offer again.
    Declined {
        /// After which time.
        retry: Duration,
    },
    /// It could not be reached, or said nothing.
    Silent,
}

/// The books; see the module's head.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    config: OffersConfig,
    crowds: BTreeMap<Key, Crowd>,
    /// Since when the line is full.
    full_since: Option<Duration>,
    /// When somebody was told that this node is busy.
    said_busy: Option<Duration>,
}

impl Offers {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(config: OffersConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Takes note of whether the line is full now.
    pub fn set_line(&mut self, is_full: bool, now: Duration) {
        self.full_since = match is_full {
            true => Some(self.full_since.unwrap_or(now)),
            false => None,
        };
    }

    /// Takes note that somebody was told that this node is busy.
    pub fn said_busy(&mut self, now: Duration) {
        self.said_busy = Some(now);
    }

    /// Whether the line has been full for long enough, or this node has just said that it is busy.
    #[must_use]
    pub fn is_saturated(&self, now: Duration) -> bool {
        let is_older = |since: Option<Duration>, than: Duration| {
            since.is_some_and(|since| now.saturating_sub(since) >= than)
        };
        is_older(self.full_since, self.config.full_for)
            || self.said_busy.is_some() && !is_older(self.said_busy, self.config.busy_for)
    }

    /// A peer has opened a stream for a root that may be copied, of this shape.
    pub fn asked(&mut self, key: Key, shape: Shape, peer: PeerKey, by: Mark, now: Duration) {
        self.trim(now);
        if !self.crowds.contains_key(&key) && self.crowds.len() >= CROWDS_MAX {
            let quietest = self.crowds.iter().min_by_key(|(_, it)| it.weight());
            if let Some(quietest) = quietest.map(|(key, _)| *key) {
                self.crowds.remove(&quietest);
            }
        }
        let crowd = self.crowds.entry(key).or_insert_with(|| Crowd::new(shape));
        crowd.came(peer, by, now);
    }

    /// A stream of a peer has ended.
    pub fn left(&mut self, key: Key, peer: PeerKey, now: Duration) {
        if let Some(crowd) = self.crowds.get_mut(&key) {
            crowd.left(peer, now);
        }
    }

    /// An asker names helpers, the closest to the key first. Only the first word of one that was asked
    /// for it counts.
    pub fn nominated(&mut self, key: Key, peer: PeerKey, helpers: &[PeerKey]) -> bool {
        let crowd = self.crowds.get_mut(&key);
        crowd.is_some_and(|crowd| crowd.nominated(peer, helpers))
    }

    /// What came of an offer.
    pub fn replied(&mut self, key: Key, helper: PeerKey, reply: Replied, now: Duration) {
        if let Some(crowd) = self.crowds.get_mut(&key) {
            crowd.replied(helper, reply, self.config.silent, now);
        }
    }

    /// The helpers that have taken a copy of a root.
    #[must_use]
    pub fn holders(&self, key: Key) -> Vec<PeerKey> {
        let crowd = self.crowds.get(&key);
        crowd.map_or_else(Vec::new, |crowd| crowd.holders().collect())
    }

    /// Whether nobody has asked for anything lately.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.crowds.is_empty()
    }

    /// Nothing of a root is offered any more.
    pub fn forget(&mut self, key: Key) {
        self.crowds.remove(&key);
    }

    /// Whether a root has a crowd of askers, some of whom are here: only then is anything to be done,
    /// and somebody has to look at the line.
    #[must_use]
    pub fn has_crowd(&self) -> bool {
        let enough = self.config.askers_min;
        let mut crowds = self.crowds.values();
        crowds.any(|it| it.is_anybody_here() && it.distinct() >= enough)
    }

    /// Whether a peer pulls a copy that this node offered beyond the first whole one: it is served
    /// after all others.
    #[must_use]
    pub fn is_further_copy(&self, key: Key, peer: PeerKey) -> bool {
        let crowd = self.crowds.get(&key);
        crowd.is_some_and(|crowd| crowd.is_further_copy(peer))
    }

    /// What is to be done now. `dice` gives random numbers.
    pub fn poll(&mut self, mut dice: impl FnMut() -> u64, now: Duration) -> Vec<Deed> {
        self.trim(now);
        let mut deeds = Vec::new();
        if !self.is_saturated(now) {
            return deeds;
        }
        for (key, crowd) in &mut self.crowds {
            if crowd.distinct() < self.config.askers_min {
                continue;
            }
            let key = *key;
            let to_ask = crowd.ask_unasked().into_iter();
            deeds.extend(to_ask.map(|peer| Deed::Nominate { key, peer }));
            let asked = crowd.nominators();
            if asked < self.config.nominators_min {
                continue;
            }
            while crowd.outstanding() < self.config.outstanding_max {
                let Some((to, stripe)) = crowd.next_offer(now) else {
                    break;
                };
                let shape = crowd.shape();
                let ranges = shape.ranges(shape.runs_at(stripe).take(RANGES_MAX));
                deeds.push(Deed::Offer(Planned {
                    key,
                    to,
                    shape,
                    ranges,
                    asked: u32::try_from(asked).unwrap_or(u32::MAX),
                    after: part_of(self.config.spread, dice()),
                }));
            }
        }
        deeds
    }

    /// Forgets askers that are long gone, and roots that nobody asks for.
    fn trim(&mut self, now: Duration) {
        let remembered = self.config.remembered;
        self.crowds.retain(|_, crowd| crowd.trim(remembered, now));
    }
}

/// A random part of a span.
fn part_of(span: Duration, random: u64) -> Duration {
    let nanos = span.as_nanos().saturating_mul(random.into());
    let part = nanos.checked_shr(u64::BITS).unwrap_or_default();
    Duration::from_nanos(u64::try_from(part).unwrap_or_default())
}
