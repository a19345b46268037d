//! A network of virtual nodes: real helpers, near tables and walks, with everything between them
//! made up. A file is one leaf and one run; what is asked for arrives at once. Time is the caller's.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod misuse;
mod zipf;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::helper::{Around, Ask, Helper, HelperConfig, Offered, Said};
use super::*;
use crate::exchange::LeafRanges;

pub(super) const FILE_BYTES: u64 = 1 << 20;

/// What every file is like.
pub(super) const FILE: Shape = Shape {
    leaves: 1,
    size: FILE_BYTES,
};

/// Numbers that a seed repeats: SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        super::asker::mix(self.0)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Less than one.
    pub(super) fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

pub(super) fn peer(n: usize) -> PeerKey {
    PeerKey(n as u32)
}

pub(super) fn position(n: usize) -> Position {
    Position::of_peer(&(n as u64).to_le_bytes())
}

pub(super) fn key(file: usize) -> Key {
    Key(blake3::derive_key(
        "files of a simulation",
        &(file as u64).to_le_bytes(),
    ))
}

/// Every node is a household with a prefix of its own.
pub(super) fn asker(n: usize) -> Asker {
    let ip = Ipv4Addr::new(100 + (n >> 16) as u8, (n >> 8) as u8, n as u8, 1);
    Asker {
        position: position(n),
        origin: Origin::Elsewhere(IpAddr::V4(ip)),
    }
}

/// Some regions of so many nodes each, which are near each other and far from all others.
pub(super) struct World {
    pub(super) per_region: usize,
    pub(super) helpers: Vec<Helper>,
    pub(super) tables: Vec<NearTable>,
    pub(super) is_up: Vec<bool>,
    /// Pulls, one for each file that a helper got.
    pub(super) pulls: u64,
}

/// What a fetch found, and what it caused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Some helper in the region of the asker had the file.
    pub(super) is_near: bool,
    /// Helpers that pulled the file together with the asker.
    pub(super) pulled: u64,
    /// Helpers to which a home passed it on.
    pub(super) passed_on: u64,
}

impl World {
    pub(super) fn new(regions: usize, per_region: usize, config: HelperConfig) -> Self {
        let count = regions * per_region;
        let helper = |n: usize| {
            let salt = Salt(blake3::derive_key(
                "salts of a simulation",
                &n.to_le_bytes(),
            ));
            Helper::new(config, salt, Duration::ZERO)
        };
        let mut world = Self {
            per_region,
            helpers: (0..count).map(helper).collect(),
            tables: (0..count).map(|n| NearTable::new(position(n))).collect(),
            is_up: vec![false; count],
            pulls: 0,
        };
        for n in 0..count {
            world.join(n);
        }
        world
    }

    pub(super) fn region(&self, n: usize) -> usize {
        n / self.per_region
    }

    fn neighbours(&self, n: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.region(n) * self.per_region;
        (first..first + self.per_region).filter(move |it| *it != n)
    }

    /// A node comes, and all that are near know it; what it held before, it still holds.
    pub(super) fn join(&mut self, n: usize) {
        self.is_up[n] = true;
        for other in self.neighbours(n) {
            if !self.is_up[other] {
                continue;
            }
            // Any number that is the same from both ends.
            let rtt = Duration::from_micros(1000 + ((n ^ other) * 7919 % 3000) as u64);
            for (from, to) in [(n, other), (other, n)] {
                let (peer, position) = (peer(to), position(to));
                self.tables[from].insert(Neighbour {
                    peer,
                    position,
                    rtt,
                });
            }
        }
    }

    pub(super) fn leave(&mut self, n: usize, now: Duration) {
        self.is_up[n] = false;
        for other in self.neighbours(n) {
            self.tables[other].remove(peer(n));
            self.helpers[other].left(peer(n), now);
        }
    }

