//! Shares that were acknowledged and that the database does not have any more.
//!
//! The register says which ones they are. They are told to people until somebody shares the place
//! again or forgets it; nothing is served of them.

use std::sync::Arc;

use super::{Library, LibraryInner, UnshareTarget};
use crate::StoreError;
use crate::register::{Registered, SharePlace, waits_for_flush};
use crate::rows::ShareRecord;

/// What damage took from this home.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Acknowledged shares that the database does not have.
    pub shares: Vec<Registered>,
    /// Lines of the register itself that cannot be read: each may have been a share.
    pub unreadable_lines: usize,
}

impl Library {
    /// The shares that were acknowledged and are not there.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.inner.lost(|lost| lost.clone())
    }

    /// Forgets the lost shares that `target` names; they are not told any more.
    ///
    /// # Errors
    /// When the register cannot be written.
    pub(super) fn forget_lost(
        &self,
        target: &UnshareTarget,
    ) -> Result<Vec<Registered>, StoreError> {
        let is_meant = |share: &Registered| match target {
            UnshareTarget::Root(root) => share.root == root.to_string(),
            UnshareTarget::Path { written, real } => {
                let is_whole = share.place.selection.is_empty();
                is_whole && [written, real].contains(&&share.place.source)
            }
        };
        let meant: Vec<Registered> = self.inner.lost(|lost| {
            let meant = lost.shares.iter().filter(|share| is_meant(share));
            meant.cloned().collect()
        });
        let places: Vec<SharePlace> = meant.iter().map(|share| share.place.clone()).collect();
        self.inner.register.unshared(&places)?;
        self.inner
            .lost(|lost| lost.shares.retain(|share| !is_meant(share)));
        Ok(meant)
    }
}

impl LibraryInner {
    /// Writes down that a live share is acknowledged, or that it will be once it is flushed. The
    /// caller holds [`Self::changing`].
    pub(super) fn acknowledge(
        &self,
        share: &ShareRecord,
        replaced: &[Arc<ShareRecord>],
    ) -> Result<(), StoreError> {
        let place = SharePlace::of(share);
        // One place may have had another real path.
        let replaced = replaced.iter().map(|share| SharePlace::of(share));
        let instead: Vec<_> = replaced.filter(|other| *other != place).collect();
        match waits_for_flush(share) {
            true => {
                self.register.unshared(&instead)?;
                self.register.unflushed(place.clone())?;
            }
            false => self.register.shared(share, &instead)?,
        }
        self.lost(|lost| lost.shares.retain(|share| share.place != place));
        Ok(())
    }

    fn lost<T>(&self, look: impl FnOnce(&mut Lost) -> T) -> T {
        look(&mut self.lost.lock())
    }
}
