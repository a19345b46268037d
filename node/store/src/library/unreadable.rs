//! Which shares have files that cannot be read now, as the last complete look at them found.
//!
//! Such a share is neither whole nor changed: its record stays as it is, and what can be read of it is
//! served. This is only for telling people. It is in memory alone; the first look after a start finds
//! it again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_ground::said::said;

use super::Library;
use crate::disks::NoAnswer;
use crate::rows::{ShareId, ShareRecord};

/// What a look found that it could not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The first file, below the share's base, and what the system said.
    first: Option<(String, String)>,
    total: u64,
}

/// Files of a share that cannot be read.
#[derive(Debug, Clone)]
pub struct UnreadableFiles {
    /// The share.
    pub share: Arc<ShareRecord>,
    /// The first of them, below the share's base.
    pub path: String,
    /// What the system says of that.
    pub reason: String,
    /// How many there are.
    pub total: u64,
}

/// What the last look at each share found; shares that can be read are not in it.
#[derive(Default)]
pub(super) struct LastLooks(Mutex<HashMap<ShareId, Found>>);

impl Found {
    /// Takes note of one file. A disk that does not answer is told of as that.
    pub(super) fn add(&mut self, path: &str, error: &io::Error) {
        if error.get_ref().is_some_and(|it| it.is::<NoAnswer>()) {
            return;
        }
        self.total += 1;
        self.first
            .get_or_insert_with(|| (path.to_owned(), said(error)));
    }
}

impl LastLooks {
    /// Keeps what a complete look at `share` found in place of what the one before it did.
    pub(super) fn keep(&self, share: ShareId, found: Found) {
        let mut looks = self.0.lock();
        if found.total == 0 {
            looks.remove(&share);
        } else {
            looks.insert(share, found);
        }
    }
}

impl Library {
    /// The files that cannot be read, share by share, as far as it is known.
    #[must_use]
    pub fn unreadable(&self) -> Vec<UnreadableFiles> {
        let shares = self.shares();
        let mut looks = self.inner.unreadable.0.lock();
        looks.retain(|id, _| shares.iter().any(|share| share.id == *id));
        let found = shares.into_iter().filter_map(|share| {
            let Found { first, total } = looks.get(&share.id)?.clone();
            let (path, reason) = first?;
            Some(UnreadableFiles {
                share,
                path,
                reason,
                total,
            })
        });
        found.collect()
    }
}
