//! The actor's part that connects: dials, limits, who is who, and which of their addresses to
//! believe.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns};

use super::Actor;
use super::dials::{Origin, Waiter, connect_error};
use crate::behaviour::BehaviourEvent;
use crate::book::ADDRESSES_MAX;
use crate::foreign::{Foreign, Misfit, misfit};
use crate::introduce::{Acquaintance, introduce};
use crate::neighbours::choose;
use crate::order::to_dial;
use crate::ping;
use crate::records::unix_now;
use crate::scope::{Scope, believed, is_name, without_peer};
use crate::seeds::{SeedDial, SeedId};
use crate::{ConnectError, NetEvent};

/// How long a peer that speaks none of this network's protocols is left alone. Other libp2p
/// programs on the local network are found again and again.
const STRANGER_PAUSE: Duration = Duration::from_secs(120);

/// Peers up to which those of the local network are dialled as soon as they are found.
const MDNS_PEERS_MAX: usize = 32;

/// Addresses in one dial: as many as are known of a peer, and before them as many that a link or a
/// person names. They start 50 ms apart, so the last of those named starts after 0.8 s.
pub(super) const DIAL_ADDRESSES_MAX: usize = 2 * ADDRESSES_MAX;

/// Addresses found on the local network that are looked at at once: those of some machines with
/// many interfaces.
const DISCOVERED_MAX: usize = 1024;

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
                self.reach_connected(connection_id, &endpoint);
                self.upgrade_connected(peer_id, connection_id);
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
                self.reach_closed(connection_id);
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
            | SwarmEvent::ListenerClosed { .. } => {
                self.interfaces.nudge();
                self.publish_addresses();
            }
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
            BehaviourEvent::Ping(ping::Event { peer, rtt }) => {
                let interfaces = self.interfaces.latest();
                self.peers.measured(&peer, rtt, &interfaces);
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.handle_discovered(found),
            BehaviourEvent::Dht(event) => self.handle_dht(event),
            BehaviourEvent::Probe(event) => self.handle_probed(&event),
            BehaviourEvent::Identify(_) | BehaviourEvent::Mdns(_) => {}
            BehaviourEvent::Limits(never)
            | BehaviourEvent::Exchange(never)
            | BehaviourEvent::Replicate(never) => match never {},
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
            let named = self.note_named(peer, addresses);
            if self.swarm.behaviour().exchange.is_connected(&peer) {
                waiter.send(Ok(peer)).ok();
            } else if self.dials.wait(peer, waiter) {
                self.dial_waited_for(peer, named, PeerCondition::NotDialing);
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

    /// Tries further addresses of a peer, if it is being dialled for somebody.
    pub(super) fn handle_try_too(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let named = self.note_named(peer, addresses);
        if self.dials.is_waited_for(&peer) {
            self.dial_waited_for(peer, named, PeerCondition::Always);
        }
    }

    /// Dials those peers that somebody waits for while a dial of another part of the node, with
    /// addresses of its own, does not come to an end.
    pub(super) fn dial_unattended(&mut self) {
        for peer in self.dials.unattended() {
            self.dial_waited_for(peer, Vec::new(), PeerCondition::Always);
        }
    }

    /// Takes note of addresses that a link or a person names; gives them back, each once and without
    /// the peer.
    fn note_named(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        addresses.truncate(DIAL_ADDRESSES_MAX);
        let addresses = addresses.iter().map(without_peer);
        let addresses = to_dial(addresses, &self.interfaces.latest());
        self.book.add(peer, addresses.clone());
        addresses
    }

    /// Where a peer is to be dialled: first at the addresses that somebody has named, in their
    /// order, then at all others that are known of it.
    pub(super) fn addresses_to_dial(
        &mut self,
        peer: PeerId,
        mut named: Vec<Multiaddr>,
    ) -> Vec<Multiaddr> {
        let mut known = self.book.addresses(&peer).to_vec();
        let of_dht = self.swarm.behaviour_mut().dht.addresses(peer);
        known.extend(of_dht.iter().map(without_peer));
        for address in to_dial(known, &self.interfaces.latest()) {
            if !named.contains(&address) {
                named.push(address);
            }
        }
        named.truncate(DIAL_ADDRESSES_MAX);
        named
    }

    /// Dials a peer that somebody waits for, at all addresses that no dial for them tries already.
    fn dial_waited_for(&mut self, peer: PeerId, named: Vec<Multiaddr>, condition: PeerCondition) {
        let addresses = self.addresses_to_dial(peer, named);
        let addresses = self.dials.untried(&peer, addresses);
        let runs = self.dials.is_dialled(&peer);
        if runs && addresses.is_empty() {
            return;
        }
        // An own dial that runs is no reason not to try what it does not try.
        let condition = if runs {
            PeerCondition::Always
        } else {
            condition
        };
        let opts = DialOpts::peer_id(peer)
            .condition(condition)
            .addresses(addresses.clone())
            .build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.dials.started_for(id, peer, addresses),
            // Somebody else's dial runs; the waiters hear how it ends.
            Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) if runs => tracing::debug!(%peer, %error, "no second dial"),
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
        most: usize,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let scope = self.peers.scope(&to).unwrap_or(Scope::Public);
        let known = peers.iter().map(|peer| Acquaintance {
            peer: *peer,
            situation: self.peers.situation(peer),
            addresses: believed(peer, self.book.addresses(peer), scope, ADDRESSES_MAX),
            is_identified: self.peers.is_member(peer),
        });
        introduce(known.collect(), &self.peers.situation(&to), most)
    }

    /// Those of these peers that are connected, or of which an address is known.
    pub(super) fn located(&self, mut peers: Vec<PeerId>) -> Vec<PeerId> {
        peers.retain(|peer| {
            self.swarm.behaviour().exchange.is_connected(peer)
                || !self.book.addresses(peer).is_empty()
        });
        peers
    }

    pub(super) fn handle_ban(&mut self, peer: PeerId, duration: Duration) {
        self.swarm.behaviour_mut().limits.ban(peer, duration);
        self.swarm.behaviour_mut().dht.unroute(&peer);
        self.book.remove(&peer);
        self.disconnect(peer);
    }

    pub(super) fn disconnect(&mut self, peer: PeerId) {
        self.swarm.behaviour_mut().exchange.close(&peer);
        self.swarm.behaviour_mut().replicate.close(&peer);
        // An error says that it is not connected, which is what was asked for.
        self.swarm.disconnect_peer_id(peer).ok();
    }

    fn handle_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(member) = self.peers.disconnected(&peer, connection) else {
            return;
        };
        self.upgrades.forget(&peer);
        self.seeds.lost(&peer, Instant::now(), rand::random());
        if member {
            self.emit(NetEvent::PeerDisconnected { peer });
        }
        self.dial_missed(peer);
    }

    fn handle_dial_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: DialError) {
        self.reach.failed(id);
        let error = connect_error(error, peer);
        tracing::debug!(peer = peer.map(tracing::field::display), %error, "dial failed");
        if let Some(peer) = peer {
            self.upgrade_failed(peer, id);
        }
        let failed = self.dials.failed(id, peer, &error);
        if let Some(seed) = failed.seed {
            self.seeds.failed(seed, Instant::now(), rand::random());
        }
        if let Some(peer) = failed.redial {
            self.dial_waited_for(peer, Vec::new(), PeerCondition::NotDialing);
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
        let replicates = info.protocols.contains(&self.protocols.replicate);
        self.peers.replicates(&peer, replicates);
        if self.peers.identified(&peer, &info.agent_version) {
            self.swarm.behaviour_mut().exchange.keep(peer);
            self.emit(NetEvent::PeerConnected { peer });
        }
        self.reach_heard(connection, info);
        self.upgrade_identified(peer, dialled);
    }

    /// Chooses the peers whose connections are kept, where there are more than can be.
    pub(super) fn choose_neighbours(&mut self) {
        let local = *self.swarm.local_peer_id();
        let exchange = &mut self.swarm.behaviour_mut().exchange;
        let most = exchange.neighbours_max();
        if self.peers.members() <= most {
            return;
        }
        let candidates = self.peers.candidates(|peer| exchange.is_kept(peer));
        exchange.keep_only(&choose(&local, &candidates, most));
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

    /// Dials the peers that were found on the local network, each at all of its addresses.
    fn handle_discovered(&mut self, mut found: Vec<(PeerId, Multiaddr)>) {
        found.truncate(DISCOVERED_MAX);
        let mut peers: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, address) in found {
            peers.entry(peer).or_default().push(address);
        }
        for (peer, addresses) in peers {
            // Those of all interfaces come; the ones that are near are for this machine.
            let addresses = believed(&peer, &addresses, Scope::Lan, addresses.len());
            let mut addresses = to_dial(addresses, &self.interfaces.latest());
            addresses.truncate(ADDRESSES_MAX);
            self.book.add(peer, addresses);
            if self.peers.contains(&peer) {
                // It may have been reached by QUIC before its TCP address was known.
                self.upgrade(peer);
                continue;
            }
            let addresses = to_dial(
                self.book.addresses(&peer).to_vec(),
                &self.interfaces.latest(),
            );
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
            Some(peer) => {
                let addresses = to_dial(addresses, &self.interfaces.latest());
                DialOpts::peer_id(peer).addresses(addresses).build()
            }
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
}
