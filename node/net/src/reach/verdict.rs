//! Who can connect to this node, and why that is thought. Pure.

use std::net::IpAddr;

use libp2p::Multiaddr;

use super::observed::{Mapping, Path};
use super::proofs::Basis;
use crate::scope::{Kind, Socket};

/// Who can connect to this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Anybody.
    Public,
    /// Nobody unasked. But the router shows one port to everybody, so two such nodes can connect
    /// when both try at once.
    Punchable,
    /// Nobody unasked, and the router shows another port to each peer: even two nodes that try at
    /// once connect only if the other one is better off.
    Hard,
    /// Peers of the local network; nobody outside has been heard of.
    LanOnly,
    /// It is not known: too few peers, or none, can tell.
    #[default]
    NobodyToAsk,
}

impl Verdict {
    /// Its name, for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Punchable => "punchable",
            Self::Hard => "hard",
            Self::LanOnly => "lan_only",
            Self::NobodyToAsk => "nobody_to_ask",
        }
    }
}

/// Who can connect to this node, and why that is thought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reachability {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it was shown. Otherwise it is what is likely.
    pub is_sure: bool,
    /// Why, as a sentence for people.
    pub reason: String,
    /// Where peers on the internet see this node, as far as they agree.
    pub seen: Vec<Multiaddr>,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Whether a person has said where this node is reached from the internet.
    pub(super) is_configured: bool,
    /// What was shown to work, the surest first.
    pub(super) shown: Vec<(Socket, Basis)>,
    /// Public addresses of this machine's own interfaces.
    pub(super) own_public: Vec<Socket>,
    /// Those of them where peers of two sites tried to connect and could not.
    pub(super) refuted: Vec<Socket>,
    /// The IP addresses at which peers see this node.
    pub(super) seen_ips: Vec<IpAddr>,
    /// What peers say, for each path.
    pub(super) mappings: Vec<(Path, Mapping)>,
    /// The ports that this node listens on.
    pub(super) own_ports: Vec<(Kind, u16)>,
    /// Whether anybody at all is connected.
    pub(super) has_peers: bool,
}

/// Judges what is known.
pub(super) fn judge(facts: &Facts) -> Reachability {
    let (verdict, is_sure, reason) = decided(facts);
    let seen = facts
        .mappings
        .iter()
        .filter_map(|(_, mapping)| seen(mapping));
    Reachability {
        verdict,
        is_sure,
        reason,
        seen: seen.map(|socket| socket.address()).collect(),
    }
}

type Decision = (Verdict, bool, String);

fn decided(facts: &Facts) -> Decision {
    public(facts)
        .or_else(|| unheard(facts))
        .or_else(|| behind_router(facts))
        .or_else(|| seen_once(facts))
        .unwrap_or_else(|| {
            let reason = "peers contradict each other about where they see this node";
            (Verdict::NobodyToAsk, false, reason.to_owned())
        })
}

/// Whether anybody can connect.
fn public(facts: &Facts) -> Option<Decision> {
    if facts.is_configured {
        let reason = "the configuration says where it is reached from the internet";
        return Some((Verdict::Public, true, reason.to_owned()));
    }
    if let Some((at, basis)) = facts.shown.first() {
        let at = said(at);
        let reason = match basis {
            Basis::Stranger => {
                format!("a host that this node never contacted has connected to {at}")
            }
            Basis::DialBacks => format!(
                "peers of two networks were asked to connect to {at}, and did; a host that this \
                 node never contacted would make it sure"
            ),
            Basis::OneDialBack => format!(
                "one peer was asked to connect to {at}, and did; a second one, of another \
                 network, would make it sure"
            ),
        };
        return Some((Verdict::Public, *basis == Basis::Stranger, reason));
    }
    let own = own_and_seen(facts)?;
    let reason = format!(
        "this machine has the public address {}, and nobody has tried yet whether a firewall is \
         in front of it",
        said(own)
    );
    Some((Verdict::Public, false, reason))
}

