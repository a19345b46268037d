//! The report for people: one page that needs nothing else, and tells the run to somebody who was
//! not there. What comes from names and nodes is escaped on its way into it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Assertion, Compared, Fetch, Node, Report, charts};

const STYLE: &str = include_str!("report.css");

/// Rows of the table of fetches; all of them are in the report for programs.
const ROWS_MAX: usize = 500;

/// The page.
pub(super) fn page(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.scenario) ": a run of Shoal" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (verdict(report))
                    (assertions(report))
                    @if let Some(compared) = &report.compared { (comparison(report, compared)) }
                    (story(report))
                    @for chart in charts::charts(report) { (figure(&chart)) }
                    (timeline(report))
                    (details(report))
                }
            }
        }
    };
    page.into_string()
}

fn verdict(report: &Report) -> Markup {
    let failed = report.assertions.iter().filter(|it| !it.held).count();
    let (class, verdict) = match failed {
        0 => ("passed", "Passed".to_owned()),
        failed => (
            "failed",
            format!("Failed: {failed} of {}", report.assertions.len()),
        ),
    };
    let facts = format!(
        "{} nodes ({}), {}, seed {}",
        report.nodes.len(),
        report.mode,
        span(report.elapsed_ms),
        report.seed
    );
    html! {
        header {
            p class={ "verdict " (class) } { (verdict) }
            h1 { (report.scenario) }
            p.lead { (report.description) }
            p.facts { (facts) }
        }
    }
}

/// The run beside the one that it is compared with.
fn comparison(report: &Report, compared: &Compared) -> Markup {
    let (this, other) = (&report.totals, &compared.totals);
    let time = |ms: Option<u64>| ms.map_or_else(|| "none".to_owned(), span);
    let rows = [
        (
            "all of it took",
            span(report.elapsed_ms),
            span(compared.elapsed_ms),
        ),
        (
            "identical copies",
            this.identical.to_string(),
            other.identical.to_string(),
        ),
        (
            "half of all fetches took less than",
            time(this.fetch_median_ms),
            time(other.fetch_median_ms),
        ),
        (
            "the longest fetch took",
            time(this.fetch_max_ms),
            time(other.fetch_max_ms),
        ),
        (
            "bytes from owners",
            size(this.from_owners_bytes),
            size(other.from_owners_bytes),
        ),
        (
            "bytes from other nodes",
            size(this.from_peers_bytes),
            size(other.from_peers_bytes),
        ),
    ];
    let mut differences = compared.settings.clone();
    if !compared.evil {
        differences.push("nobody does wrong".to_owned());
    }
    html! {
        section {
            h2 { "Compared" }
            p {
                "The same scenario with the same choices of chance, once as it is and once "
                (compared.name) " (" (differences.join(", ")) ")."
            }
            div.scroll {
                table {
                    thead { tr { th {} th { "as it is" } th { (compared.name) } } }
                    tbody {
                        @for (what, this, other) in &rows {
                            tr { td { (what) } td { (this) } td { (other) } }
                        }
                    }
                }
            }
        }
    }
}

fn assertions(report: &Report) -> Markup {
    html! {
        section {
            h2 { "What had to hold" }
            div.scroll {
                table {
                    thead {
                        tr {
                            @for cell in ["", "assertion", "when", "expected", "seen"] { th { (cell) } }
                        }
                    }
                    tbody {
                        @for assertion in &report.assertions { (assertion_rows(assertion)) }
                    }
                }
            }
        }
    }
}

/// What was expected and seen; below it why it did not hold, if so.
fn assertion_rows(assertion: &Assertion) -> Markup {
    let (class, sign) = match assertion.held {
        true => ("held", "✓"),
        false => ("broken", "✗"),
    };
    let when = assertion.at_ms;
    let when = when.map_or_else(|| "at the end".to_owned(), span);
    let logs = assertion.logs.iter().map(|log| log.display().to_string());
    let logs: Vec<_> = logs.collect();
    html! {
        tr class=(class) {
            td { (sign) }
            td { code { (assertion.that) } }
            td { (when) }
            td { (assertion.expected) }
            td { (assertion.seen) }
        }
        @if !assertion.held {
            tr.why {
                td {}
                td colspan="4" {
                    (assertion.because)
                    @if !logs.is_empty() { " See " (logs.join(", ")) "." }
                }
            }
        }
    }
}

