//! Why a transfer did not do as it was told.

use std::{path::PathBuf, sync::Arc};

use shoal_store::StoreError;

use super::super::FetchError;

/// Why a transfer did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No transfer has this number, or a root that begins so.
    #[error("there is no transfer {0:?}")]
    Unknown(String),
    /// Its disk does not answer, so that it cannot come to rest now.
    #[error("transfer {id} waits for the disk at {}, which does not answer", at.display())]
    Silent {
        /// Its number.
        id: u64,
        /// Where the disk is mounted.
        at: PathBuf,
    },
    /// Several transfers have a root that begins so.
    #[error("{target:?} may be any of the transfers {}", numbers(ids))]
    Ambiguous {
        /// What was asked for.
        target: String,
        /// The numbers of those that it may be.
        ids: Vec<u64>,
    },
    /// It has come to its end.
    #[error("transfer {0} is done already")]
    Done(u64),
    /// It has failed, and does nothing that could be paused.
    #[error("transfer {0} has failed already")]
    Failed(u64),
    /// What it left could not be taken away.
    #[error("{0}")]
    Removal(Arc<FetchError>),
    /// The index failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
}

fn numbers(ids: &[u64]) -> String {
    let ids: Vec<_> = ids.iter().map(u64::to_string).collect();
    ids.join(", ")
}
