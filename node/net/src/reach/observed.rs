//! Who saw this node where: what the router in front of it makes of its ports. Pure.
//!
//! Counted is what peers say of connections that this node made: what they see there was chosen by
//! the router. The port counts on connections that came from the port on which this node listens; of
//! others only the address does. Peers of one site, a /16 or an IPv6 /32, count as one, for whoever lies may have many
//! addresses in it. A sighting lasts as long as its connection, and a while longer.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;

use crate::scope::{Kind, Scope, Socket, site_of};

/// Sightings that are kept: more than the sites that any verdict needs. The oldest makes room.
const SIGHTINGS_MAX: usize = 64;

/// How long a sighting counts once its connection is closed: until it is looked for anew, once an
/// hour, and a while longer.
const AFTER_CLOSE: Duration = Duration::from_secs(90 * 60);

/// One family and one transport. A router may treat each in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Path {
    pub(crate) kind: Kind,
    pub(crate) is_v6: bool,
}

impl Path {
    /// All there are, the one that is preferred first.
    pub(crate) const ALL: [Self; 4] = [
        Self::new(Kind::Tcp, false),
        Self::new(Kind::Tcp, true),
        Self::new(Kind::Quic, false),
        Self::new(Kind::Quic, true),
    ];

    const fn new(kind: Kind, is_v6: bool) -> Self {
        Self { kind, is_v6 }
    }

    pub(crate) const fn of(socket: &Socket) -> Self {
        Self::new(socket.kind, socket.ip.is_ipv6())
    }
}

/// What several sites see of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Nobody has said anything.
    Unseen,
    /// One site has, so there is nothing to compare it with.
    Once(Socket),
    /// At least two sites see the same: one mapping for all destinations (RFC 4787: EIM).
    Same(Socket),
    /// Each site sees another port: a mapping for each destination (EDM).
    Differs,
    /// The sites contradict each other in a way that no router explains.
    Unclear,
}

#[derive(Debug)]
struct Sighting {
    site: IpAddr,
    seen: Socket,
    /// Whether the connection came from the port on which this node listens.
    is_own_port: bool,
    connection: ConnectionId,
    closed: Option<Instant>,
}

/// All sightings, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    sightings: Vec<Sighting>,
}

impl Observed {
    /// Takes note of where the peer at `by` sees this node on a connection that this node made; says
    /// whether that may change anything. Only what is seen from the internet counts.
    pub(crate) fn saw(
        &mut self,
        connection: ConnectionId,
        by: IpAddr,
        seen: Socket,
        is_own_port: bool,
    ) -> bool {
        let is_public = |ip| Scope::of_ip(ip) == Some(Scope::Public);
        if !is_public(by) || !is_public(seen.ip) || seen.port == 0 {
            return false;
        }
        let (site, path) = (site_of(by), Path::of(&seen));
        let same = |it: &Sighting| {
            (it.site, Path::of(&it.seen), it.is_own_port) == (site, path, is_own_port)
        };
        let says_same = |it: &Sighting| match is_own_port {
            true => it.seen == seen,
            false => it.seen.ip == seen.ip,
        };
        let known = self.sightings.iter().any(|it| same(it) && says_same(it));
        self.sightings.retain(|it| !same(it));
        if self.sightings.len() >= SIGHTINGS_MAX {
            self.sightings.remove(0);
        }
        self.sightings.push(Sighting {
            site,
            seen,
            is_own_port,
            connection,
            closed: None,
        });
        !known
    }

    /// A connection is closed: what was seen on it ages from now on.
    pub(crate) fn closed(&mut self, connection: ConnectionId, now: Instant) {
        let of_it = self
            .sightings
            .iter_mut()
            .filter(|it| it.connection == connection);
        of_it.for_each(|it| it.closed = Some(now));
    }

