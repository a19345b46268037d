//! How far an address reaches, and which addresses heard from a peer are believed.
//!
//! Owns the rule that no narrow address is learned from a wide peer: somebody on the internet must
//! not make this node dial hosts of its local network, and somebody on the local network must not
//! make it dial itself. Names are never believed from peers at all, for they may resolve to
//! anything. Pure: no sockets, no resolver.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

/// How far an address reaches, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This machine only.
    Loopback,
    /// The local network: private, link-local and carrier-grade ranges, and those for
    /// documentation, which nobody routes, so where one is in use it is a local one.
    Lan,
    /// The internet.
    Public,
}

impl Scope {
    /// The scope of `ip`, or `None` when nobody can be dialled there: unspecified, multicast and
    /// reserved ranges, and IPv6 link-local addresses, which mean nothing without an interface.
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => scope_v4(ip),
            IpAddr::V6(ip) => scope_v6(ip),
        }
    }

    /// The scope of an IP address with TCP or QUIC, `None` for everything else.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Option<Self> {
        Socket::parse(address).and_then(|socket| Self::of_ip(socket.ip))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
            Self::Public => "public",
        })
    }
}

fn scope_v4(ip: Ipv4Addr) -> Option<Scope> {
    let [a, b, ..] = ip.octets();
    let carrier_grade = a == 100 && (64..128).contains(&b);
    if ip.is_loopback() {
        Some(Scope::Loopback)
    } else if ip.is_private() || ip.is_link_local() || ip.is_documentation() || carrier_grade {
        Some(Scope::Lan)
    } else if a == 0 || a >= 224 {
        None
    } else {
        Some(Scope::Public)
    }
}

fn scope_v6(ip: Ipv6Addr) -> Option<Scope> {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return scope_v4(ip);
    }
    let documentation = ip.segments()[..2] == [0x2001, 0x0db8];
    if ip.is_loopback() {
        Some(Scope::Loopback)
    } else if ip.is_unique_local() || documentation {
        Some(Scope::Lan)
    } else if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() {
        None
    } else {
        Some(Scope::Public)
    }
}

/// What counts as one host: an IPv4 address, or an IPv6 /64, which one machine commonly has to
/// itself.
pub(super) fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => v6
            .to_ipv4_mapped()
            .map_or_else(|| mask_v6(v6, 64), IpAddr::V4),
    }
}

/// What counts as one subnet: an IPv4 /24 or an IPv6 /48, which one site commonly gets.
pub(super) fn subnet_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => mask_v6(v6, 48),
    }
}

/// What counts as one site, whose hosts may all be one person's: an IPv4 /16 or an IPv6 /32.
pub(super) fn site_of(ip: IpAddr) -> IpAddr {
    match host_of(ip) {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xffff)),
        IpAddr::V6(v6) => mask_v6(v6, 32),
    }
}

fn mask_v6(ip: Ipv6Addr, prefix_bits: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(
        ip.to_bits() & !(u128::MAX >> prefix_bits),
    ))
}

/// The transport of an address. TCP sorts first: it is the faster path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Tcp,
    Quic,
}

/// An address taken apart: an IP, a port and one of the two transports that this node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Socket {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) kind: Kind,
}

impl Socket {
    /// Parses `/ip…/tcp/…` and `/ip…/udp/…/quic-v1`, each with or without a final `/p2p/…`; nothing
    /// else.
    pub(super) fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let (kind, port) = match parts.next()? {
            Protocol::Tcp(port) => (Kind::Tcp, port),
            Protocol::Udp(port) if parts.next()? == Protocol::QuicV1 => (Kind::Quic, port),
            _ => return None,
        };
        match (parts.next(), parts.next()) {
            (None | Some(Protocol::P2p(_)), None) => Some(Self { ip, port, kind }),
            _ => None,
        }
    }

    /// It as an address, without a peer.
    pub(super) fn address(&self) -> Multiaddr {
        let address = Multiaddr::from(self.ip);
        match self.kind {
            Kind::Tcp => address.with(Protocol::Tcp(self.port)),
            Kind::Quic => address
                .with(Protocol::Udp(self.port))
                .with(Protocol::QuicV1),
        }
    }
}

/// Whether an address is a name, which may resolve to anything.
pub(super) fn is_name(address: &Multiaddr) -> bool {
    use Protocol::{Dns, Dns4, Dns6, Dnsaddr};
    matches!(
        address.iter().next(),
        Some(Dns(_) | Dns4(_) | Dns6(_) | Dnsaddr(_))
    )
}

