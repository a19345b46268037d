//! How far a share is, told about ten times a second.

use std::time::{Duration, Instant};

use super::survey::{Survey, Totals};

/// Time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// How far a call of [`share`](super::share) has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is busy with.
    pub phase: Phase,
    /// Files that are done in this phase.
    pub files: u64,
    /// Bytes that are done in this phase.
    pub bytes: u64,
    /// What there is in all, once that is known.
    pub totals: Option<Totals>,
}

/// What a share is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Copying into the home.
    Copying,
    /// Reading and hashing.
    Hashing,
    /// Writing what was found out.
    Committing,
}

/// Counts what is done and reports it from time to time.
pub(super) struct Meter<'a> {
    on_progress: &'a dyn Fn(Progress),
    survey: Survey,
    pub(super) interval: Duration,
    progress: Progress,
    reported: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn new(on_progress: &'a dyn Fn(Progress), survey: Survey) -> Self {
        Self {
            on_progress,
            survey,
            interval: PROGRESS_INTERVAL,
            progress: Progress {
                phase: Phase::Hashing,
                files: 0,
                bytes: 0,
                totals: None,
            },
            reported: Instant::now(),
        }
    }

    /// Begins to count for `phase`.
    pub(super) fn begin(&mut self, phase: Phase) {
        self.progress = Progress {
            phase,
            files: 0,
            bytes: 0,
            ..self.progress
        };
        self.report();
    }

    pub(super) fn file(&mut self) {
        self.progress.files += 1;
        self.report_if_due();
    }

    pub(super) fn bytes(&mut self, bytes: u64) {
        self.progress.bytes += bytes;
        self.report_if_due();
    }

    /// Everything is done but `phase`; `totals` are what it came to.
    pub(super) fn end(&mut self, phase: Phase, totals: Totals) {
        self.progress = Progress {
            phase,
            files: totals.files,
            bytes: totals.bytes,
            totals: Some(totals),
        };
        self.report();
    }

    fn report_if_due(&mut self) {
        if self.reported.elapsed() >= self.interval {
            self.report();
        }
    }

    fn report(&mut self) {
        self.reported = Instant::now();
        self.progress.totals = self.progress.totals.or_else(|| self.survey.totals());
        (self.on_progress)(self.progress);
    }
}
