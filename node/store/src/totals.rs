//! What shares hold together.

use std::sync::Arc;

use super::ShareRecord;

/// Sums over the records of shares. They are as the disk has them, so no sum overflows: it stays at the
/// largest number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareTotals {
    /// Bytes of all files.
    pub bytes: u64,
    /// All files.
    pub files: u64,
}

impl ShareTotals {
    /// Of these shares.
    #[must_use]
    pub fn of(shares: &[Arc<ShareRecord>]) -> Self {
        shares.iter().fold(Self::default(), |sum, share| Self {
            bytes: sum.bytes.saturating_add(share.size),
            files: sum.files.saturating_add(share.files),
        })
    }
}
