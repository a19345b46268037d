//! The record store of the DHT: who provides what, kept across restarts.
//!
//! Owns this node's own provider records and those that others left here, apart from each other:
//! strangers can neither crowd out nor count against what this node announces. Value records are
//! refused; this network has none. Memory is the truth while running; the disk follows through the
//! journal and is read once at start. Own records carry no addresses: whoever answers for them
//! fills in those of that moment.

mod index;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{K_VALUE, ProviderRecord, Record, RecordKey};
use libp2p::{Multiaddr, PeerId};
use rand::seq::IteratorRandom;
use serde::{Deserialize, Serialize};

use self::index::{Admission, Index};
use super::counters::Counters;
use super::journal::{KvLog, Writer};

/// A DHT key of this network: `shoal_protocol::dht::key` of a root.
pub type Key = [u8; 32];

/// First byte of the key of an own row: `o`, DHT key. Value: [`OwnRow`].
const OWN: u8 = b'o';

/// First byte of the key of a row of others: `f`, DHT key, peer id. Value: [`ForeignRow`].
const FOREIGN: u8 = b'f';

/// Version of both rows; rows of another version are dropped at start, for they can be announced
/// again.
const ROW_VERSION: u8 = 1;

/// When an own key was announced last.
#[derive(Serialize, Deserialize)]
struct OwnRow {
    version: u8,
    /// Seconds since 1970.
    announced: u64,
}

/// A record of somebody else.
#[derive(Serialize, Deserialize)]
struct ForeignRow {
    version: u8,
    /// Seconds since 1970.
    expires: u64,
    addresses: Vec<Vec<u8>>,
}

/// The store.
pub(super) struct Records {
    local: PeerId,
    clock: Clock,
    ttl: Duration,
    /// Own keys that are provided now.
    own: HashSet<Key>,
    foreign: Index,
    writer: Writer,
    counters: Counters,
}

/// What was remembered of own announcements: key and seconds since 1970.
pub(super) type Announced = HashMap<Key, u64>;

impl Records {
    pub(super) fn new(
        local: PeerId,
        capacity: usize,
        ttl: Duration,
        writer: Writer,
        counters: Counters,
    ) -> Self {
        Self {
            local,
            clock: Clock::start(),
            ttl,
            own: HashSet::new(),
            foreign: Index::new(local, capacity),
            writer,
            counters,
        }
    }

    /// Reads what was kept: records of others that have time left come back, and when own keys were
    /// announced last is returned. Rows that have expired or make no sense are removed. Blocking.
    pub(super) fn load(&mut self, log: &dyn KvLog) -> io::Result<Announced> {
        let now = self.clock.now();
        let mut announced = Announced::new();
        log.load(&mut |key, value| {
            let kept = match parse_own(key, value) {
                Some((own, at)) if at.saturating_add(self.ttl.as_secs()) > now => {
                    announced.insert(own, at);
                    true
                }
                Some(_) => false,
                None => self.restore(key, value, now),
            };
            if !kept {
                self.writer.push(key.to_vec(), None);
            }
        })?;
        Ok(announced)
    }

    fn restore(&mut self, key: &[u8], value: &[u8], now: u64) -> bool {
        let Some((key, peer, row)) = parse_foreign(key, value) else {
            return false;
        };
        // A clock that went back must not make a record live longer than a fresh one.
        let expires = row.expires.min(now.saturating_add(self.ttl.as_secs()));
        if expires <= now {
            return false;
        }
        let addresses = row
            .addresses
            .into_iter()
            .filter_map(|bytes| Multiaddr::try_from(bytes).ok());
        let addresses: Vec<Multiaddr> = addresses.collect();
        self.foreign
            .insert(key, peer, addresses, expires, |_, _| {})
            == Admission::Stored
    }

    /// Keeps a record of somebody else. `addresses` must have been filtered.
    pub(super) fn add_foreign(&mut self, key: &RecordKey, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(key) = parse_key(key) else {
            self.counters.records_refused.add();
            return;
        };
        let expires = self.clock.now().saturating_add(self.ttl.as_secs());
        let row = ForeignRow {
            version: ROW_VERSION,
            expires,
            addresses: addresses.iter().map(Multiaddr::to_vec).collect(),
        };
        let (writer, counters) = (&self.writer, &self.counters);
        let evicted = |key: Key, peer: PeerId| {
            counters.records_evicted.add();
            writer.push(foreign_key(&key, &peer), None);
        };
        match self.foreign.insert(key, peer, addresses, expires, evicted) {
            Admission::Stored => writer.push(foreign_key(&key, &peer), encode(&row)),
            Admission::SourceFull | Admission::KeyFull | Admission::TooFar => {
                counters.records_refused.add();
            }
        }
    }

    /// Provides a key from now on: whoever asks this node for it is told so.
    pub(super) fn provide(&mut self, key: Key) {
        self.own.insert(key);
    }

