//! Which addresses are named first, and which are dialled first. Pure.
//!
//! What a node says of itself begins with the addresses that lead somewhere, for whoever is told
//! may take only the first. What it dials is mixed, so that no kind of address waits for all of
//! another kind: which of them works is not known before.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::interfaces::{AddressRank, Interfaces, Line};
use super::scope::{Kind, Scope, Socket, is_name};

/// Networks that container and virtual machine programs take by default: those of Docker, of
/// Podman, of libvirt and of LXC. Each machine has its own, so an address there rarely leads to
/// the machine that is meant.
const CONTAINER_NETWORKS: [(Ipv4Addr, Ipv4Addr); 4] = [
    (
        Ipv4Addr::new(172, 17, 0, 0),
        Ipv4Addr::new(172, 31, 255, 255),
    ),
    (Ipv4Addr::new(10, 88, 0, 0), Ipv4Addr::new(10, 88, 255, 255)),
    (
        Ipv4Addr::new(192, 168, 122, 0),
        Ipv4Addr::new(192, 168, 122, 255),
    ),
    (Ipv4Addr::new(10, 0, 3, 0), Ipv4Addr::new(10, 0, 3, 255)),
];

/// How an own address is ranked; the lower, the sooner it is named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// It leads somewhere.
    Outward,
    /// It leads to this machine's own containers, or nowhere.
    Aside,
    /// It leads nowhere but here.
    Loopback,
}

/// The own addresses in the order in which others are told of them.
///
/// TCP comes before QUIC; interfaces with a default route come before others; the kinds of one
/// interface take turns (public and local, IPv6 and IPv4), so that any two of the first are of
/// different use. Addresses that nobody can dial are left out, and those of this machine's own
/// containers too where a default route shows which interface leads out.
pub(super) fn to_tell(listen: &[Multiaddr], interfaces: &Interfaces) -> Vec<Multiaddr> {
    type Rank = (Group, Kind, AddressRank);
    let mut ranks: BTreeMap<Rank, Vec<(Socket, Multiaddr)>> = BTreeMap::new();
    for address in listen {
        let Some(socket) = Socket::parse(address).filter(|socket| socket.port != 0) else {
            continue;
        };
        let Some(scope) = Scope::of_ip(socket.ip) else {
            continue;
        };
        let place = interfaces.place(socket.ip);
        let group = match scope {
            Scope::Loopback => Group::Loopback,
            _ if place.is_aside => Group::Aside,
            _ => Group::Outward,
        };
        let same = ranks.entry((group, socket.kind, place)).or_default();
        if same.iter().all(|(known, _)| *known != socket) {
            same.push((socket, address.clone()));
        }
    }
    let leads_out = |(group, _, place): &Rank| *group == Group::Outward && !place.is_local;
    if ranks.keys().any(leads_out) {
        ranks.retain(|(group, ..), _| *group != Group::Aside);
    }
    let mut told = Vec::new();
    for mut same in ranks.into_values() {
        same.sort_by_key(|(socket, _)| (socket.ip, socket.port));
        let kind = |(socket, _): &(Socket, Multiaddr)| {
            (
                std::cmp::Reverse(Scope::of_ip(socket.ip)),
                socket.ip.is_ipv4(),
            )
        };
        told.extend(interleave(same, kind).map(|(_, address)| address));
    }
    told
}

/// Those of the own addresses that belong into a link: without loopback and containers, unless
/// there is nothing else.
pub(super) fn to_link(told: &[Multiaddr], interfaces: &Interfaces) -> Vec<Multiaddr> {
    let filtered = |allowed: &dyn Fn(&Multiaddr) -> bool| -> Vec<Multiaddr> {
        told.iter().filter(|it| allowed(it)).cloned().collect()
    };
    let is_wider = |address: &Multiaddr| Scope::of(address) != Some(Scope::Loopback);
    let leads_outward = |address: &Multiaddr| {
        let ip = Socket::parse(address).map(|socket| socket.ip);
        // What a person wrote into the configuration may be a name or another machine's address.
        ip.is_none_or(|ip| !interfaces.place(ip).is_aside)
    };
    let outward = filtered(&|it| is_wider(it) && leads_outward(it));
    if !outward.is_empty() {
        return outward;
    }
    let wider = filtered(&is_wider);
    if wider.is_empty() {
        told.to_vec()
    } else {
        wider
    }
}

/// What an address that is to be dialled looks like from here, likeliest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Looks {
    /// On a network that this machine is in.
    OnLink,
    /// On the internet, or a name.
    Public,
    /// On a local network behind a router.
    Lan,
    /// This machine.
    Loopback,
    /// Among containers.
    Container,
}

