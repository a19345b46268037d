//! What the line has not taken yet: the rest of one frame with payload, and behind it frames without.
//!
//! Frames without payload answer to what the peer does. They are counted apart, so that a peer that
//! has so many to wait for and reads none is found out whatever else is to be written.

use super::frame::HEADER_BYTES;

/// Frames without payload that wait for a peer that does not read: 8,192 of them, far more than all
/// streams need at a time.
const ANSWERS_BYTES_MAX: usize = 64 << 10;

/// Bytes to be written, in order.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    /// How many of them, at the front, are of a frame with payload.
    frame: usize,
}

/// More answers wait than may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is to be written next.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line has taken so many bytes.
    pub(super) fn sent(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.frame = self.frame.saturating_sub(count);
    }

    /// Adds to a frame with payload; nothing but its own bytes wait before.
    pub(super) fn payload(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.bytes.len(), self.frame, "no answer waits");
        self.bytes.extend_from_slice(bytes);
        self.frame += bytes.len();
    }

    /// Adds a frame without payload.
    pub(super) fn answer(&mut self, header: [u8; HEADER_BYTES]) -> Result<(), TooMany> {
        self.bytes.extend(header);
        match self.bytes.len() - self.frame > ANSWERS_BYTES_MAX {
            true => Err(TooMany),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills it with answers until there are too many; how many there were before.
    fn fill(unsent: &mut Unsent) -> usize {
        let answers = std::iter::repeat_with(|| unsent.answer([0; HEADER_BYTES]));
        answers.take_while(Result::is_ok).count()
    }

    #[test]
    fn answers_are_counted_apart_from_the_frame_before_them() {
        let most = (64 << 10) / HEADER_BYTES;
        for payload in [0, 1, 64 << 10] {
            let mut unsent = Unsent::default();
            unsent.payload(&vec![1; payload]);
            assert_eq!(fill(&mut unsent), most, "behind {payload} bytes");
        }
        // What the line takes of the frame makes no room for answers, what it takes of them does.
        let mut unsent = Unsent::default();
        unsent.payload(&[1; 100]);
        assert_eq!(fill(&mut unsent), most);
        unsent.sent(100);
        assert_eq!(unsent.answer([0; HEADER_BYTES]), Err(TooMany));
        unsent.sent(3 * HEADER_BYTES);
        assert_eq!(unsent.answer([0; HEADER_BYTES]), Ok(()));
        assert!(unsent.bytes().iter().all(|byte| *byte == 0));
    }
}
