//! One link, one way, as those who send over it see it: when what is sent now arrives.

use std::{sync::Arc, time::Duration};

use shoal_ground::units::Rate;

use super::{
    Emulator, Schedule,
    emulator::{Bucket, Lane},
    timer::LATE,
};

/// What a sender may be ahead of the line: more than timers are late by, so that the line never
/// idles while there is something to send.
pub(crate) const AHEAD_MAX: Duration = Duration::from_millis(12);

/// For how long a line is taken at once: short, so that the connections of a node get turns, and
/// long, since each turn wakes three tasks. At 20 Mbit/s it is 20 kB.
const TURN: Duration = Duration::from_millis(8);

/// The least that is taken at once: a few packets.
const TURN_BYTES_MIN: u64 = 4 << 10;

/// The most that is taken at once, whatever the rate.
const TURN_BYTES_MAX: u64 = 128 << 10;

/// What may be under way on a link besides what its latency holds: what buffers on a path hold.
const BUFFER_BYTES: u64 = 256 << 10;

/// The most that may be under way on a link. 1 Gbit/s at 100 ms is 12.5 MB.
const WINDOW_BYTES_MAX: u64 = 16 << 20;

/// What may be under way on a link without a rate: as much as systems allow a TCP connection.
const WINDOW_BYTES_FREE: u64 = 4 << 20;

/// Which rates a user of a link has to keep to. The others are kept by who is at the other end, or
/// in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payer {
    /// Of the link, and of the sender's line.
    Sender,
    /// Of the receiver's line.
    Receiver,
    /// All: who carries for both ends.
    Both,
}

/// A link from one node to another, one way, in force as of the last [`Path::refresh`].
pub(crate) struct Path {
    emulator: Emulator,
    from: Option<usize>,
    to: Option<usize>,
    payer: Payer,
    generation: u64,
    schedule: Schedule,
    /// From the emulator's time to the network's.
    age: Duration,
    lanes: Vec<(Arc<Bucket>, Rate)>,
    /// Arrivals are in the order of departures, whatever the delay does.
    last: Duration,
}

/// What becomes of something that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// When it will have left.
    pub(crate) leaves: Duration,
    /// When it will be there.
    pub(crate) arrives: Duration,
}

impl Emulator {
    /// The link from one node to another, as `payer` uses it.
    pub(crate) fn path(&self, from: Option<usize>, to: Option<usize>, payer: Payer) -> Path {
        Path::new(self.clone(), from, to, payer)
    }

    /// Waits as long as a connection over the link takes to be there: until nothing blocks it, and a
    /// round trip. Cancel-safe.
    pub(crate) async fn round_trip(&self, near: Option<usize>, far: Option<usize>) {
        let mut changes = self.changes();
        let mut there = self.path(near, far, Payer::Both);
        let mut back = self.path(far, near, Payer::Both);
        while there.is_blocked() || back.is_blocked() {
            // The emulator, which tells, is here.
            let _ = changes.changed().await;
            there.refresh();
            back.refresh();
        }
        let arrives = there.send(self.now(), 0).arrives;
        let arrives = back.send(arrives, 0).arrives;
        tokio::time::sleep_until(self.instant(arrives.saturating_sub(LATE))).await;
    }
}

impl Path {
    pub(super) fn new(
        emulator: Emulator,
        from: Option<usize>,
        to: Option<usize>,
        payer: Payer,
    ) -> Self {
        let generation = emulator.generation();
        let mut path = Self {
            schedule: Schedule::new(0, from, to, super::Link::default()),
            age: Duration::ZERO,
            lanes: Vec::new(),
            last: Duration::ZERO,
            emulator,
            from,
            to,
            payer,
            generation,
        };
        path.look();
        path
    }

    pub(crate) fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// Looks whether there is another plan, and says so.
    pub(crate) fn refresh(&mut self) -> bool {
        let generation = self.emulator.generation();
        if generation == self.generation {
            return false;
        }
        self.generation = generation;
        self.look();
        true
    }

