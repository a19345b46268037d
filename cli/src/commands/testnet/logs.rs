//! `shoal testnet logs`: what a node has logged, and with `--follow` what it logs.

use std::path::Path;

use serde::Serialize;
use shoal_api::ApiError;
use shoal_testnet::{Error, LogLines, NodeEntry};

use crate::{app::App, args::LogsArgs, commands::logs::show, human};

/// A line of `shoal testnet logs --json`.
#[derive(Serialize)]
struct Line<'a> {
    node: &'a str,
    line: &'a str,
}

pub(super) async fn run(app: &App, dir: &Path, args: &LogsArgs) -> Result<(), ApiError> {
    let (nodes, index) = (shoal_testnet::nodes(dir)?, args.node.node);
    let node = nodes.get(index).ok_or(Error::NoNode {
        index,
        nodes: nodes.len(),
    })?;
    let mut lines = LogLines::open(&node.home).map_err(|error| failed(node, &error))?;
    let print = |line: &str| {
        let document = Line {
            node: &node.name,
            line,
        };
        app.output
            .result(&document, |text| text.line(human::escape_message(line)));
    };
    let shown = show(app, &mut lines, args.follow, print).await;
    shown.map_err(|error| failed(node, &error))
}

fn failed(node: &NodeEntry, error: &std::io::Error) -> ApiError {
    let name = &node.name;
    ApiError::of_io(error, format!("cannot read the log of {name}"))
        .hint("a node that was never started has none; see `shoal testnet status`")
}
