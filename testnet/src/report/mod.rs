//! What a run came to, for programs (`report.json`) and for people (`report.html`).
//!
//! Sizes are bytes, lengths of time milliseconds since the start of the run. Fields keep their
//! names and their meaning; new ones may come.

mod charts;
mod document;
mod html;
mod plot;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

pub use document::{
    Assertion, Compared, Content, Fetch, Happening, Lookup, Node, Report, Sample, Source, Totals,
};

use crate::{
    Error,
    evil::Deeds,
    run::{self, Outcome, Record, Script, Verdict, quantile},
    scenario::{Mode, Scenario, values::bytes_as_f64},
};

/// The report for programs.
pub const REPORT_JSON: &str = "report.json";
/// The report for people.
pub const REPORT_HTML: &str = "report.html";
/// What the seed decided.
pub const DECISIONS_LOG: &str = "decisions.log";
/// The logs of the nodes that a failed assertion points to.
const LOGS: &str = "logs";

/// What this module writes.
const VERSION: u32 = 1;

impl Report {
    /// The report of a run.
    #[must_use]
    pub fn of(
        scenario: &Scenario,
        mode: Mode,
        script: &Script,
        record: &Record,
        verdicts: &[Verdict],
    ) -> Self {
        let name = |node: usize| scenario.members.name(node).to_owned();
        let maker = Maker {
            scenario,
            script,
            record,
        };
        Self {
            version: VERSION,
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            seed: scenario.seed,
            mode: mode.to_string(),
            passed: verdicts.iter().all(|verdict| verdict.held),
            elapsed_ms: millis(record.elapsed),
            cut_off: record.cut_off,
            assertions: verdicts.iter().map(assertion).collect(),
            totals: maker.totals(),
            settings: scenario.settings.iter().map(ToString::to_string).collect(),
            compared: None,
            nodes: maker.nodes(),
            contents: script
                .items
                .iter()
                .map(|item| Content {
                    name: item.name.clone(),
                    owner: name(item.owner),
                    bytes: item.bytes,
                    files: item.files,
                })
                .collect(),
            happenings: record.happenings.iter().map(happening).collect(),
            fetches: record.fetches.iter().map(|it| maker.fetch(it)).collect(),
            lookups: record.lookups.iter().map(|it| maker.lookup(it)).collect(),
            samples: record.samples.iter().map(|it| maker.sample(it)).collect(),
        }
    }

    /// Adds what nodes have done wrong.
    pub(crate) fn add_deeds(&mut self, deeds: impl Iterator<Item = (usize, Deeds)>) {
        for (node, deeds) in deeds {
            if let Some(node) = self.nodes.get_mut(node) {
                node.deeds = Some(deeds);
            }
        }
    }

    /// Keeps the logs that failed assertions point to: `log_of` says where a node's is, and `dir`
    /// is where they stay. What cannot be copied is left out.
    pub fn keep_logs(
        &mut self,
        verdicts: &[Verdict],
        dir: &Path,
        log_of: impl Fn(usize) -> Option<PathBuf>,
    ) {
        let logs = dir.join(LOGS);
        for (assertion, verdict) in self.assertions.iter_mut().zip(verdicts) {
            for &node in &verdict.look_at {
                let (Some(from), Some(entry)) = (log_of(node), self.nodes.get(node)) else {
                    continue;
                };
                let to = logs.join(format!("{}.log", entry.name));
                let copied = fs::create_dir_all(&logs).and_then(|()| fs::copy(from, &to));
                if copied.is_ok() {
                    assertion.logs.push(to);
                }
            }
        }
    }

    /// Writes `report.json`, `report.html` and `decisions.log` into `dir`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, script: &Script, dir: &Path) -> Result<(), Error> {
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(Error::io("write", &path))
        };
        let json = serde_json::to_string_pretty(self).map_err(|error| {
            let path = dir.join(REPORT_JSON);
            Error::io("write", &path)(error.into())
        })?;
        write(REPORT_JSON, &(json + "\n"))?;
        write(DECISIONS_LOG, &script.to_string())?;
        write(REPORT_HTML, &html::page(self))
    }
}

/// A run that is being put into the words of a report.
struct Maker<'a> {
    scenario: &'a Scenario,
    script: &'a Script,
    record: &'a Record,
}

