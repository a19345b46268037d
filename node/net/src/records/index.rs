//! The provider records of others, in memory: who may leave how many, and which go first under
//! pressure.
//!
//! Pure: seconds of a clock come in as arguments. Invariants: every key has at least one holder and
//! one place in `by_distance`; a source's `records` is the number of its holders; `total` is their
//! sum.

use std::collections::{BTreeMap, HashMap};

use libp2p::kad::{KBucketDistance, KBucketKey, RecordKey};
use libp2p::{Multiaddr, PeerId};

use super::Key;

/// Providers that are kept of one key. An answer names 20 of them, picked at random, so a popular
/// root spreads its fetchers over 64.
pub(super) const PROVIDERS_PER_KEY_MAX: usize = 64;

/// Addresses that are kept of one provider: TCP and QUIC, both families, two interfaces.
pub(super) const ADDRESSES_PER_PROVIDER_MAX: usize = 8;

/// Share of all records that one source may have while there is room: a quarter.
const RELAXED_SHARE: usize = 4;

/// Share of all records that one source may have when half of the room is taken: 1/64, 2048 of 128
/// Ki.
const STRICT_SHARE: usize = 64;

/// The records of others.
pub(super) struct Index {
    local: KBucketKey<PeerId>,
    capacity: usize,
    keys: HashMap<Key, Vec<Holder>>,
    /// Keys by their distance to this node; the farthest go first.
    by_distance: BTreeMap<KBucketDistance, Key>,
    sources: Sources,
    total: usize,
}

/// One provider of one key.
struct Holder {
    source: SourceId,
    /// Seconds.
    expires: u64,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// New, or renewed.
    Stored,
    /// The source has as many records here as it may.
    SourceFull,
    /// The key has as many providers as it may.
    KeyFull,
    /// There is no room, and every key that is held is nearer.
    TooFar,
}

impl Index {
    pub(super) fn new(local: PeerId, capacity: usize) -> Self {
        Self {
            local: KBucketKey::from(local),
            capacity,
            keys: HashMap::new(),
            by_distance: BTreeMap::new(),
            sources: Sources::default(),
            total: 0,
        }
    }

    /// Adds or renews a record; `evicted` is told of those that had to go for it.
    pub(super) fn insert(
        &mut self,
        key: Key,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        expires: u64,
        mut evicted: impl FnMut(Key, PeerId),
    ) -> Admission {
        if let Some(source) = self.sources.find(&peer)
            && let Some(holders) = self.keys.get_mut(&key)
            && let Some(holder) = holders.iter_mut().find(|holder| holder.source == source)
        {
            holder.expires = expires;
            self.sources.set_addresses(source, addresses);
            return Admission::Stored;
        }
        if self.sources.records(&peer) >= self.quota() {
            return Admission::SourceFull;
        }
        let held = self.keys.get(&key).map_or(0, Vec::len);
        if held >= PROVIDERS_PER_KEY_MAX {
            return Admission::KeyFull;
        }
        if !self.make_room(&key, &mut evicted) {
            return Admission::TooFar;
        }
        let source = self.sources.add_record(peer);
        self.sources.set_addresses(source, addresses);
        self.by_distance.insert(self.distance(&key), key);
        self.keys
            .entry(key)
            .or_default()
            .push(Holder { source, expires });
        self.total += 1;
        Admission::Stored
    }

