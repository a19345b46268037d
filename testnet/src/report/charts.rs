//! The plots of a report.

use std::collections::BTreeMap;

use super::{
    Report,
    plot::{self, Axis, Bars, Ink, Line, f64_of},
};
use crate::{run::quantile, scenario::values::bytes_as_f64};

/// More rows than this are told by their groups.
const ROWS_MAX: usize = 40;

/// A plot, and what it shows.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) caption: String,
    /// What the colours mean.
    pub(super) legend: Vec<(&'static str, &'static str)>,
    pub(super) svg: String,
}

/// All plots that a run has something for.
pub(super) fn charts(report: &Report) -> Vec<Chart> {
    let charts = [
        time_to_done(report),
        sources(report),
        egress(report),
        activity(report),
        lookup_times(report),
        hops(report),
    ];
    charts.into_iter().flatten().collect()
}

fn time_to_done(report: &Report) -> Option<Chart> {
    let took = |fetch: &super::Fetch| Some(seconds(fetch.done_ms?.checked_sub(fetch.began_ms)?));
    let took: Vec<f64> = report.fetches.iter().filter_map(took).collect();
    let median = quantile(took.clone(), 0.5)?;
    let svg = distribution(took, report.fetches.len(), "seconds since the fetch began")?;
    Some(Chart {
        title: "Time to done",
        caption: format!(
            "Which part of all fetches was done after how long. Half of them took {median:.1} s or \
             less."
        ),
        legend: Vec::new(),
        svg,
    })
}

fn sources(report: &Report) -> Option<Chart> {
    let by_group = report.nodes.len() > ROWS_MAX;
    let node = |name: &str| report.nodes.iter().find(|it| it.name == name);
    let mut rows: BTreeMap<String, [f64; 4]> = BTreeMap::new();
    for fetch in &report.fetches {
        let Some(fetcher) = node(&fetch.node) else {
            continue;
        };
        let contents = &report.contents;
        let owner = contents.iter().find(|it| it.name == fetch.content)?;
        let row = if by_group {
            &fetcher.group
        } else {
            &fetcher.name
        };
        let row = rows.entry(row.clone()).or_default();
        for source in &fetch.from {
            let from = source.node.as_deref().and_then(node);
            let column = match from {
                Some(from) if from.name == owner.owner => 0,
                Some(from) if from.evil.is_some() => 3,
                Some(from) if from.region.is_some() && from.region == fetcher.region => 1,
                _ => 2,
            };
            row[column] += mib(source.bytes);
        }
    }
    let rows: Vec<Bars> = rows
        .into_iter()
        .map(|(name, parts)| Bars {
            name,
            parts: [Ink::Owner, Ink::Near, Ink::Peer, Ink::Evil]
                .into_iter()
                .zip(parts)
                .collect(),
        })
        .collect();
    let sum = |row: &Bars| row.parts.iter().map(|part| part.1).sum::<f64>();
    let max = rows.iter().map(sum).fold(0.0, f64::max);
    let axis = Axis {
        name: "MiB",
        max,
        write: number,
    };
    Some(Chart {
        title: "Where the bytes came from",
        caption: "What each fetcher got, by who sent it.".to_owned(),
        legend: vec![
            ("owner", "the owner"),
            ("near", "nodes of the same region"),
            ("peer", "other nodes"),
            ("evil", "nodes that do wrong"),
        ],
        svg: plot::bars(&axis, &rows)?,
    })
}

fn egress(report: &Report) -> Option<Chart> {
    let line = |ink, of: fn(&super::Sample) -> u64| Line {
        ink,
        points: points(report, |sample| mib(of(sample))),
        stepped: false,
    };
    let lines = [
        line(Ink::Peer, |sample| sample.sent_by_others_bytes),
        line(Ink::Owner, |sample| sample.sent_by_owners_bytes),
    ];
    let svg = plot::lines(&time(report), &up_to(&lines, "MiB"), &lines, &marks(report))?;
    Some(Chart {
        title: "Who sent how much",
        caption: "Payload that had been sent by each time, since the start.".to_owned(),
        legend: vec![
            ("owner", "owners"),
            ("peer", "all other nodes"),
            ("event", "something happened"),
        ],
        svg,
    })
}

