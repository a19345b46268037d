//! Arguments of `shoal logs`.

use clap::Args;

/// How much of the log is shown.
#[derive(Debug, Args)]
pub(crate) struct DaemonLogsArgs {
    /// Show new lines as they come, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Show the last lines only, so many of them
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) lines: Option<usize>,
}
