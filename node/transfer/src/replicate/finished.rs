//! What this node has fetched and keeps: near copies that cost nobody anything.
//!
//! The homes of a key hear of such a copy as they hear of a replica, so those who ask nearby are sent to
//! it, and no further copy is made beside it. A root counts while it is whole, served and replicable. What
//! a person shared of his own does not: an owner is spared.

use std::collections::BTreeSet;

use shoal_protocol::replicate::Key;
use shoal_store::{Library, Origin, ShareState};

use super::key_of;

/// The newest of them are told. A set of so many keys takes 40 KiB, and four messages tell a home of all.
const TOLD_MAX: usize = 1024;

/// The keys of what was fetched and is to be told, as it stands now.
pub(super) fn finished(library: &Library) -> BTreeSet<Key> {
    let shares = library.shares();
    let whole = shares.iter().rev().filter(|share| {
        share.origin == Origin::Fetched
            && share.state == ShareState::Live
            && share.marks().may_replicate()
    });
    whole
        .take(TOLD_MAX)
        .map(|share| &share.root)
        .filter(|root| library.serves(root) && library.is_copy(root))
        .filter(|root| library.marks(root).may_replicate())
        .filter_map(key_of)
        .collect()
}
