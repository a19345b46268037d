//! Which peers are asked to connect to which addresses of this node, and which are dialled from the
//! port on which this node listens, to hear what the router makes of it; and when. Pure.
//!
//! Asked are peers that this node has dialled at an address on the internet, each address by some of
//! different sites, and again after an hour. An own address that changes is new and asked for at
//! once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::observed::Path;
use crate::scope::{Socket, site_of};

/// Sites that are asked for one address: two have to agree, and one may be wrong.
const SITES_MAX: usize = 3;

/// After how long a site is asked again. Six addresses and three sites are 18 handshakes an hour,
/// 3 MB a day at the very most.
const AGAIN: Duration = Duration::from_secs(3600);

/// After how long a site is asked again that has not tried.
const AGAIN_AFTER_REFUSAL: Duration = Duration::from_secs(120);

/// Peers that may be asked: more than the sites that are needed. The oldest connections are kept.
const HELPERS_MAX: usize = 64;

/// A peer that is to be asked to connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) at: Socket,
}

/// A dial from the port on which this node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) peer: PeerId,
    pub(crate) at: Socket,
}

#[derive(Debug)]
struct Helper {
    peer: PeerId,
    connection: ConnectionId,
    ip: IpAddr,
    /// Where it listens at that address.
    listens: Vec<Socket>,
    /// When it was last dialled from the own port by each path.
    looked: HashMap<Path, Instant>,
}

/// A site that was asked for an address.
#[derive(Debug)]
struct Asked {
    at: Socket,
    ip: IpAddr,
    connection: ConnectionId,
    /// When it may be asked again.
    again: Instant,
}

/// Who can be asked, and who was.
#[derive(Debug, Default)]
pub(super) struct Plan {
    helpers: Vec<Helper>,
    /// At most the sites for each candidate of the last hour.
    asked: Vec<Asked>,
}

impl Plan {
    /// A peer that was dialled connects to others when asked, and listens at these addresses of its
    /// host. What is known of it by another connection is kept.
    pub(super) fn helper(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        ip: IpAddr,
        listens: Vec<Socket>,
    ) {
        if self.helpers.iter().any(|it| it.peer == peer) || self.helpers.len() >= HELPERS_MAX {
            return;
        }
        self.helpers.push(Helper {
            peer,
            connection,
            ip,
            listens,
            looked: HashMap::new(),
        });
    }

    /// Who is to be dialled now from the own port, which this node has for each of these paths.
    pub(super) fn looks(&mut self, own: &[Path], now: Instant) -> Vec<Look> {
        let mut looks = Vec::new();
        for path in own {
            let mut sites = HashSet::new();
            for helper in &mut self.helpers {
                let at = helper.listens.iter().find(|at| Path::of(at) == *path);
                let Some(at) = at else { continue };
                if sites.len() >= SITES_MAX || !sites.insert(site_of(helper.ip)) {
                    continue;
                }
                let is_due = |last: &Instant| now.saturating_duration_since(*last) >= AGAIN;
                if helper.looked.get(path).is_none_or(is_due) {
                    helper.looked.insert(*path, now);
                    looks.push(Look {
                        peer: helper.peer,
                        at: *at,
                    });
                }
            }
        }
        looks
    }

    pub(super) fn is_alone(&self) -> bool {
        self.helpers.is_empty()
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.helpers.retain(|it| it.connection != connection);
    }

