//! The decision whose turn it is: a token bucket with a fair queue, without a clock.
//!
//! Two accounts make a limit exact and smooth. The *level* is what may move now: it grows with the
//! rate, and every byte that is seen on the wire is taken from it, whoever it belonged to. Traffic
//! that nobody can hold back (the DHT, pings, headers, what was in flight already) puts it into
//! debt, which the others pay by waiting. *Let through* is what was granted and has not been seen
//! on the wire yet, so that a crowd of waiters does not spend the same level twice. It is forgotten
//! after a second, for some of it never shows: a stream that was reset, or the end of a download,
//! whose bytes are here already.
//!
//! Those who wait are served in the order of their [`Class`], within it in turn, a small quantum at
//! a time. Time and the wire's counters come in as arguments; nothing here blocks or wakes anybody.

use std::{collections::BTreeMap, time::Duration};

use shoal_protocol::address::CHUNK_BYTES;

/// What waits for a turn; the classes are listed first served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A fetch that somebody asked for.
    User,
    /// What others fetch from this node.
    Serve,
    /// What others fetch of copies that this node keeps for them.
    Help,
    /// Copies that this node pulls for others.
    Replicate,
}

const CLASSES: usize = 4;

/// One in so many turns goes to the classes behind the first that waits, each of them in turn, so
/// that none starves.
const LATER_CLASS_TURN: u64 = 8;

/// How long a quantum takes at the rate: short enough that 20 peers have a turn in a third of a
/// second, long enough for the 1 ms of the timers.
const QUANTUM_PER_SECOND: u64 = 64;

/// The bounds of a quantum: a small rate must not drown in headers, and the piece that a writer
/// hands to the stream at a time is as large as the largest.
const QUANTUM_BYTES_MIN: u64 = 1 << 10;
const QUANTUM_BYTES_MAX: u64 = 64 << 10;

/// The most that is saved up while nobody sends is what moves in 1/4 s: 0.8% of a 30 s window, and
/// longer than a busy machine keeps a task waiting.
const BURST_PER_SECOND: u64 = 4;

/// The most debt is what moves in 8 s, so that a flood holds up others no longer than that after
/// its end. What is in flight of a fetch is less, see [`in_flight_max`].
const DEBT_SECONDS: u64 = 8;

/// What was let through is remembered for this many spans of this long: a second, several round
/// trips between reading less and receiving less.
const SPANS: usize = 8;
const SPAN: Duration = Duration::from_millis(125);

/// What a fetch under a limit has in flight: what moves in one second, so that the debt it makes
/// when it starts is paid in that time; two chunks at least, so that one is asked for while the
/// other is on its way.
pub(super) fn in_flight_max(rate: u64) -> u64 {
    rate.max(2 * CHUNK_BYTES as u64)
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(u64);

/// One limit and those who wait for it.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes per second; none is no limit.
    rate: Option<u64>,
    /// Bytes that may move now; negative is debt.
    level: i64,
    /// Byte-nanoseconds that did not make a whole byte yet.
    carry: u64,
    /// What was let through and not seen yet, by the span in which it was, the newest first.
    let_through: [u64; SPANS],
    /// When the newest span began.
    span: Duration,
    now: Duration,
    waiting: [BTreeMap<Ticket, u64>; CLASSES],
    tickets: u64,
    turns: u64,
}