    /// Where a peer that left records here said that it is.
    pub(super) fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        self.foreign.addresses(peer)
    }

    /// Remembers that an own key was announced.
    pub(super) fn mark_announced(&mut self, key: &Key, at: u64) {
        if self.own.contains(key) {
            let row = OwnRow {
                version: ROW_VERSION,
                announced: at,
            };
            self.writer.push(own_key(key), encode(&row));
        }
    }

    /// Forgets an own key, here and on disk.
    pub(super) fn withdraw(&mut self, key: &Key) {
        self.own.remove(key);
        self.writer.push(own_key(key), None);
    }

    /// Drops records of others that have expired. Milliseconds of work with a full store; to be
    /// called every some minutes.
    pub(super) fn sweep(&mut self) {
        let now = self.clock.now();
        let writer = &self.writer;
        self.foreign
            .sweep(now, |key, peer| writer.push(foreign_key(&key, &peer), None));
    }

    /// How many records of others are held.
    pub(super) fn foreign_len(&self) -> usize {
        self.foreign.len()
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    /// Called by the DHT for own records only: those of others are filtered first and come by
    /// [`Self::add_foreign`].
    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        match parse_key(&record.key) {
            Some(key) if record.provider == self.local => {
                self.provide(key);
                Ok(())
            }
            _ => Err(Error::MaxProvidedKeys),
        }
    }

    /// This node first if it provides the key, then others in random order, as many as an answer
    /// takes.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let Some(parsed) = parse_key(key) else {
            return Vec::new();
        };
        let record = |peer, addresses| ProviderRecord::new(key.clone(), peer, addresses);
        let own = self
            .own
            .contains(&parsed)
            .then(|| record(self.local, Vec::new()));
        let others = self.foreign.holders(&parsed, self.clock.now()).into_iter();
        let others = others.sample(&mut rand::rng(), K_VALUE.get());
        own.into_iter()
            .chain(others.into_iter().map(|(peer, said)| record(peer, said)))
            .collect()
    }

    /// None: republishing is the announcer's.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        let Some(key) = parse_key(key) else { return };
        if *peer == self.local {
            self.withdraw(&key);
        } else if self.foreign.remove(&key, peer) {
            self.writer.push(foreign_key(&key, peer), None);
        }
    }
}

/// Seconds since 1970 that never go back or jump while the process runs: the wall clock is read
/// once.
struct Clock {
    started: Instant,
    started_unix: u64,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            started_unix: unix_now(),
        }
    }

    fn now(&self) -> u64 {
        self.started_unix + self.started.elapsed().as_secs()
    }
}

/// The wall clock in seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn parse_key(key: &RecordKey) -> Option<Key> {
    Key::try_from(key.as_ref()).ok()
}

fn own_key(key: &Key) -> Vec<u8> {
    [&[OWN][..], key].concat()
}

fn foreign_key(key: &Key, peer: &PeerId) -> Vec<u8> {
    [&[FOREIGN][..], key, &peer.to_bytes()].concat()
}

fn encode(row: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_allocvec(row).ok()
}

fn parse_own(key: &[u8], value: &[u8]) -> Option<(Key, u64)> {
    let key = Key::try_from(key.strip_prefix(&[OWN])?).ok()?;
    let row: OwnRow = postcard::from_bytes(value).ok()?;
    (row.version == ROW_VERSION).then_some((key, row.announced))
}

