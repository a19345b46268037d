//! The flags of the budgets.

use clap::Args;
use shoal_ground::units::{Rate, Size};
use shoal_transfer::limits::Flags;

/// Rates for this start of a daemon.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RateFlags {
    /// Send at most this much, like 20mbit or 5MB/s, or off
    #[arg(long, value_name = "RATE")]
    up: Option<Rate>,
    /// Receive at most this much, like 20mbit or 5MB/s, or off
    #[arg(long, value_name = "RATE")]
    down: Option<Rate>,
}

impl From<RateFlags> for Flags {
    fn from(flags: RateFlags) -> Self {
        Self {
            up: flags.up,
            down: flags.down,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// Send at most this much, like 20mbit or 5MB/s
    #[arg(long, value_name = "RATE|off")]
    pub(crate) up: Option<Rate>,
    /// Receive at most this much, like 20mbit or 5MB/s
    #[arg(long, value_name = "RATE|off")]
    pub(crate) down: Option<Rate>,
    /// Send and receive at most this much in a month, like 500GB
    #[arg(long, value_name = "SIZE|off")]
    pub(crate) monthly: Option<Size>,
    /// Apply --down to this transfer only; the limits of the daemon hold too
    #[arg(long, value_name = "ID", requires = "down", conflicts_with_all = ["up", "monthly"])]
    pub(crate) transfer: Option<String>,
    /// Go back to the limits of the configuration
    #[arg(long, conflicts_with_all = ["up", "down", "monthly", "transfer"])]
    pub(crate) reset: bool,
}
