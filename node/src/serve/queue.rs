//! What a client has asked for on one stream, from the request until it is answered.
//!
//! Pure books: ids, digests and offsets. A want is queued, in hand (being read or waiting for the
//! writer) or being written; a cancel takes it out wherever it is.

use std::collections::{HashSet, VecDeque};

use shoal_protocol::{
    address::Digest,
    exchange::{Missing, WANTS_OUTSTANDING_MAX},
};

use super::worker::Ended;

/// Blocks read by one blocking job; small ones come together, a full chunk comes alone.
const BLOCKS_PER_READ_MAX: usize = 64;

/// One block that a client asked for, or the rest of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) id: u32,
    pub(super) digest: Digest,
    /// How many bytes of the block the client has.
    offset: u32,
}

impl Want {
    /// What is to be sent of the block.
    ///
    /// # Errors
    /// [`Missing::Beyond`] where nothing follows the offset.
    pub(super) fn rest_of<'a>(&self, block: &'a [u8]) -> Result<&'a [u8], Missing> {
        match block.get(self.offset as usize..) {
            Some(rest) if self.offset == 0 || !rest.is_empty() => Ok(rest),
            _ => Err(Missing::Beyond),
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    wants: VecDeque<Want>,
    /// Wants taken from the queue that are to be answered yet: at most three batches.
    in_hand: HashSet<u32>,
    /// The one that is being written.
    writing: Option<u32>,
    closed: bool,
}

impl Queue {
    /// Adds wants, which have consecutive ids from `id` on.
    pub(super) fn push(&mut self, id: u32, blocks: &[Digest]) -> Result<(), Ended> {
        self.check_room(blocks.len())?;
        // Ids may end at the greatest one, behind which an unchecked range would panic.
        let ids = (0..).map(|index| id.wrapping_add(index));
        self.wants
            .extend(blocks.iter().zip(ids).map(|(digest, id)| Want {
                id,
                digest: *digest,
                offset: 0,
            }));
        Ok(())
    }

    /// Adds a want for what follows `offset` bytes of a block.
    pub(super) fn push_rest(&mut self, id: u32, digest: Digest, offset: u32) -> Result<(), Ended> {
        self.check_room(1)?;
        self.wants.push_back(Want { id, digest, offset });
        Ok(())
    }

    fn check_room(&self, more: usize) -> Result<(), Ended> {
        match self.wants.len() + more <= WANTS_OUTSTANDING_MAX {
            true => Ok(()),
            false => Err(Ended::Protocol("too many wants are outstanding".into())),
        }
    }

    /// Takes out what is left of `count` wants from `id` on.
    pub(super) fn cancel(&mut self, id: u32, count: u32) {
        let stays = |other: u32| other.wrapping_sub(id) >= count;
        self.wants.retain(|queued| stays(queued.id));
        self.in_hand.retain(|taken| stays(*taken));
        self.writing = self.writing.filter(|written| stays(*written));
    }

    /// The wants that are to be read next; none when nothing waits.
    pub(super) fn take(&mut self) -> Vec<Want> {
        let count = self.wants.len().min(BLOCKS_PER_READ_MAX);
        let taken: Vec<_> = self.wants.drain(..count).collect();
        self.in_hand.extend(taken.iter().map(|want| want.id));
        taken
    }

    /// Gives back, in front, what was taken and not read.
    pub(super) fn put_back(&mut self, wants: Vec<Want>) {
        for want in wants.into_iter().rev() {
            if self.in_hand.remove(&want.id) {
                self.wants.push_front(want);
            }
        }
    }

    /// A want is answered now; false when that was cancelled meanwhile.
    pub(super) fn begin(&mut self, id: u32) -> bool {
        let is_wanted = self.in_hand.remove(&id);
        self.writing = is_wanted.then_some(id);
        is_wanted
    }

    /// Whether the want that is being written is still wanted.
    pub(super) fn goes_on(&self, id: u32) -> bool {
        self.writing == Some(id)
    }

    /// The answer is written.
    pub(super) fn finish(&mut self, id: u32) {
        self.writing.take_if(|written| *written == id);
    }

    /// Whether there is something to be answered yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.wants.is_empty() || !self.in_hand.is_empty() || self.writing.is_some()
    }

    /// Nothing more is asked.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::address::HashFn;

    use super::*;

    fn digests(count: u32) -> Vec<Digest> {
        let of = |it: u32| Digest::of(HashFn::Blake3, &it.to_be_bytes());
        (0..count).map(of).collect()
    }

    fn ids(wants: impl IntoIterator<Item = Want>) -> Vec<u32> {
        wants.into_iter().map(|want| want.id).collect()
    }

    #[test]
    fn wants_may_have_the_greatest_ids() {
        let mut queue = Queue::default();
        let blocks = digests(2);
        queue.push(u32::MAX, &blocks[..1]).unwrap();
        queue.push(u32::MAX - 1, &blocks).unwrap();
        assert_eq!(
            ids(queue.wants.iter().copied()),
            [u32::MAX, u32::MAX - 1, u32::MAX]
        );
        queue.cancel(u32::MAX, 1);
        assert_eq!(queue.wants.len(), 1);
    }

    #[test]
    fn wants_are_counted_until_they_are_answered() {
        let mut queue = Queue::default();
        let blocks = digests(3);
        queue.push(7, &blocks).unwrap();
        let mut taken = queue.take();
        assert!(queue.wants.is_empty() && queue.is_busy());
        let rest = taken.split_off(1);
        queue.put_back(rest);
        assert!(queue.begin(7) && !queue.begin(7) && !queue.begin(8));
        assert_eq!(ids(queue.take()), [8, 9]);
        queue.cancel(9, 1);
        assert!(
            queue.begin(8) && !queue.begin(9),
            "9 is not wanted any more"
        );
        assert!(!queue.is_busy());
        let many = digests(4096);
        queue.push(0, &many).unwrap();
        assert!(queue.push(0, &blocks).is_err());
        assert!(queue.push_rest(0, blocks[0], 1).is_err());
    }

    #[test]
    fn what_is_being_written_can_be_cancelled() {
        let mut queue = Queue::default();
        queue.push(3, &digests(2)).unwrap();
        let _ = queue.take();
        assert!(queue.begin(3) && queue.goes_on(3) && queue.is_busy());
        queue.cancel(4, 1);
        assert!(queue.goes_on(3));
        queue.cancel(0, u32::MAX);
        assert!(!queue.goes_on(3) && !queue.is_busy());
        queue.push(5, &digests(1)).unwrap();
        let _ = queue.take();
        assert!(queue.begin(5));
        queue.finish(3);
        assert!(queue.goes_on(5));
        queue.finish(5);
        assert!(!queue.is_busy());
    }

    #[test]
    fn the_rest_of_a_block_begins_within_it() {
        let mut queue = Queue::default();
        let digest = digests(1)[0];
        let check = |offset, block: &[u8], expected: Result<&[u8], Missing>| {
            let want = Want {
                id: 0,
                digest,
                offset,
            };
            assert_eq!(want.rest_of(block), expected, "{offset} of {block:?}");
        };
        check(0, b"abc", Ok(b"abc"));
        check(2, b"abc", Ok(b"c"));
        check(3, b"abc", Err(Missing::Beyond));
        check(u32::MAX, b"abc", Err(Missing::Beyond));
        check(0, b"", Ok(b""));
        check(1, b"", Err(Missing::Beyond));
        queue.push_rest(9, digest, 2).unwrap();
        assert_eq!(queue.take()[0].rest_of(b"abc"), Ok(&b"c"[..]));
    }
}