impl Maker<'_> {
    fn name(&self, node: usize) -> String {
        self.scenario.members.name(node).to_owned()
    }

    fn item(&self, item: usize) -> String {
        self.script.items[item].name.clone()
    }

    fn is_owner(&self, node: usize) -> bool {
        self.script.items.iter().any(|item| item.owner == node)
    }

    fn nodes(&self) -> Vec<Node> {
        let sent = self.record.samples.last().map(|sample| &sample.sent);
        let members = self.scenario.members.iter().enumerate();
        let node = |(index, member): (usize, &crate::scenario::Member)| {
            let group = self.scenario.members.group_of(index);
            Node {
                name: member.name.clone(),
                group: group.map(|it| it.name.clone()).unwrap_or_default(),
                region: group.and_then(|it| it.region.clone()),
                evil: member.evil.map(|evil| evil.to_string()),
                deeds: None,
                up: self.record.is_up(index, self.record.elapsed),
                sent_bytes: sent.and_then(|it| it.get(index).copied()).unwrap_or(0),
            }
        };
        members.map(node).collect()
    }

    fn totals(&self) -> Totals {
        let (record, script) = (self.record, self.script);
        let mut totals = Totals {
            fetches: record.fetches.len(),
            lookups: record.lookups.len(),
            ..Totals::default()
        };
        for fetch in &record.fetches {
            totals.identical += usize::from(fetch.outcome == Outcome::Identical);
            totals.fetched_bytes += fetch.bytes();
            for &(from, bytes) in &fetch.from {
                match from {
                    Some(it) if it == script.items[fetch.item].owner => {
                        totals.from_owners_bytes += bytes;
                    }
                    Some(it) if self.scenario.members.is_evil(it) => {
                        totals.from_evil_bytes += bytes;
                    }
                    Some(_) => totals.from_peers_bytes += bytes,
                    None => {}
                }
            }
        }
        let took: Vec<f64> = record
            .fetches
            .iter()
            .filter_map(|it| it.took(record.elapsed).map(as_f64))
            .collect();
        totals.fetch_median_ms = quantile(took.clone(), 0.5).map(whole);
        totals.fetch_max_ms = quantile(took, 1.0).map(whole);
        let found = || record.lookups.iter().filter(|it| it.found.is_ok());
        totals.lookups_found = found().count();
        let times: Vec<f64> = found().map(|it| as_f64(it.took)).collect();
        totals.lookup_median_ms = quantile(times.clone(), 0.5).map(whole);
        totals.lookup_p95_ms = quantile(times, 0.95).map(whole);
        let hops: Vec<f64> = found().filter_map(|it| it.hops).map(f64::from).collect();
        totals.hops_median = quantile(hops.clone(), 0.5).map(whole);
        totals.hops_p95 = quantile(hops, 0.95).map(whole);
        totals.memory_per_node_bytes = record.samples.last().and_then(|sample| {
            let before = record.memory_before.unwrap_or(0);
            sample
                .memory?
                .saturating_sub(before)
                .checked_div(sample.up as u64)
        });
        totals
    }

    fn fetch(&self, fetch: &run::Fetch) -> Fetch {
        let (outcome, error) = match &fetch.outcome {
            Outcome::Unfinished | Outcome::Landed(_) => ("unfinished", None),
            Outcome::Identical => ("identical", None),
            Outcome::Different => ("different", None),
            Outcome::Failed(why) => ("failed", Some(why.clone())),
            Outcome::Replaced => ("replaced", None),
        };
        Fetch {
            node: self.name(fetch.node),
            content: self.item(fetch.item),
            began_ms: millis(fetch.began),
            done_ms: fetch.done.map(millis),
            outcome,
            error,
            from: fetch
                .from
                .iter()
                .map(|&(node, bytes)| Source {
                    node: node.map(|node| self.name(node)),
                    bytes,
                })
                .collect(),
        }
    }

    fn lookup(&self, lookup: &run::Lookup) -> Lookup {
        Lookup {
            node: self.name(lookup.node),
            content: self.item(lookup.item),
            began_ms: millis(lookup.began),
            took_ms: millis(lookup.took),
            hops: lookup.hops,
            providers: lookup.found.as_ref().ok().copied(),
            error: lookup.found.as_ref().err().cloned(),
        }
    }

    fn sample(&self, sample: &run::Sample) -> Sample {
        let sum = |owners: bool| {
            let sent = sample.sent.iter().enumerate();
            let sent = sent.filter(|(node, _)| self.is_owner(*node) == owners);
            sent.map(|(_, bytes)| bytes).sum()
        };
        Sample {
            at_ms: millis(sample.at),
            up: sample.up,
            fetching: sample.fetching,
            sent_by_owners_bytes: sum(true),
            sent_by_others_bytes: sum(false),
            memory_bytes: sample.memory,
        }
    }
}

fn assertion(verdict: &Verdict) -> Assertion {
    Assertion {
        that: verdict.that.clone(),
        at_ms: verdict.at.map(millis),
        held: verdict.held,
        expected: verdict.expected.clone(),
        seen: verdict.seen.clone(),
        because: verdict.because.clone(),
        logs: Vec::new(),
    }
}

fn happening(happening: &run::Happening) -> Happening {
    Happening {
        planned_ms: millis(happening.planned),
        done_ms: millis(happening.done),
        what: happening.what.clone(),
        error: happening.error.clone(),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn as_f64(span: Duration) -> f64 {
    bytes_as_f64(millis(span))
}

/// A number that was whole before it became a float.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is whole and not negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
