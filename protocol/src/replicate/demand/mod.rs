//! How much each root is in demand here: who asked for it, what of it is read, who near holds it.
//!
//! Owns a table of [`KEYS_MAX`] keys that a small sketch guards, and two filters that tell whether
//! an asker is new. All of it takes less than 1 MiB, whatever is asked. Only asks count: what
//! replicas do among each other (pulls, holdings) is never demand. A key has two counts of distinct
//! askers that decay: the long one decides whether there is a copy, the short one how many.
//!
//! It keeps neither roots nor addresses. What it saves are keys and counts: after a restart nobody
//! is known as an asker, so asks from before it decide no pull.

mod entry;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::entry::Entry;
pub use self::entry::ToldHolder;
use super::asker::{Mark, Salt, mix};
use super::position::{Key, PeerKey};
use super::sketch::{Filters, Sketch};
use super::stripes::{PARTS, Shape, bit, has_part};
use crate::exchange::LEAF_END_MAX;

/// The most keys in the table: 4096 x 208 bytes = 832 KiB, with two filters of 64 KiB and a sketch
/// of 16 KiB 976 KiB in all.
pub const KEYS_MAX: usize = 4096;

/// A key may stand in one of so many places of its set.
const WAYS: usize = 8;
const SETS: u64 = 512;

/// The most keys that are saved, 41 bytes each.
pub const SAVED_MAX: usize = 1024;

/// A key takes the place of another where it was asked for so much more often. With half an ask, a
/// key that was asked for once within a half-life stands against one that was asked for once.
const GUARD: f32 = 0.5;

/// For how long a place that was offered a stripe is not offered it again.
const OFFER_AGAIN: Duration = Duration::from_hours(1);

/// A part of a root is wanted if one in so many wants it, of those who want the most wanted one.
const WANTED_PART: u8 = 4;

/// What kind of item a filter is asked about.
const ASKED: u64 = 1 << 63;

/// The numbers of [`Demand`]; `Default` is their only source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemandConfig {
    /// The half-life of the count that says how many copies there should be.
    pub short: Duration,
    /// The half-life of the count that says whether there should be one, and for how long an asker
    /// is known at least.
    pub long: Duration,
}

impl Default for DemandConfig {
    fn default() -> Self {
        Self {
            short: Duration::from_mins(10),
            long: Duration::from_hours(24),
        }
    }
}

/// The demand; see the module's head.
pub struct Demand {
    config: DemandConfig,
    salt: Salt,
    /// Sets of [`WAYS`] places, one after the other.
    places: Box<[Option<Entry>]>,
    filters: Filters,
    sketch: Sketch,
}

/// How a key stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Distinct askers, by the short half-life.
    pub short: f32,
    /// Distinct askers, by the long half-life.
    pub long: f32,
    /// Distinct asks that no pull was made for; 15 may be more.
    pub unspent: u8,
    /// The last askers among these.
    pub causes: Vec<Mark>,
    /// Whether askers of more than one group have asked.
    pub is_diverse: bool,
    /// The root's shape, if an offer told it.
    pub shape: Option<Shape>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    keys: Vec<(Key, f32, f32)>,
}

impl Demand {
    /// Nothing is in demand.
    #[must_use]
    pub fn new(config: DemandConfig, salt: Salt) -> Self {
        Self {
            config,
            salt,
            places: vec![None; KEYS_MAX].into_boxed_slice(),
            filters: Filters::new(config.long),
            sketch: Sketch::new(config.long),
        }
    }

    /// What the askers are salted with.
    #[must_use]
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Counts an asker; `true` if it is one that did not ask for this key before.
    pub fn ask(&mut self, key: Key, by: Mark, now: Duration) -> bool {
        if !self.filters.insert(by.item(key, ASKED), now) {
            return false;
        }
        let asked = self.sketch.add(self.place_hash(key), now);
        if let Some(entry) = self.enter(key, f32::from(asked) - GUARD, now) {
            entry.count(by);
        }
        true
    }

