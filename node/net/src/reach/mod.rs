//! Where this node is, as the internet sees it, and who can connect to it.
//!
//! Owns everything that is known of this node's own addresses: what the configuration says, what it
//! listens on, where peers see it ([`observed`]), which addresses were shown to work ([`proofs`]), and
//! which peer is asked when to try one ([`plan`]).
//! Out of it come the addresses that others are told, and the [`verdict`]. A peer is believed in
//! nothing alone, everything expires, and what was known is forgotten when this node moves to another
//! network. It refuses to send or to dial: the network's actor does. Pure, but for the clock of
//! [`contacts`].

mod contacts;
mod observed;
mod plan;
mod proofs;
mod verdict;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, identify};

pub(crate) use self::contacts::Contacts;
use self::observed::{Mapping, Observed, Path};
use self::plan::Plan;
pub(crate) use self::plan::{Look, Probe};
use self::proofs::Proofs;
use self::verdict::{Facts, judge};
pub use self::verdict::{Reachability, Verdict};
use super::interfaces::Interfaces;
use super::order::{kind_of, to_tell};
use super::probe;
use super::scope::{Kind, Scope, Socket, is_name};

/// Own addresses that peers are asked to connect to.
const CANDIDATES_MAX: usize = 6;

/// Addresses of a helper that are kept: one for each path is used.
const LISTENS_MAX: usize = 8;

/// All that is known of this node's own addresses.
#[derive(Debug)]
pub(crate) struct Reach {
    configured: Vec<Multiaddr>,
    contacts: Contacts,
    observed: Observed,
    proofs: Proofs,
    /// Own addresses by which this machine reaches the internet.
    outward: HashSet<IpAddr>,
    listen: Vec<Multiaddr>,
    /// Connections of the internet, until the peer has said who it is: where this node reached it, or
    /// whence it came without having been asked.
    fresh: HashMap<ConnectionId, Fresh>,
    /// Dials from the port on which this node listens; each ends within seconds.
    looking: HashSet<ConnectionId>,
    plan: Plan,
}

/// A connection on which the peer has said nothing yet.
#[derive(Debug, Clone, Copy)]
enum Fresh {
    /// This node made it, to this host; to a name, if there is none.
    Dialled {
        to: Option<IpAddr>,
        is_own_port: bool,
    },
    /// A host made it that this node never sent anything to.
    Unasked(IpAddr),
}

impl Reach {
    /// `configured` are addresses that a person says this node is reached at, without peer.
    pub(crate) fn new(configured: Vec<Multiaddr>, contacts: Contacts) -> Self {
        Self {
            configured,
            contacts,
            observed: Observed::default(),
            proofs: Proofs::default(),
            outward: HashSet::new(),
            listen: Vec::new(),
            fresh: HashMap::new(),
            looking: HashSet::new(),
            plan: Plan::default(),
        }
    }

    /// Takes note of what this node listens on, and of the interfaces. Forgets what others have said
    /// when this machine now reaches the internet by another address.
    pub(crate) fn listens(&mut self, listen: Vec<Multiaddr>, interfaces: &Interfaces) {
        let ips = listen.iter().filter_map(Socket::parse).map(|it| it.ip);
        let is_outward = |ip: &IpAddr| !ip.is_loopback() && !interfaces.place(*ip).is_local;
        let outward: HashSet<IpAddr> = ips.filter(is_outward).collect();
        if outward != self.outward {
            let moved = !self.outward.is_empty();
            self.outward = outward;
            if moved {
                tracing::info!(
                    "this machine has other addresses: what peers said of it is forgotten"
                );
                self.observed.forget();
                self.proofs.forget();
                self.contacts.forget();
                self.plan.forget();
            }
        }
        self.listen = listen;
    }

    /// Takes note of a connection.
    pub(crate) fn connected(&mut self, id: ConnectionId, endpoint: &ConnectedPoint, now: Instant) {
        let remote = endpoint.get_remote_address();
        // By QUIC all dials come from the socket that listens, but those that connect back.
        let by_listener = match endpoint {
            ConnectedPoint::Dialer { port_use, .. } => {
                kind_of(remote) == Kind::Quic && *port_use == PortUse::Reuse
            }
            ConnectedPoint::Listener { .. } => false,
        };
        let is_own_port = self.looking.remove(&id) || by_listener;
        if endpoint.is_dialer() && is_name(remote) {
            let to = None;
            self.fresh.insert(id, Fresh::Dialled { to, is_own_port });
            return;
        }
        let Some(ip) = Socket::parse(remote).map(|socket| socket.ip) else {
            return;
        };
        if Scope::of_ip(ip) != Some(Scope::Public) {
            return;
        }
        if endpoint.is_dialer() {
            let to = Some(ip);
            self.fresh.insert(id, Fresh::Dialled { to, is_own_port });
        // One that comes from this node's own public address is behind the same router.
        } else if !self.contacts.knows(ip) && !self.observed.has_ip(ip) {
            self.fresh.insert(id, Fresh::Unasked(ip));
        }
        // Whoever has connected was answered.
        self.contacts.met(ip, now);
    }

