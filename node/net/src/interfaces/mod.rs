//! The interfaces of this machine: what kind of line each of them is, and which lead anywhere.
//!
//! Owns the order in which this node names its own addresses. A list is a snapshot, and
//! [`Watch`] makes a new one when something has changed. It refuses to change anything of the
//! system, and sends nothing. Reading it blocks for about a millisecond, so that a blocking thread
//! does it.

mod line;
mod routes;
mod watch;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

pub(super) use self::line::Line;
use self::line::{Facts, judge};
use self::routes::DefaultRoute;
pub(super) use self::watch::Watch;

/// Addresses that are looked at. A machine with a thousand containers has not many more.
const INTERFACES_MAX: usize = 4096;

/// All addresses of this machine, with the interfaces that they belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Interfaces {
    all: Vec<Interface>,
}

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) ip: IpAddr,
    /// How many bits of the address name its network.
    pub(super) prefix_bits: u32,
    /// The one peer of a point-to-point interface; elsewhere it is the address of a broadcast.
    pub(super) far_end: Option<IpAddr>,
    pub(super) line: Line,
    /// The metric of the default route that leads over it, where there is one.
    pub(super) default_route: Option<u32>,
}

/// How soon an own address is named: the lower, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AddressRank {
    /// It leads nowhere that other machines come from, as far as one can tell.
    pub(super) is_aside: bool,
    /// No default route leads over it.
    pub(super) is_local: bool,
    line: Line,
    metric: u32,
}

impl Interfaces {
    /// Looks at what there is now. Blocking. What the system does not tell is left out.
    pub(super) fn read() -> Self {
        let addresses = match getifaddrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::debug!(%error, "the interfaces of this machine are not known");
                return Self::default();
            }
        };
        let (routes, preferred) = (default_routes(), routes::preferred());
        let interface = |it: nix::ifaddrs::InterfaceAddress| {
            let ip = ip_of(&it.address?)?;
            let name = it.interface_name.as_str();
            let of_interface = routes
                .iter()
                .filter(|route| route.interface == name && route.is_v6 == ip.is_ipv6());
            let metric = of_interface.map(|route| route.metric).min();
            let default_route = if preferred.contains(&ip) {
                Some(0)
            } else {
                metric
            };
            // Where an address without a network has a peer, the interface need not be a tunnel.
            let far_end = it.destination.or(it.broadcast);
            let far_end = far_end.and_then(|address| ip_of(&address));
            Some(Interface {
                ip,
                prefix_bits: it.netmask.and_then(|mask| ip_of(&mask)).map_or(0, ones),
                far_end: far_end.filter(|far| *far != ip),
                line: judge(name, facts(name, it.flags)),
                default_route,
            })
        };
        Self {
            all: addresses
                .take(INTERFACES_MAX)
                .filter_map(interface)
                .collect(),
        }
    }

    /// How soon to name this own address; one that is not known is neither good nor bad.
    pub(super) fn place(&self, ip: IpAddr) -> AddressRank {
        let known = self.all.iter().find(|it| it.ip == ip);
        let line = known.map_or(Line::Unknown, |it| it.line);
        let route = known.and_then(|it| it.default_route);
        AddressRank {
            is_aside: match line {
                Line::Wire | Line::Unknown | Line::Tunnel => false,
                Line::Virtual => route.is_none(),
                Line::Idle => true,
            },
            is_local: route.is_none(),
            line,
            metric: route.unwrap_or(u32::MAX),
        }
    }

    /// The line on which this machine reaches `ip` without a router, if there is one.
    pub(super) fn line_to(&self, ip: IpAddr) -> Option<Line> {
        let on_link = |it: &&Interface| it.far_end == Some(ip) || covers(it, ip);
        let nearest = self.all.iter().filter(on_link);
        nearest.max_by_key(|it| it.prefix_bits).map(|it| it.line)
    }

    /// The own end of the point-to-point interface whose other end is `ip`; `None` for everything
    /// else, an own address included.
    pub(super) fn own_end(&self, ip: IpAddr) -> Option<IpAddr> {
        if self.all.iter().any(|it| it.ip == ip) {
            return None;
        }
        let end = self.all.iter().find(|it| it.far_end == Some(ip));
        end.map(|it| it.ip)
    }
}

#[cfg(test)]
impl Interfaces {
    /// All addresses, in the order in which the system names them.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.all.iter().map(|it| it.ip)
    }
}

#[cfg(test)]
impl FromIterator<Interface> for Interfaces {
    fn from_iter<T: IntoIterator<Item = Interface>>(all: T) -> Self {
        Self {
            all: all.into_iter().collect(),
        }
    }
}

