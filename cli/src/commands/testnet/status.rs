//! `shoal testnet status`: every node, as it says itself.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::join_all;
use serde::Serialize;
use shoal_api::{ApiError, client::Client, types::Status};
use shoal_net::emulation::Plan;
use shoal_testnet::{NodeEntry, plan_in};

use super::links;
use crate::{app::App, commands::interruptible, human, output::Text};

/// A node that is silent for so long has no figures.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// The result of `shoal testnet status --json`.
#[derive(Serialize)]
struct TestnetStatus {
    dir: PathBuf,
    running: usize,
    /// What the links are like, if they are emulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Plan>,
    nodes: Vec<NodeStatus>,
}

/// A node, and what it says when it runs.
#[derive(Serialize)]
struct NodeStatus {
    #[serde(flatten)]
    node: NodeEntry,
    running: bool,
    log: PathBuf,
    #[serde(flatten)]
    counts: Option<Counts>,
}

/// The figures of a node that answers.
#[derive(Serialize)]
struct Counts {
    peers: usize,
    shares: usize,
    transfers: usize,
    uploaded_bytes: u64,
    downloaded_bytes: u64,
}

pub(super) async fn run(app: &App, dir: &Path) -> Result<(), ApiError> {
    let nodes = shoal_testnet::nodes(dir)?;
    let asked = join_all(nodes.into_iter().map(ask));
    let nodes = interruptible(app, async { asked.await.into_iter().collect() }).await?;
    let nodes: Vec<NodeStatus> = nodes;
    let status = TestnetStatus {
        dir: dir.to_owned(),
        running: nodes.iter().filter(|node| node.running).count(),
        links: plan_in(dir)?,
        nodes,
    };
    app.output.result(&status, |text| table(text, &status));
    Ok(())
}

/// A node that runs and does not answer, because it starts or ends, has no figures.
async fn ask(node: NodeEntry) -> Result<NodeStatus, ApiError> {
    let running = node.is_running()?;
    let counts = match Client::connect(&node.home).await {
        Ok(client) if running => {
            let status = client.silent_for(SILENCE_MAX).status().await;
            status.ok().map(|it| Counts::of(&it))
        }
        _ => None,
    };
    Ok(NodeStatus {
        running,
        log: shoal_testnet::log_path(&node.home),
        counts,
        node,
    })
}

impl Counts {
    fn of(status: &Status) -> Self {
        Self {
            peers: status.peers.len(),
            shares: status.shares.len(),
            transfers: status.transfers.len(),
            uploaded_bytes: status.uploaded_bytes,
            downloaded_bytes: status.downloaded_bytes,
        }
    }
}

fn table(text: &mut Text, status: &TestnetStatus) {
    let heading = format!(
        "{:9} {:>8} {:>6} {:>7} {:>10} {:>12} {:>12}",
        "", "process", "peers", "shares", "transfers", "sent", "received"
    );
    text.line(text.dim(heading));
    for NodeStatus {
        node,
        running,
        counts,
        ..
    } in &status.nodes
    {
        let name = text.bold(format_args!("{:9}", node.name));
        let pid = node.process.map(|process| process.pid).unwrap_or_default();
        text.line(match (running, counts) {
            (true, Some(it)) => format!(
                "{name} {pid:>8} {:>6} {:>7} {:>10} {:>12} {:>12}",
                it.peers,
                it.shares,
                it.transfers,
                human::size(it.uploaded_bytes),
                human::size(it.downloaded_bytes)
            ),
            (true, None) => format!("{name} {pid:>8} does not answer"),
            (false, _) => format!("{name} {}", text.alert("does not run")),
        });
    }
    let (running, nodes) = (status.running, status.nodes.len());
    let dir = human::path(&status.dir);
    text.line(format_args!("{running} of {nodes} nodes run, in {dir}"));
    if let Some(plan) = &status.links {
        links::show(text, plan);
    }
}
