//! Where peers can be dialled: what connections, lookups, links and the local network told.
//!
//! Bounded and in memory; what was told last of a peer counts. Nothing here is proven: a dial
//! proves it. Addresses must have been filtered by who told them.

use std::collections::{BTreeMap, HashMap};

use libp2p::{Multiaddr, PeerId};

/// Peers whose addresses are known. At some 500 bytes each, 2 MiB.
const PEERS_MAX: usize = 4096;

/// Addresses per peer, and in one dial. A peer that names more makes us dial no more.
pub(super) const ADDRESSES_MAX: usize = 16;

/// Addresses by peer; the peer that was told of longest ago goes first.
#[derive(Default)]
pub(super) struct Book {
    entries: HashMap<PeerId, Entry>,
    order: BTreeMap<u64, PeerId>,
    next: u64,
}

struct Entry {
    addresses: Vec<Multiaddr>,
    told: u64,
}

impl Book {
    /// Adds addresses of a peer, in front of those that are known.
    pub(super) fn add(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            return;
        }
        if let Some(old) = self.remove(&peer) {
            for address in old {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        let told = self.next;
        self.next += 1;
        self.entries.insert(peer, Entry { addresses, told });
        self.order.insert(told, peer);
        if self.entries.len() > PEERS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// Replaces what is known of a peer by what it says itself.
    pub(super) fn set(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.remove(&peer);
        self.add(peer, addresses);
    }

    /// What is known of a peer, best first.
    pub(super) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        self.entries
            .get(peer)
            .map(|entry| entry.addresses.as_slice())
            .unwrap_or_default()
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, peer: &PeerId) -> Option<Vec<Multiaddr>> {
        let entry = self.entries.remove(peer)?;
        self.order.remove(&entry.told);
        Some(entry.addresses)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn newest_first_once_each_and_bounded() {
        let mut book = Book::default();
        let peer = PeerId::random();
        book.add(peer, vec![address(1), address(2)]);
        book.add(peer, vec![address(3), address(1)]);
        assert_eq!(book.addresses(&peer), [address(3), address(1), address(2)]);
        book.add(peer, (10..99).map(address).collect());
        assert_eq!(book.addresses(&peer).len(), ADDRESSES_MAX);
        book.set(peer, vec![address(5)]);
        assert_eq!(book.addresses(&peer), [address(5)]);
        book.add(peer, Vec::new());
        assert_eq!(book.addresses(&peer), [address(5)]);
        assert_eq!(book.remove(&peer), Some(vec![address(5)]));
        assert!(book.addresses(&peer).is_empty());
    }

    #[test]
    fn the_peer_told_of_longest_ago_goes_first() {
        let mut book = Book::default();
        let (first, second) = (PeerId::random(), PeerId::random());
        book.add(first, vec![address(1)]);
        book.add(second, vec![address(1)]);
        book.add(first, vec![address(2)]);
        for _ in 0..PEERS_MAX - 1 {
            book.add(PeerId::random(), vec![address(1)]);
        }
        assert_eq!(book.entries.len(), PEERS_MAX);
        assert_eq!(book.order.len(), PEERS_MAX);
        assert!(book.addresses(&second).is_empty());
        assert_eq!(book.addresses(&first).len(), 2);
    }
}
