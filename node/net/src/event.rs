//! What the network tells of itself: what happens in it, and where this node is.

use libp2p::{Multiaddr, PeerId};

use super::{Key, Scope};

/// What happens in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// A peer of this network is connected and has said what it speaks.
    PeerConnected {
        /// Who.
        peer: PeerId,
    },
    /// The last connection with a peer of this network has ended.
    PeerDisconnected {
        /// Who.
        peer: PeerId,
    },
    /// This node listens somewhere else; see [`Net::addresses`](super::Net::addresses).
    AddressesChanged,
    /// Peers were sent word that this node provides a key. The DHT has no receipt: it is with them
    /// within moments.
    Announced {
        /// The key.
        key: Key,
        /// How many peers.
        peers: usize,
    },
}

/// Where this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Where it listens, all interfaces.
    pub listen: Vec<Multiaddr>,
    /// What it tells others, without `/p2p/…`: what the configuration says, then what leads
    /// somewhere, TCP before QUIC, then the rest.
    pub external: Vec<Multiaddr>,
    /// Those of them that belong into a link: without loopback and this machine's own containers,
    /// unless there is nothing else.
    pub linked: Vec<Multiaddr>,
    /// The widest scope of these; `None` when it listens nowhere.
    pub scope: Option<Scope>,
}
