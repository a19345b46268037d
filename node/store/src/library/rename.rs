//! Giving shares other names. Files, roots and places stay.

use std::sync::Arc;

use shoal_protocol::{address::Cid, name::SafeName};

use super::{Library, UnshareError, UnshareTarget};
use crate::{LibraryEvent, ShareRecord};

impl Library {
    /// Gives the shares of `root` that `target` names another name, durably; returns them as they are
    /// now. Links that were passed on before stay good.
    ///
    /// # Errors
    /// When `target` names no share of this root, or when the database or the register cannot be
    /// written.
    pub fn rename(
        &self,
        target: &UnshareTarget,
        root: &Cid,
        name: &SafeName,
    ) -> Result<Vec<Arc<ShareRecord>>, UnshareError> {
        let _changes = self.inner.changing();
        let mut shares = self.shares_named(target)?;
        shares.retain(|share| share.root == *root);
        if shares.is_empty() {
            return Err(UnshareError::not_shared(&root.to_string()));
        }
        let mut renamed = Vec::with_capacity(shares.len());
        for share in shares {
            if share.name == name.as_str() {
                renamed.push(share);
                continue;
            }
            let record = ShareRecord {
                name: name.as_str().to_owned(),
                ..share.as_ref().clone()
            };
            let record = self.inner.replace(self.inner.store.batch(), record, true)?;
            self.inner.acknowledge(&record, &[])?;
            self.inner.tell(LibraryEvent::Changed(Arc::clone(&record)));
            renamed.push(record);
        }
        Ok(renamed)
    }
}
