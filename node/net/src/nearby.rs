//! How near the connected peers are, for those who choose among them.
//!
//! The network task measures and writes; a reader takes the lock for a look. There is one entry for
//! each connected peer that has answered a ping or said what it speaks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use libp2p::PeerId;
use parking_lot::RwLock;
use shoal_protocol::near::Nearness;

/// A connected peer that is near and speaks of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearPeer {
    /// Who.
    pub peer: PeerId,
    /// How near it is; never far.
    pub nearness: Nearness,
    /// The least of its round-trip times in the last ten minutes.
    pub rtt: Duration,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// None until something was measured.
    nearness: Option<Nearness>,
    rtt: Option<Duration>,
    /// Whether it speaks the protocol of replication.
    replicates: bool,
}

/// The table. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Nearby {
    peers: Arc<RwLock<HashMap<PeerId, Seen>>>,
}

impl Nearby {
    /// A peer answered: how near it is by its least round-trip time.
    pub(super) fn set(&self, peer: PeerId, nearness: Nearness, rtt: Option<Duration>) {
        let mut peers = self.peers.write();
        let seen = peers.entry(peer).or_default();
        (seen.nearness, seen.rtt) = (Some(nearness), rtt);
    }

    /// A peer said what it speaks.
    pub(super) fn replicates(&self, peer: PeerId, replicates: bool) {
        self.peers.write().entry(peer).or_default().replicates = replicates;
    }

    /// The peer is not connected any more.
    pub(super) fn forget(&self, peer: &PeerId) {
        self.peers.write().remove(peer);
    }

    /// How near a peer is; none, where nothing was measured.
    pub(super) fn of(&self, peer: &PeerId) -> Option<Nearness> {
        let peers = self.peers.read();
        peers.get(peer)?.nearness
    }

    /// The near peers that speak of replicas, in no order.
    pub(super) fn replicating(&self) -> Vec<NearPeer> {
        let peers = self.peers.read();
        let near = peers.iter().filter(|(_, it)| it.replicates);
        near.filter_map(|(peer, it)| {
            Some(NearPeer {
                peer: *peer,
                nearness: it.nearness.filter(|it| it.is_near())?,
                rtt: it.rtt?,
            })
        })
        .collect()
    }
}
