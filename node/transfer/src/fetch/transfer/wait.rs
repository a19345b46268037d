//! Waiting for peers: for how long, for whom, and until when.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use shoal_ground::deadline::RunningTime;
use shoal_protocol::{
    exchange::{Missing, pace},
    planner::{Progress, ProviderId},
};

use super::{
    super::{
        FetchError,
        answer::Answer,
        verdict::{Case, End, Round, Verdict},
    },
    TICK_MAX, Transfer,
};

/// What is shorter is no waiting: a decision looks at all contacts and wants, and is not made for
/// every block.
const IDLE_MIN: Duration = Duration::from_millis(100);

/// What a transfer knows about its waiting.
pub(super) struct Wait {
    began: Instant,
    /// The clock of the transfer and its planner, which stands still while this process does: what
    /// came in meanwhile is looked at before a deadline is over.
    clock: RunningTime,
    /// When the last byte came, by the clock.
    moved: Duration,
    /// Bytes of unfinished blocks that came since.
    grown: u64,
    /// Whether a block was verified.
    has_begun: bool,
    /// Bytes that were here or came, DAG nodes among them, when that was last looked at.
    bytes: u64,
    round: Option<Round>,
    /// Whether near helpers may still name somebody.
    asks_near: bool,
    /// What providers whose session runs said of blocks that they do not have.
    lacking: HashMap<ProviderId, Missing>,
}

impl Wait {
    pub(super) fn new(asks_near: bool) -> Self {
        Self {
            began: Instant::now(),
            clock: RunningTime::start(TICK_MAX),
            moved: Duration::ZERO,
            grown: 0,
            has_begun: false,
            bytes: 0,
            round: None,
            asks_near,
            lacking: HashMap::new(),
        }
    }

    /// Time since the transfer began, in which this process ran.
    pub(super) fn running(&self) -> Duration {
        self.clock.now()
    }

    /// The transfer waits for peers from now on.
    pub(super) fn begins(&mut self) {
        self.clock.go_on();
        self.moved(self.clock.now());
    }

    fn moved(&mut self, now: Duration) {
        (self.moved, self.grown) = (now, 0);
    }

    /// Bytes of an unfinished block came. They are progress where they come as fast as on the
    /// slowest line: who drips must not keep a fetch waiting.
    pub(super) fn grew(&mut self, bytes: u32) {
        let now = self.clock.now();
        self.grown = self.grown.saturating_add(bytes.into());
        if self.grown >= pace::bytes_in(now.saturating_sub(self.moved)) {
            self.moved(now);
        }
    }

    /// Bytes that came are what they claim to be.
    pub(super) fn block_verified(&mut self) {
        self.moved(self.clock.now());
        self.has_begun = true;
    }

    /// A round of look-ups has come to its end.
    pub(super) fn round_ended(&mut self, began: Instant, asked: bool) {
        let began = began.saturating_duration_since(self.began);
        self.round = Some(Round { began, asked });
    }

    /// The near helpers that were to be asked have answered.
    pub(super) fn near_asked(&mut self) {
        self.asks_near = false;
    }

    /// A provider does not have a block that it was asked for.
    pub(super) fn lacks(&mut self, provider: ProviderId, why: Missing) {
        self.lacking.insert(provider, why);
    }

    /// The session of a provider is over.
    pub(super) fn left(&mut self, provider: ProviderId) {
        self.lacking.remove(&provider);
    }
}

impl Transfer {
    /// Ends the fetch if it is to end, and sees to it that it does not wait for nothing.
    pub(super) fn check_wait(&mut self) -> Result<(), FetchError> {
        if let Some(spent) = self.setup.limits.spent() {
            return Err(spent.into());
        }
        let now = self.wait.running();
        let snapshot = self.setup.progress.snapshot();
        // What is copied on this disk is got, too.
        let bytes = snapshot.verified().saturating_add(snapshot.dag);
        if bytes != self.wait.bytes || self.wants.is_empty() {
            self.wait.bytes = bytes;
            self.wait.moved(now);
        }
        let idle = now.saturating_sub(self.wait.moved);
        if idle < IDLE_MIN {
            self.setup.progress.waits(None);
            return Ok(());
        }
        // A disk that takes its time with what has come is not a peer that is late.
        if self.wants.values().all(|want| want.landing) {
            self.wait.moved(now);
            return Ok(());
        }
        self.drop_those_without();
        let case = Case {
            idle,
            has_begun: self.wait.has_begun,
            elapsed: self.wait.began.elapsed(),
            standing: self.setup.contacts.standing(),
            round: self.wait.round,
            asks_near: self.wait.asks_near,
        };
        let verdict = case.decide(&self.setup.deadlines);
        let waits = verdict == Verdict::Waits;
        self.setup.progress.waits(waits.then_some(idle));
        match verdict {
            Verdict::GoesOn | Verdict::Waits => Ok(()),
            Verdict::LooksUp => {
                self.setup.hurry.notify_waiters();
                Ok(())
            }
            Verdict::Ends(end) => Err(self.ended_for(end)),
        }
    }

    /// Asks those anew who said that they have everything, and lack all that is left: they may have
    /// more to say now.
    fn drop_those_without(&mut self) {
        if self.wait.lacking.is_empty()
            || !matches!(self.planner.status().progress, Progress::Stalled { .. })
        {
            return;
        }
        let lacking = std::mem::take(&mut self.wait.lacking);
        for (provider, why) in lacking {
            self.drop_session(provider, Answer::Lacks(why));
        }
    }

    fn ended_for(&self, end: End) -> FetchError {
        let (root, asked) = (self.setup.root.clone(), self.setup.contacts.asked());
        let deadlines = self.setup.deadlines;
        match end {
            End::Denied => FetchError::Denied {
                root,
                asked,
                has_begun: self.wait.has_begun,
            },
            End::NotFound => FetchError::NotFound {
                root,
                timeout: deadlines.timeout,
                asked,
                was_alone: self.wait.round.is_none_or(|round| !round.asked),
            },
            End::NoProgress => FetchError::NoProgress {
                patience: deadlines.patience,
                asked,
            },
        }
    }
}
