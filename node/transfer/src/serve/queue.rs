//! What a client has asked for on one stream and has not got.
//!
//! Pure books: ids, digests and offsets. A want is queued, in hand (being read or waiting for the
//! writer) or being written. A cancel takes it out wherever it is; of a block whose header was
//! written the rest stays, so that the writer comes to end it early.

use std::collections::{HashSet, VecDeque};

use shoal_protocol::{
    address::Digest,
    exchange::{Missing, WANTS_OUTSTANDING_MAX},
};

use super::wire::Ended;

/// Wants that are taken at a time: small blocks come together, a full chunk comes alone.
const WANTS_PER_READ_MAX: usize = 64;

/// One block that a client asked for, or the rest of one, and how far it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) id: u32,
    pub(super) digest: Digest,
    /// How many bytes of the block the client has.
    pub(super) start: usize,
    /// Where reading goes on.
    pub(super) offset: usize,
}

impl Want {
    /// Whether some of what the client asked for was read before.
    pub(super) fn is_rest(&self) -> bool {
        self.offset > self.start
    }

    /// How much is to be sent of a block of so many bytes.
    ///
    /// # Errors
    /// [`Missing::Beyond`] where nothing follows what the client has.
    pub(super) fn sent_bytes(&self, block_bytes: usize) -> Result<usize, Missing> {
        match block_bytes.checked_sub(self.start) {
            Some(rest) if self.start == 0 || rest > 0 => Ok(rest),
            _ => Err(Missing::Beyond),
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    wants: VecDeque<Want>,
    /// Wants that were taken from the queue and are to be begun yet: at most three batches.
    in_hand: HashSet<u32>,
    /// The one whose header was written.
    begun: Option<u32>,
    /// The same, as long as it is wanted.
    writing: Option<u32>,
    /// The one that has its turn on a slow line.
    turn: Option<u32>,
    closed: bool,
}

impl Queue {
    /// Adds wants, which have consecutive ids from `id` on.
    pub(super) fn push(&mut self, id: u32, blocks: &[Digest]) -> Result<(), Ended> {
        self.check_room(blocks.len())?;
        // Ids may end at the greatest one, behind which an unchecked range would panic.
        let ids = (0..).map(|index| id.wrapping_add(index));
        let wants = blocks.iter().zip(ids).map(|(digest, id)| Want {
            id,
            digest: *digest,
            start: 0,
            offset: 0,
        });
        self.wants.extend(wants);
        Ok(())
    }

    /// Adds a want for what follows `offset` bytes of a block.
    pub(super) fn push_rest(&mut self, id: u32, digest: Digest, offset: u32) -> Result<(), Ended> {
        self.check_room(1)?;
        let start = offset as usize;
        self.wants.push_back(Want {
            id,
            digest,
            start,
            offset: start,
        });
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
        let begun = self.begun;
        self.wants
            .retain(|queued| stays(queued.id) || begun == Some(queued.id));
        self.in_hand.retain(|taken| stays(*taken));
        self.writing = self.writing.filter(|written| stays(*written));
    }

    /// The next wants in their order. The rest of a block that was read in part comes alone.
    pub(super) fn take(&mut self) -> Vec<Want> {
        let count = match self.rest() {
            Some(_) => 1,
            None => self.wants.len().min(WANTS_PER_READ_MAX),
        };
        let taken: Vec<_> = self.wants.drain(..count).collect();
        self.in_hand
            .extend(taken.iter().filter(|it| !it.is_rest()).map(|it| it.id));
        taken
    }

    /// Takes one want out of its order; none when it was taken back.
    pub(super) fn take_one(&mut self, digest: &Digest) -> Option<Want> {
        let at = self.wants.iter().position(|it| it.digest == *digest)?;
        let taken = self.wants.remove(at)?;
        self.in_hand.insert(taken.id);
        Some(taken)
    }

    /// Takes one want out of its order, for its turn; none when it was taken back.
    pub(super) fn take_turn(&mut self, digest: &Digest) -> Option<Want> {
        let taken = self.take_one(digest)?;
        self.turn = Some(taken.id);
        Some(taken)
    }

    /// A want is answered under the turn, if it was not taken for it before.
    pub(super) fn begin_turn(&mut self, id: u32) {
        self.turn = Some(id);
    }

    /// Whether the turn was this want's, and is over now.
    pub(super) fn end_turn(&mut self, id: u32) -> bool {
        self.turn.take_if(|turn| *turn == id).is_some()
    }

    /// The block that was read in part and comes next, if there is one.
    pub(super) fn rest(&self) -> Option<Want> {
        self.wants.front().copied().filter(Want::is_rest)
    }

    /// The first wants that wait.
    pub(super) fn first(&self, count: usize) -> Vec<Digest> {
        self.wants.iter().take(count).map(|it| it.digest).collect()
    }

    /// Gives back, in front, what was taken and not read to its end.
    pub(super) fn put_back(&mut self, wants: Vec<Want>) {
        for want in wants.into_iter().rev() {
            let is_wanted = match want.is_rest() {
                true => self.begun == Some(want.id) || self.in_hand.contains(&want.id),
                false => self.in_hand.remove(&want.id),
            };
            if is_wanted {
                self.wants.push_front(want);
            }
        }
    }

    /// A want is answered now; false when it was taken back meanwhile.
    pub(super) fn begin(&mut self, id: u32) -> bool {
        let is_wanted = self.in_hand.remove(&id);
        self.writing = is_wanted.then_some(id);
        self.begun = self.writing;
        is_wanted
    }

    /// Whether this is the want whose block is on its way, wanted or not.
    pub(super) fn is_begun(&self, id: u32) -> bool {
        self.begun == Some(id)
    }

    /// Whether a block is on its way whose end was not written.
    pub(super) fn is_open(&self) -> bool {
        self.begun.is_some()
    }

    /// Whether the want that is being written is still wanted.
    pub(super) fn goes_on(&self, id: u32) -> bool {
        self.writing == Some(id)
    }

    /// The answer is written.
    pub(super) fn finish(&mut self, id: u32) {
        self.begun.take_if(|begun| *begun == id);
        self.writing.take_if(|written| *written == id);
    }

    /// Nothing more is asked.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Whether anything is to be answered yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.wants.is_empty() || !self.in_hand.is_empty() || self.begun.is_some()
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

    fn wanted(id: u32, digest: Digest, offset: usize) -> Want {
        Want {
            id,
            digest,
            start: 0,
            offset,
        }
    }

    #[test]
    fn wants_may_have_the_greatest_ids() {
        let mut queue = Queue::default();
        let blocks = digests(2);
        queue.push(u32::MAX, &blocks[..1]).unwrap();
        queue.push(u32::MAX - 1, &blocks).unwrap();
        let ids: Vec<u32> = queue.wants.iter().map(|it| it.id).collect();
        assert_eq!(ids, [u32::MAX, u32::MAX - 1, u32::MAX]);
        queue.cancel(u32::MAX, 1);
        assert_eq!(queue.wants.len(), 1);
    }

    #[test]
    fn wants_are_counted_until_they_are_answered() {
        let mut queue = Queue::default();
        let blocks = digests(3);
        queue.push(7, &blocks).unwrap();
        let mut taken = queue.take();
        assert!(queue.is_empty() && queue.is_busy());
        let rest = taken.split_off(1);
        queue.put_back(rest);
        assert!(queue.begin(7));
        queue.finish(7);
        assert!(!queue.begin(7) && !queue.begin(8));
        let expected = [wanted(8, blocks[1], 0), wanted(9, blocks[2], 0)];
        assert_eq!(queue.take(), expected);
        queue.cancel(9, 1);
        assert!(
            queue.begin(8) && !queue.begin(9),
            "9 is not wanted any more"
        );
        queue.finish(8);
        assert!(!queue.is_busy());
        let many = digests(4096);
        queue.push(0, &many).unwrap();
        assert!(queue.push(0, &blocks).is_err());
    }

    #[test]
    fn the_rest_of_a_block_that_is_begun_comes_to_the_writer() {
        let mut queue = Queue::default();
        let blocks = digests(3);
        queue.push(0, &blocks).unwrap();
        let taken = queue.take();
        queue.put_back(vec![wanted(0, blocks[0], 10), taken[1], taken[2]]);
        assert!(queue.begin(0) && queue.goes_on(0));
        queue.cancel(0, 2);
        assert!(!queue.goes_on(0) && queue.is_begun(0) && queue.is_busy());
        assert_eq!(queue.take(), [wanted(0, blocks[0], 10)]);
        queue.put_back(vec![wanted(0, blocks[0], 20)]);
        assert_eq!(queue.take(), [wanted(0, blocks[0], 20)]);
        queue.finish(0);
        assert_eq!(queue.take(), [wanted(2, blocks[2], 0)]);
    }

    #[test]
    fn the_rest_of_a_block_begins_within_it() {
        let mut queue = Queue::default();
        let digest = digests(1)[0];
        let check = |start, block_bytes, expected: Result<usize, Missing>| {
            let want = Want {
                id: 0,
                digest,
                start,
                offset: start,
            };
            assert_eq!(
                want.sent_bytes(block_bytes),
                expected,
                "{start} of {block_bytes}"
            );
        };
        check(0, 3, Ok(3));
        check(2, 3, Ok(1));
        check(3, 3, Err(Missing::Beyond));
        check(usize::MAX, 3, Err(Missing::Beyond));
        check(0, 0, Ok(0));
        check(1, 0, Err(Missing::Beyond));
        queue.push_rest(9, digest, 2).unwrap();
        let taken = queue.take();
        assert!(!taken[0].is_rest() && queue.begin(9));
    }

    #[test]
    fn what_was_read_in_part_and_not_begun_can_be_taken_back() {
        let mut queue = Queue::default();
        let blocks = digests(2);
        queue.push(0, &blocks).unwrap();
        let taken = queue.take();
        queue.put_back(vec![wanted(0, blocks[0], 10), taken[1]]);
        queue.cancel(0, 1);
        assert!(!queue.begin(0));
        assert_eq!(queue.take(), [wanted(1, blocks[1], 0)]);
        assert!(queue.begin(1));
        queue.finish(1);
        assert!(!queue.is_busy());
    }

    #[test]
    fn wants_can_be_taken_out_of_their_order() {
        let mut queue = Queue::default();
        let blocks = digests(3);
        queue.push(0, &blocks).unwrap();
        assert_eq!(queue.first(2), blocks[..2]);
        assert_eq!(queue.take_one(&blocks[1]), Some(wanted(1, blocks[1], 0)));
        assert_eq!(queue.take_one(&blocks[1]), None);
        queue.put_back(vec![wanted(1, blocks[1], 5)]);
        assert_eq!(queue.rest(), Some(wanted(1, blocks[1], 5)));
    }
}
