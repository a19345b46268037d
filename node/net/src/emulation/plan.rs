//! What an emulated network is like, as data: a line for each node, rules for the links.
//!
//! A link is one way: from one node to another. What it is like follows from the lines of the two,
//! and then from the rules, of which the last word counts. Pure: no clock, no files; who keeps a
//! plan in a file (`links.json`) or replaces it is elsewhere.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use shoal_ground::units::{Rate, span};

use super::NodeSet;

/// An emulated network, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Grows with every change, so that one can tell which plan is in force.
    pub version: u64,
    /// What the chance in it is drawn from.
    pub seed: u64,
    /// When the network started, in milliseconds of Unix time: what stalls and resets are counted
    /// from in every process alike. 0 is the start of whoever reads it.
    pub started_ms: u64,
    /// The line of each node, by its number; nodes beyond the end have a perfect one.
    pub nodes: Vec<Line>,
    /// What nodes share: the line of a house, and its local network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<Site>,
    /// What differs from what the lines make of a link; of two that say the same thing of a link,
    /// the later one counts.
    pub rules: Vec<Rule>,
}

/// The line that a node has into the network. The default is a perfect one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Line {
    /// What it carries away from the node, all links together.
    pub up: Rate,
    /// What it carries to the node, all links together.
    pub down: Rate,
    /// What it adds to each link of the node, one way.
    #[serde(with = "span")]
    pub latency: Duration,
    /// By how much that varies: up to so much more or less.
    #[serde(with = "span")]
    pub jitter: Duration,
    /// Datagrams that are lost on it. Streams lose nothing; that they would be slower for it is not
    /// emulated.
    pub loss: Loss,
    /// Times at which a link of the node carries nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Stall>,
    /// How often a connection of the node breaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// At which site the node is; what it sends to others there does not pass the site's line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<usize>,
    /// Where the node listens by UDP, by which those who dial it know whose line it is. Filled in
    /// by who starts the network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<SocketAddr>,
}

/// A place with a line that all nodes there share. Kept where all of them are in one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// What its line carries away, of all its nodes together.
    pub up: Rate,
    /// What its line carries to them.
    pub down: Rate,
    /// Whether the nodes are on one local network.
    pub lan: bool,
}

/// What differs on some links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Links from these nodes …
    pub from: NodeSet,
    /// … to these.
    pub to: NodeSet,
    /// And the other way round.
    #[serde(default)]
    pub both_ways: bool,
    /// What they are like.
    #[serde(default)]
    pub link: LinkChange,
}

impl Rule {
    fn covers(&self, from: usize, to: usize) -> bool {
        let named = |from, to| self.from.contains(from) && self.to.contains(to);
        named(from, to) || (self.both_ways && named(to, from))
    }
}

/// What a rule says of a link; what it leaves out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkChange {
    /// The whole latency one way, in place of what the lines add up to.
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub latency: Option<Duration>,
    /// The whole jitter, in place of what the lines add up to.
    #[serde(with = "span::maybe", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// What the link carries, besides what the lines of the two carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Datagrams that are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// When it carries nothing; one that lasts no time is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Stall>,
    /// How often connections break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// Whether nothing passes at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<bool>,
}

/// What one link is like, one way: what a plan comes to for two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// One way.
    pub latency: Duration,
    /// How much more or less than the latency it may be.
    pub jitter: Duration,
    /// What the link itself carries.
    pub rate: Rate,
    /// Datagrams that are lost.
    pub loss: Loss,
    /// When it carries nothing.
    pub stall: Option<Stall>,
    /// How often connections break.
    pub reset: Option<Reset>,
    /// Whether nothing passes at all.
    pub blocked: bool,
}

impl Plan {
    /// The line of a node.
    #[must_use]
    pub fn line(&self, node: usize) -> Line {
        self.nodes.get(node).cloned().unwrap_or_default()
    }

