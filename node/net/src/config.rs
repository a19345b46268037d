//! What can be configured of the network. `Default` is the only place where these numbers are
//! written.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::{Multiaddr, StreamProtocol};
use shoal_protocol::{exchange::pace, near::NearConfig};

use super::NetError;
use super::scope::Scope;
use crate::emulation::Emulation;

/// After how long without an answer from a peer its connection is dead, where no content has moved on
/// it: a line that loses packets gets an answer through in it.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(45);

/// After how long without an answer and without any content a connection is dead on which content has
/// moved: a ping, or its answer, waits behind what the systems still hold of it, and that may take so
/// long on the slowest line.
pub(super) const SILENCE_BEHIND_CONTENT_MAX: Duration = pace::SILENCE_MAX;

/// After how long without a single byte a connection is dead that nobody asked anything on: a ping
/// every 180 s, and its answer.
pub(super) const IDLE_SILENCE_MAX: Duration = IDLE_PING_INTERVAL.saturating_add(SILENCE_MAX);

/// From one ping to the next while no stream of content is open on a connection. A ping and its
/// answer are 64 bytes in four packets; with 64 neighbours that ping each other it comes to 8 MB a
/// day by TCP.
pub(super) const IDLE_PING_INTERVAL: Duration = Duration::from_secs(180);

/// The port that a node listens on when none is chosen, TCP and QUIC alike. Below the ephemeral
/// ranges of common systems, and not that of IPFS (4001), which may run beside us.
pub const DEFAULT_PORT: u16 = 4101;

/// The longest network name: protocol names stay far below the 140 bytes that the handshake allows.
const NETWORK_NAME_BYTES_MAX: usize = 32;

/// The configuration of [`Net`](super::Net).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConfig {
    /// The network's name, a part of every protocol name: nodes of different networks do not talk
    /// to each other.
    pub network: String,
    /// Where to listen. TCP and QUIC, IPv4 and IPv6. A wildcard stands for all addresses of the
    /// machine.
    pub listen: Vec<Multiaddr>,
    /// Whether a listen port that is taken is replaced by a free one. Off when a person chose the
    /// addresses: then it is [`NetError::PortInUse`].
    pub port_fallback: bool,
    /// Addresses under which this node is known to be reachable from outside, for instance a
    /// forwarded port.
    pub external: Vec<Multiaddr>,
    /// Peers to join the network by. They are dialled at start and again whenever they are lost.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether peers of the local network are looked for by multicast DNS.
    pub mdns: bool,
    /// The limits on connections and streams.
    pub limits: ConnectionLimits,
    /// The DHT's numbers.
    pub dht: DhtConfig,
    /// How long a connection that nothing uses and that is not kept as a neighbour stays open.
    pub idle_timeout: Duration,
    /// How near is near.
    pub near: NearConfig,
    /// How the links of this node are emulated, in a test network; usually not at all.
    pub emulation: Option<Emulation>,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            network: "main".to_owned(),
            listen: default_listen(DEFAULT_PORT),
            port_fallback: true,
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            limits: ConnectionLimits::default(),
            dht: DhtConfig::default(),
            // Long enough for the next DHT query to find it open, short enough to free slots within
            // a minute.
            idle_timeout: Duration::from_secs(60),
            near: NearConfig::default(),
            emulation: None,
        }
    }
}

impl NetConfig {
    /// The protocol names of this network.
    ///
    /// # Errors
    /// [`NetError::NetworkName`] when the name is empty, too long or has other characters than
    /// `a-z`, `0-9`, `-`.
    pub(super) fn protocols(&self) -> Result<Protocols, NetError> {
        let name = &self.network;
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let wrong = || NetError::NetworkName { name: name.clone() };
        if name.is_empty() || name.len() > NETWORK_NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(wrong());
        }
        let protocol = |part: &str| {
            StreamProtocol::try_from_owned(format!("/shoal/{name}/{part}")).map_err(|_| wrong())
        };
        Ok(Protocols {
            kad: protocol("kad/1")?,
            exchange: protocol("exchange/5")?,
            replicate: protocol("replicate/1")?,
            id: format!("/shoal/{name}/id/1"),
        })
    }
}

/// The protocol names of one network.
#[derive(Debug, Clone)]
pub(super) struct Protocols {
    pub(super) kad: StreamProtocol,
    pub(super) exchange: StreamProtocol,
    pub(super) replicate: StreamProtocol,
    pub(super) id: String,
}