    /// The providers of `key` that have not expired, in no order.
    pub(super) fn holders(&self, key: &Key, now: u64) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let holders = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        let live = holders.iter().filter(|holder| holder.expires > now);
        live.filter_map(|holder| self.sources.get(holder.source))
            .map(|source| (source.peer, source.addresses.clone()))
            .collect()
    }

    /// Where a provider of any key said that it is.
    pub(super) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        let source = self.sources.find(peer).and_then(|id| self.sources.get(id));
        source
            .map(|source| source.addresses.as_slice())
            .unwrap_or_default()
    }

    /// Removes one record; says whether there was one.
    pub(super) fn remove(&mut self, key: &Key, peer: &PeerId) -> bool {
        let Some(source) = self.sources.find(peer) else {
            return false;
        };
        let before = self.total;
        self.retain_of(*key, |holder| holder.source != source, |_, _| {});
        self.total < before
    }

    /// Removes what has expired, and tells of it.
    pub(super) fn sweep(&mut self, now: u64, mut expired: impl FnMut(Key, PeerId)) {
        let due = |holders: &Vec<Holder>| holders.iter().any(|holder| holder.expires <= now);
        let keys: Vec<Key> = self
            .keys
            .iter()
            .filter(|(_, holders)| due(holders))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.retain_of(key, |holder| holder.expires > now, &mut expired);
        }
    }

    /// Records in all.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Records that one source may have: generous while there is room, for one honest node may
    /// share much.
    fn quota(&self) -> usize {
        let share = if self.total < self.capacity / 2 {
            RELAXED_SHARE
        } else {
            STRICT_SHARE
        };
        (self.capacity / share).max(1)
    }

    /// Drops the farthest keys until one more record fits; not those nearer than `key`.
    fn make_room(&mut self, key: &Key, evicted: &mut impl FnMut(Key, PeerId)) -> bool {
        while self.total >= self.capacity {
            let Some((farthest, victim)) = self.by_distance.last_key_value() else {
                return false;
            };
            if *farthest <= self.distance(key) {
                return false;
            }
            self.retain_of(*victim, |_| false, &mut *evicted);
        }
        true
    }

    /// Keeps the holders of one key that pass, tells of the others, and takes them out of every
    /// count.
    fn retain_of(
        &mut self,
        key: Key,
        keep: impl Fn(&Holder) -> bool,
        mut gone: impl FnMut(Key, PeerId),
    ) {
        let Some(holders) = self.keys.get_mut(&key) else {
            return;
        };
        holders.retain(|holder| {
            let kept = keep(holder);
            if !kept {
                self.total -= 1;
                if let Some(peer) = self.sources.drop_record(holder.source) {
                    gone(key, peer);
                }
            }
            kept
        });
        if holders.is_empty() {
            self.keys.remove(&key);
            self.by_distance.remove(&self.distance(&key));
        }
    }

    fn distance(&self, key: &Key) -> KBucketDistance {
        self.local.distance(&KBucketKey::from(RecordKey::new(key)))
    }
}

type SourceId = u32;

/// Who left records here, once each: a peer id has 80 bytes and addresses have more.
#[derive(Default)]
struct Sources {
    ids: HashMap<PeerId, SourceId>,
    slots: Vec<Option<Source>>,
    free: Vec<SourceId>,
}

struct Source {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    records: usize,
}

impl Sources {
    fn find(&self, peer: &PeerId) -> Option<SourceId> {
        self.ids.get(peer).copied()
    }

    fn get(&self, id: SourceId) -> Option<&Source> {
        self.slots.get(id as usize).and_then(Option::as_ref)
    }

    fn records(&self, peer: &PeerId) -> usize {
        self.find(peer)
            .and_then(|id| self.get(id))
            .map_or(0, |source| source.records)
    }

    fn set_addresses(&mut self, id: SourceId, mut addresses: Vec<Multiaddr>) {
        addresses.truncate(ADDRESSES_PER_PROVIDER_MAX);
        if let Some(Some(source)) = self.slots.get_mut(id as usize) {
            source.addresses = addresses;
        }
    }

