//! How fast a counter grows, and how long the rest takes.
//!
//! A [`Meter`] is told a counter's value now and then, and estimates the rate over the last seconds:
//! an average over `WINDOW` in which a moment weighs half as much as one that is `HALF_LIFE`
//! newer. The weights make it follow a change soon. The window bounds how long a change is felt: a
//! rate that fell by a factor of a thousand would show in weights alone for thirty seconds.
//!
//! Bytes that arrive in lumps count for the whole time since the lump before, so a slow line does
//! not make the rate jump with every record that arrives. The meter has no clock: the caller says
//! what time it is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The weight of a moment halves in this time.
const HALF_LIFE: Duration = Duration::from_secs(3);
/// What happened before this does not count any more.
const WINDOW: Duration = Duration::from_secs(8);
/// A counter that has rested for so long has no rate; measuring begins anew once it grows. A line at
/// 4 kB/s, the slowest that a transfer lives with, brings a TLS record of 16 KiB every 4 s.
pub const SILENCE: Duration = Duration::from_secs(6);
/// Looks that follow each other faster count as one. So a window holds at most 8 s / 250 ms = 32
/// edges, and one at its start.
const EDGE_INTERVAL: Duration = Duration::from_millis(250);
/// A prediction beyond this is no help to anybody.
const LEFT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Estimates the rate of a counter that never falls.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The counter at the last look.
    total: Option<u64>,
    /// When the counter had grown, and to what; oldest first.
    edges: VecDeque<Edge>,
    /// When the first bytes began to come is not known yet.
    is_assumed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Edge {
    at: Instant,
    total: u64,
}

/// How long `left` bytes take at `rate` bytes per second; none when that cannot be told.
pub fn time_for(left: u64, rate: u64) -> Option<Duration> {
    if left == 0 {
        return Some(Duration::ZERO);
    }
    let millis = left.saturating_mul(1000).checked_div(rate)?;
    let time = Duration::from_millis(millis);
    (time <= LEFT_MAX).then_some(time)
}

impl Meter {
    /// What the counter grows by per second, now that it is `total`.
    pub fn rate(&mut self, total: u64, now: Instant) -> u64 {
        self.look(total, now);
        self.current(now)
    }

    fn look(&mut self, total: u64, now: Instant) {
        let before = self.total.replace(total);
        let last = self.edges.back().map(|edge| edge.at);
        if last.is_some_and(|last| now.saturating_duration_since(last) >= SILENCE) {
            self.edges.clear();
        }
        // What was there at the first look, nobody has seen arriving.
        let Some(before) = before.filter(|before| *before != total) else {
            return;
        };
        // Nobody has seen when the first bytes began to come either: at first they count for one
        // interval, and for as long as the next ones took once these are here.
        let assumed = match (self.edges.len(), last) {
            (0, _) => now.checked_sub(EDGE_INTERVAL),
            (2, Some(last)) if self.is_assumed => last.checked_sub(now - last),
            _ => None,
        };
        self.is_assumed = self.edges.is_empty();
        match (assumed, self.edges.front_mut()) {
            (Some(at), Some(first)) => first.at = at.min(first.at),
            (Some(at), None) => self.edges.push_back(Edge { at, total: before }),
            (None, _) => {}
        }
        // The newest interval grows until it is long enough to stand alone.
        let too_short = |edge: &Edge| now.saturating_duration_since(edge.at) < EDGE_INTERVAL;
        let before_last = self.edges.len().checked_sub(2);
        let before_last = before_last.and_then(|index| self.edges.get(index));
        let is_open = before_last.is_some_and(|edge| too_short(edge) || last == Some(now));
        if is_open {
            self.edges.pop_back();
        }
        self.edges.push_back(Edge { at: now, total });
        let is_past = |edge: &Edge| now.saturating_duration_since(edge.at) >= WINDOW;
        while self.edges.len() > 2 && self.edges.get(1).is_some_and(is_past) {
            self.edges.pop_front();
        }
    }

    fn current(&self, now: Instant) -> u64 {
        let Some(last) = self.edges.back() else {
            return 0;
        };
        let intervals = || self.edges.iter().zip(self.edges.iter().skip(1));
        let longest = intervals().map(|(from, to)| to.at - from.at).max();
        let Some(longest) = longest else {
            return 0;
        };
        // As long a silence as there was before says nothing; what exceeds it is time without bytes.
        let silent = now.saturating_duration_since(last.at);
        let excess = silent.saturating_sub(longest);
        let until = last.at + excess;
        let mut bytes = 0.0;
        let mut weights = weight(last.at, until, until);
        for (from, to) in intervals() {
            let weight = weight(from.at, to.at, until);
            let grown = to.total.saturating_sub(from.total);
            bytes += as_float(grown) * weight / (to.at - from.at).as_secs_f64();
            weights += weight;
        }
        as_count(bytes / weights)
    }
}

/// What the time between two moments weighs at `now`: the integral of `2^(-age / HALF_LIFE)` over it,
/// but for a constant factor.
fn weight(from: Instant, to: Instant, now: Instant) -> f64 {
    let factor = |at: Instant| {
        let age = now.saturating_duration_since(at).as_secs_f64();
        (-age / HALF_LIFE.as_secs_f64()).exp2()
    };
    factor(to) - factor(from)
}

fn as_float(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    let bytes = bytes as f64;
    bytes
}

/// The whole part of what is not negative.
fn as_count(rate: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and makes 0 of what is no number"
    )]
    let count = rate as u64;
    count
}

#[cfg(test)]
mod tests;