    /// Node `from` asks the homes that it finds, beginning at the neighbours of `start`, and gives
    /// its offer to those that want it.
    pub(super) fn ask(
        &mut self,
        from: usize,
        start: usize,
        by: Asker,
        file: usize,
        now: Duration,
    ) -> Found {
        let key = key(file);
        let candidates = |table: &NearTable| -> Vec<_> {
            let closest = table.closest(key, Some(peer(from))).into_iter();
            closest
                .map(|it| Candidate {
                    peer: it.peer,
                    position: it.position,
                })
                .collect()
        };
        let mut walk = Walk::new(key, candidates(&self.tables[start]));
        let (mut holders, mut wanting) = (Vec::new(), Vec::new());
        loop {
            let asked = walk.step();
            if asked.is_empty() {
                break;
            }
            for home in asked {
                let n = home.0 as usize;
                if !self.is_up[n] {
                    walk.failed(home);
                    continue;
                }
                let ask = Ask {
                    key,
                    peer: peer(from),
                    by,
                    stays: false,
                };
                let around = Around {
                    table: &self.tables[n],
                    is_lan: false,
                };
                let mut named = Vec::new();
                match self.helpers[n].asked(&ask, around, now) {
                    Said::Have { wants, .. } => {
                        holders.push(n);
                        wanting.extend(wants.then_some(n));
                    }
                    Said::Want => wanting.push(n),
                    Said::Elsewhere {
                        holders: told,
                        closer,
                    } => {
                        holders.extend(told.into_iter().map(|it| it.0 as usize));
                        named = closer;
                    }
                    Said::Pulling | Said::No { .. } => {}
                }
                let named = named.into_iter().map(|peer| Candidate {
                    peer,
                    position: position(peer.0 as usize),
                });
                walk.answered(home, named);
            }
        }
        holders.retain(|n| self.is_up[*n] && self.helpers[*n].held(key).is_some());
        let mut found = Found::default();
        for n in wanting {
            found.pulled += u64::from(self.offer(from, n, by, file, 1, now));
        }
        holders.retain(|n| self.region(*n) == self.region(from));
        if let Some(n) = holders.first() {
            found.is_near = true;
            let helper = &mut self.helpers[*n];
            helper.served(key, 0, FILE_BYTES, helper.mark(&by), now);
            found.passed_on += self.pass_on(*n, file, now);
        }
        found
    }

    /// `from` offers a file to a helper, which pulls it where it accepts.
    pub(super) fn offer(
        &mut self,
        from: usize,
        to: usize,
        by: Asker,
        file: usize,
        asked: u32,
        now: Duration,
    ) -> bool {
        let offer = Offered {
            key: key(file),
            peer: peer(from),
            by,
            is_near: self.region(from) == self.region(to),
            stays: false,
            shape: FILE,
            ranges: LeafRanges::from_sorted(0..1),
            asked,
        };
        let around = Around {
            table: &self.tables[to],
            is_lan: false,
        };
        let helper = &mut self.helpers[to];
        let Ok(accepted) = helper.offered(&offer, around, now) else {
            return false;
        };
        assert_eq!(accepted.runs, [0]);
        helper.run_arrived(offer.key, 0, FILE_BYTES, now).unwrap();
        helper.pull_ended(offer.key, now);
        assert!(helper.cache().used() <= helper.cache().quota());
        self.pulls += 1;
        self.tell(to, file, now);
        true
    }

    /// A holder tells the homes of a file that it has it.
    pub(super) fn tell(&mut self, holder: usize, file: usize, now: Duration) {
        let homes = self.tables[holder].closest(key(file), None);
        for home in homes.into_iter().take(HOMES) {
            let n = home.peer.0 as usize;
            if self.is_up[n] {
                self.helpers[n].told(key(file), peer(holder), 1, false, now);
            }
        }
    }

    /// A home offers what it has to the helpers that no ask reaches.
    fn pass_on(&mut self, home: usize, file: usize, now: Duration) -> u64 {
        let mut passed_on = 0;
        loop {
            let around = Around {
                table: &self.tables[home],
                is_lan: false,
            };
            let Some((to, _)) = self.helpers[home].next_place(key(file), around, now) else {
                return passed_on;
            };
            let to = to.0 as usize;
            if self.is_up[to] {
                passed_on += u64::from(self.offer(home, to, asker(home), file, 2, now));
            }
        }
    }

    /// Invariant 1, from the counters of every helper, and invariant 2.
    pub(super) fn check(&self, need: u64) {
        for helper in &self.helpers {
            let it = helper.counters();
            assert!(
                it.asks_spent <= it.asks_distinct && it.asks_distinct <= it.asks,
                "{it:?}"
            );
            assert!(it.pulls_for_asks * need <= it.asks_spent, "{it:?}");
            assert!(helper.cache().used() <= helper.cache().quota());
        }
        let pulls = |it: &Helper| it.counters().pulls_for_asks + it.counters().offers_accepted;
        assert_eq!(self.pulls, self.helpers.iter().map(pulls).sum::<u64>());
    }
}
