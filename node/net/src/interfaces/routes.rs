//! Which interfaces have a default route: the tables of Linux, parsed, and what any system answers
//! when it is asked for a way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// An address that only a default route leads to: it is for documentation (RFC 5737).
const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same by IPv6 (RFC 3849).
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// `RTF_UP`: the route is in use.
const UP: u32 = 0x1;
/// `RTF_REJECT`: the route says that there is no way.
const REJECT: u32 = 0x200;

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DefaultRoute {
    pub(super) interface: String,
    pub(super) is_v6: bool,
    /// The lower it is, the sooner the system takes it.
    pub(super) metric: u32,
}

/// The default routes in the text of `/proc/net/route`. Lines that make no sense are passed over.
pub(super) fn parse_v4(table: &str) -> Vec<DefaultRoute> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [interface, to, _, flags, _, _, metric, mask, ..] = columns.as_slice() else {
            return None;
        };
        let is_default = *to == "00000000" && *mask == "00000000";
        (is_default && is_used(flags)).then(|| DefaultRoute {
            interface: (*interface).to_owned(),
            is_v6: false,
            metric: metric.parse().unwrap_or(u32::MAX),
        })
    };
    table.lines().filter_map(route).collect()
}

/// The default routes in the text of `/proc/net/ipv6_route`. Lines that make no sense are passed
/// over.
pub(super) fn parse_v6(table: &str) -> Vec<DefaultRoute> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [to, prefix, _, _, _, metric, _, _, flags, interface] = columns.as_slice() else {
            return None;
        };
        let is_default = to.bytes().all(|byte| byte == b'0') && *prefix == "00";
        // The kernel's own "no way" route is on `lo`.
        (is_default && is_used(flags) && *interface != "lo").then(|| DefaultRoute {
            interface: (*interface).to_owned(),
            is_v6: true,
            metric: u32::from_str_radix(metric, 16).unwrap_or(u32::MAX),
        })
    };
    table.lines().filter_map(route).collect()
}

fn is_used(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

/// The addresses from which this machine would send to somewhere far away, one a family at most.
/// This counts routes that no table above shows, those of a VPN's own table for one. Sends nothing.
pub(super) fn preferred() -> Vec<IpAddr> {
    let from = |own: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(own, 0)).ok()?;
        socket.connect(SocketAddr::new(far, 9)).ok()?;
        let local = socket.local_addr().ok()?.ip();
        (!local.is_unspecified() && !local.is_loopback()).then_some(local)
    };
    let v4 = from(Ipv4Addr::UNSPECIFIED.into(), FAR_V4.into());
    let v6 = from(Ipv6Addr::UNSPECIFIED.into(), FAR_V6.into());
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(interface: &str, is_v6: bool, metric: u32) -> DefaultRoute {
        DefaultRoute {
            interface: interface.to_owned(),
            is_v6,
            metric,
        }
    }

    #[test]
    fn default_routes_are_read_from_the_tables() {
        let table = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
eth1\t00000000\t0101A8C0\t0200\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
nonsense
";
        let expected = [route("eth0", false, 100), route("tun0", false, 50)];
        assert_eq!(parse_v4(table), expected);
        let zeros = "0".repeat(32);
        let table = format!(
            "fd000000000000000000000000000000 40 {zeros} 00 {zeros} 00000100 1 0 00000001 eth0
{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 1 0 00450003 eth0
{zeros} 00 {zeros} 00 {zeros} ffffffff 1 0 00200200 lo
"
        );
        assert_eq!(parse_v6(&table), [route("eth0", true, 1024)]);
        assert!(parse_v4("").is_empty() && parse_v6("a b c").is_empty());
    }
}
