//! One stream, owned by whoever works on it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use crate::activity::{Activity, Use};

/// A stream of the exchange or of the replication protocol: bytes both ways, on one connection with
/// one peer.
///
/// One of the exchange keeps its connection open. An inbound one counts against the stream limits
/// until it is dropped. Dropping it without a shutdown resets it; a reset of the other side may read as an end,
/// so messages carry their lengths and an end marker.
#[derive(Debug)]
pub struct ExchangeStream {
    io: Compat<Stream>,
    ends: Ends,
    /// What it moves is told here; one of replication makes no connection busy.
    using: Option<Use>,
    /// The slots that an inbound stream occupies, given back when it is dropped.
    _slots: Option<Slots>,
}

/// Between whom a stream is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    /// Where the peer is, by the connection's address; none for a name.
    pub(super) remote: Option<IpAddr>,
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
        ends: Ends,
        activity: Option<Arc<Activity>>,
        slots: Option<Slots>,
    ) -> Self {
        Self {
            io: stream.compat(),
            ends,
            using: activity.map(Use::of),
            _slots: slots,
        }
    }

    /// The peer at the other end, proven by the connection's handshake.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.ends.peer
    }

    /// The connection that carries this stream.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.ends.connection
    }

    /// The address of the peer's end of the connection; none where it was dialled by a name.
    #[must_use]
    pub fn remote_ip(&self) -> Option<IpAddr> {
        self.ends.remote
    }

    fn moved(&self, bytes: usize) {
        if let Some(using) = &self.using {
            using.activity().moved(bytes);
        }
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
        self.moved(buffer.filled().len() - filled);
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
        self.moved(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
