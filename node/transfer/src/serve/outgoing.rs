//! What goes to a client, and where in it the stream stands: a last word may stand behind a whole
//! message or piece and nowhere else.
//!
//! Reads along what the stream has taken, by the decoder that a client uses, so it is right whatever
//! writer was stopped in whatever moment. Payload passes uncopied; a message costs its decoding.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use shoal_protocol::exchange::{FrameDecoder, Response};
use tokio::io::AsyncWrite;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Behind a whole message or block: anything may follow.
    Boundary,
    /// Between two pieces of a block, which has to be ended before anything else follows.
    BetweenPieces,
    /// Within a message or a piece: whatever follows would be taken for its rest.
    Within,
}

/// The writing half of a stream that is served.
pub(super) struct Outgoing<W> {
    stream: W,
    written: FrameDecoder<Response>,
}

impl<W> Outgoing<W> {
    pub(super) fn new(stream: W) -> Self {
        Self {
            stream,
            written: FrameDecoder::default(),
        }
    }

    /// Where the stream stands.
    pub(super) fn at(&self) -> At {
        if self.written.is_between_frames() {
            At::Boundary
        } else if self.written.is_between_pieces() {
            At::BetweenPieces
        } else {
            At::Within
        }
    }

    /// Takes note of bytes that the stream has taken.
    fn follow(&mut self, mut bytes: &[u8]) {
        // What this node encodes is well-formed; were it not, the stream would stand within.
        while let Ok(Some(_)) = self.written.next(&mut bytes) {}
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Outgoing<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.follow(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::exchange::{self, Availability, Event, Missing, Reason};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn encoded(response: &Response) -> Vec<u8> {
        let mut bytes = Vec::new();
        exchange::encode(response, &mut bytes).unwrap();
        bytes
    }

    /// A stream with messages, a block in pieces, an empty block and one that was cancelled.
    fn conversation() -> Vec<u8> {
        let block = |id, len| encoded(&Response::Block { id, len });
        [
            encoded(&Response::status(Availability::Complete)),
            block(1, 10),
            exchange::piece_head(7).to_vec(),
            vec![1; 7],
            exchange::piece_head(3).to_vec(),
            vec![2; 3],
            block(2, 0),
            encoded(&Response::Missing {
                id: 3,
                why: Missing::NotHere,
            }),
            block(4, 100),
            exchange::piece_head(5).to_vec(),
            vec![3; 5],
            exchange::piece_head(0).to_vec(),
            encoded(&Response::status(Availability::Gone)),
        ]
        .concat()
    }

    #[tokio::test]
    async fn a_goodbye_never_lands_within_anything_wherever_the_stream_was_stopped() {
        let whole = conversation();
        let mut seen = [0; 3];
        for stopped in 0..=whole.len() {
            let mut outgoing = Outgoing::new(Vec::new());
            // In two writes, as the line takes what it can.
            let (first, second) = whole[..stopped].split_at(stopped / 2);
            outgoing.write_all(first).await.unwrap();
            outgoing.write_all(second).await.unwrap();
            let at = outgoing.at();
            seen[at as usize] += 1;
            let goodbye = encoded(&Response::Close(Reason::ShuttingDown));
            match at {
                At::Boundary => {}
                At::BetweenPieces => outgoing.write_all(&exchange::piece_head(0)).await.unwrap(),
                // The stream is reset.
                At::Within => continue,
            }
            outgoing.write_all(&goodbye).await.unwrap();
            assert_eq!(outgoing.at(), At::Boundary);
            let mut client = FrameDecoder::<Response>::default();
            let mut bytes = outgoing.stream.as_slice();
            let mut last = None;
            while let Some(event) = client.next(&mut bytes).unwrap() {
                last = Some(event);
            }
            let heard = Event::Message(Response::Close(Reason::ShuttingDown));
            assert_eq!(last, Some(heard), "stopped after {stopped} bytes");
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }
}
