//! How near the connected peers are, for those who choose among them.
//!
//! The network task measures and writes; a reader takes the lock for a look. There is one entry for
//! each connected peer that has answered a ping.

use std::{collections::HashMap, sync::Arc};

use libp2p::PeerId;
use parking_lot::RwLock;
use shoal_protocol::near::Nearness;

/// The table. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Nearby {
    peers: Arc<RwLock<HashMap<PeerId, Nearness>>>,
}

impl Nearby {
    pub(super) fn set(&self, peer: PeerId, nearness: Nearness) {
        let mut peers = self.peers.write();
        peers.insert(peer, nearness);
    }

    /// The peer is not connected any more.
    pub(super) fn forget(&self, peer: &PeerId) {
        let mut peers = self.peers.write();
        peers.remove(peer);
    }

    /// How near a peer is; none, where nothing was measured.
    pub(super) fn of(&self, peer: &PeerId) -> Option<Nearness> {
        let peers = self.peers.read();
        peers.get(peer).copied()
    }
}
