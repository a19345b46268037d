//! The command line of `shoal testnet`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
#[cfg(feature = "scenarios")]
use shoal_testnet::scenario::Mode;
use shoal_testnet::{DEMO_NODES_MIN, NODES_MAX, Transport};

/// Larger than the disk of anybody who tries it out.
#[cfg(feature = "scenarios")]
const SCALE_MAX: f64 = 1000.0;

#[cfg(feature = "scenarios")]
use super::links::{DegradeArgs, HealArgs, PartitionArgs, UpLinks};

#[derive(Debug, Args)]
pub(crate) struct TestnetArgs {
    /// The testnet's folder [default: shoal-testnet in the platform's data directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: TestnetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TestnetCommand {
    /// Start a network of daemons on this machine, and leave it running
    ///
    /// Each node is an ordinary daemon on loopback, without mDNS; its home is DIR/node-00,
    /// DIR/node-01, …, and every command works on it with --home. DIR/testnet.json lists them.
    Up(UpArgs),
    /// End all nodes and remove their homes
    Down,
    /// Show which nodes run, and what they do
    Status,
    /// End a node as `kill -9` does
    Kill(NodeArgs),
    /// Start a node that does not run, where it listened before
    Start(NodeArgs),
    /// Show a node's log
    Logs(LogsArgs),
    /// Cut the links between nodes, until `heal`
    ///
    /// Nothing is lost: what is on its way waits, until those who wait for it give up. Like the
    /// other commands on links, it takes a testnet that was started with --link, and returns when
    /// it is in force.
    #[cfg(feature = "scenarios")]
    Partition(PartitionArgs),
    /// Mend links that are cut: all, or those between nodes
    #[cfg(feature = "scenarios")]
    Heal(HealArgs),
    /// Change the lines of nodes, for better or worse
    #[cfg(feature = "scenarios")]
    Degrade(DegradeArgs),
    /// Show on a few nodes what shoal does, and remove them again
    ///
    /// The first node shares PATH, the others fetch it by its address; then the first is killed, and
    /// the last one still gets it, from the others. The copies are compared with the original.
    /// Without --dir the nodes are in a folder of their own in the system's temporary directory.
    Demo(DemoArgs),
    /// Run a scenario, say whether what it asserts holds, and write a report
    ///
    /// A scenario is a TOML file that says which nodes there are, what happens, and what must hold;
    /// `shoal testnet scenarios` lists those that come with this program. All nodes are removed at
    /// the end. What chance decides follows from the seed, and is the same in every run with it.
    #[cfg(feature = "scenarios")]
    Run(RunArgs),
    /// List the scenarios that come with this program
    #[cfg(feature = "scenarios")]
    Scenarios,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// How many nodes
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) nodes: usize,
    /// What they listen on: tcp or quic
    #[arg(long, default_value_t, value_name = "TRANSPORT")]
    pub(crate) transport: Transport,
    #[cfg(feature = "scenarios")]
    #[command(flatten)]
    pub(crate) links: UpLinks,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node, by its number or name: 3 or node-03
    #[arg(value_name = "N", value_parser = node_index)]
    pub(crate) node: usize,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Go on with what it logs from now on, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// What to share; it is only read [default: a folder that is made for it]
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// How many nodes
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = demo_nodes)]
    pub(crate) nodes: usize,
    /// Leave the nodes running, with what they fetched
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(feature = "scenarios")]
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A TOML file, or the name of a scenario that comes with this program
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: String,
    /// What the nodes are: process (one for each) or in-process [default: what the scenario says]
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// What nodes that are processes listen on: tcp or quic [default: what the scenario says]
    #[arg(long, value_name = "TRANSPORT")]
    pub(crate) transport: Option<Transport>,
    /// What chance is drawn from [default: what the scenario says]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How many nodes [default: what the scenario says]
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<usize>,
    /// Multiply all sizes by this: 0.1 for a tenth
    #[arg(long, value_name = "FACTOR", value_parser = scale)]
    pub(crate) scale: Option<f64>,
    /// Where the report is written [default: NAME-report]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Leave the nodes running, with what they fetched
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(feature = "scenarios")]
fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= SCALE_MAX => Ok(scale),
        _ => Err(format!("it takes a number above 0, up to {SCALE_MAX}")),
    }
}

fn demo_nodes(text: &str) -> Result<usize, String> {
    let nodes = text.parse().map_err(|_| "it is no number".to_owned())?;
    match nodes {
        DEMO_NODES_MIN..=NODES_MAX => Ok(nodes),
        _ => Err(format!("it takes {DEMO_NODES_MIN} to {NODES_MAX}")),
    }
}

fn node_index(text: &str) -> Result<usize, String> {
    let digits = text.strip_prefix("node-").unwrap_or(text);
    digits
        .parse()
        .map_err(|_| "a node is a number or a name, like 3 or node-03".to_owned())
}
