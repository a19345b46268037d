//! A block while it comes in, and what of it is kept when its request ends early.
//!
//! An [`Assembly`] is the block's buffer, filled from the front, with the providers that sent which
//! part: blame stays exact, since a wrong block of one sender is that sender's. A [`Slot`] is where
//! a session fills it and from where the transfer takes it, at any moment, to have another session
//! go on; the bytes are never copied nor lost. Nothing here is verified.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::{Mutex, MutexGuard};
use shoal_protocol::planner::ProviderId;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::OwnedSemaphorePermit,
};

use super::buffers::{Buffer, Buffers};

/// Bytes of one provider, up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: ProviderId,
    end: usize,
}

/// A block's buffer and who has filled it how far.
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: Buffer,
    /// In order; neighbours are of different providers.
    runs: Vec<Run>,
    /// Leave to outlive its request.
    kept: Option<OwnedSemaphorePermit>,
}

impl Assembly {
    pub(super) fn new(bytes: Buffer) -> Self {
        Self {
            bytes,
            runs: Vec::new(),
            kept: None,
        }
    }

    /// Makes it fit to be gone on with by another request; false where there is nothing of it, or
    /// no room to keep it.
    pub(super) fn keep(&mut self, buffers: &Buffers) -> bool {
        if self.filled() == self.len() {
            // Nobody can be asked for nothing; so the last byte comes again.
            self.shorten();
        }
        if self.filled() > 0 && self.kept.is_none() {
            self.kept = buffers.keep(self.len());
        }
        self.filled() > 0 && self.kept.is_some()
    }

    fn shorten(&mut self) {
        let before = self.runs.iter().rev().nth(1).map_or(0, |run| run.end);
        if let Some(last) = self.runs.last_mut() {
            last.end = last.end.saturating_sub(1);
            if last.end == before {
                self.runs.pop();
            }
        }
    }

    /// The length of the whole block, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes of it there are.
    pub(super) fn filled(&self) -> usize {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// Whether all bytes that there are came from this provider.
    pub(super) fn is_all_of(&self, provider: ProviderId) -> bool {
        self.runs.iter().all(|run| run.from == provider)
    }

    /// Whether any of the bytes came from this provider.
    pub(super) fn has_any_of(&self, provider: ProviderId) -> bool {
        self.runs.iter().any(|run| run.from == provider)
    }

    /// Who sent how many bytes.
    pub(super) fn parts(&self) -> impl Iterator<Item = (ProviderId, u64)> {
        let starts = std::iter::once(0).chain(self.runs.iter().map(|run| run.end));
        let parts = self.runs.iter().zip(starts);
        parts.map(|(run, start)| (run.from, run.end.saturating_sub(start) as u64))
    }

    /// The block; whole only when all of it has come.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first `offset` bytes are there, and no more.
    fn is_filled_to(&self, offset: usize) -> bool {
        self.filled() == offset
    }

    fn grow(&mut self, from: ProviderId, count: usize) {
        let end = self.filled() + count;
        match self.runs.last_mut() {
            Some(last) if last.from == from => last.end = end,
            _ => self.runs.push(Run { from, end }),
        }
    }

    /// Fills more of it from `reader`, at most `most` bytes; how many is 0 at the reader's end.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        (from, most): (ProviderId, usize),
    ) -> Poll<io::Result<usize>> {
        let start = self.filled();
        let end = self.len().min(start.saturating_add(most));
        let mut room = ReadBuf::new(self.bytes.get_mut(start..end).unwrap_or_default());
        ready!(Pin::new(reader).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        if count > 0 {
            self.grow(from, count);
        }
        Poll::Ready(Ok(count))
    }
}

/// A place for one block of one request. Cheap to clone; all clones are one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<SlotState>>);

#[derive(Debug, Default)]
struct SlotState {
    assembly: Option<Assembly>,
    /// The request was taken back: what still comes is thrown away.
    is_closed: bool,
}

impl Slot {
    /// A place for what follows the bytes that are there.
    pub(super) fn with(prefix: Option<Assembly>) -> Self {
        Self(Arc::new(Mutex::new(SlotState {
            assembly: prefix,
            is_closed: false,
        })))
    }

    /// Makes room for a block of `len` bytes, of which `offset` are to be there; false where they
    /// are not, or belong to a block of another length.
    ///
    /// A closed place takes everything.
    pub(super) fn begin(&self, offset: usize, len: usize) -> bool {
        let place = self.lock();
        match &place.assembly {
            _ if place.is_closed => true,
            Some(prefix) => prefix.is_filled_to(offset) && prefix.len() == len,
            None => offset == 0,
        }
    }

    /// Whether a buffer for the block is to be put here.
    pub(super) fn lacks_buffer(&self) -> bool {
        let place = self.lock();
        place.assembly.is_none() && !place.is_closed
    }

