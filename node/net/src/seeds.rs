//! Whom to dial to be, and to stay, part of the network: bootstrap peers and peers remembered from
//! earlier runs.
//!
//! Bootstrap peers are dialled whenever they are not connected, with back-off. Remembered peers are
//! dialled only while this node is lonely, the one seen last first. Pure: the clock and randomness
//! come in as arguments. What is remembered is bounded and follows to disk through the journal.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use shoal_protocol::backoff::Backoff;

use super::book::ADDRESSES_MAX;
use super::journal::{KvLog, Writer};
use super::scope::peer_of;

/// Longest pause before a seed is dialled again.
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);

/// Pauses before a seed is dialled again.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), RETRY_MAX);

/// Connected peers below which a node is lonely. The DHT asks three at a time.
const LONELY_PEERS: usize = 3;

/// Seeds that are dialled in one round, so that a start does not burst.
const DIALS_PER_ROUND_MAX: usize = 8;

/// Peers that are remembered. At some 500 bytes each, half a MiB.
const REMEMBERED_MAX: usize = 1024;

/// After how long a peer that is still there is written again, seconds.
const REFRESH_SECS: u64 = 3600;

/// After how long without a sign a remembered peer is forgotten, seconds: 30 days.
const FORGET_SECS: u64 = 30 * 86_400;

/// Version of a row; others are dropped at start.
const ROW_VERSION: u8 = 1;

/// A remembered peer; its row's key is the peer id.
#[derive(Serialize, Deserialize)]
struct Row {
    version: u8,
    /// Seconds since 1970.
    seen: u64,
    addresses: Vec<Vec<u8>>,
}

/// Whom a dial of a round is for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeedDial {
    pub(super) seed: SeedId,
    pub(super) peer: Option<PeerId>,
    pub(super) addresses: Vec<Multiaddr>,
}

/// Names one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SeedId {
    /// By its place in the configuration.
    Bootstrap(usize),
    /// By its id.
    Remembered(PeerId),
}

/// All seeds.
pub(super) struct Seeds {
    bootstrap: Vec<Bootstrap>,
    remembered: HashMap<PeerId, Remembered>,
    writer: Writer,
}

struct Bootstrap {
    address: Multiaddr,
    /// Told by the address, or by who answered there.
    peer: Option<PeerId>,
    retry: Retry,
}

struct Remembered {
    addresses: Vec<Multiaddr>,
    /// Seconds since 1970.
    seen: u64,
    retry: Retry,
}

/// When a seed may be dialled next.
#[derive(Clone, Copy)]
enum Retry {
    /// At once.
    Now,
    /// Not before this, after so many failures.
    At(Instant, u32),
    /// A dial runs, after so many failures.
    Dialling(u32),
}

impl Seeds {
    pub(super) fn new(bootstrap: &[Multiaddr], writer: Writer) -> Self {
        let bootstrap = bootstrap
            .iter()
            .map(|address| Bootstrap {
                address: address.clone(),
                peer: peer_of(address),
                retry: Retry::Now,
            })
            .collect();
        Self {
            bootstrap,
            remembered: HashMap::new(),
            writer,
        }
    }

    /// Reads the remembered peers; rows that are old or make no sense are removed. Blocking.
    pub(super) fn load(&mut self, log: &dyn KvLog, now_unix: u64) -> io::Result<()> {
        log.load(&mut |key, value| {
            let parsed = parse(key, value)
                .filter(|(_, row)| row.seen.saturating_add(FORGET_SECS) > now_unix);
            let Some((peer, row)) = parsed else {
                self.writer.push(key.to_vec(), None);
                return;
            };
            let addresses = row
                .addresses
                .into_iter()
                .filter_map(|bytes| Multiaddr::try_from(bytes).ok());
            let addresses: Vec<Multiaddr> = addresses.take(ADDRESSES_MAX).collect();
            let seen = row.seen.min(now_unix);
            self.remembered.insert(
                peer,
                Remembered {
                    addresses,
                    seen,
                    retry: Retry::Now,
                },
            );
            self.shrink();
        })
    }

    /// Whether there is nobody to join the network by.
    pub(super) fn is_empty(&self) -> bool {
        self.bootstrap.is_empty() && self.remembered.is_empty()
    }

    /// Remembers a peer of this network that is connected, with the addresses that are believed of
    /// it. Of peers that this node did not dial, only so many as leave half of the room: strangers
    /// must not drive out those that are proven.
    pub(super) fn remember(
        &mut self,
        peer: PeerId,
        addresses: &[Multiaddr],
        dialled: bool,
        now_unix: u64,
    ) {
        let known = self.remembered.contains_key(&peer);
        let room = dialled || known || self.remembered.len() < REMEMBERED_MAX / 2;
        if addresses.is_empty() || !room {
            return;
        }
        if let Some(known) = self.remembered.get(&peer)
            && known.addresses == addresses
            && known.seen + REFRESH_SECS > now_unix
        {
            return;
        }
        let row = Row {
            version: ROW_VERSION,
            seen: now_unix,
            addresses: addresses.iter().map(Multiaddr::to_vec).collect(),
        };
        let addresses = addresses.to_vec();
        self.remembered.insert(
            peer,
            Remembered {
                addresses,
                seen: now_unix,
                retry: Retry::Now,
            },
        );
        self.writer
            .push(peer.to_bytes(), postcard::to_allocvec(&row).ok());
        self.shrink();
    }

