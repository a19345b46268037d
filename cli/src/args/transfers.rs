//! Arguments of the commands about transfers.

use clap::Args;

/// Which transfer is meant.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// Its number in `shoal transfers`, or a CID (the beginning is enough) or link that only one
    /// of them has
    #[arg(value_name = "ID")]
    pub(crate) transfer: String,
}
