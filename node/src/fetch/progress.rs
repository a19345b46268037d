//! What a transfer has done so far, readable from anywhere at any time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::disk::DiskWatch;
use crate::meter::Meter;

/// What a transfer is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
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
    phase: AtomicU8,
    sources: AtomicU32,
    asked: AtomicU32,
    bytes_total: AtomicU64,
    files_total: AtomicU64,
    files: AtomicU64,
    downloaded: AtomicU64,
    /// DAG nodes that came from peers, which are no payload.
    dag: AtomicU64,
    resumed: AtomicU64,
    local: AtomicU64,
    rate: AtomicU64,
    /// For how many milliseconds it has waited for peers, with one more; none where it does not.
    waits: AtomicU64,
    meter: Mutex<Meter>,
    /// The disk that it lands on.
    pub(super) disk: DiskWatch,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) phase: Phase,
    /// Providers that are asked for blocks.
    pub(crate) sources: u32,
    /// Peers that were contacted.
    pub(crate) asked: u32,
    pub(crate) bytes_total: u64,
    pub(crate) files_total: u64,
    pub(crate) files: u64,
    pub(crate) downloaded: u64,
    pub(crate) dag: u64,
    pub(crate) resumed: u64,
    pub(crate) local: u64,
    /// How long no byte came, where the transfer waits for providers.
    pub(crate) waits: Option<Duration>,
}

impl Progress {
    /// Takes the rate; to be called at regular intervals.
    pub(super) fn measure(&self) {
        let bytes = self.snapshot().bytes();
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        self.rate.store(meter.rate(bytes, Instant::now()), Relaxed);
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

    pub(super) fn total(&self, bytes: u64, files: u64) {
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
            bytes_total: self.bytes_total.load(Relaxed),
            files_total: self.files_total.load(Relaxed),
            files: self.files.load(Relaxed),
            downloaded: self.downloaded.load(Relaxed),
            dag: self.dag.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            local: self.local.load(Relaxed),
            waits: self
                .waits
                .load(Relaxed)
                .checked_sub(1)
                .map(Duration::from_millis),
        }
    }

    /// Verified bytes per second, lately.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.load(Relaxed)
    }
}

/// Chunk payload by where it came from, and DAG nodes from peers, over many runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) downloaded: u64,
    pub(crate) dag: u64,
    pub(crate) resumed: u64,
    pub(crate) local: u64,
}

impl Totals {
    pub(super) fn add(&mut self, of: &Snapshot) {
        self.downloaded += of.downloaded;
        self.dag += of.dag;
        self.resumed += of.resumed;
        self.local += of.local;
    }

    pub(super) fn add_all(&mut self, of: &Self) {
        self.downloaded += of.downloaded;
        self.dag += of.dag;
        self.resumed += of.resumed;
        self.local += of.local;
    }
}

impl Snapshot {
    /// Whether the tree was read, and its totals with it.
    pub(crate) fn totals_known(&self) -> bool {
        matches!(self.phase, Phase::Fetching | Phase::Landing)
    }

    /// Verified bytes in place, wherever they came from.
    pub(crate) fn bytes(&self) -> u64 {
        self.downloaded + self.resumed + self.local
    }
}
