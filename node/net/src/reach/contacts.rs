//! The hosts that this node has sent something to. Cheap to clone; all clones are one list.
//!
//! A router lets in what comes from a host that was asked. So only a connection from a host that is
//! not on this list shows that anybody can connect. The transport puts every dial on it, below the
//! resolver, where names have become addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use libp2p::Multiaddr;
use parking_lot::Mutex;

use crate::scope::{Scope, Socket, host_of, without_peer};

/// Hosts on the list. The one that was asked longest ago makes room: routers have forgotten it.
const CONTACTS_MAX: usize = 4096;

/// Dials that are to come from the own port and were not made yet: the next poll makes them.
const SHOWN_MAX: usize = 32;

/// The list, and the dials that are to come from the port on which this node listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contacts {
    met: Arc<Mutex<HashMap<IpAddr, Instant>>>,
    from_own_port: Arc<Mutex<Vec<Multiaddr>>>,
}

impl Contacts {
    /// Takes note of a dial. Only hosts of the internet matter.
    pub(crate) fn dialled(&self, address: &Multiaddr) {
        if let Some(socket) = Socket::parse(address) {
            self.met(socket.ip, Instant::now());
        }
    }

    /// Has the next dial of this address, without its peer, come from the port on which this node
    /// listens: for a peer to tell what the router makes of that port.
    pub(crate) fn show_own_port(&self, address: Multiaddr) {
        let mut shown = self.from_own_port.lock();
        if shown.len() >= SHOWN_MAX {
            shown.remove(0);
        }
        shown.push(address);
    }

    /// Whether a dial of this address is to come from the port on which this node listens.
    pub(crate) fn shows_own_port(&self, address: &Multiaddr) -> bool {
        let mut shown = self.from_own_port.lock();
        let address = without_peer(address);
        let place = shown.iter().position(|it| *it == address);
        place.map(|place| shown.swap_remove(place)).is_some()
    }

    /// Takes note of a host that this node sends something to.
    pub(super) fn met(&self, ip: IpAddr, now: Instant) {
        if Scope::of_ip(ip) != Some(Scope::Public) {
            return;
        }
        let mut met = self.met.lock();
        met.insert(host_of(ip), now);
        if met.len() > CONTACTS_MAX
            && let Some((oldest, _)) = met.iter().min_by_key(|(_, at)| **at)
        {
            let oldest = *oldest;
            met.remove(&oldest);
        }
    }

    /// Whether this node has ever sent something to the host of `ip`.
    pub(super) fn knows(&self, ip: IpAddr) -> bool {
        self.met.lock().contains_key(&host_of(ip))
    }

    /// Forgets everybody: another router is in front of this node.
    pub(super) fn forget(&self) {
        self.met.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn hosts_are_known_once_they_were_dialled() {
        let contacts = Contacts::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        contacts.dialled(&"/ip4/73.1.0.1/tcp/1".parse().unwrap());
        contacts.dialled(&"/ip6/2a00:1:2:3::4/udp/1/quic-v1".parse().unwrap());
        contacts.dialled(&"/ip4/192.168.1.1/tcp/1".parse().unwrap());
        assert!(contacts.knows(ip("73.1.0.1")));
        assert!(contacts.knows(ip("2a00:1:2:3::99")), "the same /64");
        assert!(!contacts.knows(ip("73.1.0.2")));
        assert!(!contacts.knows(ip("192.168.1.1")));
        contacts.forget();
        assert!(!contacts.knows(ip("73.1.0.1")));
    }

    #[test]
    fn the_list_is_bounded() {
        let contacts = Contacts::default();
        let began = Instant::now();
        let ip = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x4900_0001 + n));
        for n in 0..=u32::try_from(CONTACTS_MAX).unwrap() {
            contacts.met(ip(n), began + Duration::from_secs(n.into()));
        }
        assert_eq!(contacts.met.lock().len(), CONTACTS_MAX);
        assert!(!contacts.knows(ip(0)) && contacts.knows(ip(1)));
    }
}
