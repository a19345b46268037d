//! Who is connected, as a person or a program is shown it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use shoal_protocol::near::{self, Distance, NearConfig, Nearness, Whereabouts};

use super::emulation::Emulation;
use super::interfaces::{Interfaces, Line};
use super::introduce::Situation;
use super::nearby::Nearby;
use super::neighbours::Candidate;
use super::scope::{Scope, Socket, host_of, is_name, without_peer};

/// The longest agent that is shown, in characters.
const AGENT_CHARS_MAX: usize = 64;

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its id.
    pub peer_id: PeerId,
    /// The remote address of each connection, oldest first.
    pub addresses: Vec<Multiaddr>,
    /// What it calls itself; printable ASCII, at most 64 characters. `None` until it has said so.
    pub agent: Option<String>,
    /// Its distance: the least round-trip time of ten minutes, or the last one before.
    pub rtt: Option<Duration>,
    /// How near that is, once measured.
    pub nearness: Option<Nearness>,
    /// Who made the oldest connection.
    pub direction: Direction,
    /// Since when there has been a connection.
    pub connected_since: SystemTime,
    /// The widest scope of its connections.
    pub scope: Option<Scope>,
}

/// Who made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer.
    Inbound,
    /// This node.
    Outbound,
}

/// All connected peers.
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
    /// What others are told of distances.
    nearby: Nearby,
    near: NearConfig,
    /// In a test network, what says who is on the same local network.
    emulation: Option<Emulation>,
    /// When time begins, for distances.
    began: Instant,
}

struct Peer {
    /// Never empty.
    connections: Vec<Connection>,
    agent: Option<String>,
    rtt: Option<Duration>,
    distance: Distance,
    since: SystemTime,
    /// Whether it was found to speak this network's protocols.
    member: bool,
}

struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    direction: Direction,
}

impl Peers {
    pub(super) fn new(nearby: Nearby, near: NearConfig, emulation: Option<Emulation>) -> Self {
        Self {
            peers: HashMap::new(),
            nearby,
            near,
            emulation,
            began: Instant::now(),
        }
    }

    /// Adds a connection.
    pub(super) fn connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let direction = if endpoint.is_dialer() {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        let address = without_peer(endpoint.get_remote_address());
        let connection = Connection {
            id,
            address,
            direction,
        };
        let known = self.peers.entry(peer).or_insert_with(|| Peer {
            connections: Vec::new(),
            agent: None,
            rtt: None,
            distance: Distance::default(),
            since: SystemTime::now(),
            member: false,
        });
        known.connections.push(connection);
    }

    /// Removes a connection. If it was the peer's last, says whether it was a peer of this network.
    pub(super) fn disconnected(&mut self, peer: &PeerId, id: ConnectionId) -> Option<bool> {
        let known = self.peers.get_mut(peer)?;
        known.connections.retain(|connection| connection.id != id);
        if !known.connections.is_empty() {
            return None;
        }
        self.nearby.forget(peer);
        self.peers.remove(peer).map(|peer| peer.member)
    }

    /// Takes note of what a peer of this network calls itself; says whether it is news that it is
    /// one.
    pub(super) fn identified(&mut self, peer: &PeerId, agent: &str) -> bool {
        let Some(known) = self.peers.get_mut(peer) else {
            return false;
        };
        known.agent = Some(printable(agent));
        !std::mem::replace(&mut known.member, true)
    }

    /// Takes note of whether a peer speaks of replicas.
    pub(super) fn replicates(&self, peer: &PeerId, replicates: bool) {
        if self.peers.contains_key(peer) {
            self.nearby.replicates(*peer, replicates);
        }
    }

    /// Takes note of a round trip, and of how near the peer is by it.
    pub(super) fn measured(&mut self, peer: &PeerId, rtt: Duration, interfaces: &Interfaces) {
        let Some(known) = self.peers.get_mut(peer) else {
            return;
        };
        let now = self.began.elapsed();
        known.rtt = Some(rtt);
        known.distance.measured(rtt, now);
        let least = known.distance.rtt(now);
        let of_connection = |one: &Connection| {
            let ip = Socket::parse(&one.address)?.ip;
            let is_stated = |it: &Emulation| it.is_on_lan(ip);
            let whereabouts = match interfaces.line_to(ip) {
                _ if self.emulation.as_ref().is_some_and(is_stated) => Whereabouts::Stated,
                Some(Line::Wire | Line::Unknown) => Whereabouts::OnLink,
                Some(Line::Tunnel | Line::Virtual | Line::Idle) | None => Whereabouts::Elsewhere,
            };
            Some(near::judge(ip, whereabouts, least, &self.near))
        };
        let nearness = known.connections.iter().filter_map(of_connection).min();
        self.nearby.set(*peer, nearness.unwrap_or_default(), least);
    }

