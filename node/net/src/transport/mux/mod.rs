//! `/shoal/mux/1`: many streams over one secured connection, for bulk.
//!
//! Nodes of Shoal agree on it while they shake hands (see [`super::tls`]); with everybody else they
//! speak yamux. It differs from yamux in two things. Who opens a stream, and so asks for something,
//! may be sent 16 MiB at once, where yamux grants 256 KiB and more only after round trips. And no
//! task hands bytes to another: who writes encrypts, who reads decrypts into its own buffer, under
//! the lock of the connection, so that a byte is copied once less on either side.
//!
//! [`frame`] is the wire, [`state`] the books of a stream, [`connection`] everything that needs the
//! lock, [`waiters`] who is woken when the socket is ready. The lock is held for some hundred KiB of
//! encryption at most, and never over a wait. The connection ends with its [`Muxer`]; streams that
//! outlive it get an error.

mod connection;
mod frame;
mod state;
#[cfg(test)]
mod tests;
mod unsent;
mod waiters;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::futures::{AsyncRead, AsyncWrite};
use parking_lot::{Mutex, MutexGuard};

use self::connection::Connection;
pub(super) use self::connection::Side;
use self::frame::StreamId;
use self::waiters::{Turn, Waiters, Who};

/// Reads from the line in one turn, each of 16 KiB at most: 512 KiB, a tenth of a millisecond of
/// decryption.
const STEPS_PER_TURN_MAX: usize = 32;

/// A multiplexed connection.
pub(super) struct Muxer<C: AsyncRead + AsyncWrite + Unpin> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    connection: Mutex<Connection<C>>,
    waiters: Arc<Waiters>,
    /// Wakes all of the waiters.
    waker: Waker,
}

impl<C> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, Connection<C>> {
        self.connection.lock()
    }

    fn turn<'a>(&'a self, who: Who, cx: &'a Context<'_>) -> Turn<'a> {
        Turn::new(who, cx.waker(), &self.waiters, &self.waker)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    /// Multiplexes `line`, on which the peer may have opened `streams_max` streams at a time; one
    /// that opens more loses the connection.
    pub(super) fn new(line: C, side: Side, streams_max: u16) -> Self {
        let waiters = Arc::<Waiters>::default();
        let waker = waiters::waker(&waiters);
        let connection = Connection::new(line, side, streams_max.into(), Arc::clone(&waiters));
        Self {
            shared: Arc::new(Shared {
                connection: Mutex::new(connection),
                waiters,
                waker,
            }),
        }
    }

    fn stream(&self, id: StreamId) -> Stream<C> {
        Stream {
            shared: Arc::clone(&self.shared),
            id,
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream<C>;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream<C>>> {
        let arrived = self.shared.lock().poll_arrival(cx.waker());
        arrived.map_ok(|id| self.stream(id))
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Stream<C>>> {
        let opened = self.shared.lock().open();
        Poll::Ready(opened.map(|id| self.stream(id)))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.shared.turn(Who::Connection, cx);
        self.shared.lock().poll_close(&mut turn)
    }

    /// Reads what nobody else does, and flushes what others have left.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let mut turn = self.shared.turn(Who::Connection, cx);
        let mut connection = self.shared.lock();
        match connection.poll_drive(&mut turn, STEPS_PER_TURN_MAX) {
            Poll::Ready(Ok(())) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        if let Poll::Ready(Err(error)) = connection.poll_flush(&mut turn) {
            return Poll::Ready(Err(error));
        }
        // Under the lock: whoever leaves something to flush finds this task waiting.
        turn.wait();
        Poll::Pending
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Drop for Muxer<C> {
    fn drop(&mut self) {
        let error = io::ErrorKind::ConnectionAborted.into();
        self.shared.lock().fail(&error);
    }
}

/// One stream. Dropping it before both sides have closed resets it.
pub(super) struct Stream<C: AsyncRead + AsyncWrite + Unpin> {
    shared: Arc<Shared<C>>,
    id: StreamId,
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut turn = self.shared.turn(Who::Stream, cx);
        let mut connection = self.shared.lock();
        connection.poll_read(&mut turn, self.id, buffer, STEPS_PER_TURN_MAX)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<C> {
    /// Passes a piece on to the line under the connection. It may stay there until a flush.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut turn = self.shared.turn(Who::Stream, cx);
        self.shared.lock().poll_write(&mut turn, self.id, bytes)
    }

    /// Begins to flush. What the line does not take now the task of the connection goes on with: no
    /// stream waits for what others have written.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.shared.turn(Who::Stream, cx);
        begun(self.shared.lock().poll_flush(&mut turn))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turn = self.shared.turn(Who::Stream, cx);
        begun(self.shared.lock().poll_finish(&mut turn, self.id))
    }
}

fn begun(flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    match flushed {
        Poll::Pending => Poll::Ready(Ok(())),
        done => done,
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Drop for Stream<C> {
    fn drop(&mut self) {
        if self.shared.lock().forget(self.id) {
            self.shared.waiters.wake_connection();
        }
    }
}
