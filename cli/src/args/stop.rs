//! Arguments of `shoal stop`.

use std::time::Duration;

use clap::Args;

use super::times::duration;

/// How long to wait for the end, and what to do then.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Wait this long for the daemon to end
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub(crate) timeout: Duration,
    /// Kill it (SIGKILL) when it has not ended by then; shares and the progress of transfers are kept
    #[arg(long)]
    pub(crate) kill: bool,
}
