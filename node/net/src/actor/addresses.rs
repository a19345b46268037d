//! Where this node says that it is, and who it thinks can connect to it.

use std::time::Instant;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, identify};

use super::Actor;
use crate::book::ADDRESSES_MAX;
use crate::order::to_link;
use crate::probe;
use crate::reach::Verdict;
use crate::scope::Scope;
use crate::{NetEvent, OwnAddresses};

/// Addresses that this node tells others of itself; what others believe at most.
const OWN_ADDRESSES_MAX: usize = ADDRESSES_MAX;

impl Actor {
    /// Tells peers and handles where this node is, as far as it knows now; see
    /// [`Reach::advertised`](crate::reach::Reach::advertised).
    pub(super) fn publish_addresses(&mut self) {
        let listen: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let interfaces = self.interfaces.latest();
        self.reach.listens(listen.clone(), &interfaces);
        let mut external = self.reach.advertised(&interfaces);
        external.truncate(OWN_ADDRESSES_MAX);
        let scope = external.iter().filter_map(Scope::of).max();
        let addresses = OwnAddresses {
            linked: to_link(&external, &interfaces),
            listen,
            external,
            scope,
        };
        self.judge_reach();
        let before = self.addresses.borrow().clone();
        if before == addresses {
            return;
        }
        self.confirm(&addresses.external);
        if before.listen != addresses.listen {
            // Paths to peers may be other ones now.
            self.peers.forget_distances();
            self.swarm.behaviour_mut().ping.hurry();
        }
        self.addresses.send_replace(addresses);
        self.emit(NetEvent::AddressesChanged);
        self.announce_after_move();
    }

    /// Takes note of a connection: what its peer says of it may show where this node is.
    pub(super) fn reach_connected(&mut self, id: ConnectionId, endpoint: &ConnectedPoint) {
        self.reach.connected(id, endpoint, Instant::now());
    }

    /// A peer of this network has said where it sees this node, or reached it.
    pub(super) fn reach_heard(&mut self, id: ConnectionId, info: &identify::Info) {
        if self.reach.heard(id, info, Instant::now()) {
            self.publish_addresses();
        } else {
            // It may be the first peer.
            self.judge_reach();
        }
    }

    /// Asks peers to connect to addresses of this node, and dials them from the port on which it
    /// listens, as far as that is due.
    pub(super) fn probe(&mut self) {
        for look in self.reach.looks(Instant::now()) {
            let address = look.at.address();
            let opts = DialOpts::peer_id(look.peer)
                .addresses(vec![address.clone()])
                .condition(PeerCondition::Always)
                .build();
            self.reach.looking(opts.connection_id(), &address);
            if let Err(error) = self.swarm.dial(opts) {
                tracing::debug!(%address, %error, "a peer is not dialled from the own port");
            }
        }
        for probe in self.reach.due(Instant::now()) {
            let behaviour = &mut self.swarm.behaviour_mut().probe;
            behaviour.ask(probe.peer, probe.connection, probe.at);
        }
    }

    pub(super) fn handle_probed(&mut self, event: &probe::Event) {
        tracing::debug!(at = %event.at.address(), worked = ?event.worked, "a peer was asked to connect");
        self.reach.probed(event, Instant::now());
        self.publish_addresses();
    }

    pub(super) fn reach_closed(&mut self, id: ConnectionId) {
        self.reach.closed(id, Instant::now());
        self.judge_reach();
    }

    /// Judges anew who can connect to this node, and takes the part in the DHT that follows.
    fn judge_reach(&mut self) {
        let judged = self.reach.judge(self.peers.members() > 0);
        // Others would wait for a server that they cannot reach. On a local network everybody can,
        // and those on the internet do not believe addresses there.
        let reachable = judged.verdict == Verdict::Public
            || !self.reach.sees_internet()
            || self.peers.has_local_member();
        let serves = self.serves_dht && reachable;
        self.swarm.behaviour_mut().dht.serve(serves);
        if *self.reachability.borrow() == judged {
            return;
        }
        tracing::info!(verdict = ?judged.verdict, is_sure = judged.is_sure, "{}", judged.reason);
        self.reachability.send_replace(judged);
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
