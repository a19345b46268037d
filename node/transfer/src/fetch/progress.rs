//! What a transfer has done so far, readable from anywhere at any time.
//!
//! Everything that is shown of a transfer comes from here: the bar, `status`, `transfers` and the
//! events print the same [`Snapshot`] and [`Estimate`].

use std::{
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use shoal_ground::meter::{Meter, time_for};

use super::disk::DiskWatch;

/// Between two looks at how much has arrived.
pub(super) const MEASURE_INTERVAL: Duration = Duration::from_millis(100);

/// What a transfer is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Looking for somebody who has the root.
    #[default]
    Finding,
    /// Reading the tree of names.
    Listing,
    /// Moving file bytes.
    Fetching,
    /// Renaming into place and recording.
    Landing,
}

/// Counters of one transfer; bytes are chunk payload.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Of all chunks, whether they turn out right or not: the rate is measured by it.
    arrived: AtomicU64,
    /// Of chunks that have arrived, in part or whole, and are not verified yet.
    unverified: AtomicU64,
    phase: AtomicU8,
    sources: AtomicU32,
    asked: AtomicU32,
    /// One more than there are; 0 for "not known".
    bytes_total: AtomicU64,
    files_total: AtomicU64,
    files: AtomicU64,
    downloaded: AtomicU64,
    /// DAG nodes that came from peers, which are no payload.
    dag: AtomicU64,
    resumed: AtomicU64,
    local: AtomicU64,
    /// For how many milliseconds it has waited for peers, with one more; none where it does not.
    waits: AtomicU64,
    measured: Mutex<Measured>,
    /// The disk that it lands on.
    pub(super) disk: DiskWatch,
}

#[derive(Debug, Default)]
struct Measured {
    meter: Meter,
    rate: u64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The step that the transfer is at.
    pub phase: Phase,
    /// Providers that have delivered bytes in the last seconds.
    pub sources: u32,
    /// Peers that were contacted.
    pub asked: u32,
    /// Bytes of all files, once known: those of a single block are not before it is here.
    pub bytes_total: Option<u64>,
    /// Files; 0 until the tree is known.
    pub files_total: u64,
    /// Files that are complete.
    pub files: u64,
    /// Bytes of chunks that peers have sent and that are verified.
    pub downloaded: u64,
    /// Bytes of DAG nodes that peers have sent.
    pub dag: u64,
    /// Bytes of chunks that an earlier run has landed.
    pub resumed: u64,
    /// Bytes of chunks that came from files of this node.
    pub local: u64,
    /// How long no byte came, where the transfer waits for providers.
    pub waits: Option<Duration>,
    /// Bytes of chunks that have arrived and are not verified yet. What turns out bad, or is thrown
    /// away, counts no longer.
    pub(crate) unverified: u64,
}

/// How fast a transfer is, and how long it still takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of chunks that arrive per second, over the last seconds.
    pub rate: u64,
    /// Unknown while there is no rate to tell it by, and beyond a month.
    pub eta: Option<Duration>,
}

impl Progress {
    /// Measures the rate; to be called every [`MEASURE_INTERVAL`].
    pub(super) fn measure(&self) {
        let arrived = self.arrived.load(Relaxed);
        let mut measured = self.measured();
        measured.rate = measured.meter.rate(arrived, Instant::now());
    }

    /// Chunk bytes have come in.
    pub(super) fn arrived(&self, bytes: u64) {
        self.arrived.fetch_add(bytes, Relaxed);
    }

