#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::{
    run::{self, verdicts},
    scenario::Overrides,
};

/// A report of a run with everything in it, one name of which is an attack on whoever reads it.
fn report() -> (Report, Script, Vec<Verdict>) {
    let text = "name = \"test\"\ndescription = \"<script>alert('x')</script> & more\"\nnodes = 3\n\
                [[assert]]\nthat = \"all-fetched\"\n[[assert]]\nthat = \"nodes-up >= 3\"";
    let scenario = Scenario::read("test.toml", text, &Overrides::default()).unwrap();
    let script = Script::draw(&scenario).unwrap();
    let at = Duration::from_secs;
    let fetch = |node, outcome, done| run::Fetch {
        node,
        item: 0,
        began: at(1),
        done,
        outcome,
        from: vec![(Some(0), 16 << 20), (None, 3)],
    };
    let record = Record {
        elapsed: at(9),
        fetches: vec![
            fetch(1, Outcome::Identical, Some(at(3))),
            fetch(2, Outcome::Failed("<b>\"no\"</b>".to_owned()), None),
        ],
        lookups: vec![run::Lookup {
            node: 1,
            item: 0,
            began: at(2),
            took: Duration::from_millis(40),
            hops: Some(2),
            found: Ok(1),
        }],
        happenings: vec![run::Happening {
            planned: at(4),
            done: at(4),
            what: "node-02 is killed".to_owned(),
            node: Some(2),
            error: Some("<i>".to_owned()),
        }],
        samples: (0..9)
            .map(|seconds| run::Sample {
                at: at(seconds),
                up: 3,
                fetching: 2,
                sent: vec![seconds << 20, 0, 0],
                memory: Some(90 << 20),
                ..run::Sample::default()
            })
            .collect(),
        ..Record::default()
    };
    let verdicts = verdicts(&scenario, &script, &record, None).unwrap();
    let report = Report::of(&scenario, Mode::Process, &script, &record, &verdicts);
    (report, script, verdicts)
}

#[test]
fn the_page_needs_nothing_else_and_obeys_no_name() {
    let (report, ..) = report();
    let page = html::page(&report);
    for outside in ["http:", "https:", "//", "src=", "href=", "@import", "url("] {
        let found = page
            .find(outside)
            .map(|at| &page[at.saturating_sub(40)..at + 20]);
        assert_eq!(found, None, "{outside}");
    }
    for markup in ["<script", "<b>\"no\"", "<i>"] {
        assert!(!page.contains(markup), "{markup}");
    }
    assert!(page.contains("&lt;script&gt;alert('x')&lt;/script&gt; &amp; more"));
    assert!(page.contains("Failed: 1 of 2"));
    assert!(
        page.contains("node-02 gave up on `content`: &lt;b&gt;"),
        "why it failed is told"
    );
    assert_eq!(page.matches("<svg").count(), 6, "one for each plot");
    assert_eq!(
        page.matches("<figure>").count(),
        page.matches("</figure>").count()
    );
}

#[test]
fn colours_are_those_that_the_style_knows() {
    let (report, ..) = report();
    let style = include_str!("report.css");
    for chart in charts::charts(&report) {
        for colour in chart
            .svg
            .split("=\"#")
            .skip(1)
            .filter_map(|rest| rest.get(..6))
        {
            assert!(
                style.contains(&format!("#{colour}")),
                "{}: #{colour}",
                chart.title
            );
        }
    }
}

#[test]
fn what_is_written_is_there_with_the_logs_to_read() {
    let (mut report, script, verdicts) = report();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("daemon.log");
    fs::write(&log, "it went wrong").unwrap();
    report.keep_logs(&verdicts, dir.path(), |node| {
        (node == 2).then(|| log.clone())
    });
    assert_eq!(
        report.assertions[0].logs,
        [dir.path().join("logs/node-02.log")]
    );
    assert!(report.assertions[1].logs.is_empty(), "it held");
    report.write(&script, dir.path()).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read(REPORT_JSON)).unwrap();
    assert_eq!(
        (&json["passed"], &json["version"]),
        (&false.into(), &1.into())
    );
    assert_eq!(json["fetches"][0]["from"][0]["node"], "node-00");
    assert_eq!(json["fetches"][1]["outcome"], "failed");
    assert_eq!(json["totals"]["fetched_bytes"], 2 * ((16 << 20) + 3));
    assert_eq!(json["totals"]["from_owners_bytes"], 2 * (16 << 20));
    assert_eq!(read(DECISIONS_LOG), script.to_string());
    assert!(read(REPORT_HTML).contains("logs/node-02.log"));
}
