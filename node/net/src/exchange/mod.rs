//! The exchange behaviour: opens streams of one protocol, `/shoal/<network>/exchange/5` or
//! `/shoal/<network>/replicate/1`, on chosen connections and gives inbound ones away.
//!
//! A node has one behaviour for each of the two. Streams of the exchange keep their connection open
//! and make it busy; those of replication last as long as the connection and do neither.
//!
//! Owns which connections there are and which are kept as neighbours. It does not dial, it does not
//! read or write: streams go straight from the connection's task to the task that works on them,
//! never through the swarm task. Inbound streams beyond a cap, or that nobody takes in time, are
//! reset and counted.

mod handler;
mod stream;

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{Semaphore, mpsc};

pub use self::stream::ExchangeStream;

pub(super) use self::handler::Opener;

use self::handler::{Handler, Order, Shared};
use self::stream::Ends;
use super::activity::{Activities, Activity};
use super::config::ConnectionLimits;
use super::counters::Counters;
use super::order::kind_of;
use super::scope::{Kind, Socket};

/// Inbound streams that wait to be taken. The taker only spawns a task for each, so a queue that
/// stays full means that the node is overloaded.
pub(super) const INCOMING_MAX: usize = 64;

/// Inbound streams of replication on one connection: one, and one more while a peer that begins
/// anew has not closed the one before.
const REPLICATE_PER_CONNECTION_MAX: usize = 2;

/// Inbound streams of replication in total: one of every connection that there may be.
const REPLICATE_MAX: usize = 512;

/// Where inbound streams come out. When one of the receivers is dropped, its streams are reset.
#[derive(Debug)]
pub struct Incoming {
    /// Those of the exchange.
    pub exchange: mpsc::Receiver<ExchangeStream>,
    /// Those of replication.
    pub replicate: mpsc::Receiver<ExchangeStream>,
}

/// The behaviour.
pub(super) struct Exchange {
    shared: Shared,
    streams_per_connection_max: usize,
    neighbours_max: usize,
    /// Open connections by peer; as many as the connection limits admit.
    connections: HashMap<PeerId, Vec<Connection>>,
    neighbours: usize,
    /// Orders on their way to handlers; drained at every poll.
    orders: VecDeque<ToSwarm<Infallible, Order>>,
}

struct Connection {
    id: ConnectionId,
    /// TCP is the faster path; streams prefer it.
    kind: Kind,
    activity: Arc<Activity>,
}

impl Exchange {
    /// A behaviour whose inbound streams come out of the receiver.
    pub(super) fn new(
        protocol: StreamProtocol,
        limits: &ConnectionLimits,
        counters: Counters,
        activities: Activities,
    ) -> (Self, mpsc::Receiver<ExchangeStream>) {
        let (incoming, taken) = mpsc::channel(INCOMING_MAX);
        let node_slots = Arc::new(Semaphore::new(limits.streams_max as usize));
        let exchange = Self {
            shared: Shared {
                protocol,
                incoming,
                node_slots,
                counters,
                activities,
                holds: true,
            },
            streams_per_connection_max: limits.streams_per_connection_max as usize,
            neighbours_max: limits.neighbours_max as usize,
            connections: HashMap::new(),
            neighbours: 0,
            orders: VecDeque::new(),
        };
        (exchange, taken)
    }

    /// A behaviour for replication: its streams keep no connection, and which connections are kept as
    /// those of neighbours is the other behaviour's alone.
    pub(super) fn for_replication(
        protocol: StreamProtocol,
        counters: Counters,
        activities: Activities,
    ) -> (Self, mpsc::Receiver<ExchangeStream>) {
        let (incoming, taken) = mpsc::channel(INCOMING_MAX);
        let replication = Self {
            shared: Shared {
                protocol,
                incoming,
                node_slots: Arc::new(Semaphore::new(REPLICATE_MAX)),
                counters,
                activities,
                holds: false,
            },
            streams_per_connection_max: REPLICATE_PER_CONNECTION_MAX,
            neighbours_max: 0,
            connections: HashMap::new(),
            neighbours: 0,
            orders: VecDeque::new(),
        };
        (replication, taken)
    }

