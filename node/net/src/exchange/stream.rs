//! One exchange stream, owned by whoever works on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use crate::activity::{Activity, Use};

/// A stream of the exchange protocol: bytes both ways, on one connection with one peer.
///
/// It keeps its connection open, and an inbound one counts against the stream limits, until it is
/// dropped. Dropping it without a shutdown resets it; a reset of the other side may read as an end,
/// so messages carry their lengths and an end marker.
#[derive(Debug)]
pub struct ExchangeStream {
    io: Compat<Stream>,
    peer: PeerId,
    connection: ConnectionId,
    using: Use,
    /// The slots that an inbound stream occupies, given back when it is dropped.
    _slots: Option<Slots>,
}

/// What an inbound stream holds: one slot of its connection, one of the node.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) _connection: OwnedSemaphorePermit,
    pub(super) _node: OwnedSemaphorePermit,
}

impl ExchangeStream {
    pub(super) fn new(
        stream: Stream,
        peer: PeerId,
        connection: ConnectionId,
        activity: Arc<Activity>,
        slots: Option<Slots>,
    ) -> Self {
        Self {
            io: stream.compat(),
            peer,
            connection,
            using: Use::of(activity),
            _slots: slots,
        }
    }

    /// The peer at the other end, proven by the connection's handshake.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The connection that carries this stream.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }
}

impl AsyncRead for ExchangeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        self.using.activity().moved(buffer.filled().len() - filled);
        Poll::Ready(read)
    }
}

impl AsyncWrite for ExchangeStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.using.activity().moved(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
