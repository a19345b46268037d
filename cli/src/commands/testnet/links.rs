//! `shoal testnet partition`, `heal` and `degrade`: links that change while the network runs.

use std::path::{Path, PathBuf};

use serde::Serialize;
use shoal_api::ApiError;
use shoal_net::emulation::{Line, LinkChange, NodeSet, Plan, Rule};
use shoal_testnet::{Error, LinksChanged, Testnet};

use super::{super::interruptible, open};
use crate::{
    app::App,
    args::{DegradeArgs, HealArgs, PartitionArgs, UpArgs},
    human,
    output::Text,
};

/// The result of `shoal testnet partition`, `heal` and `degrade --json`.
#[derive(Serialize)]
struct Changed {
    dir: PathBuf,
    #[serde(flatten)]
    links: LinksChanged,
}

pub(super) async fn partition(app: &App, dir: &Path, args: PartitionArgs) -> Result<(), ApiError> {
    let PartitionArgs { a, b, one_way } = args;
    let said = match one_way {
        true => format!("nothing from {a} reaches {b}"),
        false => format!("{a} and {b} are cut off from each other"),
    };
    let cut = rule(a, b, !one_way, true);
    let testnet = testnet_with(dir, &[&cut.from, &cut.to]).await?;
    change(app, &testnet, &said, |plan| plan.add(cut)).await
}

pub(super) async fn heal(app: &App, dir: &Path, args: HealArgs) -> Result<(), ApiError> {
    let (Some(a), Some(b)) = (args.a, args.b) else {
        let testnet = open(dir).await?;
        return change(app, &testnet, "no link is cut any more", Plan::heal).await;
    };
    let said = format!("no link between {a} and {b} is cut any more");
    let healed = rule(a, b, true, false);
    let testnet = testnet_with(dir, &[&healed.from, &healed.to]).await?;
    change(app, &testnet, &said, |plan| plan.add(healed)).await
}

pub(super) async fn degrade(app: &App, dir: &Path, args: &DegradeArgs) -> Result<(), ApiError> {
    let testnet = testnet_with(dir, &[&args.nodes]).await?;
    let nodes: Vec<usize> = args.nodes.among(testnet.nodes().len()).collect();
    let mut plan = testnet.plan()?;
    for (index, line) in plan.nodes.iter_mut().enumerate() {
        if args.nodes.contains(index) {
            args.line.apply(line);
        }
    }
    let lines: Vec<String> = nodes.iter().map(|node| words(&plan.line(*node))).collect();
    let said = match lines.as_slice() {
        // Lines that were different may still be.
        [first, rest @ ..] if rest.iter().all(|line| line == first) => {
            format!("{}: {first}", args.nodes)
        }
        _ => format!("the lines of {} are changed", args.nodes),
    };
    change(app, &testnet, &said, |current| current.nodes = plan.nodes).await
}

/// The testnet in `dir`, which has to have these nodes.
async fn testnet_with(dir: &Path, nodes: &[&NodeSet]) -> Result<Testnet, ApiError> {
    let testnet = open(dir).await?;
    // That its links are not emulated is what has to be said first.
    testnet.plan()?;
    let known: Result<(), Error> = nodes.iter().try_for_each(|set| testnet.has(set));
    known?;
    Ok(testnet)
}

fn rule(from: NodeSet, to: NodeSet, both_ways: bool, blocked: bool) -> Rule {
    let link = LinkChange {
        blocked: Some(blocked),
        ..LinkChange::default()
    };
    Rule {
        from,
        to,
        both_ways,
        link,
    }
}

/// Changes the plan, and says what it did once that is in force.
async fn change(
    app: &App,
    testnet: &Testnet,
    said: &str,
    change: impl FnOnce(&mut Plan),
) -> Result<(), ApiError> {
    let changing = async { Ok(testnet.change_links(change).await?) };
    let changed = Changed {
        dir: testnet.dir().to_owned(),
        links: interruptible(app, changing).await?,
    };
    app.output.result(&changed, |text| {
        let nodes = human::count(changed.links.nodes as u64, "node");
        text.line(format_args!("{said}; in force on {nodes}"));
    });
    Ok(())
}

/// What the links of a new testnet are to be like.
pub(super) fn planned(args: &UpArgs) -> Option<Plan> {
    Some(Plan {
        seed: args.links.seed,
        nodes: vec![args.links.line()?; args.nodes],
        ..Plan::default()
    })
}

/// What each line of a new testnet is like: they are all alike.
pub(super) fn show_first(text: &mut Text, plan: &Plan) {
    let line = words(&plan.line(0));
    text.line(format_args!("each line: {line} (seed {})", plan.seed));
}

/// What the links are like: the lines, those that are alike together, and what is cut.
pub(super) fn show(text: &mut Text, plan: &Plan) {
    let mut kinds: Vec<(String, Vec<usize>)> = Vec::new();
    for (node, line) in plan.nodes.iter().enumerate() {
        let line = words(line);
        match kinds.iter_mut().find(|(kind, _)| *kind == line) {
            Some((_, nodes)) => nodes.push(node),
            None => kinds.push((line, vec![node])),
        }
    }
    for (line, nodes) in kinds {
        text.line(format_args!(
            "line of {}: {line}",
            NodeSet::from_iter(nodes)
        ));
    }
    for rule in &plan.rules {
        let (from, to) = (&rule.from, &rule.to);
        match (rule.link.blocked, rule.both_ways) {
            (Some(true), true) => text.line(text.alert(format_args!("cut: {from} and {to}"))),
            (Some(true), false) => text.line(text.alert(format_args!("cut: from {from} to {to}"))),
            (Some(false), _) => text.line(format_args!("mended: {from} and {to}")),
            (None, _) => {}
        }
    }
}

/// A line, in the order of what matters most.
fn words(line: &Line) -> String {
    let span = |span| humantime::format_duration(span).to_string();
    let mut words = format!("{} up, {} down, {}", line.up, line.down, span(line.latency));
    if !line.jitter.is_zero() {
        words.push_str(&format!(" ± {}", span(line.jitter)));
    }
    if line.loss != Default::default() {
        words.push_str(&format!(", {} lost", line.loss));
    }
    if let Some(stall) = line.stall {
        words.push_str(&format!(
            ", stalls {}/{}",
            span(stall.lasts()),
            span(stall.every())
        ));
    }
    if let Some(reset) = line.reset {
        words.push_str(&format!(", resets every {}", span(reset.every())));
    }
    words
}
