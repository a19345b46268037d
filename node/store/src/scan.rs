//! Reading a run of rows in key order.

use rocksdb::{DBRawIterator, ReadOptions};

use super::layout::Family;
use super::{StoreError, StoreInner, keys};

/// The rows of one family whose keys start with a prefix. It sees the database as it was when it
/// began.
pub(super) struct Scan<'a> {
    rows: DBRawIterator<'a>,
    begun: bool,
    /// What comes before the keys, in a database that is shared.
    prefix_len: usize,
}

/// A key and its value, where the iterator holds them.
type RowRef<'r> = (&'r [u8], &'r [u8]);

impl StoreInner {
    /// The rows of `family` whose keys start with `prefix`.
    ///
    /// In the families that are keyed by digest first, `prefix` holds at least the digest.
    pub(super) fn scan(&self, family: Family, prefix: &[u8]) -> Scan<'_> {
        self.scan_from(family, prefix, &[])
    }

    /// As [`scan`](Self::scan), from the key `from` on.
    pub(super) fn scan_from(&self, family: Family, prefix: &[u8], from: &[u8]) -> Scan<'_> {
        self.scan_with(family, prefix, from, ReadOptions::default())
    }

    /// All rows of `family`, past the cache: what is read once would only displace what is needed.
    pub(super) fn scan_uncached(&self, family: Family) -> Scan<'_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_total_order_seek(true);
        self.scan_with(family, &[], &[], options)
    }

    fn scan_with(
        &self,
        family: Family,
        prefix: &[u8],
        from: &[u8],
        mut options: ReadOptions,
    ) -> Scan<'_> {
        let first = self.key(prefix.max(from));
        if let Some(end) = keys::prefix_end(&self.key(prefix)) {
            options.set_iterate_upper_bound(end);
        }
        let mut rows = self.db.raw_iterator_cf_opt(&self.family(family), options);
        rows.seek(first);
        Scan {
            rows,
            begun: false,
            prefix_len: self.prefix.len(),
        }
    }
}

impl<'a> Scan<'a> {
    /// The next key and value.
    pub(super) fn next(&mut self) -> Result<Option<RowRef<'_>>, StoreError> {
        if self.begun && self.rows.valid() {
            self.rows.next();
        }
        self.begun = true;
        // An iterator also stops at an error; only its status tells that from the end.
        if !self.rows.valid() {
            self.rows.status()?;
        }
        let row = self.rows.item();
        Ok(row.map(|(key, value)| (key.get(self.prefix_len..).unwrap_or_default(), value)))
    }

    /// The rows as values of their own.
    pub(super) fn rows<T>(
        mut self,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, StoreError> + 'a,
    ) -> impl Iterator<Item = Result<T, StoreError>> + 'a
    where
        T: 'a,
    {
        std::iter::from_fn(move || match self.next() {
            Ok(Some((key, value))) => Some(decode(key, value)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        })
    }
}
