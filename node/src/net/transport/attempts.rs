//! When each attempt of a dial starts, and what it has to find.
//!
//! A dial tries all addresses of a peer, and the connection that is there first is kept. Attempts
//! start [`STEP`] apart, in the order in which the dial has them, so that an address that swallows
//! packets costs no more than that. QUIC needs fewer round trips to be there and then carries less
//! than TCP with TLS, so it gives TCP a head start; where there is only QUIC, nothing waits. An
//! attempt that reaches somebody else than the peer that is meant fails, and the others go on.
//!
//! Owns the attempts that run, by peer, for as long as they live, and how many sockets they may
//! have. It is above the resolver, which opens a socket only when its attempt is polled.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::net::order::kind_of;
use crate::net::scope::{Kind, peer_of};

/// Between two attempts of one dial. A handshake on a local network is done by then, and sixteen
/// addresses in a row that swallow packets cost 0.8 s.
const STEP: Duration = Duration::from_millis(50);

/// What QUIC gives the first TCP attempt: what RFC 8305 recommends between two attempts. Far peers,
/// where it is shorter than a handshake over TCP, are as well served by QUIC: there the line is the
/// limit.
const HEAD_START: Duration = Duration::from_millis(250);

/// What QUIC gives the last TCP attempt: with sixteen of them it starts after 0.85 s.
const HEAD_START_OF_LAST: Duration = Duration::from_millis(100);

/// Sockets that every dial may have, whatever other dials do: at most 256 with as many dials as
/// [`pending_outbound_max`](crate::net::ConnectionLimits::pending_outbound_max) admits.
const SOCKETS_OF_DIAL: usize = 2;

/// Sockets that all dials of this node share beyond these. With those above it is half of the usual
/// limit of 1024 descriptors, while every one of the dials is to addresses that swallow packets.
const SOCKETS_SHARED: usize = 256;

type Output = (PeerId, StreamMuxerBox);

/// An attempt has reached another peer than the one that was meant.
#[derive(Debug, Clone, Copy, Error)]
#[error("peer {obtained} answers there")]
pub(in crate::net) struct WrongPeer {
    /// The peer that has answered.
    pub(in crate::net) obtained: PeerId,
}

/// A transport whose attempts to reach a peer start one after the other, TCP first.
pub(super) struct Paced {
    inner: Boxed<Output>,
    attempts: Attempts,
}

impl Paced {
    pub(super) fn new(inner: Boxed<Output>) -> Self {
        Self {
            inner,
            attempts: Attempts::default(),
        }
    }
}

/// The attempts that run, by peer.
#[derive(Clone)]
struct Attempts {
    running: Arc<Mutex<HashMap<PeerId, Running>>>,
    shared: Arc<Semaphore>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            running: Arc::default(),
            shared: Arc::new(Semaphore::new(SOCKETS_SHARED)),
        }
    }
}

/// The attempts to reach one peer.
struct Running {
    count: usize,
    /// How many of them are by TCP.
    tcp: watch::Sender<usize>,
    /// When QUIC may start although TCP attempts run.
    quic_at: Instant,
    /// When the next attempt by TCP starts, if it is not later already.
    tcp_next: Instant,
    /// How many attempts by QUIC have been made.
    quic_made: u32,
    sockets: Arc<Semaphore>,
}

impl Running {
    fn new(now: Instant) -> Self {
        Self {
            count: 0,
            tcp: watch::Sender::new(0),
            quic_at: now,
            tcp_next: now,
            quic_made: 0,
            sockets: Arc::new(Semaphore::new(SOCKETS_OF_DIAL)),
        }
    }

    /// The moment at which another attempt by TCP starts.
    fn next_tcp(&mut self, now: Instant) -> Instant {
        let is_first = self.tcp_next <= now;
        let start = self.tcp_next.max(now);
        self.tcp_next = start + STEP;
        let of_first = if is_first {
            start + HEAD_START
        } else {
            self.quic_at
        };
        self.quic_at = of_first.max(start + HEAD_START_OF_LAST);
        start
    }
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, peer: PeerId, kind: Kind, now: Instant) -> Attempt {
        let mut all = self.lock();
        let running = all.entry(peer).or_insert_with(|| Running::new(now));
        running.count += 1;
        let (start, after) = match kind {
            Kind::Tcp => {
                running.tcp.send_modify(|count| *count += 1);
                (running.next_tcp(now), Duration::ZERO)
            }
            Kind::Quic => {
                let after = STEP * running.quic_made;
                running.quic_made = running.quic_made.saturating_add(1);
                (now, after)
            }
        };
        Attempt {
            attempts: self.clone(),
            peer,
            kind,
            start,
            after,
            sockets: Arc::clone(&running.sockets),
        }
    }
}

/// One attempt, until it is dropped.
struct Attempt {
    attempts: Attempts,
    peer: PeerId,
    kind: Kind,
    start: Instant,
    /// How long after the head start is over.
    after: Duration,
    sockets: Arc<Semaphore>,
}

impl Attempt {
    /// Waits until it may start; what comes back is its right to a socket, if it needs one.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self.kind {
            Kind::Tcp => {
                sleep_until(self.start).await;
                let (own, shared) = (&self.sockets, &self.attempts.shared);
                tokio::select! {
                    biased;
                    own = Arc::clone(own).acquire_owned() => own.ok(),
                    shared = Arc::clone(shared).acquire_owned() => shared.ok(),
                }
            }
            Kind::Quic => {
                let waits_for = {
                    let all = self.attempts.lock();
                    let running = all.get(&self.peer);
                    running.map(|it| (it.tcp.subscribe(), it.quic_at))
                };
                if let Some((mut tcp, until)) = waits_for {
                    // The sender goes when the last attempt does, which is not before this one.
                    let ended = tcp.wait_for(|count| *count == 0);
                    let _ = timeout_at(until, ended).await;
                }
                sleep(self.after).await;
                None
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut all = self.attempts.lock();
        let Some(running) = all.get_mut(&self.peer) else {
            return;
        };
        running.count -= 1;
        if self.kind == Kind::Tcp {
            running.tcp.send_modify(|count| *count -= 1);
        }
        if running.count == 0 {
            all.remove(&self.peer);
        }
    }
}