    /// What the link from one node to another is like. `None` is a node that the network does not
    /// know: it has a perfect line, and no rule names it.
    ///
    /// Takes as long as there are rules: whoever asks often keeps the answer while the version
    /// stays.
    #[must_use]
    pub fn link(&self, from: usize, to: Option<usize>) -> Link {
        let near = self.line(from);
        let far = to.map(|to| self.line(to)).unwrap_or_default();
        let mut link = Link {
            latency: near.latency.saturating_add(far.latency),
            jitter: near.jitter.saturating_add(far.jitter),
            rate: Rate::OFF,
            loss: near.loss.and(far.loss),
            stall: more_often(near.stall, far.stall, |stall| stall.every),
            reset: more_often(near.reset, far.reset, |reset| reset.every),
            blocked: false,
        };
        let Some(to) = to else { return link };
        for rule in self.rules.iter().filter(|rule| rule.covers(from, to)) {
            rule.link.apply(&mut link);
        }
        link
    }

    /// The sites whose lines a link passes: that which it leaves, and that which it enters.
    pub(super) fn sites(
        &self,
        from: Option<usize>,
        to: Option<usize>,
    ) -> [Option<(usize, Site)>; 2] {
        let site = |node: Option<usize>| {
            let site = self.nodes.get(node?)?.site?;
            Some((site, *self.sites.get(site)?))
        };
        let (near, far) = (site(from), site(to));
        match near.map(|it| it.0) == far.map(|it| it.0) {
            true => [None, None],
            false => [near, far],
        }
    }

    /// Whether two nodes are on one local network, as the plan says.
    #[must_use]
    pub fn share_lan(&self, one: usize, other: usize) -> bool {
        let site = |node: usize| self.nodes.get(node)?.site;
        let shared = site(one).filter(|it| site(other) == Some(*it));
        let shared = shared.and_then(|it| self.sites.get(it));
        shared.is_some_and(|site| site.lan)
    }

    /// How long it takes from one node to another and back, when nothing else is on the way.
    #[must_use]
    pub fn round_trip(&self, one: usize, other: usize) -> Duration {
        let there = self.link(one, Some(other)).latency;
        there.saturating_add(self.link(other, Some(one)).latency)
    }

    /// Whether two nodes cannot speak to each other, be it one way.
    #[must_use]
    pub fn cuts(&self, one: usize, other: usize) -> bool {
        self.link(one, Some(other)).blocked || self.link(other, Some(one)).blocked
    }

    /// The node that listens at an address by UDP.
    #[must_use]
    pub fn node_at(&self, address: SocketAddr) -> Option<usize> {
        self.nodes
            .iter()
            .position(|line| line.listen.contains(&address))
    }

    /// Adds a rule. Those that it leaves nothing of are taken out, so that saying the same things
    /// again and again does not make a plan grow.
    pub fn add(&mut self, rule: Rule) {
        self.rules.retain(|old| {
            let same_links =
                (&old.from, &old.to, old.both_ways) == (&rule.from, &rule.to, rule.both_ways);
            !(same_links && old.link.is_within(&rule.link))
        });
        self.rules.push(rule);
    }

    /// Takes all partitions out.
    pub fn heal(&mut self) {
        for rule in &mut self.rules {
            rule.link.blocked = None;
        }
        self.rules.retain(|rule| rule.link != LinkChange::default());
    }
}

/// Of two that may happen the one that happens more often.
fn more_often<T: Copy>(
    one: Option<T>,
    other: Option<T>,
    every: impl Fn(&T) -> Duration,
) -> Option<T> {
    one.into_iter().chain(other).min_by_key(|this| every(this))
}

impl LinkChange {
    fn apply(&self, link: &mut Link) {
        let Self {
            latency,
            jitter,
            rate,
            loss,
            stall,
            reset,
            blocked,
        } = self;
        link.latency = latency.unwrap_or(link.latency);
        link.jitter = jitter.unwrap_or(link.jitter);
        link.rate = rate.unwrap_or(link.rate);
        link.loss = loss.unwrap_or(link.loss);
        link.stall = stall.or(link.stall).filter(|stall| !stall.lasts.is_zero());
        link.reset = reset.or(link.reset);
        link.blocked = blocked.unwrap_or(link.blocked);
    }

    /// Whether `other` decides everything that this does.
    fn is_within(&self, other: &Self) -> bool {
        fn within<T>(mine: Option<&T>, other: Option<&T>) -> bool {
            mine.is_none() || other.is_some()
        }
        within(self.latency.as_ref(), other.latency.as_ref())
            && within(self.jitter.as_ref(), other.jitter.as_ref())
            && within(self.rate.as_ref(), other.rate.as_ref())
            && within(self.loss.as_ref(), other.loss.as_ref())
            && within(self.stall.as_ref(), other.stall.as_ref())
            && within(self.reset.as_ref(), other.reset.as_ref())
            && within(self.blocked.as_ref(), other.blocked.as_ref())
    }
}