/// All addresses of this machine at `port`, by TCP and QUIC.
#[must_use]
pub fn default_listen(port: u16) -> Vec<Multiaddr> {
    use libp2p::multiaddr::Protocol::{Ip4, Ip6, QuicV1, Tcp, Udp};
    use std::net::{Ipv4Addr, Ipv6Addr};
    let (v4, v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    vec![
        Multiaddr::empty().with(Ip4(v4)).with(Tcp(port)),
        Multiaddr::empty()
            .with(Ip4(v4))
            .with(Udp(port))
            .with(QuicV1),
        Multiaddr::empty().with(Ip6(v6)).with(Tcp(port)),
        Multiaddr::empty()
            .with(Ip6(v6))
            .with(Udp(port))
            .with(QuicV1),
    ]
}

/// Caps on connections and streams; what exceeds one is refused and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Established connections in total.
    pub established_max: u32,
    /// Established connections that others made. Less than the total, so that strangers cannot keep
    /// this node from making connections of its own.
    pub inbound_max: u32,
    /// Established connections with one peer.
    pub per_peer_max: u32,
    /// Inbound connections, pending ones included, from one IPv4 address or one IPv6 /64.
    pub per_host_max: u32,
    /// Inbound connections, pending ones included, from one IPv4 /24 or one IPv6 /48.
    pub per_subnet_max: u32,
    /// Inbound connections whose handshake is not done.
    pub pending_inbound_max: u32,
    /// Outbound connections whose handshake is not done.
    pub pending_outbound_max: u32,
    /// How long dialling one address, or a handshake, may take.
    pub handshake_timeout: Duration,
    /// Inbound exchange streams that are open on one connection.
    pub streams_per_connection_max: u32,
    /// Inbound exchange streams that are open in total.
    pub streams_max: u32,
    /// Connections that are kept open although nothing uses them, so that the DHT and the next
    /// fetch find them.
    pub neighbours_max: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            // One descriptor each: with the store's files it stays below the usual soft limit of
            // 1024.
            established_max: 512,
            // A quarter is left to connections of our own.
            inbound_max: 384,
            // Both sides dialling at once over both transports make 4; as much again for a busy
            // transfer.
            per_peer_max: 8,
            per_host_max: 16,
            // A quarter of the inbound connections at most: a bootstrap node is not filled from one
            // network.
            per_subnet_max: 96,
            pending_inbound_max: 128,
            pending_outbound_max: 128,
            handshake_timeout: Duration::from_secs(10),
            // With the 32 of the DHT, ping and identify it stays below the 128 streams of one
            // connection.
            streams_per_connection_max: 16,
            // A task with some tens of KiB of buffers each: tens of MiB at the very most.
            streams_max: 512,
            neighbours_max: 64,
        }
    }
}

/// The DHT's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhtConfig {
    /// After how long an own record is announced again. Must be well below [`Self::record_ttl`].
    pub announce_interval: Duration,
    /// How long a record that somebody announced to this node lives.
    pub record_ttl: Duration,
    /// After how long a lookup gives up.
    pub query_timeout: Duration,
    /// Provider records of others that this node holds.
    pub records_max: usize,
    /// Where connections and routing table entries of one host and one subnet are limited.
    pub diversity: Diversity,
    /// Whether it answers others, and so enters their routing tables. A node that ends in a moment
    /// does not: who asks it later waits for nobody.
    pub serves: bool,
}

/// Where one host or one subnet must not have too large a part of connections and routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diversity {
    /// Among peers at public addresses: a local network is one subnet by nature.
    Public,
    /// Among all peers, for tests and for networks behind one address translation.
    All,
}

impl Diversity {
    /// Whether a peer at `ip` counts.
    pub(super) fn covers(self, ip: IpAddr) -> bool {
        self == Self::All || Scope::of_ip(ip) == Some(Scope::Public)
    }
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            // protocols.md, DHT: 22 h and 48 h, so that one missed round does no harm.
            announce_interval: Duration::from_secs(22 * 3600),
            record_ttl: Duration::from_secs(48 * 3600),
            // Three rounds of unreachable peers at the handshake timeout.
            query_timeout: Duration::from_secs(30),
            // About 170 bytes each in memory: 22 MiB at most.
            records_max: 128 * 1024,
            diversity: Diversity::Public,
            serves: true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn network_names() {
        let named = |network: &str| NetConfig {
            network: network.to_owned(),
            ..NetConfig::default()
        };
        let protocols = named("main").protocols().unwrap();
        assert_eq!(protocols.kad.as_ref(), "/shoal/main/kad/1");
        assert_eq!(protocols.exchange.as_ref(), "/shoal/main/exchange/5");
        assert_eq!(protocols.replicate.as_ref(), "/shoal/main/replicate/1");
        assert_eq!(protocols.id, "/shoal/main/id/1");
        let long = "a".repeat(33);
        for bad in ["", "Main", "a/b", "a b", "ä", long.as_str()] {
            let error = named(bad).protocols().unwrap_err();
            assert!(matches!(error, NetError::NetworkName { .. }), "{bad:?}");
        }
    }
}
