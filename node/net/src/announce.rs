//! When to announce which key: a pure schedule.
//!
//! Owns the state of every own key: due at some time, or being announced. A key is due at once when
//! it is added, one interval after it was announced, sooner while the network is so small that the
//! record may lie at the wrong peers, and with back-off when nobody could be told. Times are
//! seconds of the wall clock, so that the schedule survives restarts and notices that the machine
//! slept; when the clock goes back, everything is announced again, a few at a time as always.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use libp2p::kad::K_VALUE;
use shoal_protocol::backoff::Backoff;

use super::records::Key;

/// First pause after an announcement that reached nobody; doubled each time.
const RETRY_SECS_MIN: u64 = 5;

/// Longest pause after an announcement that reached nobody.
const RETRY_SECS_MAX: u64 = 15 * 60;

/// First pause after an announcement that reached fewer peers than a record should lie at; doubled
/// each time, up to the interval. In a network of fewer than 20 nodes that makes ten more
/// announcements in the first day.
const THIN_SECS_MIN: u64 = 60;

/// Share of the interval by which announcements are drawn apart: a tenth.
const SPREAD: u64 = 10;

/// How far the clock may go back before it counts as a jump.
const CLOCK_SLACK_SECS: u64 = 60;

/// How an own key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnounceState {
    /// Not announced by this node, or withdrawn.
    Unknown,
    /// Nobody was told yet; it is being tried.
    Pending,
    /// Sent to this many peers. The DHT has no receipts.
    Announced {
        /// How many; about 20 in a network that has as many; at least 1 if only an earlier run
        /// announced it.
        peers: usize,
    },
}

/// The schedule of all own keys.
pub(super) struct Announcer {
    interval: u64,
    entries: HashMap<Key, Entry>,
    /// Keys that wait, by when they are due. A key is here if and only if its state is `Due`.
    due: BTreeSet<(u64, Key)>,
    /// Keys whose last announcement reached nobody, and nobody was told before.
    untold: HashSet<Key>,
    /// Latest time seen, to notice a clock that goes back.
    seen: u64,
}

struct Entry {
    state: State,
    /// Announcements in a row that reached nobody, or too few.
    tries: u32,
    /// How many peers the last successful one told.
    peers: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Due(u64),
    Running,
}

impl Announcer {
    pub(super) fn new(interval: Duration) -> Self {
        let interval = interval.as_secs().max(1);
        Self {
            interval,
            entries: HashMap::new(),
            due: BTreeSet::new(),
            untold: HashSet::new(),
            seen: 0,
        }
    }

    /// Adds a key; `last` is when an earlier run announced it. Adding it again changes nothing.
    pub(super) fn add(&mut self, key: Key, last: Option<u64>, now: u64) {
        if self.entries.contains_key(&key) {
            return;
        }
        let at = match last {
            Some(last) if last <= now => last.saturating_add(self.interval).max(now),
            _ => now,
        };
        // Whom an earlier run told is not kept; that somebody was told is.
        let peers = last.map(|_| 1);
        self.entries.insert(
            key,
            Entry {
                state: State::Due(at),
                tries: 0,
                peers,
            },
        );
        self.due.insert((at, key));
    }

    /// Forgets a key. An announcement of it that is running has no further effect here.
    pub(super) fn remove(&mut self, key: &Key) {
        self.untold.remove(key);
        if let Some(Entry {
            state: State::Due(at),
            ..
        }) = self.entries.remove(key)
        {
            self.due.remove(&(at, *key));
        }
    }

    /// How a key stands.
    pub(super) fn state(&self, key: &Key) -> AnnounceState {
        match self.entries.get(key) {
            None => AnnounceState::Unknown,
            Some(Entry { peers: None, .. }) => AnnounceState::Pending,
            Some(Entry {
                peers: Some(peers), ..
            }) => AnnounceState::Announced { peers: *peers },
        }
    }

