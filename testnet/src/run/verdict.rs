//! Whether what a scenario asserts holds: from the record alone, so that the same run always gets
//! the same verdict.

mod copies;
mod oracle;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shoal_protocol::near::NearConfig;

use super::{
    record::{Fetch, Lookup, Outcome, Record},
    script::Script,
};
use crate::{
    dice::Dice,
    scenario::{Assertion, Metric, Scenario, ScenarioError, values::bytes_as_f64},
};

/// What begins so long after the first fetch is late: by then the first have had their copies.
const LATE_AFTER: Duration = Duration::from_secs(20);

/// Logs to read, of a failed assertion: the first ones lead to the others.
const NODES_NAMED_MAX: usize = 8;

/// What came of an assertion.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was asserted, as it was written.
    pub that: String,
    /// Of which time; none is the end.
    pub at: Option<Duration>,
    /// Whether it holds.
    pub held: bool,
    /// What had to be.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// Where it went wrong, in a sentence; empty when it holds.
    pub because: String,
    /// Nodes whose logs say more.
    pub look_at: Vec<usize>,
}

/// What was measured of a metric.
struct Measured {
    value: Option<f64>,
    because: String,
    look_at: Vec<usize>,
}

/// A run, as of one time, as far as one assertion is about it.
struct View<'a> {
    scenario: &'a Scenario,
    script: &'a Script,
    record: &'a Record,
    /// The run that is compared with.
    other: Option<&'a Record>,
    at: Duration,
    /// What began earlier does not count.
    from: Duration,
    content: Option<usize>,
    nodes: Option<BTreeSet<usize>>,
}

/// Says of each assertion of a scenario whether it holds. `other` is the run that it is compared
/// with.
///
/// # Errors
/// When one names nodes that there are not.
pub fn verdicts(
    scenario: &Scenario,
    script: &Script,
    record: &Record,
    other: Option<&Record>,
) -> Result<Vec<Verdict>, ScenarioError> {
    let assertions = scenario.assertions.iter();
    let verdicts = assertions.map(|it| verdict(scenario, script, (record, other), it));
    verdicts.collect()
}

/// Fails when an assertion names nodes that there are not; before anything is run.
///
/// # Errors
/// The first such assertion.
pub fn check(scenario: &Scenario, script: &Script) -> Result<(), ScenarioError> {
    verdicts(scenario, script, &Record::default(), None).map(drop)
}

fn verdict(
    scenario: &Scenario,
    script: &Script,
    (record, other): (&Record, Option<&Record>),
    assertion: &Assertion,
) -> Result<Verdict, ScenarioError> {
    let nodes = assertion.nodes.as_ref().map(|nodes| {
        let mut dice = Dice::new(scenario.seed, &assertion.place.key);
        let chosen = nodes.value.resolve(&scenario.members, &|_| true, &mut dice);
        chosen.map_err(|why| nodes.place.error(why))
    });
    let content = assertion.content.as_ref().and_then(|name| {
        let mut contents = scenario.contents.iter();
        contents.position(|content| content.name == name.value)
    });
    let nodes: Option<BTreeSet<usize>> =
        nodes.transpose()?.map(|nodes| nodes.into_iter().collect());
    let (metric, bound) = (assertion.that.metric, assertion.that.bound);
    let after = assertion.after.unwrap_or(0.0);
    let measure = |record: &Record, other: Option<&Record>| {
        let view = View {
            scenario,
            script,
            record,
            other,
            at: assertion.at.unwrap_or(record.elapsed),
            from: began_after(record, after),
            content,
            nodes: nodes.clone(),
        };
        view.measure(metric)
    };
    let mut measured = measure(record, other);
    let mut of_what = String::new();
    if let Some(comparison) = assertion.that.comparison {
        let other = other.and_then(|other| measure(other, None).value);
        if let (Some(value), Some(other)) = (measured.value, other) {
            let unit = metric.unit();
            let beside = comparison.word();
            of_what = format!(" ({} {beside} {})", unit.show(value), unit.show(other));
        }
        let beside = |value: f64| other.map(|other| comparison.of(value, other));
        measured.value = measured.value.and_then(beside);
    }
    let held = measured.value.is_some_and(|value| bound.holds(value));
    let unit = assertion.that.unit();
    let mut look_at = measured.look_at;
    look_at.truncate(NODES_NAMED_MAX);
    Ok(Verdict {
        that: assertion.that.to_string(),
        at: assertion.at,
        held,
        expected: bound.show(unit),
        seen: match measured.value {
            Some(value) => unit.show(value) + &of_what,
            None => "nothing to measure".to_owned(),
        },
        because: if held {
            String::new()
        } else {
            measured.because
        },
        look_at: if held { Vec::new() } else { look_at },
    })
}

