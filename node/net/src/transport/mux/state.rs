//! The books of one stream: what came and was not read, what may be sent, and who has ended.

use std::collections::VecDeque;
use std::task::Waker;

use super::frame::NUMBER_MAX;

/// Room for bytes that wait for their reader, a piece of it.
const SEGMENT_BYTES: usize = 16 << 10;

/// One end of a stream.
pub(super) struct State {
    pub(super) unread: Unread,
    /// The window that the peer started with.
    window_bytes: u32,
    /// Bytes that the peer may still send.
    allowed: u32,
    /// Bytes that were read and that the peer has not been told of.
    owed: u32,
    /// Whether the peer sends no more, and how it said so.
    pub(super) ended: Option<Ended>,
    /// Bytes that may be sent to the peer.
    pub(super) window: u32,
    /// We have said that we send no more.
    pub(super) finished: bool,
    /// The peer reads no more.
    pub(super) refused: bool,
    /// Nobody here holds it any more.
    pub(super) is_abandoned: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

/// How the bytes of a peer came to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of them were sent.
    Whole,
    /// The peer gave up.
    Cut,
}

impl State {
    /// A stream on which we accept `receive` bytes before any is read, and the peer `send`.
    pub(super) fn new(receive: u32, send: u32) -> Self {
        Self {
            unread: Unread::default(),
            window_bytes: receive,
            allowed: receive,
            owed: 0,
            ended: None,
            window: send,
            finished: false,
            refused: false,
            is_abandoned: false,
            reader: None,
            writer: None,
        }
    }

    /// Takes note of bytes that the peer is about to send; false when it must not.
    pub(super) fn expect(&mut self, bytes: u32) -> bool {
        match self.allowed.checked_sub(bytes) {
            Some(allowed) if self.ended.is_none() => {
                self.allowed = allowed;
                true
            }
            _ => false,
        }
    }

    /// Takes note of bytes that were read; what the peer is to be credited with, once that is half
    /// its window.
    pub(super) fn read(&mut self, bytes: usize) -> Option<u32> {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).ok()?);
        if self.ended.is_some() || self.owed < self.window_bytes / 2 {
            return None;
        }
        let credit = self.owed.min(NUMBER_MAX);
        self.owed -= credit;
        self.allowed = self.allowed.saturating_add(credit);
        Some(credit)
    }

    /// Whether the peer has to wait for credit.
    pub(super) fn is_full(&self) -> bool {
        self.allowed == 0
    }

    /// Throws away what nobody will read; how many bytes of it there were.
    pub(super) fn abandon(&mut self) -> usize {
        self.is_abandoned = true;
        std::mem::take(&mut self.unread).bytes()
    }

    /// Whether both have said all they had to say.
    pub(super) fn is_over(&self) -> bool {
        self.finished && self.ended == Some(Ended::Whole)
    }

    pub(super) fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    pub(super) fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

/// Bytes that came while nobody read.
#[derive(Default)]
pub(super) struct Unread {
    segments: VecDeque<Segment>,
    bytes: usize,
}

struct Segment {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Unread {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Room for at most `most` further bytes, never none.
    pub(super) fn room(&mut self, most: usize) -> &mut [u8] {
        if self
            .segments
            .back()
            .is_none_or(|last| last.end == last.bytes.len())
        {
            self.segments.push_back(Segment {
                bytes: vec![0; SEGMENT_BYTES].into_boxed_slice(),
                start: 0,
                end: 0,
            });
        }
        let Some(last) = self.segments.back_mut() else {
            return &mut [];
        };
        let end = last.bytes.len().min(last.end + most);
        last.bytes.get_mut(last.end..end).unwrap_or_default()
    }

    /// Takes note of bytes that were put into the room.
    pub(super) fn add(&mut self, bytes: usize) {
        if let Some(last) = self.segments.back_mut() {
            last.end += bytes;
            self.bytes += bytes;
        }
    }

    /// Moves bytes into `buffer`, as many as fit.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let mut taken = 0;
        while let Some(first) = self.segments.front_mut() {
            let held = first.bytes.get(first.start..first.end).unwrap_or_default();
            let room = buffer.get_mut(taken..).unwrap_or_default();
            let count = held.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..count), held.get(..count)) {
                to.copy_from_slice(from);
            }
            (taken, first.start) = (taken + count, first.start + count);
            if first.start < first.end {
                break;
            }
            self.segments.pop_front();
        }
        self.bytes -= taken;
        taken
    }
}
