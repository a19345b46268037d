//! The command line as types; what a flag means is documented here and nowhere else.

mod addresses;
mod config;
mod examples;
#[cfg(test)]
mod guide;
mod limits;
#[cfg(feature = "scenarios")]
mod links;
mod logs;
mod names;
mod service;
mod shell;
mod stop;
mod terms;
mod testnet;
#[cfg(test)]
mod tests;
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
pub(crate) use self::logs::DaemonLogsArgs;
pub(crate) use self::names::{LinkArgs, RenameArgs, ShowArgs, UnshareArgs, VerifyArgs};
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
    infer_subcommands = false,
    after_help = examples::SHOAL
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
    /// Print the result as one JSON document, and nothing else on stdout
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
    #[command(after_help = examples::DAEMON)]
    Daemon(DaemonArgs),
    /// Stop the daemon and wait until it is gone
    #[command(after_help = examples::STOP)]
    Stop(StopArgs),
    /// Show peers, shares and who downloads them, transfers, disk, and what needs attention
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Show the daemon's log
    #[command(after_help = examples::LOGS)]
    Logs(DaemonLogsArgs),
    /// Share files or folders where they are, and print the link
    ///
    /// Without a daemon this command serves them until Ctrl-C, and then no longer; with `--keep` they
    /// stay shared, and the next daemon serves them.
    #[command(visible_alias = "send", after_help = examples::SHARE)]
    Share(ShareArgs),
    /// Download what a link names, and verify it; run it again to resume
    #[command(visible_alias = "get", after_help = examples::FETCH)]
    Fetch(FetchArgs),
    /// List current and recent downloads
    #[command(after_help = examples::TRANSFERS)]
    Transfers,
    /// Pause a transfer, several, or all; progress is kept, also over a restart
    #[command(after_help = examples::PAUSE)]
    Pause(TransfersArgs),
    /// Continue transfers that are paused or have failed
    #[command(after_help = examples::RESUME)]
    Resume(TransfersArgs),
    /// Cancel transfers and delete their partial files; finished downloads stay
    #[command(after_help = examples::CANCEL)]
    Cancel(TransfersArgs),
    /// List my shares, or the files behind a link without downloading them
    #[command(after_help = examples::LS)]
    Ls(LsArgs),
    /// Show one share: name, size, address, place, who downloads it, and its link
    #[command(after_help = examples::SHOW)]
    Show(ShowArgs),
    /// Print the link of a share again
    #[command(after_help = examples::LINK)]
    Link(LinkArgs),
    /// Change the name of a share; files and links that were passed on stay as they are
    #[command(after_help = examples::RENAME)]
    Rename(RenameArgs),
    /// Stop sharing; the files stay where they are
    #[command(visible_alias = "rm", after_help = examples::UNSHARE)]
    Unshare(UnshareArgs),
    /// Show which peers have what a link names
    #[command(after_help = examples::FIND)]
    Find(FindArgs),
    /// Show the connected peers
    #[command(after_help = examples::PEERS)]
    Peers,
    /// Connect the daemon to a peer
    #[command(after_help = examples::CONNECT)]
    Connect(ConnectArgs),
    /// Show or set bandwidth limits
    #[command(after_help = examples::LIMITS)]
    Limits(LimitsArgs),
    /// Show the copies that this node keeps for others, delete them, switch them on or off
    #[command(subcommand, after_help = examples::REPLICAS)]
    Replicas(ReplicasCommand),
    /// Show the daemon's peer id and addresses
    #[command(after_help = examples::ID)]
    Id,
    /// Run a network of nodes on this machine, to try things and to test
    #[command(after_help = examples::TESTNET)]
    Testnet(TestnetArgs),
    /// Have systemd start the daemon at every login
    #[command(subcommand, after_help = examples::SERVICE)]
    Service(ServiceCommand),
    /// Read shared files and check that they are as they were shared
    ///
    /// A file that changed is not served any more. Ends with exit code 5 when something is not as it
    /// was shared.
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyArgs),
    /// Delete unused index data
    #[command(after_help = examples::GC)]
    Gc(GcArgs),
    /// Check or repair the database while no daemon runs
    #[command(subcommand, after_help = examples::DB)]
    Db(DbCommand),
    /// Show, change or check the configuration
    #[command(after_help = examples::CONFIG)]
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
    /// Share a copy, so that the files themselves may change
    #[arg(long)]
    pub(crate) copy: bool,
    /// How files are cut into chunks; with cdc, versions of a file have chunks in common
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
    /// Keep it out of the DHT: only people who have the link can find it
    #[arg(long)]
    pub(crate) no_announce: bool,
    /// Ask peers that have it not to keep copies for others
    #[arg(long)]
    pub(crate) no_replicate: bool,
    /// Return only when others can find it through the DHT
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
    /// A link or a CID; a link that was broken over several lines works too
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
    /// A link, a CID or the name of a share; a link that was broken over several lines works too
    #[arg(value_name = "LINK")]
    pub(crate) link: Vec<String>,
    /// Ask this peer first, may be given several times
    #[arg(long, value_name = "MULTIADDR", requires = "link")]
    pub(crate) peer: Vec<Multiaddr>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// A link or a CID; a link that was broken over several lines works too
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
pub(crate) struct GcArgs {
    /// Only show what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReplicasCommand {
    /// List the copies that are kept for others
    Ls,
    /// Show how much is kept, and how much was received and sent since the start
    Stats,
    /// Delete one copy, or all of them
    Drop(ReplicasDropArgs),
    /// Keep copies for peers nearby, also after a restart
    On,
    /// Delete all copies and keep none, also after a restart
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
    /// Read the whole database and check it
    ///
    /// Ends with exit code 5 when a part of it cannot be read, or when a share is missing from it.
    Check(DbCheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DbCheckArgs {
    /// Make a new database from what can be read; the damaged one is kept beside it
    #[arg(long)]
    pub(crate) repair: bool,
}
