//! Messages about replicas on one stream, for evil peers and for tests.
//!
//! It knows frames and nothing of what they mean. It has no deadlines, unlike the same part of a node:
//! the callers of both halves give up when they like.

use std::io;

use shoal_protocol::replicate::{self, FrameDecoder, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Cuts what comes on a stream into messages.
pub struct Ear<M> {
    decoder: FrameDecoder<M>,
    unread: Vec<u8>,
}

impl<M> Default for Ear<M> {
    fn default() -> Self {
        Self {
            decoder: FrameDecoder::default(),
            unread: Vec::new(),
        }
    }
}

impl<M: Message> Ear<M> {
    /// The next message. Cancel-safe: what was read of one is kept.
    ///
    /// # Errors
    /// When the stream ends, or what comes is no message.
    pub async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
        loop {
            let mut input = self.unread.as_slice();
            let message = self.decoder.next(&mut input).map_err(io::Error::other)?;
            self.unread = input.to_vec();
            if let Some(message) = message {
                return Ok(message);
            }
            if stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Writes a message. Not cancel-safe: half a message ends the stream for the peer.
///
/// # Errors
/// When the stream has ended, or the message is longer than any may be.
pub async fn say(stream: &mut (impl AsyncWrite + Unpin), message: &impl Message) -> io::Result<()> {
    let mut frame = Vec::new();
    replicate::encode(message, &mut frame).map_err(io::Error::other)?;
    stream.write_all(&frame).await?;
    stream.flush().await
}
