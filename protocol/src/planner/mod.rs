//! Who is asked for what, and when: the fetch planner, without a socket or a clock.
//!
//! A [`Planner`] serves one transfer. The caller tells it which blocks are wanted, who provides
//! them and what came of every request; [`Planner::poll`] answers with what to send. It owns the
//! queue, the windows, the deadlines and the blame, and it keeps these invariants:
//!
//! - every want is in exactly one state: queued, in flight at one provider or at two,
//!   or being verified; it is in the queue exactly when it is queued;
//! - what is in flight and being verified stays within the budget (one want may always fly, unless
//!   the budget is zero);
//! - while one provider has all wanted blocks and delivers, every want is fetched, whatever
//!   the others do.
//!
//! It refuses to hold blocks, addresses or digests: wants and providers are the caller's numbers.
//! It does not end by itself: it is done when no want is left, and is then dropped.
//!
//! Time is a [`Duration`] since a start of the caller's choice. It never runs backwards here: an
//! earlier time than one seen before counts as that one.

mod coming;
mod config;
mod link;
mod price;
mod provider;
mod rank;
mod schedule;
mod status;
mod swarm;
mod tier;
mod types;
mod want;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::address::BLOCK_BYTES_MAX;

pub use config::{
    BARRED_MAX, CHARGE_MIN, CHARGE_UNKNOWN, GUESSES_FIRST, GUESSES_MISSED_MAX, HORIZON_WANTS,
    PROVIDERS_MAX, PlannerConfig, RUN_LEAVES, SCAN_MAX, WITHDRAWN_MAX,
};
pub use provider::Tally;
pub use status::{Progress, ProviderStatus, Status, Totals};
pub use types::{
    Action, Arrival, Blame, Class, Holdings, Order, Part, ProviderId, Refused, Removal, WantId,
};

use coming::Coming;
use provider::Provider;
use rank::Rank;
use swarm::Inflow;
use tier::{QueuedBytes, Tier};
use want::{Want, WantState};

/// What a provider may be asked at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As much as its window takes.
    Ready,
    /// One want at a time, until it answers or this time has come: it was too slow.
    Suspect {
        /// When it gets another chance.
        until: Duration,
    },
    /// Nothing until then, as it asked, or since it did not deliver: the breaker is open.
    Resting {
        /// When it gets another chance.
        until: Duration,
    },
    /// One want at a time until it delivers: the breaker is half open. If it does not, it rests
    /// again, twice as long.
    Probing,
}

/// The fetch planner of one transfer; see the module's head.
#[derive(Debug)]
pub struct Planner {
    config: PlannerConfig,
    wants: BTreeMap<WantId, Want>,
    queue: BTreeSet<Rank>,
    queued: QueuedBytes,
    providers: BTreeMap<ProviderId, Provider>,
    /// The keys of those that fetch, too.
    members: Vec<u64>,
    /// The near holders and members, by slot.
    near_slots: u64,
    inflow: Inflow,
    /// The wants that are coming to members, or were.
    coming: BTreeMap<WantId, Coming>,
    /// Those that are out for this transfer; they are not in `providers`.
    barred: BTreeMap<ProviderId, Blame>,
    budget_bytes: u64,
    /// What is in flight, by its charge, and being verified, by its length.
    held_bytes: u64,
    verifying: usize,
    /// What is being verified, by its length.
    verifying_bytes: u64,
    /// What was verified since the start.
    verified_bytes: u64,
    /// Cancels and drops that the next poll hands out.
    outbox: Vec<Action>,
    /// Requests that this poll hands out.
    launched: BTreeMap<ProviderId, Vec<WantId>>,
    totals: Totals,
    now: Duration,
    polled: Duration,
    /// When slow providers are looked at next.
    relieve_at: Duration,
}

