//! Ids that are never used twice.

use std::ops::Range;

use super::StoreError;
use parking_lot::Mutex;

/// Ids taken from the database at once, so that handing one out is an addition. What is left at the
/// end of a process is skipped: 2^64 ids last.
const RESERVED_AT_ONCE: u64 = 1 << 16;

/// Hands out ids from a range that the database says is taken.
#[derive(Debug)]
pub(super) struct Ids(Mutex<Range<u64>>);

impl Ids {
    /// Starts after every id that was ever reserved.
    pub(super) fn after(reserved: u64) -> Self {
        Self(Mutex::new(reserved..reserved))
    }

    /// Takes `count` consecutive ids, calling `persist` with the new end when the reserve is too
    /// small.
    ///
    /// `persist` need not sync: rows that use the ids are written later to the same log, so a crash
    /// that loses the reservation loses them too.
    pub(super) fn take(
        &self,
        count: u64,
        persist: impl FnOnce(u64) -> Result<(), StoreError>,
    ) -> Result<Range<u64>, StoreError> {
        let mut reserve = self.0.lock();
        let exhausted = || StoreError::damaged("the ids of this database are used up");
        let end = reserve.start.checked_add(count).ok_or_else(exhausted)?;
        if end > reserve.end {
            let reserved = end.checked_add(RESERVED_AT_ONCE).ok_or_else(exhausted)?;
            persist(reserved)?;
            reserve.end = reserved;
        }
        let taken = reserve.start..end;
        reserve.start = end;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ids_are_consecutive_and_reserved_before_use() {
        let ids = Ids::after(10);
        let mut persisted = Vec::new();
        assert_eq!(
            ids.take(1, |end| {
                persisted.push(end);
                Ok(())
            })
            .unwrap(),
            10..11
        );
        assert_eq!(
            ids.take(5, |end| {
                persisted.push(end);
                Ok(())
            })
            .unwrap(),
            11..16
        );
        let many = RESERVED_AT_ONCE * 2;
        let taken = ids
            .take(many, |end| {
                persisted.push(end);
                Ok(())
            })
            .unwrap();
        assert_eq!(taken, 16..16 + many);
        assert_eq!(
            persisted,
            [11 + RESERVED_AT_ONCE, 16 + many + RESERVED_AT_ONCE]
        );
    }

    #[test]
    fn a_failed_reservation_hands_out_nothing() {
        let ids = Ids::after(0);
        let full = || StoreError::NoSpace {
            detail: "x".to_owned(),
        };
        assert!(ids.take(1, |_| Err(full())).is_err());
        assert_eq!(ids.take(1, |_| Ok(())).unwrap(), 0..1);
        assert!(ids.take(u64::MAX, |_| Ok(())).is_err());
    }
}