/// Times at which a link carries nothing: once in every span, at a moment that the seed decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StallText", into = "StallText")]
pub struct Stall {
    every: Duration,
    lasts: Duration,
}

impl Stall {
    /// Once in `every`, for `lasts`, which is kept below `every`.
    #[must_use]
    pub fn new(every: Duration, lasts: Duration) -> Self {
        let lasts = lasts.min(every.saturating_sub(Duration::from_millis(1)));
        Self { every, lasts }
    }

    /// The span in which there is one.
    #[must_use]
    pub fn every(self) -> Duration {
        self.every
    }

    /// How long nothing passes.
    #[must_use]
    pub fn lasts(self) -> Duration {
        self.lasts
    }
}

/// `lasts/every`, as in `2s/1m`, or `off`.
impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::new(Duration::ZERO, Duration::ZERO));
        }
        let (lasts, every) = text.split_once('/').ok_or_else(|| {
            format!("`{text}` is no stall: write how long and how often, like `2s/1m`")
        })?;
        Self::try_from(StallText {
            every: span::parse(every.trim())?,
            lasts: span::parse(lasts.trim())?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StallText {
    #[serde(with = "span")]
    every: Duration,
    #[serde(with = "span")]
    lasts: Duration,
}

impl TryFrom<StallText> for Stall {
    type Error = String;

    fn try_from(text: StallText) -> Result<Self, Self::Error> {
        if !text.lasts.is_zero() && text.lasts >= text.every {
            return Err("a stall lasts less than the span in which there is one".to_owned());
        }
        Ok(Self::new(text.every, text.lasts))
    }
}

impl From<Stall> for StallText {
    fn from(stall: Stall) -> Self {
        let Stall { every, lasts } = stall;
        Self { every, lasts }
    }
}

/// How often a connection breaks: once in every span, at a moment that the seed decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    #[serde(with = "span")]
    every: Duration,
}

impl Reset {
    /// Once in `every`; no time is never.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every }
    }

    /// The span in which there is one.
    #[must_use]
    pub fn every(self) -> Duration {
        self.every
    }
}

/// The span alone, as in `10m`, or `off`.
impl FromStr for Reset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::new(Duration::ZERO));
        }
        span::parse(text).map(Self::new)
    }
}

/// A part of all datagrams, kept in parts per million.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "f64", into = "f64")]
pub struct Loss(u32);

impl Loss {
    /// All of them.
    const ALL: u32 = 1_000_000;

    /// So many of a million, which is the most.
    #[must_use]
    pub const fn parts_per_million(parts: u32) -> Self {
        Self(if parts < Self::ALL { parts } else { Self::ALL })
    }

    /// How many of a million are lost.
    #[must_use]
    pub const fn in_a_million(self) -> u32 {
        self.0
    }

    /// What is lost on two lines, one after the other.
    fn and(self, other: Self) -> Self {
        let passed = |loss: Self| u64::from(Self::ALL.saturating_sub(loss.0));
        let both = passed(self).saturating_mul(passed(other)) / u64::from(Self::ALL);
        let both = u32::try_from(both).unwrap_or(Self::ALL);
        Self(Self::ALL.saturating_sub(both))
    }
}

impl TryFrom<f64> for Loss {
    type Error = String;

    fn try_from(part: f64) -> Result<Self, Self::Error> {
        if !(0.0..=1.0).contains(&part) {
            return Err(format!("a loss is a part, from 0 to 1; {part} is not"));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let parts = (part * f64::from(Self::ALL)).round() as u32;
        Ok(Self(parts))
    }
}

impl From<Loss> for f64 {
    fn from(loss: Loss) -> Self {
        Self::from(loss.0) / Self::from(Loss::ALL)
    }
}

/// `1%` or `0.01`.
impl FromStr for Loss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, hundredth) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        let number: f64 = number
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is no loss: write a part, like `1%` or `0.01`"))?;
        Self::try_from(number / hundredth)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(*self) * 100.0)
    }
}

#[cfg(test)]
mod tests;