    /// Whether there is a connection with `peer` that this node does not close.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.best(peer).is_some()
    }

    /// The fastest and oldest connection with a peer of those that do not end.
    fn best(&self, peer: &PeerId) -> Option<&Connection> {
        let connections = self.connections.get(peer)?.iter();
        let open = connections.filter(|connection| !connection.activity.is_closing());
        open.min_by_key(|connection| connection.kind)
    }

    /// Opens a stream to a connected peer, on its fastest and oldest connection, and answers
    /// `opener`.
    ///
    /// Gives `opener` back when the peer is not connected.
    pub(super) fn open(&mut self, peer: PeerId, opener: Opener) -> Result<(), Opener> {
        let Some(id) = self.best(&peer).map(|connection| connection.id) else {
            return Err(opener);
        };
        self.order(peer, id, Order::Open(opener));
        Ok(())
    }

    /// Keeps one connection with `peer` open although nothing uses it, as long as there are slots
    /// for neighbours.
    pub(super) fn keep(&mut self, peer: PeerId) {
        let kept = self.connections.get(&peer).is_some_and(|connections| {
            let mut open = connections.iter();
            open.any(|one| one.activity.is_neighbour() && !one.activity.is_closing())
        });
        if kept || self.neighbours >= self.neighbours_max {
            return;
        }
        let Some(connection) = self.best(&peer) else {
            return;
        };
        connection.activity.keep();
        let id = connection.id;
        self.neighbours += 1;
        self.order(peer, id, Order::Keep);
    }

    /// Whether a connection with `peer` is kept.
    pub(super) fn is_kept(&self, peer: &PeerId) -> bool {
        let mut connections = self.connections.get(peer).into_iter().flatten();
        connections.any(|one| one.activity.is_neighbour())
    }

    /// Keeps a connection with each of these peers, and with no other.
    pub(super) fn keep_only(&mut self, peers: &HashSet<PeerId>) {
        let kept = self.connections.keys().filter(|peer| self.is_kept(peer));
        let others: Vec<_> = kept
            .filter(|peer| !peers.contains(*peer))
            .copied()
            .collect();
        others.into_iter().for_each(|peer| self.release(peer));
        peers.iter().for_each(|peer| self.keep(*peer));
    }

    fn release(&mut self, peer: PeerId) {
        let connections = self.connections.get(&peer).into_iter().flatten();
        let kept: Vec<_> = connections
            .filter(|one| one.activity.is_neighbour())
            .map(|one| {
                one.activity.release();
                one.id
            })
            .collect();
        for connection in kept {
            self.neighbours -= 1;
            self.order(peer, connection, Order::Release);
        }
    }

    /// How many neighbours there may be.
    pub(super) fn neighbours_max(&self) -> usize {
        self.neighbours_max
    }

    /// Whether a stream to `peer` would go over TCP.
    pub(super) fn has_tcp(&self, peer: &PeerId) -> bool {
        self.best(peer).is_some_and(|best| best.kind == Kind::Tcp)
    }

    /// Keeps a connection by TCP in place of one by QUIC: the slower one may end when nothing uses
    /// it, and not the one that streams prefer.
    fn keep_faster(&mut self, peer: PeerId) {
        let fastest = self.best(&peer).map(|one| one.kind);
        let mut connections = self.connections.get(&peer).into_iter().flatten();
        let kept = connections.find(|one| one.activity.is_neighbour());
        let Some(kept) = kept.filter(|one| Some(one.kind) > fastest) else {
            return;
        };
        kept.activity.release();
        let slower = kept.id;
        self.neighbours -= 1;
        self.order(peer, slower, Order::Release);
        self.keep(peer);
    }

    /// Takes note that this node closes all connections with `peer`: no stream is opened on them.
    pub(super) fn close(&mut self, peer: &PeerId) {
        for connection in self.connections.get(peer).into_iter().flatten() {
            connection.activity.close();
        }
    }

    fn order(&mut self, peer_id: PeerId, connection: ConnectionId, event: Order) {
        let handler = NotifyHandler::One(connection);
        self.orders.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler,
            event,
        });
    }

    fn handler(&self, peer: PeerId, connection: ConnectionId, remote: &Multiaddr) -> Handler {
        let ends = Ends {
            peer,
            connection,
            remote: Socket::parse(remote).map(|socket| socket.ip),
        };
        Handler::new(self.shared.clone(), ends, self.streams_per_connection_max)
    }

    fn handle_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(connections) = self.connections.get_mut(&peer) else {
            return;
        };
        if let Some(index) = connections.iter().position(|one| one.id == connection) {
            let closed = connections.remove(index);
            let neighbour = self.shared.holds && closed.activity.is_neighbour();
            self.neighbours -= usize::from(neighbour);
            if connections.is_empty() {
                self.connections.remove(&peer);
            } else if neighbour {
                self.keep(peer);
            }
        }
    }
}

impl NetworkBehaviour for Exchange {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let connection = Connection {
                    id: connection_id,
                    kind: kind_of(endpoint.get_remote_address()),
                    activity: self.shared.activities.of(connection_id),
                };
                self.connections
                    .entry(peer_id)
                    .or_default()
                    .push(connection);
                if self.shared.holds {
                    self.keep_faster(peer_id);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                self.handle_closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _peer: PeerId,
        _connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // An order only comes from the swarm's own task, which polls again after it.
        self.orders.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
