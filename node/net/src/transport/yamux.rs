//! yamux (`/yamux/1.0.0`) with large frames: many streams over one secured connection with a peer
//! that is no node of Shoal.
//!
//! Owns how the `yamux` crate is set up and what libp2p asks of a multiplexer. The stock upgrade
//! cuts everything into frames of 16 KiB, each written and flushed by itself; any peer accepts
//! larger ones. What a peer may have unread here is bounded for the connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready as try_ready};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::futures::{AsyncRead, AsyncWrite};
use yamux::{Connection, ConnectionError, Mode, Stream};

use super::mux::Side;

/// Payload of one frame. A control message waits for one frame of every busy stream at most: 64 KiB
/// are 5 ms at 100 Mbit/s. Implementations refuse frames from 256 KiB (Go) or 1 MiB (Rust) on.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// What yamux grants every stream from its start.
const STREAM_WINDOW_BYTES: usize = yamux::DEFAULT_CREDIT as usize;

/// What all windows of a connection may grow beyond that, together: 16 MiB unread is 160 MB/s at a
/// round trip of 100 ms. A window grows only as far as its stream is read.
const WINDOW_GROWTH_BYTES_MAX: usize = 16 << 20;

/// How a secured connection is multiplexed.
#[derive(Clone)]
pub(super) struct Yamux {
    config: yamux::Config,
}

impl Yamux {
    /// The name to agree on.
    pub(super) const NAME: &str = "/yamux/1.0.0";

    /// Admits so many streams on a connection; a peer that opens more loses it.
    pub(super) fn new(streams_max: u16) -> Self {
        let streams_max = usize::from(streams_max);
        let mut config = yamux::Config::default();
        // In this order: the windows must fit so many streams at any time.
        config.set_max_num_streams(streams_max);
        let window_bytes_max = streams_max * STREAM_WINDOW_BYTES + WINDOW_GROWTH_BYTES_MAX;
        config.set_max_connection_receive_window(Some(window_bytes_max));
        config.set_split_send_size(FRAME_BYTES_MAX);
        Self { config }
    }

    /// Multiplexes a secured connection.
    pub(super) fn muxer<C>(self, connection: C, side: Side) -> Muxer<C>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let mode = match side {
            Side::Dialler => Mode::Client,
            Side::Listener => Mode::Server,
        };
        Muxer {
            connection: Connection::new(connection, self.config, mode),
            inbound: VecDeque::new(),
            inbound_waker: None,
        }
    }
}

/// A multiplexed connection.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that the peer opened while the connection was driven for other reasons. They count
    /// against the limit of streams, which bounds this list.
    inbound: VecDeque<Stream>,
    inbound_waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    /// Drives the connection until it has nothing to do or the peer opens a stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        match try_ready!(self.connection.poll_next_inbound(cx)) {
            Some(stream) => Poll::Ready(stream.map_err(io_error)),
            None => Poll::Ready(Err(io_error(ConnectionError::Closed))),
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let polled = self.poll_next(cx);
        if polled.is_pending() {
            self.inbound_waker = Some(cx.waker().clone());
        }
        polled
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.connection.poll_new_outbound(cx).map_err(io_error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(io_error)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let stream = try_ready!(self.poll_next(cx))?;
        self.inbound.push_back(stream);
        if let Some(waker) = self.inbound_waker.take() {
            waker.wake();
        }
        // There may be more, after others had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn io_error(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        error => io::Error::other(error),
    }
}