impl Planner {
    /// A planner without wants and providers.
    pub fn new(config: PlannerConfig) -> Self {
        Self {
            budget_bytes: config.budget_bytes,
            config,
            wants: BTreeMap::new(),
            queue: BTreeSet::new(),
            queued: QueuedBytes::default(),
            providers: BTreeMap::new(),
            members: Vec::new(),
            near_slots: 0,
            inflow: Inflow::default(),
            coming: BTreeMap::new(),
            barred: BTreeMap::new(),
            held_bytes: 0,
            verifying: 0,
            verifying_bytes: 0,
            verified_bytes: 0,
            outbox: Vec::new(),
            launched: BTreeMap::new(),
            totals: Totals::default(),
            now: Duration::ZERO,
            polled: Duration::ZERO,
            relieve_at: Duration::ZERO,
        }
    }

    /// Adds a provider that has [everything](Holdings::Everything) until
    /// [`set_availability`](Self::set_availability) says otherwise; adding it again changes
    /// nothing.
    ///
    /// # Errors
    /// [`Refused::Barred`] for one that was dropped for what it sent, [`Refused::Full`] beyond
    /// [`PROVIDERS_MAX`].
    pub fn add_provider(&mut self, id: ProviderId, now: Duration) -> Result<(), Refused> {
        self.advance(now);
        if let Some(blame) = self.barred.get(&id) {
            return Err(Refused::Barred(*blame));
        }
        if self.providers.contains_key(&id) {
            return Ok(());
        }
        let taken = self
            .providers
            .values()
            .fold(0_u64, |taken, provider| taken | provider.bit());
        let slot = u8::try_from(taken.trailing_ones()).unwrap_or(u8::MAX);
        if usize::from(slot) >= PROVIDERS_MAX {
            return Err(Refused::Full);
        }
        self.providers.insert(id, Provider::new(slot, self.now));
        Ok(())
    }

    /// Takes a provider out, or lets it [rest](Removal::Busy); its wants queue again, in their
    /// place.
    pub fn remove_provider(&mut self, id: ProviderId, why: Removal, now: Duration) {
        self.advance(now);
        let retry_after = match why {
            Removal::Lost | Removal::Gone => return self.forget(id),
            Removal::Busy { retry_after } => retry_after,
        };
        self.let_rest(id, retry_after);
    }

    /// Adds a want; [`PlannerConfig::order`] says when its turn is. `len_hint` is the expected
    /// length in bytes, 0 if unknown.
    ///
    /// `false`, and nothing is done, where the id is wanted already or there is no
    /// [`room`](Self::room).
    #[must_use]
    pub fn add_want(&mut self, id: WantId, len_hint: u32, part: Part) -> bool {
        if self.room() == 0 || self.wants.contains_key(&id) {
            return false;
        }
        let charge = match len_hint {
            0 => CHARGE_UNKNOWN,
            _ => len_hint.clamp(
                CHARGE_MIN,
                u32::try_from(BLOCK_BYTES_MAX).unwrap_or(u32::MAX),
            ),
        };
        let mut want = Want {
            state: WantState::Queued,
            part,
            lacking: 0,
            held: 0,
            tier: Tier::default(),
            rank: Rank::default(),
            charge,
            moves: 0,
            is_taken_over: false,
        };
        want.held = self.holders_of(&want);
        let held = swarm::held_by(&want, self.near_slots);
        want.tier = held.tier;
        want.rank = Rank::new(self.config.order, (id, part), held, &self.members);
        self.wants.insert(id, want);
        self.note_coming(id, part);
        self.enqueue(id);
        true
    }

    /// Takes a want back, in whatever state it is.
    pub fn cancel_want(&mut self, id: WantId) {
        self.end_want(id, Ending::Cancelled);
    }

