//! What a transfer has done so far, readable from anywhere at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of one transfer; bytes are chunk payload.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bytes_total: AtomicU64,
    files_total: AtomicU64,
    files: AtomicU64,
    downloaded: AtomicU64,
    resumed: AtomicU64,
    local: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) bytes_total: u64,
    pub(crate) files_total: u64,
    pub(crate) files: u64,
    pub(crate) downloaded: u64,
    pub(crate) resumed: u64,
    pub(crate) local: u64,
}

impl Progress {
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

    pub(super) fn resumed(&self, bytes: u64) {
        self.resumed.fetch_add(bytes, Relaxed);
    }

    pub(super) fn local(&self, bytes: u64) {
        self.local.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            bytes_total: self.bytes_total.load(Relaxed),
            files_total: self.files_total.load(Relaxed),
            files: self.files.load(Relaxed),
            downloaded: self.downloaded.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            local: self.local.load(Relaxed),
        }
    }
}

impl Snapshot {
    /// Verified bytes in place, wherever they came from.
    pub(crate) fn bytes(&self) -> u64 {
        self.downloaded + self.resumed + self.local
    }
}
