//! Where a file is cut into chunks.
//!
//! A [`Chunker`] looks at the bytes that come next and says how many of them make a chunk; reading
//! them is its caller's. It keeps no state, so a file may be cut from any cut on.

use std::{fmt, str::FromStr};

use fastcdc::v2020::{self, Normalization};
use thiserror::Error;

use crate::address::{BLOCK_BYTES_MAX, CHUNK_BYTES};

/// Smallest content-defined chunk but for a file's last, in bytes.
const CDC_BYTES_MIN: usize = 256 << 10;

/// Content-defined chunks are about this large on average, in bytes.
const CDC_BYTES_AVERAGE: usize = 1 << 20;

/// Largest content-defined chunk, in bytes.
const CDC_BYTES_MAX: usize = BLOCK_BYTES_MAX;

/// A way to cut files. Other parameters would give other addresses, so there are none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Chunker {
    /// Chunks of [`CHUNK_BYTES`], the profile's own.
    #[default]
    Fixed,
    /// FastCDC v2020 with 256 KiB, 1 MiB and 2 MiB: versions of one file share most chunks.
    Cdc,
}

impl Chunker {
    /// Bytes that a buffer must hold to be cut before the end of the file is known.
    pub const fn window_bytes(self) -> usize {
        match self {
            Chunker::Fixed => CHUNK_BYTES,
            Chunker::Cdc => CDC_BYTES_MAX,
        }
    }

    /// Length of the chunk at the front of `buffer`, at most [`BLOCK_BYTES_MAX`].
    ///
    /// `at_end` says that the file ends with this buffer. `None` means there is nothing to cut:
    /// the buffer is empty at the end, or shorter than [`Chunker::window_bytes`] before it.
    pub fn cut(self, buffer: &[u8], at_end: bool) -> Option<usize> {
        if buffer.is_empty() || (!at_end && buffer.len() < self.window_bytes()) {
            return None;
        }
        Some(match self {
            Chunker::Fixed => buffer.len().min(CHUNK_BYTES),
            Chunker::Cdc => cdc_cut(buffer),
        })
    }
}

fn cdc_cut(buffer: &[u8]) -> usize {
    let (strict, relaxed) = v2020::select_masks(CDC_BYTES_AVERAGE, Normalization::Level1);
    let (_hash, length) = v2020::cut(
        buffer,
        CDC_BYTES_MIN,
        CDC_BYTES_AVERAGE,
        CDC_BYTES_MAX,
        strict,
        relaxed,
        strict << 1,
        relaxed << 1,
    );
    length
}

/// A chunker's name is neither `fixed` nor `cdc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the chunker is fixed or cdc")]
pub struct UnknownChunker;

impl FromStr for Chunker {
    type Err = UnknownChunker;

    fn from_str(text: &str) -> Result<Chunker, UnknownChunker> {
        match text {
            "fixed" => Ok(Chunker::Fixed),
            "cdc" => Ok(Chunker::Cdc),
            _ => Err(UnknownChunker),
        }
    }
}

impl fmt::Display for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Chunker::Fixed => "fixed",
            Chunker::Cdc => "cdc",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn content(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(b"shoal:cdc")
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    /// Cuts a file that arrives a window at a time.
    fn cuts(chunker: Chunker, bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut rest = bytes;
        loop {
            let window = &rest[..rest.len().min(chunker.window_bytes())];
            let Some(length) = chunker.cut(window, window.len() == rest.len()) else {
                return lengths;
            };
            lengths.push(length);
            rest = &rest[length..];
        }
    }

    #[test]
    fn fixed_chunks() {
        let check = |len: usize, expected: &[usize]| {
            assert_eq!(cuts(Chunker::Fixed, &content(len)), expected);
        };
        check(0, &[]);
        check(1, &[1]);
        check(CHUNK_BYTES, &[CHUNK_BYTES]);
        check(2 * CHUNK_BYTES + 5, &[CHUNK_BYTES, CHUNK_BYTES, 5]);
    }

    #[test]
    fn too_little_is_not_cut_before_the_end() {
        for chunker in [Chunker::Fixed, Chunker::Cdc] {
            let short = vec![0; chunker.window_bytes() - 1];
            assert_eq!(chunker.cut(&short, false), None);
            assert_eq!(chunker.cut(&short, true), Some(short.len()));
            assert_eq!(chunker.cut(&[], true), None);
            assert_eq!(chunker.to_string().parse(), Ok(chunker));
        }
        assert_eq!("rabin".parse::<Chunker>(), Err(UnknownChunker));
    }

    /// The cuts are part of what gives a file its address: they may never change.
    #[test]
    fn content_defined_cuts_are_frozen() {
        let bytes = content(8 << 20);
        let lengths = cuts(Chunker::Cdc, &bytes);
        let frozen = [
            2_097_152, 1_617_554, 894_662, 374_355, 982_847, 1_269_373, 1_152_665,
        ];
        assert_eq!(lengths, frozen);
        let stream: Vec<usize> =
            v2020::FastCDC::new(&bytes, CDC_BYTES_MIN, CDC_BYTES_AVERAGE, CDC_BYTES_MAX)
                .map(|chunk| chunk.length)
                .collect();
        assert_eq!(lengths, stream);
        assert_eq!(
            cuts(Chunker::Cdc, &vec![0; 5 << 20]),
            [2 << 20, 2 << 20, 1 << 20]
        );
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let bytes = content(16 << 20);
        let mut edited = bytes.clone();
        edited.splice(100..100, *b"inserted");
        let (before, after) = (cuts(Chunker::Cdc, &bytes), cuts(Chunker::Cdc, &edited));
        let same = before
            .iter()
            .rev()
            .zip(after.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(same + 2 >= before.len(), "{before:?} {after:?}");
        assert!(same > 8);
    }
}
