//! Bytes on the sockets, counted where they pass.
//!
//! TCP is counted at the socket, below encryption, so everything is in it: handshakes, headers,
//! what the DHT says. QUIC keeps its sockets to itself, so what its streams carry is counted, plus
//! what the packets around it take. Counting is one atomic addition for each read or write.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::futures::{AsyncRead, AsyncWrite};

/// What a QUIC packet of 1,452 bytes carries of a stream; the rest is its header (11), its tag (16)
/// and the stream frame's header (10).
const QUIC_PAYLOAD_BYTES: usize = 1_415;

/// What a QUIC packet takes besides payload; acknowledgements, one of 40 bytes for two packets of
/// the other side, count for 20 of it.
const QUIC_OVERHEAD_BYTES: usize = 57;

/// Which way bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From this node to others.
    Up,
    /// From others to this node.
    Down,
}

/// Bytes on all sockets since the network started. Cheap to clone; all clones are one count.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    /// Bytes one way.
    pub fn bytes(&self, way: Way) -> u64 {
        self.cell(way).load(Ordering::Relaxed)
    }

    /// Bytes both ways.
    pub fn total(&self) -> u64 {
        self.bytes(Way::Up).saturating_add(self.bytes(Way::Down))
    }

    /// Counts a TCP connection's bytes.
    pub(super) fn tcp<S>(&self, socket: S) -> Metered<S> {
        Metered {
            io: socket,
            traffic: self.clone(),
            overhead: |_| 0,
        }
    }

    /// Counts a QUIC connection's bytes.
    pub(super) fn quic<M>(&self, connection: M) -> MeteredMuxer<M> {
        MeteredMuxer {
            muxer: connection,
            traffic: self.clone(),
        }
    }

    /// Counts bytes.
    pub fn add(&self, way: Way, bytes: usize) {
        self.cell(way).fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn cell(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.0.up,
            Way::Down => &self.0.down,
        }
    }
}

/// A socket or stream whose bytes are counted.
pub(super) struct Metered<S> {
    io: S,
    traffic: Traffic,
    /// What so many bytes take on the wire besides themselves.
    overhead: fn(usize) -> usize,
}

impl<S> Metered<S> {
    fn count(&self, way: Way, moved: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(bytes) = moved {
            self.traffic.add(way, bytes + (self.overhead)(bytes));
        }
        Poll::Ready(moved)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buffer));
        self.count(Way::Down, read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.count(Way::Up, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, parts));
        self.count(Way::Up, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// A connection whose streams are counted.
pub(super) struct MeteredMuxer<M> {
    muxer: M,
    traffic: Traffic,
}

impl<M> MeteredMuxer<M> {
    fn stream<S>(&self, stream: S) -> Metered<S> {
        Metered {
            io: stream,
            traffic: self.traffic.clone(),
            overhead: |bytes| bytes.div_ceil(QUIC_PAYLOAD_BYTES) * QUIC_OVERHEAD_BYTES,
        }
    }
}

impl<M> StreamMuxer for MeteredMuxer<M>
where
    M: StreamMuxer<Substream: Unpin> + Unpin,
{
    type Substream = Metered<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_inbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = ready!(Pin::new(&mut self.muxer).poll_outbound(cx))?;
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::futures::executor::block_on;
    use libp2p::futures::io::{AsyncReadExt, AsyncWriteExt, Cursor};

    use super::*;

    #[test]
    fn what_passes_is_counted_each_way() {
        let traffic = Traffic::default();
        let mut socket = traffic.tcp(Cursor::new(vec![0; 100]));
        block_on(async {
            socket.write_all(&[1; 60]).await.unwrap();
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest.len(), 40);
        });
        assert_eq!((traffic.bytes(Way::Up), traffic.bytes(Way::Down)), (60, 40));
        assert_eq!(traffic.total(), 100);
    }

    #[test]
    fn a_stream_of_quic_counts_its_packets() {
        let traffic = Traffic::default();
        let muxer = traffic.quic(());
        let mut stream = muxer.stream(Cursor::new(Vec::new()));
        block_on(stream.write_all(&[1; 14_150])).unwrap();
        assert_eq!(traffic.bytes(Way::Up), 14_150 + 10 * 57);
    }
}
