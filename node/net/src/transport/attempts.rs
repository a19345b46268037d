//! When each attempt of a dial starts, and what it has to find.
//!
//! A dial tries all addresses of a peer, and the connection that is there first is kept. Attempts
//! start [`STEP`] apart, in the order in which the dial has them, so that an address that swallows
//! packets costs no more than that. QUIC needs fewer round trips to be there and then carries less
//! than TCP with TLS, so it gives TCP a head start; where there is only QUIC, nothing waits. An
//! attempt that reaches somebody else than the peer that is meant fails, and the others go on. While
//! the clock of this machine is before all certificates of QUIC, none is made by QUIC.
//!
//! Owns the attempts that run, by peer, for as long as they live, and how many sockets they may
//! have. It is above the resolver, which opens a socket only when its attempt is polled.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::wall_clock;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::order::kind_of;
use crate::reach::Contacts;
use crate::scope::{Kind, peer_of};

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
/// [`pending_outbound_max`](crate::ConnectionLimits::pending_outbound_max) admits.
const SOCKETS_OF_DIAL: usize = 2;

/// Sockets that all dials of this node share beyond these. With those above it is half of the usual
/// limit of 1024 descriptors, while every one of the dials is to addresses that swallow packets.
const SOCKETS_SHARED: usize = 256;

type Output = (PeerId, StreamMuxerBox);

/// An attempt has reached another peer than the one that was meant.
#[derive(Debug, Clone, Copy, Error)]
#[error("peer {obtained} answers there")]
pub(crate) struct WrongPeer {
    /// The peer that has answered.
    pub(crate) obtained: PeerId,
}

/// No certificate that a peer shows over QUIC is valid yet.
#[derive(Debug, Clone, Copy, Error)]
#[error("QUIC does not work before 1975, which the clock of this machine says it is")]
struct EarlyClock;

/// A transport whose attempts to reach a peer start one after the other, TCP first.
pub(super) struct Paced {
    inner: Boxed<Output>,
    attempts: Attempts,
    contacts: Contacts,
}