/// A public address of this machine that nobody has refuted, if peers see this node there and nowhere
/// else: behind a router, a public address by IPv6 mostly has a firewall in front of it.
fn own_and_seen(facts: &Facts) -> Option<&Socket> {
    let is_own = |ip: &IpAddr| facts.own_public.iter().any(|own| own.ip == *ip);
    if !facts.seen_ips.iter().all(is_own) {
        return None;
    }
    let is_seen = |own: &&Socket| facts.seen_ips.contains(&own.ip);
    let mut own = facts.own_public.iter().filter(is_seen);
    own.find(|own| !facts.refuted.contains(own))
}

/// Whether nobody on the internet was heard of.
fn unheard(facts: &Facts) -> Option<Decision> {
    let is_unseen = |(_, mapping): &(Path, Mapping)| *mapping == Mapping::Unseen;
    if !facts.mappings.iter().all(is_unseen) {
        return None;
    }
    if let Some(ip) = facts.seen_ips.first() {
        let reason = format!(
            "peers see this node at {ip}; what the router in front of it makes of ports is not \
             known yet"
        );
        return Some((Verdict::NobodyToAsk, false, reason));
    }
    let (verdict, reason) = match (facts.own_public.first(), facts.has_peers) {
        (Some(own), _) => (
            Verdict::NobodyToAsk,
            format!(
                "this machine has the public address {}, but no peer has said yet that it sees it \
                 there",
                said(own)
            ),
        ),
        (None, true) => (
            Verdict::LanOnly,
            "no peer outside of the local network has said where it sees this node".to_owned(),
        ),
        (None, false) => (
            Verdict::NobodyToAsk,
            "no peer is connected that could say where it sees this node".to_owned(),
        ),
    };
    Some((verdict, false, reason))
}

/// What two peers or more show of the router in front of this node.
fn behind_router(facts: &Facts) -> Option<Decision> {
    let mut mappings = facts.mappings.iter();
    let same = mappings.find_map(|(_, mapping)| match mapping {
        Mapping::Same(at) => Some(at),
        _ => None,
    });
    if let Some(at) = same {
        let reason = match facts.refuted.contains(at) {
            true => format!(
                "this machine has the public address {}, but peers of two networks could not \
                 connect to it: a firewall is in front of it",
                said(at)
            ),
            false => format!(
                "peers of two networks see this node at {}, {}; nobody outside is known to have \
                 connected by itself",
                said(at),
                match is_own_port(facts, at) {
                    true => "its own port: the router in front of it keeps ports",
                    false => "one port for all: the router in front of it changes ports",
                }
            ),
        };
        return Some((Verdict::Punchable, true, reason));
    }
    let mut mappings = facts.mappings.iter();
    let (path, _) = mappings.find(|(_, mapping)| *mapping == Mapping::Differs)?;
    let reason = format!(
        "each peer sees this node at another port by {}: the router in front of it chooses a port \
         for each destination",
        kind(path.kind)
    );
    Some((Verdict::Hard, true, reason))
}

/// What can be said when each path was seen by one peer at most.
fn seen_once(facts: &Facts) -> Option<Decision> {
    let mut mappings = facts.mappings.iter();
    let at = mappings.find_map(|(_, mapping)| match mapping {
        Mapping::Once(at) => Some(at),
        _ => None,
    })?;
    let only = format!(
        "only one peer has said where it sees this node, at {}",
        said(at)
    );
    Some(match is_own_port(facts, at) {
        true => (
            Verdict::Punchable,
            false,
            format!("{only}, its own port: the router in front of it seems to keep ports"),
        ),
        false => (
            Verdict::NobodyToAsk,
            false,
            format!(
                "{only}, not its own port: a second peer, of another network, would show whether \
                 the router chooses a port for each destination"
            ),
        ),
    })
}

fn seen(mapping: &Mapping) -> Option<&Socket> {
    match mapping {
        Mapping::Once(at) | Mapping::Same(at) => Some(at),
        Mapping::Unseen | Mapping::Differs | Mapping::Unclear => None,
    }
}

fn is_own_port(facts: &Facts, at: &Socket) -> bool {
    facts.own_ports.contains(&(at.kind, at.port))
}

