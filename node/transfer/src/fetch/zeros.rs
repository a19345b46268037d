//! Chunks that hold nothing but zeros.
//!
//! An image of a disk is mostly zeros, and a hole in a file reads as zeros and takes no room. So a
//! chunk of zeros is written only over data, and one whose address says that it is zeros is asked of
//! nobody. Whether bytes are zeros is looked at while they are in the processor's cache.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
};

use rustix::fs::SeekFrom;
use shoal_protocol::address::{BLOCK_BYTES_MAX, Digest, HashFn};

/// How much of a chunk is looked at before the rest: most chunks that are not zeros show it here.
const HEAD_BYTES: usize = 64;

/// How much is looked at in one go: bytes that a loop without branches compares at once, and little
/// enough to stop soon at the first that is not zero.
const STRIDE_BYTES: usize = 4096;

/// A chunk that is shorter is asked for like any other: what it would save is little, and a sharer could
/// make a few bytes claim rows for ever so many of them.
const CHUNK_BYTES_MIN: u32 = 64 << 10;

/// Zeros that are written in one call.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The addresses of chunks of zeros, each computed once.
#[derive(Debug, Default)]
pub(super) struct ZeroChunks {
    known: HashMap<(HashFn, u32), Digest>,
}

impl ZeroChunks {
    /// Whether this is the address of `len` zeros.
    ///
    /// Only lengths that are powers of two are known: chunkers cut zeros into pieces of such a length,
    /// 1 MiB or 2 MiB here and 256 KiB elsewhere. From [`CHUNK_BYTES_MIN`] to a whole block, that is six
    /// addresses to compute for each hash function, and the end of a file costs no hash of its own.
    pub(super) fn is(&mut self, digest: &Digest, len: u32) -> bool {
        let is_small = len < CHUNK_BYTES_MIN;
        if is_small || !len.is_power_of_two() || len as usize > BLOCK_BYTES_MAX {
            return false;
        }
        let hash_fn = digest.hash_fn();
        let known = self.known.entry((hash_fn, len));
        let zeros = known.or_insert_with(|| Digest::of(hash_fn, &vec![0; len as usize]));
        *zeros == *digest
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    let is_zero = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    let (head, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES));
    is_zero(head) && rest.chunks(STRIDE_BYTES).all(is_zero)
}

/// Makes `len` bytes of a file from `offset` on read as zeros: what lies there is overwritten, and a
/// hole stays one. The length of the file is set by others.
pub(super) fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        let data = match rustix::fs::seek(file.as_fd(), SeekFrom::Data(at)) {
            Ok(data) if data < end => data,
            // Nothing but a hole from here on, or the end of the file.
            Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(()),
            // The file system knows no holes, and has data everywhere.
            Err(_) => at,
        };
        let hole = rustix::fs::seek(file.as_fd(), SeekFrom::Hole(data));
        let hole = hole.ok().filter(|hole| *hole > data);
        let until = hole.map_or(end, |hole| hole.min(end));
        overwrite(file, data, until)?;
        at = until;
    }
    Ok(())
}

fn overwrite(file: &File, mut at: u64, until: u64) -> io::Result<()> {
    while at < until {
        let len = (until - at).min(ZEROS.len() as u64);
        let zeros = usize::try_from(len).ok().and_then(|len| ZEROS.get(..len));
        file.write_all_at(zeros.unwrap_or(&ZEROS), at)?;
        at = at.saturating_add(len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn zeros_are_told_from_what_differs_in_one_byte() {
        for len in [0, 1, 63, 64, 65, 4095, 4096, 4160, 4161, 100_000] {
            let mut bytes = vec![0; len];
            assert!(is_zeros(&bytes), "{len}");
            for at in [0, len / 2, len.saturating_sub(1)] {
                let Some(byte) = bytes.get_mut(at) else {
                    continue;
                };
                *byte = 1;
                assert!(!is_zeros(&bytes), "{at} of {len}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn the_address_of_zeros_is_known_by_its_length() {
        let mut chunks = ZeroChunks::default();
        for hash_fn in [HashFn::Blake3, HashFn::Sha2_256] {
            let zeros = |len: usize| Digest::of(hash_fn, &vec![0; len]);
            assert!(chunks.is(&zeros(1 << 20), 1 << 20));
            assert!(chunks.is(&zeros(1 << 18), 1 << 18));
            assert!(!chunks.is(&zeros(1 << 18), 1 << 20));
            assert!(!chunks.is(&Digest::of(hash_fn, b"x"), 1));
            // Not worth a hash for each length.
            assert!(!chunks.is(&zeros(1000), 1000));
        }
        assert!(!chunks.is(&Digest::of(HashFn::Blake3, b""), 0));
    }

    /// Zeros over a file of `before`: what it reads as then, and the bytes that it takes.
    #[test]
    fn zeros_leave_holes_and_overwrite_data() {
        const MIB: usize = 1 << 20;
        let takes = |file: &File| file.metadata().unwrap().blocks() * 512;
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * MIB as u64).unwrap();
        write_zeros(&file, 0, 4 * MIB as u64).unwrap();
        assert_eq!(takes(&file), 0, "a hole stays one");
        write_zeros(&file, 10 * MIB as u64, MIB as u64).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4 * MIB as u64);

        file.write_all_at(&vec![7; MIB], MIB as u64).unwrap();
        // From the hole before the data to within it.
        write_zeros(&file, 0, MIB as u64 + 5000).unwrap();
        let mut found = vec![1; 4 * MIB];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(is_zeros(&found[..MIB + 5000]));
        assert!(found[MIB + 5000..2 * MIB].iter().all(|byte| *byte == 7));
        assert!(is_zeros(&found[2 * MIB..]));
        assert!(takes(&file) <= MIB as u64 + 64 * 1024);
    }
}
