//! How near the connected peers are, for those who choose among them.
//!
//! The network task measures and writes; a reader takes the lock for a look. There is one entry for
//! each connected peer that has answered a ping.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use libp2p::PeerId;
use shoal_protocol::near::Nearness;

/// The table. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Nearby {
    peers: Arc<RwLock<HashMap<PeerId, Nearness>>>,
}

impl Nearby {
    pub(super) fn set(&self, peer: PeerId, nearness: Nearness) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.insert(peer, nearness);
    }

    /// The peer is not connected any more.
    pub(super) fn forget(&self, peer: &PeerId) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        peers.remove(peer);
    }

    /// How near a peer is; far, where nothing was measured.
    pub(super) fn of(&self, peer: &PeerId) -> Nearness {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(peer).copied().unwrap_or_default()
    }
}
