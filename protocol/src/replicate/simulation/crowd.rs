//! A crowd in virtual time: forty fetchers on thin lines want ten leaves from one line within two
//! minutes, beside sixty helpers in four regions. The helpers, walks and offers are the real ones; lines
//! are shared evenly, and who is asked for which leaf is a simple form of the planner's rules.

use std::collections::{BTreeMap, BTreeSet};

use super::super::offers::{Deed, Offers, OffersConfig, Replied};
use super::*;

const REGIONS: usize = 4;
const STANDING: usize = 60;
const FETCHERS: usize = 40;
const ORIGIN: usize = STANDING + FETCHERS;

const CROWD: Shape = Shape {
    leaves: 10,
    size: 10_000_000,
};
const LEAF_BITS: f64 = 8e6;

/// Steps of virtual time.
const STEP: Duration = Duration::from_millis(50);
/// Fetches that begin later are those that count.
const LATE: Duration = Duration::from_secs(20);
const ARRIVE_WITHIN: u64 = 120_000;
const STAYS: Duration = Duration::from_secs(20);
/// All helpers together pull at most so fast each: a fourth of 4 MiB/s.
const PULL_BITS: f64 = 8.4e6;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    /// Whether helpers keep anything.
    pub(super) copies: bool,
    /// Whether the origin asks for helpers and offers to them.
    pub(super) offers: bool,
    /// Whether near ones are asked first.
    pub(super) near_first: bool,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Outcome {
    /// 19 of 20 late fetches took less, in seconds.
    pub(super) p95: f64,
    /// Which part of what was fetched came from the region.
    pub(super) near: f64,
    /// What the origin sent, in copies.
    pub(super) origin: f64,
    /// What helpers pulled, in copies.
    pub(super) pulled: f64,
    pub(super) offers_accepted: u64,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    has: BTreeSet<u64>,
    /// What it gets, or has all of.
    wants: BTreeSet<u64>,
    began: Option<Duration>,
    done: Option<Duration>,
    has_asked: bool,
    nominees: Vec<PeerKey>,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    from: usize,
    to: usize,
    leaf: u64,
    left: f64,
}

struct Crowd {
    rules: Rules,
    world: World,
    tables: Vec<NearTable>,
    peers: Vec<Peer>,
    arrives: Vec<Duration>,
    flows: Vec<Flow>,
    offers: Offers,
    due: Vec<(Duration, super::super::offers::Planned)>,
    dice: Dice,
    now: Duration,
    /// Bits by whether they went to a helper, and whether they stayed in their region.
    sent: BTreeMap<(bool, bool), f64>,
    from_origin: f64,
}

fn region(n: usize) -> usize {
    match n {
        ORIGIN => REGIONS,
        n if n < STANDING => n * REGIONS / STANDING,
        n => n % REGIONS,
    }
}

fn crowd_key() -> Key {
    key(7)
}

impl Crowd {
    fn new(seed: u64, rules: Rules) -> Self {
        let mut dice = Dice(seed);
        let mut arrives: Vec<u64> = (0..FETCHERS).map(|_| dice.next() % ARRIVE_WITHIN).collect();
        arrives.sort_unstable();
        let world = World::new(REGIONS, STANDING / REGIONS, HelperConfig::default());
        let table = |n: usize| {
            let mut table = NearTable::new(position(n));
            for other in (0..STANDING).filter(|it| region(*it) == region(n)) {
                table.insert(Neighbour {
                    peer: peer(other),
                    position: position(other),
                    rtt: Duration::from_millis(10),
                });
            }
            table
        };
        let mut peers = vec![Peer::default(); ORIGIN + 1];
        peers[ORIGIN].has = (0..CROWD.leaves).collect();
        Self {
            rules,
            world,
            tables: (0..ORIGIN).map(table).collect(),
            peers,
            arrives: arrives.into_iter().map(Duration::from_millis).collect(),
            flows: Vec::new(),
            offers: Offers::new(OffersConfig::default()),
            due: Vec::new(),
            dice,
            now: Duration::ZERO,
            sent: BTreeMap::new(),
            from_origin: 0.0,
        }
    }

    fn run(mut self) -> Outcome {
        let mut step = 0_u32;
        while self.peers[STANDING..ORIGIN]
            .iter()
            .any(|it| it.done.is_none())
        {
            self.now = STEP * step;
            assert!(self.now < Duration::from_mins(20), "it comes to an end");
            self.arrive();
            if step.is_multiple_of(5) {
                self.tend();
            }
            self.carry_out_offers();
            self.choose();
            self.flow();
            step += 1;
        }
        self.outcome()
    }

