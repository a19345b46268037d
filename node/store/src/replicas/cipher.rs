//! Sealing and opening: AES-256 in counter mode, by the keys that `shoal_protocol::replicate::seal`
//! derives from the root.

use aes::Aes256;
use ctr::Ctr32BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use shoal_protocol::address::Digest;
use shoal_protocol::replicate::seal::{NONCE_BYTES, SealKey, nonce};

/// The bytes of a nonce and of the counter behind it.
const IV_BYTES: usize = 16;

/// Seals bytes of a block, or opens them again: the two are one. `offset` is where in the block they
/// begin; a block has at most 2 MiB, which is a 32,768th of what a counter of 32 bits counts.
pub(super) fn apply(key: &SealKey, root: &Digest, block: &Digest, offset: usize, bytes: &mut [u8]) {
    let mut iv = [0; IV_BYTES];
    let (head, _) = iv.split_at_mut(NONCE_BYTES);
    head.copy_from_slice(&nonce(root, block));
    let mut cipher = Ctr32BE::<Aes256>::new(key.bytes().into(), &iv.into());
    cipher.seek(offset);
    cipher.apply_keystream(bytes);
}

#[cfg(test)]
mod tests {
    use shoal_protocol::address::HashFn;

    use super::*;

    /// Frozen: another cipher, key or nonce would lose every replica that is stored.
    #[test]
    fn sealing_is_frozen() {
        let root = Digest::of(HashFn::Blake3, b"root");
        let block = Digest::of(HashFn::Sha2_256, b"block");
        let key = SealKey::of(&root);
        let mut bytes = *b"a block of a root, longer than the cipher's block";
        apply(&key, &root, &block, 0, &mut bytes);
        let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(hex, SEALED);
        let (_, end) = bytes.split_at_mut(21);
        apply(&key, &root, &block, 21, end);
        assert_eq!(end, b"nger than the cipher's block");
    }

    /// By `openssl enc -aes-256-ctr` under the key and the nonce that `seal.rs` freezes.
    const SEALED: &str = "87eae6f33428d0f3dbb2ab242d29c293c65bdfd592a08f73d7527e642df6b8ba2c793c8c8fc7cd9d4b3b1cdf5c497a586a";
}