/// The addresses of a peer in the order in which they are dialled, each once: TCP before QUIC, and
/// the kinds of each taking turns. Within one kind the order stays.
pub(super) fn to_dial(
    addresses: impl IntoIterator<Item = Multiaddr>,
    interfaces: &Interfaces,
) -> Vec<Multiaddr> {
    let mut kinds: BTreeMap<Kind, Vec<Multiaddr>> = BTreeMap::new();
    for address in addresses {
        let same = kinds.entry(kind_of(&address)).or_default();
        if !same.contains(&address) {
            same.push(address);
        }
    }
    let mixed = kinds
        .into_values()
        .flat_map(|same| interleave(same, |address| looks(address, interfaces)));
    mixed.collect()
}

/// The transport of any address, a name included.
pub(super) fn kind_of(address: &Multiaddr) -> Kind {
    let is_quic = address.iter().any(|part| part == Protocol::QuicV1);
    if is_quic { Kind::Quic } else { Kind::Tcp }
}

fn looks(address: &Multiaddr, interfaces: &Interfaces) -> Looks {
    let Some(ip) = Socket::parse(address).map(|socket| socket.ip) else {
        let is_unknown = !is_name(address);
        return if is_unknown {
            Looks::Container
        } else {
            Looks::Public
        };
    };
    match (Scope::of_ip(ip), interfaces.line_to(ip)) {
        (Some(Scope::Loopback), _) => Looks::Loopback,
        (_, Some(Line::Wire | Line::Unknown | Line::Tunnel)) => Looks::OnLink,
        (_, Some(Line::Virtual | Line::Idle)) => Looks::Container,
        (Some(Scope::Public), None) => Looks::Public,
        _ if is_of_containers(ip) => Looks::Container,
        _ => Looks::Lan,
    }
}

fn is_of_containers(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    CONTAINER_NETWORKS
        .iter()
        .any(|(first, last)| (first..=last).contains(&&ip))
}

