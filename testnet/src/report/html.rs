//! The report for people: one page that needs nothing else, and tells the run to somebody who was
//! not there. What comes from names and nodes is escaped on its way into it.

use std::fmt::{self, Display, Write as _};

use super::{Assertion, Fetch, Node, Report, charts};

const STYLE: &str = include_str!("report.css");

/// Rows of the table of fetches; all of them are in the report for programs.
const ROWS_MAX: usize = 500;

/// Text that is no markup.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A page that grows. Writing to a string does not fail.
struct Page(String);

impl Page {
    fn add(&mut self, part: impl Display) {
        let _ = writeln!(self.0, "{part}");
    }

    /// A table; cells are escaped.
    fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        self.add("<div class=\"scroll\"><table><thead><tr>");
        for cell in head {
            self.add(format_args!("<th>{}</th>", Escaped(cell)));
        }
        self.add("</tr></thead><tbody>");
        for row in rows {
            self.add("<tr>");
            for cell in row {
                self.add(format_args!("<td>{}</td>", Escaped(cell)));
            }
            self.add("</tr>");
        }
        self.add("</tbody></table></div>");
    }
}

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = Page(String::new());
    let title = Escaped(&report.scenario);
    page.add(format_args!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}: a run of Shoal</title><style>{STYLE}</style></head><body><main>"
    ));
    verdict(&mut page, report);
    assertions(&mut page, report);
    story(&mut page, report);
    for chart in charts::charts(report) {
        page.add("<figure>");
        page.add(format_args!("<h2>{}</h2>", Escaped(chart.title)));
        page.add(format_args!("<p>{}</p>", Escaped(&chart.caption)));
        if !chart.legend.is_empty() {
            page.add("<p class=\"legend\">");
            for (class, text) in chart.legend {
                let text = Escaped(text);
                page.add(format_args!("<span><i class=\"{class}\"></i>{text}</span>"));
            }
            page.add("</p>");
        }
        let label = format!("<svg role=\"img\" aria-label=\"{}\" ", Escaped(chart.title));
        page.add(chart.svg.replacen("<svg ", &label, 1));
        page.add("</figure>");
    }
    timeline(&mut page, report);
    details(&mut page, report);
    page.add("</main></body></html>");
    page.0
}

fn verdict(page: &mut Page, report: &Report) {
    let failed = report.assertions.iter().filter(|it| !it.held).count();
    let (class, verdict) = match failed {
        0 => ("passed", "Passed".to_owned()),
        failed => (
            "failed",
            format!("Failed: {failed} of {}", report.assertions.len()),
        ),
    };
    page.add("<header>");
    page.add(format_args!("<p class=\"verdict {class}\">{verdict}</p>"));
    page.add(format_args!("<h1>{}</h1>", Escaped(&report.scenario)));
    page.add(format_args!(
        "<p class=\"lead\">{}</p>",
        Escaped(&report.description)
    ));
    let nodes = report.nodes.len();
    let elapsed = span(report.elapsed_ms);
    page.add(format_args!(
        "<p class=\"facts\">{nodes} nodes ({}), {elapsed}, seed {}</p></header>",
        Escaped(&report.mode),
        report.seed
    ));
}

fn assertions(page: &mut Page, report: &Report) {
    page.add("<section><h2>What had to hold</h2><div class=\"scroll\"><table><thead><tr>");
    for cell in ["", "assertion", "when", "expected", "seen"] {
        page.add(format_args!("<th>{cell}</th>"));
    }
    page.add("</tr></thead><tbody>");
    for Assertion {
        that,
        at_ms,
        held,
        expected,
        seen,
        because,
        logs,
    } in &report.assertions
    {
        let (class, sign) = if *held {
            ("held", "✓")
        } else {
            ("broken", "✗")
        };
        let when = at_ms.map_or_else(|| "at the end".to_owned(), span);
        page.add(format_args!(
            "<tr class=\"{class}\"><td>{sign}</td><td><code>{}</code></td><td>{when}</td>\
             <td>{}</td><td>{}</td></tr>",
            Escaped(that),
            Escaped(expected),
            Escaped(seen)
        ));
        if *held {
            continue;
        }
        let logs: Vec<_> = logs.iter().map(|log| log.display().to_string()).collect();
        let logs = match logs.is_empty() {
            true => String::new(),
            false => format!(" See {}.", Escaped(logs.join(", "))),
        };
        page.add(format_args!(
            "<tr class=\"why\"><td></td><td colspan=\"4\">{}{logs}</td></tr>",
            Escaped(because)
        ));
    }
    page.add("</tbody></table></div></section>");
}