/// Whether `ip` is in the network of an interface. A network of one address is none.
fn covers(interface: &Interface, ip: IpAddr) -> bool {
    let differs = match (interface.ip, ip) {
        (IpAddr::V4(own), IpAddr::V4(ip)) => {
            (own.to_bits() ^ ip.to_bits()).checked_shr(32 - interface.prefix_bits.min(32))
        }
        // By 0 to 128 bits, as above; only the first half is ever a network's.
        (IpAddr::V6(own), IpAddr::V6(ip)) => {
            let bits =
                (own.to_bits() ^ ip.to_bits()).checked_shr(128 - interface.prefix_bits.min(128));
            bits.map(|bits| u32::from(bits != 0))
        }
        _ => return false,
    };
    interface.prefix_bits > 0 && differs == Some(0)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

fn ones(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(mask) => mask.to_bits().count_ones(),
        IpAddr::V6(mask) => mask.to_bits().count_ones(),
    }
}

/// What `sysfs` of Linux adds to the flags; nothing on other systems.
fn facts(name: &str, flags: InterfaceFlags) -> Facts {
    let about = Path::new("/sys/class/net").join(name);
    let is_bridge = about.join("bridge").exists();
    let has_device = |port: &Path| port.join("device").exists();
    let ports = || {
        fs::read_dir(about.join("brif"))
            .into_iter()
            .flatten()
            .flatten()
    };
    let bridges_device = is_bridge
        && ports().any(|port| has_device(&Path::new("/sys/class/net").join(port.file_name())));
    Facts {
        is_running: flags.contains(InterfaceFlags::IFF_RUNNING),
        is_point_to_point: flags.contains(InterfaceFlags::IFF_POINTOPOINT),
        has_device: has_device(&about),
        is_bridge,
        bridges_device,
        is_tun: about.join("tun_flags").exists(),
    }
}

/// The tables of Linux; none on other systems.
fn default_routes() -> Vec<DefaultRoute> {
    let read = |table: &str| fs::read_to_string(Path::new("/proc/net").join(table));
    let v4 = routes::parse_v4(&read("route").unwrap_or_default());
    let v6 = routes::parse_v6(&read("ipv6_route").unwrap_or_default());
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn interface(ip: &str, prefix_bits: u32, line: Line, default_route: Option<u32>) -> Interface {
        Interface {
            ip: ip.parse().unwrap(),
            prefix_bits,
            far_end: None,
            line,
            default_route,
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_own_addresses_that_lead_somewhere_come_first() {
        let machine: Interfaces = [
            interface("172.17.0.1", 16, Line::Virtual, None),
            interface("10.0.0.9", 24, Line::Idle, Some(7)),
            interface("10.8.0.2", 24, Line::Tunnel, None),
            interface("192.168.1.7", 24, Line::Wire, Some(100)),
            interface("192.168.2.7", 24, Line::Wire, Some(200)),
            interface("10.1.1.1", 24, Line::Wire, None),
            interface("192.168.5.1", 24, Line::Virtual, Some(300)),
        ]
        .into_iter()
        .collect();
        let mut ips: Vec<_> = machine.all.iter().map(|it| it.ip).collect();
        ips.push(ip("10.9.9.9"));
        ips.sort_by_key(|ip| machine.place(*ip));
        let expected = [
            "192.168.1.7",
            "192.168.2.7",
            "192.168.5.1",
            "10.1.1.1",
            "10.9.9.9",
            "10.8.0.2",
            "10.0.0.9",
            "172.17.0.1",
        ];
        assert_eq!(ips, expected.map(ip));
        assert!(machine.place(ip("172.17.0.1")).is_aside);
        assert!(!machine.place(ip("192.168.5.1")).is_aside);
    }

    #[test]
    fn a_neighbour_is_reached_on_the_narrowest_network() {
        let machine: Interfaces = [
            interface("10.0.0.1", 8, Line::Tunnel, None),
            interface("10.1.1.1", 24, Line::Wire, None),
            interface("172.17.0.1", 16, Line::Virtual, None),
            interface("fd00::1", 64, Line::Wire, None),
            interface("192.0.2.7", 0, Line::Wire, None),
        ]
        .into_iter()
        .collect();
        let check = |text, expected| assert_eq!(machine.line_to(ip(text)), expected, "{text}");
        check("10.1.1.200", Some(Line::Wire));
        check("10.1.2.200", Some(Line::Tunnel));
        check("172.17.9.9", Some(Line::Virtual));
        check("172.18.0.1", None);
        check("fd00::9", Some(Line::Wire));
        check("fd01::9", None);
        check("192.0.2.8", None);
    }

    #[test]
    fn the_far_end_of_a_tunnel_is_not_taken_for_the_own_one() {
        let tunnel = Interface {
            far_end: Some(ip("10.9.0.2")),
            ..interface("10.9.0.1", 32, Line::Tunnel, None)
        };
        let machine: Interfaces = [tunnel].into_iter().collect();
        assert_eq!(machine.own_end(ip("10.9.0.2")), Some(ip("10.9.0.1")));
        assert_eq!(machine.own_end(ip("10.9.0.1")), None);
        assert_eq!(machine.own_end(ip("10.9.0.3")), None);
        assert_eq!(machine.line_to(ip("10.9.0.2")), Some(Line::Tunnel));
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let machine = Interfaces::read();
        assert!(
            machine.all.iter().any(|it| it.ip.is_loopback()),
            "{machine:?}"
        );
    }
}