/// One of each kind by turns, the lowest kind first; within one kind the order stays.
fn interleave<T, K: Ord>(
    all: impl IntoIterator<Item = T>,
    kind_of: impl Fn(&T) -> K,
) -> impl Iterator<Item = T> {
    let mut kinds: BTreeMap<K, VecDeque<T>> = BTreeMap::new();
    for one in all {
        kinds.entry(kind_of(&one)).or_default().push_back(one);
    }
    let mut kinds: VecDeque<VecDeque<T>> = kinds.into_values().collect();
    std::iter::from_fn(move || {
        let mut kind = kinds.pop_front()?;
        let next = kind.pop_front();
        if !kind.is_empty() {
            kinds.push_back(kind);
        }
        next
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::interfaces::Interface;
    use super::*;

    fn interface(ip: &str, line: Line, default_route: Option<u32>) -> Interface {
        let ip: IpAddr = ip.parse().unwrap();
        Interface {
            ip,
            prefix_bits: if ip.is_ipv4() { 24 } else { 64 },
            far_end: None,
            line,
            default_route,
        }
    }

    /// Every address of a machine by TCP and QUIC, as a wildcard reports them.
    fn listen(ips: &[&str]) -> Vec<Multiaddr> {
        let both = |ip: &&str| {
            let family = if ip.contains(':') { "ip6" } else { "ip4" };
            [
                format!("/{family}/{ip}/udp/4101/quic-v1"),
                format!("/{family}/{ip}/tcp/4101"),
            ]
        };
        let all = ips.iter().flat_map(both);
        all.map(|text| text.parse().unwrap()).collect()
    }

    /// The addresses as `ip t` and `ip q`.
    fn short(addresses: &[Multiaddr]) -> Vec<String> {
        let short = |address: &Multiaddr| {
            let kind = if kind_of(address) == Kind::Tcp {
                "t"
            } else {
                "q"
            };
            let text = address.to_string();
            format!("{} {kind}", text.split('/').nth(2).unwrap())
        };
        addresses.iter().map(short).collect()
    }

    fn check(interfaces: &[Interface], told: &[&str], linked: &[&str]) {
        let interfaces: Interfaces = interfaces.iter().cloned().collect();
        let ips: Vec<String> = interfaces.ips().map(|ip| ip.to_string()).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        let own = to_tell(&listen(&ips), &interfaces);
        assert_eq!(short(&own), told);
        assert_eq!(short(&to_link(&own, &interfaces)), linked);
    }

    #[test]
    fn addresses_with_a_default_route_are_named_first_and_containers_last() {
        let loopback = interface("127.0.0.1", Line::Unknown, None);
        let line = interface("192.168.1.7", Line::Wire, Some(100));
        let docker = interface("172.17.0.1", Line::Virtual, None);
        let bridge = interface("172.18.0.1", Line::Virtual, None);
        check(
            &[loopback.clone(), docker.clone(), bridge.clone(), line],
            &[
                "192.168.1.7 t",
                "192.168.1.7 q",
                "127.0.0.1 t",
                "127.0.0.1 q",
            ],
            &["192.168.1.7 t", "192.168.1.7 q"],
        );
        // Without a default route a line still goes before a bridge.
        let unrouted = interface("192.168.1.7", Line::Unknown, None);
        check(
            &[docker.clone(), bridge, unrouted],
            &[
                "192.168.1.7 t",
                "192.168.1.7 q",
                "172.17.0.1 t",
                "172.18.0.1 t",
                "172.17.0.1 q",
                "172.18.0.1 q",
            ],
            &["192.168.1.7 t", "192.168.1.7 q"],
        );
        // Nothing but a bridge, a tunnel or loopback is named all the same.
        check(
            &[loopback.clone(), docker],
            &["172.17.0.1 t", "172.17.0.1 q", "127.0.0.1 t", "127.0.0.1 q"],
            &["172.17.0.1 t", "172.17.0.1 q"],
        );
        check(
            &[interface("10.9.0.1", Line::Tunnel, None)],
            &["10.9.0.1 t", "10.9.0.1 q"],
            &["10.9.0.1 t", "10.9.0.1 q"],
        );
        let both = ["127.0.0.1 t", "127.0.0.1 q"];
        check(&[loopback], &both, &both);
    }

    #[test]
    fn two_lines_are_both_among_the_first() {
        check(
            &[
                interface("10.8.0.2", Line::Tunnel, None),
                interface("192.168.1.7", Line::Wire, Some(100)),
                interface("2a00::9", Line::Wire, Some(100)),
                interface("2a00::8", Line::Wire, Some(100)),
                interface("fe80::1", Line::Wire, Some(100)),
            ],
            &[
                "2a00::8 t",
                "192.168.1.7 t",
                "2a00::9 t",
                "10.8.0.2 t",
                "2a00::8 q",
                "192.168.1.7 q",
                "2a00::9 q",
                "10.8.0.2 q",
            ],
            &[
                "2a00::8 t",
                "192.168.1.7 t",
                "2a00::9 t",
                "10.8.0.2 t",
                "2a00::8 q",
                "192.168.1.7 q",
                "2a00::9 q",
                "10.8.0.2 q",
            ],
        );
    }

    #[test]
    fn kinds_take_turns_when_dialling() {
        let here: Interfaces = [
            interface("192.168.1.8", Line::Wire, Some(0)),
            interface("172.17.0.1", Line::Virtual, None),
            interface("10.0.9.1", Line::Virtual, None),
        ]
        .into_iter()
        .collect();
        let check = |said: &[&str], expected: &[&str]| {
            let said = said.iter().map(|text| text.parse::<Multiaddr>().unwrap());
            let order = to_dial(said, &here);
            let order: Vec<String> = order.iter().map(Multiaddr::to_string).collect();
            assert_eq!(order, expected);
        };
        check(
            &[
                "/ip4/172.17.0.1/tcp/1",
                "/ip4/172.18.0.1/tcp/1",
                "/ip4/172.19.0.1/tcp/1",
                "/ip4/10.0.9.4/tcp/1",
                "/ip4/8.8.8.8/udp/1/quic-v1",
                "/ip4/8.8.8.8/tcp/1",
                "/ip4/10.77.0.1/tcp/1",
                "/ip4/192.168.1.7/tcp/1",
                "/ip4/192.168.1.7/tcp/1",
                "/dns/example.org/tcp/1",
            ],
            &[
                "/ip4/192.168.1.7/tcp/1",
                "/ip4/8.8.8.8/tcp/1",
                "/ip4/10.77.0.1/tcp/1",
                "/ip4/172.17.0.1/tcp/1",
                "/dns/example.org/tcp/1",
                "/ip4/172.18.0.1/tcp/1",
                "/ip4/172.19.0.1/tcp/1",
                "/ip4/10.0.9.4/tcp/1",
                "/ip4/8.8.8.8/udp/1/quic-v1",
            ],
        );
        check(&[], &[]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_kind_waits_for_another(
            all in prop::collection::vec((0_u8..4, any::<u16>()), 0..40),
        ) {
            let mixed: Vec<_> = interleave(all.clone(), |(kind, _)| *kind).collect();
            let (mut before, mut after) = (all, mixed.clone());
            before.sort_unstable();
            after.sort_unstable();
            prop_assert_eq!(before, after);
            // Before the n-th of a kind come at most n of every other.
            for (at, (kind, _)) in mixed.iter().enumerate() {
                let count = |of: u8| mixed[..at].iter().filter(|(kind, _)| *kind == of).count();
                for other in 0..4 {
                    prop_assert!(count(other) <= count(*kind) + 1);
                }
            }
        }
    }
}
