//! A connection and its streams, as whoever has the lock sees them.
//!
//! Everything that a stream does is done on the connection at once, by the task that asked for it:
//! what it writes goes to the line under it, and when it reads, it reads the line, for itself and
//! for the others. Owns the line, the books of all streams, and what the line has not taken yet.
//! After an error, the peer's or the line's, the line is closed and every stream learns why.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use futures::task::ArcWake;
use libp2p::futures::{AsyncRead, AsyncWrite};
use shoal_ground::budgets::{OPENER_WINDOW_BYTES, UNREAD_BYTES_MAX};

use super::frame::{HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX, StreamId};
use super::state::{Ended, State};
use super::unsent::{TooMany, Unsent};
use super::waiters::{Turn, Waiters};

/// Bytes that may be sent to the side that accepted a stream before it has read any: questions, which
/// it may let wait. With all streams that a peer may open, 32 MiB.
const ACCEPTOR_WINDOW_BYTES: u32 = 256 << 10;

/// Streams that nobody here holds any more, and whose peer has not ended them: their answers are
/// thrown away. The oldest is reset when there are more.
const ABANDONED_MAX: usize = 64;

/// Bytes that are thrown away at a time, of streams that are gone.
const SCRATCH_BYTES: usize = 4 << 10;

/// Which end of a connection this is: the numbers of its streams are odd or even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Side {
    Dialler,
    Listener,
}

pub(super) struct Connection<C> {
    /// None once it has ended.
    line: Option<C>,
    end: Option<(io::ErrorKind, String)>,
    /// Who learns at once when it ends.
    waiters: Arc<Waiters>,
    side: Side,
    streams: HashMap<StreamId, State>,
    streams_max: usize,
    /// How many of the streams the peer has opened.
    theirs: usize,
    /// Streams that the peer has opened and nobody has taken.
    arrived: VecDeque<StreamId>,
    arrivals: Option<Waker>,
    /// Some of these may have ended since.
    abandoned: VecDeque<StreamId>,
    /// The streams opened last, 0 before the first.
    last_own: StreamId,
    last_theirs: StreamId,
    incoming: Incoming,
    unread_bytes: usize,
    unsent: Unsent,
    /// Something was written since the last flush.
    dirty: bool,
}

/// Where in the bytes from the peer we are.
#[derive(Clone, Copy)]
enum Incoming {
    Header {
        bytes: [u8; HEADER_BYTES],
        filled: usize,
    },
    Payload {
        stream: StreamId,
        left: usize,
    },
}

const NEXT_HEADER: Incoming = Incoming::Header {
    bytes: [0; HEADER_BYTES],
    filled: 0,
};

