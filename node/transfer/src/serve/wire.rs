//! What is said on a served stream, read and written under a deadline; and why a stream ends.
//!
//! Knows frames and nothing of what is asked for. A peer that breaks the protocol, is too slow or is gone ends
//! the stream with an [`Ended`].

use std::io;

use shoal_ground::deadline::within;
use shoal_net::ExchangeStream;
use shoal_protocol::exchange::{self, Request, Response, pace};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf};

use super::outgoing::Outgoing;
use crate::limits::Spent;

/// Why a served stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The client said that it is done.
    #[error("done")]
    Done,
    /// This node shuts down.
    #[error("this node shuts down")]
    ShuttingDown,
    /// The root is not served here, or not any more.
    #[error("the root is not served")]
    NotServed,
    /// The client broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Protocol(String),
    /// This month's traffic budget is used up.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// The client was silent or did not read.
    #[error("the client was too slow")]
    TooSlow,
    /// Nothing moved, and others need its place.
    #[error("nothing moved on it, and others needed its place")]
    GaveWay,
    /// The stream broke.
    #[error("the stream broke")]
    Lost,
}

pub(super) type Reader = BufReader<ReadHalf<ExchangeStream>>;
pub(super) type Writer = Outgoing<WriteHalf<ExchangeStream>>;

/// The next request; none where the client has ended its side.
pub(super) async fn read_request(reader: &mut Reader) -> Result<Option<Request>, Ended> {
    let mut head = [0; 4];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(_) => return Err(Ended::Lost),
    }
    let protocol = |error: exchange::WireError| Ended::Protocol(error.to_string());
    let len = exchange::frame_len(head).map_err(protocol)?;
    let mut body = vec![0; len];
    reader
        .read_exact(&mut body)
        .await
        .map_err(|_| Ended::Lost)?;
    exchange::decode_request(&body).map(Some).map_err(protocol)
}

/// Writes one message.
pub(super) async fn write(writer: &mut Writer, response: &Response) -> Result<(), Ended> {
    let mut frame = Vec::new();
    encode(response, &mut frame);
    write_frames(writer, &frame).await
}

/// Writes messages that are not content: a status and a hint, 75 KiB at the most.
pub(super) async fn write_frames(writer: &mut Writer, frames: &[u8]) -> Result<(), Ended> {
    deadline(frames.len(), writer.write_all(frames)).await?;
    deadline(0, writer.flush()).await
}

/// Adds a message to those that are written together.
pub(super) fn encode(response: &Response, frames: &mut Vec<u8>) {
    // Only an over-long list can fail, and the server builds none.
    if let Err(error) = exchange::encode(response, frames) {
        tracing::error!(%error, "an answer could not be encoded");
    }
}

/// Bounds a write of so many bytes by what the slowest line takes for them.
pub(super) async fn deadline(
    bytes: usize,
    io: impl Future<Output = io::Result<()>>,
) -> Result<(), Ended> {
    match within(pace::time_for(bytes as u64), io).await {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) => Err(Ended::Lost),
        None => Err(Ended::TooSlow),
    }
}
