//! A head start for TCP where a peer can be reached by TCP and QUIC.
//!
//! A dial tries all addresses of a peer at once, and the connection that is there first is kept.
//! QUIC needs fewer round trips to be there and then carries less than TCP with TLS, so it waits:
//! until TCP has had [`HEAD_START`], or until no TCP attempt to that peer is left. Where TCP
//! stalls, both are under way; where there is only QUIC, nothing waits. Owns who is being dialled
//! by TCP, for as long as the attempts live.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::watch;

/// What RFC 8305 recommends between two attempts. Far peers, where it is shorter than a handshake
/// over TCP, are as well served by QUIC: there the line is the limit.
const HEAD_START: Duration = Duration::from_millis(250);

type Output = (PeerId, StreamMuxerBox);

/// A transport whose QUIC dials give TCP dials to the same peer a head start.
pub(super) struct TcpFirst {
    inner: Boxed<Output>,
    attempts: Attempts,
}

impl TcpFirst {
    pub(super) fn new(inner: Boxed<Output>) -> Self {
        Self {
            inner,
            attempts: Attempts::default(),
        }
    }
}

/// The TCP attempts that run, counted by peer; whoever waits for their end watches the count.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<HashMap<PeerId, watch::Sender<usize>>>>);

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, watch::Sender<usize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, peer: PeerId) -> Attempt {
        let mut running = self.lock();
        let count = running.entry(peer).or_default();
        count.send_modify(|count| *count += 1);
        Attempt {
            attempts: self.clone(),
            peer,
        }
    }

    /// Waits until no attempt to reach `peer` is left.
    async fn ended(&self, peer: &PeerId) {
        let Some(mut count) = self.lock().get(peer).map(watch::Sender::subscribe) else {
            return;
        };
        // The sender goes when the last attempt does.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

/// One attempt, until it is dropped.
struct Attempt {
    attempts: Attempts,
    peer: PeerId,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut running = self.attempts.lock();
        let Some(count) = running.get(&self.peer) else {
            return;
        };
        count.send_modify(|count| *count -= 1);
        if *count.borrow() == 0 {
            running.remove(&self.peer);
        }
    }
}

/// The peer that an address ends in, and whether it is reached by QUIC.
fn target(address: &Multiaddr) -> (Option<PeerId>, bool) {
    let peer = match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    };
    let quic = address.iter().any(|part| part == Protocol::QuicV1);
    (peer, quic)
}

impl Transport for TcpFirst {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Output> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    /// All dials to a peer are made before the first of them runs, so that each sees the others.
    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let (peer, quic) = target(&address);
        // Who is listener in a dial keeps to the moment that was agreed on.
        let waits = opts.role.is_dialer();
        let dial = self.inner.dial(address, opts)?;
        let attempts = self.attempts.clone();
        Ok(match peer {
            Some(peer) if quic && waits => async move {
                let _ = tokio::time::timeout(HEAD_START, attempts.ended(&peer)).await;
                dial.await
            }
            .boxed(),
            Some(peer) if !quic => {
                let attempt = attempts.start(peer);
                async move {
                    let dialled = dial.await;
                    drop(attempt);
                    dialled
                }
                .boxed()
            }
            _ => dial,
        })
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_when_the_last_attempt_ends() {
        let (attempts, peer) = (Attempts::default(), PeerId::random());
        attempts.ended(&peer).await;
        let (first, second) = (attempts.start(peer), attempts.start(peer));
        let _other = attempts.start(PeerId::random());
        let mut ended = std::pin::pin!(attempts.ended(&peer));
        assert!(poll!(&mut ended).is_pending());
        drop(first);
        assert!(poll!(&mut ended).is_pending());
        drop(second);
        ended.await;
        assert_eq!(attempts.lock().len(), 1, "nothing stays behind");
    }

    #[test]
    fn an_address_says_whom_it_reaches_and_how() {
        let peer = PeerId::random();
        let check = |address: &str, expected| {
            let address: Multiaddr = address.parse().unwrap();
            assert_eq!(target(&address), (None, expected), "{address}");
            let address = address.with(Protocol::P2p(peer));
            assert_eq!(target(&address), (Some(peer), expected), "{address}");
        };
        check("/ip4/1.2.3.4/tcp/1", false);
        check("/dns6/example.org/udp/1/quic-v1", true);
    }
}
