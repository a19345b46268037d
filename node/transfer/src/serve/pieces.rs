//! How large the pieces are that a block is written in (pure).
//!
//! A piece that has begun is written to its end, whatever the client says meanwhile. So a piece is
//! what leaves in [`PIECE_TIME`]: a whole block on a fast line, some KiB on a slow one.

use std::time::Duration;

use shoal_protocol::address::BLOCK_BYTES_MAX;

/// What a piece takes on its way out, about: a cancelled block is over as soon.
const PIECE_TIME: Duration = Duration::from_millis(250);
/// The first pieces of a stream, whose line was not measured yet.
const PIECE_BYTES_FIRST: usize = 16 << 10;
/// The smallest piece. With its head, and those of the multiplexer, 1 % more is sent.
const PIECE_BYTES_MIN: usize = 2 << 10;
/// Over so much the line is measured, or over so much time of writing, whichever is over first: more
/// than what the buffers below take at once, which says nothing of the line.
const SPAN_BYTES: usize = 256 << 10;
const SPAN_TIME: Duration = Duration::from_millis(500);

/// The pieces of one stream.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: usize,
    span_bytes: usize,
    span_time: Duration,
}

impl Default for Pieces {
    fn default() -> Self {
        Self {
            bytes: PIECE_BYTES_FIRST,
            span_bytes: 0,
            span_time: Duration::ZERO,
        }
    }
}

impl Pieces {
    /// How many of `bytes` the next piece has.
    pub(super) fn len_of(&self, bytes: usize) -> usize {
        bytes.min(self.bytes)
    }

    /// Writing so many bytes took so long.
    pub(super) fn took(&mut self, bytes: usize, time: Duration) {
        self.span_bytes = self.span_bytes.saturating_add(bytes);
        self.span_time = self.span_time.saturating_add(time);
        if self.span_bytes < SPAN_BYTES && self.span_time < SPAN_TIME {
            return;
        }
        let micros = self.span_time.as_micros().max(1);
        let fits = self.span_bytes as u128 * PIECE_TIME.as_micros() / micros;
        let fits = usize::try_from(fits).unwrap_or(BLOCK_BYTES_MAX);
        self.bytes = fits.clamp(PIECE_BYTES_MIN, BLOCK_BYTES_MAX);
        (self.span_bytes, self.span_time) = (0, Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_the_line() {
        let mut pieces = Pieces::default();
        let mut check = |bytes: usize, millis: u64, expected: usize| {
            pieces.took(bytes, Duration::from_millis(millis));
            assert_eq!(
                pieces.len_of(usize::MAX),
                expected,
                "{bytes} in {millis} ms"
            );
        };
        check(100, 0, 16 << 10); // says nothing
        // What the buffers below take at once does not, either.
        (0..10).for_each(|_| check(16 << 10, 1, 16 << 10));
        check(64 << 10, 5_000, 11_450); // the rest of them is still on its way
        check(3_276, 270, 11_450);
        check(3_033, 270, 2_920); // 12 kB/s
        check(3_033, 120_000, 2 << 10); // it paused
        (0..15).for_each(|_| check(16 << 10, 1, 2 << 10));
        check(16 << 10, 1, 2 << 20); // a fast line
        check(2 << 20, 100, 2 << 20);
    }
}