fn said(at: &Socket) -> String {
    format!(
        "{} by {}",
        std::net::SocketAddr::new(at.ip, at.port),
        kind(at.kind)
    )
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Tcp => "TCP",
        Kind::Quic => "UDP",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::socket;
    use super::*;

    fn facts(tcp: Mapping, quic: Mapping) -> Facts {
        let mapping = |path: Path| match (path.kind, path.is_v6) {
            (Kind::Tcp, false) => tcp,
            (Kind::Quic, false) => quic,
            _ => Mapping::Unseen,
        };
        Facts {
            mappings: Path::ALL.map(|path| (path, mapping(path))).to_vec(),
            own_ports: vec![(Kind::Tcp, 4101), (Kind::Quic, 4101)],
            has_peers: true,
            ..Facts::default()
        }
    }

    fn check(facts: &Facts, verdict: Verdict, is_sure: bool, words: &str) {
        let judged = judge(facts);
        assert_eq!(
            (judged.verdict, judged.is_sure),
            (verdict, is_sure),
            "{judged:?}"
        );
        assert!(judged.reason.contains(words), "{words}: {judged:?}");
    }

    #[test]
    fn what_peers_see_decides() {
        use Mapping::{Differs, Once, Same, Unclear, Unseen};
        use Verdict::{Hard, LanOnly, NobodyToAsk, Punchable};
        let (kept, changed) = (socket("73.9.0.1:4101"), socket("73.9.0.1:24101"));
        for (tcp, quic, verdict, is_sure, words) in [
            (Unseen, Unseen, LanOnly, false, "no peer outside"),
            (Once(kept), Unseen, Punchable, false, "only one peer"),
            (Once(changed), Unseen, NobodyToAsk, false, "a second peer"),
            (Same(kept), Unseen, Punchable, true, "keeps ports"),
            (Same(changed), Unseen, Punchable, true, "changes ports"),
            (Differs, Unseen, Hard, true, "by TCP"),
            (Differs, Once(kept), Hard, true, "another port by TCP"),
            (
                Unseen,
                Same(socket("73.9.0.1:4101/udp")),
                Punchable,
                true,
                "by UDP",
            ),
            (
                Differs,
                Same(socket("73.9.0.1:4101/udp")),
                Punchable,
                true,
                "by UDP",
            ),
            (Unclear, Unseen, NobodyToAsk, false, "contradict"),
        ] {
            check(&facts(tcp, quic), verdict, is_sure, words);
        }
        let alone = Facts::default();
        check(&alone, NobodyToAsk, false, "no peer is connected");
        let seen = judge(&facts(Same(kept), Differs)).seen;
        assert_eq!(
            seen,
            ["/ip4/73.9.0.1/tcp/4101".parse().expect("an address")]
        );
    }

    #[test]
    fn what_was_shown_outweighs_what_peers_see() {
        let at = socket("73.9.0.1:4101");
        for (basis, is_sure, words) in [
            (Basis::Stranger, true, "never contacted"),
            (Basis::DialBacks, false, "two networks"),
            (Basis::OneDialBack, false, "one peer was asked"),
        ] {
            let mut facts = facts(Mapping::Differs, Mapping::Unseen);
            facts.shown = vec![(at, basis)];
            check(&facts, Verdict::Public, is_sure, words);
            facts.is_configured = true;
            check(&facts, Verdict::Public, true, "configuration");
        }
    }

    #[test]
    fn an_own_public_address_counts_until_a_firewall_is_found() {
        let at = socket("73.9.0.1:4101");
        let mut facts = facts(Mapping::Same(at), Mapping::Unseen);
        facts.own_public = vec![at];
        facts.seen_ips = vec![at.ip];
        check(&facts, Verdict::Public, false, "nobody has tried");
        facts.refuted = vec![at];
        check(&facts, Verdict::Punchable, true, "a firewall");
        // One that nobody has seen, as that by IPv6 behind the router of a home.
        facts.own_public = vec![socket("[2a00::5]:4101")];
        facts.refuted = Vec::new();
        check(&facts, Verdict::Punchable, true, "keeps ports");
        facts.mappings = Vec::new();
        check(&facts, Verdict::NobodyToAsk, false, "not known yet");
        facts.seen_ips = Vec::new();
        check(&facts, Verdict::NobodyToAsk, false, "no peer has said yet");
    }
}