fn parse_foreign(key: &[u8], value: &[u8]) -> Option<(Key, PeerId, ForeignRow)> {
    let (key, peer) = key.strip_prefix(&[FOREIGN])?.split_first_chunk::<32>()?;
    let peer = PeerId::from_bytes(peer).ok()?;
    let row: ForeignRow = postcard::from_bytes(value).ok()?;
    (row.version == ROW_VERSION).then_some((*key, peer, row))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::super::journal::Journal;
    use super::super::journal::memory::MemoryLog;
    use super::*;

    const TTL: Duration = Duration::from_secs(1000);
    const CAPACITY: usize = 256;

    /// Runs `work` on a store over `log`, and waits until all is written.
    fn run<T>(
        log: &MemoryLog,
        local: PeerId,
        work: impl FnOnce(&mut Records, Announced) -> T,
    ) -> T {
        let counters = Counters::default();
        let journal = Journal::own().unwrap();
        let writer = journal.writer("test", Arc::new(log.clone()), &counters);
        let mut records = Records::new(local, CAPACITY, TTL, writer, counters);
        let announced = records.load(log).unwrap();
        let done = work(&mut records, announced);
        drop(records);
        journal.finish();
        done
    }

    fn dht_key(n: u16) -> RecordKey {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        RecordKey::new(&key)
    }

    #[test]
    fn strangers_never_crowd_out_own_records() {
        let local = PeerId::random();
        run(&MemoryLog::default(), local, |records, _| {
            for n in 0..1000 {
                records.add_foreign(&dht_key(n), PeerId::random(), Vec::new());
            }
            assert_eq!(records.foreign_len(), CAPACITY);
            for n in 0..2000 {
                records
                    .add_provider(ProviderRecord::new(dht_key(n), local, Vec::new()))
                    .unwrap();
            }
            for n in 0..1000 {
                records.add_foreign(&dht_key(n), PeerId::random(), Vec::new());
            }
            for n in 0..2000 {
                assert_eq!(records.providers(&dht_key(n))[0].provider, local);
            }
            assert_eq!(
                records.foreign_len(),
                CAPACITY,
                "own records count for themselves"
            );
        });
    }

    #[test]
    fn only_what_was_filtered_is_kept() {
        let local = PeerId::random();
        run(&MemoryLog::default(), local, |records, _| {
            let foreign = ProviderRecord::new(dht_key(1), PeerId::random(), Vec::new());
            assert!(records.add_provider(foreign).is_err());
            assert!(records.put(Record::new(dht_key(1), vec![1])).is_err());
            assert!(records.get(&dht_key(1)).is_none());
            records.add_foreign(&RecordKey::new(&[1; 31]), PeerId::random(), Vec::new());
            records.add_foreign(&RecordKey::new(&[1; 33]), PeerId::random(), Vec::new());
            assert_eq!(records.foreign_len(), 0);
            assert_eq!(records.counters.snapshot().records_refused, 2);
        });
    }

    #[test]
    fn an_answer_names_at_most_twenty_others() {
        let local = PeerId::random();
        run(&MemoryLog::default(), local, |records, _| {
            for _ in 0..40 {
                records.add_foreign(&dht_key(1), PeerId::random(), Vec::new());
            }
            assert_eq!(records.providers(&dht_key(1)).len(), K_VALUE.get());
        });
    }

    #[test]
    fn restart_brings_back_what_has_time_left() {
        let (log, local, peer) = (MemoryLog::default(), PeerId::random(), PeerId::random());
        let address: Multiaddr = "/ip4/8.8.8.8/tcp/4".parse().unwrap();
        run(&log, local, |records, announced| {
            assert!(announced.is_empty());
            records.add_foreign(&dht_key(1), peer, vec![address.clone()]);
            records.add_foreign(&dht_key(2), peer, Vec::new());
            records.remove_provider(&dht_key(2), &peer);
            for n in [3, 4] {
                records
                    .add_provider(ProviderRecord::new(dht_key(n), local, Vec::new()))
                    .unwrap();
                records.mark_announced(&parse_key(&dht_key(n)).unwrap(), unix_now());
            }
            records.withdraw(&parse_key(&dht_key(4)).unwrap());
        });
        assert_eq!(log.rows().len(), 2);
        run(&log, local, |records, announced| {
            let [record] = &records.providers(&dht_key(1))[..] else {
                panic!("one record")
            };
            assert_eq!(
                (record.provider, &record.addresses),
                (peer, &vec![address.clone()])
            );
            assert_eq!(
                announced.into_keys().collect::<Vec<_>>(),
                [parse_key(&dht_key(3)).unwrap()]
            );
            assert!(
                records.providers(&dht_key(3)).is_empty(),
                "not provided before it is added"
            );
        });
    }

    #[test]
    fn rows_that_expired_or_make_no_sense_are_removed() {
        let (log, local, peer) = (MemoryLog::default(), PeerId::random(), PeerId::random());
        let now = unix_now();
        let foreign = |version, expires| {
            encode(&ForeignRow {
                version,
                expires,
                addresses: Vec::new(),
            })
        };
        let own = |announced| {
            encode(&OwnRow {
                version: ROW_VERSION,
                announced,
            })
        };
        let rows = [
            (foreign_key(&[1; 32], &peer), foreign(ROW_VERSION, now - 1)),
            (
                foreign_key(&[2; 32], &peer),
                foreign(ROW_VERSION + 1, now + 100),
            ),
            (foreign_key(&[3; 32], &peer), Some(vec![0xff; 3])),
            (own_key(&[4; 32]), own(now - TTL.as_secs() - 1)),
            (own_key(&[6; 32]), own(u64::MAX)),
            (vec![FOREIGN, 1, 2], foreign(ROW_VERSION, now + 100)),
            (b"?".to_vec(), Some(Vec::new())),
            (foreign_key(&[5; 32], &peer), foreign(ROW_VERSION, u64::MAX)),
        ];
        let changes = rows.map(|(key, value)| super::super::Change { key, value });
        log.write(&changes).unwrap();
        run(&log, local, |records, announced| {
            let future = announced.into_values().collect::<Vec<_>>();
            assert_eq!(future, [u64::MAX], "a clock that was set back");
            assert_eq!(records.foreign_len(), 1);
        });
        assert_eq!(log.rows().len(), 2, "only those that have time left");
    }
}
