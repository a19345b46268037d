//! A stream of bytes over an emulated link, one way.
//!
//! What is written is there when the link has carried it, in order and whole: where a network would
//! lose, repeat or hold back, bytes come later. What is under way is bounded; then the writer
//! waits. While the link is blocked nothing passes and nothing is lost. A link that resets ends the
//! stream on both sides. It ends as a socket does: when the writer is closed or dropped, the reader
//! gets what is under way and then the end; when the reader is dropped, writing fails.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use libp2p::futures::{AsyncRead, AsyncWrite};
use parking_lot::Mutex;

use super::{
    emulator::{Wait, lock},
    path::{AHEAD_MAX, Path},
    timer::{LATE, Timer},
};

/// Makes the two ends of a stream over a link.
pub(crate) fn pipe(path: Path) -> (PipeWriter, PipeReader) {
    let now = path.emulator().now();
    let state = State {
        breaks_at: path.breaks_at(now),
        path,
        under_way: VecDeque::new(),
        bytes: 0,
        next_turn: Duration::ZERO,
        end: None,
        reader_gone: false,
        broken: false,
        reader: None,
        writer: None,
        onlooker: None,
    };
    let shared = Arc::new(Shared(Mutex::new(state)));
    let weak: Weak<Shared> = Arc::downgrade(&shared);
    lock(&shared.0).path.emulator().clone().waits(weak);
    let writer = PipeWriter {
        shared: Arc::clone(&shared),
        timer: Timer::default(),
    };
    let reader = PipeReader {
        shared,
        timer: Timer::default(),
    };
    (writer, reader)
}

struct Shared(Mutex<State>);

struct State {
    path: Path,
    under_way: VecDeque<Piece>,
    /// Bytes under way.
    bytes: usize,
    /// When the writer may send again.
    next_turn: Duration,
    /// When the reader learns that the writer has ended.
    end: Option<Duration>,
    reader_gone: bool,
    /// When the link breaks for the next time.
    breaks_at: Option<Duration>,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    onlooker: Option<Waker>,
}

/// Bytes that arrive together.
struct Piece {
    arrives: Duration,
    bytes: Vec<u8>,
    taken: usize,
}

