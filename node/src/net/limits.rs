//! Who may connect: caps on connections in total, per peer, per host and per subnet, and bans that
//! expire.
//!
//! A behaviour without a protocol that only says no. It exists because libp2p's own keeps an entry
//! for every peer ever seen and knows nothing of hosts. The pure part is [`Ledger`]: what is
//! counted and what is refused; every entry goes with the last connection that it counts. Dials of
//! this node are not limited by host, for whom we dial is our own choice.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{
    ConnectionClosed, ConnectionEstablished, DialFailure, ListenFailure,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

use super::config::ConnectionLimits;
use super::counters::Counters;
use super::scope::{Scope, Socket};

/// Bans that are remembered; of more, the one that ends first is forgotten. 80 bytes each.
const BANS_MAX: usize = 4096;

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The peer is banned for now.
    #[error("the peer is banned")]
    Banned,
    /// As many connections as allowed.
    #[error("too many connections")]
    Established,
    /// As many inbound connections as allowed.
    #[error("too many inbound connections")]
    Inbound,
    /// As many handshakes as allowed.
    #[error("too many handshakes at once")]
    Pending,
    /// As many connections with this peer as allowed.
    #[error("too many connections with this peer")]
    Peer,
    /// As many inbound connections from this host as allowed.
    #[error("too many connections from this host")]
    Host,
    /// As many inbound connections from this subnet as allowed.
    #[error("too many connections from this subnet")]
    Subnet,
}

/// The behaviour that enforces [`ConnectionLimits`] and bans.
pub(super) struct Limits {
    ledger: Ledger,
    counters: Counters,
}

impl Limits {
    pub(super) fn new(limits: ConnectionLimits, counters: Counters) -> Self {
        Self {
            ledger: Ledger::new(limits),
            counters,
        }
    }

    /// Refuses new connections with `peer` until `duration` has passed. Existing ones are for the
    /// caller to close.
    pub(super) fn ban(&mut self, peer: PeerId, duration: Duration) {
        self.ledger.ban(peer, duration, Instant::now());
    }

    fn verdict(&self, checked: Result<(), Refusal>) -> Result<(), ConnectionDenied> {
        checked.map_err(|refusal| {
            match refusal {
                Refusal::Banned => self.counters.connections_banned.add(),
                _ => self.counters.connections_refused.add(),
            }
            ConnectionDenied::new(refusal)
        })
    }
}

impl NetworkBehaviour for Limits {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let checked = self.ledger.admit_inbound(id, ip_of(remote));
        self.verdict(checked)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.verdict(self.ledger.check_established(&peer, true, Instant::now()))?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let checked = self.ledger.admit_outbound(id, peer, Instant::now());
        self.verdict(checked)?;
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
        self.verdict(self.ledger.check_established(&peer, false, Instant::now()))?;
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
        Poll::Pending
    }
}

/// The IP at the front of an address, whatever follows.
fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    Socket::parse(address).map(|socket| socket.ip)
}

/// Counts connections by every measure that has a cap. Knows no clock and no socket.
struct Ledger {
    limits: ConnectionLimits,
    connections: HashMap<ConnectionId, Connection>,
    pending_inbound: u32,
    pending_outbound: u32,
    established: u32,
    established_inbound: u32,
    peers: Tally<PeerId>,
    hosts: Tally<IpAddr>,
    subnets: Tally<IpAddr>,
    bans: HashMap<PeerId, Instant>,
}

/// One connection from its first packet on.
struct Connection {
    /// Whose host and subnet it counts for; none for dials of our own and for hosts that are not
    /// limited.
    host: Option<IpAddr>,
    inbound: bool,
    /// Set when the handshake is done.
    peer: Option<PeerId>,
}