    /// The dials of one round. `connected` says who is there, `peers` how many.
    pub(super) fn due(
        &mut self,
        now: Instant,
        peers: usize,
        connected: impl Fn(&PeerId) -> bool,
    ) -> Vec<SeedDial> {
        let mut dials = Vec::new();
        for (index, seed) in self.bootstrap.iter_mut().enumerate() {
            if dials.len() < DIALS_PER_ROUND_MAX
                && !seed.peer.is_some_and(|peer| connected(&peer))
                && seed.retry.start(now)
            {
                dials.push(SeedDial {
                    seed: SeedId::Bootstrap(index),
                    peer: peer_of(&seed.address),
                    addresses: vec![seed.address.clone()],
                });
            }
        }
        if peers < LONELY_PEERS {
            let mut newest: Vec<_> = self
                .remembered
                .iter_mut()
                .filter(|(peer, _)| !connected(peer))
                .collect();
            newest.sort_by_key(|(_, seed)| std::cmp::Reverse(seed.seen));
            for (peer, seed) in newest {
                if dials.len() < DIALS_PER_ROUND_MAX && seed.retry.start(now) {
                    dials.push(SeedDial {
                        seed: SeedId::Remembered(*peer),
                        peer: Some(*peer),
                        addresses: seed.addresses.clone(),
                    });
                }
            }
        }
        dials
    }

    /// A dial reached `peer`.
    pub(super) fn succeeded(&mut self, seed: SeedId, peer: PeerId) {
        if let SeedId::Bootstrap(index) = seed
            && let Some(bootstrap) = self.bootstrap.get_mut(index)
        {
            bootstrap.peer = Some(peer);
        }
        if let Some(retry) = self.retry_mut(seed) {
            *retry = Retry::Now;
        }
    }

    /// A dial failed. `random` draws nodes apart that lost the same peer at the same time.
    pub(super) fn failed(&mut self, seed: SeedId, now: Instant, random: u32) {
        if let Some(retry) = self.retry_mut(seed) {
            retry.fail(now, random);
        }
    }

    /// The last connection with a peer ended: it is dialled again, but not at once.
    pub(super) fn lost(&mut self, peer: &PeerId, now: Instant, random: u32) {
        for seed in &mut self.bootstrap {
            if seed.peer == Some(*peer) {
                seed.retry.fail(now, random);
            }
        }
    }

    /// Forgets all pauses: what failed before this machine slept says nothing of now.
    pub(super) fn hurry(&mut self) {
        let bootstrap = self.bootstrap.iter_mut().map(|seed| &mut seed.retry);
        let remembered = self.remembered.values_mut().map(|seed| &mut seed.retry);
        for retry in bootstrap.chain(remembered) {
            if let Retry::At(..) = retry {
                *retry = Retry::Now;
            }
        }
    }

    fn retry_mut(&mut self, seed: SeedId) -> Option<&mut Retry> {
        match seed {
            SeedId::Bootstrap(index) => self.bootstrap.get_mut(index).map(|seed| &mut seed.retry),
            SeedId::Remembered(peer) => self.remembered.get_mut(&peer).map(|seed| &mut seed.retry),
        }
    }

    fn shrink(&mut self) {
        if self.remembered.len() <= REMEMBERED_MAX {
            return;
        }
        let oldest = self
            .remembered
            .iter()
            .min_by_key(|(_, seed)| seed.seen)
            .map(|(peer, _)| *peer);
        if let Some(peer) = oldest {
            self.remembered.remove(&peer);
            self.writer.push(peer.to_bytes(), None);
        }
    }
}

impl Retry {
    /// Turns to dialling if it is time.
    fn start(&mut self, now: Instant) -> bool {
        let failures = match *self {
            Self::Now => 0,
            Self::At(at, failures) if at <= now => failures,
            Self::At(..) | Self::Dialling(_) => return false,
        };
        *self = Self::Dialling(failures);
        true
    }

    fn fail(&mut self, now: Instant, random: u32) {
        let failures = match *self {
            Self::Now => 0,
            Self::At(_, failures) | Self::Dialling(failures) => failures,
        };
        let pause = RETRY.doubled(failures);
        // Up to half a pause more, so that nodes that lost the same peer do not come back together.
        let jitter = pause / 2 * (random % 1024) / 1024;
        *self = Self::At(now + pause + jitter, failures.saturating_add(1));
    }
}

