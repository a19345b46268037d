//! What a session has asked its provider for and has not got, by the id it has on the wire.
//!
//! Pure books. They keep a request until its answer ends, so that a cancel can stop a block half-way.
//! One that was taken back before it began has no answer. A provider takes up requests in their order
//! and writes one answer at a time: once it answers what was asked after a request was taken back,
//! it does not answer that one any more, and the books forget it.

use std::{collections::HashMap, num::NonZeroU32};

use shoal_protocol::{
    address::Digest,
    exchange::{Request, WANTS_PER_MESSAGE_MAX, Wants},
    planner::WantId,
};

use super::assembly::Slot;

/// A want as the session sees it: what to ask for, under which name to report it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) want: WantId,
    pub(super) digest: Digest,
    /// The exact length when a parent block states it, the general cap otherwise.
    pub(super) bytes_max: u32,
    /// Where the answer goes.
    pub(super) slot: Slot,
    /// How many bytes of the block are there already.
    pub(super) offset: u32,
}

/// The books of one session.
#[derive(Default)]
pub(super) struct Asked {
    by_id: HashMap<u32, Entry>,
    next_id: u32,
    /// How many requests were made: ids begin anew, this does not.
    made: u64,
}

/// A request in the books.
struct Entry {
    ask: Ask,
    /// How many requests were made before it.
    made_before: u64,
    /// How many requests were made before it was taken back, if it was.
    taken_back: Option<u64>,
}

impl Asked {
    /// The requests that ask for these blocks. They are outstanding from now on.
    pub(super) fn ask(&mut self, asks: Vec<Ask>) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut wholes = Vec::new();
        for ask in asks {
            match NonZeroU32::new(ask.offset) {
                Some(offset) => requests.push(self.rest(ask, offset)),
                None => wholes.push(ask),
            }
        }
        for asks in wholes.chunks(WANTS_PER_MESSAGE_MAX) {
            requests.push(self.wants(asks));
        }
        requests
    }

    /// The requests that take back what was asked for a want, begun or not.
    pub(super) fn take_back(&mut self, want: WantId) -> Vec<Request> {
        let of_want = self.by_id.iter_mut().filter(|(_, it)| it.ask.want == want);
        of_want
            .map(|(id, entry)| {
                entry.taken_back.get_or_insert(self.made);
                Request::Cancel { id: *id, count: 1 }
            })
            .collect()
    }

    /// The request that takes back all that is outstanding; none when nothing is.
    pub(super) fn take_all_back(&self) -> Option<Request> {
        // Those before the number wrapped are answered, or as good as that.
        let id = self.by_id.keys().copied().min()?;
        let count = self.next_id.checked_sub(id).filter(|count| *count > 0)?;
        Some(Request::Cancel { id, count })
    }

    /// The answer to a request begins. Returns what was asked for under the id; none when nothing was.
    pub(super) fn begin(&mut self, id: u32) -> Option<Ask> {
        let entry = self.by_id.get(&id)?;
        let (ask, made_before) = (entry.ask.clone(), entry.made_before);
        // What this one was asked after is not answered any more.
        self.by_id.retain(|other, it| {
            *other == id || it.taken_back.is_none_or(|made| made > made_before)
        });
        Some(ask)
    }

    /// The answer has ended. Returns what was asked for under the id; none when nothing was.
    pub(super) fn end(&mut self, id: u32) -> Option<Ask> {
        self.begin(id)?;
        self.by_id.remove(&id).map(|it| it.ask)
    }

    fn next(&mut self, ask: Ask) -> u32 {
        let id = self.next_id;
        let entry = Entry {
            ask,
            made_before: self.made,
            taken_back: None,
        };
        self.by_id.insert(id, entry);
        self.next_id = id.wrapping_add(1);
        self.made = self.made.saturating_add(1);
        id
    }

    fn rest(&mut self, ask: Ask, offset: NonZeroU32) -> Request {
        let block = ask.digest;
        Request::Rest {
            id: self.next(ask),
            block,
            offset,
        }
    }

    fn wants(&mut self, asks: &[Ask]) -> Request {
        let id = self.next_id;
        for ask in asks {
            self.next(ask.clone());
        }
        Request::Want {
            id,
            blocks: Wants::first_of(asks.iter().map(|ask| ask.digest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::address::HashFn;

    use super::*;

    fn ask(want: u32, offset: u32) -> Ask {
        Ask {
            want: WantId(want.into()),
            digest: Digest::of(HashFn::Blake3, &want.to_be_bytes()),
            bytes_max: 1 << 20,
            slot: Slot::with(None),
            offset,
        }
    }

    #[test]
    fn a_block_can_be_taken_back_until_its_answer_has_ended() {
        let mut asked = Asked::default();
        let requests = asked.ask(vec![ask(7, 0), ask(8, 100), ask(9, 0)]);
        let [Request::Rest { id: rest, .. }, Request::Want { id, blocks }] = &requests[..] else {
            panic!("{requests:?}");
        };
        assert_eq!((*rest, *id, blocks.iter().count()), (0, 1, 2));
        // Its head has come.
        assert_eq!(asked.begin(1).map(|it| it.want), Some(WantId(7)));
        let cancel = Request::Cancel { id: 1, count: 1 };
        assert_eq!(asked.take_back(WantId(7)), [cancel]);
        // It is asked for again while the first answer is on its way.
        asked.ask(vec![ask(7, 50)]);
        assert_eq!(asked.take_back(WantId(7)).len(), 2);
        let all = Request::Cancel { id: 0, count: 4 };
        assert_eq!(asked.take_all_back(), Some(all));
        for id in 0..4 {
            assert!(asked.end(id).is_some());
            assert!(
                asked.begin(id).is_none() && asked.end(id).is_none(),
                "twice"
            );
        }
        assert_eq!(asked.take_back(WantId(7)), []);
        assert_eq!(asked.take_all_back(), None);
    }
    #[test]
    fn what_was_taken_back_is_forgotten_once_a_later_request_is_answered() {
        let mut asked = Asked {
            // Close to where ids begin anew.
            next_id: u32::MAX - 1,
            ..Asked::default()
        };
        asked.ask(vec![ask(1, 0), ask(2, 0), ask(3, 0)]);
        let (first, second, third) = (u32::MAX - 1, u32::MAX, 0);
        let cancel = |id| Request::Cancel { id, count: 1 };
        assert_eq!(asked.take_back(WantId(1)), [cancel(first)]);
        assert_eq!(asked.take_back(WantId(2)), [cancel(second)]);
        asked.ask(vec![ask(4, 0)]);
        assert_eq!(asked.take_back(WantId(3)), [cancel(third)]);
        // It had begun before it was taken back: that says nothing of the others.
        assert!(asked.begin(second).is_some());
        assert_eq!(asked.by_id.len(), 4);
        asked.end(second);
        // What was asked before another was taken back says nothing of that one.
        assert_eq!(asked.end(1).map(|it| it.want), Some(WantId(4)));
        assert!(!asked.by_id.contains_key(&first) && asked.by_id.contains_key(&third));
        asked.ask(vec![ask(5, 0)]);
        assert!(asked.end(2).is_some());
        assert!(asked.by_id.is_empty());
    }
}