impl Paced {
    pub(super) fn new(inner: Boxed<Output>, contacts: Contacts) -> Self {
        Self {
            inner,
            attempts: Attempts::default(),
            contacts,
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
    schedule: Schedule,
    sockets: Arc<Semaphore>,
}

impl Running {
    fn new(now: Instant) -> Self {
        Self {
            count: 0,
            tcp: watch::Sender::new(0),
            schedule: Schedule::new(now),
            sockets: Arc::new(Semaphore::new(SOCKETS_OF_DIAL)),
        }
    }
}

/// When the attempts to reach one peer start. Pure.
struct Schedule {
    /// When the next attempt by TCP starts, if it is not later already.
    tcp_next: Instant,
    /// When QUIC may start although TCP attempts run.
    quic_at: Instant,
    /// How many attempts by QUIC have been made.
    quic_made: u32,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self {
            tcp_next: now,
            quic_at: now,
            quic_made: 0,
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

    /// How long after the head start of TCP another attempt by QUIC starts.
    fn next_quic(&mut self) -> Duration {
        let after = STEP * self.quic_made;
        self.quic_made = self.quic_made.saturating_add(1);
        after
    }
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Running>> {
        self.running.lock()
    }

    fn start(&self, peer: PeerId, kind: Kind, now: Instant) -> Attempt {
        let mut all = self.lock();
        let running = all.entry(peer).or_insert_with(|| Running::new(now));
        running.count += 1;
        let turn = match kind {
            Kind::Tcp => {
                running.tcp.send_modify(|count| *count += 1);
                Turn::At(running.schedule.next_tcp(now))
            }
            Kind::Quic => Turn::AfterTcp(running.schedule.next_quic()),
        };
        Attempt {
            attempts: self.clone(),
            peer,
            turn,
            sockets: Arc::clone(&running.sockets),
        }
    }
}

/// When an attempt starts.
#[derive(Clone, Copy)]
enum Turn {
    /// One by TCP.
    At(Instant),
    /// One by QUIC: so long after the head start of TCP.
    AfterTcp(Duration),
}

/// One attempt, until it is dropped.
struct Attempt {
    attempts: Attempts,
    peer: PeerId,
    turn: Turn,
    sockets: Arc<Semaphore>,
}

impl Attempt {
    /// Waits until it may start; what comes back is its right to a socket, if it needs one.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self.turn {
            Turn::At(start) => {
                sleep_until(start).await;
                self.socket().await
            }
            Turn::AfterTcp(delay) => {
                let until = {
                    let all = self.attempts.lock();
                    all.get(&self.peer).map(|it| it.schedule.quic_at)
                };
                if let Some(until) = until {
                    let _ = timeout_at(until, self.tcp_ended()).await;
                }
                sleep(delay).await;
                None
            }
        }
    }

    /// Waits for one of the dial's own sockets, or of those that all share.
    async fn socket(&self) -> Option<OwnedSemaphorePermit> {
        let (own, shared) = (&self.sockets, &self.attempts.shared);
        tokio::select! {
            biased;
            own = Arc::clone(own).acquire_owned() => own.ok(),
            shared = Arc::clone(shared).acquire_owned() => shared.ok(),
        }
    }

    /// Waits until no attempt by TCP to the same peer is left.
    async fn tcp_ended(&self) {
        let count = {
            let all = self.attempts.lock();
            all.get(&self.peer).map(|it| it.tcp.subscribe())
        };
        if let Some(mut count) = count {
            // The sender goes when the last attempt does, which is not before this one.
            let _ = count.wait_for(|count| *count == 0).await;
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
        if let Turn::At(_) = self.turn {
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
        if kind == Kind::Quic && !wall_clock::allows_quic(SystemTime::now()) {
            return Err(TransportError::Other(io::Error::other(EarlyClock)));
        }
        // Whoever is listener in a dial keeps to the moment that was agreed on.
        let is_dialler = opts.role.is_dialer();
        if is_dialler && kind == Kind::Tcp && !self.contacts.shows_own_port(&address) {
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

    /// After how many milliseconds so many attempts by TCP that are made at once start, and QUIC
    /// after them.
    fn starts(schedule: &mut Schedule, now: Instant, count: usize) -> (Vec<u128>, u128) {
        let tcp = (0..count).map(|_| (schedule.next_tcp(now) - now).as_millis());
        let tcp = tcp.collect();
        (tcp, (schedule.quic_at - now).as_millis())
    }

    #[test]
    fn attempts_start_one_after_the_other_and_quic_after_tcp() {
        let now = Instant::now();
        let check = |count, quic| {
            let expected: Vec<u128> = (0..count as u128).map(|n| n * 50).collect();
            let starts = starts(&mut Schedule::new(now), now, count);
            assert_eq!(starts, (expected, quic));
        };
        check(0, 0);
        check(1, 250);
        check(4, 250);
        check(5, 300);
        check(16, 850);
        let mut schedule = Schedule::new(now);
        let quic: Vec<u128> = (0..3).map(|_| schedule.next_quic().as_millis()).collect();
        assert_eq!(quic, [0, 50, 100]);
    }

    #[test]
    fn a_later_dial_does_not_wait_for_an_earlier_one_that_hangs() {
        let mut schedule = Schedule::new(Instant::now());
        starts(&mut schedule, Instant::now(), 16);
        let later = Instant::now() + Duration::from_secs(5);
        assert_eq!(starts(&mut schedule, later, 1), (vec![0], 250));
    }

    #[tokio::test]
    async fn quic_waits_for_the_end_of_every_attempt_by_tcp() {
        let (attempts, peer) = (Attempts::default(), PeerId::random());
        let now = Instant::now();
        let start = |peer, kind| attempts.start(peer, kind, now);
        let quic = start(peer, Kind::Quic);
        quic.turn().await;
        let (first, second) = (start(peer, Kind::Tcp), start(peer, Kind::Tcp));
        let _other = start(PeerId::random(), Kind::Tcp);
        let mut ended = Box::pin(quic.tcp_ended());
        assert!(poll!(&mut ended).is_pending());
        drop(first);
        assert!(poll!(&mut ended).is_pending());
        drop(second);
        ended.await;
        drop(quic);
        assert_eq!(attempts.lock().len(), 1, "nothing stays behind");
    }

    #[tokio::test]
    async fn sockets_are_bounded_and_every_dial_has_some() {
        let attempts = Attempts::default();
        let mut greedy = Vec::new();
        let (one, other) = (PeerId::random(), PeerId::random());
        let attempt = attempts.start(one, Kind::Tcp, Instant::now());
        for _ in 0..SOCKETS_SHARED + SOCKETS_OF_DIAL {
            greedy.push(attempt.socket().await.unwrap());
        }
        let attempt = attempts.start(other, Kind::Tcp, Instant::now());
        for _ in 0..SOCKETS_OF_DIAL {
            greedy.push(attempt.socket().await.unwrap());
        }
        let mut waits = std::pin::pin!(attempt.socket());
        assert!(poll!(&mut waits).is_pending());
        greedy.clear();
        assert!(waits.await.is_some());
    }
}
