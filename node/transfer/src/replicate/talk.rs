//! Messages on a stream of replication, read and written under a deadline.
//!
//! Knows frames and nothing of what they mean. Streams last as long as their connection, so a stream
//! may be silent between two messages for as long as it likes, and not within one.

use std::{io, marker::PhantomData, time::Duration};

use shoal_ground::deadline::within;
use shoal_net::ExchangeStream;
use shoal_protocol::replicate::{self, FrameDecoder, FrameError, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

/// For a message to be written or, once begun, read; and for a question to be answered.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes that are read at a time: most messages are shorter than 200 bytes.
const READ_BYTES: usize = 4 << 10;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer ended it, or the connection did.
    #[error("the stream has ended")]
    Gone,
    /// The peer stopped in the middle of a message, did not read, or did not answer.
    #[error("the peer is too slow")]
    TooSlow,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer said more than it may.
    #[error("the peer said more than it may")]
    ShutOut,
    /// This node has no use for it any more.
    #[error("it is not needed any more")]
    Dropped,
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// The reading half of a stream.
pub(super) struct Ear<M> {
    io: ReadHalf<ExchangeStream>,
    buffer: Vec<u8>,
    /// What of the buffer is not decoded yet.
    unread: std::ops::Range<usize>,
    decoder: FrameDecoder<M>,
}

/// The writing half of a stream.
pub(super) struct Mouth<M> {
    io: WriteHalf<ExchangeStream>,
    message: PhantomData<fn(M)>,
}

/// Both halves: what is heard, and what is said.
pub(super) fn both<H: Message, S: Message>(stream: ExchangeStream) -> (Ear<H>, Mouth<S>) {
    let (reader, writer) = tokio::io::split(stream);
    let ear = Ear {
        io: reader,
        buffer: vec![0; READ_BYTES],
        unread: 0..0,
        decoder: FrameDecoder::default(),
    };
    let mouth = Mouth {
        io: writer,
        message: PhantomData,
    };
    (ear, mouth)
}

impl<M: Message> Ear<M> {
    /// The next message. Cancel-safe: what was read of one is kept.
    pub(super) async fn next(&mut self) -> Result<M, Ended> {
        loop {
            let mut input = self.buffer.get(self.unread.clone()).unwrap_or_default();
            let message = self.decoder.next(&mut input)?;
            self.unread.start = self.unread.end.saturating_sub(input.len());
            if let Some(message) = message {
                return Ok(message);
            }
            let reading = self.io.read(&mut self.buffer);
            let read = match self.decoder.is_between_frames() {
                true => reading.await,
                false => within(DEADLINE, reading).await.ok_or(Ended::TooSlow)?,
            };
            match read {
                Ok(len @ 1..) => self.unread = 0..len,
                Ok(0) | Err(_) => return Err(Ended::Gone),
            }
        }
    }
}

impl<M: Message> Mouth<M> {
    /// Writes a message. Not cancel-safe: half a message ends the stream for the peer.
    pub(super) async fn say(&mut self, message: &M) -> Result<(), Ended> {
        let mut frame = Vec::new();
        // Messages are made within their limits.
        replicate::encode(message, &mut frame)?;
        let writing = async {
            self.io.write_all(&frame).await?;
            self.io.flush().await?;
            io::Result::Ok(())
        };
        match within(DEADLINE, writing).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(Ended::Gone),
            None => Err(Ended::TooSlow),
        }
    }
}
