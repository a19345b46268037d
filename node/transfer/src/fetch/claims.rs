//! One fetch at a time for one destination.
//!
//! Two requests may spell one place differently, and a fetch that was cancelled still tidies up
//! when it is asked for again: whoever comes second waits here until the first has ended, and then
//! finds what it left. A claim ends when it is dropped.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// The destinations that fetches write to now; never more than there are transfers.
#[derive(Debug, Default)]
pub(super) struct Claims {
    taken: Mutex<HashSet<PathBuf>>,
    released: Notify,
}

/// The right to write to one destination.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    path: PathBuf,
}

impl Claims {
    /// Waits until nobody else writes to `path`. Cancel-safe.
    pub(super) async fn claim(self: &Arc<Self>, path: PathBuf) -> Claim {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if self.lock().insert(path.clone()) {
                let claims = Arc::clone(self);
                return Claim { claims, path };
            }
            released.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.taken.lock()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.path);
        self.claims.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_place_is_claimed_once_at_a_time() {
        let claims = Arc::<Claims>::default();
        let first = claims.claim("/a".into()).await;
        let other = claims.claim("/b".into()).now_or_never();
        assert!(other.is_some(), "places are held apart");
        let mut second = std::pin::pin!(claims.claim("/a".into()));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        second.await;
    }
}