    /// The peer of a connection has said at which address it sees this node, or has reached it.
    /// Says whether that may change anything.
    ///
    /// Which host a name led to is not known here. A person has chosen it, so its own word is good
    /// enough to tell it from others.
    pub(crate) fn heard(&mut self, id: ConnectionId, info: &identify::Info, now: Instant) -> bool {
        let said = Socket::parse(&info.observed_addr);
        let (Some(fresh), Some(said)) = (self.fresh.remove(&id), said) else {
            return false;
        };
        let of_itself = || {
            let listens = info.listen_addrs.iter().filter_map(Socket::parse);
            let mut ips = listens.map(|socket| socket.ip);
            ips.find(|ip| Scope::of_ip(*ip) == Some(Scope::Public))
        };
        match fresh {
            Fresh::Dialled { to, is_own_port } => {
                let Some(by) = to.or_else(of_itself) else {
                    return false;
                };
                if info.protocols.contains(&probe::REQUEST) {
                    let listens = info.listen_addrs.iter().filter_map(Socket::parse);
                    let listens = listens.filter(|it| it.ip == by && it.port != 0);
                    let listens = listens.take(LISTENS_MAX).collect();
                    let peer = info.public_key.to_peer_id();
                    self.plan.helper(peer, id, by, listens);
                }
                self.observed.saw(id, by, said, is_own_port)
            }
            Fresh::Unasked(from) => {
                let is_public = Scope::of_ip(said.ip) == Some(Scope::Public);
                let is_known = self.observed.is_seen_at(said.ip, from) || self.has_ip(said.ip);
                is_public && said.port != 0 && self.proofs.came(from, said, is_known, now)
            }
        }
    }

    /// A connection is closed.
    pub(crate) fn closed(&mut self, id: ConnectionId, now: Instant) {
        self.fresh.remove(&id);
        self.observed.closed(id, now);
        self.plan.closed(id);
    }

    /// Which peers are to be dialled now from the port on which this node listens.
    pub(crate) fn looks(&mut self, now: Instant) -> Vec<Look> {
        if self.plan.is_alone() {
            return Vec::new();
        }
        let own = self.listen.iter().filter_map(Socket::parse);
        let mut own: Vec<Path> = own
            .filter(|it| it.port != 0 && !it.ip.is_loopback())
            .map(|it| Path::of(&it))
            .collect();
        own.sort_unstable();
        own.dedup();
        self.plan.looks(&own, now)
    }

    /// A dial to that address is made, and is to come from the port on which this node listens.
    pub(crate) fn looking(&mut self, id: ConnectionId, at: &Multiaddr) {
        self.looking.insert(id);
        // By QUIC every dial does.
        if kind_of(at) == Kind::Tcp {
            self.contacts.show_own_port(at.clone());
        }
    }

    /// A dial has failed.
    pub(crate) fn failed(&mut self, id: ConnectionId) {
        self.looking.remove(&id);
    }

