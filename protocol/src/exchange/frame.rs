//! Messages as frames: `u32` big-endian length, then the message in postcard.
//!
//! A [`Response::Block`] frame is followed by its payload, outside of any frame, in pieces that each
//! have a length before them.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::{Request, Response};
use crate::frame::{self, Broken, Partial, take};

/// The longest message, in bytes. The longest there are, a partial availability with
/// [`RANGES_MAX`](super::RANGES_MAX) ranges, takes 41 KiB.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

/// The length before each message, in bytes.
pub const FRAME_HEAD_BYTES: usize = frame::HEAD_BYTES;

/// The length before each piece of a payload, in bytes.
pub const PIECE_HEAD_BYTES: usize = frame::HEAD_BYTES;

/// Why bytes are not a message; who sent them broke the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A declared length beyond [`FRAME_BYTES_MAX`].
    #[error("a frame of {len} bytes; at most {FRAME_BYTES_MAX} are accepted")]
    FrameTooLong {
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
    /// A piece of a payload that is longer than what is left of its block.
    #[error("a piece of {len} bytes, of a block that has {left} left")]
    Piece {
        /// The piece's length in bytes.
        len: usize,
        /// What is left of the block, in bytes.
        left: usize,
    },
    /// A [`Request::Want`] or [`Request::Cancel`] without an id, or with ids beyond `u32`.
    #[error("{count} want ids from {id}")]
    Ids {
        /// The first id.
        id: u32,
        /// How many.
        count: usize,
    },
}

impl From<Broken> for WireError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::TooLong(len) => Self::FrameTooLong { len },
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
    use super::{Request, Response, WireError};

    pub trait Checked {
        /// What one field's type can't say.
        fn check(&self) -> Result<(), WireError>;

        /// The bytes that follow the frame.
        fn payload(&self) -> Option<(u32, u32)>;
    }

    impl Checked for Request {
        fn check(&self) -> Result<(), WireError> {
            let (id, count) = match self {
                Self::Want { id, blocks } => (*id, blocks.len()),
                Self::Cancel { id, count } => (*id, usize::try_from(*count).unwrap_or(usize::MAX)),
                Self::Open { .. } | Self::Close | Self::Rest { .. } | Self::Nearby { .. } => {
                    return Ok(());
                }
            };
            let last = u32::try_from(count)
                .ok()
                .and_then(|count| count.checked_sub(1));
            match last.and_then(|last| id.checked_add(last)) {
                Some(_) => Ok(()),
                None => Err(WireError::Ids { id, count }),
            }
        }

        fn payload(&self) -> Option<(u32, u32)> {
            None
        }
    }

    impl Checked for Response {
        fn check(&self) -> Result<(), WireError> {
            Ok(())
        }

        fn payload(&self) -> Option<(u32, u32)> {
            match self {
                Self::Block { id, len } => Some((*id, *len)),
                _ => None,
            }
        }
    }
}

/// Appends the message's frame.
///
/// # Errors
/// [`WireError::Ids`] and [`WireError::FrameTooLong`] for a message that no one would accept;
/// `out` is as before then. A server's own [`Response::Block`] must not be longer than
/// [`BLOCK_BYTES_MAX`](crate::address::BLOCK_BYTES_MAX): that is the caller's to see to.
pub fn encode(message: &impl Message, out: &mut Vec<u8>) -> Result<(), WireError> {
    message.check()?;
    Ok(frame::append(message, FRAME_BYTES_MAX, out)?)
}

/// The length of the message that follows these bytes.
///
/// # Errors
/// [`WireError::FrameTooLong`] beyond [`FRAME_BYTES_MAX`].
pub fn frame_len(head: [u8; FRAME_HEAD_BYTES]) -> Result<usize, WireError> {
    Ok(frame::body_len(head, FRAME_BYTES_MAX)?)
}

/// The bytes before a piece of `len` bytes; before none, they end the block early.
#[must_use]
pub fn piece_head(len: u32) -> [u8; PIECE_HEAD_BYTES] {
    len.to_be_bytes()
}

/// The length of the piece that follows these bytes, of a block that has `left` bytes left; 0 says
/// that the block ends here.
///
/// # Errors
/// [`WireError::Piece`] for more than is left.
pub fn piece_len(head: [u8; PIECE_HEAD_BYTES], left: usize) -> Result<usize, WireError> {
    let len = frame::number(head);
    match len <= left {
        true => Ok(len),
        false => Err(WireError::Piece { len, left }),
    }
}