impl Transport for Paced {
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
        mut opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let (peer, kind) = (peer_of(&address), kind_of(&address));
        // Whoever is listener in a dial keeps to the moment that was agreed on.
        let is_dialler = opts.role.is_dialer();
        if is_dialler && kind == Kind::Tcp {
            // Two nodes that dial each other from the ports on which they listen make one
            // connection of two dials, with a dialler at each end: neither answers the other.
            opts.port_use = PortUse::New;
        }
        let dial = self.inner.dial(address, opts)?;
        let Some(peer) = peer else { return Ok(dial) };
        let attempt = is_dialler.then(|| self.attempts.start(peer, kind, Instant::now()));
        Ok(async move {
            let _socket = match &attempt {
                Some(attempt) => attempt.turn().await,
                None => None,
            };
            let (obtained, muxer) = dial.await?;
            if obtained == peer {
                Ok((obtained, muxer))
            } else {
                Err(io::Error::other(WrongPeer { obtained }))
            }
        }
        .boxed())
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

    /// Starts attempts and says after how many milliseconds each has its turn, while none of them
    /// ends.
    async fn turns(attempts: &Attempts, peer: PeerId, kinds: &[Kind]) -> Vec<u128> {
        let begin = Instant::now();
        let made: Vec<_> = kinds
            .iter()
            .map(|kind| attempts.start(peer, *kind, begin))
            .collect();
        let turns = made.iter().map(|attempt| async move {
            let permit = attempt.turn().await;
            (begin.elapsed().as_millis(), permit)
        });
        let turns = futures::future::join_all(turns).await;
        turns.into_iter().map(|(at, _)| at).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_start_one_after_the_other_and_quic_after_tcp() {
        use Kind::{Quic, Tcp};
        let attempts = Attempts::default();
        let check = async |kinds: &[Kind], expected: &[u128]| {
            let turns = turns(&attempts, PeerId::random(), kinds).await;
            // The timer is one millisecond late at most.
            let is_near =
                |(turn, expected): (&u128, &u128)| (*expected..*expected + 3).contains(turn);
            assert!(
                turns.iter().zip(expected).all(is_near),
                "{kinds:?}: {turns:?}"
            );
            assert_eq!(turns.len(), expected.len());
        };
        check(&[Quic, Quic], &[0, 50]).await;
        check(&[Tcp], &[0]).await;
        check(&[Tcp, Tcp, Quic], &[0, 50, 250]).await;
        check(&[Quic, Tcp], &[250, 0]).await;
        let mut many = vec![Tcp; 16];
        many.push(Quic);
        let mut expected: Vec<u128> = (0..16).map(|n| n * 50).collect();
        expected.push(850);
        check(&many, &expected).await;
        assert!(attempts.lock().is_empty(), "nothing stays behind");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_dial_does_not_wait_for_an_earlier_one_that_hangs() {
        let (attempts, peer) = (Attempts::default(), PeerId::random());
        let begin = Instant::now();
        let hanging: Vec<_> = (0..16)
            .map(|_| attempts.start(peer, Kind::Tcp, begin))
            .collect();
        tokio::time::advance(Duration::from_secs(5)).await;
        let turns = turns(&attempts, peer, &[Kind::Tcp, Kind::Quic]).await;
        assert!(turns[0] < 3 && (250..253).contains(&turns[1]), "{turns:?}");
        drop(hanging);
    }

    #[tokio::test(start_paused = true)]
    async fn quic_starts_when_no_attempt_by_tcp_is_left() {
        let (attempts, peer) = (Attempts::default(), PeerId::random());
        let now = Instant::now();
        let (first, second) = (
            attempts.start(peer, Kind::Tcp, now),
            attempts.start(peer, Kind::Tcp, now),
        );
        let _other = attempts.start(PeerId::random(), Kind::Tcp, now);
        let quic = attempts.start(peer, Kind::Quic, now);
        let mut turn = std::pin::pin!(quic.turn());
        assert!(poll!(&mut turn).is_pending());
        drop(first);
        assert!(poll!(&mut turn).is_pending());
        drop(second);
        turn.await;
        assert!(now.elapsed() < HEAD_START_OF_LAST);
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_are_bounded_and_every_dial_has_some() {
        let attempts = Attempts::default();
        let hold = async |peer, count| {
            let mut held = Vec::new();
            for _ in 0..count {
                let attempt = attempts.start(peer, Kind::Tcp, Instant::now());
                let permit = tokio::time::timeout(Duration::from_secs(60), attempt.turn()).await;
                held.push((attempt, permit));
            }
            held
        };
        let greedy = hold(PeerId::random(), SOCKETS_SHARED + SOCKETS_OF_DIAL).await;
        assert!(greedy.iter().all(|(_, permit)| permit.is_ok()));
        let other = hold(PeerId::random(), SOCKETS_OF_DIAL + 1).await;
        let has_socket: Vec<bool> = other.iter().map(|(_, permit)| permit.is_ok()).collect();
        assert_eq!(has_socket, [true, true, false]);
        drop(greedy);
        let last = &other[SOCKETS_OF_DIAL].0;
        last.turn().await.unwrap();
    }
}
