//! The planner's promises, kept in books of their own: an [`Audit`] sees what goes in and out, and
//! says what was broken. Its own tests break every promise once.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What the auditor knows of one want.
#[derive(Clone, Default)]
struct WantBook {
    charge: u64,
    /// Whom it is asked of at present.
    asked_of: BTreeSet<ProviderId>,
    /// Bytes received and not judged yet.
    in_hand: Option<u64>,
    verified: bool,
}

pub(super) struct Audit {
    budget: u64,
    wants: BTreeMap<WantId, WantBook>,
    present: BTreeSet<ProviderId>,
    barred: BTreeSet<ProviderId>,
    /// What must not be asked: said to be missing, or not held.
    lacking: BTreeSet<(ProviderId, WantId)>,
}

type Verdict = Result<(), String>;

fn ensure(kept: bool, broken: impl FnOnce() -> String) -> Verdict {
    if kept { Ok(()) } else { Err(broken()) }
}

impl Audit {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            wants: BTreeMap::new(),
            present: BTreeSet::new(),
            barred: BTreeSet::new(),
            lacking: BTreeSet::new(),
        }
    }

    pub(super) fn wanted(&mut self, id: WantId, charge: u32) {
        let charge = u64::from(charge);
        self.wants.insert(
            id,
            WantBook {
                charge,
                ..WantBook::default()
            },
        );
    }

    pub(super) fn joined(&mut self, id: ProviderId) -> Verdict {
        ensure(!self.barred.contains(&id), || {
            format!("{id:?} let in again")
        })?;
        self.present.insert(id);
        Ok(())
    }

    /// A provider is out: nothing is asked of it any more.
    pub(super) fn left(&mut self, id: ProviderId) {
        self.present.remove(&id);
        self.lacking.retain(|(provider, _)| *provider != id);
        for book in self.wants.values_mut() {
            book.asked_of.remove(&id);
        }
    }

    pub(super) fn lacks(&mut self, provider: ProviderId, want: WantId) {
        self.lacking.insert((provider, want));
    }

    pub(super) fn missing(&mut self, provider: ProviderId, want: WantId) {
        self.lacks(provider, want);
        if let Some(book) = self.wants.get_mut(&want) {
            book.asked_of.remove(&provider);
        }
    }

    pub(super) fn arrived(
        &mut self,
        from: ProviderId,
        id: WantId,
        bytes: u32,
        arrival: Arrival,
    ) -> Verdict {
        let Some(book) = self.wants.get_mut(&id) else {
            return ensure(arrival != Arrival::Wanted, || {
                format!("{id:?} never wanted")
            });
        };
        let was_asked = book.asked_of.remove(&from);
        let due = was_asked && book.in_hand.is_none() && !book.verified;
        ensure(due == (arrival == Arrival::Wanted), || {
            format!("{id:?}: {arrival:?}")
        })?;
        ensure(!was_asked || arrival != Arrival::Unasked, || {
            format!("{id:?} was asked")
        })?;
        if due {
            book.in_hand = Some(u64::from(bytes));
        }
        Ok(())
    }

    pub(super) fn verified(&mut self, id: WantId) {
        if let Some(book) = self.wants.get_mut(&id) {
            book.verified = true;
            book.in_hand = None;
        }
    }

    pub(super) fn bad(&mut self, from: ProviderId, id: WantId) {
        self.barred.insert(from);
        self.left(from);
        if let Some(book) = self.wants.get_mut(&id) {
            book.in_hand = None;
        }
    }

    pub(super) fn acted(&mut self, action: &Action) -> Verdict {
        match action {
            Action::Want { provider, wants } => {
                let fits = (1..=WANTS_PER_MESSAGE_MAX).contains(&wants.len());
                ensure(fits, || format!("{} wants in one message", wants.len()))?;
                ensure(self.present.contains(provider), || {
                    format!("{provider:?} is out")
                })?;
                wants.iter().try_for_each(|id| self.asked(*provider, *id))
            }
            Action::Cancel { provider, want } => {
                let Some(book) = self.wants.get_mut(want) else {
                    return Err(format!("{want:?} cancelled, never wanted"));
                };
                let was_asked = book.asked_of.remove(provider);
                ensure(was_asked, || {
                    format!("{want:?} cancelled, not asked of {provider:?}")
                })
            }
            Action::Drop { provider, blame } => {
                if blame.bars() {
                    self.barred.insert(*provider);
                }
                self.left(*provider);
                Ok(())
            }
        }
    }

    fn asked(&mut self, provider: ProviderId, id: WantId) -> Verdict {
        let lacks = self.lacking.contains(&(provider, id));
        ensure(!lacks, || format!("{provider:?} lacks {id:?}"))?;
        let Some(book) = self.wants.get_mut(&id) else {
            return Err(format!("{id:?} asked, never wanted"));
        };
        ensure(!book.verified && book.in_hand.is_none(), || {
            format!("{id:?} is here")
        })?;
        ensure(book.asked_of.insert(provider), || {
            format!("{id:?} asked twice")
        })
    }

    /// What has to hold between two steps.
    pub(super) fn check(&self, planner: &Planner) -> Verdict {
        let mut held = 0;
        let mut units = 0;
        for (id, book) in &self.wants {
            ensure(book.asked_of.len() <= 2, || {
                format!("{id:?} asked of three")
            })?;
            held += book.charge * book.asked_of.len() as u64 + book.in_hand.unwrap_or(0);
            units += book.asked_of.len() + usize::from(book.in_hand.is_some());
        }
        ensure(held <= self.budget || units <= 1, || {
            format!("{held} bytes held of {}", self.budget)
        })?;
        let open = self.wants.values().filter(|book| !book.verified).count();
        let status = planner.status();
        let known = status.queued + status.in_flight + status.verifying;
        ensure(known == open, || {
            format!("{known} wants are left of {open}")
        })?;
        ensure(status.held_bytes == held, || {
            format!("held {held}, in the planner's books {}", status.held_bytes)
        })
    }

    pub(super) fn all_verified(&self) -> bool {
        self.wants.values().all(|book| book.verified)
    }
}

