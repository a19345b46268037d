//! Room for handshakes of others: when there is none, the oldest gives way.
//!
//! A peer that connects and then says nothing would keep a place until its handshake has taken too
//! long. Where hundreds do so, an honest peer, whose handshake takes a few round trips, would find
//! no place at all; so the one that has taken longest is given up for it. Bounded, and it owns
//! nothing of a connection: the future that gives way drops it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Places of all that the limits leave to handshakes that are not seen here, those over QUIC, and to
/// those that are over and not yet told.
const SPARE: u32 = 32;

/// The handshakes that run. Cheap to clone; all clones are one list.
#[derive(Clone)]
pub(super) struct Handshakes {
    most: usize,
    /// Oldest first.
    running: Arc<Mutex<VecDeque<CancellationToken>>>,
}

impl Handshakes {
    /// Room for fewer than the `limit` from which on inbound connections are refused.
    pub(super) fn new(limit: u32) -> Self {
        let most = limit.saturating_sub(SPARE).max(1);
        Self {
            most: most as usize,
            running: Arc::default(),
        }
    }

    /// Runs a handshake, unless it has to give way to later ones.
    ///
    /// # Errors
    /// Those of the handshake, and [`io::ErrorKind::ConnectionAborted`] when it gave way.
    pub(super) async fn run<T>(
        self,
        handshake: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let place = HandshakeSlot::take(self);
        let done = place.given_up.run_until_cancelled(handshake).await;
        done.unwrap_or_else(|| {
            Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the handshake took long, and others needed its place",
            ))
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<CancellationToken>> {
        self.running.lock()
    }
}

/// The place of one handshake, given back when dropped.
struct HandshakeSlot {
    handshakes: Handshakes,
    given_up: CancellationToken,
}

impl HandshakeSlot {
    fn take(handshakes: Handshakes) -> Self {
        let given_up = CancellationToken::new();
        let oldest = {
            let mut running = handshakes.lock();
            running.push_back(given_up.clone());
            let full = running.len() > handshakes.most;
            full.then(|| running.pop_front()).flatten()
        };
        if let Some(oldest) = oldest {
            oldest.cancel();
        }
        Self {
            handshakes,
            given_up,
        }
    }
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        // One that gave way is not in the list; a token equals its clones alone, and all that are
        // not cancelled are of handshakes that run.
        let ended = self.given_up.is_cancelled();
        self.given_up.cancel();
        if !ended {
            self.handshakes.lock().retain(|one| !one.is_cancelled());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::{pending, ready};
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn the_oldest_gives_way_and_places_are_given_back() {
        let handshakes = Handshakes::new(SPARE + 2);
        let hangs = || handshakes.clone().run(pending::<io::Result<()>>());
        let (mut first, mut second) = (Box::pin(hangs()), Box::pin(hangs()));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let done = handshakes.clone().run(ready(Ok(7)));
        assert_eq!(done.await.unwrap(), 7);
        let error = first.await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(handshakes.lock().len(), 1);
        let mut third = pin!(hangs());
        assert!(poll!(&mut third).is_pending() && poll!(&mut second).is_pending());
        drop(second);
        assert_eq!(handshakes.lock().len(), 1);
        let failed = handshakes
            .clone()
            .run(ready(Err::<(), _>(io::ErrorKind::InvalidData.into())));
        assert_eq!(failed.await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(poll!(&mut third).is_pending());
        assert_eq!(handshakes.lock().len(), 1);
    }
}