/// The run in a few sentences.
fn story(report: &Report) -> Markup {
    let totals = &report.totals;
    let bytes: u64 = report.contents.iter().map(|it| it.bytes).sum();
    html! {
        section {
            h2 { "What happened" }
            p {
                @match report.contents.as_slice() {
                    [one] => { (one.owner) " shared " b { (one.name) } " (" (size(one.bytes)) "). " }
                    many => { (many.len()) " things were shared, " (size(bytes)) " in all. " }
                }
                @if totals.fetches > 0 {
                    "Of " (totals.fetches) " fetches, " (totals.identical)
                    " ended in a copy that is identical to the original. "
                }
                @if let (Some(median), Some(max)) = (totals.fetch_median_ms, totals.fetch_max_ms) {
                    "Half of them took " (span(median)) " or less, the longest " (span(max)) ". "
                }
                @if totals.fetched_bytes > 0 {
                    "Of " (size(totals.fetched_bytes)) " that were sent for them, "
                    (size(totals.from_owners_bytes)) " came from owners, "
                    (size(totals.from_peers_bytes)) " from other fetchers"
                    @if totals.from_evil_bytes > 0 {
                        ", and " (size(totals.from_evil_bytes)) " from nodes that do wrong"
                    }
                    ". "
                }
                @if totals.lookups > 0 {
                    (totals.lookups_found) " of " (totals.lookups) " lookups named a provider. "
                }
                @if let Some(memory) = totals.memory_per_node_bytes {
                    "At the end a node took " (size(memory)) " of memory. "
                }
                @if report.cut_off {
                    "The run was ended by its limit, with work that was not done."
                }
            }
        }
    }
}

fn figure(chart: &charts::Chart) -> Markup {
    // The plotting library has no word for those who do not see the plot.
    let label = html! { svg role="img" aria-label=(chart.title) {} }.into_string();
    let label = label.replace("></svg>", " ");
    let svg = chart.svg.replacen("<svg ", &label, 1);
    html! {
        figure {
            h2 { (chart.title) }
            p { (chart.caption) }
            @if !chart.legend.is_empty() {
                p.legend {
                    @for (class, text) in &chart.legend {
                        span { i class=(class) {} (text) }
                    }
                }
            }
            (PreEscaped(svg))
        }
    }
}

/// A table with scroll bars of its own.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Markup {
    html! {
        div.scroll {
            table {
                thead {
                    tr { @for cell in head { th { (cell) } } }
                }
                tbody {
                    @for row in rows {
                        tr { @for cell in row { td { (cell) } } }
                    }
                }
            }
        }
    }
}

fn timeline(report: &Report) -> Markup {
    let rows = report.happenings.iter().map(|it| {
        let error = it.error.as_deref().map(first_line).unwrap_or_default();
        vec![
            seconds(it.planned_ms),
            seconds(it.done_ms),
            it.what.clone(),
            error,
        ]
    });
    html! {
        section {
            h2 { "Timeline" }
            (table(&["planned, s", "done, s", "what", ""], rows))
        }
    }
}

fn details(report: &Report) -> Markup {
    let nodes = [
        "node",
        "group",
        "region",
        "does wrong",
        "up at the end",
        "sent",
    ];
    let fetches = ["node", "content", "began, s", "took", "outcome", "from"];
    let more = report.fetches.len().saturating_sub(ROWS_MAX);
    html! {
        details {
            summary { "Nodes" }
            (table(&nodes, report.nodes.iter().map(node_row)))
        }
        details {
            summary { "Fetches" }
            (table(&fetches, report.fetches.iter().take(ROWS_MAX).map(fetch_row)))
            @if more > 0 { p { "and " (more) " more, in report.json" } }
        }
        footer {
            p {
                "Everything that chance decided follows from the seed, and is in decisions.log. All numbers of \
                 this page are in report.json. To see it again: "
                code { "shoal testnet run " (report.scenario) " --seed " (report.seed) }
            }
        }
    }
}

fn node_row(node: &Node) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![
        node.name.clone(),
        node.group.clone(),
        or_none(&node.region),
        or_none(&node.evil),
        if node.up { "yes" } else { "no" }.to_owned(),
        size(node.sent_bytes),
    ]
}

fn fetch_row(fetch: &Fetch) -> Vec<String> {
    let took = fetch
        .done_ms
        .map(|done| done.saturating_sub(fetch.began_ms));
    let from = fetch.from.iter().map(|source| {
        let node = source.node.as_deref().unwrap_or("a stranger");
        format!("{node} {}", size(source.bytes))
    });
    let outcome = match &fetch.error {
        Some(error) => format!("{}: {}", fetch.outcome, first_line(error)),
        None => fetch.outcome.to_owned(),
    };
    vec![
        fetch.node.clone(),
        fetch.content.clone(),
        seconds(fetch.began_ms),
        took.map(span).unwrap_or_default(),
        outcome,
        from.collect::<Vec<_>>().join(", "),
    ]
}

/// What comes after it is the end of a log.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn seconds(millis: u64) -> String {
    format!("{}.{:01}", millis / 1000, millis % 1000 / 100)
}

fn span(millis: u64) -> String {
    match millis / 1000 {
        0..120 => format!("{} s", seconds(millis)),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