    /// Forgets who was asked: this node is somewhere else.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
        self.helpers.iter_mut().for_each(|it| it.looked.clear());
    }

    /// Who is to be asked now for which of the candidates; they count as asked from now on.
    pub(super) fn due(&mut self, candidates: &[Socket], now: Instant) -> Vec<Probe> {
        self.asked
            .retain(|it| it.again > now && candidates.contains(&it.at));
        let mut due = Vec::new();
        for at in candidates {
            let asked = self.asked.iter().filter(|it| it.at == *at);
            let mut sites: HashSet<IpAddr> = asked.map(|it| site_of(it.ip)).collect();
            for helper in &self.helpers {
                if sites.len() >= SITES_MAX {
                    break;
                }
                // A peer connects to the host that asks, and so by the family that it asks by.
                let cannot = helper.ip == at.ip || helper.ip.is_ipv4() != at.ip.is_ipv4();
                if cannot || !sites.insert(site_of(helper.ip)) {
                    continue;
                }
                due.push(Probe {
                    peer: helper.peer,
                    connection: helper.connection,
                    at: *at,
                });
                self.asked.push(Asked {
                    at: *at,
                    ip: helper.ip,
                    connection: helper.connection,
                    again: now + AGAIN,
                });
            }
        }
        due
    }

    /// What came of asking; the peer's address, if it was asked.
    pub(super) fn probed(
        &mut self,
        connection: ConnectionId,
        at: Socket,
        worked: Option<bool>,
        now: Instant,
    ) -> Option<IpAddr> {
        let mut asked = self.asked.iter_mut();
        let asked = asked.find(|it| it.connection == connection && it.at == at)?;
        if worked.is_none() {
            asked.again = now + AGAIN_AFTER_REFUSAL;
        }
        Some(asked.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{id, ip, socket};
    use super::*;

    /// Helpers at these addresses, and how many are asked for so many addresses.
    fn plan(helpers: &[&str]) -> Plan {
        let mut plan = Plan::default();
        for (n, at) in helpers.iter().enumerate() {
            let listens = ["4101", "4101/udp"].map(|port| socket(&format!("{at}:{port}")));
            plan.helper(PeerId::random(), id(n), ip(at), listens.to_vec());
        }
        plan
    }

    #[test]
    fn each_address_is_asked_for_at_some_sites_and_again_later() {
        let now = Instant::now();
        let mut plan = plan(&["73.1.0.1", "73.1.0.2", "73.2.0.1", "73.3.0.1", "73.4.0.1"]);
        let both = [socket("73.9.0.1:4101"), socket("73.9.0.1:4101/udp")];
        let due = plan.due(&both, now);
        let connections = |at| {
            let of = due.iter().filter(move |it| it.at == at);
            of.map(|it| it.connection).collect::<Vec<_>>()
        };
        for at in both {
            assert_eq!(connections(at), [id(0), id(2), id(3)], "one for each site");
        }
        assert!(plan.due(&both, now + AGAIN / 2).is_empty());
        // Another address is asked for at once, and one of before anew.
        let other = [socket("73.9.0.7:4101")];
        assert_eq!(plan.due(&other, now).len(), SITES_MAX);
        assert_eq!(plan.due(&both, now).len(), 2 * SITES_MAX);
        assert_eq!(plan.due(&both, now + AGAIN).len(), 2 * SITES_MAX);
        plan.forget();
        assert_eq!(plan.due(&both, now + AGAIN).len(), 2 * SITES_MAX);
    }

    #[test]
    fn some_sites_are_dialled_from_the_own_port_and_again_later() {
        let now = Instant::now();
        let mut plan = plan(&["73.1.0.1", "73.1.0.2", "73.2.0.1", "73.3.0.1", "73.4.0.1"]);
        let tcp = Path::of(&socket("73.1.0.1:1"));
        let udp = Path::of(&socket("73.1.0.1:1/udp"));
        let v6 = Path::of(&socket("[2a00::1]:1"));
        let sites = |looks: Vec<Look>| looks.iter().map(|it| site_of(it.at.ip)).collect::<Vec<_>>();
        let three = ["73.1.0.0", "73.2.0.0", "73.3.0.0"].map(ip);
        assert_eq!(sites(plan.looks(&[tcp, v6], now)), three);
        assert!(plan.looks(&[tcp], now + AGAIN / 2).is_empty());
        assert_eq!(sites(plan.looks(&[udp], now)), three);
        assert_eq!(plan.looks(&[tcp, udp], now + AGAIN).len(), 6);
        plan.forget();
        assert_eq!(plan.looks(&[tcp], now + AGAIN).len(), 3);
    }

    #[test]
    fn whoever_has_not_tried_is_asked_again_sooner() {
        let now = Instant::now();
        let mut plan = plan(&["73.1.0.1"]);
        let at = socket("73.9.0.1:4101");
        assert_eq!(plan.due(&[at], now).len(), 1);
        assert_eq!(plan.probed(id(0), at, None, now), Some(ip("73.1.0.1")));
        assert!(plan.due(&[at], now).is_empty());
        let later = now + AGAIN_AFTER_REFUSAL;
        assert_eq!(plan.due(&[at], later).len(), 1);
        assert_eq!(plan.probed(id(1), at, Some(true), now), None, "not asked");
    }

    #[test]
    fn nobody_is_asked_who_is_gone_or_behind_the_same_router() {
        let now = Instant::now();
        let mut plan = plan(&["73.9.0.1", "73.1.0.1"]);
        plan.closed(id(1));
        assert!(plan.due(&[socket("73.9.0.1:4101")], now).is_empty());
        assert!(plan.due(&[socket("[2a00::5]:4101")], now).is_empty());
        for n in 0..2 * HELPERS_MAX {
            plan.helper(PeerId::random(), id(n), ip("73.1.0.1"), Vec::new());
        }
        assert_eq!(plan.helpers.len(), HELPERS_MAX);
        assert!(!plan.is_alone());
    }
}
