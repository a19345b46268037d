//! What the keys of one store among many of a database begin with.

use std::borrow::Cow;

use super::{StoreInner, keys};

/// What every key of a store in a shared database begins with: its number, big-endian. The
/// database's own rows begin with a letter, which no number of 16 bits does.
pub(super) const PREFIX_BYTES: usize = size_of::<u32>();

/// What every key of a store begins with: nothing, for one that has a database to itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Prefix(Option<[u8; PREFIX_BYTES]>);

impl Prefix {
    /// That of the store with this number.
    pub(super) fn of(number: u16) -> Self {
        Self(Some(u32::from(number).to_be_bytes()))
    }

    /// A store's key as the database has it.
    pub(super) fn key<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        match self.0 {
            None => Cow::Borrowed(key),
            Some(prefix) => Cow::Owned([&prefix, key].concat()),
        }
    }

    /// How much longer a key is in the database.
    pub(super) fn len(&self) -> usize {
        self.0.map_or(0, |prefix| prefix.len())
    }

    /// All keys of the store, from the first to the one behind the last; open ends where it has
    /// the database to itself.
    pub(super) fn range(&self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let first = self.0.map(|prefix| prefix.to_vec());
        let end = self.0.and_then(|prefix| keys::prefix_end(&prefix));
        (first, end)
    }
}

impl StoreInner {
    /// The key of a row as the database has it.
    pub(super) fn key<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        self.prefix.key(key)
    }
}
