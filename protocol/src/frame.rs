//! Frames: `u32` big-endian length, then a message in postcard. Both wires are made of them.
//!
//! This module cuts bytes into frames and reads what is in them. Which messages there are, how long
//! one may be, and what its values may be is the business of each wire; so are its errors.

use serde::{Serialize, de::DeserializeOwned};

/// The length before each message, in bytes.
pub(crate) const HEAD_BYTES: usize = 4;

/// Why bytes are not a frame with a message.
#[derive(Debug)]
pub(crate) enum Broken {
    /// A length in bytes beyond the longest.
    TooLong(usize),
    /// No message.
    Malformed(postcard::Error),
    /// So many bytes after the message.
    Trailing(usize),
}

impl From<postcard::Error> for Broken {
    fn from(error: postcard::Error) -> Self {
        Self::Malformed(error)
    }
}

/// Appends the message's frame, unless its body is longer than `longest` bytes; then `out` is as
/// before.
pub(crate) fn append(
    message: &impl Serialize,
    longest: usize,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    let body = postcard::to_allocvec(message)?;
    let len = match u32::try_from(body.len()) {
        Ok(len) if body.len() <= longest => len,
        _ => return Err(Broken::TooLong(body.len())),
    };
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Reads the body of a frame, which is one message and nothing else.
pub(crate) fn read<M: DeserializeOwned>(body: &[u8]) -> Result<M, Broken> {
    match postcard::take_from_bytes(body)? {
        (message, []) => Ok(message),
        (_, rest) => Err(Broken::Trailing(rest.len())),
    }
}

/// The number that a head holds.
pub(crate) fn number(head: [u8; HEAD_BYTES]) -> usize {
    usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX)
}

/// The length of the body that follows a head.
pub(crate) fn body_len(head: [u8; HEAD_BYTES], longest: usize) -> Result<usize, Broken> {
    match number(head) {
        len if len <= longest => Ok(len),
        len => Err(Broken::TooLong(len)),
    }
}

/// A frame or a head that is being read, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Partial(Vec<u8>);

impl Partial {
    /// Whether nothing has come of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins with the next one.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes bytes off the front of `input` until the head is there.
    pub(crate) fn head(&mut self, input: &mut &[u8]) -> Option<[u8; HEAD_BYTES]> {
        self.fill(input, HEAD_BYTES);
        self.0.first_chunk().copied()
    }

    /// Takes bytes off the front of `input` until the frame is there, and gives its body.
    pub(crate) fn body(
        &mut self,
        input: &mut &[u8],
        longest: usize,
    ) -> Result<Option<&[u8]>, Broken> {
        let Some(head) = self.head(input) else {
            return Ok(None);
        };
        let frame_bytes = HEAD_BYTES.saturating_add(body_len(head, longest)?);
        self.fill(input, frame_bytes);
        let whole = self.0.get(HEAD_BYTES..frame_bytes);
        Ok(whole)
    }

    fn fill(&mut self, input: &mut &[u8], len: usize) {
        let missing = len.saturating_sub(self.0.len());
        self.0.extend_from_slice(take(input, missing));
    }
}

/// Takes up to `len` bytes off the front of `input`.
pub(crate) fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(len).unwrap_or((*input, &[]));
    *input = rest;
    taken
}
