//! What a session has asked its provider for and has not got, by the id it has on the wire.
//!
//! Pure books. They keep a request until its answer ends, so that a cancel can stop a block half-way.
//! One that was taken back before it began has no answer, and stays until the session ends.

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
    by_id: HashMap<u32, Ask>,
    next_id: u32,
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
    pub(super) fn take_back(&self, want: WantId) -> Vec<Request> {
        let of_want = self.by_id.iter().filter(|(_, ask)| ask.want == want);
        of_want
            .map(|(id, _)| Request::Cancel { id: *id, count: 1 })
            .collect()
    }

    /// The request that takes back all that is outstanding; none when nothing is.
    pub(super) fn take_all_back(&self) -> Option<Request> {
        // Those before the number wrapped are answered, or as good as that.
        let id = self.by_id.keys().copied().min()?;
        let count = self.next_id.checked_sub(id).filter(|count| *count > 0)?;
        Some(Request::Cancel { id, count })
    }

    /// What was asked for under an id; none when nothing was.
    pub(super) fn get(&self, id: u32) -> Option<&Ask> {
        self.by_id.get(&id)
    }

    /// The answer has ended. Returns what was asked for under the id; none when nothing was.
    pub(super) fn end(&mut self, id: u32) -> Option<Ask> {
        self.by_id.remove(&id)
    }

    fn next(&mut self, ask: Ask) -> u32 {
        let id = self.next_id;
        self.by_id.insert(id, ask);
        self.next_id = id.wrapping_add(1);
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
        assert_eq!(asked.get(1).map(|it| it.want), Some(WantId(7)));
        let cancel = Request::Cancel { id: 1, count: 1 };
        assert_eq!(asked.take_back(WantId(7)), [cancel]);
        // It is asked for again while the first answer is on its way.
        asked.ask(vec![ask(7, 50)]);
        assert_eq!(asked.take_back(WantId(7)).len(), 2);
        let all = Request::Cancel { id: 0, count: 4 };
        assert_eq!(asked.take_all_back(), Some(all));
        for id in 0..4 {
            assert!(asked.end(id).is_some());
            assert!(asked.get(id).is_none() && asked.end(id).is_none(), "twice");
        }
        assert_eq!(asked.take_back(WantId(7)), []);
        assert_eq!(asked.take_all_back(), None);
    }
}
