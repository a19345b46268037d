//! The kinds of routers that translate addresses, and the rules of `nft` that make each of them.
//! Pure.
//!
//! One rule matters to all kinds: the router drops what comes unasked to itself. Without it, a
//! packet of a peer that comes too early makes an entry for the router's own address, and the later
//! packet to that peer is moved to another port.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// What kind of router stands between a local network and the internet. The terms are those of RFC
/// 4787; "mapping" is the choice of the outer port, "filtering" of what may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nat {
    /// The usual router of a home: keeps ports, one mapping for all destinations, and lets in only
    /// answers from the very address and port that was asked.
    PortRestricted,
    /// The same, but the outer port of the node is another one.
    Remapped,
    /// One mapping for all destinations, which anybody may use once it is there.
    FullCone,
    /// One mapping for all destinations; a host that was asked may answer from any port.
    AddressRestricted,
    /// Another outer port for each destination, and only answers come in.
    Symmetric,
    /// The usual router, where a person has forwarded the node's port to it.
    Forwarded,
    /// The usual router, which lets no UDP through.
    UdpBlocked,
    /// Two usual routers, one behind the other: that of the home and that of the carrier.
    Cgnat,
}

/// No kind is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no NAT `{0}`; there are: {list}", list = Nat::ALL.map(Nat::name).join(", "))]
pub struct UnknownNat(String);

impl Nat {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::PortRestricted,
        Self::Remapped,
        Self::FullCone,
        Self::AddressRestricted,
        Self::Symmetric,
        Self::Forwarded,
        Self::UdpBlocked,
        Self::Cgnat,
    ];

    /// Its name, as scenarios write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PortRestricted => "port-restricted",
            Self::Remapped => "remapped",
            Self::FullCone => "full-cone",
            Self::AddressRestricted => "address-restricted",
            Self::Symmetric => "symmetric",
            Self::Forwarded => "forwarded",
            Self::UdpBlocked => "udp-blocked",
            Self::Cgnat => "cgnat",
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Nat {
    type Err = UnknownNat;

    fn from_str(text: &str) -> Result<Self, UnknownNat> {
        let mut all = Self::ALL.into_iter();
        all.find(|nat| nat.name() == text)
            .ok_or_else(|| UnknownNat(text.to_owned()))
    }
}

/// The node that a router makes an exception for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside {
    pub(super) ip: Ipv4Addr,
    /// The port that it listens on, by TCP and UDP.
    pub(super) port: u16,
}

/// By how much the outer port of a remapped node is higher than its own.
pub(super) const REMAPPED_BY: u16 = 20_000;

/// What a router with the outer address `wan`, on an interface of that name, does with packets. Where
/// there are two routers one behind the other, each has these rules.
pub(super) fn rules(nat: Nat, wan: Ipv4Addr, inside: Inside) -> String {
    let Inside { ip, port } = inside;
    let snat = format!("oifname \"wan\" snat to {wan};\n");
    let answers = "iifname \"wan\" ct state established,related accept;\n";
    let drop = "iifname \"wan\" drop;\n";
    let mut rules = Rules::default();
    match nat {
        Nat::PortRestricted | Nat::Cgnat => {}
        Nat::Remapped => {
            let outer = port + REMAPPED_BY;
            for protocol in ["udp", "tcp"] {
                rules.post +=
                    &format!("oifname \"wan\" {protocol} sport {port} snat to {wan}:{outer};\n");
            }
        }
        Nat::FullCone => {
            rules.remembers_mappings();
            rules.post += &snat;
            return rules.text();
        }
        Nat::AddressRestricted => {
            rules.remembers_mappings();
            rules.sets += TOLD;
            rules.through += TELL;
            rules.through += answers;
            rules.through += FROM_TOLD;
        }
        Nat::Symmetric => rules.post += "oifname \"wan\" masquerade fully-random;\n",
        Nat::Forwarded => {
            let any = "meta l4proto { tcp, udp } th dport";
            rules.pre += &format!("iifname \"wan\" {any} {port} dnat to {ip}:{port};\n");
            rules.through += &format!("iifname \"wan\" ip daddr {ip} {any} {port} accept;\n");
        }
        Nat::UdpBlocked => rules.through += "meta l4proto udp drop;\n",
    }
    rules.post += &snat;
    rules.through += answers;
    rules.through += drop;
    rules.text()
}

/// Who inside has which outer port.
const EIM: &str = "map eim { type inet_proto . inet_service : ipv4_addr . inet_service; \
                   flags dynamic,timeout; timeout 300s; size 65536; }\n";
/// Whom they have sent something to.
const TOLD: &str = "set told { type ipv4_addr . inet_proto . inet_service . ipv4_addr; \
                    flags dynamic,timeout; timeout 300s; size 65536; }\n";
const TELL: &str = "oifname \"wan\" meta l4proto { tcp, udp } \
                    update @told { ip saddr . meta l4proto . th sport . ip daddr };\n";
const FROM_TOLD: &str = "iifname \"wan\" meta l4proto { tcp, udp } \
                         ip daddr . meta l4proto . th dport . ip saddr @told accept;\n";

/// The lines of each chain.
#[derive(Default)]
struct Rules {
    maps: String,
    sets: String,
    pre: String,
    post: String,
    through: String,
}

impl Rules {
    /// An outer port leads to whoever inside has used it last.
    fn remembers_mappings(&mut self) {
        self.maps += EIM;
        self.post += "oifname \"wan\" meta l4proto { tcp, udp } \
                      update @eim { meta l4proto . th sport : ip saddr . th sport };\n";
        self.pre += "iifname \"wan\" meta l4proto { tcp, udp } \
                     dnat ip to meta l4proto . th dport map @eim;\n";
    }

    fn text(&self) -> String {
        let Self {
            maps,
            sets,
            pre,
            post,
            through,
        } = self;
        format!(
            "flush ruleset\n\
             table ip nat {{\n{maps}\
             chain pre {{ type nat hook prerouting priority dstnat; policy accept;\n{pre}}}\n\
             chain post {{ type nat hook postrouting priority srcnat; policy accept;\n{post}}}\n}}\n\
             table ip fw {{\n{sets}\
             chain inbound {{ type filter hook input priority filter; policy accept;\n\
             iifname \"wan\" ct state new drop;\n}}\n\
             chain through {{ type filter hook forward priority filter; policy accept;\n\
             {through}}}\n}}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_names_one_kind() {
        for nat in Nat::ALL {
            assert_eq!(nat.to_string().parse(), Ok(nat));
        }
        let error = "cone".parse::<Nat>().unwrap_err().to_string();
        assert!(
            error.contains("`cone`") && error.contains("full-cone"),
            "{error}"
        );
    }
}