    /// Which peers are to be asked now to connect to which addresses of this node.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Probe> {
        if self.plan.is_alone() {
            return Vec::new();
        }
        let candidates = self.candidates();
        self.plan.due(&candidates, now)
    }

    /// A peer that was asked has connected, or could not, or has not tried.
    pub(crate) fn probed(&mut self, event: &probe::Event, now: Instant) {
        let Some(by) = self
            .plan
            .probed(event.connection, event.at, event.worked, now)
        else {
            return;
        };
        if let Some(worked) = event.worked {
            self.proofs.tried(by, event.at, worked, now);
        }
    }

    /// Addresses that may work from the internet, the likeliest first: public ones of this machine,
    /// where peers see this node, and the own port there, which a person may have forwarded. What a
    /// stranger has shown already is left out.
    fn candidates(&self) -> Vec<Socket> {
        let own = self.listen.iter().filter_map(Socket::parse);
        let own: Vec<Socket> = own.filter(|it| it.port != 0).collect();
        let seen = Path::ALL.map(|path| match self.observed.mapping(path) {
            Mapping::Once(at) | Mapping::Same(at) => Some(at),
            Mapping::Unseen | Mapping::Differs | Mapping::Unclear => None,
        });
        let ips: Vec<IpAddr> = self.observed.ips();
        let forwarded = ips.iter().flat_map(|ip| {
            let same = own.iter().filter(|it| it.ip.is_ipv4() == ip.is_ipv4());
            same.map(|it| Socket { ip: *ip, ..*it })
        });
        let all = own.iter().copied().chain(seen.into_iter().flatten());
        let mut candidates = Vec::new();
        for at in all.chain(forwarded) {
            let is_public = Scope::of_ip(at.ip) == Some(Scope::Public);
            let wanted = is_public && !self.proofs.is_strong(&at);
            if wanted && !candidates.contains(&at) && candidates.len() < CANDIDATES_MAX {
                candidates.push(at);
            }
        }
        candidates
    }

    /// Drops what does not hold any more; says whether that was anything.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        // Both, whatever the first one says.
        self.observed.sweep(now) | self.proofs.sweep(now)
    }

    /// What others are told of where this node is: what a person says, then what was shown to work,
    /// then what it listens on, that which leads somewhere first.
    ///
    /// An own address counts although nobody has shown that it works: whoever hears one that reaches
    /// less far than they do does not believe it. A public one counts until it is refuted.
    pub(crate) fn advertised(&self, interfaces: &Interfaces) -> Vec<Multiaddr> {
        let shown = self.proofs.shown(self.observed.sites()).into_iter();
        let is_refuted = |address: &Multiaddr| {
            Socket::parse(address).is_some_and(|socket| self.proofs.is_refuted(&socket))
        };
        let told = to_tell(&self.listen, interfaces).into_iter();
        let told = told.filter(|address| !is_refuted(address));
        let mut all = self.configured.clone();
        for address in shown.map(|(socket, _)| socket.address()).chain(told) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// Whether peers on the internet have seen this node.
    pub(crate) fn sees_internet(&self) -> bool {
        self.observed.sites() > 0
    }

    /// Who can connect to this node.
    pub(crate) fn judge(&self, has_peers: bool) -> Reachability {
        let is_wide =
            |address: &Multiaddr| is_name(address) || Scope::of(address) == Some(Scope::Public);
        let own: Vec<Socket> = self.listen.iter().filter_map(Socket::parse).collect();
        let is_public = |it: &&Socket| Scope::of_ip(it.ip) == Some(Scope::Public);
        let own_public: Vec<Socket> = own.iter().filter(is_public).copied().collect();
        let is_refuted = |it: &&Socket| self.proofs.is_refuted(it);
        judge(&Facts {
            is_configured: self.configured.iter().any(is_wide),
            shown: self.proofs.shown(self.observed.sites()),
            refuted: own_public.iter().filter(is_refuted).copied().collect(),
            own_public,
            seen_ips: self.observed.ips(),
            mappings: Path::ALL
                .map(|path| (path, self.observed.mapping(path)))
                .to_vec(),
            own_ports: own.iter().map(|it| (it.kind, it.port)).collect(),
            has_peers,
        })
    }

    fn has_ip(&self, ip: IpAddr) -> bool {
        let mut own = self.listen.iter().filter_map(Socket::parse);
        own.any(|socket| socket.ip == ip)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use libp2p::core::Endpoint;
    use libp2p::identity::Keypair;

    use super::*;

    pub(super) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `ip:port`, by TCP, or by QUIC with `/udp` at the end.
    pub(super) fn socket(text: &str) -> Socket {
        let (at, kind) = match text.strip_suffix("/udp") {
            Some(at) => (at, Kind::Quic),
            None => (text, Kind::Tcp),
        };
        let at: std::net::SocketAddr = at.parse().unwrap();
        Socket {
            ip: at.ip(),
            port: at.port(),
            kind,
        }
    }

    pub(super) fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    const OWN: &str = "/ip4/192.168.1.2/tcp/4101";

    /// A node behind a router, and its connections.
    struct Node {
        reach: Reach,
        connections: usize,
    }

    impl Node {
        fn new(listen: &str) -> Self {
            let mut reach = Reach::new(Vec::new(), Contacts::default());
            reach.listens(vec![listen.parse().unwrap()], &Interfaces::default());
            Self {
                reach,
                connections: 0,
            }
        }

        fn connects(&mut self, endpoint: &ConnectedPoint, said: &str) -> bool {
            let now = Instant::now();
            self.connections += 1;
            let id = id(self.connections);
            if endpoint.is_dialer() {
                self.reach.looking(id, endpoint.get_remote_address());
            }
            self.reach.connected(id, endpoint, now);
            let info = identify::Info {
                public_key: Keypair::generate_ed25519().public(),
                protocol_version: String::new(),
                agent_version: String::new(),
                listen_addrs: vec!["/ip4/73.77.0.1/tcp/1".parse().unwrap()],
                protocols: Vec::new(),
                observed_addr: said.parse().unwrap(),
                signed_peer_record: None,
            };
            self.reach.heard(id, &info, now)
        }

        /// Dials a peer, which sees it there.
        fn dials(&mut self, peer: &str, seen: &str) -> bool {
            let address = format!("/ip4/{peer}/tcp/4101");
            self.dials_at(&address, seen)
        }

        fn dials_at(&mut self, address: &str, seen: &str) -> bool {
            let address: Multiaddr = address.parse().unwrap();
            self.reach.contacts.dialled(&address);
            let endpoint = ConnectedPoint::Dialer {
                address,
                role_override: Endpoint::Dialer,
                port_use: PortUse::Reuse,
            };
            self.connects(&endpoint, seen)
        }

        /// A peer has dialled this address of it.
        fn hears_of(&mut self, peer: &str, dialled: &str) -> bool {
            let endpoint = ConnectedPoint::Listener {
                local_addr: OWN.parse().unwrap(),
                send_back_addr: format!("/ip4/{peer}/tcp/50000").parse().unwrap(),
            };
            self.connects(&endpoint, dialled)
        }

        fn check(&self, verdict: Verdict, advertised: &[&str]) {
            let judged = self.reach.judge(true);
            assert_eq!(judged.verdict, verdict, "{judged:?}");
            let told = self.reach.advertised(&Interfaces::default());
            let told: Vec<String> = told.iter().map(Multiaddr::to_string).collect();
            assert_eq!(told, advertised);
        }
    }

    const SEEN: &str = "/ip4/73.9.0.1/tcp/4101";

    #[test]
    fn a_node_behind_a_usual_router_tells_nobody_where_it_is_seen() {
        let mut node = Node::new(OWN);
        node.check(Verdict::LanOnly, &[OWN]);
        assert!(node.dials("73.1.0.1", SEEN));
        assert!(node.dials("73.2.0.1", SEEN));
        assert!(!node.dials("73.2.0.1", SEEN), "nothing new");
        node.check(Verdict::Punchable, &[OWN]);
    }

    #[test]
    fn a_peer_that_was_dialled_by_its_name_is_a_witness_too() {
        let mut node = Node::new(OWN);
        let seen = "/ip4/73.9.0.1/tcp/24101";
        assert!(node.dials("73.1.0.1", seen));
        node.check(Verdict::NobodyToAsk, &[OWN]);
        assert!(node.dials_at("/dns4/example.org/tcp/1", seen));
        node.check(Verdict::Punchable, &[OWN]);
    }

    #[test]
    fn a_stranger_that_connects_shows_a_forwarded_port() {
        let mut node = Node::new(OWN);
        node.dials("73.1.0.1", SEEN);
        // It was asked, so its connection shows nothing.
        assert!(!node.hears_of("73.1.0.1", SEEN));
        node.check(Verdict::Punchable, &[OWN]);
        assert!(node.hears_of("73.2.0.1", SEEN));
        node.check(Verdict::Public, &[SEEN, OWN]);
    }

    #[test]
    fn nobody_shows_an_address_of_somebody_else() {
        let mut node = Node::new(OWN);
        node.dials("73.1.0.1", SEEN);
        for said in [
            "/ip4/8.8.8.8/tcp/53",
            "/ip4/127.0.0.1/tcp/4101",
            "/ip4/192.168.1.2/tcp/4101",
            "/ip4/73.9.0.1/tcp/0",
            "/dns4/example.org/tcp/1",
        ] {
            let by = format!("73.{}.0.1", 50 + node.connections);
            assert!(!node.hears_of(&by, said), "{said}");
        }
        // A neighbour whose router sends it back.
        assert!(!node.hears_of("73.9.0.1", SEEN));
        node.check(Verdict::Punchable, &[OWN]);
    }

    #[test]
    fn a_public_address_of_an_own_interface_is_told_until_two_sites_refute_it() {
        let own = "/ip4/73.9.0.1/tcp/4101";
        let mut node = Node::new(own);
        node.check(Verdict::NobodyToAsk, &[own]);
        node.dials("73.1.0.1", own);
        node.check(Verdict::Public, &[own]);
        node.dials("73.2.0.1", own);
        node.check(Verdict::Public, &[own]);
        let now = Instant::now();
        for by in ["73.1.0.1", "73.2.0.1"] {
            let at = socket("73.9.0.1:4101");
            node.reach.proofs.tried(ip(by), at, false, now);
        }
        node.check(Verdict::Punchable, &[]);
        assert!(node.hears_of("73.3.0.1", own));
        node.check(Verdict::Public, &[own]);
    }

    #[test]
    fn what_a_person_says_is_told_first() {
        let configured: Multiaddr = "/dns4/example.org/tcp/9".parse().unwrap();
        let mut reach = Reach::new(vec![configured.clone()], Contacts::default());
        reach.listens(vec![OWN.parse().unwrap()], &Interfaces::default());
        assert_eq!(reach.judge(false).verdict, Verdict::Public);
        let told = reach.advertised(&Interfaces::default());
        assert_eq!(told, [configured, OWN.parse().unwrap()]);
    }
}
