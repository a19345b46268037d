//! The actor's part that connects: dials, limits, who is who, and which of their addresses to
//! believe.

use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};

use super::Actor;
use super::dials::{Origin, Waiter, connect_error};
use crate::net::behaviour::BehaviourEvent;
use crate::net::book::ADDRESSES_MAX;
use crate::net::foreign::{Foreign, Misfit, misfit};
use crate::net::records::unix_now;
use crate::net::scope::{Scope, believed, is_name};
use crate::net::seeds::{SeedDial, SeedId};
use crate::net::{ConnectError, NetEvent, OwnAddresses};

/// How long a peer that speaks none of this network's protocols is left alone. Other libp2p
/// programs on the local network are found again and again.
const STRANGER_PAUSE: Duration = Duration::from_secs(120);

/// Peers up to which those of the local network are dialled as soon as they are found.
const MDNS_PEERS_MAX: usize = 32;

/// Addresses that this node tells others of itself; what others believe at most.
const OWN_ADDRESSES_MAX: usize = ADDRESSES_MAX;

impl Actor {
    pub(super) fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.peers.connected(peer_id, connection_id, &endpoint);
                if let Some(seed) = self.dials.connected(connection_id, peer_id) {
                    self.seeds.succeeded(seed, peer_id);
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                ..
            } => {
                self.handle_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.handle_dial_failed(connection_id, peer_id, error);
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => self.publish_addresses(),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed for a moment");
            }
            _ => {}
        }
    }

    fn handle_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            }) => {
                self.handle_identified(peer_id, connection_id, &info);
            }
            BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(rtt),
                ..
            }) => {
                self.peers.measured(&peer, rtt);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.handle_discovered(found),
            BehaviourEvent::Dht(event) => self.handle_dht(event),
            // A pong that is late may lie behind bulk; a line that is dead is one that is silent.
            BehaviourEvent::Identify(_) | BehaviourEvent::Ping(_) | BehaviourEvent::Mdns(_) => {}
            BehaviourEvent::Limits(never) | BehaviourEvent::Exchange(never) => match never {},
        }
    }

    /// Connects `waiter` with a peer, or with whoever is at the one address given.
    pub(super) fn handle_connect(
        &mut self,
        peer: Option<PeerId>,
        mut addresses: Vec<Multiaddr>,
        waiter: Waiter,
    ) {
        if let Some(peer) = peer {
            self.book.add(peer, addresses);
            if self.swarm.behaviour().exchange.is_connected(&peer) {
                waiter.send(Ok(peer)).ok();
            } else if self.dials.wait(peer, waiter) {
                self.dial_waited_for(peer);
            }
            return;
        }
        let Some(address) = addresses.pop() else {
            waiter.send(Err(ConnectError::Unreachable(Vec::new()))).ok();
            return;
        };
        if !self.dials.has_room() {
            waiter.send(Err(ConnectError::Busy)).ok();
            return;
        }
        let opts = DialOpts::unknown_peer_id().address(address).build();
        let id = opts.connection_id();
        self.dials.started(id, Origin::Address(waiter));
        if let Err(error) = self.swarm.dial(opts) {
            self.dials.failed(id, None, &connect_error(error, None));
        }
    }

    /// Dials a peer that somebody waits for, at all addresses that are known of it.
    fn dial_waited_for(&mut self, peer: PeerId) {
        let mut addresses = self.book.addresses(&peer).to_vec();
        for address in self.swarm.behaviour_mut().dht.addresses(peer) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::NotDialing)
            .addresses(addresses)
            .build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.dials.started(id, Origin::Waiters(peer)),
            // Somebody else's dial runs; the waiters hear how it ends.
            Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.dials.refuse(&peer, &connect_error(error, Some(peer))),
        }
    }

    pub(super) fn handle_learn(&mut self, peer: PeerId, addresses: &[Multiaddr], told_by: PeerId) {
        let scope = self.peers.scope(&told_by).unwrap_or(Scope::Public);
        self.book
            .add(peer, believed(&peer, addresses, scope, ADDRESSES_MAX));
    }

    /// What `to` is told of where these peers are.
    pub(super) fn introduction(
        &self,
        peers: &[PeerId],
        to: PeerId,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let scope = self.peers.scope(&to).unwrap_or(Scope::Public);
        let known = peers.iter().map(|peer| {
            let addresses = self.book.addresses(peer);
            (*peer, believed(peer, addresses, scope, ADDRESSES_MAX))
        });
        known
            .filter(|(_, addresses)| !addresses.is_empty())
            .collect()
    }

    pub(super) fn handle_ban(&mut self, peer: PeerId, duration: Duration) {
        self.swarm.behaviour_mut().limits.ban(peer, duration);
        self.swarm.behaviour_mut().dht.unroute(&peer);
        self.book.remove(&peer);
        self.disconnect(peer);
    }

    pub(super) fn disconnect(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().exchange.close(&peer);
        // An error says that it is not connected, which is what was asked for.
        self.swarm.disconnect_peer_id(peer).ok();
    }

    fn handle_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(member) = self.peers.disconnected(&peer, connection) else {
            return;
        };
        self.seeds.lost(&peer, Instant::now(), rand::random());
        if member {
            self.emit(NetEvent::PeerDisconnected { peer });
        }
        self.dial_missed(peer);
    }

    fn handle_dial_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: DialError) {
        let error = connect_error(error, peer);
        tracing::debug!(peer = peer.map(tracing::field::display), %error, "dial failed");
        let failed = self.dials.failed(id, peer, &error);
        if let Some(seed) = failed.seed {
            self.seeds.failed(seed, Instant::now(), rand::random());
        }
        if let Some(peer) = failed.redial {
            self.dial_waited_for(peer);
        }
    }

    /// Sorts a peer that said what it speaks and where it is: stranger, member, DHT server.
    fn handle_identified(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        let Some(remote) = self.peers.address(&peer, connection) else {
            return;
        };
        // A name that somebody chose to dial: how far it reaches, the peer sees of this node. What
        // else has no scope of its own counts as wide, so that little is believed.
        let named = is_name(remote)
            .then(|| Scope::of(&info.observed_addr))
            .flatten();
        let scope = Scope::of(remote).or(named).unwrap_or(Scope::Public);
        let server = info.protocols.contains(&self.protocols.kad);
        let misfit = misfit(&self.protocols, &info.protocols);
        let of_shoal = misfit.is_some();
        self.note_misfit(peer, misfit);
        if !server && !info.protocols.contains(&self.protocols.exchange) {
            self.counters.strangers.add();
            if of_shoal {
                // It learns as much of this node, and the connection, which nothing uses, ends.
                return;
            }
            tracing::debug!(%peer, "speaks none of this network's protocols");
            self.handle_ban(peer, STRANGER_PAUSE);
            return;
        }
        let mut addresses = self.peers.dialled(&peer);
        let dialled = !addresses.is_empty();
        for address in believed(&peer, &info.listen_addrs, scope, ADDRESSES_MAX) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        if server {
            self.route(peer, &addresses);
        } else {
            self.swarm.behaviour_mut().dht.unroute(&peer);
        }
        self.seeds.remember(peer, &addresses, dialled, unix_now());
        self.book.set(peer, addresses);
        if self.peers.identified(&peer, &info.agent_version) {
            self.swarm.behaviour_mut().exchange.keep(peer);
            self.emit(NetEvent::PeerConnected { peer });
        }
    }

    /// Takes note whether a peer of Shoal is one that this node understands.
    fn note_misfit(&mut self, peer: PeerId, misfit: Option<Misfit>) {
        let Some(misfit) = misfit else {
            self.foreigners.understood(&peer);
            return;
        };
        if self.foreigners.met(peer, &misfit, Instant::now()) {
            tracing::info!("{}", Foreign { peer, misfit });
        }
    }

    /// Puts a DHT server into the routing table; a node of the public network does not take in
    /// those that only its local network can reach.
    pub(super) fn route(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let floor = match self.addresses.borrow().scope {
            Some(Scope::Public) => Scope::Public,
            _ => Scope::Loopback,
        };
        let addresses = believed(&peer, addresses, floor, ADDRESSES_MAX);
        let hosts = self.peers.hosts(&peer);
        self.swarm
            .behaviour_mut()
            .dht
            .route(peer, &addresses, hosts.as_deref());
    }

    fn handle_discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found {
            let addresses = believed(&peer, [&address], Scope::Lan, ADDRESSES_MAX);
            self.book.add(peer, addresses);
            let addresses = self.book.addresses(&peer).to_vec();
            let rests = self.foreigners.rests(&peer, Instant::now());
            if addresses.is_empty() || rests || self.peers.members() >= MDNS_PEERS_MAX {
                continue;
            }
            let opts = DialOpts::peer_id(peer).addresses(addresses).build();
            // It may be connected, being dialled or banned as a stranger; it is found again.
            self.swarm.dial(opts).ok();
        }
    }

    /// Dials bootstrap peers that are not connected, and remembered ones while there are few peers.
    pub(super) fn dial_seeds(&mut self, now: Instant) {
        let (seeds, peers) = (&mut self.seeds, &self.peers);
        let due = seeds.due(now, peers.members(), |peer| peers.contains(peer));
        for dial in due {
            self.dial_seed(dial, now);
        }
    }

    fn dial_seed(&mut self, dial: SeedDial, now: Instant) {
        let SeedDial {
            seed,
            peer,
            mut addresses,
        } = dial;
        let opts = match peer {
            Some(peer) => DialOpts::peer_id(peer).addresses(addresses).build(),
            None => match addresses.pop() {
                Some(address) => DialOpts::unknown_peer_id().address(address).build(),
                None => return,
            },
        };
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.dials.started(id, Origin::Seed(seed)),
            Err(error) => {
                tracing::debug!(?seed, %error, "seed not dialled");
                self.seeds.failed(seed, now, rand::random());
            }
        }
        if let SeedId::Bootstrap(_) = seed {
            tracing::debug!(?seed, "dialling a bootstrap peer");
        }
    }

    /// Tells peers and handles where this node is: what the configuration says and what it listens
    /// on.
    ///
    /// Listen addresses count as confirmed, for provider records carry confirmed addresses only;
    /// who hears one that reaches less far than they do does not believe it.
    pub(super) fn publish_addresses(&mut self) {
        let listen: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let local = *self.swarm.local_peer_id();
        let mut external = self.external.clone();
        let mut heard = believed(&local, &listen, Scope::Loopback, listen.len());
        heard.sort_by_key(|address| std::cmp::Reverse(Scope::of(address)));
        external.extend(
            heard
                .into_iter()
                .filter(|address| !self.external.contains(address)),
        );
        external.truncate(OWN_ADDRESSES_MAX);
        let confirmed: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        for old in confirmed.iter().filter(|old| !external.contains(old)) {
            self.swarm.remove_external_address(old);
        }
        for new in external.iter().filter(|new| !confirmed.contains(new)) {
            self.swarm.add_external_address(new.clone());
        }
        let scope = external.iter().filter_map(Scope::of).max();
        let addresses = OwnAddresses {
            listen,
            external,
            scope,
        };
        if *self.addresses.borrow() != addresses {
            self.addresses.send_replace(addresses);
            self.emit(NetEvent::AddressesChanged);
            self.announce_after_move();
        }
    }
}
