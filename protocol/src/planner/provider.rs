//! One provider's books: what it has, what it was asked, how it does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::config::{GUESSES_FIRST, GUESSES_MISSED_MAX, WITHDRAWN_MAX};
use super::link::LinkEstimate;
use super::rank::Rank;
use super::tier::Tier;
use super::types::{Class, Holdings, WantId};
use super::want::{Asked, Want};
use super::{PlannerConfig, Standing};
use crate::backoff::Backoff;
use crate::exchange::pace;

/// How many blocks are remembered of which some bytes came; beyond it those are forgotten whose
/// request was taken back, and their late answers are counted anew. Those in flight are bounded by
/// [`WANTS_OUTSTANDING_MAX`](crate::exchange::WANTS_OUTSTANDING_MAX).
const ARRIVING_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Provider {
    /// Its bit in every want's `lacking`.
    pub(super) slot: u8,
    pub(super) standing: Standing,
    pub(super) holdings: Holdings,
    /// The leaves that it has asked an owner for.
    pub(super) coming: BTreeSet<u64>,
    pub(super) class: Class,
    pub(super) is_near: bool,
    pub(super) trust: Trust,
    pub(super) link: LinkEstimate,
    /// Queued wants below this were looked at and are nothing for it.
    pub(super) cursor: Rank,
    pub(super) in_flight: BTreeSet<Asked>,
    pub(super) in_flight_bytes: u64,
    pub(super) tally: Tally,
    /// Answers "missing" since the last block.
    missing_in_row: u32,
    /// How often it was to rest since it last delivered; every time doubles the next.
    trips: u32,
    withdrawn: VecDeque<WantId>,
    /// Whether `withdrawn` has forgotten any.
    withdrawn_lost: bool,
    watch: StallWatch,
    /// Since when it has said that it answers later, and has completed no block.
    put_off_since: Option<Duration>,
    last_sign: Duration,
    /// Blocks of which there are some bytes: those that are coming in, and those of which only the
    /// rest was asked for here.
    arriving: BTreeMap<WantId, Arriving>,
    /// The bytes in flight that are here: part of `in_flight_bytes`.
    here_bytes: u64,
    guesses: Guesses,
}

/// How far leaves are left to a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trust {
    /// It has delivered no block yet.
    #[default]
    New,
    /// It has delivered, and nothing was taken away from it since.
    Proven,
    /// It was too slow or too busy, and has delivered nothing since.
    Lost,
}

/// How asking for leaves of unknown number goes.
#[derive(Clone, Copy, Debug)]
struct Guesses {
    /// How many are asked for at a time.
    at_once: usize,
    /// How many in a row were missing.
    missed: u32,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            at_once: GUESSES_FIRST,
            missed: 0,
        }
    }
}

/// What there is of a block at one provider's request.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    /// How many bytes; nothing of them is counted again.
    bytes: u64,
    /// Whether the request is in flight; one that was taken back may still be answered.
    in_flight: bool,
    /// Whether some of them came by this request.
    has_begun: bool,
}

/// What a provider has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks received that were wanted.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests it answered with "missing".
    pub missing: u64,
    /// Requests taken away from it, since others should be much sooner.
    pub moved: u64,
    /// Bytes received that were no longer needed.
    pub late_bytes: u64,
}

/// How long it has owed something and delivered next to nothing: a clock that runs while requests
/// are in flight, and starts anew with every answer. Taking its requests away stops it only.
#[derive(Debug, Default)]
struct StallWatch {
    running_since: Option<Duration>,
    owed: Duration,
    bytes: u64,
}

impl Provider {
    pub(super) fn new(slot: u8, now: Duration) -> Self {
        Self {
            slot,
            standing: Standing::Ready,
            holdings: Holdings::Everything,
            coming: BTreeSet::new(),
            class: Class::Owner,
            is_near: false,
            trust: Trust::New,
            link: LinkEstimate::default(),
            cursor: Rank::default(),
            in_flight: BTreeSet::new(),
            in_flight_bytes: 0,
            tally: Tally::default(),
            missing_in_row: 0,
            trips: 0,
            withdrawn: VecDeque::new(),
            withdrawn_lost: false,
            watch: StallWatch::default(),
            put_off_since: None,
            last_sign: now,
            arriving: BTreeMap::new(),
            here_bytes: 0,
            guesses: Guesses::default(),
        }
    }

    pub(super) fn tier(&self) -> Tier {
        Tier::of(self.class, self.is_near)
    }

