//! What a run asks of its nodes, whatever they are.

use std::{collections::HashSet, path::Path, time::Duration};

use parking_lot::Mutex;
use shoal_api::{
    ApiError, ErrorCode,
    types::{
        AbsolutePath, Chunker, Destination, FetchRequest, Hash, Preserve, ReplicaList,
        ReplicaStats, ShareRequest,
    },
};
use shoal_protocol::{address::Cid, replicate::Key};

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
        until: None,
        expires_ms: None,
        command: None,
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

/// The keys of the roots that a run has shared, as nodes write them.
#[derive(Debug, Default)]
pub(super) struct SharedKeys(Mutex<HashSet<String>>);

impl SharedKeys {
    /// Takes note of a root that was shared.
    pub(super) fn add(&self, root: &str) {
        let digest = root.parse::<Cid>().ok().and_then(|root| root.digest());
        let key = digest.map(|digest| Key::of(&digest).to_string());
        self.0.lock().extend(key);
    }

    /// Bytes that a node keeps of other roots.
    pub(super) fn strange(&self, kept: &ReplicaList) -> u64 {
        let shared = self.0.lock();
        let strange = kept.replicas.iter().filter(|it| !shared.contains(&it.key));
        strange.map(|it| it.bytes).sum()
    }
}

/// What a node has done for others, of what it says of it; so many bytes of what it keeps are of roots
/// that the run has not shared.
pub(super) fn helped(replicas: &ReplicaStats, strange: u64) -> Helped {
    Helped {
        pulls: replicas
            .pulls_for_asks
            .saturating_add(replicas.pulls_for_offers),
        offers: replicas.pulls_for_offers,
        asks: replicas.asks_distinct,
        pulled: replicas.bytes_in,
        held: replicas.bytes,
        quota: replicas.quota,
        strange,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_api::types::{AskedBy, Replica};
    use shoal_protocol::address::{Digest, HashFn};

    use super::*;

    #[test]
    fn what_is_kept_of_roots_that_were_not_shared_is_told_apart() {
        let digests = [b"one", b"two"].map(|it| Digest::of(HashFn::Blake3, it));
        let replica = |digest: &Digest, bytes| Replica {
            key: Key::of(digest).to_string(),
            bytes,
            size: bytes,
            leaves: 1,
            leaves_total: 1,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
            used: "2026-01-01T00:00:00Z".parse().unwrap(),
            reads: 0,
            asked_by: AskedBy::Near,
        };
        let kept = ReplicaList {
            replicas: vec![replica(&digests[0], 3), replica(&digests[1], 4)],
        };
        let shared = SharedKeys::default();
        assert_eq!(shared.strange(&kept), 7);
        shared.add(&Cid::raw(digests[0]).to_string());
        shared.add("no root");
        assert_eq!(shared.strange(&kept), 4);
    }
}