/// Reads a client's message, without its length.
///
/// # Errors
/// A [`WireError`] for everything that is not exactly one valid message.
pub fn decode_request(body: &[u8]) -> Result<Request, WireError> {
    decode(body)
}

/// Reads a server's message, without its length.
///
/// # Errors
/// A [`WireError`] for everything that is not exactly one valid message.
pub fn decode_response(body: &[u8]) -> Result<Response, WireError> {
    decode(body)
}

fn decode<M: Message>(body: &[u8]) -> Result<M, WireError> {
    let message: M = frame::read(body)?;
    message.check()?;
    Ok(message)
}

/// Cuts a stream of bytes, in whatever pieces they come, into messages and payload.
///
/// It holds at most one unfinished frame; payload passes through uncopied. After an error the
/// stream can't be read on: every further call returns it again.
#[derive(Debug)]
pub struct FrameDecoder<M> {
    /// The frame or the head of a piece that is being read, as far as it has come.
    partial: Partial,
    payload: Option<Payload>,
    failed: Option<WireError>,
    message: PhantomData<fn() -> M>,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    id: u32,
    /// What is left of the block.
    left: usize,
    /// What is left of the piece; none between two.
    piece: Option<usize>,
}

/// What a [`FrameDecoder`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a, M> {
    /// A message.
    Message(M),
    /// Some of the payload that the last [`Response::Block`] announced.
    Payload {
        /// The block's id.
        id: u32,
        /// The bytes; none only for a block of no bytes.
        bytes: &'a [u8],
        /// Whether they are the last ones.
        last: bool,
    },
    /// The payload ends early.
    Cut {
        /// The block's id.
        id: u32,
    },
}

impl<M> Default for FrameDecoder<M> {
    fn default() -> Self {
        Self {
            partial: Partial::default(),
            payload: None,
            failed: None,
            message: PhantomData,
        }
    }
}

impl<M: Message> FrameDecoder<M> {
    /// Takes bytes off the front of `input` until there is something to report; `None` if the
    /// input is used up.
    ///
    /// # Errors
    /// A [`WireError`] if the bytes are not a message.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a, M>>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let event = match self.payload {
            Some(payload) => self.take_payload(payload, input),
            None => self
                .take_message(input)
                .map(|message| message.map(Event::Message)),
        };
        event.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Whether the stream may end here: between frames, with no payload owed.
    pub fn is_between_frames(&self) -> bool {
        self.partial.is_empty() && self.payload.is_none() && self.failed.is_none()
    }

    /// Whether a block is begun and the stream stands between two of its pieces, where a piece of no
    /// bytes ends it.
    pub fn is_between_pieces(&self) -> bool {
        let between = self.payload.is_some_and(|payload| payload.piece.is_none());
        between && self.partial.is_empty() && self.failed.is_none()
    }

    fn take_payload<'a>(
        &mut self,
        payload: Payload,
        input: &mut &'a [u8],
    ) -> Result<Option<Event<'a, M>>, WireError> {
        let Payload { id, left, piece } = payload;
        let piece = match piece {
            Some(piece) => piece,
            None if left == 0 => 0,
            None => match self.take_piece_head(left, input)? {
                None => return Ok(None),
                Some(0) => {
                    self.payload = None;
                    return Ok(Some(Event::Cut { id }));
                }
                Some(piece) => piece,
            },
        };
        let bytes = take(input, piece);
        let left = left.saturating_sub(bytes.len());
        let piece = piece.saturating_sub(bytes.len());
        let last = left == 0;
        self.payload = (!last).then_some(Payload {
            id,
            left,
            piece: (piece > 0).then_some(piece),
        });
        if bytes.is_empty() && !last {
            return Ok(None);
        }
        Ok(Some(Event::Payload { id, bytes, last }))
    }

    fn take_piece_head(
        &mut self,
        left: usize,
        input: &mut &[u8],
    ) -> Result<Option<usize>, WireError> {
        let Some(head) = self.partial.head(input) else {
            return Ok(None);
        };
        let len = piece_len(head, left)?;
        self.partial.clear();
        Ok(Some(len))
    }

    fn take_message(&mut self, input: &mut &[u8]) -> Result<Option<M>, WireError> {
        let Some(body) = self.partial.body(input, FRAME_BYTES_MAX)? else {
            return Ok(None);
        };
        let message: M = decode(body)?;
        self.partial.clear();
        self.payload = message.payload().map(|(id, len)| Payload {
            id,
            left: usize::try_from(len).unwrap_or(usize::MAX),
            piece: None,
        });
        Ok(Some(message))
    }
}
