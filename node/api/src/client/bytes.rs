//! Answers that carry bytes, in frames.

use std::marker::PhantomData;

use reqwest::Response;
use serde::de::DeserializeOwned;

use super::{Patience, lost, not_understood};
use crate::{ApiError, ErrorCode, FRAME_HEAD_BYTES, FrameKind, read_head, types::StreamEvent};

/// Bytes and what is said of them, until all were sent.
pub struct ByteStream<P, R> {
    response: Response,
    patience: Patience,
    /// What has arrived and was not taken: less than a frame and what came with its end.
    buffer: Vec<u8>,
    says: PhantomData<fn() -> (P, R)>,
}

/// One thing that comes in a [`ByteStream`].
#[derive(Debug, PartialEq)]
pub enum Part<P, R> {
    /// What comes next in the file.
    Bytes(Vec<u8>),
    /// How far it is.
    Progress(P),
    /// It was the last.
    Done(R),
}

impl<P: DeserializeOwned, R: DeserializeOwned> ByteStream<P, R> {
    pub(super) fn new(response: Response, patience: Patience) -> Self {
        Self {
            response,
            patience,
            buffer: Vec::new(),
            says: PhantomData,
        }
    }

    /// The next part; not to be called after the last.
    ///
    /// # Errors
    /// What the operation failed with, and [`ErrorCode::DaemonLost`] for an answer that was cut off
    /// or fell silent.
    pub async fn next(&mut self) -> Result<Part<P, R>, ApiError> {
        loop {
            let head = self.take(FRAME_HEAD_BYTES).await?;
            let head = head.try_into().ok().and_then(read_head);
            let (kind, len) = head.ok_or_else(no_frame)?;
            let bytes = self.take(len).await?;
            if kind == FrameKind::Data {
                return Ok(Part::Bytes(bytes));
            }
            match serde_json::from_slice(&bytes).map_err(|error| not_understood(&error))? {
                StreamEvent::Progress(progress) => return Ok(Part::Progress(progress)),
                StreamEvent::Heartbeat => {}
                StreamEvent::Done { result } => return Ok(Part::Done(result)),
                StreamEvent::Error { error } => return Err(error),
            }
        }
    }

    async fn take(&mut self, len: usize) -> Result<Vec<u8>, ApiError> {
        while self.buffer.len() < len {
            match self
                .patience
                .wait(self.patience.later, self.response.chunk())
                .await?
            {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Err(lost("it closed the connection")),
            }
        }
        let rest = self.buffer.split_off(len);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }
}

fn no_frame() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the daemon's answer is not in frames")
        .hint("it may be of another version; restart it")
}