impl State {
    /// Takes note of a new plan, and whether the link has broken.
    fn look(&mut self, now: Duration) -> io::Result<()> {
        if self.path.refresh() {
            self.breaks_at = self.path.breaks_at(now);
        }
        if !self.broken
            && self
                .breaks_at
                .is_some_and(|at| at <= now.saturating_add(LATE))
        {
            self.broken = true;
            self.under_way = VecDeque::new();
            self.wake_all();
        }
        if self.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn wake_all(&mut self) {
        let wakers = [self.reader.take(), self.writer.take(), self.onlooker.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Hands out what has arrived.
    fn take_arrived(&mut self, now: Duration, to: &mut [u8]) -> usize {
        let mut given = 0;
        while let Some(piece) = self.under_way.front_mut() {
            if piece.arrives > now.saturating_add(LATE) || given == to.len() {
                break;
            }
            let (rest, room) = (&piece.bytes[piece.taken..], &mut to[given..]);
            let count = rest.len().min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            piece.taken += count;
            given += count;
            if piece.taken == piece.bytes.len() {
                self.under_way.pop_front();
            }
        }
        self.bytes = self.bytes.saturating_sub(given);
        given
    }

    /// What the reader waits for next.
    fn next_arrival(&self) -> Option<Duration> {
        let next = self
            .under_way
            .front()
            .map(|piece| piece.arrives)
            .or(self.end);
        let next = next.filter(|_| !self.path.is_blocked());
        next.into_iter().chain(self.breaks_at).min()
    }
}

impl Wait for Shared {
    fn wake(&self) {
        lock(&self.0).wake_all();
    }
}

/// The end that is written to.
pub(crate) struct PipeWriter {
    shared: Arc<Shared>,
    timer: Timer,
}

/// The end that is read from.
pub(crate) struct PipeReader {
    shared: Arc<Shared>,
    timer: Timer,
}

impl PipeWriter {
    /// Has the task woken when the link breaks; an error when it has.
    pub(crate) fn look_on(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut state = lock(&self.shared.0);
        let now = state.path.emulator().now();
        state.look(now)?;
        keep(&mut state.onlooker, cx);
        Ok(())
    }

    fn end(&mut self) {
        let mut state = lock(&self.shared.0);
        if state.end.is_some() {
            return;
        }
        let now = state.path.emulator().now();
        state.path.refresh();
        state.end = Some(state.path.send(now, 0).arrives);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

fn keep(waker: &mut Option<Waker>, cx: &mut Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut state = lock(&this.shared.0);
        let emulator = state.path.emulator().clone();
        let now = emulator.now();
        state.look(now)?;
        if state.reader_gone || state.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = state.path.window_bytes().saturating_sub(state.bytes);
        if room == 0 || state.path.is_blocked() {
            keep(&mut state.writer, cx);
            return Poll::Pending;
        }
        let turn = state.next_turn.saturating_sub(AHEAD_MAX);
        if this.timer.poll(cx, &emulator, turn).is_pending() {
            keep(&mut state.writer, cx);
            return Poll::Pending;
        }
        let count = bytes.len().min(room).min(state.path.turn_bytes());
        let sent = state.path.send(now, count);
        state.next_turn = sent.leaves;
        state.bytes += count;
        state.under_way.push_back(Piece {
            arrives: sent.arrives,
            bytes: bytes[..count].to_owned(),
            taken: 0,
        });
        if state.under_way.len() == 1
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut state = lock(&this.shared.0);
        let emulator = state.path.emulator().clone();
        loop {
            let now = emulator.now();
            state.look(now)?;
            if !state.path.is_blocked() {
                let given = state.take_arrived(now, to);
                if given > 0 || to.is_empty() {
                    if let Some(writer) = state.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(given));
                }
                let ended = state.end.is_some_and(|end| end <= now.saturating_add(LATE));
                if ended && state.under_way.is_empty() {
                    return Poll::Ready(Ok(0));
                }
            }
            keep(&mut state.reader, cx);
            let Some(next) = state.next_arrival() else {
                return Poll::Pending;
            };
            if this.timer.poll(cx, &emulator, next).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.0);
        state.reader_gone = true;
        state.under_way = VecDeque::new();
        state.wake_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::poll;
    use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::emulation::{Emulator, Line, Payer, Plan};

    /// From node 0 to node 1, whose lines are like this.
    fn linked(line: Line) -> (PipeWriter, PipeReader) {
        let plan = Plan {
            nodes: vec![line; 2],
            ..Plan::default()
        };
        pipe(Emulator::new(plan).path(Some(0), Some(1), Payer::Both))
    }

    #[tokio::test]
    async fn bytes_come_in_order_and_then_the_end() {
        let (mut writer, mut reader) = linked(Line {
            latency: Duration::from_millis(3),
            jitter: Duration::from_millis(3),
            up: "40mbit".parse().unwrap(),
            ..Line::default()
        });
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let send = async {
            for piece in sent.chunks(777) {
                writer.write_all(piece).await.unwrap();
            }
            writer.close().await.unwrap();
            writer.write_all(b"late").await.unwrap_err()
        };
        let mut received = Vec::new();
        let (late, read) = tokio::join!(send, reader.read_to_end(&mut received));
        read.unwrap();
        assert!(received == sent);
        assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_is_under_way_is_bounded_and_a_reader_that_is_gone_is_an_error() {
        let (mut writer, mut reader) = linked(Line::default());
        let window = 4 << 20;
        let piece = vec![1; 64 << 10];
        let mut taken = 0;
        loop {
            let mut write = writer.write(&piece);
            match poll!(&mut write) {
                Poll::Ready(count) => taken += count.unwrap(),
                Poll::Pending => break,
            }
            assert!(taken <= 2 * window, "no end of it");
        }
        assert_eq!(taken, window + (256 << 10));
        let mut some = vec![0; 1000];
        let count = reader.read(&mut some).await.unwrap();
        assert_eq!(
            writer.write(&piece).await.unwrap(),
            count,
            "as much as was taken out"
        );
        drop(reader);
        let error = writer.write(&piece).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
