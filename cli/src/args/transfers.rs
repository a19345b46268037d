//! Arguments of the commands about transfers.

use clap::Args;

/// Which transfers are meant.
#[derive(Debug, Args)]
pub(crate) struct TransfersArgs {
    /// Transfers by number, name, CID (the beginning is enough) or link, as `shoal transfers` lists
    /// them, or `all`
    #[arg(value_name = "TRANSFER", required = true)]
    pub(crate) transfers: Vec<String>,
}