impl Ledger {
    fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            connections: HashMap::new(),
            pending_inbound: 0,
            pending_outbound: 0,
            established: 0,
            established_inbound: 0,
            peers: Tally::default(),
            hosts: Tally::default(),
            subnets: Tally::default(),
            bans: HashMap::new(),
        }
    }

    fn admit_inbound(&mut self, id: ConnectionId, ip: Option<IpAddr>) -> Result<(), Refusal> {
        let limited =
            |ip: &IpAddr| self.limits.everywhere || Scope::of_ip(*ip) == Some(Scope::Public);
        let host = ip.filter(limited).map(host_of);
        below(
            self.pending_inbound,
            self.limits.pending_inbound_max,
            Refusal::Pending,
        )?;
        // Counted here as well, so that a flood does not cost a handshake each.
        below(
            self.established_inbound,
            self.limits.inbound_max,
            Refusal::Inbound,
        )?;
        if let Some(host) = host {
            below(
                self.hosts.count(&host),
                self.limits.per_host_max,
                Refusal::Host,
            )?;
            let subnet = self.subnets.count(&subnet_of(host));
            below(subnet, self.limits.per_subnet_max, Refusal::Subnet)?;
            self.hosts.add(host);
            self.subnets.add(subnet_of(host));
        }
        self.pending_inbound += 1;
        self.connections.insert(
            id,
            Connection {
                host,
                inbound: true,
                peer: None,
            },
        );
        Ok(())
    }

    fn admit_outbound(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        now: Instant,
    ) -> Result<(), Refusal> {
        if peer.is_some_and(|peer| self.banned(&peer, now)) {
            return Err(Refusal::Banned);
        }
        below(
            self.pending_outbound,
            self.limits.pending_outbound_max,
            Refusal::Pending,
        )?;
        below(
            self.established,
            self.limits.established_max,
            Refusal::Established,
        )?;
        self.pending_outbound += 1;
        self.connections.insert(
            id,
            Connection {
                host: None,
                inbound: false,
                peer: None,
            },
        );
        Ok(())
    }

    fn check_established(&self, peer: &PeerId, inbound: bool, now: Instant) -> Result<(), Refusal> {
        if self.banned(peer, now) {
            return Err(Refusal::Banned);
        }
        if inbound {
            below(
                self.established_inbound,
                self.limits.inbound_max,
                Refusal::Inbound,
            )?;
        }
        below(
            self.established,
            self.limits.established_max,
            Refusal::Established,
        )?;
        below(
            self.peers.count(peer),
            self.limits.per_peer_max,
            Refusal::Peer,
        )
    }

    fn establish(&mut self, id: ConnectionId, peer: PeerId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.peer.replace(peer).is_some() {
            return;
        }
        self.established += 1;
        self.peers.add(peer);
        if connection.inbound {
            self.pending_inbound -= 1;
            self.established_inbound += 1;
        } else {
            self.pending_outbound -= 1;
        }
    }

    /// Forgets a connection, whether it failed in its handshake or was closed later; once is
    /// enough.
    fn release(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(host) = connection.host {
            self.hosts.remove(&host);
            self.subnets.remove(&subnet_of(host));
        }
        match connection.peer {
            Some(peer) => {
                self.peers.remove(&peer);
                self.established -= 1;
                self.established_inbound -= u32::from(connection.inbound);
            }
            None if connection.inbound => self.pending_inbound -= 1,
            None => self.pending_outbound -= 1,
        }
    }

    fn ban(&mut self, peer: PeerId, duration: Duration, now: Instant) {
        self.bans.retain(|_, until| *until > now);
        if self.bans.len() >= BANS_MAX && !self.bans.contains_key(&peer) {
            let first = self
                .bans
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(peer, _)| *peer);
            first.map(|peer| self.bans.remove(&peer));
        }
        // Far beyond any ban, and within what an `Instant` can hold.
        let duration = duration.min(Duration::from_secs(365 * 86_400));
        self.bans.insert(peer, now + duration);
    }

    fn banned(&self, peer: &PeerId, now: Instant) -> bool {
        self.bans.get(peer).is_some_and(|until| *until > now)
    }
}

fn below(count: u32, max: u32, refusal: Refusal) -> Result<(), Refusal> {
    if count < max { Ok(()) } else { Err(refusal) }
}

/// What counts as one host: an IPv4 address, or an IPv6 /64, which one machine commonly has to
/// itself.
fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => v6
            .to_ipv4_mapped()
            .map_or_else(|| mask_v6(v6, 64), IpAddr::V4),
    }
}

/// What counts as one subnet: an IPv4 /24 or an IPv6 /48, which one site commonly gets.
fn subnet_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => mask_v6(v6, 48),
    }
}

fn mask_v6(ip: Ipv6Addr, prefix_bits: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(
        ip.to_bits() & !(u128::MAX >> prefix_bits),
    ))
}

/// Counts of what is counted at least once.
struct Tally<K>(HashMap<K, u32>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Tally<K> {
    fn count(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: K) {
        *self.0.entry(key).or_insert(0) += 1;
    }

    fn remove(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
