//! The askers of one root, the helpers that they named, and the offers that were made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::asker::Mark;
use super::super::position::PeerKey;
use super::super::stripes::Shape;
use super::{ASKERS_MAX, HELPERS_MAX, Replied};
use crate::backoff::Backoff;
use crate::exchange::NEARBY_HELPERS_MAX;

/// One root's; see [`Offers`](super::Offers).
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    shape: Shape,
    askers: BTreeMap<PeerKey, Asker>,
    helpers: BTreeMap<PeerKey, Helper>,
}

/// A peer that asks for the root.
#[derive(Clone, Debug)]
struct Asker {
    by: Mark,
    /// Its streams that are open.
    streams: usize,
    /// When the last one ended; of no meaning while one is open.
    left: Duration,
    word: Word,
}

/// Whether an asker was asked for helpers near it, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Unasked,
    Asked,
    /// The closest to the key first.
    Named(Vec<PeerKey>),
}

/// A helper that an asker named.
#[derive(Clone, Copy, Debug)]
struct Helper {
    state: HelperState,
    /// How often it was silent in a row.
    silences: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HelperState {
    /// It may be offered something from this time on.
    Free { from: Duration },
    /// It was offered a stripe.
    Offered(Part),
    /// It took it.
    Has(Part),
}

/// What a helper was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    stripe: u64,
    /// A whole copy was offered before.
    is_further: bool,
}

impl HelperState {
    fn part(self) -> Option<Part> {
        match self {
            Self::Free { .. } => None,
            Self::Offered(part) | Self::Has(part) => Some(part),
        }
    }
}

/// Askers that name common helpers.
#[derive(Clone, Debug, Default)]
struct Group {
    helpers: BTreeSet<PeerKey>,
    nominators: BTreeSet<u32>,
}