    /// Reports payload bytes of a block that is not complete yet, so that a slow provider is told
    /// from a dead one; [`block_arrived`](Self::block_arrived) does not count them twice.
    pub fn progress(&mut self, from: ProviderId, id: WantId, bytes: u32, now: Duration) {
        self.advance(now);
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.received_part(id, u64::from(bytes), self.now);
        }
    }

    /// Notes that of a want in flight the first `bytes` were not asked for: the caller has them.
    /// To be called when [`Action::Want`] is carried out.
    pub fn resumes(&mut self, from: ProviderId, id: WantId, bytes: u32) {
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.resumes(id, u64::from(bytes));
        }
    }

    /// Reports a complete block, before it is verified, and says what to do with it.
    pub fn block_arrived(
        &mut self,
        from: ProviderId,
        id: WantId,
        bytes: u32,
        now: Duration,
    ) -> Arrival {
        self.advance(now);
        let Some(provider) = self.providers.get_mut(&from) else {
            self.totals.late_bytes = self.totals.late_bytes.saturating_add(u64::from(bytes));
            return Arrival::Late;
        };
        provider.received_block(id, u64::from(bytes), self.now);
        if !self.ground(id, from) {
            return self.answer_not_in_flight(from, id, bytes);
        }
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.delivered(self.now);
            if self
                .wants
                .get(&id)
                .is_some_and(|want| provider.guesses(want))
            {
                provider.guessed();
            }
        }
        if !self
            .wants
            .get_mut(&id)
            .is_some_and(|want| want.arrived(from, bytes))
        {
            self.count_late(from, bytes);
            return Arrival::Late;
        }
        self.verifying = self.verifying.saturating_add(1);
        self.verifying_bytes = self.verifying_bytes.saturating_add(u64::from(bytes));
        self.held_bytes = self.held_bytes.saturating_add(u64::from(bytes));
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.tally.blocks = provider.tally.blocks.saturating_add(1);
            provider.tally.bytes = provider.tally.bytes.saturating_add(u64::from(bytes));
        }
        Arrival::Wanted
    }

    /// The block is what was wanted: the want is done.
    pub fn block_verified(&mut self, id: WantId) {
        self.end_want(id, Ending::Verified);
    }

    /// The block is not what was wanted: who sent it is out for this transfer, at once.
    pub fn block_bad(&mut self, from: ProviderId, id: WantId, now: Duration) {
        self.advance(now);
        let rejected = self.wants.get_mut(&id).and_then(|want| want.rejected(from));
        if let Some(bytes) = rejected {
            self.not_verifying(bytes);
            self.enqueue_if_queued(id);
        }
        self.drop_provider(from, Blame::BadBlock);
    }

    /// The parts that several have sent do not make the block that was wanted, or do not fit each
    /// other: nobody can be blamed, and the want queues again. The caller sees to it that it is
    /// fetched from one of them alone.
    pub fn block_unproven(&mut self, from: ProviderId, id: WantId, now: Duration) {
        self.advance(now);
        let rejected = self.wants.get_mut(&id).and_then(|want| want.rejected(from));
        if let Some(bytes) = rejected {
            self.not_verifying(bytes);
        } else if self.ground(id, from) {
            if let Some(provider) = self.providers.get_mut(&from) {
                provider.link.unanswered(id);
            }
        } else {
            return;
        }
        self.enqueue_if_queued(id);
    }

    /// Counts bytes of an answer that was taken back, which nobody needs.
    pub fn wasted(&mut self, from: ProviderId, bytes: u32) {
        self.count_late(from, bytes);
    }

    /// The provider says that it can't give the block; it is not asked for it again. One that says
    /// so too often is left alone for a while.
    pub fn block_missing(&mut self, from: ProviderId, id: WantId, now: Duration) {
        self.advance(now);
        let was_in_flight = self.ground(id, from);
        if !was_in_flight && self.answer_not_in_flight(from, id, 0) == Arrival::Unasked {
            return;
        }
        let mut rests = false;
        if let Some(provider) = self.providers.get_mut(&from) {
            let mut is_guess = false;
            if let Some(want) = self.wants.get_mut(&id) {
                want.lacking |= provider.bit();
                is_guess = provider.guesses(want);
            }
            if was_in_flight {
                provider.link.unanswered(id);
            }
            if is_guess {
                provider.missed(self.now);
            } else {
                provider.tally.missing = provider.tally.missing.saturating_add(1);
                rests = was_in_flight && provider.denied(self.now, &self.config);
            }
        }
        self.rank_anew(id);
        if was_in_flight {
            self.enqueue_if_queued(id);
        }
        if rests {
            self.let_rest(from, self.config.suspect_time);
        }
    }

    /// How many bytes are in flight, by what they were charged with, or being verified.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Sets how many bytes may be in flight and being verified: this transfer's part of the
    /// process's buffers. Zero pauses; what is in flight already is not taken back.
    pub fn budget(&mut self, bytes: u64) {
        self.budget_bytes = bytes;
    }

    /// How many more wants it takes, at most [`HORIZON_WANTS`].
    pub fn room(&self) -> usize {
        HORIZON_WANTS.saturating_sub(self.wants.len())
    }

    /// How many wants wait to be asked for.
    pub fn wants_pending(&self) -> usize {
        self.queue.len()
    }

    /// How many wants are in flight, at one provider or two.
    pub fn wants_in_flight(&self) -> usize {
        self.wants
            .len()
            .saturating_sub(self.queue.len())
            .saturating_sub(self.verifying)
    }

    /// Whether no want is left.
    pub fn is_done(&self) -> bool {
        self.wants.is_empty()
    }
}