    /// Counts one more record of `peer`, which becomes a source if it is none.
    fn add_record(&mut self, peer: PeerId) -> SourceId {
        if let Some(id) = self.find(&peer) {
            if let Some(Some(source)) = self.slots.get_mut(id as usize) {
                source.records += 1;
            }
            return id;
        }
        let source = Some(Source {
            peer,
            addresses: Vec::new(),
            records: 1,
        });
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = source;
                id
            }
            None => {
                self.slots.push(source);
                // There are at most as many sources as records, far below 2^32.
                SourceId::try_from(self.slots.len() - 1).unwrap_or(SourceId::MAX)
            }
        };
        self.ids.insert(peer, id);
        id
    }

    /// Counts one record less; the last one takes the source with it. Says whose it was.
    fn drop_record(&mut self, id: SourceId) -> Option<PeerId> {
        let slot = self.slots.get_mut(id as usize)?;
        let source = slot.as_mut()?;
        let peer = source.peer;
        source.records -= 1;
        if source.records == 0 {
            *slot = None;
            self.ids.remove(&peer);
            self.free.push(id);
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key(n: u32) -> Key {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        key
    }

    fn index(capacity: usize) -> Index {
        Index::new(PeerId::random(), capacity)
    }

    fn insert(index: &mut Index, n: u32, peer: PeerId, expires: u64) -> Admission {
        let admission = index.insert(key(n), peer, Vec::new(), expires, |_, _| {});
        assert_sound(index);
        admission
    }

    /// The invariants of the module head.
    fn assert_sound(index: &Index) {
        let held: usize = index.keys.values().map(Vec::len).sum();
        assert_eq!(index.total, held);
        assert!(index.total <= index.capacity);
        assert_eq!(index.by_distance.len(), index.keys.len());
        assert!(
            index
                .by_distance
                .values()
                .all(|key| index.keys.contains_key(key))
        );
        let live: Vec<&Source> = index.sources.slots.iter().flatten().collect();
        assert_eq!(
            live.iter().map(|source| source.records).sum::<usize>(),
            held
        );
        assert_eq!(live.len(), index.sources.ids.len());
        assert_eq!(
            live.len() + index.sources.free.len(),
            index.sources.slots.len()
        );
    }

    #[test]
    fn a_source_gets_a_share_and_less_under_pressure() {
        let mut index = index(256);
        let greedy = PeerId::random();
        let taken = (0..256)
            .take_while(|n| insert(&mut index, *n, greedy, 9) == Admission::Stored)
            .count();
        assert_eq!(taken, 64, "a quarter while there is room");
        for n in 0..64 {
            insert(&mut index, 1000 + n, PeerId::random(), 9);
        }
        let late = PeerId::random();
        let taken = (0..256)
            .take_while(|n| insert(&mut index, 2000 + n, late, 9) == Admission::Stored)
            .count();
        assert_eq!(taken, 4, "a 64th when half is taken");
        assert_eq!(
            insert(&mut index, 0, greedy, 10),
            Admission::Stored,
            "renewing is no addition"
        );
    }

    #[test]
    fn a_key_has_so_many_providers_at_most() {
        let mut index = index(1024);
        for _ in 0..PROVIDERS_PER_KEY_MAX {
            assert_eq!(
                insert(&mut index, 1, PeerId::random(), 9),
                Admission::Stored
            );
        }
        assert_eq!(
            insert(&mut index, 1, PeerId::random(), 9),
            Admission::KeyFull
        );
        assert_eq!(index.holders(&key(1), 0).len(), PROVIDERS_PER_KEY_MAX);
    }

    #[test]
    fn nearer_keys_push_out_farther_ones() {
        let mut index = index(32);
        let mut keys: Vec<u32> = (0..64).collect();
        keys.sort_by_key(|n| std::cmp::Reverse(index.distance(&key(*n))));
        for n in &keys[..32] {
            assert_eq!(
                insert(&mut index, *n, PeerId::random(), 9),
                Admission::Stored
            );
        }
        let mut gone = Vec::new();
        for n in &keys[32..] {
            let admission = index.insert(key(*n), PeerId::random(), Vec::new(), 9, |key, _| {
                gone.push(key);
            });
            assert_eq!(admission, Admission::Stored);
        }
        assert_eq!(
            gone,
            keys[..32].iter().map(|n| key(*n)).collect::<Vec<_>>(),
            "farthest first"
        );
        assert_eq!(
            insert(&mut index, keys[0], PeerId::random(), 9),
            Admission::TooFar
        );
        assert_eq!(index.len(), 32);
    }

    #[test]
    fn expired_records_are_not_named_and_swept() {
        let mut index = index(256);
        let (short, long) = (PeerId::random(), PeerId::random());
        insert(&mut index, 1, short, 10);
        insert(&mut index, 1, long, 20);
        insert(&mut index, 2, short, 10);
        assert_eq!(index.holders(&key(1), 10).len(), 1);
        let mut gone = Vec::new();
        index.sweep(10, |key, peer| gone.push((key, peer)));
        assert_sound(&index);
        gone.sort();
        assert_eq!(gone, [(key(1), short), (key(2), short)]);
        assert_eq!(index.len(), 1);
        insert(&mut index, 1, long, 30);
        index.sweep(20, |_, _| panic!("was renewed"));
        assert!(index.remove(&key(1), &long));
        assert!(!index.remove(&key(1), &long));
        assert_eq!((index.len(), index.sources.ids.len()), (0, 0));
        assert_sound(&index);
    }

    #[test]
    fn a_provider_has_the_addresses_it_said_last() {
        let mut index = index(256);
        let peer = PeerId::random();
        let address = |port: u16| {
            format!("/ip4/8.8.8.8/tcp/{port}")
                .parse::<Multiaddr>()
                .unwrap()
        };
        let many: Vec<Multiaddr> = (1..20).map(address).collect();
        index.insert(key(1), peer, many, 9, |_, _| {});
        assert_eq!(
            index.holders(&key(1), 0)[0].1.len(),
            ADDRESSES_PER_PROVIDER_MAX
        );
        index.insert(key(2), peer, vec![address(7)], 9, |_, _| {});
        assert_eq!(index.holders(&key(1), 0), [(peer, vec![address(7)])]);
    }
}