    /// Puts a buffer for the whole block here, unless the request was taken back.
    pub(super) fn put(&self, assembly: Assembly) {
        let mut place = self.lock();
        if !place.is_closed {
            place.assembly = Some(assembly);
        }
    }

    /// Reads what has come into the block; none when the request was taken back.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        (from, most): (ProviderId, usize),
    ) -> Poll<io::Result<Option<usize>>> {
        match &mut self.lock().assembly {
            Some(assembly) => assembly.poll_fill(cx, reader, (from, most)).map_ok(Some),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// How many bytes of the block there are.
    pub(super) fn filled(&self) -> usize {
        self.lock().assembly.as_ref().map_or(0, Assembly::filled)
    }

    /// Ends the request, and takes what there is of the block.
    pub(super) fn close(&self) -> Option<Assembly> {
        let mut place = self.lock();
        place.is_closed = true;
        place.assembly.take()
    }

    /// Whether the request was taken back.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt as _;

    use super::super::buffers::Buffers;
    use super::*;

    const A: ProviderId = ProviderId(1);
    const B: ProviderId = ProviderId(2);

    fn assembly(len: u32) -> Assembly {
        let buffer = Buffers::default().take(len).now_or_never();
        Assembly::new(buffer.unwrap())
    }

    fn fill(slot: &Slot, from: ProviderId, mut bytes: &[u8]) -> Option<usize> {
        let filling = std::future::poll_fn(|cx| slot.poll_fill(cx, &mut bytes, (from, 100)));
        filling.now_or_never().unwrap().unwrap()
    }

    #[test]
    fn one_goes_on_where_another_was_stopped() {
        let slot = Slot::default();
        assert!(slot.lacks_buffer() && slot.begin(0, 5) && !slot.begin(1, 5));
        slot.put(assembly(5));
        assert_eq!(fill(&slot, A, b"ab"), Some(2));
        assert_eq!(fill(&slot, A, b"c"), Some(1));
        let prefix = slot.close().unwrap();
        assert!(prefix.is_all_of(A));
        assert_eq!(fill(&slot, A, b"d"), None, "it was taken back");
        assert!(slot.close().is_none() && slot.is_closed());
        slot.put(assembly(5));
        assert!(slot.close().is_none(), "it stays closed");

        let next = Slot::with(Some(prefix));
        assert!(next.begin(3, 5) && !next.begin(2, 5) && !next.begin(3, 6));
        assert!(!next.lacks_buffer());
        assert_eq!(
            fill(&next, B, b"defgh"),
            Some(2),
            "no more than there is room"
        );
        let block = next.close().unwrap();
        assert_eq!(block.bytes(), b"abcde");
        assert!(!block.is_all_of(A) && !block.is_all_of(B));
        assert!(block.has_any_of(A) && block.has_any_of(B));
        assert_eq!(block.parts().collect::<Vec<_>>(), [(A, 3), (B, 2)]);
    }

    #[test]
    fn a_beginning_is_kept_within_a_bound() {
        let buffers = Buffers::default();
        let begun = |bytes: &[u8]| {
            let slot = Slot::default();
            let buffer = buffers.take(2 << 20).now_or_never().unwrap();
            slot.put(Assembly::new(buffer));
            let _ = fill(&slot, A, bytes);
            slot.close().unwrap()
        };
        assert!(!begun(b"").keep(&buffers), "there is nothing of it");
        let mut kept = Vec::new();
        for _ in 0..8 {
            kept.push(begun(b"ab"));
            assert!(kept.last_mut().unwrap().keep(&buffers));
            assert!(
                kept.last_mut().unwrap().keep(&buffers),
                "it is kept already"
            );
        }
        assert!(!begun(b"ab").keep(&buffers), "16 MiB are kept");
        kept.pop();
        assert!(begun(b"ab").keep(&buffers));
    }

    #[test]
    fn of_a_whole_block_the_last_byte_is_asked_for() {
        let buffers = Buffers::default();
        let slot = Slot::with(Some(assembly(3)));
        assert_eq!(fill(&slot, A, b"ab"), Some(2));
        assert_eq!(fill(&slot, B, b"c"), Some(1));
        let mut block = slot.close().unwrap();
        assert!(block.keep(&buffers));
        assert_eq!(block.parts().collect::<Vec<_>>(), [(A, 2)]);
        let mut single = assembly(1);
        single.grow(A, 1);
        assert!(!single.keep(&buffers));
    }

    #[test]
    fn parts_of_one_sender_are_one() {
        let slot = Slot::with(Some(assembly(3)));
        assert!(!slot.begin(1, 3), "nothing is there yet");
        for byte in [b"a", b"b", b"c"] {
            assert_eq!(fill(&slot, A, byte), Some(1));
        }
        let block = slot.close().unwrap();
        assert_eq!(block.filled(), 3);
        assert_eq!(block.parts().collect::<Vec<_>>(), [(A, 3)]);
    }
}