    fn look(&mut self) {
        let plan = self.emulator.plan();
        let link = match (self.from, self.to) {
            (Some(from), to) => plan.link(from, to),
            (None, Some(to)) => plan.link(to, None),
            (None, None) => super::Link::default(),
        };
        let [near, far] = plan.sites(self.from, self.to);
        let mut lanes = Vec::with_capacity(5);
        if self.payer != Payer::Receiver {
            lanes.push((Lane::Link(self.from, self.to), link.rate));
            lanes.extend(self.from.map(|from| (Lane::Up(from), plan.line(from).up)));
            lanes.extend(near.map(|(site, line)| (Lane::SiteUp(site), line.up)));
        }
        if self.payer != Payer::Sender {
            lanes.extend(self.to.map(|to| (Lane::Down(to), plan.line(to).down)));
            lanes.extend(far.map(|(site, line)| (Lane::SiteDown(site), line.down)));
        }
        let limited = lanes.into_iter().filter(|(_, rate)| !rate.is_off());
        self.lanes = limited
            .map(|(lane, rate)| (self.emulator.lane(lane), rate))
            .collect();
        self.age = self.emulator.age(&plan);
        self.schedule = Schedule::new(plan.seed, self.from, self.to, link);
    }

    /// Sends bytes at `now`.
    pub(crate) fn send(&mut self, now: Duration, bytes: usize) -> Sent {
        let free = match self.payer {
            // The sender has waited for it.
            Payer::Receiver => now,
            Payer::Sender | Payer::Both => self.stalled_until(now).unwrap_or(now),
        };
        let passed = self
            .lanes
            .iter()
            .map(|(bucket, rate)| bucket.take(now, bytes, *rate));
        let leaves = passed.fold(free, Duration::max);
        let arrives = leaves.saturating_add(self.schedule.delay(leaves.saturating_add(self.age)));
        self.last = self.last.max(arrives);
        Sent {
            leaves,
            arrives: self.last,
        }
    }

    /// When what was sent so far, by anybody, will have left.
    pub(crate) fn passed(&self, now: Duration) -> Duration {
        let passed = self.lanes.iter().map(|(bucket, _)| bucket.passed());
        passed.fold(now, Duration::max)
    }

    /// What may be sent at once, so that others get a turn.
    pub(crate) fn turn_bytes(&self) -> usize {
        let carried = self.rate().map_or(u64::MAX, |rate| bytes_in(TURN, rate));
        let bytes = carried.clamp(TURN_BYTES_MIN, TURN_BYTES_MAX);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What may be under way: what the latency holds, and some.
    pub(crate) fn window_bytes(&self) -> usize {
        let link = self.schedule.link();
        let held = self.rate().map_or(WINDOW_BYTES_FREE, |rate| {
            bytes_in(link.latency.saturating_add(link.jitter), rate)
        });
        let window = held.saturating_add(BUFFER_BYTES).min(WINDOW_BYTES_MAX);
        usize::try_from(window).unwrap_or(usize::MAX)
    }

    /// How long what a router keeps for the link takes to leave: what comes on top is dropped.
    pub(crate) fn backlog_max(&self) -> Duration {
        let bytes = self.window_bytes() as u64;
        self.rate().map_or(Duration::MAX, |rate| {
            Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
        })
    }

    /// The least of the rates.
    fn rate(&self) -> Option<u64> {
        let rates = self
            .lanes
            .iter()
            .filter_map(|(_, rate)| rate.bytes_per_second());
        rates.min()
    }

    /// Whether nothing passes.
    pub(crate) fn is_blocked(&self) -> bool {
        self.schedule.link().blocked
    }

    /// When the stall ends that is now.
    fn stalled_until(&self, now: Duration) -> Option<Duration> {
        let until = self.schedule.stalled_until(now.saturating_add(self.age))?;
        Some(until.saturating_sub(self.age))
    }

    /// When a connection breaks that is there at `after`.
    pub(crate) fn breaks_at(&self, after: Duration) -> Option<Duration> {
        let at = self.schedule.next_reset(after.saturating_add(self.age))?;
        Some(at.saturating_sub(self.age))
    }

    /// Whether the datagram of this number is lost.
    pub(crate) fn loses(&self, number: u64) -> bool {
        self.schedule.loses(number)
    }
}

fn bytes_in(span: Duration, rate: u64) -> u64 {
    let bytes = span.as_nanos().saturating_mul(u128::from(rate)) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
