//! The planner's numbers.

use std::time::Duration;

use crate::address::CHUNK_BYTES;
use crate::exchange::{COMING_LEAVES_MAX, WANTS_OUTSTANDING_MAX};

use super::types::Order;

/// The most wants a planner takes at once: twice what one provider may have in flight, so that the
/// queue does not run dry while a batch is out. At about 200 bytes a want this is 1.6 MiB.
pub const HORIZON_WANTS: usize = 2 * WANTS_OUTSTANDING_MAX;

/// The most providers that work for one transfer; each is a bit in every want's mask of those that
/// lack it.
pub const PROVIDERS_MAX: usize = 64;

/// How many barred providers are remembered, 16 bytes each; beyond that the lowest id is forgotten.
pub const BARRED_MAX: usize = 1024;

/// How many withdrawn requests per provider are remembered, so that their late answers are no
/// violation: twice what can be in flight there. 8 bytes each, 64 KiB.
pub const WITHDRAWN_MAX: usize = 2 * WANTS_OUTSTANDING_MAX;

/// How many of one provider's requests are looked at for moving or doubling in one poll.
pub const SCAN_MAX: usize = 64;

/// How many leaves of unknown number a provider of a part is asked for at a time, at first. Every one
/// that is there doubles it, every one that is not takes it back to 1: a miss costs a round trip.
pub const GUESSES_FIRST: usize = 2;

/// How many such leaves in a row may be missing: then it is asked for none until it says that it has
/// other leaves.
pub const GUESSES_MISSED_MAX: u32 = 16;

/// Leaves that are fetched one after the other where the order is free: of a large file 4 MiB, so
/// that a disk seeks once for several chunks, and a swarm of eight shares 64 MiB out in 16 runs.
pub const RUN_LEAVES: u64 = 4;

/// What a want of unknown length counts for: DAG nodes of full width are about 50 KiB.
pub const CHARGE_UNKNOWN: u32 = 64 << 10;

/// The least a want counts for, to stand for its request and headers.
pub const CHARGE_MIN: u32 = 1 << 10;

/// How a [`Planner`](super::Planner) behaves; `Default` holds the only numbers.
#[derive(Clone, Debug)]
pub struct PlannerConfig {
    /// The least window per provider, in bytes: two chunks, one on the wire while the next is
    /// asked for. It is also 32 small wants of 64 KiB.
    pub window_bytes_min: u64,
    /// The most bytes in flight at one provider: as many chunks of 1 MiB as can be named to others,
    /// [`COMING_LEAVES_MAX`].
    pub window_bytes_max: u64,
    /// How many times rate x round-trip time the window is. Four: asking anew when half is free
    /// leaves two in flight at worst, so that a rate which the window limits doubles every round.
    pub window_factor: u32,
    /// The most wants in flight at one provider, at most [`WANTS_OUTSTANDING_MAX`].
    pub wants_in_flight_max: usize,
    /// The least round-trip time reckoned with: reading, scheduling and batching take their time
    /// even where the wire takes none. At 1 GB/s, 2 ms make a window of 8 MB; what is in it is
    /// fetched again when this process ends, and more made nothing faster.
    pub rtt_min: Duration,
    /// The most round-trip time reckoned with, so that no window holds more than
    /// `window_factor` x this much of a slow provider's time.
    pub rtt_max: Duration,
    /// The rate reckoned with, in bytes per second, for a provider that was not measured yet.
    pub rate_assumed: u64,
    /// For how long after its last block a provider may put this fetcher off by saying that it will
    /// answer later. Longer than a server with a slow line leaves anybody without a block
    /// ([`TurnsConfig::starving`](crate::turns::TurnsConfig)), and a chunk over that line.
    pub put_off_max: Duration,
    /// The least time a want may be in flight before it is moved to another provider.
    pub want_deadline_min: Duration,
    /// How many times the expected time a want may be in flight before it is moved.
    pub want_deadline_factor: u32,
    /// How many times sooner an idle provider must be expected to deliver what a slow one was
    /// asked for, to be asked for it.
    pub relief_factor: u32,
    /// How much sooner, at least, an idle provider must be expected to deliver what waits behind another
    /// request at its provider, to be asked for it instead. Longer than what lies in buffers on the way
    /// of any but the slowest lines: 128 KiB at 64 KB/s.
    pub queue_gain_min: Duration,
    /// How much sooner, at least, it must be expected to deliver the rest of what has begun to come in, to be
    /// asked for it instead: of what was sent and is on its way already, as much may come in vain.
    pub resumed_gain_min: Duration,
    /// How many times sooner a far provider must be expected to deliver what a near one has, to be
    /// asked for it.
    pub far_factor: u32,
    /// How long what waits behind others at a near provider must be expected to take for a far holder that was
    /// not measured yet to be tried with it. One that brings a chunk in a quarter of it, `far_factor`, has a line
    /// of 22 Mbit/s. Shorter makes crowds faster and takes from the near share (0.77 at 1 s, where 0.75 is the bar).
    pub try_far_after: Duration,
    /// Whether a dearer provider is never asked for what a cheaper one has, as long as that one is to
    /// be relied on: for lines that cost money.
    pub strict: bool,
    /// How long a provider that has delivered nothing yet may be silent and still have its leaves
    /// left to it.
    pub credit: Duration,
    /// How long a provider that was too slow is asked for one want at a time only.
    pub suspect_time: Duration,
    /// How often slow providers are looked at while several work.
    pub tick: Duration,
    /// The least and the most time that a busy provider is left alone, whatever it says.
    pub rest: (Duration, Duration),
    /// The budget a planner starts with, in bytes; see [`Planner::budget`](super::Planner::budget).
    pub budget_bytes: u64,
    /// How many bytes that were received may wait to be verified and written, at first. While more
    /// do, nothing is asked for: the disk is what all wait for, and what lies in memory is fetched
    /// again when this process ends. To be more than can be worked on at a time, so that who does
    /// never waits for the network instead.
    pub verifying_bytes: u64,
    /// Later it is this part of what was verified: a disk that stalls now and then is made up for by
    /// what came in meanwhile, and what an end costs stays small beside what is done.
    pub verifying_part: u64,
    /// In which order wants are asked for.
    pub order: Order,
    /// How many answers "missing" in a row, without a block between them, let a provider rest: one
    /// that says it has what it has not.
    pub missing_in_row_max: u32,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        let window_bytes_max = (CHUNK_BYTES as u64).saturating_mul(COMING_LEAVES_MAX as u64);
        Self {
            window_bytes_min: (CHUNK_BYTES as u64).saturating_mul(2),
            window_bytes_max,
            window_factor: 4,
            wants_in_flight_max: WANTS_OUTSTANDING_MAX,
            rtt_min: Duration::from_millis(2),
            rtt_max: Duration::from_secs(1),
            rate_assumed: 256 << 10,
            put_off_max: Duration::from_secs(300),
            want_deadline_min: Duration::from_secs(5),
            want_deadline_factor: 4,
            relief_factor: 2,
            queue_gain_min: Duration::from_secs(2),
            resumed_gain_min: Duration::from_millis(250),
            far_factor: 4,
            try_far_after: Duration::from_millis(1_500),
            strict: false,
            credit: Duration::from_secs(1),
            suspect_time: Duration::from_secs(5),
            tick: Duration::from_millis(100),
            rest: (Duration::from_millis(100), Duration::from_secs(60)),
            budget_bytes: window_bytes_max,
            verifying_bytes: (CHUNK_BYTES as u64).saturating_mul(4),
            verifying_part: 64,
            order: Order::ById,
            missing_in_row_max: 32,
        }
    }
}
