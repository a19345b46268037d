//! Whose block a server with a slow line sends next.
//!
//! A slow line that is spread over all readers completes no block for a long time, and sends the
//! same block to everybody. [`Turns`] gives the line to a few blocks at a time instead, to a
//! different block for each reader, so that the readers can trade. It owns the books of who waits
//! for what and who receives what. It reads no clock and moves no byte: time and progress come in
//! as arguments, and [`Turns::serve`] says who may begin.
//!
//! Three rules decide:
//! - A block that somebody receives, or has received just now, is held back from everybody else:
//!   they will have it from that peer. A peer that takes its bytes too slowly holds nothing back.
//! - Among the blocks that are not held back, those that were sent less often come first. Among
//!   their readers, the one that has waited longest comes first.
//! - Where the rate of the line is known, only so many blocks are under way that each of them moves
//!   at [`TurnsConfig::rate_per_block`]. A reader that takes less than half of its share does not
//!   count, so it takes the turn from nobody.
//!
//! A reader that was given nothing for [`TurnsConfig::starving`] comes before all others, the one that
//! has waited longest first, and nothing is held back from it.
//!
//! Holding back spares the line of the owner. A block of a [copy](Turns::serves_copy) is held back only
//! while it is sent, so that each member passes on what it has as fast as it can.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address::Digest;

/// How many wants of one reader are looked at: more than a planner asks a slow provider for.
pub const WANTS_LOOKED_AT_MAX: usize = 32;

/// How many blocks that were sent are remembered, about 64 bytes each: 64 KiB. The fastest line that
/// has turns needs four minutes for as many chunks, and a block is lent for 18 s at most. Beyond that,
/// the one that was sent first is forgotten.
pub const SENT_MAX: usize = 1024;

/// The numbers of [`Turns`]; `Default` is their only source.
#[derive(Clone, Debug)]
pub struct TurnsConfig {
    /// Bytes per second that each block under way should get, where the rate of the line is known.
    /// 64 KiB complete a chunk in 16 s.
    pub rate_per_block: u64,
    /// Bytes per second below which a receiver holds a block back from nobody: somebody else is
    /// sooner, even behind it. It is the slowest line that anything is promised for.
    pub rate_min: u64,
    /// Over which time a receiver's rate is taken. Until then it counts as fast.
    pub window: Duration,
    /// For how long a block is held back after it was sent: its receiver verifies it (0.1 s), writes
    /// its row (0.25 s), says that it has it (0.25 s), and is asked for it.
    pub lend: Duration,
    /// The time it took to send the block is added to [`Self::lend`], at most this much of it: what
    /// was handed to the line has not arrived yet, and a swarm that waits for the block has to be
    /// served by one receiver first.
    pub lend_more_max: Duration,
    /// How long a reader may be left without a block because of others.
    pub starving: Duration,
}

impl Default for TurnsConfig {
    fn default() -> Self {
        Self {
            rate_per_block: 64 << 10,
            rate_min: 4_000,
            window: Duration::from_secs(3),
            lend: Duration::from_secs(3),
            lend_more_max: Duration::from_secs(15),
            starving: Duration::from_secs(90),
        }
    }
}

/// One stream that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// What stands for the peer behind a stream. It may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// The turns on one line; see the module's head.
#[derive(Debug, Default)]
pub struct Turns {
    config: TurnsConfig,
    /// The rate of the line in bytes per second, where it is known.
    rate: Option<u64>,
    readers: BTreeMap<ReaderId, Reader>,
    sent: BTreeMap<Digest, Sent>,
    now: Duration,
}

#[derive(Debug)]
struct Reader {
    peer: PeerKey,
    state: State,
    /// When its last block ended, or when it joined.
    fed: Duration,
    /// Whether it is served a copy.
    is_of_copy: bool,
}

#[derive(Debug)]
enum State {
    Idle,
    Waiting(Vec<Digest>),
    Receiving(Receiving),
}

#[derive(Debug)]
struct Receiving {
    block: Digest,
    began: Duration,
    /// The window that runs: since when, and what moved in it.
    since: Duration,
    bytes: u64,
    /// Bytes per second over the window before; none in the first.
    rate: Option<u64>,
}