/// How a want leaves the planner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Verified,
    Cancelled,
}

impl Planner {
    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn enqueue(&mut self, id: WantId) {
        let Some(want) = self.wants.get(&id) else {
            return;
        };
        let rank = want.rank;
        if self.queue.insert(rank) {
            self.queued.add(want.tier, want.charge);
        }
        for provider in self.providers.values_mut() {
            provider.cursor = provider.cursor.min(rank);
        }
    }

    /// Takes a want out of the queue; `false` where it is not in it.
    fn dequeue(&mut self, id: WantId) -> bool {
        let want = self.wants.get(&id);
        let queued = want.filter(|want| self.queue.remove(&want.rank));
        if let Some(want) = queued {
            self.queued.take(want.tier, want.charge);
        }
        queued.is_some()
    }

    /// A block is no longer in the caller's hands.
    fn not_verifying(&mut self, bytes: u32) {
        let bytes = u64::from(bytes);
        self.verifying = self.verifying.saturating_sub(1);
        self.verifying_bytes = self.verifying_bytes.saturating_sub(bytes);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    /// Whether too much was received that waits to be verified and written.
    fn is_behind(&self) -> bool {
        let part = self.verified_bytes.checked_div(self.config.verifying_part);
        let most = self.config.verifying_bytes.max(part.unwrap_or_default());
        self.verifying_bytes > most
    }

    /// Takes a provider's requests back, and leaves it alone for a time.
    fn let_rest(&mut self, id: ProviderId, time: Duration) {
        for want in self.requests_at(id) {
            self.recall(want, id);
            self.enqueue_if_queued(want);
        }
        if let Some(provider) = self.providers.get_mut(&id) {
            provider.rest(time, self.now, &self.config);
        }
    }

    fn enqueue_if_queued(&mut self, id: WantId) {
        if self.wants.get(&id).is_some_and(Want::is_queued) {
            self.enqueue(id);
        }
    }

    /// Ends the request for a want at a provider; `false` where there is none. The caller sees to
    /// the queue.
    fn ground(&mut self, id: WantId, at: ProviderId) -> bool {
        let Some(want) = self.wants.get_mut(&id) else {
            return false;
        };
        let Some(flight) = want.ground(at) else {
            return false;
        };
        let charge = want.charge;
        self.held_bytes = self.held_bytes.saturating_sub(u64::from(charge));
        if let Some(provider) = self.providers.get_mut(&at) {
            provider.land((flight.asked, id), charge, self.now);
        }
        true
    }

    /// Takes a request back that may be answered nevertheless.
    fn recall(&mut self, id: WantId, at: ProviderId) {
        if !self.ground(id, at) {
            return;
        }
        if let Some(provider) = self.providers.get_mut(&at) {
            provider.withdraw(id);
        }
        self.outbox.push(Action::Cancel {
            provider: at,
            want: id,
        });
    }

    fn end_want(&mut self, id: WantId, ending: Ending) {
        let Some(want) = self.wants.get(&id) else {
            return;
        };
        let flights = want.flights();
        if let WantState::Verifying { bytes, .. } = want.state {
            self.not_verifying(bytes);
            if ending == Ending::Verified {
                self.verified_bytes = self.verified_bytes.saturating_add(u64::from(bytes));
            }
        } else if ending == Ending::Verified {
            return; // it was cancelled and wanted again meanwhile: this block's word is not for it
        }
        for flight in flights {
            self.recall(id, flight.provider);
            if let Some(provider) = self.providers.get_mut(&flight.provider) {
                // Outdone is not at fault, but who was silent all the while is not to be trusted
                // with a whole window next.
                let silent = provider.silent_since(flight.asked, self.now);
                if ending == Ending::Verified && silent > self.config.rtt_max {
                    provider.suspect(self.now, &self.config);
                }
            }
        }
        self.dequeue(id);
        self.coming.remove(&id);
        self.wants.remove(&id);
    }

    /// An answer to what is not in flight: late where it was taken back, a violation otherwise.
    fn answer_not_in_flight(&mut self, from: ProviderId, id: WantId, bytes: u32) -> Arrival {
        if self
            .providers
            .get_mut(&from)
            .is_none_or(|provider| provider.was_withdrawn(id))
        {
            self.count_late(from, bytes);
            return Arrival::Late;
        }
        self.drop_provider(from, Blame::Unasked);
        Arrival::Unasked
    }

    fn count_late(&mut self, from: ProviderId, bytes: u32) {
        let bytes = u64::from(bytes);
        self.totals.late_bytes = self.totals.late_bytes.saturating_add(bytes);
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.tally.late_bytes = provider.tally.late_bytes.saturating_add(bytes);
        }
    }