    /// Takes the next key that is due; it counts as running until [`Self::finished`] or
    /// [`Self::remove`].
    pub(super) fn start_next(&mut self, now: u64) -> Option<Key> {
        if now.saturating_add(CLOCK_SLACK_SECS) < self.seen {
            self.hurry_all(now);
            self.seen = now;
        }
        self.seen = self.seen.max(now);
        let (at, key) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Running;
        }
        Some(key)
    }

    /// Reports that an announcement told `peers` peers, 0 when it failed. `random` draws keys
    /// apart.
    pub(super) fn finished(&mut self, key: &Key, peers: usize, now: u64, random: u64) {
        let interval = self.interval;
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.state != State::Running {
            return;
        }
        let enough = peers >= K_VALUE.get();
        entry.tries = if enough {
            0
        } else {
            entry.tries.saturating_add(1)
        };
        let doubled = |first: u64, max: u64| {
            let [first, max] = [first, max].map(Duration::from_secs);
            Backoff::new(first, max).after(entry.tries).as_secs()
        };
        let pause = match peers {
            0 => doubled(RETRY_SECS_MIN, RETRY_SECS_MAX.min(interval)),
            _ if enough => interval,
            _ => doubled(THIN_SECS_MIN, interval),
        };
        if peers > 0 {
            entry.peers = Some(peers);
            self.untold.remove(key);
        } else if entry.peers.is_none() {
            self.untold.insert(*key);
        }
        let at = now.saturating_add(pause - random % (pause / SPREAD + 1));
        entry.state = State::Due(at);
        self.due.insert((at, *key));
    }

    /// Makes every key due that nobody could be told of: the first peers are there.
    pub(super) fn peers_appeared(&mut self, now: u64) {
        for key in std::mem::take(&mut self.untold) {
            self.hurry(key, now);
        }
    }

    /// Makes every key due, a few at a time as always.
    pub(super) fn hurry_all(&mut self, now: u64) {
        let keys: Vec<Key> = self.entries.keys().copied().collect();
        for key in keys {
            self.hurry(key, now);
        }
    }

    fn hurry(&mut self, key: Key, now: u64) {
        if let Some(entry) = self.entries.get_mut(&key)
            && let State::Due(at) = entry.state
        {
            self.due.remove(&(at, key));
            self.due.insert((now, key));
            entry.state = State::Due(now);
            entry.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 22 * 3600;
    const NOW: u64 = 1_800_000_000;
    const KEY: Key = [7; 32];

    fn announcer() -> Announcer {
        Announcer::new(Duration::from_secs(INTERVAL))
    }

    /// When `KEY` is due: the first second at which it is given out.
    fn due(announcer: &mut Announcer) -> u64 {
        let (at, _) = *announcer.due.first().expect("it waits");
        assert_eq!(announcer.start_next(at - 1), None);
        assert_eq!(announcer.start_next(at), Some(KEY));
        at
    }

    #[test]
    fn schedule_follows_what_happened() {
        let check = |last, results: &[usize], want: &[u64]| {
            let mut announcer = announcer();
            announcer.add(KEY, last, NOW);
            let mut waits = vec![due(&mut announcer) - NOW];
            for peers in results {
                let now = announcer.seen;
                announcer.finished(&KEY, *peers, now, 0);
                waits.push(due(&mut announcer) - now);
            }
            assert_eq!(waits, want, "{last:?} {results:?}");
        };
        check(None, &[20, 20], &[0, INTERVAL, INTERVAL]);
        check(None, &[0, 0, 0, 20], &[0, 5, 10, 20, INTERVAL]);
        check(None, &[2, 2, 20], &[0, 60, 120, INTERVAL]);
        check(Some(NOW - 3600), &[], &[INTERVAL - 3600]);
        check(Some(NOW - 2 * INTERVAL), &[], &[0]);
        check(Some(NOW + 3600), &[], &[0]);
    }

    #[test]
    fn pauses_are_bounded_and_drawn_apart() {
        let mut announcer = announcer();
        announcer.add(KEY, None, NOW);
        for round in 0..100 {
            let now = due(&mut announcer);
            announcer.finished(&KEY, 0, now, 0);
            let (at, _) = *announcer.due.first().expect("it waits");
            assert!(at - now <= RETRY_SECS_MAX, "round {round}");
        }
        for random in [0, 1, 1000, u64::MAX] {
            let now = due(&mut announcer);
            announcer.finished(&KEY, 20, now, random);
            let (at, _) = *announcer.due.first().expect("it waits");
            assert!(at - now <= INTERVAL && at - now >= INTERVAL - INTERVAL / SPREAD);
        }
    }

    #[test]
    fn first_peers_hurry_what_nobody_was_told() {
        let mut announcer = announcer();
        announcer.add(KEY, None, NOW);
        announcer.add([8; 32], Some(NOW), NOW);
        due(&mut announcer);
        announcer.finished(&KEY, 0, NOW, 0);
        assert_eq!(announcer.state(&KEY), AnnounceState::Pending);
        announcer.peers_appeared(NOW + 1);
        assert_eq!(announcer.start_next(NOW + 1), Some(KEY));
        assert_eq!(
            announcer.start_next(NOW + 1),
            None,
            "the other was announced"
        );
        announcer.finished(&KEY, 3, NOW + 1, 0);
        assert_eq!(announcer.state(&KEY), AnnounceState::Announced { peers: 3 });
    }

    #[test]
    fn times_that_no_clock_has_reached_overflow_nothing() {
        let mut announcer = announcer();
        announcer.add(KEY, Some(u64::MAX), u64::MAX);
        assert_eq!(announcer.start_next(u64::MAX), Some(KEY));
        announcer.finished(&KEY, 20, u64::MAX, 0);
        assert_eq!(announcer.start_next(u64::MAX), Some(KEY));
    }

    #[test]
    fn clock_that_goes_back_announces_again() {
        let mut announcer = announcer();
        announcer.add(KEY, None, NOW);
        due(&mut announcer);
        announcer.finished(&KEY, 20, NOW, 0);
        assert_eq!(announcer.start_next(NOW - CLOCK_SLACK_SECS), None);
        assert_eq!(announcer.start_next(NOW - 86_400), Some(KEY));
    }

    #[test]
    fn removed_while_running_stays_removed() {
        let mut announcer = announcer();
        announcer.add(KEY, None, NOW);
        due(&mut announcer);
        announcer.remove(&KEY);
        announcer.finished(&KEY, 20, NOW, 0);
        assert_eq!(announcer.state(&KEY), AnnounceState::Unknown);
        assert_eq!(announcer.start_next(NOW + 2 * INTERVAL), None);
        announcer.add(KEY, None, NOW);
        announcer.remove(&KEY);
        assert_eq!(announcer.start_next(NOW + 2 * INTERVAL), None);
    }
}
