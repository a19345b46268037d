//! Messages as frames: `u32` big-endian length, then the message in postcard, as in the exchange.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::message::{Answer, HELD_RANGES_MAX, Held, Offer, RANGES_MAX, Reply, Request, Response};
use crate::{
    exchange::LeafRanges,
    frame::{self, Broken, Partial},
};

/// The longest message, in bytes. The longest that a well-behaved node sends, an [`Offer`] with all
/// its lists used up, takes 14.3 KiB.
pub const FRAME_BYTES_MAX: usize = 16 << 10;

/// The length before each message, in bytes.
pub const FRAME_HEAD_BYTES: usize = frame::HEAD_BYTES;

/// Why bytes are not a message; the peer that sent them broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length beyond [`FRAME_BYTES_MAX`].
    #[error("a frame of {len} bytes; at most {FRAME_BYTES_MAX} are accepted")]
    TooLong {
        /// The length in bytes.
        len: usize,
    },
    /// No message, or one with a value that is not allowed.
    #[error("malformed message: {0}")]
    Malformed(#[from] postcard::Error),
    /// A message with bytes after it.
    #[error("{len} bytes after the message")]
    Trailing {
        /// How many bytes.
        len: usize,
    },
    /// A [`Request::Holding`] without a key, or an [`Offer`] of no leaf.
    #[error("a message about nothing")]
    Nothing,
    /// Leaf ranges beyond the leaves that the root is said to have.
    #[error("leaves beyond the root's last")]
    Beyond,
    /// More ranges than the message may carry.
    #[error("{len} leaf ranges; at most {max} are accepted")]
    Ranges {
        /// How many there are.
        len: usize,
        /// How many there may be.
        max: usize,
    },
}

impl From<Broken> for FrameError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLong(len) => Self::TooLong { len },
            Broken::Malformed(error) => Self::Malformed(error),
            Broken::Trailing(len) => Self::Trailing { len },
        }
    }
}

/// A [`Request`] or a [`Response`].
pub trait Message: Serialize + DeserializeOwned + sealed::Checked {}

impl Message for Request {}
impl Message for Response {}

mod sealed {
    use super::FrameError;

    pub trait Checked {
        /// What one field's type can't say.
        fn check(&self) -> Result<(), FrameError>;
    }
}

impl sealed::Checked for Request {
    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Hello(_) | Self::Ask { .. } => Ok(()),
            Self::Offer(offer) => check_offer(offer),
            Self::Holding { held } if held.is_empty() => Err(FrameError::Nothing),
            Self::Holding { held } => held
                .iter()
                .try_for_each(|Held { ranges, .. }| within(ranges, HELD_RANGES_MAX)),
        }
    }
}

impl sealed::Checked for Response {
    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Answer {
                answer: Answer::Have { ranges, .. },
                ..
            }
            | Self::Reply {
                reply: Reply::Accept { ranges },
                ..
            } => within(ranges, RANGES_MAX),
            Self::Hello(_) | Self::Answer { .. } | Self::Reply { .. } | Self::Tell { .. } => Ok(()),
        }
    }
}

fn check_offer(offer: &Offer) -> Result<(), FrameError> {
    let last = offer.ranges.iter().last();
    match last {
        None => Err(FrameError::Nothing),
        Some(range) if range.end > offer.leaves => Err(FrameError::Beyond),
        Some(_) => within(&offer.ranges, RANGES_MAX),
    }
}

fn within(ranges: &LeafRanges, max: usize) -> Result<(), FrameError> {
    match ranges.iter().len() {
        len if len > max => Err(FrameError::Ranges { len, max }),
        _ => Ok(()),
    }
}

/// Appends the message's frame.
///
/// # Errors
/// Any [`FrameError`] for a message that no one would accept; `out` is as before then.
pub fn encode(message: &impl Message, out: &mut Vec<u8>) -> Result<(), FrameError> {
    message.check()?;
    Ok(frame::append(message, FRAME_BYTES_MAX, out)?)
}

/// Cuts a stream of bytes, in whatever pieces they come, into messages.
///
/// It holds at most one unfinished frame. After an error the stream can't be read on: every further
/// call returns it again.
#[derive(Debug)]
pub struct FrameDecoder<M> {
    /// The frame that is being read, as far as it has come.
    partial: Partial,
    failed: Option<FrameError>,
    message: PhantomData<fn() -> M>,
}

impl<M> Default for FrameDecoder<M> {
    fn default() -> Self {
        Self {
            partial: Partial::default(),
            failed: None,
            message: PhantomData,
        }
    }
}

impl<M: Message> FrameDecoder<M> {
    /// Takes bytes off the front of `input` until there is a message; `None` if the input is used
    /// up.
    ///
    /// # Errors
    /// A [`FrameError`] if the bytes are not a message.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<M>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.take_message(input)
            .inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Whether the stream may end here.
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && self.failed.is_none()
    }

    fn take_message(&mut self, input: &mut &[u8]) -> Result<Option<M>, FrameError> {
        let Some(body) = self.partial.body(input, FRAME_BYTES_MAX)? else {
            return Ok(None);
        };
        let message: M = frame::read(body)?;
        message.check()?;
        self.partial.clear();
        Ok(Some(message))
    }
}
