//! Whether a fetch goes on, waits or ends.
//!
//! A pure decision over counts and times, made again whenever something may have changed. A fetch
//! ends for want of a provider in three ways:
//!
//! - Every peer that could be asked has said no, and a look-up in the DHT that began afterwards
//!   named nobody else. It ends at once. A peer that cannot be reached has said nothing, and an
//!   empty look-up is no answer of anybody: neither ends a fetch by itself.
//! - It has had no block yet, and no byte for the time-out.
//! - It has had blocks, and no byte for as long as its patience lasts.
//!
//! Only bytes are progress. Times without bytes are counted by a clock that stands still while the
//! process does; see [`RunningTime`](shoal_ground::deadline::RunningTime).

use std::time::Duration;

/// A look-up is final at the earliest this long after a fetch began, where a peer has never had the
/// root as far as it says: the announcement of a share that was made just now may still be on its
/// way. It takes a DHT look-up and one message, together under a second on most lines.
pub(super) const RACE_GRACE: Duration = Duration::from_secs(3);

/// A node that has just started knows no peers to ask for this long; from then on an empty routing
/// table is the whole network that it reaches.
pub(super) const JOIN_GRACE: Duration = Duration::from_secs(5);

/// Where all others have said no, near helpers that are still being asked are waited for this long.
/// A node that has just started meets the first of them in that time.
pub(super) const ASKING_GRACE: Duration = Duration::from_secs(8);

/// A fetch that has had no byte for this long says that it waits.
pub(super) const WAITS_AFTER: Duration = Duration::from_secs(10);

/// How long a fetch does without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Until its first block is verified.
    pub timeout: Duration,
    /// From then on.
    pub patience: Duration,
}

/// What the peers of a fetch have said, in numbers. A peer counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Something may still come of them: they are being asked, are busy, or had it before.
    pub(super) open: usize,
    /// They do not have it.
    pub(super) absent: usize,
    /// They shared it and do not any more.
    pub(super) gone: usize,
    /// They are not asked again, for what they sent.
    pub(super) out: usize,
    /// When the last of these answers came, since the fetch began.
    pub(super) settled: Duration,
}

/// The last look-up in the DHT that has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// When it began, since the fetch did.
    pub(super) began: Duration,
    /// Whether there was anybody to ask.
    pub(super) asked: bool,
}

/// Where a fetch stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// How long it has had no byte, while it waited for peers.
    pub(super) idle: Duration,
    /// Whether a block was verified.
    pub(super) has_begun: bool,
    /// Time since it began.
    pub(super) elapsed: Duration,
    pub(super) standing: Standing,
    pub(super) round: Option<Round>,
    /// Whether near helpers may still name somebody.
    pub(super) asks_near: bool,
}

/// What a fetch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    GoesOn,
    /// It goes on, and says that it waits.
    Waits,
    /// It goes on, and has the DHT asked now: nobody else is left.
    LooksUp,
    Ends(End),
}

/// Why a fetch ends for want of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every peer that could be asked said no.
    Denied,
    /// Nobody gave a block in time.
    NotFound,
    /// Nobody gives more of it.
    NoProgress,
}

impl Case {
    /// Decides.
    pub(super) fn decide(&self, deadlines: &Deadlines) -> Verdict {
        match self.denial() {
            Denial::Final if self.asks_near && self.elapsed < ASKING_GRACE => {}
            Denial::Final => return Verdict::Ends(End::Denied),
            Denial::ToConfirm => return self.by_time(deadlines, Verdict::LooksUp),
            Denial::None => {}
        }
        let waits = self.has_begun && self.idle >= WAITS_AFTER;
        let otherwise = if waits {
            Verdict::Waits
        } else {
            Verdict::GoesOn
        };
        self.by_time(deadlines, otherwise)
    }

    fn by_time(&self, deadlines: &Deadlines, otherwise: Verdict) -> Verdict {
        match self.has_begun {
            true if self.idle >= deadlines.patience => Verdict::Ends(End::NoProgress),
            false if self.idle >= deadlines.timeout => Verdict::Ends(End::NotFound),
            _ => otherwise,
        }
    }

    /// Whether all who could be asked have said no, and the DHT knows nobody else.
    fn denial(&self) -> Denial {
        let standing = &self.standing;
        // A peer that is out has answered, but so may anybody: while nothing came of the fetch it
        // must not keep it from finding an honest one.
        let is_denied = standing.absent + standing.gone > 0 || standing.out > 0 && self.has_begun;
        if standing.open > 0 || !is_denied {
            return Denial::None;
        }
        let all_gone = standing.absent == 0 && standing.out == 0;
        let grace = if all_gone { Duration::ZERO } else { RACE_GRACE };
        let from = standing.settled.max(grace);
        let asked = |round: &Round| round.asked || round.began >= JOIN_GRACE;
        if self.elapsed < from {
            return Denial::None;
        }
        match self
            .round
            .filter(|round| round.began >= from && asked(round))
        {
            Some(_) => Denial::Final,
            None => Denial::ToConfirm,
        }
    }
}

enum Denial {
    None,
    /// A look-up has to show that there is nobody else.
    ToConfirm,
    Final,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        timeout: Duration::from_secs(60),
        patience: Duration::from_secs(900),
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn round(began: u64, asked: bool) -> Option<Round> {
        let began = secs(began);
        Some(Round { began, asked })
    }