    /// Its key, if it fetches the root itself.
    pub(super) fn member(&self) -> Option<u64> {
        match self.class {
            Class::Member { key } => Some(key),
            Class::Owner | Class::Holder => None,
        }
    }

    pub(super) fn bit(&self) -> u64 {
        1_u64.checked_shl(u32::from(self.slot)).unwrap_or_default()
    }

    /// Whether it says that it has the block.
    pub(super) fn says_it_has(&self, want: &Want) -> bool {
        want.lacking & self.bit() == 0 && self.holdings.has(want.part)
    }

    /// Whether it may be asked for the block.
    pub(super) fn may_have(&self, want: &Want) -> bool {
        self.says_it_has(want)
            || self.guesses(want)
                && want.lacking & self.bit() == 0
                && self.guesses.missed < GUESSES_MISSED_MAX
    }

    /// Whether a request for the block is a guess: a miss is no fault then.
    pub(super) fn guesses(&self, want: &Want) -> bool {
        self.holdings.may_include(want.part)
    }

    /// Whether one more request fits; a first one always does.
    pub(super) fn takes(&self, want: &Want, config: &PlannerConfig) -> bool {
        let bytes = self.in_flight_bytes.saturating_add(u64::from(want.charge));
        let fits = self.in_flight.is_empty() || bytes <= self.link.window(config);
        let most = match self.guesses(want) {
            true => self.guesses.at_once.min(self.wants_max(config)),
            false => self.wants_max(config),
        };
        self.in_flight.len() < most && fits
    }

    /// A guess was right.
    pub(super) fn guessed(&mut self) {
        self.guesses = Guesses {
            at_once: self.guesses.at_once.saturating_mul(2),
            missed: 0,
        };
    }

    /// A guess was wrong.
    pub(super) fn missed(&mut self, now: Duration) {
        self.last_sign = now;
        self.watch.reset(now);
        self.guesses = Guesses {
            at_once: 1,
            missed: self.guesses.missed.saturating_add(1),
        };
    }

    /// It has other leaves than before: what it was asked for in vain says nothing of these.
    pub(super) fn guess_anew(&mut self) {
        self.guesses = Guesses::default();
    }

    /// Whether at least half of the window is free, so that requests go out in batches.
    pub(super) fn wants_refill(&self, config: &PlannerConfig) -> bool {
        self.in_flight.len() <= self.wants_max(config) / 2
            && self.in_flight_bytes <= self.link.window(config) / 2
            && self.wants_max(config) > 0
    }

    /// Whether what it owes, if it owes anything, comes as fast as is known of it, and not as fast as
    /// is assumed at best: of two slow lines one tells first, and the other is not faster for that.
    pub(super) fn is_known(&self, config: &PlannerConfig) -> bool {
        self.in_flight.is_empty() || self.link.is_known(config)
    }

    fn wants_max(&self, config: &PlannerConfig) -> usize {
        match self.standing {
            Standing::Ready => config.wants_in_flight_max,
            Standing::Suspect { .. } | Standing::Probing => 1,
            Standing::Resting { .. } => 0,
        }
    }

    /// A request goes out.
    pub(super) fn launch(&mut self, id: WantId, charge: u32, now: Duration, cfg: &PlannerConfig) {
        let quiet = self.in_flight_bytes <= cfg.window_bytes_min / 2;
        self.link.asked(id, quiet, now);
        self.watch.start(now);
        self.arriving.remove(&id);
        self.in_flight.insert((now, id));
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(u64::from(charge));
    }

    /// How many bytes of a block are here.
    pub(super) fn bytes_here(&self, id: WantId) -> u64 {
        self.arriving.get(&id).map_or(0, |arriving| arriving.bytes)
    }

    /// A request ends, in whatever way.
    pub(super) fn land(&mut self, asked: Asked, charge: u32, now: Duration) {
        self.in_flight.remove(&asked);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(u64::from(charge));
        if let Some(arriving) = self.arriving.get_mut(&asked.1).filter(|it| it.in_flight) {
            arriving.in_flight = false;
            self.here_bytes = self.here_bytes.saturating_sub(arriving.bytes);
        }
        if self.in_flight.is_empty() {
            self.link.idle(now);
            self.watch.stop(now);
        }
    }

