//! The peers that this node speaks with about replicas: numbers, neighbours, and limits.
//!
//! Owns who has which number ([`Registry`]), which helpers are near ([`People`]), and what they were
//! told. Pure but for the channels of streams that it keeps; it opens none and waits for nothing.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use shoal_protocol::{
    near::Nearness,
    replicate::{
        Candidate, Key, NearTable, Neighbour, PeerKey, PeerLimits, Placed, Position, Response,
        Tellings, Walk,
    },
};
use tokio::sync::mpsc;

use super::link::Link;

/// Peers that have a number, 150 bytes each: 32 times the connections of a node. Those that are
/// spoken with keep theirs.
const NUMBERED_MAX: usize = 16_384;

/// Helpers that neighbours named and that were not tried yet; at most 1.2 KiB each.
const NAMED_MAX: usize = 64;

/// From the end of a stream of ours to a near peer until it is opened anew, while the connection
/// lives: it ended because one side refuses the other, and that lasts.
const REOPEN_AFTER: Duration = Duration::from_secs(30);

/// Numbers for peers: one per peer, never used again for another.
#[derive(Debug, Default)]
pub(super) struct Registry {
    by_peer: HashMap<PeerId, PeerKey>,
    by_key: BTreeMap<PeerKey, PeerId>,
    next: u32,
}

impl Registry {
    /// The number of a peer; it gets one if it has none.
    pub(super) fn key(&mut self, peer: &PeerId) -> PeerKey {
        if let Some(key) = self.by_peer.get(peer) {
            return *key;
        }
        let key = PeerKey(self.next);
        self.next = self.next.saturating_add(1);
        self.by_peer.insert(*peer, key);
        self.by_key.insert(key, *peer);
        key
    }

    /// The peer with a number.
    pub(super) fn peer(&self, key: PeerKey) -> Option<PeerId> {
        self.by_key.get(&key).copied()
    }

    /// Forgets the oldest numbers beyond the limit of peers that are not spoken with.
    fn trim(&mut self, is_spoken_with: impl Fn(&PeerId) -> bool) {
        let excess = self.by_key.len().saturating_sub(NUMBERED_MAX);
        if excess == 0 {
            return;
        }
        let gone: Vec<_> = self
            .by_key
            .iter()
            .filter(|(_, peer)| !is_spoken_with(peer))
            .take(excess)
            .map(|(key, peer)| (*key, *peer))
            .collect();
        for (key, peer) in gone {
            self.by_key.remove(&key);
            self.by_peer.remove(&peer);
        }
    }
}

/// A helper that a neighbour named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) told_by: PeerId,
}

/// The neighbourhood of one kind: the local network, or all else that is near.
#[derive(Debug)]
pub(super) struct Circle {
    pub(super) table: NearTable,
    pub(super) told: Tellings,
}

/// All of them; see the module's head.
pub(super) struct People {
    pub(super) numbers: Registry,
    pub(super) lan: Circle,
    pub(super) near: Circle,
    pub(super) limits: PeerLimits,
    /// Our streams, by the peer.
    pub(super) links: HashMap<PeerId, Link>,
    /// When a stream may be opened again to near peers of which one ended.
    reopen_at: HashMap<PeerId, Duration>,
    /// What waits to be said on the streams of others, by the peer.
    pub(super) callers: HashMap<PeerId, mpsc::Sender<Response>>,
    /// Whether somebody may have to be told what is held.
    pub(super) is_telling_due: bool,
    named: VecDeque<Named>,
    /// When the next of them is tried.
    next_try: Duration,
}

/// The position of a peer among the keys.
pub(super) fn position(peer: &PeerId) -> Position {
    Position::of_peer(&peer.to_bytes())
}

impl People {
    pub(super) fn new(own: &PeerId) -> Self {
        let circle = || Circle {
            table: NearTable::new(position(own)),
            told: Tellings::default(),
        };
        Self {
            numbers: Registry::default(),
            lan: circle(),
            near: circle(),
            limits: PeerLimits::default(),
            links: HashMap::new(),
            reopen_at: HashMap::new(),
            callers: HashMap::new(),
            is_telling_due: false,
            named: VecDeque::new(),
            next_try: Duration::ZERO,
        }
    }

