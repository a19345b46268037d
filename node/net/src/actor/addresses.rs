//! Where this node says that it is.

use libp2p::Multiaddr;

use super::Actor;
use crate::book::ADDRESSES_MAX;
use crate::order::{to_link, to_tell};
use crate::scope::Scope;
use crate::{NetEvent, OwnAddresses};

/// Addresses that this node tells others of itself; what others believe at most.
const OWN_ADDRESSES_MAX: usize = ADDRESSES_MAX;

impl Actor {
    /// Tells peers and handles where this node is: what the configuration says, then what it listens
    /// on, that which leads somewhere first.
    ///
    /// Listen addresses count as confirmed, for provider records carry confirmed addresses only;
    /// who hears one that reaches less far than they do does not believe it.
    pub(super) fn publish_addresses(&mut self) {
        let listen: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let interfaces = self.interfaces.latest();
        let mut external = self.external.clone();
        let heard = to_tell(&listen, &interfaces).into_iter();
        external.extend(heard.filter(|address| !self.external.contains(address)));
        external.truncate(OWN_ADDRESSES_MAX);
        let scope = external.iter().filter_map(Scope::of).max();
        let addresses = OwnAddresses {
            linked: to_link(&external, &interfaces),
            listen,
            external,
            scope,
        };
        if *self.addresses.borrow() == addresses {
            return;
        }
        self.confirm(&addresses.external);
        // Paths to peers may be other ones now.
        self.peers.forget_distances();
        self.swarm.behaviour_mut().ping.hurry();
        self.addresses.send_replace(addresses);
        self.emit(NetEvent::AddressesChanged);
        self.announce_after_move();
    }

    /// Has identify and the DHT say these addresses from now on.
    fn confirm(&mut self, external: &[Multiaddr]) {
        let confirmed: Vec<Multiaddr> = self.swarm.external_addresses().cloned().collect();
        for old in &confirmed {
            self.swarm.remove_external_address(old);
        }
        // The behaviours put each in front of those before, and a record has room for a few only.
        for new in external.iter().rev() {
            self.swarm.add_external_address(new.clone());
        }
        let peers = self.peers.ids();
        self.swarm.behaviour_mut().identify.push(peers);
    }
}