    /// It answered a request with a block.
    pub(super) fn delivered(&mut self, now: Duration) {
        self.last_sign = now;
        self.watch.reset(now);
        self.missing_in_row = 0;
        self.trips = 0;
        self.put_off_since = None;
        self.trust = Trust::Proven;
        if matches!(self.standing, Standing::Suspect { .. } | Standing::Probing) {
            self.standing = Standing::Ready;
        }
    }

    /// It says that it answers later. For a while that is as good as an answer to the watch for
    /// stalls; it is none to anything else, so that others are asked as if it had said nothing.
    pub(super) fn put_off(&mut self, now: Duration, config: &PlannerConfig) {
        let since = *self.put_off_since.get_or_insert(now);
        if now.saturating_sub(since) <= config.put_off_max {
            self.watch.reset(now);
        }
    }

    /// It answered a request by saying that it does not have the block. Said too often in a row, it
    /// is to rest; its requests are the caller's to take back then: `true`.
    pub(super) fn denied(&mut self, now: Duration, config: &PlannerConfig) -> bool {
        self.last_sign = now;
        self.watch.reset(now);
        self.missing_in_row = self.missing_in_row.saturating_add(1);
        match self.standing {
            Standing::Suspect { .. } => self.standing = Standing::Ready,
            Standing::Probing => return true,
            Standing::Ready | Standing::Resting { .. } => {}
        }
        self.missing_in_row >= config.missing_in_row_max
    }

    /// It was too slow for a request: one at a time for a while, or until it answers. One that was
    /// on probation rests again.
    pub(super) fn suspect(&mut self, now: Duration, config: &PlannerConfig) {
        self.trust = Trust::Lost;
        match self.standing {
            Standing::Ready => {
                let until = now.saturating_add(config.suspect_time);
                self.standing = Standing::Suspect { until };
            }
            Standing::Probing => self.rest(config.suspect_time, now, config),
            Standing::Suspect { .. } | Standing::Resting { .. } => {}
        }
    }

    /// Leaves it alone for a time, twice as long as before where nothing came in between.
    pub(super) fn rest(&mut self, time: Duration, now: Duration, config: &PlannerConfig) {
        self.trust = Trust::Lost;
        let (least, most) = config.rest;
        let time = Backoff::new(time.max(least), most).doubled(self.trips);
        self.trips = self.trips.saturating_add(1);
        self.missing_in_row = 0;
        let until = now.saturating_add(time);
        self.standing = Standing::Resting { until };
    }

    /// Only what follows `bytes` of a block was asked for here.
    pub(super) fn resumes(&mut self, id: WantId, bytes: u64) {
        self.note_arriving(id, bytes, false);
    }

    /// Payload came in, of a block that is not complete yet.
    pub(super) fn received_part(&mut self, id: WantId, bytes: u64, now: Duration) {
        self.link.answered(id, now);
        self.note_arriving(id, bytes, true);
        self.received(bytes, true, now);
    }

    /// A block is complete.
    pub(super) fn received_block(&mut self, id: WantId, bytes: u64, now: Duration) {
        self.link.answered(id, now);
        let arriving = self.arriving.remove(&id);
        let here = arriving.map_or(0, |arriving| arriving.bytes);
        if arriving.is_some_and(|arriving| arriving.in_flight) {
            self.here_bytes = self.here_bytes.saturating_sub(here);
        }
        let is_steady = arriving.is_some_and(|arriving| arriving.has_begun);
        self.received(bytes.saturating_sub(here), is_steady, now);
    }

    fn note_arriving(&mut self, id: WantId, bytes: u64, has_begun: bool) {
        if self.arriving.len() >= ARRIVING_MAX && !self.arriving.contains_key(&id) {
            self.arriving.retain(|_, arriving| arriving.in_flight);
        }
        let arriving = self.arriving.entry(id).or_insert_with(|| Arriving {
            bytes: 0,
            in_flight: self.in_flight.iter().any(|(_, want)| *want == id),
            has_begun,
        });
        arriving.has_begun |= has_begun;
        arriving.bytes = arriving.bytes.saturating_add(bytes);
        if arriving.in_flight {
            self.here_bytes = self.here_bytes.saturating_add(bytes);
        }
    }

    /// Whether the answer to this request has begun.
    pub(super) fn has_begun(&self, id: WantId) -> bool {
        let arriving = self.arriving.get(&id);
        arriving.is_some_and(|arriving| arriving.has_begun && arriving.in_flight)
    }

