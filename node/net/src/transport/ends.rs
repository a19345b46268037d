//! A deadline for every end of a connection: closing takes so long and no longer, and a peer that
//! is silent is gone.
//!
//! Owns no bytes. libp2p waits for a connection that it closes until all that was written has left,
//! which is never when the peer has stopped to read; here the wait ends after [`CLOSE_TIMEOUT`], and
//! libp2p drops the connection. A connection over a socket, from whose peer nothing has arrived for
//! [`IDLE_SILENCE_MAX`], ends without a goodbye, for nobody would read it; one on which somebody waits
//! for an answer ends sooner, by its pings. The system's own word for it,
//! [`UNACKED_MAX`], comes later: this node knows of its own sleep, and the system does not.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use libp2p::futures::{AsyncRead, AsyncWrite};
use shoal_ground::clock_gap::{ClockGaps, Gap};
use tokio::time::{Sleep, sleep, sleep_until};

use crate::config::{IDLE_SILENCE_MAX, SILENCE_MAX};

/// How long closing a connection may take. What is left to be sent then is a goodbye behind data
/// that the peer does not read.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long sent bytes may go without any acknowledgement, or a peer's window stay shut
/// (`TCP_USER_TIMEOUT`): longer than [`SILENCE_MAX`], so it decides only where that does not, for a
/// socket that is closed and has bytes left. It counts from the last acknowledgement, so a slow line
/// is safe: at 4 kB/s a packet of 1500 bytes is acknowledged every 0.4 s however much is queued.
pub(super) const UNACKED_MAX: Duration = SILENCE_MAX.saturating_add(Duration::from_secs(15));

/// How long after a sleep, in which every peer alive must have given this node up, a peer has to
/// give a sign. It was asked for one when the sleep ended, so a round trip would do.
const SILENCE_AFTER_SLEEP_MAX: Duration = Duration::from_secs(10);

/// How often silence is looked for at least: a gap may have shortened the time meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// When the last bytes of a connection arrived. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Heard(Arc<HeardAt>);

#[derive(Debug)]
struct HeardAt {
    start: Instant,
    millis: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self(Arc::new(HeardAt {
            start: Instant::now(),
            millis: AtomicU64::new(0),
        }))
    }

    fn note(&self) {
        let millis = self.0.start.elapsed().as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.0.millis.store(millis, Relaxed);
    }

    fn last(&self) -> Instant {
        self.0.start + Duration::from_millis(self.0.millis.load(Relaxed))
    }
}

/// A socket that notes when something arrives.
pub(super) struct Listening<S> {
    socket: S,
    heard: Heard,
}

impl<S> Listening<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            heard: Heard::new(),
        }
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        if matches!(read, Ok(1..)) {
            self.heard.note();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// Bounds the ends of a connection; of one whose transport looks for silence by itself, as QUIC
/// does, only how long closing takes.
pub(super) fn bounded<M>(muxer: M, silence: Option<(Heard, ClockGaps)>) -> StreamMuxerBox
where
    M: StreamMuxer + Send + Unpin + 'static,
    M::Substream: Send + 'static,
    M::Error: Error + Send + Sync + 'static,
{
    StreamMuxerBox::new(Bounded {
        muxer,
        silence: silence.map(|(heard, gaps)| Silence {
            heard,
            gaps,
            look: Box::pin(sleep(LOOK_INTERVAL)),
        }),
        closing: None,
    })
}

/// A connection whose ends have deadlines.
struct Bounded<M> {
    muxer: M,
    silence: Option<Silence>,
    /// Runs from the first attempt to close.
    closing: Option<Pin<Box<Sleep>>>,
}

impl<M> StreamMuxer for Bounded<M>
where
    M: StreamMuxer<Error: Error + Send + Sync + 'static> + Unpin,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let muxer = Pin::new(&mut self.muxer);
        muxer.poll_inbound(cx).map_err(io::Error::other)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        let muxer = Pin::new(&mut self.muxer);
        muxer.poll_outbound(cx).map_err(io::Error::other)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        // First it reads: what has arrived counts, however late this is.
        let event = Pin::new(&mut self.muxer).poll(cx);
        match (event, &mut self.silence) {
            (Poll::Ready(event), _) => Poll::Ready(event.map_err(io::Error::other)),
            (Poll::Pending, Some(silence)) => silence.poll(cx).map(Err),
            (Poll::Pending, None) => Poll::Pending,
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        let closing = self
            .closing
            .get_or_insert_with(|| Box::pin(sleep(CLOSE_TIMEOUT)));
        ready!(closing.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read, so the connection was cut",
        )))
    }
}