mod tests {
    use super::*;

    /// A want that is asked of A, in a world with B; then something happens.
    fn check(happens: impl FnOnce(&mut Audit, &mut Planner) -> Verdict, kept: bool) {
        let mut audit = Audit::new(2 << 20);
        let mut planner = with(&[A, B]);
        planner.set_availability(B, Holdings::Nothing);
        for id in [A, B] {
            audit.joined(id).unwrap();
        }
        want(&mut planner, 0..1, MIB);
        audit.wanted(WantId(0), MIB);
        audit.wanted(WantId(1), MIB);
        assert!(planner.add_want(WantId(1), MIB, Part::Node));
        planner.budget(1 << 20);
        for action in planner.poll(ms(0)) {
            audit.acted(&action).unwrap();
        }
        audit.check(&planner).unwrap();
        let verdict = happens(&mut audit, &mut planner).and_then(|()| audit.check(&planner));
        assert_eq!(verdict.is_ok(), kept, "{verdict:?}");
    }

    fn ask(provider: ProviderId, ids: &[u64]) -> Action {
        let wants = ids.iter().map(|id| WantId(*id)).collect();
        Action::Want { provider, wants }
    }

    #[test]
    fn the_auditor_sees_every_broken_promise() {
        check(|_, _| Ok(()), true);
        check(|audit, _| audit.acted(&ask(A, &[])), false);
        check(|audit, _| audit.acted(&ask(A, &[0])), false); // asked already
        check(|audit, _| audit.acted(&ask(A, &[9])), false); // never wanted
        check(|audit, _| audit.acted(&ask(B, &[0, 1])), false); // over budget
        check(|audit, _| audit.acted(&ask(ProviderId(7), &[1])), false); // a stranger
        check(
            |audit, _| {
                audit.missing(B, WantId(1));
                audit.acted(&ask(B, &[1]))
            },
            false,
        );
        check(
            |audit, planner| {
                planner.block_bad(A, WantId(0), ms(1));
                audit.bad(A, WantId(0));
                audit.joined(A)
            },
            false,
        );
        check(
            |audit, _| audit.arrived(A, WantId(0), MIB, Arrival::Late),
            false,
        );
        check(
            |audit, _| audit.arrived(A, WantId(0), MIB, Arrival::Unasked),
            false,
        );
        check(
            |audit, _| audit.arrived(B, WantId(0), MIB, Arrival::Wanted),
            false,
        );
        let cancel = Action::Cancel {
            provider: B,
            want: WantId(0),
        };
        check(|audit, _| audit.acted(&cancel), false);
        check(
            |_, planner| {
                planner.cancel_want(WantId(1)); // a want is lost
                Ok(())
            },
            false,
        );
    }
}