    fn arrive(&mut self) {
        for n in STANDING..ORIGIN {
            let arrives = self.arrives[n - STANDING];
            let peer_of = peer(n);
            if self.peers[n].began.is_none() && arrives <= self.now {
                self.peers[n].began = Some(arrives);
            }
            // It has found the origin and asked its helpers by then.
            let is_ready = arrives + Duration::from_millis(400) <= self.now;
            if !self.peers[n].has_asked && is_ready {
                self.peers[n].has_asked = true;
                self.peers[n].wants = (0..CROWD.leaves).collect();
                let by = asker(n).mark(&Salt([9; 32]));
                self.offers.asked(crowd_key(), CROWD, peer_of, by, self.now);
                if self.rules.copies {
                    self.ask(n);
                }
            }
        }
    }

    /// Asks the homes, and offers to those that want it.
    fn ask(&mut self, n: usize) {
        let key = crowd_key();
        let candidates = self.tables[n].closest(key, None).into_iter();
        let mut walk = Walk::new(
            key,
            candidates.map(|it| Candidate {
                peer: it.peer,
                position: it.position,
            }),
        );
        let (mut wanting, mut nominees) = (Vec::new(), Vec::new());
        loop {
            let asked = walk.step();
            if asked.is_empty() {
                break;
            }
            for home in asked {
                let helper = home.0 as usize;
                let ask = Ask {
                    key,
                    peer: peer(n),
                    by: asker(n),
                    stays: true,
                };
                let around = Around {
                    table: &self.tables[helper],
                    is_lan: false,
                };
                let mut named = Vec::new();
                match self.world.helpers[helper].asked(&ask, around, self.now) {
                    Said::Have { wants: true, .. } | Said::Want => wanting.push(helper),
                    Said::Elsewhere { closer, .. } => {
                        nominees.push(home);
                        named = closer;
                    }
                    Said::No {
                        why: Why::Demand, ..
                    } => nominees.push(home),
                    Said::Have { .. } | Said::Pulling | Said::No { .. } => {}
                }
                walk.answered(
                    home,
                    named.into_iter().map(|peer| Candidate {
                        peer,
                        position: position(peer.0 as usize),
                    }),
                );
            }
        }
        nominees.sort_by_key(|it| key.distance(position(it.0 as usize)));
        nominees.truncate(3);
        self.peers[n].nominees = nominees;
        for helper in wanting {
            self.offer(n, helper, LeafRanges::from_sorted(0..CROWD.leaves), 1, true);
        }
    }

    fn offer(
        &mut self,
        from: usize,
        to: usize,
        ranges: LeafRanges,
        asked: u32,
        is_near: bool,
    ) -> Replied {
        let offer = Offered {
            key: crowd_key(),
            peer: peer(from),
            by: asker(from),
            is_near,
            stays: true,
            shape: CROWD,
            ranges,
            asked,
        };
        let around = Around {
            table: &self.tables[to],
            is_lan: false,
        };
        match self.world.helpers[to].offered(&offer, around, self.now) {
            Ok(accepted) => {
                let leaves = accepted.ranges.iter().flatten();
                self.peers[to].wants.extend(leaves);
                Replied::Accepted
            }
            Err((_, retry)) => Replied::Declined { retry },
        }
    }

    /// What the origin does four times a second.
    fn tend(&mut self) {
        if !self.rules.offers {
            return;
        }
        let is_full = self.flows.iter().filter(|it| it.from == ORIGIN).count() > 1;
        self.offers.set_line(is_full, self.now);
        let dice = &mut self.dice;
        for deed in self.offers.poll(|| dice.next(), self.now) {
            match deed {
                Deed::Nominate { key, peer } => {
                    let named = self.peers[peer.0 as usize].nominees.clone();
                    self.offers.nominated(key, peer, &named);
                }
                Deed::Offer(planned) => self.due.push((self.now + planned.after, planned)),
            }
        }
    }