    /// Drops a provider for what it did.
    fn drop_provider(&mut self, id: ProviderId, blame: Blame) {
        let was_there = self.providers.contains_key(&id);
        self.forget(id);
        if blame.bars() {
            if self.barred.len() >= BARRED_MAX {
                self.barred.pop_first();
            }
            self.barred.entry(id).or_insert(blame);
        }
        if was_there {
            self.totals.dropped = self.totals.dropped.saturating_add(1);
            self.outbox.push(Action::Drop {
                provider: id,
                blame,
            });
        }
    }

    /// Takes a provider out of the books; its wants queue again, in their place.
    fn forget(&mut self, id: ProviderId) {
        for want in self.requests_at(id) {
            self.ground(want, id);
            self.enqueue_if_queued(want);
        }
        let Some(provider) = self.providers.remove(&id) else {
            return;
        };
        // The slot is free for another, which may have what this one lacked.
        let bit = provider.bit();
        self.coming_to_nobody(bit);
        let mut unheld = Vec::new();
        for (id, want) in &mut self.wants {
            want.lacking &= !bit;
            if want.held & bit != 0 {
                want.held &= !bit;
                unheld.push(*id);
            }
        }
        self.tiers_changed();
        for id in unheld {
            self.rank_anew(id);
        }
        self.outbox
            .retain(|action| !matches!(action, Action::Cancel { provider, .. } if *provider == id));
    }

    fn requests_at(&self, id: ProviderId) -> Vec<WantId> {
        let provider = self.providers.get(&id);
        provider.map_or_else(Vec::new, |provider| {
            provider.in_flight.iter().map(|(_, want)| *want).collect()
        })
    }
}
