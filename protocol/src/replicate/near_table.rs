//! The helpers that are near this node, shaped like a table of Kademlia.
//!
//! Owns which neighbours are kept: of each common prefix with the own position the nearest few, so
//! that a walk finds the closest to any key in a few steps and the table stays small whatever there
//! is near. A node has one table for its LAN and one for everything else that is near. It refuses to
//! know addresses and connections: those are the node's.

use std::cmp::Reverse;
use std::time::Duration;

use super::position::{Distance, Key, PeerKey, Position};

/// The most neighbours of one common prefix. With 4 of each, a walk among 4,000 nodes finds the
/// closest to a key in 3.4 asks on average; with 2 it takes 4.5.
pub const BUCKET_MAX: usize = 4;

/// The most neighbours in all. Among 4,000 near nodes the buckets hold 43; the rest is for chance
/// and for nodes that choose their positions.
pub const TABLE_MAX: usize = 64;

/// How many neighbours there should be before a node looks for others at leisure.
const ENOUGH: usize = 16;

/// How often a peer that a neighbour named is tried, while there are too few and from then on.
const TRY_INTERVALS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(10));

/// A helper that is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The peer.
    pub peer: PeerKey,
    /// Where it stands among the keys.
    pub position: Position,
    /// Its round-trip time.
    pub rtt: Duration,
}

/// The near helpers; see the module's head.
#[derive(Clone, Debug)]
pub struct NearTable {
    own: Position,
    neighbours: Vec<Neighbour>,
}

/// What became of a neighbour that was offered to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is in the table, and so is whoever was there before.
    Added,
    /// It is in the table, in the place of this one.
    Instead(PeerKey),
    /// It is not: those that are in its place are nearer.
    Left,
}

impl NearTable {
    /// A table of the node at this position, without neighbours.
    #[must_use]
    pub fn new(own: Position) -> Self {
        Self {
            own,
            neighbours: Vec::new(),
        }
    }

    /// Puts a neighbour in, or updates its round-trip time.
    pub fn insert(&mut self, neighbour: Neighbour) -> Placed {
        if neighbour.position == self.own {
            return Placed::Left;
        }
        let is_same = |it: &&mut Neighbour| it.peer == neighbour.peer;
        if let Some(known) = self.neighbours.iter_mut().find(is_same) {
            *known = neighbour;
            return Placed::Added;
        }
        let bucket = self.bucket(neighbour.position);
        let in_bucket = self.in_bucket(bucket).count();
        if in_bucket < BUCKET_MAX && self.neighbours.len() < TABLE_MAX {
            self.neighbours.push(neighbour);
            return Placed::Added;
        }
        let (fullest, in_fullest) = self.fullest_bucket();
        let is_rare = in_bucket.saturating_add(1) < in_fullest && in_bucket < BUCKET_MAX;
        let gives_way = self.farthest_in(if is_rare { fullest } else { bucket });
        let is_last = |it: &&mut Neighbour| Some(it.peer) == gives_way;
        match self.neighbours.iter_mut().find(is_last) {
            Some(last) if is_rare || last.rtt > neighbour.rtt => {
                let before = std::mem::replace(last, neighbour);
                Placed::Instead(before.peer)
            }
            _ => Placed::Left,
        }
    }

    /// Takes a peer out: it is gone, far, or helps no longer.
    pub fn remove(&mut self, peer: PeerKey) {
        self.neighbours.retain(|it| it.peer != peer);
    }