    fn carry_out_offers(&mut self) {
        let now = self.now;
        let all = std::mem::take(&mut self.due).into_iter();
        let (due, later): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at <= now);
        self.due = later;
        for (_, planned) in due {
            let to = planned.to.0 as usize;
            let replied = self.offer(ORIGIN, to, planned.ranges, planned.asked, false);
            self.offers.replied(planned.key, planned.to, replied, now);
        }
    }

    fn is_here(&self, n: usize) -> bool {
        let peer = &self.peers[n];
        n == ORIGIN || n < STANDING || peer.done.is_none_or(|done| self.now < done + STAYS)
    }

    fn up(&self, n: usize) -> f64 {
        match n {
            n if n < STANDING || n == ORIGIN => 20e6,
            _ => 2e6,
        }
    }

    fn down(&self, n: usize) -> f64 {
        match n < STANDING {
            true => PULL_BITS,
            false => 50e6,
        }
    }

    fn tier(&self, from: usize, to: usize) -> usize {
        match from {
            _ if !self.rules.near_first => usize::from(from == ORIGIN),
            ORIGIN => 2,
            from => usize::from(region(from) != region(to)),
        }
    }

    /// When a leaf would be here, in seconds.
    fn expected(&self, from: usize, to: usize) -> f64 {
        let others: BTreeSet<usize> = self
            .flows
            .iter()
            .filter(|it| it.from == from && it.to != to)
            .map(|it| it.to)
            .collect();
        let mine: f64 = self
            .flows
            .iter()
            .filter(|it| it.from == from && it.to == to)
            .map(|it| it.left)
            .sum();
        let rtt = if region(from) == region(to) {
            0.01
        } else {
            0.16
        };
        let rate = (self.up(from) / (others.len() + 1) as f64).min(self.down(to));
        rtt + (mine + LEAF_BITS) / rate
    }

    fn choose(&mut self) {
        for to in 0..ORIGIN {
            let coming: BTreeSet<u64> = self.leaves_coming(to);
            let peer = &self.peers[to];
            let missing: Vec<u64> = peer
                .wants
                .iter()
                .copied()
                .filter(|it| !peer.has.contains(it) && !coming.contains(it))
                .collect();
            for leaf in missing {
                self.choose_for(to, leaf);
            }
        }
    }

    fn leaves_coming(&self, to: usize) -> BTreeSet<u64> {
        let coming = self.flows.iter().filter(|it| it.to == to);
        coming.map(|it| it.leaf).collect()
    }

    fn choose_for(&mut self, to: usize, leaf: u64) {
        let busy = |from: usize| {
            let flows = self.flows.iter();
            flows.filter(|it| it.from == from && it.to == to).count()
        };
        let sources = (0..=ORIGIN).filter(|from| {
            let has = self.peers[*from].has.contains(&leaf);
            *from != to && has && self.is_here(*from)
        });
        let mut best: Option<(usize, f64, usize)> = None;
        let mut cheapest: BTreeMap<usize, f64> = BTreeMap::new();
        let sources: Vec<_> = sources.collect();
        for from in &sources {
            let (tier, time) = (self.tier(*from, to), self.expected(*from, to));
            let least = cheapest.entry(tier).or_insert(f64::INFINITY);
            *least = least.min(time);
        }
        for from in sources {
            let (tier, time) = (self.tier(from, to), self.expected(from, to));
            let cheaper = cheapest.range(..tier).map(|(_, time)| *time);
            let cheaper = cheaper.fold(f64::INFINITY, f64::min);
            // What others bring soon is left to them; a helper of copies takes what others do not get.
            let others = from == ORIGIN && self.is_coming_elsewhere(to, leaf);
            let is_worth = !cheaper.is_finite() || cheaper > 4.0 * time;
            if is_worth && !others && busy(from) < 2 {
                let this = (tier, time, from);
                if best.is_none_or(|best| (this.0, this.1) < (best.0, best.1)) {
                    best = Some(this);
                }
            }
        }
        if let Some((_, _, from)) = best {
            let left = LEAF_BITS;
            self.flows.push(Flow {
                from,
                to,
                leaf,
                left,
            });
        }
    }

    /// Whether the origin sends a leaf to another helper now.
    fn is_coming_elsewhere(&self, to: usize, leaf: u64) -> bool {
        let is_same = |it: &&Flow| it.from == ORIGIN && it.leaf == leaf && it.to != to;
        to < STANDING && self.flows.iter().any(|it| is_same(&it))
    }

    fn flow(&mut self) {
        let count = |of: fn(&Flow) -> usize, flows: &[Flow]| {
            let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
            for flow in flows {
                *counts.entry(of(flow)).or_default() += 1.0;
            }
            counts
        };
        let from = count(|it| it.from, &self.flows);
        let to = count(|it| it.to, &self.flows);
        let seconds = STEP.as_secs_f64();
        let rates: Vec<f64> = self
            .flows
            .iter()
            .map(|it| (self.up(it.from) / from[&it.from]).min(self.down(it.to) / to[&it.to]))
            .collect();
        let mut arrived = Vec::new();
        for (flow, rate) in self.flows.iter_mut().zip(rates) {
            let moved = (rate * seconds).min(flow.left);
            flow.left -= moved;
            let is_near = region(flow.from) == region(flow.to);
            let kind = (flow.to < STANDING, is_near);
            *self.sent.entry(kind).or_default() += moved;
            if flow.from == ORIGIN {
                self.from_origin += moved;
            }
            if flow.left <= 0.0 {
                arrived.push(*flow);
            }
        }
        self.flows.retain(|it| it.left > 0.0);
        for flow in arrived {
            self.arrived(flow);
        }
        let here: Vec<bool> = (0..=ORIGIN).map(|n| self.is_here(n)).collect();
        self.flows.retain(|it| here[it.from]);
    }

    fn arrived(&mut self, flow: Flow) {
        let Flow { from, to, leaf, .. } = flow;
        self.peers[to].has.insert(leaf);
        let run = leaf / RUN_LEAVES;
        if from < STANDING {
            let by = asker(to);
            let helper = &mut self.world.helpers[from];
            let by = helper.mark(&by);
            helper.served(crowd_key(), run, 4_000_000, by, self.now);
            self.pass_on(from);
        }
        if to < STANDING {
            let leaves = CROWD.leaves_of(run);
            if leaves.clone().all(|it| self.peers[to].has.contains(&it)) {
                let bytes = CROWD.bytes_of(run);
                let helper = &mut self.world.helpers[to];
                helper
                    .run_arrived(crowd_key(), run, bytes, self.now)
                    .unwrap();
            }
            if self.peers[to]
                .wants
                .iter()
                .all(|it| self.peers[to].has.contains(it))
            {
                self.world.helpers[to].pull_ended(crowd_key(), self.now);
                self.pass_on(to);
            }
        } else if self.peers[to].has.len() as u64 == CROWD.leaves && self.peers[to].done.is_none() {
            self.peers[to].done = Some(self.now);
            self.offers.left(crowd_key(), peer(to), self.now);
        }
    }

    /// A home offers further stripes to the next places.
    fn pass_on(&mut self, home: usize) {
        loop {
            let around = Around {
                table: &self.tables[home],
                is_lan: false,
            };
            let next = self.world.helpers[home].next_place(crowd_key(), around, self.now);
            let Some((to, accepted)) = next else { return };
            self.offer(home, to.0 as usize, accepted.ranges, 2, true);
        }
    }

    fn outcome(&self) -> Outcome {
        let fetchers = &self.peers[STANDING..ORIGIN];
        let took = |it: &Peer| (it.done.unwrap() - it.began.unwrap()).as_secs_f64();
        let late = fetchers.iter().filter(|it| it.began.unwrap() >= LATE);
        let mut late: Vec<f64> = late.map(took).collect();
        late.sort_by(f64::total_cmp);
        let copy = LEAF_BITS * CROWD.leaves as f64;
        let bits = |to_helper, is_near| self.sent.get(&(to_helper, is_near)).unwrap_or(&0.0);
        let (near, far) = (bits(false, true), bits(false, false));
        let counters = self.world.helpers.iter().map(Helper::counters);
        for it in counters.clone() {
            assert!(2 * it.pulls_for_asks <= it.asks_distinct, "{it:?}");
        }
        Outcome {
            p95: late[(late.len() * 95).div_ceil(100) - 1],
            near: near / (near + far),
            origin: self.from_origin / copy,
            pulled: (bits(true, true) + bits(true, false)) / copy,
            offers_accepted: counters.map(|it| it.offers_accepted).sum(),
        }
    }
}

