//! What is counted of connections, and what is refused for it. Knows no clock and no socket.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::Refusal;
use crate::net::config::{ConnectionLimits, Diversity};
use crate::net::scope::{host_of, subnet_of};

/// Bans that are remembered; of more, the one that ends first is forgotten. 100 bytes each.
const BANS_MAX: usize = 4096;

/// Counts connections by every measure that has a cap; every entry goes with the last connection
/// that it counts.
pub(super) struct Ledger {
    limits: ConnectionLimits,
    diversity: Diversity,
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
    pub(super) fn new(limits: ConnectionLimits, diversity: Diversity) -> Self {
        Self {
            limits,
            diversity,
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

    pub(super) fn admit_inbound(
        &mut self,
        id: ConnectionId,
        ip: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let host = ip.filter(|ip| self.diversity.covers(*ip)).map(host_of);
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

    pub(super) fn admit_outbound(
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

    pub(super) fn check_established(
        &self,
        peer: &PeerId,
        inbound: bool,
        now: Instant,
    ) -> Result<(), Refusal> {
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

    pub(super) fn establish(&mut self, id: ConnectionId, peer: PeerId) {
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
    pub(super) fn release(&mut self, id: ConnectionId) {
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

    pub(super) fn ban(&mut self, peer: PeerId, duration: Duration, now: Instant) {
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use super::*;

    fn ledger(change: impl FnOnce(&mut ConnectionLimits)) -> Ledger {
        with_diversity(Diversity::Public, change)
    }

    fn with_diversity(diversity: Diversity, change: impl FnOnce(&mut ConnectionLimits)) -> Ledger {
        let mut limits = ConnectionLimits::default();
        change(&mut limits);
        Ledger::new(limits, diversity)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Admits connections from `hosts` in order and expects the first refusal at `want`.
    fn check(ledger: &mut Ledger, hosts: &[&str], want: Option<(usize, Refusal)>) {
        let refused = hosts.iter().enumerate().find_map(|(index, host)| {
            let id = ConnectionId::new_unchecked(index);
            ledger
                .admit_inbound(id, ip(host))
                .err()
                .map(|refusal| (index, refusal))
        });
        assert_eq!(refused, want, "{hosts:?}");
    }

    #[test]
    fn hosts_and_subnets_are_limited_in_public_scope() {
        let two = |limits: &mut ConnectionLimits| limits.per_host_max = 2;
        let mut public = ledger(two);
        check(
            &mut public,
            &["8.8.8.8", "8.8.8.8", "9.9.9.9", "8.8.8.8"],
            Some((3, Refusal::Host)),
        );
        let v6 = ["2a00::1", "2a00::2", "2a00::ffff"];
        check(&mut ledger(two), &v6, Some((2, Refusal::Host)));
        check(&mut ledger(two), &["127.0.0.1"; 20], None);
        check(&mut ledger(two), &["10.0.0.1"; 20], None);
        let mut everywhere = with_diversity(Diversity::All, |limits| limits.per_subnet_max = 3);
        let local = [
            "127.0.0.1",
            "127.0.0.2",
            "127.0.1.1",
            "127.0.0.3",
            "127.0.0.4",
        ];
        check(&mut everywhere, &local, Some((4, Refusal::Subnet)));
        check(
            &mut ledger(|limits| limits.pending_inbound_max = 1),
            &["10.0.0.1"; 2],
            Some((1, Refusal::Pending)),
        );
    }

    #[test]
    fn nothing_stays_behind() {
        let mut ledger = ledger(|_| {});
        for round in 0..3 {
            for index in 0..40 {
                let id = ConnectionId::new_unchecked(round * 100 + index);
                let peer = PeerId::random();
                let host = Some(IpAddr::V4(Ipv4Addr::new(
                    8,
                    8,
                    8,
                    u8::try_from(index).unwrap(),
                )));
                match index % 3 {
                    0 => ledger
                        .admit_outbound(id, Some(peer), Instant::now())
                        .unwrap(),
                    _ => ledger.admit_inbound(id, host).unwrap(),
                }
                if index % 4 != 0 {
                    ledger
                        .check_established(&peer, index % 3 != 0, Instant::now())
                        .unwrap();
                    ledger.establish(id, peer);
                }
            }
            assert_eq!(ledger.established, 30);
            for index in 0..40 {
                let id = ConnectionId::new_unchecked(round * 100 + index);
                ledger.release(id);
                ledger.release(id);
            }
        }
        let counts = [
            ledger.pending_inbound,
            ledger.pending_outbound,
            ledger.established,
            ledger.established_inbound,
        ];
        assert_eq!(counts, [0; 4]);
        let sizes = [
            ledger.connections.len(),
            ledger.peers.0.len(),
            ledger.hosts.0.len(),
            ledger.subnets.0.len(),
        ];
        assert_eq!(sizes, [0; 4]);
    }

    #[test]
    fn established_caps() {
        let mut ledger = ledger(|limits| {
            limits.established_max = 4;
            limits.inbound_max = 2;
            limits.per_peer_max = 2;
        });
        let now = Instant::now();
        let peer = PeerId::random();
        for index in 0..2 {
            let id = ConnectionId::new_unchecked(index);
            ledger.admit_inbound(id, None).unwrap();
            ledger.check_established(&peer, true, now).unwrap();
            ledger.establish(id, peer);
        }
        assert_eq!(
            ledger.check_established(&peer, false, now),
            Err(Refusal::Peer)
        );
        let stranger = PeerId::random();
        assert_eq!(
            ledger.check_established(&stranger, true, now),
            Err(Refusal::Inbound)
        );
        let third = ConnectionId::new_unchecked(2);
        assert_eq!(ledger.admit_inbound(third, None), Err(Refusal::Inbound));
        for index in 3..5 {
            let id = ConnectionId::new_unchecked(index);
            ledger.admit_outbound(id, None, now).unwrap();
            ledger.check_established(&stranger, false, now).unwrap();
            ledger.establish(id, stranger);
        }
        let more = PeerId::random();
        assert_eq!(
            ledger.check_established(&more, false, now),
            Err(Refusal::Established)
        );
    }

    #[test]
    fn bans_expire_and_are_bounded() {
        let mut ledger = ledger(|_| {});
        let now = Instant::now();
        let peer = PeerId::random();
        ledger.ban(peer, Duration::from_secs(10), now);
        assert_eq!(
            ledger.check_established(&peer, true, now),
            Err(Refusal::Banned)
        );
        let id = ConnectionId::new_unchecked(0);
        assert_eq!(
            ledger.admit_outbound(id, Some(peer), now),
            Err(Refusal::Banned)
        );
        assert_eq!(
            ledger.check_established(&peer, true, now + Duration::from_secs(10)),
            Ok(())
        );
        for _ in 0..BANS_MAX + 5 {
            ledger.ban(PeerId::random(), Duration::MAX, now);
        }
        assert_eq!(ledger.bans.len(), BANS_MAX);
        assert!(
            !ledger.bans.contains_key(&peer),
            "the ban that ends first makes room"
        );
    }
}