#[derive(Debug)]
struct Sent {
    copies: u32,
    at: Duration,
    /// To whom it went last, and until when that is who others have it from.
    to: PeerKey,
    lent_until: Duration,
}

impl Turns {
    /// Turns without readers.
    #[must_use]
    pub fn new(config: TurnsConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Sets the rate of the line, in bytes per second, where it is known.
    pub fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// Adds a reader that wants nothing yet.
    pub fn join(&mut self, id: ReaderId, peer: PeerKey, now: Duration) {
        self.advance(now);
        self.readers.entry(id).or_insert(Reader {
            peer,
            state: State::Idle,
            fed: self.now,
            is_of_copy: false,
        });
    }

    /// A reader is served what others have too, and not by its owner.
    pub fn serves_copy(&mut self, id: ReaderId) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.is_of_copy = true;
        }
    }

    /// Takes a reader out, whatever it was about.
    pub fn leave(&mut self, id: ReaderId, now: Duration) {
        self.advance(now);
        self.readers.remove(&id);
    }

    /// A reader waits for its turn with these wants, in its order. It replaces what it waited for.
    pub fn wait(&mut self, id: ReaderId, wants: impl IntoIterator<Item = Digest>, now: Duration) {
        self.advance(now);
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.state = State::Waiting(wants.into_iter().take(WANTS_LOOKED_AT_MAX).collect());
        }
    }

    /// A reader receives this block, whether it had a turn for it or not.
    pub fn begin(&mut self, id: ReaderId, block: Digest, now: Duration) {
        self.advance(now);
        let receiving = self.receiving(block);
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.state = State::Receiving(receiving);
        }
    }

    fn receiving(&self, block: Digest) -> Receiving {
        Receiving {
            block,
            began: self.now,
            since: self.now,
            bytes: 0,
            rate: None,
        }
    }

    /// A reader does not wait any more, and receives nothing.
    pub fn withdraw(&mut self, id: ReaderId, now: Duration) {
        self.advance(now);
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.state = State::Idle;
        }
    }

    /// Bytes of its block have left for a reader.
    pub fn moved(&mut self, id: ReaderId, bytes: u64, now: Duration) {
        self.advance(now);
        let window = self.config.window;
        if let Some(State::Receiving(it)) = self.readers.get_mut(&id).map(|it| &mut it.state) {
            let passed = self.now.saturating_sub(it.since);
            it.bytes = it.bytes.saturating_add(bytes);
            if passed >= window {
                it.rate = Some(per_second(it.bytes, passed));
                (it.since, it.bytes) = (self.now, 0);
            }
        }
    }

    /// A reader's block was sent whole.
    pub fn done(&mut self, id: ReaderId, now: Duration) {
        self.advance(now);
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        let was = std::mem::replace(&mut reader.state, State::Idle);
        reader.fed = self.now;
        let State::Receiving(receiving) = was else {
            return;
        };
        let took = self.now.saturating_sub(receiving.began);
        let more = took.min(self.config.lend_more_max);
        let lend = match reader.is_of_copy {
            true => Duration::ZERO,
            false => self.config.lend.saturating_add(more),
        };
        let copies = self.sent.get(&receiving.block).map_or(0, |it| it.copies);
        let sent = Sent {
            copies: copies.saturating_add(1),
            at: self.now,
            to: reader.peer,
            lent_until: self.now.saturating_add(lend),
        };
        self.sent.insert(receiving.block, sent);
        if self.sent.len() > SENT_MAX {
            let oldest = self.sent.iter().min_by_key(|(_, sent)| sent.at);
            if let Some(block) = oldest.map(|(block, _)| *block) {
                self.sent.remove(&block);
            }
        }
    }

    /// Who may begin with which block now. They count as receiving from then on.
    pub fn serve(&mut self, now: Duration) -> Vec<(ReaderId, Digest)> {
        self.advance(now);
        let mut begun = Vec::new();
        while self.has_room()
            && let Some((id, block)) = self.next()
        {
            self.begin(id, block, now);
            begun.push((id, block));
        }
        begun
    }

    /// When [`serve`](Self::serve) may have somebody to begin although nothing else happens; `None`
    /// while nobody waits.
    #[must_use]
    pub fn next_turn(&self) -> Option<Duration> {
        let mut waits = false;
        let starves = self.readers.values().filter_map(|reader| {
            let State::Waiting(_) = reader.state else {
                return None;
            };
            Some(reader.fed.saturating_add(self.config.starving))
        });
        let mut next: Option<Duration> = None;
        for at in starves {
            waits = true;
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        if !waits {
            return None;
        }
        let returned = self.sent.values().map(|sent| sent.lent_until);
        let judged = self.readers.values().filter_map(|reader| {
            let State::Receiving(it) = &reader.state else {
                return None;
            };
            Some(it.since.saturating_add(self.config.window))
        });
        let later = returned.chain(judged).filter(|at| *at > self.now);
        later.chain(next.filter(|at| *at > self.now)).min()
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Whether one more block may be under way.
    fn has_room(&self) -> bool {
        let Some(rate) = self.rate else {
            return true;
        };
        let slots = rate.checked_div(self.config.rate_per_block.max(1));
        let slots = slots.unwrap_or_default().max(1);
        let share = (rate.checked_div(slots).unwrap_or_default() / 2).max(1);
        let taken = self.receivers().filter(|(_, it)| self.rate_of(it) >= share);
        (taken.count() as u64) < slots
    }

    fn receivers(&self) -> impl Iterator<Item = (&Reader, &Receiving)> {
        self.readers.values().filter_map(|reader| {
            let State::Receiving(receiving) = &reader.state else {
                return None;
            };
            Some((reader, receiving))
        })
    }

    /// How fast a block moves, as far as that was seen.
    fn rate_of(&self, it: &Receiving) -> u64 {
        let passed = self.now.saturating_sub(it.since);
        match it.rate {
            _ if passed >= self.config.window => per_second(it.bytes, passed),
            rate => rate.unwrap_or(u64::MAX),
        }
    }

    /// Who is the next to begin, and with what.
    fn next(&self) -> Option<(ReaderId, Digest)> {
        let mut best: Option<((bool, u32, Duration, ReaderId), Digest)> = None;
        for (id, reader) in &self.readers {
            let State::Waiting(wants) = &reader.state else {
                continue;
            };
            let starves = self.now.saturating_sub(reader.fed) >= self.config.starving;
            let free = wants
                .iter()
                .filter(|want| starves || !self.is_held_back(want, reader.peer));
            // Of wants that were sent equally often, the one it has asked for first.
            let Some((copies, want)) = free
                .map(|want| (self.copies(want), *want))
                .min_by_key(|(copies, _)| *copies)
            else {
                continue;
            };
            let place = match starves {
                true => (false, 0, reader.fed, *id),
                false => (true, copies, reader.fed, *id),
            };
            if best.as_ref().is_none_or(|(other, _)| place < *other) {
                best = Some((place, want));
            }
        }
        best.map(|((.., id), want)| (id, want))
    }

    /// Whether others will have this block from somebody who receives it, or just has.
    fn is_held_back(&self, block: &Digest, from: PeerKey) -> bool {
        let is_lent = self
            .sent
            .get(block)
            .is_some_and(|sent| sent.to != from && sent.lent_until > self.now);
        is_lent
            || self.receivers().any(|(reader, it)| {
                it.block == *block
                    && reader.peer != from
                    && self.rate_of(it) >= self.config.rate_min
            })
    }

    /// How often a block was sent, or is being sent.
    fn copies(&self, block: &Digest) -> u32 {
        let sent = self.sent.get(block).map_or(0, |sent| sent.copies);
        let under_way = self.receivers().filter(|(_, it)| it.block == *block);
        sent.saturating_add(u32::try_from(under_way.count()).unwrap_or(u32::MAX))
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes)
        .saturating_mul(1000)
        .checked_div(time.as_millis());
    rate.map_or(u64::MAX, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
