//! A TCP socket whose system keeps no more bytes than leave soon.
//!
//! By itself a system takes megabytes for a connection before it has sent any. Everything else on
//! the connection waits behind them, a cancel too late to stop them among it: on a slow line for
//! minutes. Here it takes what leaves in [`UNSENT_TIME`], as far as that is known; what is on its way
//! does not count, so this is no bound on speed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
use socket2::SockRef;

/// What the system may keep of a connection's bytes, in time.
const UNSENT_TIME: Duration = Duration::from_millis(250);

/// The most it may keep, at 1 MB/s and more.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// The least, and what it keeps at first: a few packets.
const UNSENT_BYTES_MIN: u32 = 16 << 10;

/// Bytes and time over which the rate is taken, whichever is over first: a fast line is known as one
/// after some milliseconds.
const SPAN_BYTES: u64 = 1 << 20;
const SPAN_TIME: Duration = Duration::from_secs(1);

/// A socket with a shallow buffer.
pub(super) struct Shallow {
    socket: TcpStream,
    unsent: Unsent,
}

impl Shallow {
    pub(super) fn new(socket: TcpStream) -> Self {
        let shallow = Self {
            socket,
            unsent: Unsent::new(Instant::now()),
        };
        shallow.set(shallow.unsent.bytes);
        shallow
    }

    fn wrote(&mut self, count: usize) {
        if let Some(bytes) = self.unsent.wrote(count, Instant::now()) {
            self.set(bytes);
        }
    }

    fn set(&self, bytes: u32) {
        if let Err(error) = SockRef::from(&self.socket.0).set_tcp_notsent_lowat(bytes) {
            tracing::debug!(%error, "a socket keeps more than it sends soon");
        }
    }
}

/// How much the system may keep, by how fast it takes bytes (pure).
#[derive(Debug)]
struct Unsent {
    bytes: u32,
    span_began: Instant,
    span_bytes: u64,
}

impl Unsent {
    fn new(now: Instant) -> Self {
        Self {
            bytes: UNSENT_BYTES_MIN,
            span_began: now,
            span_bytes: 0,
        }
    }

    /// The system has taken so many bytes; returns what it may keep from now on where that changes.
    fn wrote(&mut self, count: usize, now: Instant) -> Option<u32> {
        self.span_bytes = self.span_bytes.saturating_add(count as u64);
        let span = now.saturating_duration_since(self.span_began);
        if self.span_bytes < SPAN_BYTES && span < SPAN_TIME {
            return None;
        }
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        let kept_micros = u64::try_from(UNSENT_TIME.as_micros()).unwrap_or(u64::MAX);
        let kept = self.span_bytes.saturating_mul(kept_micros) / micros;
        let kept = u32::try_from(kept).unwrap_or(UNSENT_BYTES_MAX);
        (self.span_began, self.span_bytes) = (now, 0);
        let before = std::mem::replace(
            &mut self.bytes,
            kept.clamp(UNSENT_BYTES_MIN, UNSENT_BYTES_MAX),
        );
        (self.bytes != before).then_some(self.bytes)
    }
}

impl AsyncRead for Shallow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Shallow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, parts))?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_keeps_what_leaves_soon() {
        let start = Instant::now();
        let mut unsent = Unsent::new(start);
        let mut now = start;
        let mut check = |count: usize, micros: u64, expected: Option<u32>| {
            now += Duration::from_micros(micros);
            assert_eq!(unsent.wrote(count, now), expected, "{count} in {micros} us");
        };
        check(64 << 10, 100, None);
        check(960 << 10, 2_000, Some(256 << 10)); // a fast line
        check(64 << 10, 500_000, None);
        check(336 << 10, 500_000, Some(100 << 10)); // 400 KiB/s
        check(12_000, 1_000_000, Some(16 << 10)); // 12 kB/s
        check(12_000, 1_000_000, None);
        check(1 << 20, 10_000, Some(256 << 10));
    }
}