    /// Counts a reader of one run of a root; `true` if it did not read this run before.
    pub fn read(&mut self, key: Key, run: u64, by: Mark, now: Duration) -> bool {
        self.filters.insert(by.item(key, run & !ASKED), now)
    }

    /// Counts an asker to whom these [parts](Shape::parts_of) of a root are worth a copy. What is read
    /// here cannot say that, for here is a stripe of it only.
    pub fn want(&mut self, key: Key, parts: u64) {
        let Some(entry) = self.find_mut(key) else {
            return;
        };
        for part in 0..PARTS {
            if has_part(parts, part) {
                entry.count_part(part);
            }
        }
    }

    /// The parts of a root that are wanted by at least a quarter of those who want the most wanted one.
    /// All are, where nobody has said anything.
    #[must_use]
    pub fn wanted(&self, key: Key) -> u64 {
        let Some(entry) = self.find(key) else {
            return u64::MAX;
        };
        let most = entry.parts().max().unwrap_or_default();
        let is_wanted = |count: u8| count.saturating_mul(WANTED_PART) >= most;
        let parts = (0..).zip(entry.parts());
        let wanted = parts.filter(|(_, count)| is_wanted(*count));
        wanted.fold(0, |all, (part, _)| all | bit(part))
    }

    /// How a key stands now.
    pub fn standing(&mut self, key: Key, now: Duration) -> Standing {
        let half_lives = (self.config.short, self.config.long);
        let Some(entry) = self.find_mut(key) else {
            return Standing::default();
        };
        entry.decay(half_lives, now);
        let (short, long) = entry.counts();
        Standing {
            short,
            long,
            unspent: entry.unspent(),
            causes: entry.causes().collect(),
            is_diverse: entry.is_diverse(),
            shape: entry.shape(),
        }
    }

    /// Takes note that a pull was made for so many asks.
    pub fn spend(&mut self, key: Key, asks: u8) {
        if let Some(entry) = self.find_mut(key) {
            entry.spend(asks);
        }
    }

    /// How many wanted each 1/64th of a root, in relation to each other.
    #[must_use]
    pub fn parts(&self, key: Key) -> Vec<u8> {
        self.find(key)
            .map_or_else(Vec::new, |it| it.parts().collect())
    }

    /// Takes note of a root's shape.
    pub fn set_shape(&mut self, key: Key, shape: Shape) {
        if let Some(entry) = self.find_mut(key) {
            entry.set_shape(shape);
        }
    }

    /// Takes note of so many leaves that a peer says it holds, of which none withdraws it. All that
    /// there can be are the whole of a root of which nothing is known.
    pub fn told(&mut self, key: Key, peer: PeerKey, leaves: u64, is_busy: bool, now: Duration) {
        if leaves == 0 {
            if let Some(entry) = self.find_mut(key) {
                entry.withdrew(peer);
            }
            return;
        }
        // What nobody asks for any more gives way to what somebody holds.
        if let Some(entry) = self.enter(key, GUARD, now) {
            let most = entry.shape().map_or(LEAF_END_MAX, |it| it.leaves);
            let is_whole = leaves >= most;
            entry.told(
                ToldHolder {
                    peer,
                    is_whole,
                    is_busy,
                },
                now,
            );
        }
    }

    /// Takes note that the stream of a peer has ended.
    pub fn left(&mut self, peer: PeerKey, now: Duration) {
        self.entries_mut().for_each(|it| it.left(peer, now));
    }

    /// The peers that said they hold some of the root.
    #[must_use]
    pub fn holders(&self, key: Key, now: Duration) -> Vec<ToldHolder> {
        self.find(key)
            .map_or_else(Vec::new, |it| it.holders(now).collect())
    }

    /// Whether this place may be offered a stripe of the root now; it may not be again for an hour.
    pub fn offer_once(&mut self, key: Key, place: u32, now: Duration) -> bool {
        let (Some(entry), Some(bit)) = (self.find_mut(key), 1_u64.checked_shl(place)) else {
            return false;
        };
        let since = Duration::from_secs(entry.offered_s.into());
        if entry.offered == 0 || now.saturating_sub(since) >= OFFER_AGAIN {
            entry.offered = 0;
            entry.offered_s = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        }
        let is_new = entry.offered & bit == 0;
        entry.offered |= bit;
        is_new
    }