    /// What is not here yet of a block of `charge` bytes that was asked for here, in bytes.
    pub(super) fn rest_of(&self, id: WantId, charge: u32) -> u32 {
        let here = self.arriving.get(&id).map_or(0, |arriving| arriving.bytes);
        charge.saturating_sub(u32::try_from(here).unwrap_or(u32::MAX))
    }

    /// What is in flight and not here yet, in bytes.
    pub(super) fn owed_bytes(&self) -> u64 {
        self.in_flight_bytes.saturating_sub(self.here_bytes)
    }

    fn received(&mut self, bytes: u64, is_steady: bool, now: Duration) {
        self.last_sign = now;
        self.watch.bytes = self.watch.bytes.saturating_add(bytes);
        self.link.received(bytes, is_steady, now);
    }

    /// Remembers a request that was taken back and may be answered nevertheless.
    pub(super) fn withdraw(&mut self, id: WantId) {
        self.link.unanswered(id);
        if self.withdrawn.len() >= WITHDRAWN_MAX {
            self.withdrawn.pop_front();
            self.withdrawn_lost = true;
        }
        self.withdrawn.push_back(id);
    }

    /// Whether the answer belongs to a request that was taken back; once per request.
    pub(super) fn was_withdrawn(&mut self, id: WantId) -> bool {
        match self.withdrawn.iter().position(|withdrawn| *withdrawn == id) {
            Some(at) => self.withdrawn.remove(at).is_some(),
            None => self.withdrawn_lost,
        }
    }

    /// When it has stalled, unless it delivers before: its line may be as slow as
    /// [`pace::RATE_MIN`], and silent for as long as a full queue takes.
    pub(super) fn stalls_at(&self) -> Option<Duration> {
        self.watch.ends_at(self.silence_max())
    }

    /// Whether it has stalled; one that has delivered enough gets the next term.
    pub(super) fn has_stalled(&mut self, now: Duration) -> bool {
        let is_over = self.stalls_at().is_some_and(|end| end <= now);
        if is_over && self.watch.bytes >= pace::bytes_in(self.silence_max()) {
            self.watch.reset(now);
            return false;
        }
        is_over
    }

    fn silence_max(&self) -> Duration {
        pace::silence_at(self.link.average())
    }

    /// How long a request may be in flight here before it is moved elsewhere.
    pub(super) fn patience(&self, config: &PlannerConfig) -> Duration {
        self.link
            .time_for(self.in_flight_bytes, config)
            .saturating_mul(config.want_deadline_factor)
            .max(config.want_deadline_min)
    }

    /// How long one more block would take, behind what is in flight, at best: small blocks measure
    /// a low rate on a fast link.
    pub(super) fn time_to_get(&self, charge: u32, config: &PlannerConfig) -> Duration {
        let bytes = self.owed_bytes().saturating_add(u64::from(charge));
        self.link.time_at_best(bytes, config)
    }

    /// How long one more block is expected to take, as [`time_to_get`](Self::time_to_get) has it, and
    /// at least as long again as the oldest request has taken already: a trickle is no answer.
    pub(super) fn expected_for(&self, charge: u32, now: Duration, cfg: &PlannerConfig) -> Duration {
        let oldest = self.in_flight.first();
        let taken = oldest.map_or(Duration::ZERO, |(asked, _)| now.saturating_sub(*asked));
        self.time_to_get(charge, cfg).max(taken)
    }

    /// For how long it has owed a block and delivered nothing.
    pub(super) fn silence(&self, now: Duration) -> Duration {
        let oldest = self.in_flight.first();
        oldest.map_or(Duration::ZERO, |(asked, _)| self.silent_since(*asked, now))
    }

    /// For how long it has delivered nothing while this request was in flight.
    pub(super) fn silent_since(&self, asked: Duration, now: Duration) -> Duration {
        now.saturating_sub(self.last_sign.max(asked))
    }
}

impl StallWatch {
    fn start(&mut self, now: Duration) {
        self.running_since.get_or_insert(now);
    }

    fn stop(&mut self, now: Duration) {
        if let Some(since) = self.running_since.take() {
            self.owed = self.owed.saturating_add(now.saturating_sub(since));
        }
    }

    fn reset(&mut self, now: Duration) {
        *self = Self {
            running_since: self.running_since.map(|_| now),
            ..Self::default()
        };
    }

    fn ends_at(&self, timeout: Duration) -> Option<Duration> {
        let since = self.running_since?;
        Some(since.saturating_add(timeout.saturating_sub(self.owed)))
    }
}
