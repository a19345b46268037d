//! Under which names and keys a replica lies on the disk.
//!
//! A replica store keeps neither roots nor names nor digests: whoever has the disk and not the root
//! cannot tell what lies there. Everything that it needs follows from the root, which the peer that
//! asks brings along. That is no deniability against somebody who knows the root: the key of a root
//! that is known can be computed, and looked for.
//!
//! It owns the derivations, which the tests freeze: a change loses every replica that is stored. The
//! cipher, AES-256 in counter mode from counter 0, is the store's. A block has the same nonce
//! wherever the root has it, and the same content, so no counter ever covers two contents.

use crate::address::Digest;

/// BLAKE3's key derivation contexts.
const KEY_CONTEXT: &str = "shoal replica seal v1";
const NONCE_CONTEXT: &str = "shoal replica iv v1";
const NAME_CONTEXT: &str = "shoal replica block v1";

/// The length of a nonce, in bytes; the counter has the other 4 of the cipher's block.
pub const NONCE_BYTES: usize = 12;

/// With what all blocks of a root are sealed.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// The key of a root: `BLAKE3.derive_key("shoal replica seal v1", root multihash)`.
    #[must_use]
    pub fn of(root: &Digest) -> Self {
        Self(blake3::derive_key(KEY_CONTEXT, &root.key()))
    }

    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The nonce of a block: the first 12 bytes of
/// `BLAKE3.derive_key("shoal replica iv v1", root multihash || block multihash)`.
#[must_use]
pub fn nonce(root: &Digest, block: &Digest) -> [u8; NONCE_BYTES] {
    let hash = derive(NONCE_CONTEXT, root, block);
    hash.first_chunk().copied().unwrap_or_default()
}

/// Under which name a block of a root is found:
/// `BLAKE3.derive_key("shoal replica block v1", root multihash || block multihash)`.
#[must_use]
pub fn block_name(root: &Digest, block: &Digest) -> [u8; 32] {
    derive(NAME_CONTEXT, root, block)
}

fn derive(context: &str, root: &Digest, block: &Digest) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&root.key());
    hasher.update(&block.key());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::HashFn;

    #[test]
    fn derivations_are_frozen() {
        // Computed by another implementation of BLAKE3.
        let root = Digest::of(HashFn::Blake3, b"root");
        let block = Digest::of(HashFn::Sha2_256, b"block");
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|it| format!("{it:02x}"))
                .collect::<String>()
        };
        assert_eq!(
            hex(SealKey::of(&root).bytes()),
            "4581215c7d4cf0d935449e8b833079506469a5027a3e0bb77c400df863dc9f9e"
        );
        assert_eq!(hex(&nonce(&root, &block)), "6f95ff9d2bb153c7053864fc");
        assert_eq!(
            hex(&block_name(&root, &block)),
            "e2e064ed3aaaf73aa33e81158656848fb58ddf80bad33c44118b1d5d48f4a51c"
        );
        assert_ne!(nonce(&block, &root), nonce(&root, &block));
    }
}
