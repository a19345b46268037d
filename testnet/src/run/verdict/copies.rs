//! What is measured of copies for others, and of what crosses from region to region.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shoal_protocol::replicate::helper::HelperConfig;

use super::{
    Measured, View,
    oracle::{self, Ask},
    plain, yes,
};
use crate::{
    run::record::{Fetch, Helped, Record, Sample},
    scenario::values::bytes_as_f64,
};

impl View<'_> {
    /// The sum of something that nodes have done for others.
    pub(super) fn helped(&self, of: impl Fn(&Helped) -> u64) -> Measured {
        let sum = |sample: &Sample| {
            let nodes = sample.helped.iter().enumerate();
            let meant = nodes.filter(|(node, _)| self.is_meant(*node));
            meant.map(|(_, helped)| of(helped)).sum()
        };
        plain(self.grown(sum).map(bytes_as_f64))
    }

    /// By how much something has grown since what counts began.
    fn grown(&self, of: impl Fn(&Sample) -> u64) -> Option<u64> {
        let now = self.record.sample(self.at).map(&of)?;
        let before = self.record.sample(self.from).map_or(0, of);
        Some(now.saturating_sub(before))
    }

    /// What helpers pulled, as a part of all payload that nodes sent.
    pub(super) fn replication_share(&self) -> Measured {
        let pulled = self.grown(|sample| sample.helped.iter().map(|it| it.pulled).sum());
        let sent = self.grown(|sample| sample.sent.iter().sum());
        let share = |(pulled, sent): (u64, u64)| bytes_as_f64(pulled) / bytes_as_f64(sent);
        plain(pulled.zip(sent.filter(|it| *it > 0)).map(share))
    }

    /// What was saved of what crosses from region to region, as a part of what one would save who knows
    /// the future; see [`oracle`].
    pub(super) fn oracle_saving(&self) -> Measured {
        let crossing = self.crossing();
        let least: u64 = self.least_crossing();
        let without = self.other.and_then(|other| {
            let from = self.began_with(other);
            let at = self.at.max(other.elapsed);
            let view = View {
                record: other,
                other: None,
                nodes: self.nodes.clone(),
                from,
                at,
                ..*self
            };
            view.crossing()
        });
        let saving = |(crossing, without): (u64, u64)| {
            let possible = bytes_as_f64(without) - bytes_as_f64(least);
            let saved = bytes_as_f64(without) - bytes_as_f64(crossing);
            (possible > 0.0).then(|| saved / possible)
        };
        let value = crossing.zip(without);
        let because = value.map(|(crossing, without)| {
            format!(
                "{} MiB crossed, {} MiB without copies, {} MiB at least",
                crossing >> 20,
                without >> 20,
                least >> 20
            )
        });
        Measured {
            value: value.and_then(saving),
            because: because.unwrap_or_default(),
            look_at: Vec::new(),
        }
    }

    pub(super) fn quotas_kept(&self) -> Measured {
        let above = |it: &Helped| it.held > it.quota;
        self.never(above, "kept more than their quota")
    }

    /// Whether every node pulled only what enough asked it for, or what it accepted of offers.
    pub(super) fn pulls_accounted(&self) -> Measured {
        let need = u64::from(HelperConfig::default().need);
        let unaccounted = |it: &Helped| it.pulls.saturating_sub(it.offers) * need > it.asks;
        self.never(unaccounted, "pulled more than they were asked for")
    }

    /// Whether something was so of no node at any time.
    fn never(&self, is_so: impl Fn(&Helped) -> bool, what: &str) -> Measured {
        let samples = self.record.samples.iter().filter(|it| it.at <= self.at);
        let nodes = samples.flat_map(|sample| {
            let nodes = sample.helped.iter().enumerate();
            let nodes = nodes.filter(|(_, helped)| is_so(helped));
            nodes
                .map(|(node, _)| node)
                .filter(|node| self.is_meant(*node))
        });
        let nodes: BTreeSet<usize> = nodes.collect();
        Measured {
            value: (!self.record.samples.is_empty()).then_some(yes(nodes.is_empty())),
            because: format!("{} nodes {what}", nodes.len()),
            look_at: nodes.into_iter().collect(),
        }
    }

    /// The most that one node ever kept of content of others than the scenario's, as a part of its quota.
    pub(super) fn displaced_share(&self) -> Measured {
        let samples = self.record.samples.iter().filter(|it| it.at <= self.at);
        let shares = samples.flat_map(|sample| {
            let nodes = sample.helped.iter().enumerate();
            let meant = nodes.filter(|(node, it)| self.is_meant(*node) && it.quota > 0);
            meant.map(|(node, it)| (bytes_as_f64(it.strange) / bytes_as_f64(it.quota), node))
        });
        let most = shares.max_by(|one, other| one.0.total_cmp(&other.0));
        Measured {
            value: most.map(|it| it.0),
            because: most.map_or_else(String::new, |it| format!("{} kept most", self.name(it.1))),
            look_at: most.into_iter().map(|it| it.1).collect(),
        }
    }

    /// When, in another run of the same script, that fetch began with which what counts begins here.
    fn began_with(&self, other: &Record) -> Duration {
        let fetches = self.record.fetches.iter();
        let skipped = fetches.take_while(|it| it.began < self.from).count();
        match skipped {
            0 => Duration::ZERO,
            _ => other
                .fetches
                .get(skipped)
                .map_or(Duration::MAX, |it| it.began),
        }
    }

    /// What was sent from region to region: all that owners sent, copies and what was sent in vain
    /// included, but for what fetches of their own region took of it; and what fetches took from all
    /// others in other regions.
    fn crossing(&self) -> Option<u64> {
        let items = self.script.items.iter();
        let owners: BTreeSet<usize> = items.map(|item| item.owner).collect();
        let sent = self.grown(|sample| {
            let sent = owners.iter().filter_map(|owner| sample.sent.get(*owner));
            sent.sum()
        })?;
        let (mut at_home, mut from_others) = (0_u64, 0_u64);
        for fetch in self.begun() {
            for (from, bytes) in &fetch.from {
                let Some(from) = *from else { continue };
                match (owners.contains(&from), self.crosses(fetch.node, from)) {
                    (true, false) => at_home += bytes,
                    (false, true) => from_others += bytes,
                    _ => {}
                }
            }
        }
        Some(sent.saturating_sub(at_home) + from_others)
    }

    /// The least that would cross, with the room that the nodes of each region have for others.
    fn least_crossing(&self) -> u64 {
        let mut rooms: BTreeMap<Option<&String>, u64> = BTreeMap::new();
        for node in 0..self.scenario.members.len() {
            let samples = self.record.samples.iter();
            let quotas = samples.filter_map(|it| it.helped.get(node).map(|it| it.quota));
            *rooms.entry(self.region(node)).or_default() += quotas.max().unwrap_or(0);
        }
        let least = rooms.into_iter().map(|(region, room)| {
            let fetches = self.record.fetches.iter();
            let asks = fetches.filter(|fetch| {
                let owner = self.script.items[fetch.item].owner;
                self.region(fetch.node) == region && self.crosses(fetch.node, owner)
            });
            let asks: Vec<Ask> = asks
                .map(|fetch| Ask {
                    item: fetch.item,
                    bytes: self.script.items[fetch.item].bytes,
                    counts: (self.from..=self.at).contains(&fetch.began),
                })
                .collect();
            oracle::least_crossing(&asks, room)
        });
        least.sum()
    }

    fn region(&self, node: usize) -> Option<&String> {
        self.scenario.members.group_of(node)?.region.as_ref()
    }

    fn crosses(&self, one: usize, other: usize) -> bool {
        self.region(one) != self.region(other)
    }

    /// What came from other regions, with what its senders sent in vain: of a node's bytes that nobody
    /// took, as many went to other regions as of those that were taken. What helpers pulled was taken by
    /// no fetch: where there are any, only what was taken counts.
    pub(super) fn cross_region_bytes(&self) -> Measured {
        let mut taken: BTreeMap<usize, u64> = BTreeMap::new();
        let fetches = self.record.fetches.iter().flat_map(|fetch| &fetch.from);
        for (from, bytes) in fetches.filter_map(|(from, bytes)| Some(((*from)?, *bytes))) {
            *taken.entry(from).or_default() += bytes;
        }
        let sample = self.record.sample(self.at);
        let pulls = sample.is_some_and(|it| it.helped.iter().any(|it| it.pulled > 0));
        let sent = |from: usize| sample.and_then(|it| it.sent.get(from)).copied();
        let in_all = |from: usize, bytes: u64| -> f64 {
            let taken = taken.get(&from).copied().unwrap_or(bytes);
            let sent = sent(from).filter(|_| !pulls).unwrap_or_default().max(taken);
            bytes_as_f64(bytes) * bytes_as_f64(sent) / bytes_as_f64(taken).max(1.0)
        };
        let bytes = |fetch: &Fetch| -> f64 {
            let sources = fetch.from.iter();
            let sources = sources.filter_map(|(from, bytes)| Some(((*from)?, *bytes)));
            let others = sources.filter(|(from, _)| self.crosses(fetch.node, *from));
            others.map(|(from, bytes)| in_all(from, bytes)).sum()
        };
        let all: Vec<f64> = self.begun().map(bytes).collect();
        plain((!all.is_empty()).then(|| all.iter().sum()))
    }
}
