//! The record of a run while it is written, and what a person sees of it meanwhile.

use std::time::Duration;

use super::{Live, RunNews};
use crate::{
    Error,
    run::{
        driver::Counters,
        record::{Change, Fetch, Happening, Helped, Lookup, Outcome, Record, Sample},
        script::{Action, Script, ScriptStep},
    },
};
use parking_lot::{Mutex, MutexGuard};

/// The record of a run while it is written.
pub(super) struct Ledger<'a> {
    script: &'a Script,
    tell: &'a (dyn Fn(RunNews<'_>) + Sync),
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    record: Record,
    sent: Vec<Sent>,
    /// Bytes that have landed of each fetch.
    landed: Vec<u64>,
    live: Live,
}

/// What a node has sent, and done for others: the counters of a process begin at zero.
#[derive(Clone, Copy, Default)]
struct Sent {
    life: u32,
    before: u64,
    now: u64,
    helped_before: Helped,
    helped: Helped,
}

impl Sent {
    fn in_all(&self) -> u64 {
        self.before + self.now
    }

    fn helped_in_all(&self) -> Helped {
        Helped {
            pulls: self.helped_before.pulls + self.helped.pulls,
            offers: self.helped_before.offers + self.helped.offers,
            asks: self.helped_before.asks + self.helped.asks,
            pulled: self.helped_before.pulled + self.helped.pulled,
            ..self.helped
        }
    }
}

impl<'a> Ledger<'a> {
    pub(super) fn new(
        script: &'a Script,
        nodes: usize,
        memory_before: Option<u64>,
        tell: &'a (dyn Fn(RunNews<'_>) + Sync),
    ) -> Self {
        let is_fetch = |step: &&ScriptStep| matches!(step.action, Action::Fetch { .. });
        let books = Books {
            record: Record {
                memory_before,
                ..Record::default()
            },
            sent: vec![Sent::default(); nodes],
            landed: Vec::new(),
            live: Live {
                nodes,
                up: nodes,
                fetches: script.steps.iter().filter(is_fetch).count(),
                ..Live::default()
            },
        };
        Self {
            script,
            tell,
            books: Mutex::new(books),
        }
    }

    /// The record, when nothing is added any more.
    pub(super) fn close(self, elapsed: Duration, cut_off: bool) -> Record {
        let mut record = self.books.into_inner().record;
        record.elapsed = elapsed;
        record.cut_off = cut_off;
        record
    }

    pub(super) fn happened(
        &self,
        step: &ScriptStep,
        node: Option<usize>,
        done: Duration,
        error: Option<Error>,
    ) {
        let happening = Happening {
            planned: step.at,
            done,
            what: self.script.describe(&step.action),
            node,
            error: error.map(|error| error.to_string()),
        };
        (self.tell)(RunNews::Happened(&happening));
        self.books().record.happenings.push(happening);
    }

    pub(super) fn changed(&self, at: Duration, node: usize, up: bool) {
        let mut books = self.books();
        books.record.changes.push(Change { at, node, up });
        match up {
            true => books.live.up += 1,
            false => books.live.up -= 1,
        }
    }

    /// The number of a fetch that begins.
    pub(super) fn fetch_begins(&self, node: usize, item: usize, began: Duration) -> usize {
        let mut books = self.books();
        books.live.fetching += 1;
        books.landed.push(0);
        books.record.fetches.push(Fetch {
            node,
            item,
            began,
            done: None,
            outcome: Outcome::Unfinished,
            from: Vec::new(),
        });
        books.record.fetches.len() - 1
    }

    /// How many bytes of a fetch have landed.
    pub(super) fn landed(&self, fetch: usize, bytes: u64) {
        let mut books = self.books();
        let before = std::mem::replace(&mut books.landed[fetch], bytes);
        books.live.bytes = (books.live.bytes + bytes).saturating_sub(before);
    }

    pub(super) fn fetched_from(&self, fetch: usize, from: Vec<(Option<usize>, u64)>) {
        let item = self.books().record.fetches[fetch].item;
        self.landed(fetch, self.script.items[item].bytes);
        self.books().record.fetches[fetch].from = from;
    }

    pub(super) fn fetch_ends(&self, fetch: usize, at: Duration, outcome: Outcome) {
        let mut books = self.books();
        books.live.fetching -= 1;
        let entry = &mut books.record.fetches[fetch];
        let (is_done, is_failed) = match outcome {
            Outcome::Landed(_) => (true, false),
            Outcome::Failed(_) => (false, true),
            _ => (false, false),
        };
        entry.done = is_done.then_some(at);
        entry.outcome = outcome;
        books.live.fetched += usize::from(is_done);
        books.live.failed += usize::from(is_failed);
    }

    pub(super) fn looked_up(&self, lookup: Lookup) {
        let mut books = self.books();
        books.live.lookups += 1;
        books.record.lookups.push(lookup);
    }

    /// What a node has counted in one of its lives.
    pub(super) fn counted(&self, node: usize, life: u32, counters: Counters) {
        let mut books = self.books();
        let sent = &mut books.sent[node];
        if sent.life != life {
            sent.before = sent.in_all();
            sent.helped_before = sent.helped_in_all();
            sent.life = life;
        }
        sent.now = counters.uploaded;
        sent.helped = counters.helped;
    }

    pub(super) fn sample(&self, at: Duration, up: usize, memory: Option<u64>) {
        let mut books = self.books();
        let sent: Vec<u64> = books.sent.iter().map(Sent::in_all).collect();
        let helped = books.sent.iter().map(Sent::helped_in_all).collect();
        let is_owner = |node: &usize| self.script.items.iter().any(|item| item.owner == *node);
        let of = |owners: bool| {
            let sent = sent.iter().enumerate();
            let sent = sent.filter(|(node, _)| is_owner(node) == owners);
            sent.map(|(_, bytes)| bytes).sum()
        };
        books.live.elapsed = at;
        (books.live.sent_by_owners, books.live.sent_by_others) = (of(true), of(false));
        let fetching = books.live.fetching;
        books.record.samples.push(Sample {
            at,
            up,
            fetching,
            sent,
            memory,
            helped,
        });
        (self.tell)(RunNews::Live(&books.live));
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every entry is whole when the lock is given back.
        self.books.lock()
    }
}
