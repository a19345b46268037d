//! The command line as types; what a flag means is documented here and nowhere else.

mod addresses;
mod config;
#[cfg(test)]
mod guide;
mod limits;
#[cfg(feature = "scenarios")]
mod links;
mod service;
mod shell;
mod stop;
mod terms;
mod testnet;
mod times;
mod transfers;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shoal_api::types::{Chunker, Hash};
use shoal_node::config::{LogFormat, Multiaddr};

pub(crate) use self::addresses::{DaemonAddresses, WithoutDaemon};
pub(crate) use self::config::{ConfigArgs, ConfigCommand};
pub(crate) use self::limits::{LimitsArgs, RateFlags};
#[cfg(feature = "scenarios")]
pub(crate) use self::links::{DegradeArgs, HealArgs, PartitionArgs};
pub(crate) use self::service::{InstallArgs, ServiceCommand};
pub(crate) use self::shell::{CompletionsArgs, ManArgs};
pub(crate) use self::stop::StopArgs;
pub(crate) use self::terms::Terms;
#[cfg(feature = "scenarios")]
pub(crate) use self::testnet::RunArgs;
pub(crate) use self::testnet::{DemoArgs, LogsArgs, TestnetArgs, TestnetCommand, UpArgs};
pub(crate) use self::times::{Deadlines, Timeout};
pub(crate) use self::transfers::TransfersArgs;

/// Share files and folders between machines, without a server.
///
/// `shoal share PATH` prints a link, `shoal fetch LINK` gets it elsewhere. Both work by themselves;
/// a daemon (`shoal daemon`) keeps serving when the terminal is closed.
#[derive(Debug, Parser)]
#[command(
    name = "shoal",
    version,
    propagate_version = true,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The node's home [default: shoal in the platform's data directory]
    #[arg(
        long,
        global = true,
        env = "SHOAL_HOME",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON document on stdout, and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more; twice for debugging
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// No progress, hints or warnings; only results and errors, and links in their long form
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// When to use colour; auto means on terminals, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// The form of log lines: for people, or one JSON object per line
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormatArg>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormatArg {
    Text,
    Json,
}

