//! What kind of line an interface is, judged by what the system says of it and by its name.
//!
//! Pure. A name counts because a container has a virtual `eth0` that is its only line, and because
//! other systems than Linux say little more than a name.

/// The kind of line behind an interface; the kind that other machines reach most surely comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// A network card, or a bridge that has one.
    Wire,
    /// Nothing is known against it.
    Unknown,
    /// A tunnel: it leads to another place, and only members of it come back by it.
    Tunnel,
    /// A bridge or an adapter of this machine's own containers and virtual machines.
    Virtual,
    /// The interface is up and has no carrier: nobody is at the other end.
    Idle,
}

/// What the system says of an interface.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// A carrier is there.
    pub(super) is_running: bool,
    /// It has one peer and no network.
    pub(super) is_point_to_point: bool,
    /// A device of the machine drives it.
    pub(super) has_device: bool,
    /// It is a bridge.
    pub(super) is_bridge: bool,
    /// It is a bridge, and a device of the machine drives one of its ports.
    pub(super) bridges_device: bool,
    /// A program reads and writes its packets.
    pub(super) is_tun: bool,
}

/// Beginnings of the names that systems give to network cards.
const WIRE_NAMES: [&str; 7] = ["eth", "en", "wl", "ww", "em", "usb", "ib"];

/// Beginnings of the names that VPN programs and systems give to tunnels.
const TUNNEL_NAMES: [&str; 13] = [
    "tun",
    "tap",
    "utun",
    "wg",
    "ppp",
    "ipsec",
    "gre",
    "sit",
    "ip6tnl",
    "tailscale",
    "zt",
    "nebula",
    "nordlynx",
];

/// Beginnings of the names that container and virtual machine programs give to their bridges and
/// adapters. `br-` and a number is Docker's, and `br` and a number is what people call a bridge.
const VIRTUAL_NAMES: [&str; 21] = [
    "docker", "br-", "virbr", "veth", "cni", "podman", "lxc", "lxd", "incus", "vmnet", "vboxnet",
    "vnet", "flannel", "cali", "cilium", "kube", "nerdctl", "bridge", "dummy", "vmbr", "hassio",
];

/// Judges an interface.
pub(super) fn judge(name: &str, facts: Facts) -> Line {
    let begins = |names: &[&str]| names.iter().any(|it| name.starts_with(it));
    if !facts.is_running {
        Line::Idle
    } else if facts.bridges_device {
        Line::Wire
    } else if facts.is_bridge || begins(&VIRTUAL_NAMES) || is_numbered(name, "br") {
        Line::Virtual
    } else if facts.is_tun || facts.is_point_to_point || begins(&TUNNEL_NAMES) {
        Line::Tunnel
    } else if facts.has_device || begins(&WIRE_NAMES) {
        Line::Wire
    } else {
        Line::Unknown
    }
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    let number = name.strip_prefix(prefix).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_by_what_the_system_says_and_by_names() {
        let running = Facts {
            is_running: true,
            ..Facts::default()
        };
        let check = |name: &str, facts, expected| {
            assert_eq!(judge(name, facts), expected, "{name}: {facts:?}");
        };
        let has_device = Facts {
            has_device: true,
            ..running
        };
        check("enp3s0", has_device, Line::Wire);
        check("lan", has_device, Line::Wire);
        check("eth0", running, Line::Wire);
        check("wlan0", running, Line::Wire);
        check("d7", running, Line::Unknown);
        check("lan.100", running, Line::Unknown);
        for name in ["docker0", "br-0a1b2c3d4e5f", "virbr0", "veth12ab", "br1"] {
            check(name, running, Line::Virtual);
        }
        for name in ["cni0", "podman1", "lxcbr0", "lxdbr0", "vmnet8", "bridge100"] {
            check(name, running, Line::Virtual);
        }
        let bridge = Facts {
            is_bridge: true,
            ..running
        };
        check("lan", bridge, Line::Virtual);
        let real_bridge = Facts {
            bridges_device: true,
            ..bridge
        };
        check("br-lan", real_bridge, Line::Wire);
        check("vmbr0", real_bridge, Line::Wire);
        for name in ["tun0", "wg0", "utun3", "ppp0", "tailscale0"] {
            check(name, running, Line::Tunnel);
        }
        let tun = Facts {
            is_tun: true,
            ..running
        };
        check("office", tun, Line::Tunnel);
        let point_to_point = Facts {
            is_point_to_point: true,
            ..running
        };
        check("office", point_to_point, Line::Tunnel);
        check("enp3s0", Facts::default(), Line::Idle);
        check("docker0", Facts::default(), Line::Idle);
        check("brother", running, Line::Unknown);
        check("br", running, Line::Unknown);
    }
}
