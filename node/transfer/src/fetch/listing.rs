//! The tree behind a link, read without the bytes of its files.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use libp2p::Multiaddr;
use shoal_protocol::{address::Cid, link::Link, walk::Tree};

use super::{
    FetchError, Fetcher,
    halves::{Halves, Purpose, Sought},
    transfer::Sink,
    verdict::Deadlines,
};
use crate::limits::Pace;

impl Fetcher {
    /// Reads the tree behind a link, without the bytes of its files.
    ///
    /// # Errors
    /// Like a fetch. Dropping the future ends the listing.
    pub fn list<'a>(
        &'a self,
        link: Link,
        peers: &'a [Multiaddr],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(Cid, Tree), FetchError>> {
        Box::pin(self.read_tree(link, peers, timeout))
    }

    async fn read_tree(
        &self,
        link: Link,
        peers: &[Multiaddr],
        timeout: Duration,
    ) -> Result<(Cid, Tree), FetchError> {
        let (progress, tasks) = (Arc::default(), &self.inner.tasks);
        let Halves {
            mut transfer,
            supply,
            ..
        } = {
            let sought = Sought {
                link: &link,
                peers,
                // A tree is small beside what it names: it is listed soon, or not at all.
                deadlines: Deadlines {
                    timeout,
                    patience: timeout,
                },
                pace: &Pace::default(),
                is_whole: false,
                heard: &Arc::new(self.inner.heard(&link)),
                purpose: Purpose::Own { stays: false },
            };
            self.inner.halves(&sought, &progress, tasks, None)
        };
        let listing = tasks.spawn_blocking(move || supply.list(&link, false));
        let sink = Sink {
            journal: None,
            landing: None,
        };
        let listed = transfer.drive(&sink, listing);
        let shutdown = &self.inner.shutdown;
        let listed = shutdown.run_until_cancelled(listed).await;
        listed.unwrap_or(Err(FetchError::Cancelled))
    }
}
