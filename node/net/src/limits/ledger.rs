//! What is counted of connections, and what is refused for it. Knows no clock and no socket.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use crate::activity::Activity;
use crate::config::{ConnectionLimits, Diversity};
use crate::error::Refusal;
use crate::scope::{host_of, subnet_of};

/// Bans that are remembered; of more, the one that ends first is forgotten. 100 bytes each.
const BANS_MAX: usize = 4096;

/// Connections that may be closing at a time to make room. Each takes 5 s at most, so 25 peers a
/// second that read nothing find room; and descriptors, of which the limits leave 1024 - 512 to
/// files and these, suffice.
const GIVING_WAY_MAX: u32 = 128;

/// Counts connections by every measure that has a cap; every entry goes with the last connection
/// that it counts.
pub(super) struct Ledger {
    limits: ConnectionLimits,
    diversity: Diversity,
    connections: HashMap<ConnectionId, Connection>,
    pending_inbound: u32,
    pending_outbound: u32,
    /// Established ones, without those that give way.
    established: u32,
    established_inbound: u32,
    giving_way: u32,
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
    activity: Arc<Activity>,
    /// Closed to make room; others are counted in its place.
    gives_way: bool,
}

impl Connection {
    fn new(inbound: bool, host: Option<IpAddr>, activity: Arc<Activity>) -> Self {
        Self {
            host,
            inbound,
            peer: None,
            activity,
            gives_way: false,
        }
    }
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
            giving_way: 0,
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
        activity: Arc<Activity>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let host = ip.filter(|ip| self.diversity.covers(*ip)).map(host_of);
        below(
            self.pending_inbound,
            self.limits.pending_inbound_max,
            Refusal::Pending,
        )?;
        // Looked at here as well, so that a flood does not cost a handshake each when nothing can
        // give way to it.
        self.room(true, now)?;
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
        let connection = Connection::new(true, host, activity);
        self.connections.insert(id, connection);
        Ok(())
    }

    pub(super) fn admit_outbound(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        activity: Arc<Activity>,
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
        self.room(false, now)?;
        self.pending_outbound += 1;
        let connection = Connection::new(false, None, activity);
        self.connections.insert(id, connection);
        Ok(())
    }

    /// Whether a connection whose handshake is done is accepted, and which one has to give way to
    /// it.
    pub(super) fn check_established(
        &self,
        peer: &PeerId,
        inbound: bool,
        now: Instant,
    ) -> Result<Option<ConnectionId>, Refusal> {
        if self.banned(peer, now) {
            return Err(Refusal::Banned);
        }
        below(
            self.peers.count(peer),
            self.limits.per_peer_max,
            Refusal::Peer,
        )?;
        self.room(inbound, now)
    }

    /// Makes sure that there is room for one more; where there is none, the connection that has to
    /// give way.
    fn room(&self, inbound: bool, now: Instant) -> Result<Option<ConnectionId>, Refusal> {
        let full = if inbound && self.established_inbound >= self.limits.inbound_max {
            Refusal::Inbound
        } else if self.established >= self.limits.established_max {
            Refusal::Established
        } else {
            return Ok(None);
        };
        let found = self.idlest(full == Refusal::Inbound, now);
        found.map(Some).ok_or(full)
    }

    /// The connection that has been idle for longest, inbound ones and those of no neighbour first;
    /// none while each of them makes progress.
    fn idlest(&self, inbound_only: bool, now: Instant) -> Option<ConnectionId> {
        if self.giving_way >= GIVING_WAY_MAX {
            return None;
        }
        let open = self.connections.iter().filter(|(_, one)| {
            let established = one.peer.is_some() && !one.activity.is_closing();
            established && (one.inbound || !inbound_only)
        });
        let idle = open.filter_map(|(id, one)| {
            let idle = one.activity.idle(now)?;
            Some(((!one.activity.is_neighbour(), one.inbound, idle), *id))
        });
        idle.max_by_key(|(rank, _)| *rank).map(|(_, id)| id)
    }

    /// Has an established connection give way: it does not count any more. Whose it is.
    pub(super) fn give_way(&mut self, id: ConnectionId) -> Option<PeerId> {
        let connection = self.connections.get_mut(&id)?;
        let peer = connection.peer.filter(|_| !connection.gives_way)?;
        connection.gives_way = true;
        connection.activity.close();
        self.giving_way += 1;
        self.established -= 1;
        self.established_inbound -= u32::from(connection.inbound);
        Some(peer)
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
            Some(peer) if connection.gives_way => {
                self.peers.remove(&peer);
                self.giving_way -= 1;
            }
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

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Instant::now()))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Admits connections from `hosts` in order and expects the first refusal at `want`.
    fn check(ledger: &mut Ledger, hosts: &[&str], want: Option<(usize, Refusal)>) {
        let refused = hosts.iter().enumerate().find_map(|(index, host)| {
            let id = ConnectionId::new_unchecked(index);
            ledger
                .admit_inbound(id, ip(host), activity(), Instant::now())
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
                        .admit_outbound(id, Some(peer), activity(), Instant::now())
                        .unwrap(),
                    _ => ledger
                        .admit_inbound(id, host, activity(), Instant::now())
                        .unwrap(),
                }
                if index % 4 != 0 {
                    ledger
                        .check_established(&peer, index % 3 != 0, Instant::now())
                        .unwrap();
                    ledger.establish(id, peer);
                }
            }
            assert_eq!(ledger.established, 30);
            for index in [1, 2, 3, 3] {
                ledger.give_way(ConnectionId::new_unchecked(round * 100 + index));
            }
            assert_eq!((ledger.established, ledger.giving_way), (27, 3));
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
            ledger.giving_way,
        ];
        assert_eq!(counts, [0; 5]);
        let sizes = [
            ledger.connections.len(),
            ledger.peers.0.len(),
            ledger.hosts.0.len(),
            ledger.subnets.0.len(),
        ];
        assert_eq!(sizes, [0; 4]);
    }

    /// Establishes connection `id` as far as the caps allow; the connection that gave way.
    fn establish(
        ledger: &mut Ledger,
        (id, inbound): (usize, bool),
        peer: PeerId,
        activity: &Arc<Activity>,
        now: Instant,
    ) -> Result<Option<usize>, Refusal> {
        let connection = ConnectionId::new_unchecked(id);
        let shared = Arc::clone(activity);
        if inbound {
            ledger.admit_inbound(connection, None, shared, now)?;
        } else {
            ledger.admit_outbound(connection, None, shared, now)?;
        }
        let yielding = ledger.check_established(&peer, inbound, now);
        let yielding = yielding.inspect_err(|_| ledger.release(connection))?;
        yielding.map(|id| ledger.give_way(id));
        ledger.establish(connection, peer);
        Ok((0..id).find(|other| yielding == Some(ConnectionId::new_unchecked(*other))))
    }

    #[test]
    fn connections_of_one_peer_are_capped() {
        let mut ledger = ledger(|limits| limits.per_peer_max = 2);
        let (now, peer) = (Instant::now(), PeerId::random());
        for id in 0..2 {
            assert_eq!(
                establish(&mut ledger, (id, true), peer, &activity(), now),
                Ok(None)
            );
        }
        assert_eq!(
            ledger.check_established(&peer, false, now),
            Err(Refusal::Peer)
        );
    }

    /// Five connections that began a second apart, the last two of our own, where no sixth fits:
    /// which of them give way, one after the other, until nothing does.
    fn check_order(
        inbound: bool,
        prepare: impl FnOnce(&[Arc<Activity>]),
        expected: &[usize],
        refusal: Refusal,
    ) {
        let mut ledger = ledger(|limits| {
            limits.established_max = 5;
            limits.inbound_max = 3;
        });
        let start = Instant::now();
        let began = |id| start - Duration::from_secs(60) + Duration::from_secs(id);
        let activities: Vec<_> = (0..5)
            .map(|id| Arc::new(Activity::new(began(id))))
            .collect();
        for (id, activity) in activities.iter().enumerate() {
            let establish = establish(&mut ledger, (id, id < 3), PeerId::random(), activity, start);
            assert_eq!(establish, Ok(None));
        }
        prepare(&activities);
        let mut gave_way = Vec::new();
        let busy = activity();
        busy.moved(1 << 20);
        let refused = (5..).find_map(|id| {
            let peer = PeerId::random();
            match establish(&mut ledger, (id, inbound), peer, &busy, start) {
                Ok(yielded) => {
                    gave_way.push(yielded.unwrap());
                    None
                }
                Err(refusal) => Some(refusal),
            }
        });
        assert_eq!(gave_way, expected);
        assert_eq!(refused, Some(refusal));
        assert_eq!(
            (ledger.established, ledger.established_inbound <= 3),
            (5, true)
        );
    }

    #[test]
    fn the_oldest_idle_connection_gives_way_and_one_with_progress_never() {
        let nothing = |_: &[Arc<Activity>]| {};
        check_order(true, nothing, &[0, 1, 2], Refusal::Inbound);
        // Those of others give way to our own first.
        check_order(false, nothing, &[0, 1, 2, 3, 4], Refusal::Established);
        let first_moves = |all: &[Arc<Activity>]| all[0].moved(5000);
        check_order(true, first_moves, &[1, 2], Refusal::Inbound);
        let first_kept = |all: &[Arc<Activity>]| all[0].keep();
        check_order(true, first_kept, &[1, 2, 0], Refusal::Inbound);
        let first_closes = |all: &[Arc<Activity>]| all[0].close();
        check_order(true, first_closes, &[1, 2], Refusal::Inbound);
    }

    #[test]
    fn so_many_give_way_at_a_time() {
        let mut ledger = ledger(|limits| limits.inbound_max = 1);
        let now = Instant::now();
        let refused = (0..1000).find(|id| {
            let peer = PeerId::random();
            establish(&mut ledger, (*id, true), peer, &activity(), now).is_err()
        });
        assert_eq!(refused, Some(GIVING_WAY_MAX as usize + 1));
        ledger.release(ConnectionId::new_unchecked(7));
        let peer = PeerId::random();
        assert!(establish(&mut ledger, (2000, true), peer, &activity(), now).is_ok());
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
            ledger.admit_outbound(id, Some(peer), activity(), now),
            Err(Refusal::Banned)
        );
        assert_eq!(
            ledger.check_established(&peer, true, now + Duration::from_secs(10)),
            Ok(None)
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
