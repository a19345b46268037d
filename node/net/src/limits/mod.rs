//! Who may connect: caps on connections in total, per peer, per host and per subnet, and bans that
//! expire.
//!
//! A behaviour without a protocol that only says no. It exists because libp2p's own keeps an entry
//! for every peer ever seen and knows nothing of hosts. When the table is full, the connection that
//! has been idle for longest gives way to the new one; one that makes progress never does. The pure
//! part is [`Ledger`]: what is counted, what is refused and what gives way; every entry goes with
//! the last connection that it counts. Dials of this node are not limited by host, for whom we dial
//! is our own choice.

mod ledger;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{
    ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure,
};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use self::ledger::Ledger;
use super::activity::Activities;
use super::config::{ConnectionLimits, Diversity};
use super::counters::Counters;
use super::error::Refusal;
use super::scope::Socket;

/// The behaviour that enforces [`ConnectionLimits`] and bans.
pub(super) struct ConnectionLimiter {
    ledger: Ledger,
    activities: Activities,
    counters: Counters,
    /// Connections that give way, not yet told to; drained at every poll.
    giving_way: VecDeque<(PeerId, ConnectionId)>,
}

impl ConnectionLimiter {
    pub(super) fn new(
        limits: ConnectionLimits,
        diversity: Diversity,
        activities: Activities,
        counters: Counters,
    ) -> Self {
        Self {
            ledger: Ledger::new(limits, diversity),
            activities,
            counters,
            giving_way: VecDeque::new(),
        }
    }

    /// Refuses new connections with `peer` until `duration` has passed. Existing ones are for the
    /// caller to close.
    pub(super) fn ban(&mut self, peer: PeerId, duration: Duration) {
        self.ledger.ban(peer, duration, Instant::now());
    }

    /// Accepts a connection whose handshake is done, or not; another one may have to give way.
    fn admit_established(&mut self, peer: PeerId, inbound: bool) -> Result<(), ConnectionDenied> {
        let now = Instant::now();
        let checked = self.ledger.check_established(&peer, inbound, now);
        if let Some(id) = self.verdict(checked)?
            && let Some(idle) = self.ledger.give_way(id)
        {
            tracing::debug!(%idle, %peer, "an idle connection gives way to a new one");
            self.counters.connections_gave_way.add();
            self.giving_way.push_back((idle, id));
        }
        Ok(())
    }

    fn verdict<T>(&self, checked: Result<T, Refusal>) -> Result<T, ConnectionDenied> {
        checked.map_err(|refusal| {
            match refusal {
                Refusal::Banned => self.counters.connections_banned.add(),
                _ => self.counters.connections_refused.add(),
            }
            ConnectionDenied::new(refusal)
        })
    }
}

impl NetworkBehaviour for ConnectionLimiter {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = Socket::parse(remote).map(|socket| socket.ip);
        let activity = self.activities.of(id);
        let admitted = self.ledger.admit_inbound(id, ip, activity, Instant::now());
        if admitted.is_err() {
            self.activities.forget(id);
        }
        self.verdict(admitted)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_established(peer, true)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let activity = self.activities.of(id);
        let admitted = self
            .ledger
            .admit_outbound(id, peer, activity, Instant::now());
        if admitted.is_err() {
            self.activities.forget(id);
        }
        self.verdict(admitted)?;
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit_established(peer, false)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => {
                self.ledger.establish(connection_id, peer_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::DialFailure(DialFailure { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.ledger.release(connection_id);
                self.activities.forget(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _peer: PeerId,
        _id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // One is only added by what the swarm's own task does, which polls again after it.
        let Some((peer_id, id)) = self.giving_way.pop_front() else {
            return Poll::Pending;
        };
        Poll::Ready(ToSwarm::CloseConnection {
            peer_id,
            connection: CloseConnection::One(id),
        })
    }
}