impl From<LogFormatArg> for LogFormat {
    fn from(format: LogFormatArg) -> Self {
        match format {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the node; ends with Ctrl-C or `shoal stop`
    Daemon(DaemonArgs),
    /// Stop the daemon and wait until it is gone
    Stop(StopArgs),
    /// Peers, shares and who fetches them, transfers, disk and what needs a look
    Status(StatusArgs),
    /// Share files or folders where they are, and print the link
    ///
    /// Without a daemon this command serves them until Ctrl-C, and then no longer; with `--keep` they
    /// stay shared, and the next daemon serves them.
    Share(ShareArgs),
    /// Fetch what a link names, verified; run it again to resume
    Fetch(FetchArgs),
    /// List the fetches that are not over, and the last that are
    Transfers,
    /// Pause transfers; they keep their progress, also when the daemon restarts
    Pause(TransfersArgs),
    /// Have transfers that are paused or have failed go on
    Resume(TransfersArgs),
    /// End transfers and take away what they left; what has landed stays
    Cancel(TransfersArgs),
    /// List my shares, or the tree behind a link without fetching it
    Ls(LsArgs),
    /// Show one share: its name, size, address and place, and the link to pass on
    Show(ShowArgs),
    /// Print the link of a share again
    Link(LinkArgs),
    /// Stop serving a share; the files stay where they are
    Unshare(UnshareArgs),
    /// Show who provides a link
    Find(FindArgs),
    /// Show the peers that the daemon is connected to
    Peers,
    /// Connect the daemon to a peer
    Connect(ConnectArgs),
    /// Show what the daemon may use of the line, and change it while it runs
    Limits(LimitsArgs),
    /// Show what the daemon keeps for others, drop it, switch it on or off
    #[command(subcommand)]
    Replicas(ReplicasCommand),
    /// Show the daemon's peer id and addresses
    Id,
    /// A network of nodes on this machine, to try things and to test
    Testnet(TestnetArgs),
    /// Have systemd run the daemon, from login on
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Read everything that is shared and compare it with its addresses
    ///
    /// What changed is not served any more. Ends with exit code 5 when something is not as it was
    /// shared.
    Verify(VerifyArgs),
    /// Take out what nothing needs, and give its space back
    Gc(GcArgs),
    /// Look after the database of a home that no daemon runs on
    #[command(subcommand)]
    Db(DbCommand),
    /// Show the configuration and where it comes from, change it, check it
    Config(ConfigArgs),
    /// Print the script that makes a shell complete these commands, and names of shares and transfers
    ///
    /// For bash: shoal completions bash > ~/.local/share/bash-completion/completions/shoal
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for every command
    Man(ManArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    #[command(flatten)]
    pub(crate) addresses: DaemonAddresses,
    /// Contact these peers first
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Do not look for peers on the local network
    #[arg(long)]
    pub(crate) no_mdns: bool,
    #[command(flatten)]
    pub(crate) rates: RateFlags,
    /// Emulate the links of this node as this file says: a node of a testnet
    #[cfg(feature = "scenarios")]
    #[arg(long, hide = true, value_name = "FILE", requires = "links_node")]
    pub(crate) links: Option<PathBuf>,
    /// Which node of the file this is
    #[cfg(feature = "scenarios")]
    #[arg(long, hide = true, value_name = "N", requires = "links")]
    pub(crate) links_node: Option<usize>,
    /// Return once it is ready, and leave it running in the background
    #[arg(long)]
    pub(crate) detach: bool,
    /// This process is the background half of `--detach`
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub(crate) detached: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShareArgs {
    /// Files and folders; several become one folder that holds them
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The share's name [default: that of the path]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Serve from a copy in the home, so that the files may change
    #[arg(long)]
    pub(crate) copy: bool,
    /// How files are cut into chunks; cdc suits files whose versions share content
    #[arg(long, default_value = "fixed")]
    pub(crate) chunker: ChunkerArg,
    /// The hash function of the addresses
    #[arg(long, default_value = "blake3")]
    pub(crate) hash: HashArg,
    /// Keep these attributes of files, folders and links; changes the address
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    pub(crate) preserve: Vec<Attribute>,
    /// Leave out what matches, may be given several times
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// Keep it out of the DHT: only those with the link can find it
    #[arg(long)]
    pub(crate) no_announce: bool,
    /// Ask those who have it not to keep copies of it for others
    #[arg(long)]
    pub(crate) no_replicate: bool,
    /// Return only when it can be found through the DHT
    #[arg(long, conflicts_with = "no_announce")]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) terms: Terms,
    /// Print the link as a QR code too
    #[arg(long)]
    pub(crate) qr: bool,
    #[command(flatten)]
    pub(crate) without: WithoutDaemon,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ChunkerArg {
    Fixed,
    Cdc,
}

impl From<ChunkerArg> for Chunker {
    fn from(chunker: ChunkerArg) -> Self {
        match chunker {
            ChunkerArg::Fixed => Self::Fixed,
            ChunkerArg::Cdc => Self::Cdc,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HashArg {
    Blake3,
    #[value(name = "sha2-256")]
    Sha2_256,
}

impl From<HashArg> for Hash {
    fn from(hash: HashArg) -> Self {
        match hash {
            HashArg::Blake3 => Self::Blake3,
            HashArg::Sha2_256 => Self::Sha2_256,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attribute {
    Mode,
    Mtime,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// A link or a CID; the pieces of one that was wrapped are put together
    #[arg(required = true, value_name = "LINK")]
    pub(crate) link: Vec<String>,
    /// Where to put it: an existing folder, or ending in /, means into it [default: here, under its
    /// own name]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Ask this peer first, may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<Multiaddr>,
    /// Fetch only what matches, like summer/*.raw, summer/ or **/*.md, may be given several times
    ///
    /// A pattern is compared with whole paths below what the link leads to: * stays within a
    /// folder, ** does not, and a folder takes all below it. What lands is not served on, as it is
    /// not all that the address stands for. With --stdout, exactly one file has to match.
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Vec<String>,
    /// Replace files that are in the way; folders are merged
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Give other names to files that cannot keep theirs, instead of refusing the whole
    ///
    /// What is in the way in a name is written as % and two digits, as in a%2Fb; where that is
    /// another file's name, a number follows, as in photo (2).jpg. The new names are listed.
    #[arg(long)]
    pub(crate) rename_unsafe: bool,
    /// Do not share it from where it landed
    #[arg(long)]
    pub(crate) no_serve: bool,
    /// Write the bytes of one file to standard output; nothing is landed or kept
    #[arg(long, conflicts_with_all = [
        "output", "overwrite", "rename_unsafe", "no_serve", "sync", "json", "background", "on_done",
    ])]
    pub(crate) stdout: bool,
    /// Return at once and leave the transfer to the daemon; `shoal transfers` shows it
    #[arg(long, conflicts_with_all = ["listen", "external"])]
    pub(crate) background: bool,
    /// When it is done, run this program with the path of what was fetched and its CID as arguments
    ///
    /// No shell reads them. This command waits for the program, for 10 minutes at the most, and warns
    /// when it does not end well. `shoal config set transfers.on_done /path/to/program` has the daemon
    /// run one for every transfer.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "background")]
    pub(crate) on_done: Option<PathBuf>,
    /// Return only when everything is flushed to disk
    #[arg(long)]
    pub(crate) sync: bool,
    #[command(flatten)]
    pub(crate) without: WithoutDaemon,
    #[command(flatten)]
    pub(crate) deadlines: Deadlines,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Show it again every second, until Ctrl-C; with --json, one object a line
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// A link or a CID; the pieces of one that was wrapped are put together
    #[arg(value_name = "LINK")]
    pub(crate) link: Vec<String>,
    /// Ask this peer first, may be given several times
    #[arg(long, value_name = "MULTIADDR", requires = "link")]
    pub(crate) peer: Vec<Multiaddr>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The CID of a share, or a link to it
    #[arg(value_name = "LINK", required = true)]
    pub(crate) link: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// The name of a share, its CID or link, or the path that was shared; `shoal ls` shows them
    #[arg(value_name = "NAME|CID|PATH")]
    pub(crate) target: String,
    /// Print the long form, which can be read and written by hand
    #[arg(long)]
    pub(crate) long: bool,
    /// Print the link as a QR code too
    #[arg(long)]
    pub(crate) qr: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UnshareArgs {
    /// The CID or link of a share, or the path that was shared
    #[arg(value_name = "CID|PATH")]
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// A link or a CID; the pieces of one that was wrapped are put together
    #[arg(required = true, value_name = "LINK")]
    pub(crate) link: Vec<String>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Where the peer listens, like /ip4/192.0.2.7/tcp/4101/p2p/12D3Koo…
    #[arg(value_name = "MULTIADDR")]
    pub(crate) address: Multiaddr,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only the shares of this CID or link
    #[arg(value_name = "CID")]
    pub(crate) link: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Only say what would be taken out
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicasCommand {
    /// List the copies that are kept for others
    Ls,
    /// Show how much is kept, and what came in and went out since the start
    Stats,
    /// Drop a copy, or all; the space is free then
    Drop(ReplicasDropArgs),
    /// Keep copies for peers nearby, also after a restart
    On,
    /// Drop all copies and keep none, also after a restart
    Off,
}

#[derive(Debug, Args)]
pub(crate) struct ReplicasDropArgs {
    /// The copy with this key, or the first digits of it [default: all copies]
    #[arg(value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Read the whole database and say whether it is sound
    ///
    /// Ends with exit code 5 when something of it cannot be read, or when a share that was
    /// acknowledged is not in it.
    Check(DbCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DbCheckArgs {
    /// Make a new database of what can be read; the damaged one is kept beside it
    #[arg(long)]
    pub(crate) repair: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    fn check(line: &str, good: bool) {
        let parsed = Cli::try_parse_from(line.split(' '));
        assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
    }

    #[test]
    fn lines_that_parse_and_lines_that_do_not() {
        check(
            "shoal share a b --preserve mode,mtime --hash sha2-256 --json",
            true,
        );
        check(
            "shoal --json --home x share a --exclude *.o --exclude .git",
            true,
        );
        check(
            "shoal fetch bafy --no-serve --peer /ip4/127.0.0.1/tcp/1 -o dir/ --timeout 5s --patience 1h",
            true,
        );
        check(
            "shoal daemon --listen /ip4/127.0.0.1/tcp/0 --no-mdns --detach",
            true,
        );
        check(
            "shoal daemon --external /ip4/203.0.113.7/tcp/4101 --external /dns/a.example/tcp/1",
            true,
        );
        check("shoal share a --listen /ip4/0.0.0.0/tcp/4101", true);
        check("shoal fetch bafy --listen /ip4/0.0.0.0/tcp/0", true);
        check("shoal share a --external router:4101", false);
        check("shoal daemon --up 20mbit --down off", true);
        check("shoal limits --up off --down 5MB/s --monthly 500GB", true);
        check("shoal limits --up 5", false);
        check("shoal limits --reset --up off", false);
        check("shoal ls", true);
        check("shoal link photos --long --qr", true);
        check("shoal link", false);
        check("shoal fetch shoal:S00AY 4T9Q7 -o dir", true);
        check("shoal config", true);
        check("shoal config set network.mdns off", true);
        check("shoal config set network.mdns", false);
        check("shoal completions zsh", true);
        check("shoal completions sh", false);
        check("shoal testnet up --nodes 4 --dir d --json", true);
        check("shoal testnet --dir d kill node-03", true);
        check("shoal testnet up --link home --up 20mbit --seed 7", true);
        check("shoal testnet up --up 20mbit", false);
        check("shoal testnet up --link dsl", false);
        check("shoal testnet partition 0-4 node-05,7 --one-way", true);
        check("shoal testnet partition 0-4", false);
        check("shoal testnet heal", true);
        check("shoal testnet heal 0 1", true);
        check("shoal testnet heal 0", false);
        check(
            "shoal testnet degrade 1-3 --latency 0s --stall off --loss 1%",
            true,
        );
        check("shoal testnet degrade all --profile slow --up 2mbit", true);
        check("shoal testnet degrade all", false);
        check("shoal testnet degrade 3 --stall 2s", false);
        check("shoal daemon --links-node 3", false);
        check("shoal transfers", true);
        check("shoal pause 7", true);
        check("shoal pause 7 photos all", true);
        check("shoal share a --once --expires 2h --keep", true);
        check("shoal share a --until 3", true);
        check("shoal share a --until 0", false);
        check("shoal share a --until many", false);
        check("shoal share a --once --until 3", false);
        check("shoal share a --expires 0s", false);
        check("shoal fetch bafy --background", true);
        check("shoal fetch bafy --background --on-done x", false);
        check("shoal fetch bafy --stdout --on-done x", false);
        check("shoal status --watch --json", true);
        check("shoal cancel", false);
        check("shoal service install --print", true);
        check("shoal service uninstall", true);
        check("shoal testnet demo", true);
        check("shoal testnet demo --json --keep --nodes 3 photos", true);
        check("shoal", false);
        check("shoal share", false);
        check("shoal share a --hash md5", false);
        check("shoal share a --wait --no-announce", false);
        check("shoal fetch bafy --peer localhost:1", false);
        check("shoal fetch bafy --stdout", true);
        check("shoal fetch bafy --only a/* --only **/*.md --stdout", true);
        check("shoal fetch bafy --rename-unsafe --only a", true);
        check("shoal fetch bafy --stdout --rename-unsafe", false);
        check("shoal fetch bafy --stdout -o x", false);
        check("shoal fetch bafy --stdout --json", false);
        check("shoal fetch bafy --timeout 0s", false);
        check("shoal fetch bafy --timeout soon", false);
        check("shoal fetch bafy --patience 0s", false);
        check("shoal find bafy --patience 1h", false);
        check("shoal status -q -v", false);
        check("shoal service", false);
        check("shoal testnet", false);
        check("shoal testnet kill", false);
        check("shoal testnet demo --nodes 2", false);
        check("shoal testnet start three", false);
        check("shoal frobnicate", false);
    }
}