/// When the first fetch began of those that are left once this part of all has begun.
fn began_after(record: &Record, part: f64) -> Duration {
    let skipped = rank(record.fetches.len(), part);
    let first = record.fetches.get(skipped);
    match skipped {
        0 => Duration::ZERO,
        _ => first.map_or(Duration::MAX, |fetch| fetch.began),
    }
}

impl View<'_> {
    fn measure(&self, metric: Metric) -> Measured {
        match metric {
            Metric::AllFetched => self.all_fetched(),
            Metric::FetchedFraction => self.fetched_fraction(),
            Metric::FailedFetches => self.failed_fetches(),
            Metric::NoWrongBytes => self.no_wrong_bytes(),
            Metric::DoneWithin => self.done_within(),
            Metric::FetchTimeMedian => {
                let took = self.fetches().filter_map(|it| it.took(self.at)).map(millis);
                plain(quantile(took.collect(), 0.5))
            }
            Metric::FetchTimeP95 => self.fetch_time_p95(self.fetches()),
            Metric::TimeRatio => self.time_ratio(),
            Metric::OriginCopies => self.origin_copies(),
            Metric::PeerShare => {
                self.share(|fetch, from| from != self.script.items[fetch.item].owner)
            }
            Metric::EvilShare => self.share(|_, from| self.scenario.members.is_evil(from)),
            Metric::RegionShare => self.share(|fetch, from| {
                let region = |node| self.scenario.members.group_of(node)?.region.as_ref();
                region(from).is_some() && region(from) == region(fetch.node)
            }),
            Metric::CrossRegionBytes => self.cross_region_bytes(),
            Metric::NearShare => self.share(|fetch, from| self.is_near(fetch.node, from)),
            Metric::LateP95 => self.late_p95(),
            Metric::LookupsSucceed => self.lookups_succeed(),
            Metric::HopsMedian => {
                let hops = self.lookups().filter_map(|it| it.hops.map(f64::from));
                plain(quantile(hops.collect(), 0.5))
            }
            Metric::LookupTimeMedian => plain(quantile(self.lookup_times(), 0.5)),
            Metric::LookupTimeP95 => plain(quantile(self.lookup_times(), 0.95)),
            Metric::MemoryPerNode => self.memory_per_node(),
            Metric::NodesUp => {
                let nodes = 0..self.scenario.members.honest();
                let up = nodes.filter(|&node| self.is_meant(node) && self.is_up(node));
                plain(Some(count(up.count())))
            }
            Metric::Pulls => self.helped(|it| it.pulls),
            Metric::OffersAccepted => self.helped(|it| it.offers),
            Metric::PullsAccounted => self.pulls_accounted(),
            Metric::PulledBytes => self.helped(|it| it.pulled),
            Metric::QuotasKept => self.quotas_kept(),
            Metric::DisplacedShare => self.displaced_share(),
            Metric::ReplicationShare => self.replication_share(),
            Metric::OracleSaving => self.oracle_saving(),
        }
    }

    /// The fetches that count: of live nodes, begun by then, and not given up for a new node. A node
    /// that leaves when it is done was live until then.
    fn fetches(&self) -> impl Iterator<Item = &Fetch> {
        let leaves = |node| {
            let group = self.scenario.members.group_of(node);
            group.is_some_and(|group| group.leave_after.is_some())
        };
        self.begun().filter(move |fetch| {
            let counts = self.is_up(fetch.node) || fetch.done.is_some() && leaves(fetch.node);
            fetch.outcome != Outcome::Replaced && counts
        })
    }

    fn begun(&self) -> impl Iterator<Item = &Fetch> {
        let fetches = self.record.fetches.iter();
        fetches.filter(|fetch| {
            let content = self.script.items[fetch.item].content;
            (self.from..=self.at).contains(&fetch.began)
                && self.is_meant(fetch.node)
                && self.content.is_none_or(|it| it == content)
        })
    }

    fn is_fetched(&self, fetch: &Fetch) -> bool {
        fetch.outcome == Outcome::Identical && fetch.took(self.at).is_some()
    }

    fn is_meant(&self, node: usize) -> bool {
        self.nodes
            .as_ref()
            .is_none_or(|nodes| nodes.contains(&node))
    }

    fn is_up(&self, node: usize) -> bool {
        self.record.is_up(node, self.at)
    }

    fn all_fetched(&self) -> Measured {
        let missing: Vec<_> = self.fetches().filter(|it| !self.is_fetched(it)).collect();
        let all = self.fetches().count();
        let value = (all > 0).then(|| yes(missing.is_empty()));
        let because = match missing.first() {
            Some(first) => format!(
                "{} of {all} fetches have no identical copy; {}",
                missing.len(),
                self.say(first)
            ),
            None => "nobody fetched anything".to_owned(),
        };
        self.measured(value, because, missing)
    }

    fn fetched_fraction(&self) -> Measured {
        let missing: Vec<_> = self.fetches().filter(|it| !self.is_fetched(it)).collect();
        let all = self.fetches().count();
        let value = (all > 0).then(|| 1.0 - count(missing.len()) / count(all));
        let because = missing.first().map(|first| self.say(first));
        self.measured(value, because.unwrap_or_default(), missing)
    }

    fn failed_fetches(&self) -> Measured {
        let failed = |fetch: &&Fetch| matches!(fetch.outcome, Outcome::Failed(_));
        let failed: Vec<_> = self.fetches().filter(failed).collect();
        let because = failed.first().map(|first| self.say(first));
        let value = Some(count(failed.len()));
        self.measured(value, because.unwrap_or_default(), failed)
    }

    fn no_wrong_bytes(&self) -> Measured {
        let wrong = |fetch: &&Fetch| fetch.outcome == Outcome::Different;
        let wrong: Vec<_> = self.begun().filter(wrong).collect();
        let because = wrong.first().map(|first| self.say(first));
        let value = Some(yes(wrong.is_empty()));
        self.measured(value, because.unwrap_or_default(), wrong)
    }

    fn done_within(&self) -> Measured {
        let mut missing: Vec<_> = self.fetches().filter(|it| !self.is_fetched(it)).collect();
        if let Some(first) = missing.first() {
            let because = self.say(first);
            return self.measured(Some(f64::INFINITY), because, missing);
        }
        let slowest = self.fetches().max_by_key(|it| it.took(self.at));
        missing.extend(slowest);
        let value = slowest.and_then(|it| it.took(self.at)).map(millis);
        let because = slowest.map(|it| format!("the last was {}", self.name(it.node)));
        self.measured(value, because.unwrap_or_default(), missing)
    }

    /// The largest of all items: until all had it, over what one copy takes on its owner's line.
    fn time_ratio(&self) -> Measured {
        let mut spans: BTreeMap<usize, (Duration, Duration)> = BTreeMap::new();
        for fetch in self.fetches() {
            let Some(done) = fetch.done.filter(|_| self.is_fetched(fetch)) else {
                let because = self.say(fetch);
                return self.measured(Some(f64::INFINITY), because, vec![fetch]);
            };
            let span = spans.entry(fetch.item).or_insert((fetch.began, done));
            *span = (span.0.min(fetch.began), span.1.max(done));
        }
        let ratio = |(item, (began, done)): (usize, (Duration, Duration))| {
            let item = &self.script.items[item];
            let line = self.script.network.as_ref()?.line(item.owner);
            let rate = bytes_as_f64(line.up.bytes_per_second()?);
            let one_copy = bytes_as_f64(item.bytes) / rate;
            Some((done.saturating_sub(began).as_secs_f64() / one_copy, item))
        };
        let ratios = spans.into_iter().filter_map(ratio);
        let largest = ratios.max_by(|one, other| one.0.total_cmp(&other.0));
        let because = match largest {
            Some((_, item)) => format!("`{}` took longest", item.name),
            None => "no owner has a line with a rate `up`".to_owned(),
        };
        self.measured(largest.map(|it| it.0), because, Vec::new())
    }

    fn origin_copies(&self) -> Measured {
        let mut owned: BTreeMap<usize, u64> = BTreeMap::new();
        for item in &self.script.items {
            if self.content.is_none_or(|it| it == item.content) {
                *owned.entry(item.owner).or_default() += item.bytes;
            }
        }
        let sample = self.record.sample(self.at);
        let copies = |(owner, bytes): (usize, u64)| {
            let sent = sample?.sent.get(owner)?;
            Some((bytes_as_f64(*sent) / bytes_as_f64(bytes), owner))
        };
        let copies = owned.into_iter().filter_map(copies);
        let most = copies.max_by(|one, other| one.0.total_cmp(&other.0));
        Measured {
            value: most.map(|it| it.0),
            because: most.map_or_else(String::new, |it| format!("{} sent most", self.name(it.1))),
            look_at: most.into_iter().map(|it| it.1).collect(),
        }
    }

    /// Which part of the bytes that were sent to anybody came from those that count.
    fn share(&self, counts: impl Fn(&Fetch, usize) -> bool) -> Measured {
        let (mut some, mut all) = (0, 0);
        for fetch in self.begun() {
            for &(from, bytes) in &fetch.from {
                all += bytes;
                if from.is_some_and(|from| counts(fetch, from)) {
                    some += bytes;
                }
            }
        }
        plain((all > 0).then(|| bytes_as_f64(some) / bytes_as_f64(all)))
    }

    /// Whether two nodes are near each other by the links as they were at the start, as nodes judge
    /// it that are set to nothing else.
    fn is_near(&self, one: usize, other: usize) -> bool {
        let plan = self.script.network.as_ref();
        plan.is_some_and(|plan| {
            let near = NearConfig::default().near_rtt;
            plan.round_trip(one, other) <= near || plan.share_lan(one, other)
        })
    }

    fn late_p95(&self) -> Measured {
        let first = self.begun().map(|fetch| fetch.began).min();
        let late = first.map(|first| first.saturating_add(LATE_AFTER));
        self.fetch_time_p95(self.fetches().filter(|it| Some(it.began) >= late))
    }

    fn fetch_time_p95<'a>(&self, fetches: impl Iterator<Item = &'a Fetch>) -> Measured {
        let took = fetches.map(|it| match self.is_fetched(it) {
            true => it.took(self.at).map_or(f64::INFINITY, millis),
            false => f64::INFINITY,
        });
        plain(quantile(took.collect(), 0.95))
    }

    fn lookups(&self) -> impl Iterator<Item = &Lookup> {
        let lookups = self.record.lookups.iter();
        lookups.filter(|it| it.began + it.took <= self.at && self.is_meant(it.node))
    }

    fn lookup_times(&self) -> Vec<f64> {
        let found = self.lookups().filter(|it| it.found.is_ok());
        found.map(|it| millis(it.took)).collect()
    }

    fn lookups_succeed(&self) -> Measured {
        let failed = || self.lookups().filter(|it| it.found.is_err());
        let all = self.lookups().count();
        let because = failed().next().map(|first| {
            let error = first.found.as_ref().err().map_or("", String::as_str);
            let failed = failed().count();
            format!(
                "{failed} of {all} failed; that of {}: {error}",
                self.name(first.node)
            )
        });
        Measured {
            value: (all > 0).then(|| yes(because.is_none())),
            because: because.unwrap_or_else(|| "nobody looked for anything".to_owned()),
            look_at: failed().map(|it| it.node).collect(),
        }
    }

    fn memory_per_node(&self) -> Measured {
        let before = self.record.memory_before.unwrap_or(0);
        let per_node = |sample: &super::record::Sample| {
            let memory = sample.memory?.saturating_sub(before);
            (sample.up > 0).then(|| bytes_as_f64(memory) / count(sample.up))
        };
        plain(self.record.sample(self.at).and_then(per_node))
    }

    fn measured(&self, value: Option<f64>, because: String, of: Vec<&Fetch>) -> Measured {
        let nodes: BTreeSet<_> = of.into_iter().map(|fetch| fetch.node).collect();
        Measured {
            value,
            because,
            look_at: nodes.into_iter().collect(),
        }
    }

    /// What became of a fetch, in a sentence.
    fn say(&self, fetch: &Fetch) -> String {
        let (node, item) = (self.name(fetch.node), &self.script.items[fetch.item].name);
        match &fetch.outcome {
            Outcome::Failed(why) => format!("{node} gave up on `{item}`: {why}"),
            Outcome::Different => format!("the copy of `{item}` on {node} is not what was shared"),
            _ => format!("{node} did not have `{item}` by then"),
        }
    }

    fn name(&self, node: usize) -> &str {
        self.scenario.members.name(node)
    }
}

fn plain(value: Option<f64>) -> Measured {
    Measured {
        value,
        because: String::new(),
        look_at: Vec::new(),
    }
}

fn yes(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^53 are counted here"
)]
fn count(number: usize) -> f64 {
    number as f64
}

/// The value below which the given part of all lies: the nearest rank. None of nothing.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = rank(values.len(), part);
    values.get(rank.max(1) - 1).copied()
}

/// How many the given part of so many is, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank is whole, and at most the length"
)]
fn rank(len: usize, part: f64) -> usize {
    (count(len) * part).ceil() as usize
}

#[cfg(test)]
mod tests;
