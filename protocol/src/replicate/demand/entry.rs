//! What is known of one key: 200 bytes, so that 4,096 of them leave room for the filters.

use std::time::Duration;

use super::super::asker::Mark;
use super::super::position::{Key, PeerKey};
use super::super::stripes::{PARTS, Shape};

/// Holders that are remembered of one key.
pub(super) const HOLDERS_MAX: usize = 8;

/// For how long a holder is believed whose stream has ended.
const TOLD_TIME: Duration = Duration::from_mins(10);

const _: () = assert!(PARTS == 64, "an entry has 64 counts of four bits");

/// The highest count of a part; where it is reached, all counts are halved.
const PART_COUNT_MAX: u8 = 15;

/// Distinct asks that are not spent on a pull, at most.
const UNSPENT_MAX: u8 = 15;

/// Askers that are remembered as the causes of the next pull.
pub(super) const CAUSES: usize = 2;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// When the counts were as they are.
    counted: Duration,
    short: f32,
    long: f32,
    /// The last distinct askers.
    causes: [Option<Mark>; CAUSES],
    /// Distinct asks since the last pull.
    unspent: u8,
    /// Askers of more than one group have asked.
    is_diverse: bool,
    /// The root, where an offer told.
    leaves: u64,
    size: u64,
    /// How many offers named each 1/64th as worth a copy: four bits each.
    parts: [u8; 32],
    holders: [Holder; HOLDERS_MAX],
    /// Which places were offered a stripe, and when the first of them.
    pub(super) offered: u64,
    pub(super) offered_s: u32,
}

/// A holder: who, and in one word when it said so and what.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    peer: u32,
    /// Seconds of the time when its stream ended, or 0 while it lives; then [`WHOLE`], [`BUSY`] and
    /// [`THERE`].
    told: u32,
}

/// There is a holder in this place; it is busy; it has all leaves.
const THERE: u32 = 1;
const BUSY: u32 = 2;
const WHOLE: u32 = 4;
const FLAG_BITS: u32 = 3;

impl Holder {
    fn is_believed(self, now: Duration) -> bool {
        let ended = Duration::from_secs((self.told >> FLAG_BITS).into());
        let is_alive = ended.is_zero();
        self.told & THERE != 0 && (is_alive || now < ended.saturating_add(TOLD_TIME))
    }
}

/// What a holder told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldHolder {
    /// The peer.
    pub peer: PeerKey,
    /// Whether it has every leaf, as far as this node knows how many there are.
    pub is_whole: bool,
    /// Whether it serves as many as it can.
    pub is_busy: bool,
}

impl Entry {
    pub(super) fn new(key: Key, now: Duration) -> Self {
        Self {
            key,
            counted: now,
            short: 0.0,
            long: 0.0,
            causes: [None; CAUSES],
            unspent: 0,
            is_diverse: false,
            leaves: 0,
            size: 0,
            parts: [0; 32],
            holders: [Holder::default(); HOLDERS_MAX],
            offered: 0,
            offered_s: 0,
        }
    }

    /// Lets the counts decay to what they are now.
    pub(super) fn decay(&mut self, half_lives: (Duration, Duration), now: Duration) {
        let passed = now.saturating_sub(self.counted).as_secs_f32();
        let left = |half_life: Duration| (-passed / half_life.as_secs_f32()).exp2();
        self.short *= left(half_lives.0);
        self.long *= left(half_lives.1);
        self.counted = now;
    }

    /// The counts as of the last decay.
    pub(super) fn counts(&self) -> (f32, f32) {
        (self.short, self.long)
    }

    pub(super) fn set_counts(&mut self, (short, long): (f32, f32)) {
        (self.short, self.long) = (short, long);
    }