    /// Of a fetch that began 30 s ago.
    fn standing(open: usize, absent: usize, gone: usize, out: usize) -> Standing {
        Standing {
            open,
            absent,
            gone,
            out,
            settled: secs(20),
        }
    }

    #[test]
    fn only_an_answer_ends_a_fetch_before_its_time() {
        let check = |counts: [usize; 4], has_begun, round, expected| {
            let [open, absent, gone, out] = counts;
            let case = Case {
                idle: secs(9),
                has_begun,
                elapsed: secs(30),
                standing: standing(open, absent, gone, out),
                round,
                asks_near: true,
            };
            let verdict = case.decide(&DEADLINES);
            assert_eq!(verdict, expected, "{counts:?} {has_begun} {round:?}");
        };
        let denied = Verdict::Ends(End::Denied);
        for has_begun in [false, true] {
            // Nobody said anything: refused dials and empty look-ups are no answers.
            check([0, 0, 0, 0], has_begun, round(21, true), Verdict::GoesOn);
            // One may still come round.
            check([1, 1, 1, 1], has_begun, round(21, true), Verdict::GoesOn);
            for no in [[0, 1, 0, 0], [0, 0, 1, 0], [0, 2, 3, 1]] {
                check(no, has_begun, None, Verdict::LooksUp);
                // The look-up began before the last answer, or there was nobody to ask.
                check(no, has_begun, round(19, true), Verdict::LooksUp);
                check(no, has_begun, round(20, true), denied);
                check(no, has_begun, round(25, true), denied);
                // After so long nobody will turn up in the routing table.
                check(no, has_begun, round(25, false), denied);
            }
        }
        // One that sends rubbish must not end what an honest one could still begin.
        check([0, 0, 0, 1], false, round(21, true), Verdict::GoesOn);
        check([0, 0, 0, 1], true, round(21, true), denied);
        check([1, 0, 0, 1], true, round(21, true), Verdict::GoesOn);
    }

    #[test]
    fn a_share_made_just_now_is_waited_for() {
        let check = |gone: bool, elapsed, began, asked, expected| {
            let case = Case {
                idle: Duration::from_millis(elapsed),
                has_begun: false,
                elapsed: Duration::from_millis(elapsed),
                standing: Standing {
                    absent: usize::from(!gone),
                    gone: usize::from(gone),
                    settled: Duration::from_millis(100),
                    ..Standing::default()
                },
                round: Some(Round {
                    began: Duration::from_millis(began),
                    asked,
                }),
                asks_near: false,
            };
            let verdict = case.decide(&DEADLINES);
            assert_eq!(verdict, expected, "{gone} {elapsed} {began} {asked}");
        };
        let denied = Verdict::Ends(End::Denied);
        // Who does not have it may not have heard of it yet.
        check(false, 500, 200, true, Verdict::GoesOn);
        check(false, 3000, 200, true, Verdict::LooksUp);
        check(false, 3200, 3000, true, denied);
        // Who shared it before knows; a node that just started has to find somebody to ask.
        check(true, 500, 50, true, Verdict::LooksUp);
        check(true, 500, 200, true, denied);
        check(true, 500, 200, false, Verdict::LooksUp);
        check(true, 6000, 5000, false, denied);
    }

    #[test]
    fn near_helpers_that_are_asked_may_know_somebody_else() {
        let check = |asks_near, elapsed, expected| {
            let case = Case {
                idle: secs(elapsed),
                has_begun: false,
                elapsed: secs(elapsed),
                standing: Standing {
                    gone: 1,
                    ..Standing::default()
                },
                round: round(0, true),
                asks_near,
            };
            assert_eq!(case.decide(&DEADLINES), expected, "{asks_near} {elapsed}");
        };
        let denied = Verdict::Ends(End::Denied);
        check(false, 0, denied);
        check(true, 0, Verdict::GoesOn);
        check(true, 7, Verdict::GoesOn);
        check(true, 8, denied);
    }

    #[test]
    fn time_bounds_the_first_block_and_then_patience_does() {
        let check = |has_begun, idle, open, expected| {
            let case = Case {
                idle: secs(idle),
                has_begun,
                elapsed: secs(2000),
                standing: standing(open, 0, 0, 0),
                round: round(1990, true),
                asks_near: false,
            };
            let verdict = case.decide(&DEADLINES);
            assert_eq!(verdict, expected, "{has_begun} {idle} {open}");
        };
        for open in [0, 3] {
            check(false, 59, open, Verdict::GoesOn);
            check(false, 60, open, Verdict::Ends(End::NotFound));
            check(true, 9, open, Verdict::GoesOn);
            check(true, 10, open, Verdict::Waits);
            check(true, 899, open, Verdict::Waits);
            check(true, 900, open, Verdict::Ends(End::NoProgress));
        }
    }

    #[test]
    fn a_look_up_that_never_ends_does_not_hold_a_fetch_for_ever() {
        let case = Case {
            idle: secs(60),
            has_begun: false,
            elapsed: secs(60),
            standing: standing(0, 1, 0, 0),
            round: None,
            asks_near: false,
        };
        assert_eq!(case.decide(&DEADLINES), Verdict::Ends(End::NotFound));
    }
}