    /// So many chunk bytes are here, and whether they are right is not known yet.
    pub(super) fn unverified(&self, bytes: u64) {
        self.unverified.store(bytes, Relaxed);
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(super) fn peers(&self, sources: usize, asked: usize) {
        self.sources
            .store(u32::try_from(sources).unwrap_or(u32::MAX), Relaxed);
        self.asked
            .store(u32::try_from(asked).unwrap_or(u32::MAX), Relaxed);
    }

    /// It waits for providers, and how long already; or it gets on.
    pub(super) fn waits(&self, waits: Option<Duration>) {
        let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let waits = waits.map_or(0, |it| millis(it).saturating_add(1));
        self.waits.store(waits, Relaxed);
    }

    pub(super) fn total(&self, bytes: Option<u64>, files: u64) {
        let bytes = bytes.map_or(0, |bytes| bytes.saturating_add(1));
        self.bytes_total.store(bytes, Relaxed);
        self.files_total.store(files, Relaxed);
    }

    pub(super) fn file_done(&self) {
        self.files.fetch_add(1, Relaxed);
    }

    pub(super) fn downloaded(&self, bytes: u64) {
        self.downloaded.fetch_add(bytes, Relaxed);
    }

    pub(super) fn dag(&self, bytes: u64) {
        self.dag.fetch_add(bytes, Relaxed);
    }

    pub(super) fn resumed(&self, bytes: u64) {
        self.resumed.fetch_add(bytes, Relaxed);
    }

    pub(super) fn local(&self, bytes: u64) {
        self.local.fetch_add(bytes, Relaxed);
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            phase: match self.phase.load(Relaxed) {
                0 => Phase::Finding,
                1 => Phase::Listing,
                2 => Phase::Fetching,
                _ => Phase::Landing,
            },
            sources: self.sources.load(Relaxed),
            asked: self.asked.load(Relaxed),
            bytes_total: self.bytes_total.load(Relaxed).checked_sub(1),
            files_total: self.files_total.load(Relaxed),
            files: self.files.load(Relaxed),
            downloaded: self.downloaded.load(Relaxed),
            dag: self.dag.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            local: self.local.load(Relaxed),
            unverified: self.unverified.load(Relaxed),
            waits: self
                .waits
                .load(Relaxed)
                .checked_sub(1)
                .map(Duration::from_millis),
        }
    }

    /// How fast it is now that it is as far as `at`. Where nobody delivers there is no rate: the two are
    /// looked at one after the other, and are to say the same.
    pub(crate) fn estimate(&self, at: &Snapshot) -> Estimate {
        let rate = match at.sources {
            0 => 0,
            _ => self.measured().rate,
        };
        Estimate {
            rate,
            eta: at.left().and_then(|left| time_for(left, rate)),
        }
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock()
    }
}

/// Chunk payload by where it came from, and DAG nodes from peers, over many runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Bytes of chunks that peers have sent and that are verified.
    pub downloaded: u64,
    /// Bytes of DAG nodes that peers have sent.
    pub dag: u64,
    /// Bytes of chunks that an earlier run has landed.
    pub resumed: u64,
    /// Bytes of chunks that came from files of this node.
    pub local: u64,
}

impl Totals {
    pub(super) fn add(&mut self, of: &Snapshot) {
        self.downloaded = self.downloaded.saturating_add(of.downloaded);
        self.dag = self.dag.saturating_add(of.dag);
        self.resumed = self.resumed.saturating_add(of.resumed);
        self.local = self.local.saturating_add(of.local);
    }

    pub(super) fn add_all(&mut self, of: &Self) {
        self.downloaded = self.downloaded.saturating_add(of.downloaded);
        self.dag = self.dag.saturating_add(of.dag);
        self.resumed = self.resumed.saturating_add(of.resumed);
        self.local = self.local.saturating_add(of.local);
    }
}

impl Snapshot {
    /// Whether the tree was read, and it is known how many files there are.
    pub fn is_tree_known(&self) -> bool {
        matches!(self.phase, Phase::Fetching | Phase::Landing)
    }

    /// Verified bytes in place, wherever they came from.
    pub fn verified(&self) -> u64 {
        let here = self.resumed.saturating_add(self.local);
        self.downloaded.saturating_add(here)
    }

    /// How far it is: what is verified, and what has arrived and is not yet. The counters are read
    /// one after the other, and a chunk may be in neither or in both for a moment.
    pub fn bytes(&self) -> u64 {
        let bytes = self.verified().saturating_add(self.unverified);
        bytes.min(self.bytes_total.unwrap_or(u64::MAX))
    }

    /// Bytes that are still to come, once the whole is known.
    fn left(&self) -> Option<u64> {
        Some(self.bytes_total?.saturating_sub(self.bytes()))
    }
}