    /// The neighbourhood in which a peer is.
    pub(super) fn circle(&mut self, nearness: Nearness) -> &mut Circle {
        match nearness {
            Nearness::Lan => &mut self.lan,
            Nearness::Near | Nearness::Far => &mut self.near,
        }
    }

    /// A peer that is near helps: it enters its table. Whether the tables have changed.
    pub(super) fn place(&mut self, peer: &PeerId, nearness: Nearness, rtt: Duration) -> bool {
        let key = self.numbers.key(peer);
        let neighbour = Neighbour {
            peer: key,
            position: position(peer),
            rtt,
        };
        let other = match nearness {
            Nearness::Lan => &mut self.near,
            Nearness::Near | Nearness::Far => &mut self.lan,
        };
        other.table.remove(key);
        let table = &mut self.circle(nearness).table;
        let is_known = table.iter().any(|it| it.peer == key);
        let has_changed = table.insert(neighbour) != Placed::Left && !is_known;
        self.is_telling_due |= has_changed;
        has_changed
    }

    /// A peer is gone, far, or helps no longer. Whether the tables have changed.
    pub(super) fn displace(&mut self, peer: &PeerId) -> bool {
        let key = self.numbers.key(peer);
        let before = self.neighbours();
        self.lan.table.remove(key);
        self.near.table.remove(key);
        let has_changed = self.neighbours() != before;
        self.is_telling_due |= has_changed;
        has_changed
    }

    /// Our stream to a peer is over, or of no use any more. Without it nothing is known of what the
    /// peer believes, so it is told all again if it comes back.
    pub(super) fn unlink(&mut self, peer: &PeerId) {
        self.links.remove(peer);
        self.displace(peer);
        let key = self.numbers.key(peer);
        self.lan.told.left(key);
        self.near.told.left(key);
        self.is_telling_due = true;
    }

    /// Makes room for one more stream: the one of a peer that is not in the tables gives way.
    pub(super) fn spare_link(&mut self) {
        let placed = self.placed();
        let spare = self.links.keys().find(|peer| !placed.contains(peer));
        if let Some(spare) = spare.copied() {
            self.unlink(&spare);
        }
    }

    /// Our stream to a peer has ended by itself.
    pub(super) fn link_ended(&mut self, peer: &PeerId, now: Duration) {
        self.unlink(peer);
        self.reopen_at
            .insert(*peer, now.saturating_add(REOPEN_AFTER));
    }

    /// Which of these near peers are to have a stream of ours: those without one, but for those that
    /// have just ended one.
    pub(super) fn greetings_due(&mut self, near: &[PeerId], now: Duration) -> Vec<PeerId> {
        // One that is connected anew begins anew.
        self.reopen_at
            .retain(|peer, at| *at > now && near.contains(peer));
        let is_due =
            |peer: &&PeerId| !self.links.contains_key(peer) && !self.reopen_at.contains_key(peer);
        near.iter().filter(is_due).copied().collect()
    }

    /// How many helpers are near.
    pub(super) fn neighbours(&self) -> usize {
        self.lan.table.len() + self.near.table.len()
    }

    /// The helpers in the tables.
    pub(super) fn placed(&self) -> Vec<PeerId> {
        let all = self.lan.table.iter().chain(self.near.table.iter());
        all.filter_map(|it| self.numbers.peer(it.peer)).collect()
    }

    /// A walk to the homes of a key in one neighbourhood.
    pub(super) fn walk(&mut self, key: Key, nearness: Nearness) -> Walk {
        let closest = self.circle(nearness).table.closest(key, None);
        let from = closest.into_iter().map(|it| Candidate {
            peer: it.peer,
            position: it.position,
        });
        Walk::new(key, from)
    }

    /// Takes note of helpers that a neighbour named and that this node does not speak with.
    pub(super) fn hear_of(&mut self, named: impl IntoIterator<Item = Named>) {
        for named in named {
            let is_known = self.links.contains_key(&named.peer)
                || self.named.iter().any(|it| it.peer == named.peer);
            if !is_known && self.named.len() < NAMED_MAX {
                self.named.push_back(named);
            }
        }
    }