/// The peer named by a final `/p2p/…`, if there is one.
#[must_use]
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// `address` without a final `/p2p/…`.
#[must_use]
pub fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// The addresses of `peer` that are believed when heard from somebody at scope `heard_from`.
///
/// Those that reach less far, name another peer, are names or use an unknown transport are left
/// out. The rest comes without `/p2p/…`, once each, best to dial first (TCP before QUIC, narrow
/// before wide, and otherwise as they were said), at most `max`.
pub(super) fn believed<'a>(
    peer: &PeerId,
    addresses: impl IntoIterator<Item = &'a Multiaddr>,
    heard_from: Scope,
    max: usize,
) -> Vec<Multiaddr> {
    let mut seen = HashSet::new();
    let mut ranked: Vec<(Kind, Scope, Multiaddr)> = addresses
        .into_iter()
        .filter(|address| peer_of(address).is_none_or(|named| named == *peer))
        .filter_map(|address| {
            let socket = Socket::parse(address).filter(|socket| socket.port != 0)?;
            let scope = Scope::of_ip(socket.ip).filter(|scope| *scope >= heard_from)?;
            seen.insert(socket)
                .then(|| (socket.kind, scope, without_peer(address)))
        })
        .collect();
    // Stable: who says where it is says what is best first.
    ranked.sort_by_key(|(kind, scope, _)| (*kind, *scope));
    ranked.truncate(max);
    ranked.into_iter().map(|(_, _, address)| address).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn scope_of_addresses() {
        fn check(address: &str, want: Option<Scope>) {
            assert_eq!(Scope::of(&address.parse().unwrap()), want, "{address}");
        }
        check("/ip4/127.0.0.1/tcp/1", Some(Scope::Loopback));
        check("/ip4/127.9.8.7/udp/1/quic-v1", Some(Scope::Loopback));
        check("/ip6/::1/tcp/1", Some(Scope::Loopback));
        check("/ip6/::ffff:127.0.0.1/tcp/1", Some(Scope::Loopback));
        check("/ip4/10.1.2.3/tcp/1", Some(Scope::Lan));
        check("/ip4/172.31.0.1/tcp/1", Some(Scope::Lan));
        check("/ip4/192.168.1.1/tcp/1", Some(Scope::Lan));
        check("/ip4/169.254.1.1/tcp/1", Some(Scope::Lan));
        check("/ip4/100.64.0.1/tcp/1", Some(Scope::Lan));
        check("/ip6/fd00::1/tcp/1", Some(Scope::Lan));
        check("/ip4/100.128.0.1/tcp/1", Some(Scope::Public));
        check("/ip4/8.8.8.8/tcp/1", Some(Scope::Public));
        check("/ip6/2a00::1/udp/1/quic-v1", Some(Scope::Public));
        check("/ip4/0.0.0.0/tcp/1", None);
        check("/ip4/224.0.0.1/tcp/1", None);
        check("/ip4/255.255.255.255/tcp/1", None);
        check("/ip4/203.0.113.9/tcp/1", Some(Scope::Lan));
        check("/ip6/::/tcp/1", None);
        check("/ip6/fe80::1/tcp/1", None);
        check("/ip6/ff02::1/tcp/1", None);
        check("/ip6/2001:db8::1/tcp/1", Some(Scope::Lan));
        check("/dns4/example.org/tcp/1", None);
        check("/ip4/8.8.8.8/udp/1", None);
        check("/ip4/8.8.8.8/tcp/1/ws", None);
    }

    #[test]
    fn narrow_addresses_are_not_believed_from_wide_peers() {
        let peer = PeerId::random();
        let other = PeerId::random();
        let said: Vec<Multiaddr> = [
            "/ip4/127.0.0.1/udp/4/quic-v1".to_owned(),
            "/ip4/127.0.0.1/tcp/4".to_owned(),
            format!("/ip4/192.168.0.2/tcp/4/p2p/{peer}"),
            format!("/ip4/8.8.8.8/tcp/5/p2p/{other}"),
            "/ip4/8.8.8.8/tcp/4".to_owned(),
            "/ip4/8.8.8.8/tcp/4".to_owned(),
            "/ip4/8.8.4.4/tcp/0".to_owned(),
            "/dns4/localhost/tcp/4".to_owned(),
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let check = |heard_from, max, want: &[&str]| {
            let want: Vec<Multiaddr> = want.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(
                believed(&peer, &said, heard_from, max),
                want,
                "{heard_from}"
            );
        };
        check(Scope::Public, 16, &["/ip4/8.8.8.8/tcp/4"]);
        check(
            Scope::Lan,
            16,
            &["/ip4/192.168.0.2/tcp/4", "/ip4/8.8.8.8/tcp/4"],
        );
        check(
            Scope::Loopback,
            16,
            &[
                "/ip4/127.0.0.1/tcp/4",
                "/ip4/192.168.0.2/tcp/4",
                "/ip4/8.8.8.8/tcp/4",
                "/ip4/127.0.0.1/udp/4/quic-v1",
            ],
        );
        check(Scope::Loopback, 1, &["/ip4/127.0.0.1/tcp/4"]);
    }
}
