//! Keys of the column families: fixed-width, big-endian, so that byte order is numeric order.
//!
//! | family       | key                               | value                   |
//! | ------------ | --------------------------------- | ----------------------- |
//! | meta         | name                              | u32 or u64 BE           |
//! | blocks       | digest 34                         | the block's bytes       |
//! | refs         | digest 34, share 8                | empty                   |
//! | share_blocks | share 8, digest 34                | empty                   |
//! | locations    | digest 34, file 8, offset 8       | length u32 BE           |
//! | file_chunks  | file 8, offset 8                  | digest 34, length u32 BE|
//! | files        | file 8                            | `FileRow`               |
//! | share_files  | share 8, relative path            | file 8                  |
//! | shares       | share 8                           | `ShareRecord`           |
//! | replicas     | see `replicas/rows.rs`            |                         |
//!
//! `refs` and `share_blocks` are one relation seen from both ends, and so are `locations` and
//! `file_chunks`: whoever writes one row writes its mirror in the same batch.

use shoal_protocol::address::{BLOCK_BYTES_MAX, Digest};

use super::StoreError;
use super::rows::{FileId, ShareId};

pub(super) const DIGEST_BYTES: usize = Digest::LEN;
const ID_BYTES: usize = 8;

pub(super) fn share(id: ShareId) -> [u8; ID_BYTES] {
    id.0.to_be_bytes()
}

pub(super) fn file(id: FileId) -> [u8; ID_BYTES] {
    id.0.to_be_bytes()
}

pub(super) fn reference(digest: &Digest, id: ShareId) -> [u8; DIGEST_BYTES + ID_BYTES] {
    joined(&[&digest.key(), &share(id)])
}

pub(super) fn share_block(id: ShareId, digest: &Digest) -> [u8; ID_BYTES + DIGEST_BYTES] {
    joined(&[&share(id), &digest.key()])
}

pub(super) fn location(
    digest: &Digest,
    id: FileId,
    offset: u64,
) -> [u8; DIGEST_BYTES + 2 * ID_BYTES] {
    joined(&[&digest.key(), &file(id), &offset.to_be_bytes()])
}

pub(super) fn file_chunk(id: FileId, offset: u64) -> [u8; 2 * ID_BYTES] {
    joined(&[&file(id), &offset.to_be_bytes()])
}

pub(super) fn share_file(id: ShareId, path: &str) -> Vec<u8> {
    [&share(id), path.as_bytes()].concat()
}

pub(super) fn chunk_value(digest: &Digest, len: u32) -> [u8; DIGEST_BYTES + 4] {
    joined(&[&digest.key(), &len.to_be_bytes()])
}

/// Takes an id off the front of `bytes`.
pub(super) fn take_u64(bytes: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    let (head, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| cut_short("an id", bytes))?;
    Ok((u64::from_be_bytes(*head), rest))
}

/// Takes a length off the front of `bytes`.
pub(super) fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), StoreError> {
    let (head, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| cut_short("a length", bytes))?;
    Ok((u32::from_be_bytes(*head), rest))
}

/// Takes a digest off the front of `bytes`.
pub(super) fn take_digest(bytes: &[u8]) -> Result<(Digest, &[u8]), StoreError> {
    let (head, rest) = bytes
        .split_at_checked(DIGEST_BYTES)
        .ok_or_else(|| cut_short("a digest", bytes))?;
    let digest = Digest::from_key(head)
        .map_err(|error| StoreError::damaged(format!("a row holds no digest: {error}")))?;
    Ok((digest, rest))
}

/// The first key after every key that starts with `prefix`; `None` when there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

/// Where a chunk lies in its file, as a row says; damage where no chunk can lie.
pub(super) fn chunk_place(offset: u64, len: u32) -> Result<(u64, u32), StoreError> {
    let end = offset.checked_add(u64::from(len));
    match end.is_some() && len as usize <= BLOCK_BYTES_MAX {
        true => Ok((offset, len)),
        false => Err(StoreError::damaged(format!(
            "a row says that a chunk has {len} bytes at {offset}"
        ))),
    }
}

fn cut_short(what: &str, bytes: &[u8]) -> StoreError {
    StoreError::damaged(format!(
        "a row of {} bytes is too short for {what}",
        bytes.len()
    ))
}

/// Joins `parts`, whose lengths add up to `N`, without an allocation.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut rest = key.as_mut_slice();
    for part in parts {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    debug_assert!(rest.is_empty(), "the parts of a key fill it");
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::address::HashFn;

    use super::*;

    #[test]
    fn prefix_ends_bound_exactly_the_prefix() {
        let check = |prefix: &[u8], end: Option<&[u8]>| {
            assert_eq!(prefix_end(prefix).as_deref(), end, "prefix {prefix:02x?}");
        };
        check(&[], None);
        check(&[0], Some(&[1]));
        check(&[7, 0xfe], Some(&[7, 0xff]));
        check(&[7, 0xff], Some(&[8]));
        check(&[7, 0xff, 0xff], Some(&[8]));
        check(&[0xff, 0xff], None);
    }

    #[test]
    fn keys_come_apart_as_they_were_joined() {
        let digest = Digest::of(HashFn::Blake3, b"shoal");
        let key = location(&digest, FileId(3), 1 << 40);
        let (found, rest) = take_digest(&key).unwrap();
        let (file, rest) = take_u64(rest).unwrap();
        let (offset, rest) = take_u64(rest).unwrap();
        assert_eq!((found, file, offset, rest), (digest, 3, 1 << 40, &[][..]));

        let value = chunk_value(&digest, 77);
        let (found, rest) = take_digest(&value).unwrap();
        assert_eq!((found, take_u32(rest).unwrap().0), (digest, 77));
    }

    #[test]
    fn short_and_foreign_rows_are_damage_not_panics() {
        assert!(take_u64(&[1, 2, 3]).is_err());
        assert!(take_u32(&[]).is_err());
        assert!(take_digest(&[0x1e; 33]).is_err());
        assert!(take_digest(&[0; 34]).is_err());
    }

    #[test]
    fn a_chunk_beyond_all_files_or_blocks_is_damage() {
        let most = u32::try_from(BLOCK_BYTES_MAX).unwrap();
        for place in [(0, 0), (1 << 40, most), (u64::MAX - 7, 7)] {
            assert_eq!(chunk_place(place.0, place.1).unwrap(), place);
        }
        for (offset, len) in [(0, most + 1), (u64::MAX, 1), (u64::MAX - 7, 8)] {
            let refused = chunk_place(offset, len);
            assert!(
                matches!(refused, Err(StoreError::Damaged { .. })),
                "{offset} {len}"
            );
        }
    }

    #[test]
    fn numeric_order_is_key_order() {
        assert!(file_chunk(FileId(1), u64::MAX) < file_chunk(FileId(2), 0));
        assert!(file_chunk(FileId(2), 0xff) < file_chunk(FileId(2), 0x100));
    }
}