    /// A helper to try now: the latest that was named comes last.
    pub(super) fn next_to_try(&mut self, now: Duration) -> Option<Named> {
        if now < self.next_try {
            return None;
        }
        let named = self.named.pop_front()?;
        self.next_try = now.saturating_add(self.near.table.try_interval());
        Some(named)
    }

    /// Forgets what is beyond the limits.
    pub(super) fn trim(&mut self) {
        let placed = self.placed();
        let (links, callers) = (&self.links, &self.callers);
        self.numbers.trim(|peer| {
            placed.contains(peer) || links.contains_key(peer) || callers.contains_key(peer)
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn people() -> People {
        People::new(&PeerId::random())
    }

    #[test]
    fn a_number_is_never_used_again() {
        let mut people = people();
        let (kept, placed) = (PeerId::random(), PeerId::random());
        let (said, _heard) = mpsc::channel(1);
        people.callers.insert(kept, said);
        let first = people.numbers.key(&kept);
        people.place(&placed, Nearness::Near, Duration::ZERO);
        let second = people.numbers.key(&placed);
        let gone = PeerId::random();
        let third = people.numbers.key(&gone);
        for _ in 0..NUMBERED_MAX {
            people.numbers.key(&PeerId::random());
        }
        people.trim();
        assert_eq!(people.numbers.by_key.len(), NUMBERED_MAX);
        assert_eq!(people.numbers.by_peer.len(), NUMBERED_MAX);
        assert_eq!(
            people.numbers.peer(third),
            None,
            "the oldest that is not spoken with"
        );
        assert_eq!(people.numbers.key(&kept), first);
        assert_eq!(people.numbers.peer(second), Some(placed));
        assert!(people.numbers.key(&gone) > third);
    }

    #[test]
    fn a_helper_is_in_one_table_and_its_homes_are_told_of_changes() {
        let mut people = people();
        let peer = PeerId::random();
        let ms = Duration::from_millis;
        assert!(people.place(&peer, Nearness::Near, ms(5)));
        assert!(std::mem::take(&mut people.is_telling_due));
        assert!(
            !people.place(&peer, Nearness::Near, ms(4)),
            "only its distance"
        );
        assert!(!people.is_telling_due);
        assert!(
            people.place(&peer, Nearness::Lan, ms(1)),
            "it is on the LAN after all"
        );
        assert_eq!((people.lan.table.len(), people.near.table.len()), (1, 0));
        assert_eq!(people.placed(), [peer]);
        assert!(people.displace(&peer) && !people.displace(&peer));
        assert_eq!(people.neighbours(), 0);
    }

    #[test]
    fn a_stream_that_ended_is_opened_again_later_or_on_another_connection() {
        let mut people = people();
        let peer = PeerId::random();
        let at = Duration::from_secs;
        assert_eq!(people.greetings_due(&[peer], at(0)), [peer]);
        people.link_ended(&peer, at(0));
        assert!(people.greetings_due(&[peer], at(1)).is_empty());
        assert_eq!(people.greetings_due(&[peer], at(31)), [peer]);
        people.link_ended(&peer, at(40));
        assert!(people.greetings_due(&[], at(41)).is_empty(), "it is gone");
        assert_eq!(people.greetings_due(&[peer], at(42)), [peer], "it is back");
    }

    #[test]
    fn helpers_that_were_named_are_tried_one_at_a_time() {
        let mut people = people();
        let named = |_| Named {
            peer: PeerId::random(),
            addresses: Vec::new(),
            told_by: PeerId::random(),
        };
        let all: Vec<_> = (0..NAMED_MAX + 1).map(named).collect();
        people.hear_of(all.iter().cloned().chain(all.iter().cloned()));
        assert_eq!(people.named.len(), NAMED_MAX);
        let at = Duration::from_secs;
        assert_eq!(people.next_to_try(at(0)).unwrap().peer, all[0].peer);
        assert!(people.next_to_try(at(9)).is_none());
        assert_eq!(people.next_to_try(at(10)).unwrap().peer, all[1].peer);
    }
}