impl Crowd {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            askers: BTreeMap::new(),
            helpers: BTreeMap::new(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// What it is worth to be remembered: whether anybody is here, and how many have asked.
    pub(super) fn weight(&self) -> (bool, usize) {
        (self.is_anybody_here(), self.askers.len())
    }

    pub(super) fn came(&mut self, peer: PeerKey, by: Mark, now: Duration) {
        // A helper that pulls what it was offered asks for nobody.
        if self.part_of(peer).is_some() {
            return;
        }
        if !self.askers.contains_key(&peer) && self.askers.len() >= ASKERS_MAX {
            let oldest = self.askers.iter().filter(|(_, it)| it.streams == 0);
            let oldest = oldest.min_by_key(|(_, it)| it.left).map(|(peer, _)| *peer);
            let Some(oldest) = oldest else { return };
            self.askers.remove(&oldest);
        }
        let asker = self.askers.entry(peer).or_insert_with(|| Asker {
            by,
            streams: 0,
            left: now,
            word: Word::Unasked,
        });
        asker.streams = asker.streams.saturating_add(1);
    }

    pub(super) fn left(&mut self, peer: PeerKey, now: Duration) {
        if let Some(asker) = self.askers.get_mut(&peer) {
            asker.streams = asker.streams.saturating_sub(1);
            asker.left = now;
            if asker.streams == 0 && asker.word == Word::Asked {
                // On its next stream it may be asked again.
                asker.word = Word::Unasked;
            }
        }
    }

    pub(super) fn is_anybody_here(&self) -> bool {
        self.askers.values().any(|it| it.streams > 0)
    }

    /// How many distinct askers there are.
    pub(super) fn distinct(&self) -> usize {
        let marks: BTreeSet<_> = self.askers.values().map(|it| it.by.who).collect();
        marks.len()
    }

    /// How many distinct askers have named helpers.
    pub(super) fn nominators(&self) -> usize {
        let named = self.named().map(|(by, _)| by.who);
        named.collect::<BTreeSet<_>>().len()
    }

    fn named(&self) -> impl Iterator<Item = (Mark, &[PeerKey])> {
        self.askers.values().filter_map(|it| match &it.word {
            Word::Named(helpers) if !helpers.is_empty() => Some((it.by, helpers.as_slice())),
            _ => None,
        })
    }

    /// The askers that are here and were not asked yet; they count as asked.
    pub(super) fn ask_unasked(&mut self) -> Vec<PeerKey> {
        let here = self.askers.iter_mut();
        let unasked = here.filter(|(_, it)| it.streams > 0 && it.word == Word::Unasked);
        let asked = unasked.map(|(peer, asker)| {
            asker.word = Word::Asked;
            *peer
        });
        asked.collect()
    }

    pub(super) fn nominated(&mut self, peer: PeerKey, helpers: &[PeerKey]) -> bool {
        let Some(asker) = self.askers.get_mut(&peer) else {
            return false;
        };
        if asker.word != Word::Asked {
            return false;
        }
        let mut named: Vec<PeerKey> = Vec::new();
        for helper in helpers.iter().take(NEARBY_HELPERS_MAX) {
            let is_known = self.helpers.contains_key(helper);
            let has_room = is_known || self.helpers.len() < HELPERS_MAX;
            if *helper == peer || named.contains(helper) || !has_room {
                continue;
            }
            named.push(*helper);
            self.helpers.entry(*helper).or_insert(Helper {
                state: HelperState::Free {
                    from: Duration::ZERO,
                },
                silences: 0,
            });
        }
        asker.word = Word::Named(named);
        true
    }

    pub(super) fn outstanding(&self) -> usize {
        let offered = |it: &&Helper| matches!(it.state, HelperState::Offered(_));
        self.helpers.values().filter(offered).count()
    }

    /// The helpers that took what they were offered.
    pub(super) fn holders(&self) -> impl Iterator<Item = PeerKey> {
        let has = |it: &(&PeerKey, &Helper)| matches!(it.1.state, HelperState::Has(_));
        self.helpers.iter().filter(has).map(|(peer, _)| *peer)
    }

    pub(super) fn is_further_copy(&self, peer: PeerKey) -> bool {
        self.part_of(peer).is_some_and(|part| part.is_further)
    }

    fn part_of(&self, helper: PeerKey) -> Option<Part> {
        self.helpers.get(&helper)?.state.part()
    }

    pub(super) fn replied(
        &mut self,
        peer: PeerKey,
        reply: Replied,
        silent: Backoff,
        now: Duration,
    ) {
        let Some(helper) = self.helpers.get_mut(&peer) else {
            return;
        };
        let HelperState::Offered(part) = helper.state else {
            return;
        };
        helper.state = match reply {
            Replied::Accepted => {
                helper.silences = 0;
                HelperState::Has(part)
            }
            Replied::Declined { retry } => {
                helper.silences = 0;
                let from = now.saturating_add(retry);
                HelperState::Free { from }
            }
            Replied::Silent => {
                helper.silences = helper.silences.saturating_add(1);
                let from = now.saturating_add(silent.after(helper.silences));
                HelperState::Free { from }
            }
        };
    }

    /// Whom to offer which stripe next; it counts as offered. The group that was offered least comes
    /// first, and in it the helper that most distinct askers named. Groups begin with different
    /// stripes, so that a slow line sends different parts, which the helpers then trade.
    pub(super) fn next_offer(&mut self, now: Duration) -> Option<(PeerKey, u64)> {
        let groups = self.groups();
        let mut order: Vec<_> = (0_u64..).zip(&groups).collect();
        order.sort_by_key(|(_, group)| {
            (self.taken_by(group).len(), Reverse(group.nominators.len()))
        });
        for (number, group) in order {
            let taken = self.taken_by(group);
            let stripes = (0..self.stripes()).map(|stripe| {
                let turned = stripe.saturating_add(number);
                turned.checked_rem(self.stripes()).unwrap_or_default()
            });
            let mut missing = stripes.filter(|stripe| !taken.contains(stripe));
            let Some(stripe) = missing.next() else {
                continue;
            };
            if let Some(to) = self.best_helper(group, stripe, now) {
                let given = self
                    .helpers
                    .keys()
                    .filter(|it| self.part_of(**it).is_some());
                let given = u64::try_from(given.count()).unwrap_or(u64::MAX);
                let is_further = given >= self.stripes();
                if let Some(helper) = self.helpers.get_mut(&to) {
                    helper.state = HelperState::Offered(Part { stripe, is_further });
                }
                return Some((to, stripe));
            }
        }
        None
    }

    /// How many stripes there are with something in them: a root of one run has one.
    fn stripes(&self) -> u64 {
        self.shape.stripes().min(self.shape.runs()).max(1)
    }

    /// The stripes that helpers of a group have, or were offered.
    fn taken_by(&self, group: &Group) -> BTreeSet<u64> {
        let parts = group.helpers.iter().filter_map(|it| self.part_of(*it));
        parts.map(|part| part.stripe).collect()
    }

    /// The free helper of a group that most distinct askers named; of these the one whose place by the
    /// distance to the key is that of the stripe.
    fn best_helper(&self, group: &Group, stripe: u64, now: Duration) -> Option<PeerKey> {
        let is_free = |peer: &&PeerKey| {
            let state = self.helpers.get(peer).map(|it| it.state);
            matches!(state, Some(HelperState::Free { from }) if from <= now)
        };
        let free = group.helpers.iter().filter(is_free);
        let rank = |peer: &&PeerKey| {
            let (mut by, mut place) = (BTreeSet::new(), u64::MAX);
            for (asker, helpers) in self.named() {
                let position = (0_u64..).zip(helpers).find(|(_, it)| *it == *peer);
                if let Some((position, _)) = position {
                    by.insert(asker.who);
                    place = place.min(position);
                }
            }
            let is_in_place = place.checked_rem(self.stripes()) == Some(stripe);
            (Reverse(by.len()), !is_in_place, place, **peer)
        };
        free.min_by_key(rank).copied()
    }

    /// The groups, by the first of their helpers.
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (by, helpers) in self.named() {
            let mut joined = Group {
                helpers: helpers.iter().copied().collect(),
                nominators: BTreeSet::from([by.who]),
            };
            groups.retain(|group| {
                let is_common = !group.helpers.is_disjoint(&joined.helpers);
                if is_common {
                    joined.helpers.extend(&group.helpers);
                    joined.nominators.extend(&group.nominators);
                }
                !is_common
            });
            groups.push(joined);
        }
        groups.sort_by_key(|group| group.helpers.first().copied());
        groups
    }

    /// Forgets askers that are gone for so long, with whom they named; false when nobody is left.
    pub(super) fn trim(&mut self, remembered: Duration, now: Duration) -> bool {
        self.askers
            .retain(|_, it| it.streams > 0 || now.saturating_sub(it.left) < remembered);
        !self.askers.is_empty()
    }
}
