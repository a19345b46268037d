//! Who served bad bytes, and what follows.
//!
//! One bad chunk puts a peer out for its root: disks of honest people rot. Bad chunks for a second
//! root ban the peer from this node for a time.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use libp2p::PeerId;
use parking_lot::Mutex;
use shoal_ground::metrics::Numbers;
use shoal_protocol::address::Cid;

/// How long a peer stays banned that served bad bytes for several roots.
pub(crate) const BAN_TIME: Duration = Duration::from_secs(60 * 60);
/// Different roots with bad bytes before a peer is banned.
const BAD_ROOTS_TO_BAN: usize = 2;
/// Peers remembered; beyond it the book starts anew, which forgives and bounds memory.
const PEERS_REMEMBERED_MAX: usize = 4096;

/// What is held against peers, for as long as the process runs.
#[derive(Debug, Default)]
pub(crate) struct Reputation {
    bad_roots: Mutex<HashMap<PeerId, HashSet<Cid>>>,
    bad_blocks: AtomicU64,
    bans: AtomicU64,
}

impl Reputation {
    /// Notes a bad chunk; true when the peer is to be banned.
    pub(crate) fn bad_chunk(&self, peer: PeerId, root: &Cid) -> bool {
        let mut peers = self.bad_roots.lock();
        if peers.len() >= PEERS_REMEMBERED_MAX && !peers.contains_key(&peer) {
            peers.clear();
        }
        let roots = peers.entry(peer).or_default();
        if roots.len() < BAD_ROOTS_TO_BAN {
            roots.insert(root.clone());
        }
        let ban = roots.len() >= BAD_ROOTS_TO_BAN;
        self.bad_blocks.fetch_add(1, Relaxed);
        self.bans.fetch_add(u64::from(ban), Relaxed);
        ban
    }

    /// Adds its numbers.
    pub(crate) fn measure(&self, numbers: &mut Numbers) {
        numbers.counter(
            "shoal_fetch_bad_blocks",
            "Blocks that were not what their address says.",
            self.bad_blocks.load(Relaxed),
        );
        numbers.counter(
            "shoal_fetch_bans",
            "Bans of peers that served such blocks for several roots.",
            self.bans.load(Relaxed),
        );
    }

    /// Whether the peer served bad bytes for this root before.
    pub(crate) fn is_out(&self, peer: &PeerId, root: &Cid) -> bool {
        let peers = self.bad_roots.lock();
        peers.get(peer).is_some_and(|roots| roots.contains(root))
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::address::{Digest, HashFn};

    use super::*;

    #[test]
    fn one_root_is_forgiven_two_are_not() {
        let cid = |name: &str| Cid::raw(Digest::of(HashFn::Blake3, name.as_bytes()));
        let (book, peer, other) = (Reputation::default(), PeerId::random(), PeerId::random());
        assert!(!book.bad_chunk(peer, &cid("a")));
        assert!(
            !book.bad_chunk(peer, &cid("a")),
            "the same root again is the same offence"
        );
        assert!(book.is_out(&peer, &cid("a")) && !book.is_out(&peer, &cid("b")));
        assert!(!book.bad_chunk(other, &cid("b")), "peers are held apart");
        assert!(book.bad_chunk(peer, &cid("b")));
    }
}
