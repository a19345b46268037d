//! AutoNAT v2: has peers connect to addresses of this node, to see whether that works, and does the
//! same for them.
//!
//! Speaks the protocol that libp2p has published, and not with its crate: that one decides itself
//! which peer is asked, never asks anybody twice, and connects to whatever a client names. Here the
//! network's actor says who is asked for which address. [`serve`] says which addresses are dialled
//! for others: public ones of the client's own host, within limits. So a client never has to send
//! data first, which the protocol asks for when the host is another one. An answer counts only if
//! the peer has told the number of the request on a connection that it made.

mod handler;
mod serve;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use self::handler::{Handler, Order, Told};
use self::serve::{Refusal, Server};
pub(crate) use self::wire::REQUEST;
use self::wire::{Answer, Request};
use super::counters::Counters;
use super::scope::Socket;

/// Own requests that wait for an answer. The oldest makes room.
const ASKED_MAX: usize = 32;

/// Dials for others that run: each takes up to 10 s, and so many are allowed in that time.
const DIALS_MAX: usize = 16;

/// After how long a request is over, whatever the handler says.
const ASKED_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer was asked to connect to an address of this node.
#[derive(Debug)]
pub(crate) struct Event {
    /// The connection on which it was asked.
    pub(crate) connection: ConnectionId,
    /// The address.
    pub(crate) at: Socket,
    /// Whether it has connected; none if it has not tried, or cannot be believed.
    pub(crate) worked: Option<bool>,
}

/// A request of this node.
struct Asked {
    nonce: u64,
    connection: ConnectionId,
    peer: PeerId,
    at: Socket,
    since: Instant,
    /// Whether the peer has told its number on a connection of its own.
    is_heard: bool,
}

/// A request of a client that is being dialled.
struct Dial {
    client: PeerId,
    /// The connection on which it waits for the answer, and the stream.
    asked_on: ConnectionId,
    stream: Stream,
    nonce: u64,
}

/// The behaviour.
pub(crate) struct Behaviour {
    server: Server,
    counters: Counters,
    asked: Vec<Asked>,
    dials: HashMap<ConnectionId, Dial>,
    /// Where the peers of inbound connections are: they are clients.
    clients: HashMap<ConnectionId, IpAddr>,
    /// On their way; drained at every poll.
    told: VecDeque<ToSwarm<Event, Order>>,
}

impl Behaviour {
    pub(crate) fn new(counters: Counters) -> Self {
        Self {
            server: Server::default(),
            counters,
            asked: Vec::new(),
            dials: HashMap::new(),
            clients: HashMap::new(),
            told: VecDeque::new(),
        }
    }

    /// Asks a peer, on a connection that this node made, to connect to `at`.
    pub(crate) fn ask(&mut self, peer: PeerId, connection: ConnectionId, at: Socket) {
        let now = Instant::now();
        self.asked
            .retain(|it| now.saturating_duration_since(it.since) < ASKED_TIMEOUT);
        if self.asked.len() >= ASKED_MAX {
            self.asked.remove(0);
        }
        let nonce = rand::random();
        self.asked.push(Asked {
            nonce,
            connection,
            peer,
            at,
            since: now,
            is_heard: false,
        });
        let addresses = vec![at.address()];
        self.order(peer, connection, Order::Ask(Request { addresses, nonce }));
    }

    fn order(&mut self, peer_id: PeerId, connection: ConnectionId, event: Order) {
        self.told.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event,
        });
    }

    fn handle_answered(&mut self, nonce: u64, answer: Option<Answer>) {
        let Some(index) = self.asked.iter().position(|it| it.nonce == nonce) else {
            return;
        };
        let asked = self.asked.remove(index);
        let worked = match answer {
            Some(Answer::Reached) if asked.is_heard => Some(true),
            Some(Answer::Unreachable) => Some(false),
            // It says that it has connected, and nobody has.
            Some(Answer::Reached) => {
                self.counters.dial_backs_false.add();
                None
            }
            Some(Answer::Refused) | None => None,
        };
        self.told.push_back(ToSwarm::GenerateEvent(Event {
            connection: asked.connection,
            at: asked.at,
            worked,
        }));
    }

    /// A client asks to be connected to.
    fn handle_asked(
        &mut self,
        client: PeerId,
        asked_on: ConnectionId,
        request: &Request,
        stream: Stream,
    ) {
        let from = self.clients.get(&asked_on).copied();
        let allowed = match from {
            Some(_) if self.dials.len() >= DIALS_MAX => Err(Refusal::TooMany),
            Some(from) => self.server.allow(request, client, from, Instant::now()),
            None => Err(Refusal::Forbidden),
        };
        let address = match allowed {
            Ok(address) => address,
            Err(refusal) => {
                match refusal {
                    Refusal::Forbidden => self.counters.dial_backs_forbidden.add(),
                    Refusal::TooMany => self.counters.dial_backs_refused.add(),
                }
                self.order(client, asked_on, Order::Answer(stream, Answer::Refused));
                return;
            }
        };
        let opts = DialOpts::peer_id(client)
            .addresses(vec![address])
            .condition(PeerCondition::Always)
            // From the port that the client knows, its router might let it in.
            .allocate_new_port()
            .build();
        let dial = Dial {
            client,
            asked_on,
            stream,
            nonce: request.nonce,
        };
        self.dials.insert(opts.connection_id(), dial);
        self.told.push_back(ToSwarm::Dial { opts });
    }

    /// A dial for a client has ended in a connection, or not.
    fn handle_dialled(&mut self, id: ConnectionId, is_connected: bool) {
        let Some(dial) = self.dials.get(&id) else {
            return;
        };
        if is_connected {
            let (client, nonce) = (dial.client, dial.nonce);
            self.order(client, id, Order::TellBack(nonce));
        } else {
            self.finish(id, Answer::Unreachable);
        }
    }

    fn finish(&mut self, id: ConnectionId, answer: Answer) {
        if let Some(dial) = self.dials.remove(&id) {
            let order = Order::Answer(dial.stream, answer);
            self.order(dial.client, dial.asked_on, order);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if let Some(socket) = Socket::parse(remote) {
            self.clients.insert(id, socket.ip);
        }
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        _peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, .. }) => {
                self.handle_dialled(connection_id, true);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.handle_dialled(connection_id, false);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.clients.remove(&connection_id);
                // Both an end before the number was told, and one of the client's other connection.
                self.finish(connection_id, Answer::Unreachable);
                self.dials.retain(|_, dial| dial.asked_on != connection_id);
                self.asked.retain(|it| it.connection != connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.clients.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Told::Answered(nonce, answer) => self.handle_answered(nonce, answer.ok()),
            Told::Asked(request, stream) => self.handle_asked(peer, id, &request, stream),
            // Only a connection that the peer has made shows anything.
            Told::Heard(nonce, stream) if self.clients.contains_key(&id) => {
                let mut asked = self.asked.iter_mut();
                if let Some(asked) = asked.find(|it| it.nonce == nonce && it.peer == peer) {
                    asked.is_heard = true;
                    // Only now: the answer to the request may be here before the next event of this
                    // connection.
                    self.order(peer, id, Order::Noted(stream));
                }
            }
            Told::Delivered(true) => self.finish(id, Answer::Reached),
            Told::Delivered(false) => self.finish(id, Answer::Unreachable),
            Told::Heard(..) | Told::Nothing => {}
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        // What fills it comes from the swarm's own task, which polls again after it.
        self.told.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