/// What a step of reading did.
enum ReadStep {
    /// Put so many bytes into the reader's buffer.
    Direct(usize),
    /// Something else.
    Other,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Connection<C> {
    /// A connection over `line` on which the peer may have opened `streams_max` at a time.
    pub(super) fn new(line: C, side: Side, streams_max: usize, waiters: Arc<Waiters>) -> Self {
        Self {
            line: Some(line),
            end: None,
            waiters,
            side,
            streams: HashMap::new(),
            streams_max,
            theirs: 0,
            arrived: VecDeque::new(),
            arrivals: None,
            abandoned: VecDeque::new(),
            last_own: 0,
            last_theirs: 0,
            incoming: NEXT_HEADER,
            unread_bytes: 0,
            unsent: Unsent::default(),
            dirty: false,
        }
    }

    /// Opens a stream.
    pub(super) fn open(&mut self) -> io::Result<StreamId> {
        self.check()?;
        let next = match (self.last_own, self.side) {
            (0, Side::Dialler) => Some(1),
            (last, _) => last.checked_add(2),
        };
        let Some(stream) = next else {
            return Err(self.fail(&io::Error::other("the connection has run out of streams")));
        };
        self.last_own = stream;
        let state = State::new(OPENER_WINDOW_BYTES, ACCEPTOR_WINDOW_BYTES);
        self.streams.insert(stream, state);
        self.queue(stream, Kind::Open)?;
        Ok(stream)
    }

    /// A stream that the peer has opened.
    pub(super) fn poll_arrival(&mut self, task: &Waker) -> Poll<io::Result<StreamId>> {
        if let Some(stream) = self.arrived.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        self.check()?;
        self.arrivals = Some(task.clone());
        Poll::Pending
    }

    /// Reads for all streams, at most so many steps; pending when the line has no more for now.
    pub(super) fn poll_drive(&mut self, turn: &mut Turn<'_>, steps: usize) -> Poll<io::Result<()>> {
        for _ in 0..steps {
            ready!(self.poll_step(turn, None))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from a stream, and for the others what lies before it. Fills as much of `buffer` as
    /// there is, in at most so many steps.
    pub(super) fn poll_read(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        buffer: &mut [u8],
        steps: usize,
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        let state = self.state(stream)?;
        if state.unread.bytes() > 0 {
            filled = state.unread.take(buffer);
            self.unread_bytes -= filled;
        }
        for _ in 0..steps {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            if room.is_empty() || self.state(stream)?.ended.is_some() {
                break;
            }
            match self.poll_step(turn, Some((stream, room))) {
                Poll::Ready(Ok(ReadStep::Direct(bytes))) => filled += bytes,
                Poll::Ready(Ok(ReadStep::Other)) => {}
                Poll::Ready(Err(_)) | Poll::Pending if filled > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.state(stream)?.reader = Some(turn.task().clone());
                    turn.wait();
                    return Poll::Pending;
                }
            }
        }
        if filled == 0 {
            return self.at_end(turn, stream);
        }
        if let Some(credit) = self.state(stream)?.read(filled) {
            self.queue(stream, Kind::Credit(credit))?;
            // What the line does not take, the task of the connection flushes.
            let _ = self.poll_flush(turn);
        }
        Poll::Ready(Ok(filled))
    }

    /// What a reader gets that there are no bytes for.
    fn at_end(&mut self, turn: &Turn<'_>, stream: StreamId) -> Poll<io::Result<usize>> {
        match self.state(stream)?.ended {
            Some(Ended::Whole) => Poll::Ready(Ok(0)),
            Some(Ended::Cut) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                // It has read for others all the time; now they have their turn.
                turn.task().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Writes to a stream, one frame at most.
    pub(super) fn poll_write(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let state = self.state(stream)?;
        if state.finished || state.refused {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = (state.window as usize).min(PAYLOAD_BYTES_MAX);
        let piece = bytes.get(..room).unwrap_or(bytes);
        let Ok(count @ 1..) = u32::try_from(piece.len()) else {
            if !bytes.is_empty() {
                state.writer = Some(turn.task().clone());
                return Poll::Pending;
            }
            return Poll::Ready(Ok(0));
        };
        ready!(self.poll_unsent(turn))?;
        self.state(stream)?.window -= count;
        let kind = Kind::Data(count);
        self.put(turn, &Header { stream, kind }.encode())?;
        self.put(turn, piece)?;
        Poll::Ready(Ok(piece.len()))
    }

    /// Writes everything to the line, and flushes that.
    pub(super) fn poll_flush(&mut self, turn: &mut Turn<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        ready!(self.poll_unsent(turn))?;
        if self.dirty {
            let flushed = Pin::new(self.line()?).poll_flush(&mut turn.socket);
            ready!(self.settled(turn, flushed))?;
            self.dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more is written to a stream.
    pub(super) fn poll_finish(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let state = self.state(stream)?;
        if !state.finished && !state.refused {
            state.finished = true;
            self.queue(stream, Kind::Finish)?;
        }
        self.poll_flush(turn)
    }

    /// Closes the line in order.
    pub(super) fn poll_close(&mut self, turn: &mut Turn<'_>) -> Poll<io::Result<()>> {
        if self.end.is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_unsent(turn))?;
        let closed = Pin::new(self.line()?).poll_close(&mut turn.socket);
        ready!(self.settled(turn, closed))?;
        self.fail(&io::ErrorKind::ConnectionAborted.into());
        Poll::Ready(Ok(()))
    }

    /// Lets go of a stream that nobody holds any more; whether there is something to flush.
    pub(super) fn forget(&mut self, stream: StreamId) -> bool {
        let Some(state) = self.streams.get_mut(&stream) else {
            return false;
        };
        self.unread_bytes -= state.abandon();
        if state.is_over() || state.refused || self.end.is_some() {
            self.remove(stream);
            return false;
        }
        if !state.finished {
            return self.reset(stream);
        }
        // All was said. A reset could be there before the peer has heard it, and answered a line
        // that nobody reads.
        self.abandoned.push_back(stream);
        if self.abandoned.len() <= ABANDONED_MAX {
            return false;
        }
        let oldest = self.abandoned.pop_front();
        let oldest = oldest.filter(|oldest| self.is_abandoned(*oldest));
        oldest.is_some_and(|oldest| self.reset(oldest))
    }

    /// Ends a stream for both sides; false when the connection has ended.
    fn reset(&mut self, stream: StreamId) -> bool {
        self.remove(stream);
        self.queue(stream, Kind::Reset).is_ok()
    }

    fn remove(&mut self, stream: StreamId) {
        if self.streams.remove(&stream).is_some() && !self.is_own(stream) {
            self.theirs -= 1;
        }
    }

    fn is_abandoned(&self, stream: StreamId) -> bool {
        let state = self.streams.get(&stream);
        state.is_some_and(|state| state.is_abandoned)
    }

    /// Ends the connection: every stream learns of it, once it has read what came before.
    pub(super) fn fail(&mut self, error: &io::Error) -> io::Error {
        let (kind, text) = self.end.get_or_insert((error.kind(), error.to_string()));
        let error = io::Error::new(*kind, text.clone());
        self.line = None;
        self.unsent = Unsent::default();
        self.arrivals.take().into_iter().for_each(Waker::wake);
        for state in self.streams.values_mut() {
            state.wake_reader();
            state.wake_writer();
        }
        ArcWake::wake_by_ref(&self.waiters);
        error
    }

    /// Reads once from the line; straight into the reader's buffer if the bytes are for it.
    fn poll_step(
        &mut self,
        turn: &mut Turn<'_>,
        reader: Option<(StreamId, &mut [u8])>,
    ) -> Poll<io::Result<ReadStep>> {
        self.check()?;
        let Some(line) = self.line.as_mut().map(Pin::new) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let (stream, left) = match &mut self.incoming {
            Incoming::Header { bytes, filled } => {
                let room = bytes.get_mut(*filled..).unwrap_or_default();
                let read = ready!(line.poll_read(&mut turn.socket, room));
                let count = self.some(read)?;
                return Poll::Ready(self.header(count).map(|()| ReadStep::Other));
            }
            Incoming::Payload { stream, left } => (*stream, *left),
        };
        let mut scratch;
        let mut direct = false;
        let room = match (reader, self.streams.get_mut(&stream)) {
            (Some((of, buffer)), _) if of == stream => {
                direct = true;
                buffer
            }
            (_, Some(state)) if !state.is_abandoned => state.unread.room(left),
            (_, _) => {
                scratch = [0; SCRATCH_BYTES];
                &mut scratch[..]
            }
        };
        let most = room.len().min(left);
        let room = room.get_mut(..most).unwrap_or_default();
        let read = ready!(line.poll_read(&mut turn.socket, room));
        let count = self.some(read)?;
        self.incoming = match left - count {
            0 => NEXT_HEADER,
            left => Incoming::Payload { stream, left },
        };
        if direct {
            return Poll::Ready(Ok(ReadStep::Direct(count)));
        }
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.is_abandoned
        {
            state.unread.add(count);
            state.wake_reader();
            self.unread_bytes += count;
            if self.unread_bytes > UNREAD_BYTES_MAX {
                return Poll::Ready(Err(self.violation("more than anybody has asked it for")));
            }
        }
        Poll::Ready(Ok(ReadStep::Other))
    }

    /// What was read, which is an error when it is nothing.
    fn some(&mut self, read: io::Result<usize>) -> io::Result<usize> {
        match read {
            Ok(0) => Err(self.fail(&io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => Ok(count),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Takes note of bytes of a header, and of the frame when it is complete.
    fn header(&mut self, count: usize) -> io::Result<()> {
        let Incoming::Header { bytes, filled } = &mut self.incoming else {
            return Ok(());
        };
        *filled += count;
        if *filled < HEADER_BYTES {
            return Ok(());
        }
        let bytes = *bytes;
        self.incoming = NEXT_HEADER;
        match Header::decode(bytes) {
            Ok(header) => self.frame(header),
            Err(malformed) => {
                Err(self.fail(&io::Error::new(io::ErrorKind::InvalidData, malformed)))
            }
        }
    }

    fn frame(&mut self, Header { stream, kind }: Header) -> io::Result<()> {
        if kind == Kind::Open {
            return self.arrive(stream);
        }
        if !self.has_been(stream) {
            return Err(self.violation("a frame of a stream that was not opened"));
        }
        if let Kind::Data(bytes) = kind {
            self.incoming = Incoming::Payload {
                stream,
                left: bytes as usize,
            };
        }
        // The peer may not know yet that a stream is gone.
        let Some(state) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        match kind {
            Kind::Open => {}
            Kind::Data(bytes) => {
                if !state.expect(bytes) {
                    return Err(self.violation("bytes for which there is no room"));
                }
                if state.is_abandoned && state.is_full() {
                    // It waits for credit that will not come.
                    self.reset(stream);
                }
            }
            Kind::Credit(bytes) => {
                let Some(window) = state.window.checked_add(bytes) else {
                    return Err(self.violation("more credit than there can be"));
                };
                state.window = window;
                state.wake_writer();
            }
            Kind::Finish => {
                state.ended.get_or_insert(Ended::Whole);
                state.wake_reader();
            }
            Kind::Reset => {
                state.ended.get_or_insert(Ended::Cut);
                state.refused = true;
                state.wake_reader();
                state.wake_writer();
            }
        }
        if matches!(kind, Kind::Finish | Kind::Reset) && self.is_abandoned(stream) {
            self.remove(stream);
        }
        Ok(())
    }

    /// The peer opens a stream.
    fn arrive(&mut self, stream: StreamId) -> io::Result<()> {
        if stream == 0 || self.is_own(stream) || self.has_been(stream) {
            return Err(self.violation("a stream with a number that it cannot have"));
        }
        if self.theirs >= self.streams_max {
            return Err(self.violation("more streams than it may open"));
        }
        self.last_theirs = stream;
        self.theirs += 1;
        let state = State::new(ACCEPTOR_WINDOW_BYTES, OPENER_WINDOW_BYTES);
        self.streams.insert(stream, state);
        self.arrived.push_back(stream);
        self.arrivals.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Whether a stream with this number was opened at some time.
    fn has_been(&self, stream: StreamId) -> bool {
        let last = match self.is_own(stream) {
            true => self.last_own,
            false => self.last_theirs,
        };
        stream != 0 && stream <= last
    }

    fn is_own(&self, stream: StreamId) -> bool {
        (stream % 2 == 1) == (self.side == Side::Dialler)
    }

    /// Has a frame without payload written before everything that comes later.
    fn queue(&mut self, stream: StreamId, kind: Kind) -> io::Result<()> {
        self.dirty = true;
        let queued = self.unsent.answer(Header { stream, kind }.encode());
        queued.map_err(|TooMany| self.violation("so much to answer for, and reads nothing"))
    }

    /// Writes what the line did not take before.
    fn poll_unsent(&mut self, turn: &mut Turn<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let Some(line) = self.line.as_mut() else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let written = Pin::new(line).poll_write(&mut turn.socket, self.unsent.bytes());
            match ready!(self.settled(turn, written))? {
                0 => return Poll::Ready(Err(self.fail(&io::ErrorKind::WriteZero.into()))),
                count => self.unsent.sent(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes bytes of a frame with payload, when everything before that is written; what the line does
    /// not take now is kept.
    fn put(&mut self, turn: &mut Turn<'_>, bytes: &[u8]) -> io::Result<()> {
        self.dirty = true;
        let mut rest = bytes;
        while self.unsent.is_empty() && !rest.is_empty() {
            let written = Pin::new(self.line()?).poll_write(&mut turn.socket, rest);
            match written {
                Poll::Pending => break,
                Poll::Ready(Ok(count @ 1..)) => rest = rest.get(count..).unwrap_or_default(),
                Poll::Ready(Ok(0)) => return Err(self.fail(&io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return Err(self.fail(&error)),
            }
        }
        self.unsent.payload(rest);
        Ok(())
    }

    /// What the line said to a write; who has to wait is woken when it is ready.
    fn settled<T>(&mut self, turn: &Turn<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match said {
            Poll::Pending => {
                turn.wait();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(&error))),
            done => done,
        }
    }

    fn line(&mut self) -> io::Result<&mut C> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.line.as_mut().ok_or_else(gone)
    }

    /// Why the connection has ended, if it has.
    fn check(&self) -> io::Result<()> {
        match &self.end {
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }

    fn state(&mut self, stream: StreamId) -> io::Result<&mut State> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        self.streams.get_mut(&stream).ok_or_else(gone)
    }

    fn violation(&mut self, what: &str) -> io::Error {
        let text = format!("the peer sent {what}");
        self.fail(&io::Error::new(io::ErrorKind::InvalidData, text))
    }
}
