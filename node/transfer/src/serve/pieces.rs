//! How large the pieces are that a block is written in (pure).
//!
//! A piece that has begun is written to its end, whatever the client says meanwhile. So a piece is
//! what leaves in [`PIECE_TIME`]: a whole block on a fast line, some KiB on a slow one.

use std::time::Duration;

use shoal_protocol::address::BLOCK_BYTES_MAX;

/// What a piece takes on its way out, about: a cancelled block is over as soon.
const PIECE_TIME: Duration = Duration::from_millis(250);
/// The first piece of a stream, whose line was not measured yet.
const PIECE_BYTES_FIRST: usize = 16 << 10;
/// The smallest piece. With its head, and those of the multiplexer, 1 % more is sent.
const PIECE_BYTES_MIN: usize = 2 << 10;

/// The pieces of one stream.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self {
            bytes: PIECE_BYTES_FIRST,
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
        if time <= PIECE_TIME / 2 {
            // A little that left at once says nothing of much.
            let grown = self.bytes.max(bytes.saturating_mul(2));
            self.bytes = grown.min(self.bytes.saturating_mul(2)).min(BLOCK_BYTES_MAX);
            return;
        }
        let fits = bytes as u128 * PIECE_TIME.as_millis() / time.as_millis().max(1);
        let fits = usize::try_from(fits).unwrap_or(BLOCK_BYTES_MAX);
        self.bytes = fits.clamp(PIECE_BYTES_MIN, BLOCK_BYTES_MAX);
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
        check(16 << 10, 1, 32 << 10);
        check(32 << 10, 1, 64 << 10);
        check(64 << 10, 5_000, 3_276); // 13 KB/s
        check(3_276, 270, 3_033);
        check(3_033, 120_000, 2 << 10); // it paused
        for doubled in 2..=11 {
            let bytes = 1 << (10 + doubled);
            check(bytes / 2, 1, bytes);
        }
        check(2 << 20, 1, 2 << 20);
    }
}