impl Bucket {
    /// A bucket without a limit.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            rate: None,
            level: 0,
            carry: 0,
            let_through: [0; SPANS],
            span: now,
            now,
            waiting: Default::default(),
            tickets: 0,
            turns: 0,
        }
    }

    pub(super) fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Changes the limit from `now` on; debt stays, savings shrink to what the new one allows.
    pub(super) fn set_rate(&mut self, rate: Option<u64>, now: Duration) {
        self.advance(0, now);
        if self.rate.is_none() {
            self.level = rate.map_or(0, |rate| signed(quantum(rate)));
            self.let_through = [0; SPANS];
        }
        self.rate = rate;
        self.carry = 0;
        self.clamp();
    }

    /// Lets time pass, in which `wire` bytes were seen.
    pub(super) fn advance(&mut self, wire: u64, now: Duration) {
        let passed = now.saturating_sub(self.now).as_nanos();
        self.now = self.now.max(now);
        let Some(rate) = self.rate else {
            return;
        };
        let earned = u128::from(rate) * passed + u128::from(self.carry);
        self.carry = u64::try_from(earned % NANOS).unwrap_or_default();
        let earned = u64::try_from(earned / NANOS).unwrap_or(u64::MAX);
        self.level = self
            .level
            .saturating_add(signed(earned))
            .saturating_sub(signed(wire));
        self.forget(wire);
        self.clamp();
    }

    /// Asks for up to `bytes`: how many may move at once, or the place in the queue.
    pub(super) fn ask(&mut self, class: Class, bytes: u64) -> Result<u64, Ticket> {
        let Some(rate) = self.rate else {
            return Ok(bytes);
        };
        let grant = bytes.min(quantum(rate));
        if self.waiting.iter().all(BTreeMap::is_empty) && self.available() >= signed(grant) {
            self.let_through[0] = self.let_through[0].saturating_add(grant);
            return Ok(grant);
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting[class as usize].insert(ticket, bytes);
        Err(ticket)
    }

    /// Who of those that wait may move how many bytes now.
    pub(super) fn serve(&mut self) -> Vec<(Ticket, u64)> {
        let mut served = Vec::new();
        while let Some((class, ticket, bytes)) = self.head() {
            let grant = match self.rate {
                Some(rate) => bytes.min(quantum(rate)),
                None => bytes,
            };
            if self.rate.is_some() && self.available() < signed(grant) {
                break;
            }
            self.waiting[class].remove(&ticket);
            self.let_through[0] = self.let_through[0].saturating_add(grant);
            self.turns = self.turns.wrapping_add(1);
            served.push((ticket, grant));
        }
        served
    }

    /// Gives up a place in the queue.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        for queue in &mut self.waiting {
            queue.remove(&ticket);
        }
    }

    /// When [`Self::serve`] should be asked again; none when nobody waits. It may have to be asked
    /// more than once.
    pub(super) fn next_turn(&self) -> Option<Duration> {
        let (_, _, bytes) = self.head()?;
        let Some(rate) = self.rate else {
            return Some(self.now);
        };
        let missing = signed(bytes.min(quantum(rate))).saturating_sub(self.available());
        let missing = u64::try_from(missing).unwrap_or(0);
        let wait = (u128::from(missing) * NANOS).div_ceil(u128::from(rate));
        let wait = Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX));
        Some(self.now.saturating_add(wait))
    }

    /// Whose turn it is: class, ticket and wish.
    fn head(&self) -> Option<(usize, Ticket, u64)> {
        let first = |class: usize| {
            let (ticket, bytes) = self.waiting[class].first_key_value()?;
            Some((class, *ticket, *bytes))
        };
        let mut waiting = (0..CLASSES).filter_map(first);
        if self.turns % LATER_CLASS_TURN < LATER_CLASS_TURN - 1 {
            return waiting.next();
        }
        let later = waiting.clone().skip(1).count();
        let later = u64::try_from(later).unwrap_or(u64::MAX);
        match (self.turns / LATER_CLASS_TURN).checked_rem(later) {
            Some(turn) => waiting.nth(1 + usize::try_from(turn).unwrap_or(0)),
            None => waiting.next(),
        }
    }

    /// Forgets what was let through where it is old, and where it was seen: the oldest first.
    fn forget(&mut self, wire: u64) {
        let passed = self.now.saturating_sub(self.span).as_nanos() / SPAN.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let gone = usize::try_from(passed).unwrap_or(SPANS).min(SPANS);
        self.let_through.rotate_right(gone);
        self.let_through[..gone].fill(0);
        self.span = self.span.saturating_add(SPAN.saturating_mul(passed));
        let mut seen = wire;
        for span in self.let_through.iter_mut().rev() {
            let of_span = seen.min(*span);
            *span -= of_span;
            seen -= of_span;
        }
    }

    fn unseen(&self) -> i64 {
        let all = self
            .let_through
            .iter()
            .fold(0_u64, |all, span| all.saturating_add(*span));
        signed(all)
    }

    fn available(&self) -> i64 {
        self.level.saturating_sub(self.unseen())
    }

    fn clamp(&mut self) {
        let Some(rate) = self.rate else {
            return;
        };
        let burst = (rate / BURST_PER_SECOND).max(2 * quantum(rate));
        let debt = signed(rate.saturating_mul(DEBT_SECONDS));
        // What was let through is not taken from the level yet, so it is no saving.
        let most = signed(burst).saturating_add(self.unseen());
        self.level = self.level.clamp(-debt, most);
    }
}

const NANOS: u128 = 1_000_000_000;

fn quantum(rate: u64) -> u64 {
    (rate / QUANTUM_PER_SECOND).clamp(QUANTUM_BYTES_MIN, QUANTUM_BYTES_MAX)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