    /// Drops what is too old; says whether that was anything.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        let before = self.sightings.len();
        self.sightings.retain(|it| {
            it.closed
                .is_none_or(|closed| now.saturating_duration_since(closed) < AFTER_CLOSE)
        });
        self.sightings.len() != before
    }

    /// Forgets everything: this node is somewhere else.
    pub(crate) fn forget(&mut self) {
        self.sightings.clear();
    }

    /// How many sites have seen this node.
    pub(crate) fn sites(&self) -> usize {
        let mut sites: Vec<IpAddr> = self.sightings.iter().map(|it| it.site).collect();
        sites.sort_unstable();
        sites.dedup();
        sites.len()
    }

    /// Whether a site other than that of `by` sees this node at `ip`.
    pub(crate) fn is_seen_at(&self, ip: IpAddr, by: IpAddr) -> bool {
        let mut others = self.sightings.iter().filter(|it| it.site != site_of(by));
        others.any(|it| it.seen.ip == ip)
    }

    /// Whether anybody sees this node at `ip`.
    pub(crate) fn has_ip(&self, ip: IpAddr) -> bool {
        self.sightings.iter().any(|it| it.seen.ip == ip)
    }

    /// The IP addresses at which at least half of the sites see this node: two at most.
    pub(crate) fn ips(&self) -> Vec<IpAddr> {
        let mut ips: Vec<IpAddr> = self.sightings.iter().map(|it| it.seen.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        let sites_at = |ip: &IpAddr| {
            let seen = self.sightings.iter().filter(|it| it.seen.ip == *ip);
            seen.map(|it| it.site).collect::<HashSet<_>>().len()
        };
        ips.retain(|ip| 2 * sites_at(ip) >= self.sites());
        ips
    }

    /// What the sites together say of one path.
    pub(crate) fn mapping(&self, path: Path) -> Mapping {
        let seen: Vec<Socket> = self
            .sightings
            .iter()
            .filter(|it| it.is_own_port)
            .map(|it| it.seen)
            .filter(|seen| Path::of(seen) == path)
            .collect();
        let votes = |of: &Socket| seen.iter().filter(|it| *it == of).count();
        match seen.as_slice() {
            [] => return Mapping::Unseen,
            [one] => return Mapping::Once(*one),
            _ => {}
        }
        let most = seen.iter().map(votes).max().unwrap_or_default();
        let mut leading = seen.iter().filter(|it| votes(it) == most);
        if most > 1 {
            let first = leading.next();
            return match first {
                Some(first) if leading.all(|it| it == first) => Mapping::Same(*first),
                _ => Mapping::Unclear,
            };
        }
        // Each site says something else. Two that agree on the address show what router it is.
        let shared = |it: &Socket| seen.iter().filter(|other| other.ip == it.ip).count() > 1;
        if seen.iter().any(shared) {
            Mapping::Differs
        } else {
            Mapping::Unclear
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::{id, ip, socket};
    use super::*;

    /// What observers say, as `observer sees`, and what comes of it for TCP over IPv4.
    fn check(said: &[(&str, &str)], expected: Mapping) {
        let mut observed = Observed::default();
        for (at, (by, seen)) in said.iter().enumerate() {
            observed.saw(id(at), ip(by), socket(seen), true);
        }
        let path = Path::new(Kind::Tcp, false);
        assert_eq!(observed.mapping(path), expected, "{said:?}");
    }

    #[test]
    fn two_sites_that_agree_show_one_mapping() {
        let at = socket("73.9.0.1:4101");
        check(&[], Mapping::Unseen);
        check(&[("73.1.0.1", "73.9.0.1:4101")], Mapping::Once(at));
        // Another address of the same site is no second observer.
        check(
            &[("73.1.0.1", "73.9.0.1:4101"), ("73.1.9.9", "73.9.0.1:4101")],
            Mapping::Once(at),
        );
        check(
            &[("73.1.0.1", "73.9.0.1:4101"), ("73.2.0.1", "73.9.0.1:4101")],
            Mapping::Same(at),
        );
        // The router changes the port, the same for everybody.
        check(
            &[
                ("73.1.0.1", "73.9.0.1:24101"),
                ("73.2.0.1", "73.9.0.1:24101"),
            ],
            Mapping::Same(socket("73.9.0.1:24101")),
        );
    }

    #[test]
    fn a_port_for_each_destination_is_told_from_lies() {
        check(
            &[("73.1.0.1", "73.9.0.1:1000"), ("73.2.0.1", "73.9.0.1:2000")],
            Mapping::Differs,
        );
        check(
            &[
                ("73.1.0.1", "73.9.0.1:1000"),
                ("73.2.0.1", "73.9.0.1:2000"),
                ("73.3.0.1", "8.8.8.8:53"),
            ],
            Mapping::Differs,
        );
        // One liar among honest ones is outvoted.
        check(
            &[
                ("73.1.0.1", "73.9.0.1:4101"),
                ("73.2.0.1", "8.8.8.8:53"),
                ("73.3.0.1", "73.9.0.1:4101"),
            ],
            Mapping::Same(socket("73.9.0.1:4101")),
        );
        // Against one honest witness a liar makes it unclear, not wrong.
        check(
            &[("73.1.0.1", "73.9.0.1:4101"), ("73.2.0.1", "8.8.8.8:53")],
            Mapping::Unclear,
        );
        // As many liars that agree as honest ones.
        check(
            &[
                ("73.1.0.1", "73.9.0.1:4101"),
                ("73.2.0.1", "73.9.0.1:4101"),
                ("73.3.0.1", "8.8.8.8:53"),
                ("73.4.0.1", "8.8.8.8:53"),
            ],
            Mapping::Unclear,
        );
    }

    #[test]
    fn what_is_said_last_counts_and_what_is_local_does_not() {
        check(
            &[
                ("73.1.0.1", "73.9.0.1:4101"),
                ("73.2.0.1", "73.9.0.1:4101"),
                ("73.1.0.1", "73.9.0.7:4101"),
                ("73.2.0.1", "73.9.0.7:4101"),
            ],
            Mapping::Same(socket("73.9.0.7:4101")),
        );
        check(
            &[
                ("192.168.1.5", "192.168.1.7:4101"),
                ("192.168.1.5", "73.9.0.1:4101"),
                ("73.1.0.1", "192.168.1.7:4101"),
                ("73.1.0.1", "127.0.0.1:4101"),
                ("73.2.0.1", "73.9.0.1:0"),
            ],
            Mapping::Unseen,
        );
    }

    #[test]
    fn a_sighting_ages_once_its_connection_is_closed() {
        let mut observed = Observed::default();
        let now = Instant::now();
        let path = Path::new(Kind::Tcp, false);
        assert!(observed.saw(id(0), ip("73.1.0.1"), socket("73.9.0.1:4101"), true));
        assert!(observed.saw(id(1), ip("73.2.0.1"), socket("73.9.0.1:4101"), true));
        assert!(!observed.saw(id(1), ip("73.2.0.1"), socket("73.9.0.1:4101"), true));
        assert_eq!(observed.sites(), 2);
        observed.closed(id(0), now);
        assert!(!observed.sweep(now + AFTER_CLOSE / 2));
        assert!(observed.sweep(now + AFTER_CLOSE));
        assert_eq!(
            observed.mapping(path),
            Mapping::Once(socket("73.9.0.1:4101"))
        );
        assert!(!observed.sweep(now + AFTER_CLOSE * 100), "still connected");
        observed.forget();
        assert_eq!(observed.mapping(path), Mapping::Unseen);
    }

    #[test]
    fn of_another_port_only_the_address_counts() {
        let mut observed = Observed::default();
        let path = Path::new(Kind::Tcp, false);
        assert!(observed.saw(id(0), ip("73.1.0.1"), socket("73.9.0.1:50000"), false));
        assert!(!observed.saw(id(1), ip("73.1.0.1"), socket("73.9.0.1:50001"), false));
        assert_eq!(observed.mapping(path), Mapping::Unseen);
        assert_eq!(observed.ips(), [ip("73.9.0.1")]);
        assert!(observed.saw(id(2), ip("73.1.0.1"), socket("73.9.0.1:4101"), true));
        assert!(!observed.saw(id(3), ip("73.1.0.1"), socket("73.9.0.1:50002"), false));
        assert_eq!(
            observed.mapping(path),
            Mapping::Once(socket("73.9.0.1:4101"))
        );
    }

    #[test]
    fn sightings_are_bounded() {
        let mut observed = Observed::default();
        for n in 0..2 * SIGHTINGS_MAX {
            let by = format!("73.{n}.0.1");
            observed.saw(
                id(n),
                ip(&by),
                socket(&format!("73.200.0.1:{}", n + 1)),
                true,
            );
        }
        assert_eq!(observed.sightings.len(), SIGHTINGS_MAX);
        assert!(observed.is_seen_at(ip("73.200.0.1"), ip("73.5.0.1")));
        assert!(!observed.has_ip(ip("73.200.0.2")));
    }
}
