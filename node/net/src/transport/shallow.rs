//! A TCP socket whose system keeps no more bytes than leave soon.
//!
//! By itself a system takes megabytes for a connection before it has sent any. Everything else on
//! the connection waits behind them, a cancel too late to stop them among it: on a slow line for
//! minutes. Here it takes what leaves in [`UNSENT_TIME`], as far as that is known; what is on its way
//! does not count, so this is no bound on speed. A socket that keeps less than that takes all of one
//! write, however long that is: so no write is longer, and at most twice as much is kept.

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

/// What it may keep at first: a few packets.
const UNSENT_BYTES_FIRST: u32 = 16 << 10;

/// The least, at 16 KB/s and less: two full packets and the beginning of a third.
const UNSENT_BYTES_MIN: u32 = 4 << 10;

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

    /// As much of `bytes` as is written at once.
    fn cut<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..self.unsent.bytes()).unwrap_or(bytes)
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

/// How much may wait to be sent below, by how fast that takes bytes (pure).
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: u32,
    span_began: Instant,
    span_bytes: u64,
    /// More was to be written in the span than was taken.
    was_blocked: bool,
}

impl Unsent {
    /// As it is before anything was sent.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            bytes: UNSENT_BYTES_FIRST,
            span_began: now,
            span_bytes: 0,
            was_blocked: false,
        }
    }

    /// So many bytes may wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Nothing is taken now.
    pub(super) fn blocked(&mut self) {
        self.was_blocked = true;
    }

    /// So many bytes were taken; returns how many may wait from now on, where that changes.
    pub(super) fn wrote(&mut self, count: usize, now: Instant) -> Option<u32> {
        self.span_bytes = self.span_bytes.saturating_add(count as u64);
        let span = now.saturating_duration_since(self.span_began);
        if self.span_bytes < SPAN_BYTES && span < SPAN_TIME {
            return None;
        }
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        let kept_micros = u64::try_from(UNSENT_TIME.as_micros()).unwrap_or(u64::MAX);
        let kept = self.span_bytes.saturating_mul(kept_micros) / micros;
        let kept = u32::try_from(kept).unwrap_or(UNSENT_BYTES_MAX);
        let kept = kept.clamp(UNSENT_BYTES_MIN, UNSENT_BYTES_MAX);
        (self.span_began, self.span_bytes) = (now, 0);
        // Where all left at once there was no more to write: that says nothing of a slow line.
        let kept = match std::mem::take(&mut self.was_blocked) {
            true => kept,
            false => kept.max(self.bytes),
        };
        let before = std::mem::replace(&mut self.bytes, kept);
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
        let bytes = self.cut(bytes);
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if written.is_pending() {
            self.unsent.blocked();
        }
        let count = ready!(written)?;
        self.wrote(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = self.unsent.bytes();
        let all = parts.iter().map(|part| part.len());
        if all.fold(0_usize, usize::saturating_add) > most {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[][..], |part| part));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        if written.is_pending() {
            self.unsent.blocked();
        }
        let count = ready!(written)?;
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
            unsent.blocked();
            assert_eq!(unsent.wrote(count, now), expected, "{count} in {micros} us");
        };
        check(64 << 10, 100, None);
        check(960 << 10, 2_000, Some(256 << 10)); // a fast line
        check(64 << 10, 500_000, None);
        check(336 << 10, 500_000, Some(100 << 10)); // 400 KiB/s
        check(12_000, 1_000_000, Some(4 << 10)); // 12 kB/s
        check(12_000, 1_000_000, None);
        check(24_000, 1_000_000, Some(6_000));
        check(1 << 20, 10_000, Some(256 << 10));
    }

    #[test]
    fn a_rest_is_no_slow_line() {
        let start = Instant::now();
        let mut unsent = Unsent::new(start);
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(unsent.wrote(1 << 20, at(4)), Some(256 << 10));
        assert_eq!(unsent.wrote(100, at(10_000)), None, "there was no more");
        unsent.blocked();
        assert_eq!(unsent.wrote(100, at(20_000)), Some(4 << 10));
    }
}