    /// The keys that are most in demand, as bytes for [`restore`](Self::restore).
    pub fn save(&mut self, now: Duration) -> Vec<u8> {
        let half_lives = (self.config.short, self.config.long);
        let mut keys: Vec<_> = self
            .entries_mut()
            .map(|it| {
                it.decay(half_lives, now);
                let (short, long) = it.counts();
                (it.key, short, long)
            })
            .filter(|(_, _, long)| *long > 0.0)
            .collect();
        keys.sort_by(|a, b| b.2.total_cmp(&a.2));
        keys.truncate(SAVED_MAX);
        // Keys and floats can always be written.
        postcard::to_allocvec(&Saved { keys }).unwrap_or_default()
    }

    /// Brings back what was saved so long ago. Bytes that cannot be read bring back nothing.
    pub fn restore(&mut self, saved: &[u8], age: Duration, now: Duration) {
        let Ok(Saved { keys }) = postcard::from_bytes(saved) else {
            return;
        };
        let half_lives = (self.config.short, self.config.long);
        let sane = |count: f32| count.is_finite() && count > 0.0;
        for (key, short, long) in keys.into_iter().take(SAVED_MAX) {
            if !sane(short) || !sane(long) {
                continue;
            }
            if let Some(entry) = self.enter(key, long, now) {
                let mut before = Entry::new(key, Duration::ZERO);
                before.set_counts((short, long));
                before.decay(half_lives, age);
                entry.set_counts(before.counts());
            }
        }
    }

    /// How many keys are in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// Whether no key is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that all of this takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let table = size_of_val(&*self.places);
        table
            .saturating_add(self.filters.bytes())
            .saturating_add(self.sketch.bytes())
    }

    fn place_hash(&self, key: Key) -> u64 {
        let word = |bytes: &[u8; 32]| bytes.first_chunk().map_or(0, |it| u64::from_le_bytes(*it));
        mix(word(&key.0) ^ word(&self.salt.0))
    }

    fn set_of(&self, key: Key) -> std::ops::Range<usize> {
        let set = usize::try_from(self.place_hash(key) % SETS).unwrap_or_default();
        let start = set.saturating_mul(WAYS);
        start..start.saturating_add(WAYS)
    }

    fn find(&self, key: Key) -> Option<&Entry> {
        let set = self.places.get(self.set_of(key))?;
        set.iter().flatten().find(|it| it.key == key)
    }

    fn find_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let set = self.set_of(key);
        let set = self.places.get_mut(set)?;
        set.iter_mut().flatten().find(|it| it.key == key)
    }

    /// The key's entry, decayed to now. A new one takes a free place, or that of the weakest of its
    /// set if that is weaker than `weight`.
    fn enter(&mut self, key: Key, weight: f32, now: Duration) -> Option<&mut Entry> {
        let half_lives = (self.config.short, self.config.long);
        let set = self.set_of(key);
        let set = self.places.get_mut(set)?;
        let mut weakest: Option<(usize, f32)> = None;
        for (at, place) in set.iter_mut().enumerate() {
            let worth = match place {
                Some(entry) => {
                    entry.decay(half_lives, now);
                    match entry.key == key {
                        true => f32::NEG_INFINITY,
                        false => entry.counts().1,
                    }
                }
                None => -1.0,
            };
            if weakest.is_none_or(|(_, least)| worth < least) {
                weakest = Some((at, worth));
            }
        }
        let (at, worth) = weakest?;
        let place = set.get_mut(at)?;
        if worth == f32::NEG_INFINITY {
            return place.as_mut();
        }
        (worth < weight).then(|| place.insert(Entry::new(key, now)))
    }

    fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.places.iter_mut().flatten()
    }
}