/// The run in a few sentences.
fn story(page: &mut Page, report: &Report) {
    let totals = &report.totals;
    page.add("<section><h2>What happened</h2>");
    let bytes: u64 = report.contents.iter().map(|it| it.bytes).sum();
    let shared = match report.contents.as_slice() {
        [one] => format!(
            "{} shared <b>{}</b> ({}).",
            Escaped(&one.owner),
            Escaped(&one.name),
            size(one.bytes)
        ),
        many => format!("{} things were shared, {} in all.", many.len(), size(bytes)),
    };
    page.add(format_args!("<p>{shared}"));
    if totals.fetches > 0 {
        page.add(format_args!(
            "Of {} fetches, {} ended in a copy that is identical to the original.",
            totals.fetches, totals.identical
        ));
    }
    if let (Some(median), Some(max)) = (totals.fetch_median_ms, totals.fetch_max_ms) {
        page.add(format_args!(
            "Half of them took {} or less, the longest {}.",
            span(median),
            span(max)
        ));
    }
    if totals.fetched_bytes > 0 {
        let of_evil = match totals.from_evil_bytes {
            0 => String::new(),
            bytes => format!(", and {} from nodes that do wrong", size(bytes)),
        };
        page.add(format_args!(
            "Of {} that were sent for them, {} came from owners, {} from other fetchers{of_evil}.",
            size(totals.fetched_bytes),
            size(totals.from_owners_bytes),
            size(totals.from_peers_bytes)
        ));
    }
    if totals.lookups > 0 {
        let (found, all) = (totals.lookups_found, totals.lookups);
        page.add(format_args!("{found} of {all} lookups named a provider."));
    }
    if let Some(memory) = totals.memory_per_node_bytes {
        page.add(format_args!(
            "At the end a node took {} of memory.",
            size(memory)
        ));
    }
    if report.cut_off {
        page.add("The run was ended by its limit, with work that was not done.");
    }
    page.add("</p></section>");
}

fn timeline(page: &mut Page, report: &Report) {
    page.add("<section><h2>Timeline</h2>");
    let rows = report.happenings.iter().map(|it| {
        let error = it.error.as_deref().map(first_line).unwrap_or_default();
        vec![
            seconds(it.planned_ms),
            seconds(it.done_ms),
            it.what.clone(),
            error,
        ]
    });
    page.table(&["planned, s", "done, s", "what", ""], rows);
    page.add("</section>");
}

fn details(page: &mut Page, report: &Report) {
    page.add("<details><summary>Nodes</summary>");
    let rows = report.nodes.iter().map(node_row);
    page.table(
        &[
            "node",
            "group",
            "region",
            "does wrong",
            "up at the end",
            "sent",
        ],
        rows,
    );
    page.add("</details><details><summary>Fetches</summary>");
    let rows = report.fetches.iter().take(ROWS_MAX).map(fetch_row);
    page.table(
        &["node", "content", "began, s", "took", "outcome", "from"],
        rows,
    );
    let more = report.fetches.len().saturating_sub(ROWS_MAX);
    if more > 0 {
        page.add(format_args!("<p>and {more} more, in report.json</p>"));
    }
    page.add("</details>");
    let again = format!(
        "shoal testnet run {} --seed {}",
        report.scenario, report.seed
    );
    page.add(format_args!(
        "<footer><p>Everything that chance decided follows from the seed, and is in \
         decisions.log. All numbers of this page are in report.json. To see it again: \
         <code>{}</code></p></footer>",
        Escaped(again)
    ));
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
