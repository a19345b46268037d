//! Under which key a root is found in the DHT.
//!
//! The key is derived from the root's multihash and does not give it away: who stores a provider
//! record learns no address that could be fetched. Every node derives the same key, so the context
//! and the input are frozen by a test.

use crate::address::Digest;

/// BLAKE3's key derivation context; a change of it is another DHT.
const CONTEXT: &str = "shoal dht key v1";

/// The DHT key of a root: `BLAKE3.derive_key("shoal dht key v1", root multihash)`.
///
/// Roots that differ in codec only share a key, since the multihash is all that goes in.
pub fn key(root: &Digest) -> [u8; 32] {
    blake3::derive_key(CONTEXT, &root.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::HashFn;

    #[test]
    fn keys_are_frozen() {
        fn check(hash_fn: HashFn, content: &[u8], expected: &str) {
            let key = key(&Digest::of(hash_fn, content));
            assert_eq!(blake3::Hash::from_bytes(key).to_hex().as_str(), expected);
        }
        // Computed by another implementation of BLAKE3.
        let of_nothing = "44350e375eab0a8b39dfc0ef148366f2bc934f694afac28794586b6f7b58d429";
        let of_blake3 = "b85b75ab3b0ff86e6c95da960a5fe37272aa31766e93fddf52e4a3e4209ac8aa";
        let of_sha2 = "7d2c75b5c25c912eb75bdc6d9925378179f6fdae2a8fa14924fe874c0c7223e9";
        check(HashFn::Blake3, b"", of_nothing);
        check(HashFn::Blake3, b"shoal", of_blake3);
        check(HashFn::Sha2_256, b"shoal", of_sha2);
    }
}
