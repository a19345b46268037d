//! What a run asks of its nodes, whatever they are.

use std::{path::Path, time::Duration};

use shoal_api::{
    ApiError, ErrorCode,
    types::{
        AbsolutePath, Chunker, Destination, FetchRequest, Hash, Preserve, ReplicaStats,
        ShareRequest,
    },
};

use super::record::Helped;

/// To share what is at `path`, and to answer when others were told.
pub(super) fn share(path: &Path) -> Result<ShareRequest, ApiError> {
    Ok(ShareRequest {
        paths: vec![absolute(path)?],
        name: None,
        copy: false,
        chunker: Chunker::default(),
        hash: Hash::default(),
        preserve: Preserve::default(),
        exclude: Vec::new(),
        no_announce: false,
        no_replicate: false,
        wait: true,
    })
}

/// To fetch a root to exactly this path, and to serve it if the node `keeps` it; it may go without
/// progress for as long as `patience`.
pub(super) fn fetch(
    root: &str,
    to: &Path,
    keeps: bool,
    patience: Duration,
) -> Result<FetchRequest, ApiError> {
    Ok(FetchRequest {
        link: root.to_owned(),
        destination: Destination::At(absolute(to)?),
        peers: Vec::new(),
        only: Vec::new(),
        overwrite: false,
        rename_unsafe: false,
        no_serve: !keeps,
        sync: false,
        timeout_ms: millis(patience),
        patience_ms: millis(patience),
    })
}

/// What a node has done for others, of what it says of it.
pub(super) fn helped(replicas: &ReplicaStats) -> Helped {
    Helped {
        pulls: replicas
            .pulls_for_asks
            .saturating_add(replicas.pulls_for_offers),
        pulled: replicas.bytes_in,
        held: replicas.bytes,
        quota: replicas.quota,
    }
}

/// Milliseconds, as requests have them.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn absolute(path: &Path) -> Result<AbsolutePath, ApiError> {
    let path = AbsolutePath::try_from(path.to_owned());
    path.map_err(|why| ApiError::new(ErrorCode::Usage, why))
}
