//! Shares that do not stay for good: which there are, and taking out those that are over.

use std::sync::Arc;

use super::Library;
use crate::{ShareId, ShareRecord, StoreError, Terms};

impl Library {
    /// The listed shares that are to end some time, oldest first.
    #[must_use]
    pub fn passing(&self) -> Vec<Arc<ShareRecord>> {
        self.select(|share| share.is_listed() && !share.terms.are_open())
    }

    /// Stops offering one share, durably; its files stay. True if it was offered until now.
    ///
    /// # Errors
    /// When the database or the register cannot be written: the share stays then.
    pub fn end(&self, id: ShareId) -> Result<bool, StoreError> {
        let _changes = self.inner.changing();
        let Some(share) = self.share(id).filter(|share| share.is_listed()) else {
            return Ok(false);
        };
        self.inner.remove(&[share])?;
        Ok(true)
    }

    /// Forgets commands of a share that have ended. One whose last command that was is left alone:
    /// it is to be [ended](Self::end), and is no share of the home.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn forget_commands(&self, id: ShareId, ended: &[u64]) -> Result<(), StoreError> {
        let _changes = self.inner.changing();
        let Some(share) = self.share(id) else {
            return Ok(());
        };
        let mut commands = share.terms.commands.clone();
        commands.retain(|command| !ended.contains(command));
        if commands.is_empty() || commands == share.terms.commands {
            return Ok(());
        }
        let record = ShareRecord {
            terms: Terms {
                commands,
                ..share.terms.clone()
            },
            ..share.as_ref().clone()
        };
        self.inner
            .replace(self.inner.store.batch(), record, false)?;
        Ok(())
    }
}
