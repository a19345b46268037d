//! The command line of emulated links: `shoal testnet up --link`, `partition`, `heal`, `degrade`.

use std::time::Duration;

use clap::Args;
use shoal_ground::units::{Rate, parse_span};
use shoal_net::emulation::{Line, Loss, NodeSet, Profile, Reset, Stall};

/// What a new testnet's links are like.
#[derive(Debug, Args)]
pub(crate) struct UpLinks {
    /// Emulate the links: every node has a line of this kind (lan, home, mobile, wan, slow)
    #[arg(long, value_name = "PROFILE")]
    pub(crate) link: Option<Profile>,
    /// What each line carries away from its node, like 20mbit
    #[arg(long, value_name = "RATE", requires = "link")]
    up: Option<Rate>,
    /// What each line carries to its node
    #[arg(long, value_name = "RATE", requires = "link")]
    down: Option<Rate>,
    /// What each line adds to a link one way, like 20ms
    #[arg(long, value_name = "DURATION", value_parser = parse_span, requires = "link")]
    latency: Option<Duration>,
    /// What the chance in the links is drawn from: the same seed gives the same network
    #[arg(long, value_name = "N", default_value_t = 1, requires = "link")]
    pub(crate) seed: u64,
}

impl UpLinks {
    /// The line of every node, if links are emulated.
    pub(crate) fn line(&self) -> Option<Line> {
        let mut line = self.link?.line();
        line.up = self.up.unwrap_or(line.up);
        line.down = self.down.unwrap_or(line.down);
        line.latency = self.latency.unwrap_or(line.latency);
        Some(line)
    }
}

#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    /// Nodes on one side, like 0-4 or node-03
    pub(crate) a: NodeSet,
    /// Nodes on the other side
    pub(crate) b: NodeSet,
    /// Cut only what A sends to B
    #[arg(long)]
    pub(crate) one_way: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealArgs {
    /// Only between these nodes …
    #[arg(requires = "b")]
    pub(crate) a: Option<NodeSet>,
    /// … and these
    pub(crate) b: Option<NodeSet>,
}

#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true)]
pub(crate) struct LineFlags {
    /// A line of this kind (lan, home, mobile, wan, slow), changed by what else is said
    #[arg(long, value_name = "PROFILE", group = "change")]
    profile: Option<Profile>,
    /// What the line carries away from the node, like 20mbit
    #[arg(long, value_name = "RATE", group = "change")]
    up: Option<Rate>,
    /// What the line carries to the node
    #[arg(long, value_name = "RATE", group = "change")]
    down: Option<Rate>,
    /// What the line adds to a link one way, like 20ms
    #[arg(long, value_name = "DURATION", value_parser = parse_span, group = "change")]
    latency: Option<Duration>,
    /// By how much the latency varies
    #[arg(long, value_name = "DURATION", value_parser = parse_span, group = "change")]
    jitter: Option<Duration>,
    /// Datagrams that are lost, like 1%; TCP loses nothing
    #[arg(long, value_name = "PART", group = "change")]
    loss: Option<Loss>,
    /// Nothing passes for so long, so often, like 2s/1m; or off
    #[arg(long, value_name = "LASTS/EVERY", group = "change")]
    stall: Option<Stall>,
    /// Connections break so often, like 10m; or off
    #[arg(long, value_name = "EVERY", group = "change")]
    reset: Option<Reset>,
}

#[derive(Debug, Args)]
pub(crate) struct DegradeArgs {
    /// The nodes, like 3, node-03, 0-4,7 or all
    #[arg(value_name = "NODES")]
    pub(crate) nodes: NodeSet,
    #[command(flatten)]
    pub(crate) line: LineFlags,
}

impl LineFlags {
    /// Changes a line; where its node listens stays.
    pub(crate) fn apply(&self, line: &mut Line) {
        if let Some(profile) = self.profile {
            let listen = std::mem::take(&mut line.listen);
            *line = Line {
                listen,
                ..profile.line()
            };
        }
        line.up = self.up.unwrap_or(line.up);
        line.down = self.down.unwrap_or(line.down);
        line.latency = self.latency.unwrap_or(line.latency);
        line.jitter = self.jitter.unwrap_or(line.jitter);
        line.loss = self.loss.unwrap_or(line.loss);
        line.stall = self.stall.or(line.stall).filter(|it| !it.lasts().is_zero());
        line.reset = self.reset.or(line.reset).filter(|it| !it.every().is_zero());
    }
}