/// Looks for a peer that has fallen silent.
struct Silence {
    heard: Heard,
    gaps: ClockGaps,
    look: Pin<Box<Sleep>>,
}

impl Silence {
    /// Ends when the peer has been silent for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.look.as_mut().poll(cx));
            // A gap that has just ended is noticed by this look.
            let end = silence_end(self.heard.last(), self.gaps.look());
            let now = Instant::now();
            if end <= now {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nothing was heard from the peer for too long",
                ));
            }
            self.look = Box::pin(sleep_until(end.min(now + LOOK_INTERVAL).into()));
        }
    }
}

/// When a peer counts as gone that was `heard` last then, if nothing arrives before.
///
/// During a gap nobody listened, so the time begins anew with its end. After a long one it is short:
/// a peer that lives heard nothing from this node either, and has closed the connection.
fn silence_end(heard: Instant, gap: Option<Gap>) -> Instant {
    match gap.filter(|gap| gap.ended > heard) {
        Some(gap) if gap.length >= SILENCE_MAX => gap.ended + SILENCE_AFTER_SLEEP_MAX,
        Some(gap) => gap.ended + SILENCE_MAX,
        None => heard + IDLE_SILENCE_MAX,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::poll_fn;
    use std::pin::pin;

    use futures::poll;
    use libp2p::core::muxing::StreamMuxerExt;
    use libp2p::futures::AsyncWriteExt;
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::super::mux::{Muxer, Side};
    use super::super::yamux::Yamux;
    use super::*;

    #[test]
    fn silence_is_counted_from_what_came_last_and_anew_after_a_gap() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let gap = |ended: u64, length: u64| Gap {
            number: 1,
            length: seconds(length),
            ended: start + seconds(ended),
        };
        let check = |heard: u64, gap: Option<Gap>, expected: u64| {
            let end = silence_end(start + seconds(heard), gap);
            assert_eq!(end, start + seconds(expected), "{heard} {gap:?}");
        };
        check(7, None, 232);
        check(7, Some(gap(5, 100)), 232);
        check(7, Some(gap(30, 20)), 75);
        check(7, Some(gap(100, 90)), 110);
    }

    #[test]
    fn the_system_waits_longer_than_this_node() {
        assert!(UNACKED_MAX > SILENCE_MAX + CLOSE_TIMEOUT);
    }

    type Line = Listening<Compat<DuplexStream>>;

    /// A muxer over a pipe of 1 KiB whose other end nobody reads, or not at first.
    fn unread(wrap: impl FnOnce(Line) -> StreamMuxerBox) -> (StreamMuxerBox, DuplexStream) {
        let (near, far) = duplex(1 << 10);
        (wrap(Listening::new(near.compat())), far)
    }

    fn own(line: Line, gaps: ClockGaps) -> StreamMuxerBox {
        let heard = line.heard();
        bounded(Muxer::new(line, Side::Dialler, 8), Some((heard, gaps)))
    }

    fn stock(line: Line, gaps: ClockGaps) -> StreamMuxerBox {
        let heard = line.heard();
        let muxer = Yamux::new(8).muxer(line, Side::Dialler);
        bounded(muxer, Some((heard, gaps)))
    }

    /// Closes with unsent bytes, of which the peer never reads any.
    async fn check_close(wrap: fn(Line, ClockGaps) -> StreamMuxerBox) {
        let (mut muxer, _far) = unread(|line| wrap(line, ClockGaps::default()));
        let mut stream = poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
        let filling = async {
            loop {
                stream.write_all(&[7; 16 << 10]).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        {
            let mut filling = pin!(filling);
            let mut driving = pin!(poll_fn(|cx| muxer.poll_unpin(cx)));
            // Until the pipe is full, which holds a small part of what is written.
            for _ in 0..8 {
                assert!(poll!(&mut filling).is_pending() && poll!(&mut driving).is_pending());
            }
        }
        let start = Instant::now();
        let error = muxer.close().await.unwrap_err();
        assert!(error.to_string().contains("does not read"), "{error}");
        assert!(start.elapsed() >= CLOSE_TIMEOUT);
        assert!(
            stream.write_all(&[7]).await.is_err(),
            "its streams end with it"
        );
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut_soon_after_the_decision_to_close() {
        let both = async { tokio::join!(check_close(own), check_close(stock)) };
        tokio::time::timeout(CLOSE_TIMEOUT * 10, both)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_reads_hears_the_end() {
        let (near, mut far) = duplex(1 << 10);
        let muxer = own(Listening::new(near.compat()), ClockGaps::default());
        muxer.close().await.unwrap();
        far.shutdown().await.unwrap();
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut rest)
            .await
            .unwrap();
        assert!(rest.is_empty());
    }
}
