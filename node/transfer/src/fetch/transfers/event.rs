//! What others are told of transfers as it happens.

use std::sync::Arc;

use shoal_protocol::address::Cid;

use super::{
    super::{FetchError, Fetched},
    TransferInfo,
};

/// What is told of transfers: on the thread that moves one, under the lock of the table, before
/// anybody learns of it otherwise. Whoever is told must not wait or call back.
pub enum FetchEvent<'a> {
    /// A transfer is in another state.
    Changed(Box<TransferInfo>),
    /// A transfer is ended for good; what it left is being taken away.
    Removed {
        /// Its number.
        id: u64,
        /// Its root.
        root: &'a Cid,
    },
    /// A run has come to its end.
    Ended {
        /// The number of its transfer.
        id: u64,
        /// What came of it.
        result: &'a Result<Fetched, FetchError>,
    },
}

/// Who is told.
pub(super) type Tell = Arc<dyn Fn(FetchEvent<'_>) + Send + Sync>;
