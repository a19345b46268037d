//! Taking back what was shared. Files stay where they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_protocol::{address::Cid, name::escaped};

use super::Library;
use crate::{Registered, ShareRecord, StoreError};

/// Which shares are meant: what to unshare, or to rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnshareTarget {
    /// Every share of a root.
    Root(Cid),
    /// What was shared from an absolute path.
    Path {
        /// As somebody wrote it.
        written: PathBuf,
        /// Where it leads, without symlinks.
        real: PathBuf,
    },
}

impl UnshareTarget {
    /// What was shared from `path`, on which there are no symlinks.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self::Path {
            written: path.clone(),
            real: path,
        }
    }
}

/// What is not offered any more.
#[derive(Debug, Default)]
pub struct Unshared {
    /// Shares that were.
    pub shares: Vec<Arc<ShareRecord>>,
    /// Shares that damage had taken, and that are forgotten now.
    pub forgotten: Vec<Registered>,
}

/// Why nothing was unshared.
#[derive(Debug, thiserror::Error)]
pub enum UnshareError {
    /// Nothing of that address or path is shared.
    #[error("{target} is not shared")]
    NotShared {
        /// The address or path.
        target: String,
    },
    /// The path was shared together with others, as one root.
    #[error("the path is part of the share {name:?}; unshare {root} instead")]
    PartOf {
        /// The root to name instead.
        root: Cid,
        /// The share's name.
        name: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UnshareError {
    pub(super) fn not_shared(target: &str) -> Self {
        Self::NotShared {
            target: escaped(target).to_string(),
        }
    }
}

impl Library {
    /// Stops offering what `target` names, durably.
    ///
    /// Blocks that no other share needs are deleted in the background. A share that damage took is
    /// forgotten by the same words.
    pub fn unshare(&self, target: &UnshareTarget) -> Result<Unshared, UnshareError> {
        let _changes = self.inner.changing();
        let found = self.shares_named(target);
        let forgotten = self.forget_lost(target)?;
        let shares = match found {
            Err(UnshareError::NotShared { .. }) if !forgotten.is_empty() => Vec::new(),
            found => found?,
        };
        self.inner.remove(&shares)?;
        Ok(Unshared { shares, forgotten })
    }

    /// The listed shares that `target` names, at least one.
    pub(super) fn shares_named(
        &self,
        target: &UnshareTarget,
    ) -> Result<Vec<Arc<ShareRecord>>, UnshareError> {
        let shares = match target {
            UnshareTarget::Root(root) => {
                self.select(|share| share.is_listed() && share.root == *root)
            }
            UnshareTarget::Path { written, real } => self.shares_at(written, real)?,
        };
        if shares.is_empty() {
            return Err(UnshareError::not_shared(&match target {
                UnshareTarget::Root(root) => root.to_string(),
                UnshareTarget::Path { written, .. } => written.to_string_lossy().into_owned(),
            }));
        }
        Ok(shares)
    }

    /// The shares that go by a path: the one that was shared under these very words, else the one
    /// that lies where they lead.
    fn shares_at(
        &self,
        written: &Path,
        real: &Path,
    ) -> Result<Vec<Arc<ShareRecord>>, UnshareError> {
        for path in [written, real] {
            let whole = self.select(|share| share.is_listed() && share.is_named(path));
            if !whole.is_empty() {
                return Ok(whole);
            }
        }
        let selected = self.select(|share| {
            share.is_listed()
                && share
                    .selection
                    .iter()
                    .any(|part| [written, real].contains(&share.source.join(part).as_path()))
        });
        match selected.first() {
            Some(share) => Err(UnshareError::PartOf {
                root: share.root.clone(),
                name: share.name.clone(),
            }),
            None => Err(UnshareError::not_shared(&written.to_string_lossy())),
        }
    }
}
