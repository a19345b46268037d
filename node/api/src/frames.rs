//! Answers that carry bytes: frames of content, with the events of the operation between them.
//!
//! ```text
//! | kind: `d` or `e` | length: u32 BE | that many bytes |
//! ```
//!
//! `d` is content, in order, at least one byte; `e` is one [`StreamEvent`](super::types) as JSON.
//! The last frame is the event that says `done` or `error`: an answer that ends before was cut off.
//! What stands in `d` frames before an error is right; there is only no more of it.

/// The media type of a framed answer.
pub const FRAMES_TYPE: &str = "application/vnd.shoal.frames";

/// Bytes in front of each frame's own.
pub const FRAME_HEAD_BYTES: usize = 5;

/// The longest frame: one block of 2 MiB.
pub(super) const FRAME_BYTES_MAX: usize = shoal_protocol::address::BLOCK_BYTES_MAX;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Content.
    Data,
    /// An event.
    Event,
}

/// The head of a frame of `len` bytes.
pub(super) fn head(kind: FrameKind, len: usize) -> [u8; FRAME_HEAD_BYTES] {
    debug_assert!(len <= FRAME_BYTES_MAX, "blocks and events are shorter");
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let kind = match kind {
        FrameKind::Data => b'd',
        FrameKind::Event => b'e',
    };
    [kind, a, b, c, d]
}

/// What the head of a frame says; none if it is no frame.
pub fn read_head(head: [u8; FRAME_HEAD_BYTES]) -> Option<(FrameKind, usize)> {
    let [kind, len @ ..] = head;
    let kind = match kind {
        b'd' => FrameKind::Data,
        b'e' => FrameKind::Event,
        _ => return None,
    };
    let len = usize::try_from(u32::from_be_bytes(len)).ok()?;
    (len <= FRAME_BYTES_MAX).then_some((kind, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_frozen() {
        let check = |kind, len, bytes: &[u8; FRAME_HEAD_BYTES]| {
            assert_eq!(head(kind, len), *bytes);
            assert_eq!(read_head(*bytes), Some((kind, len)));
        };
        check(FrameKind::Data, 1, b"d\0\0\0\x01");
        check(FrameKind::Event, 0x0102, b"e\0\0\x01\x02");
        check(FrameKind::Data, FRAME_BYTES_MAX, b"d\0\x20\0\0");
        assert_eq!(read_head(*b"d\0\x20\0\x01"), None, "too long");
        assert_eq!(read_head(*b"x\0\0\0\x01"), None);
    }
}