    /// How many neighbours there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.neighbours.len()
    }

    /// Whether there is no neighbour.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.neighbours.is_empty()
    }

    /// All neighbours, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.neighbours.iter()
    }

    /// How long to wait before a peer that a neighbour named is tried.
    #[must_use]
    pub fn try_interval(&self) -> Duration {
        match self.neighbours.len() {
            len if len < ENOUGH => TRY_INTERVALS.0,
            _ => TRY_INTERVALS.1,
        }
    }

    /// The neighbours from the closest to the key on, without `except`.
    #[must_use]
    pub fn closest(&self, key: Key, except: Option<PeerKey>) -> Vec<Neighbour> {
        let others = self.neighbours.iter().filter(|it| Some(it.peer) != except);
        let mut all: Vec<_> = others.copied().collect();
        all.sort_by_key(|it| key.distance(it.position));
        all
    }

    /// How many neighbours without `except` are closer to the key than this node: 0 makes it the
    /// first home of the key, 1 the second.
    #[must_use]
    pub fn rank(&self, key: Key, except: Option<PeerKey>) -> usize {
        let own = self.own_distance(key);
        let closer = |it: &&Neighbour| Some(it.peer) != except && key.distance(it.position) < own;
        self.neighbours.iter().filter(closer).count()
    }

    fn own_distance(&self, key: Key) -> Distance {
        key.distance(self.own)
    }

    fn bucket(&self, position: Position) -> u32 {
        self.own.shared_bits(position)
    }

    fn in_bucket(&self, bucket: u32) -> impl Iterator<Item = &Neighbour> {
        let of = move |it: &&Neighbour| self.bucket(it.position) == bucket;
        self.neighbours.iter().filter(of)
    }

    fn farthest_in(&self, bucket: u32) -> Option<PeerKey> {
        let last = self.in_bucket(bucket).max_by_key(|it| (it.rtt, it.peer));
        last.map(|it| it.peer)
    }

    /// The bucket that gives a neighbour up when the whole table is full, and how many it has; of
    /// several as full, the one with the shortest prefix, where there are most nodes to choose from.
    fn fullest_bucket(&self) -> (u32, usize) {
        let buckets = self.neighbours.iter().map(|it| self.bucket(it.position));
        let sized = buckets.map(|it| (self.in_bucket(it).count(), Reverse(it)));
        let (count, Reverse(bucket)) = sized.max().unwrap_or((0, Reverse(0)));
        (bucket, count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(n: u32) -> Position {
        Position::of_peer(&n.to_le_bytes())
    }

    fn neighbour(n: u32, rtt: u64) -> Neighbour {
        Neighbour {
            peer: PeerKey(n),
            position: position(n),
            rtt: Duration::from_millis(rtt),
        }
    }

    proptest! {
        #[test]
        fn keeps_the_nearest_of_each_prefix(rtts in proptest::collection::vec(1..25_u64, 1..400)) {
            let own = position(u32::MAX);
            let mut table = NearTable::new(own);
            let all: Vec<_> = rtts.iter().zip(0..).map(|(rtt, n)| neighbour(n, *rtt)).collect();
            for it in &all {
                table.insert(*it);
                prop_assert!(table.len() <= TABLE_MAX);
            }
            for bits in 0..=256 {
                let in_bucket = |it: &&Neighbour| own.shared_bits(it.position) == bits;
                let mut kept: Vec<_> = table.iter().filter(in_bucket).map(|it| it.rtt).collect();
                let mut best: Vec<_> = all.iter().filter(in_bucket).map(|it| it.rtt).collect();
                kept.sort_unstable();
                best.sort_unstable();
                best.truncate(BUCKET_MAX);
                prop_assert_eq!(kept, best, "prefix of {} bits", bits);
            }
        }

        #[test]
        fn ranks_agree_with_the_order(n in 1..200_u32, key: [u8; 32], except in 0..200_u32) {
            let mut table = NearTable::new(position(u32::MAX));
            for it in 0..n {
                table.insert(neighbour(it, 1));
            }
            let (key, except) = (Key(key), Some(PeerKey(except)));
            let order = table.closest(key, except);
            prop_assert!(order.is_sorted_by_key(|it| key.distance(it.position)));
            prop_assert!(order.iter().all(|it| Some(it.peer) != except));
            let own = key.distance(position(u32::MAX));
            let rank = order.partition_point(|it| key.distance(it.position) < own);
            prop_assert_eq!(table.rank(key, except), rank);
        }
    }

    #[test]
    fn a_full_table_takes_a_rare_prefix_in_place_of_a_common_one() {
        let own = position(u32::MAX);
        let mut table = NearTable::new(own);
        // Positions that share 0 to 19 bits with the own one, 4 of each as far as 64 go.
        let mut made = 0;
        let mut with_bits = |bits: u32| {
            let mut bytes = *own.bytes();
            let at = (bits / 8) as usize;
            bytes[at] ^= 0x80 >> (bits % 8);
            made += 1;
            bytes[31] = u8::try_from(made % 251).unwrap_or_default();
            bytes[30] = u8::try_from(made / 251).unwrap_or_default();
            Neighbour {
                peer: PeerKey(made),
                position: Position::from_bytes(bytes),
                rtt: Duration::from_millis(made.into()),
            }
        };
        for bits in 0..16 {
            for _ in 0..BUCKET_MAX {
                assert_eq!(table.insert(with_bits(bits)), Placed::Added);
            }
        }
        assert_eq!(table.len(), TABLE_MAX);
        assert_eq!(table.insert(with_bits(20)), Placed::Instead(PeerKey(4)));
        assert_eq!(table.insert(with_bits(20)), Placed::Instead(PeerKey(8)));
        assert_eq!(
            table.insert(with_bits(0)),
            Placed::Left,
            "a slower one of a common prefix"
        );
        table.remove(PeerKey(1));
        assert_eq!(table.len(), TABLE_MAX - 1);
        assert_eq!(table.insert(with_bits(0)), Placed::Added);
        assert_eq!(table.try_interval(), TRY_INTERVALS.1);
    }

    #[test]
    fn the_node_itself_is_no_neighbour() {
        let mut table = NearTable::new(position(7));
        assert_eq!(table.insert(neighbour(7, 1)), Placed::Left);
        assert!(table.is_empty());
        assert_eq!(table.try_interval(), TRY_INTERVALS.0);
    }
}