/// The medians of five seeds.
fn medians(rules: Rules) -> Outcome {
    let all: Vec<_> = (0..5).map(|seed| Crowd::new(seed, rules).run()).collect();
    let median = |of: fn(&Outcome) -> f64| {
        let mut values: Vec<f64> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Outcome {
        p95: median(|it| it.p95),
        near: median(|it| it.near),
        origin: median(|it| it.origin),
        pulled: median(|it| it.pulled),
        offers_accepted: all.iter().map(|it| it.offers_accepted).min().unwrap(),
    }
}

const ON: Rules = Rules {
    copies: true,
    offers: true,
    near_first: true,
};

#[test]
fn a_crowd_gets_most_of_it_from_next_door() {
    let on = medians(ON);
    let off = medians(Rules {
        copies: false,
        offers: false,
        near_first: false,
    });
    println!("on {on:?}\noff {off:?}");
    assert!(on.p95 <= 0.35 * off.p95 && on.p95 <= 3.5, "{on:?} {off:?}");
    assert!(on.near >= 0.7, "{on:?}");
    assert!(
        on.origin <= 7.0 && on.origin <= 0.3 * off.origin,
        "{on:?} {off:?}"
    );
    assert!(on.pulled <= 12.0 && on.offers_accepted >= 4, "{on:?}");
}

#[test]
fn without_offers_or_near_ones_first_a_crowd_waits() {
    let on = medians(ON);
    let unoffered = medians(Rules {
        offers: false,
        ..ON
    });
    let careless = medians(Rules {
        near_first: false,
        ..ON
    });
    println!("on {on:?}\nwithout offers {unoffered:?}\nwithout near first {careless:?}");
    assert!(unoffered.near < on.near, "{unoffered:?} {on:?}");
    assert!(careless.near < 0.7, "{careless:?}");
}