    pub(super) fn count(&mut self, by: Mark) {
        self.short += 1.0;
        self.long += 1.0;
        self.unspent = self.unspent.saturating_add(1).min(UNSPENT_MAX);
        let mut others = self.causes.iter().flatten();
        self.is_diverse |= others.any(|it| it.group != by.group);
        self.causes.rotate_right(1);
        if let Some(first) = self.causes.first_mut() {
            *first = Some(by);
        }
    }

    pub(super) fn unspent(&self) -> u8 {
        self.unspent
    }

    pub(super) fn is_diverse(&self) -> bool {
        self.is_diverse
    }

    /// The last askers of those that are not spent, at most [`CAUSES`].
    pub(super) fn causes(&self) -> impl Iterator<Item = Mark> {
        let unspent = usize::from(self.unspent);
        self.causes.iter().take(unspent).filter_map(|it| *it)
    }

    pub(super) fn spend(&mut self, asks: u8) {
        self.unspent = self.unspent.saturating_sub(asks);
    }

    pub(super) fn shape(&self) -> Option<Shape> {
        let (leaves, size) = (self.leaves, self.size);
        (leaves > 0).then_some(Shape { leaves, size })
    }

    pub(super) fn set_shape(&mut self, shape: Shape) {
        (self.leaves, self.size) = (shape.leaves, shape.size);
    }

    pub(super) fn count_part(&mut self, part: u64) {
        let Ok(part) = usize::try_from(part) else {
            return;
        };
        let shift = if part % 2 == 0 { 0 } else { 4 };
        let Some(pair) = self.parts.get_mut(part >> 1) else {
            return;
        };
        let count = (*pair >> shift & PART_COUNT_MAX).saturating_add(1);
        *pair = *pair & !(PART_COUNT_MAX << shift) | count << shift;
        if count == PART_COUNT_MAX {
            // Halves both counts of each byte.
            self.parts
                .iter_mut()
                .for_each(|pair| *pair = *pair >> 1 & 0x77);
        }
    }

    /// How many wanted each 1/64th, in relation to each other.
    pub(super) fn parts(&self) -> impl Iterator<Item = u8> {
        let halves = |pair: &u8| [*pair & PART_COUNT_MAX, *pair >> 4];
        self.parts.iter().flat_map(halves)
    }

    pub(super) fn told(&mut self, told: ToldHolder, now: Duration) {
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let holder = Holder {
            peer: told.peer.0,
            told: THERE | flag(told.is_busy, BUSY) | flag(told.is_whole, WHOLE),
        };
        let of_peer = |it: &Holder| it.told & THERE != 0 && it.peer == holder.peer;
        let known = self.holders.iter().position(of_peer);
        let free = || self.holders.iter().position(|it| !it.is_believed(now));
        let at = known.or_else(free);
        if let Some(place) = at.and_then(|at| self.holders.get_mut(at)) {
            *place = holder;
        }
    }

    pub(super) fn withdrew(&mut self, peer: PeerKey) {
        for holder in self.holders.iter_mut().filter(|it| it.peer == peer.0) {
            *holder = Holder::default();
        }
    }

    /// The stream of this peer has ended: what it told is believed for ten more minutes.
    pub(super) fn left(&mut self, peer: PeerKey, now: Duration) {
        let seconds = u32::try_from(now.as_secs())
            .unwrap_or(u32::MAX >> FLAG_BITS)
            .max(1);
        let of_peer = |it: &&mut Holder| it.told & THERE != 0 && it.peer == peer.0;
        for holder in self.holders.iter_mut().filter(of_peer) {
            let flags = holder.told & (THERE | BUSY | WHOLE);
            holder.told = flags | seconds << FLAG_BITS;
        }
    }

    pub(super) fn holders(&self, now: Duration) -> impl Iterator<Item = ToldHolder> {
        let believed = self.holders.iter().filter(move |it| it.is_believed(now));
        believed.map(|it| ToldHolder {
            peer: PeerKey(it.peer),
            is_whole: it.told & WHOLE != 0,
            is_busy: it.told & BUSY != 0,
        })
    }
}
