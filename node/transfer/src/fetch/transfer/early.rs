//! The root's node, asked for together with the question who has it: a round trip less until the
//! first byte.
//!
//! One peer is asked so, the first that was reached, and once. Until it answers, the want is not
//! among the planner's: that would take an answer which comes along with the first status for a
//! round trip of no time. When the answer takes long, or does not come, the want is the planner's
//! again.

use std::time::{Duration, Instant};

use shoal_protocol::planner::{Part, WantId};

use super::{
    super::session::{Received, Source},
    NODE_BYTES_HINT, Transfer,
};

/// How long the planner leaves the want alone: the answer takes two round trips at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// The want that was asked for early.
pub(super) struct Early {
    source: Source,
    want: WantId,
    asked: Instant,
    /// The planner has it again; what still comes is taken all the same.
    is_given_up: bool,
}

impl Transfer {
    /// Asks early, if this is the moment for it; gives it up, if that was too long ago.
    pub(super) fn tend_early(&mut self) {
        match &self.early {
            Some(early) if !early.is_given_up && early.asked.elapsed() >= PATIENCE => {
                self.give_early_up();
            }
            Some(_) => {}
            None => self.ask_early(),
        }
    }

    fn ask_early(&mut self) {
        let mut sessions = self.sessions.iter();
        let (Some((provider, session)), None) = (sessions.next(), sessions.next()) else {
            return;
        };
        let root = self.setup.root.digest();
        let Some(id) = root.and_then(|it| self.by_digest.get(&it).copied()) else {
            return;
        };
        let Some(want) = self.wants.get(&id).filter(|want| !want.landing) else {
            return;
        };
        if !session.is_unheard() || want.is_content {
            return;
        }
        let source = Source {
            provider: *provider,
            serial: session.serial(),
        };
        let provider = source.provider;
        self.early = Some(Early {
            source,
            want: id,
            asked: Instant::now(),
            is_given_up: false,
        });
        if self.ask(provider, &[id]) {
            self.planner.cancel_want(id);
        } else {
            self.give_early_up();
        }
    }

    /// Whether this is the answer to what was asked early, and still waited for.
    pub(super) fn is_early(&mut self, source: Source, received: &Received) -> Option<bool> {
        let early = self.early.as_ref()?;
        if (early.source, early.want) != (source, received.want) {
            return None;
        }
        let Some(want) = self.wants.get_mut(&received.want) else {
            return Some(false);
        };
        let is_awaited = !std::mem::replace(&mut want.landing, true);
        if is_awaited {
            self.planner.cancel_want(received.want);
        }
        Some(is_awaited)
    }

    /// Whether this says that what was asked early cannot be had there; it is asked again as
    /// everything is.
    pub(super) fn early_is_missing(&mut self, source: Source, want: WantId) -> bool {
        let is_early = |early: &Early| (early.source, early.want) == (source, want);
        let is_missing = self.early.as_ref().is_some_and(is_early);
        if is_missing {
            self.give_early_up();
        }
        is_missing
    }

    /// Has the planner ask for it, because `source` does not answer any more.
    pub(super) fn early_failed(&mut self, source: Source) {
        if self.early.as_ref().map(|early| early.source) == Some(source) {
            self.give_early_up();
        }
    }

    /// Has the planner ask for it, unless it is here by now.
    fn give_early_up(&mut self) {
        let Some(early) = &mut self.early else {
            return;
        };
        early.is_given_up = true;
        let (provider, want) = (early.source.provider, early.want);
        self.take_back(provider, want);
        if self.wants.get(&want).is_some_and(|want| !want.landing) {
            // False where the planner has it already. There is room: without the root's node
            // nothing else is known to be needed.
            let _ = self.planner.add_want(want, NODE_BYTES_HINT, Part::Node);
        }
    }

    /// The bytes were wrong: others are to be asked.
    pub(super) fn early_was_bad(&mut self, want: WantId) {
        if self.early.as_ref().is_some_and(|early| early.want == want) {
            self.give_early_up();
        }
    }
}
