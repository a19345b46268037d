//! Trying connections out: how long a round trip takes, and whether the peer is still there.
//!
//! Speaks libp2p's `/ipfs/ping/1.0.0`: 32 bytes that come back. Owns when a ping is sent
//! ([`schedule`]): often at the beginning of a connection and while content is exchanged on it,
//! seldom otherwise, for an idle node is to be nearly silent. A peer that has not answered for
//! [`SILENCE_MAX`](super::config::SILENCE_MAX), and of which nothing else has come meanwhile, is
//! gone, and its connection is closed; where content has moved, it is given the time that a full
//! queue of it takes on the slowest line. Below, [`ends`](super::transport) ends connections by TCP from
//! which nothing arrives at all. It refuses to judge how near a peer is.

mod handler;
mod schedule;

use std::collections::{HashSet, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use shoal_ground::clock_gap::ClockGaps;

use self::handler::{Handler, Hurry, Seen};
use super::activity::Activities;

/// A peer has answered.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) peer: PeerId,
    /// From the question to the answer.
    pub(super) rtt: Duration,
}

/// The behaviour.
pub(super) struct Behaviour {
    activities: Activities,
    gaps: ClockGaps,
    /// As many as the connection limits admit.
    connections: HashSet<(PeerId, ConnectionId)>,
    /// On their way; drained at every poll.
    told: VecDeque<ToSwarm<Event, Hurry>>,
}

impl Behaviour {
    pub(super) fn new(activities: Activities, gaps: ClockGaps) -> Self {
        Self {
            activities,
            gaps,
            connections: HashSet::new(),
            told: VecDeque::new(),
        }
    }

    /// Has all connections tried out now.
    pub(super) fn hurry(&mut self) {
        self.try_out(|_| true);
    }

    fn try_out(&mut self, which: impl Fn(&(PeerId, ConnectionId)) -> bool) {
        let connections = self.connections.iter().filter(|it| which(it));
        let hurries = connections.map(|(peer_id, connection)| {
            let handler = NotifyHandler::One(*connection);
            ToSwarm::NotifyHandler {
                peer_id: *peer_id,
                handler,
                event: Hurry,
            }
        });
        self.told.extend(hurries);
    }

    fn handler(&self, connection: ConnectionId) -> Handler {
        Handler::new(self.activities.of(connection), self.gaps.clone())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => {
                // A peer that has begun anew has not ended what it had: over QUIC nothing tells. Found out here
                // before the new connection, which nothing uses, is closed as one too many.
                self.try_out(|(peer, _)| *peer == peer_id);
                self.connections.insert((peer_id, connection_id));
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                self.connections.remove(&(peer_id, connection_id));
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.told.push_back(match event {
            Seen::Pong(rtt) => ToSwarm::GenerateEvent(Event { peer, rtt }),
            Seen::Gone => {
                tracing::debug!(%peer, ?connection, "a peer does not answer any more");
                self.activities.of(connection).close();
                ToSwarm::CloseConnection {
                    peer_id: peer,
                    connection: CloseConnection::One(connection),
                }
            }
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        // What fills it comes from the swarm's own task, which polls again after it.
        self.told.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