fn parse(key: &[u8], value: &[u8]) -> Option<(PeerId, Row)> {
    let peer = PeerId::from_bytes(key).ok()?;
    let row: Row = postcard::from_bytes(value).ok()?;
    (row.version == ROW_VERSION).then_some((peer, row))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::super::counters::Counters;
    use super::super::journal::Journal;
    use super::super::journal::memory::MemoryLog;
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()
    }

    /// Runs `work` on seeds over `log`, and waits until all is written.
    fn run<T>(log: &MemoryLog, bootstrap: &[Multiaddr], work: impl FnOnce(&mut Seeds) -> T) -> T {
        let journal = Journal::own().unwrap();
        let writer = journal.writer("test", Arc::new(log.clone()), &Counters::default());
        let mut seeds = Seeds::new(bootstrap, writer);
        seeds.load(log, NOW).unwrap();
        let done = work(&mut seeds);
        drop(seeds);
        journal.finish();
        done
    }

    #[test]
    fn back_off_doubles_and_is_bounded() {
        run(&MemoryLog::default(), &[address(1)], |seeds| {
            let mut now = Instant::now();
            let mut pauses = Vec::new();
            for _ in 0..20 {
                assert_eq!(seeds.due(now, 0, |_| false).len(), 1);
                assert!(
                    seeds.due(now, 0, |_| false).is_empty(),
                    "it is being dialled"
                );
                seeds.failed(SeedId::Bootstrap(0), now, 0);
                let pause = (0..).find(|secs| {
                    !seeds
                        .due(now + Duration::from_secs(*secs), 0, |_| false)
                        .is_empty()
                });
                pauses.push(pause.unwrap());
                seeds.failed(SeedId::Bootstrap(0), now, 0);
                now += Duration::from_secs(3600);
            }
            assert_eq!(pauses[..3], [1, 4, 16], "two failures a round");
            assert_eq!(pauses[19], RETRY_MAX.as_secs());
            assert_eq!(seeds.due(now, 0, |_| false).len(), 1);
            seeds.failed(SeedId::Bootstrap(0), now, u32::MAX);
            assert!(
                seeds.due(now + RETRY_MAX, 0, |_| false).is_empty(),
                "drawn apart"
            );
            assert_eq!(seeds.due(now + RETRY_MAX * 3 / 2, 0, |_| false).len(), 1);
        });
    }

    #[test]
    fn a_lost_bootstrap_peer_is_due_again_but_not_at_once() {
        run(&MemoryLog::default(), &[address(1)], |seeds| {
            let (now, peer) = (Instant::now(), PeerId::random());
            assert_eq!(seeds.due(now, 0, |_| false)[0].peer, None);
            seeds.succeeded(SeedId::Bootstrap(0), peer);
            assert!(
                seeds.due(now, 9, |one| *one == peer).is_empty(),
                "it is there"
            );
            seeds.lost(&peer, now, 0);
            assert!(seeds.due(now, 9, |_| false).is_empty());
            assert_eq!(seeds.due(now + RETRY.doubled(0), 9, |_| false).len(), 1);
        });
    }

    #[test]
    fn remembered_peers_are_for_the_lonely_newest_first() {
        let log = MemoryLog::default();
        let (old, new) = (PeerId::random(), PeerId::random());
        run(&log, &[], |seeds| {
            assert!(seeds.is_empty());
            seeds.remember(new, &[address(2)], true, NOW);
            seeds.remember(old, &[address(1)], true, NOW - 100);
            seeds.remember(PeerId::random(), &[], true, NOW);
            seeds.remember(PeerId::random(), &[address(3)], true, NOW - FORGET_SECS);
        });
        run(&log, &[], |seeds| {
            let now = Instant::now();
            assert!(seeds.due(now, LONELY_PEERS, |_| false).is_empty());
            let due: Vec<_> = seeds
                .due(now, 0, |_| false)
                .into_iter()
                .map(|dial| dial.peer)
                .collect();
            assert_eq!(due, [Some(new), Some(old)]);
        });
        assert_eq!(log.rows().len(), 2, "what is too old was removed");
    }

    #[test]
    fn a_peer_seen_at_the_end_of_time_is_one_seen_now() {
        let (log, peer) = (MemoryLog::default(), PeerId::random());
        run(&log, &[], |seeds| {
            seeds.remember(peer, &[address(1)], true, u64::MAX);
        });
        run(&log, &[], |seeds| {
            assert_eq!(seeds.remembered[&peer].seen, NOW);
        });
    }

    #[test]
    fn only_so_many_are_remembered() {
        let log = MemoryLog::default();
        let first = PeerId::random();
        run(&log, &[], |seeds| {
            seeds.remember(first, &[address(1)], true, NOW - 1);
            for _ in 0..REMEMBERED_MAX {
                seeds.remember(PeerId::random(), &[address(1)], true, NOW);
            }
            assert_eq!(seeds.remembered.len(), REMEMBERED_MAX);
            assert!(!seeds.remembered.contains_key(&first));
            let stranger = PeerId::random();
            seeds.remember(stranger, &[address(1)], false, NOW + 1);
            assert!(
                !seeds.remembered.contains_key(&stranger),
                "not dialled, no room"
            );
            assert_eq!(
                seeds.due(Instant::now(), 0, |_| false).len(),
                DIALS_PER_ROUND_MAX
            );
        });
        assert_eq!(log.rows().len(), REMEMBERED_MAX);
    }
}
