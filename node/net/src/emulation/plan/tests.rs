#![allow(clippy::unwrap_used)]

use super::*;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rule(from: &str, to: &str, both_ways: bool, link: LinkChange) -> Rule {
    Rule {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        both_ways,
        link,
    }
}

fn blocked(blocked: bool) -> LinkChange {
    LinkChange {
        blocked: Some(blocked),
        ..LinkChange::default()
    }
}

/// Nodes whose lines take 1 ms, 2 ms, 3 ms, …
fn plan(nodes: u64) -> Plan {
    let line = |node| Line {
        latency: millis(node + 1),
        jitter: millis(node),
        loss: Loss::parts_per_million(100_000),
        ..Line::default()
    };
    Plan {
        nodes: (0..nodes).map(line).collect(),
        ..Plan::default()
    }
}

#[test]
fn a_link_is_what_the_lines_of_both_make_of_it() {
    let mut plan = plan(3);
    plan.nodes[0].stall = Some(Stall::new(millis(5_000), millis(100)));
    plan.nodes[1].stall = Some(Stall::new(millis(3_000), millis(10)));
    plan.nodes[1].reset = Some(Reset::new(millis(9_000)));
    let link = plan.link(0, Some(1));
    assert_eq!((link.latency, link.jitter), (millis(3), millis(1)));
    assert_eq!(link.loss, Loss::parts_per_million(190_000));
    assert_eq!(
        (link.stall, link.reset),
        (plan.nodes[1].stall, plan.nodes[1].reset)
    );
    assert_eq!(link, plan.link(1, Some(0)), "lines are alike both ways");
    let unknown = plan.link(2, None);
    assert_eq!(
        (unknown.latency, unknown.loss),
        (millis(3), plan.nodes[2].loss)
    );
    assert_eq!(
        plan.link(7, Some(8)),
        Link::default(),
        "beyond the end lines are perfect"
    );
}

#[test]
fn of_the_rules_for_a_link_the_last_word_counts() {
    let mut plan = plan(6);
    let slow = LinkChange {
        latency: Some(millis(80)),
        rate: Some("20mbit".parse().unwrap()),
        ..LinkChange::default()
    };
    plan.rules = vec![
        rule("0-2", "3-5", true, slow),
        rule("0-1", "3-4", false, blocked(true)),
        rule("1", "3", false, blocked(false)),
    ];
    let check = |from, to, latency, is_blocked| {
        let link = plan.link(from, Some(to));
        assert_eq!(
            (link.latency, link.blocked),
            (millis(latency), is_blocked),
            "{from} {to}"
        );
    };
    check(0, 3, 80, true);
    check(3, 0, 80, false);
    check(1, 3, 80, false);
    check(1, 4, 80, true);
    check(2, 5, 80, false);
    check(0, 1, 3, false);
    assert!(plan.cuts(0, 3) && plan.cuts(3, 0) && !plan.cuts(1, 3));
    plan.rules.push(rule("all", "all", false, blocked(true)));
    assert!(plan.link(4, Some(5)).blocked);
    assert!(
        !plan.link(4, None).blocked,
        "no rule names who is not known"
    );
    plan.heal();
    assert_eq!(plan.rules.len(), 1, "what else the rules said stays");
    assert!(!plan.link(0, Some(3)).blocked);
}

#[test]
fn saying_the_same_again_does_not_make_a_plan_grow() {
    let mut plan = plan(4);
    for round in 0..10 {
        plan.add(rule("0-1", "2-3", true, blocked(round % 2 == 0)));
    }
    assert_eq!(plan.rules.len(), 1);
    assert!(!plan.link(0, Some(2)).blocked);
    plan.add(rule("0-1", "2-3", false, blocked(true)));
    assert_eq!(plan.rules.len(), 2, "other links");
}

#[test]
fn a_rule_ends_a_stall_that_a_line_has() {
    let mut plan = plan(2);
    plan.nodes[0].stall = Some(Stall::new(millis(5_000), millis(100)));
    let never = LinkChange {
        stall: Some(Stall::new(millis(5_000), Duration::ZERO)),
        ..LinkChange::default()
    };
    plan.add(rule("0", "1", false, never));
    assert_eq!(plan.link(0, Some(1)).stall, None);
    assert!(plan.link(1, Some(0)).stall.is_some());
}

#[test]
fn a_plan_reads_as_it_was_written_in_both_formats() {
    let text = r#"
        seed = 7
        [[nodes]]
        up = "20mbit"
        latency = "20ms"
        loss = 0.01
        stall = { every = "1m", lasts = "2s" }
        reset = { every = "10m" }
        site = 0
        listen = ["127.0.0.1:4101"]
        [[nodes]]
        [[sites]]
        down = "20mbit"
        lan = true
        [[rules]]
        from = "0-4"
        to = "5-9"
        both_ways = true
        link = { latency = "80ms", blocked = true }
    "#;
    let plan: Plan = toml::from_str(text).unwrap();
    assert_eq!(plan.nodes[0].up, "20mbit".parse().unwrap());
    assert_eq!(plan.nodes[0].loss, "1%".parse().unwrap());
    assert_eq!(plan.nodes[0].stall, Some("2s/1m".parse().unwrap()));
    assert_eq!(plan.nodes[0].reset, Some("10m".parse().unwrap()));
    assert_eq!(plan.nodes[1], Line::default());
    assert_eq!(plan.sites[0].down, "20mbit".parse().unwrap());
    assert!(plan.share_lan(0, 0) && !plan.share_lan(0, 1) && !plan.share_lan(1, 1));
    assert_eq!(plan.node_at("127.0.0.1:4101".parse().unwrap()), Some(0));
    assert_eq!(plan.rules[0].link.latency, Some(millis(80)));
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    assert_eq!(
        toml::from_str::<Plan>(&toml::to_string(&plan).unwrap()).unwrap(),
        plan
    );
}

#[test]
fn what_cannot_be_is_refused_where_it_is_read() {
    for (text, part) in [
        (r#"{"nodes": [{"upp": "20mbit"}]}"#, "upp"),
        (r#"{"nodes": [{"latency": "20"}]}"#, "40ms"),
        (r#"{"nodes": [{"latency": "2days"}]}"#, "too long"),
        (r#"{"nodes": [{"loss": 1.5}]}"#, "from 0 to 1"),
        (
            r#"{"nodes": [{"stall": {"every": "1s", "lasts": "2s"}}]}"#,
            "lasts less",
        ),
        (r#"{"rules": [{"from": "0"}]}"#, "to"),
        (r#"{"rules": [{"from": "0", "to": "x"}]}"#, "names no nodes"),
    ] {
        let error = serde_json::from_str::<Plan>(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    for bad in ["2", "-1%", "x", "101%"] {
        bad.parse::<Loss>().unwrap_err();
    }
    for bad in ["2s", "2s/1s", "soon/1m"] {
        bad.parse::<Stall>().unwrap_err();
    }
}
