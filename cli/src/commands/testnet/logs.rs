//! `shoal testnet logs`: what a node has logged, and with `--follow` what it logs.

use std::{path::Path, time::Duration};

use serde::Serialize;
use shoal_api::ApiError;
use shoal_testnet::{Error, LogLines, NodeEntry};
use tokio::time::sleep;

use crate::{app::App, args::LogsArgs, human};

/// As often as a person can read on.
const FOLLOW_POLL: Duration = Duration::from_millis(200);

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
    loop {
        while let Some(line) = lines.next_line().map_err(|error| failed(node, &error))? {
            let document = Line {
                node: &node.name,
                line: &line,
            };
            app.output
                .result(&document, |text| text.line(human::escape_message(&line)));
            if app.interrupt.is_cancelled() || app.output.is_closed() {
                return Ok(());
            }
        }
        if !args.follow {
            return Ok(());
        }
        // Ctrl-C is how following ends; nothing is left undone.
        tokio::select! {
            () = app.interrupt.cancelled() => return Ok(()),
            () = sleep(FOLLOW_POLL) => {}
        }
    }
}

fn failed(node: &NodeEntry, error: &std::io::Error) -> ApiError {
    let name = &node.name;
    ApiError::of_io(error, format!("cannot read the log of {name}"))
        .hint("a node that was never started has none; see `shoal testnet status`")
}