fn activity(report: &Report) -> Option<Chart> {
    let line = |ink, of: fn(&super::Sample) -> usize| Line {
        ink,
        points: points(report, |sample| f64_of(of(sample))),
        stepped: true,
    };
    let lines = [
        line(Ink::Near, |sample| sample.up),
        line(Ink::Peer, |sample| sample.fetching),
    ];
    let svg = plot::lines(
        &time(report),
        &up_to(&lines, "how many"),
        &lines,
        &marks(report),
    )?;
    Some(Chart {
        title: "Nodes and transfers",
        caption: "How many nodes were up, and how many fetches were not over.".to_owned(),
        legend: vec![
            ("near", "nodes that were up"),
            ("peer", "fetches"),
            ("event", "something happened"),
        ],
        svg,
    })
}

fn lookup_times(report: &Report) -> Option<Chart> {
    let found = report.lookups.iter().filter(|it| it.error.is_none());
    let took: Vec<f64> = found.map(|it| seconds(it.took_ms)).collect();
    let (median, p95) = (quantile(took.clone(), 0.5)?, quantile(took.clone(), 0.95)?);
    Some(Chart {
        title: "Lookups in the DHT",
        caption: format!(
            "Which part of all lookups had named a provider after how long: half of them after \
             {median:.2} s, 19 of 20 after {p95:.2} s."
        ),
        legend: Vec::new(),
        svg: distribution(took, report.lookups.len(), "seconds")?,
    })
}

fn hops(report: &Report) -> Option<Chart> {
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for hops in report.lookups.iter().filter_map(|it| it.hops) {
        *counts.entry(hops).or_default() += 1.0;
    }
    let max = counts.values().copied().fold(0.0, f64::max);
    let rows: Vec<Bars> = counts
        .into_iter()
        .map(|(hops, count)| Bars {
            name: match hops {
                1 => "1 hop".to_owned(),
                more => format!("{more} hops"),
            },
            parts: vec![(Ink::Peer, count)],
        })
        .collect();
    let axis = Axis {
        name: "lookups",
        max,
        write: number,
    };
    Some(Chart {
        title: "Hops",
        caption: "The length of the way to the answer, over all lookups.".to_owned(),
        legend: Vec::new(),
        svg: plot::bars(&axis, &rows)?,
    })
}

/// Which part of `all` lies below each value.
fn distribution(mut values: Vec<f64>, all: usize, name: &str) -> Option<String> {
    values.sort_by(f64::total_cmp);
    let max = values.last().copied().unwrap_or_default();
    let part = |index: usize| 100.0 * f64_of(index) / f64_of(all.max(1));
    let steps = values.iter().enumerate();
    let steps = steps.map(|(index, &value)| (value, part(index + 1)));
    let line = Line {
        ink: Ink::Peer,
        points: std::iter::once((0.0, 0.0)).chain(steps).collect(),
        stepped: true,
    };
    let x = Axis {
        name,
        max,
        write: number,
    };
    let y = Axis {
        name: "of all, %",
        max: 100.0,
        write: number,
    };
    plot::lines(&x, &y, &[line], &[])
}

fn points(report: &Report, of: impl Fn(&super::Sample) -> f64) -> Vec<(f64, f64)> {
    let samples = report.samples.iter();
    samples.map(|it| (seconds(it.at_ms), of(it))).collect()
}

/// When something happened to the network; sharing is not much of an event.
fn marks(report: &Report) -> Vec<f64> {
    let happenings = report.happenings.iter();
    let marks = happenings.filter(|it| !it.what.contains(" shares "));
    marks.map(|it| seconds(it.done_ms)).collect()
}

fn time(report: &Report) -> Axis<'static> {
    Axis {
        name: "seconds since the start",
        max: seconds(report.elapsed_ms),
        write: number,
    }
}

fn up_to<'a>(lines: &[Line], name: &'a str) -> Axis<'a> {
    let values = lines.iter().flat_map(|line| &line.points);
    Axis {
        name,
        max: values.map(|point| point.1).fold(1.0, f64::max),
        write: number,
    }
}

/// As few digits as tell the values of an axis apart.
fn number(value: f64) -> String {
    match value.fract() == 0.0 {
        true => format!("{value:.0}"),
        false => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

fn seconds(millis: u64) -> f64 {
    bytes_as_f64(millis) / 1000.0
}

fn mib(bytes: u64) -> f64 {
    bytes_as_f64(bytes) / f64::from(1 << 20)
}