    /// Forgets all distances: this node woke up, or has other addresses.
    pub(super) fn forget_distances(&mut self) {
        self.peers
            .values_mut()
            .for_each(|peer| peer.distance.forget());
    }

    /// Whether a peer has said what it speaks and where it is.
    pub(super) fn is_member(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.member)
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// How many peers of this network are connected.
    pub(super) fn members(&self) -> usize {
        self.peers.values().filter(|peer| peer.member).count()
    }

    /// The peers of this network that are connected.
    pub(super) fn member_ids(&self) -> impl Iterator<Item = PeerId> {
        let members = self.peers.iter().filter(|(_, peer)| peer.member);
        members.map(|(id, _)| *id)
    }

    /// Whether a peer of this network is connected from this machine or its local network.
    pub(super) fn has_local_member(&self) -> bool {
        let mut members = self.peers.values().filter(|peer| peer.member);
        members.any(|peer| peer.scope().is_some_and(|scope| scope < Scope::Public))
    }

    /// The peers of this network that may be neighbours.
    pub(super) fn candidates(&self, is_kept: impl Fn(&PeerId) -> bool) -> Vec<Candidate> {
        let now = self.began.elapsed();
        let members = self.peers.iter().filter(|(_, peer)| peer.member);
        let candidate = |(peer, known): (&PeerId, &Peer)| Candidate {
            peer: *peer,
            nearness: self.nearby.of(peer),
            rtt: known.distance.rtt(now),
            is_kept: is_kept(peer),
        };
        members.map(candidate).collect()
    }

    /// The remote address of one connection.
    pub(super) fn address(&self, peer: &PeerId, id: ConnectionId) -> Option<&Multiaddr> {
        let connections = &self.peers.get(peer)?.connections;
        connections
            .iter()
            .find(|one| one.id == id)
            .map(|one| &one.address)
    }

    /// The addresses at which this node reached a peer.
    pub(super) fn dialled(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let connections = self.peers.get(peer).map(|peer| peer.connections.as_slice());
        let connections = connections.unwrap_or_default().iter();
        let dialled = connections.filter(|one| one.direction == Direction::Outbound);
        dialled.map(|one| one.address.clone()).collect()
    }

    /// The hosts that a peer is connected from; `None` when this node dialled it by a name, which
    /// somebody chose on purpose.
    pub(super) fn hosts(&self, peer: &PeerId) -> Option<Vec<IpAddr>> {
        let connections = self.peers.get(peer).map(|peer| peer.connections.as_slice());
        let connections = connections.unwrap_or_default();
        let host = |one: &Connection| Socket::parse(&one.address).map(|socket| host_of(socket.ip));
        let named = connections.iter().any(|one| is_name(&one.address));
        (!named).then(|| connections.iter().filter_map(host).collect())
    }

    /// What is known of where a peer is.
    pub(super) fn situation(&self, peer: &PeerId) -> Situation {
        Situation {
            hosts: self.hosts(peer).unwrap_or_default(),
            nearness: self.nearby.of(peer).unwrap_or_default(),
        }
    }

    /// The widest scope at which a peer is connected: what it may tell addresses of.
    pub(super) fn scope(&self, peer: &PeerId) -> Option<Scope> {
        self.peers.get(peer).and_then(Peer::scope)
    }

    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Everybody, oldest connection first.
    pub(super) fn snapshot(&self) -> Vec<PeerInfo> {
        let mut all: Vec<PeerInfo> = self
            .peers
            .iter()
            .filter_map(|(id, peer)| self.info(*id, peer))
            .collect();
        all.sort_by_key(|peer| (peer.connected_since, peer.peer_id));
        all
    }

    fn info(&self, peer_id: PeerId, peer: &Peer) -> Option<PeerInfo> {
        let connections = peer.connections.iter();
        Some(PeerInfo {
            peer_id,
            addresses: connections.map(|one| one.address.clone()).collect(),
            agent: peer.agent.clone(),
            rtt: peer.distance.rtt(self.began.elapsed()).or(peer.rtt),
            nearness: self.nearby.of(&peer_id),
            direction: peer.connections.first()?.direction,
            connected_since: peer.since,
            scope: peer.scope(),
        })
    }
}

impl Peer {
    fn scope(&self) -> Option<Scope> {
        self.connections
            .iter()
            .filter_map(|one| Scope::of(&one.address))
            .max()
    }
}

/// What a stranger calls itself, made safe for terminals and logs.
fn printable(agent: &str) -> String {
    agent
        .chars()
        .take(AGENT_CHARS_MAX)
        .map(|c| {
            if c == ' ' || c.is_ascii_graphic() {
                c
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_made_safe() {
        let check = |agent: &str, want: &str| assert_eq!(printable(agent), want);
        check("shoal/0.1.0", "shoal/0.1.0");
        check("a\u{1b}[31mb\n\u{202e}", "a?[31mb??");
        check(&"x".repeat(1000), &"x".repeat(AGENT_CHARS_MAX));
    }
}
