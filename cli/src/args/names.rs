//! Arguments of the commands that take shares as `shoal ls` shows them.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A share as `shoal ls` shows it: its name, its CID or the beginning of it, its path; or its link
    #[arg(value_name = "SHARE", required = true)]
    pub(crate) share: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// Shares as `shoal ls` shows them: names, CIDs or the beginning of one, paths; or links
    #[arg(value_name = "SHARE", required = true)]
    pub(crate) shares: Vec<String>,
    /// Print the long form, which can be read and written by hand
    #[arg(long)]
    pub(crate) long: bool,
    /// Print the link as a QR code too
    #[arg(long)]
    pub(crate) qr: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// A share as `shoal ls` shows it: its name, its CID or the beginning of it, its path; or its link
    #[arg(value_name = "SHARE")]
    pub(crate) share: String,
    /// Its new name, which links carry from now on
    #[arg(value_name = "NEW_NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UnshareArgs {
    /// Shares as `shoal ls` shows them: names, CIDs or the beginning of one, paths; or links
    #[arg(value_name = "SHARE", required = true)]
    pub(crate) shares: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Shares as `shoal ls` shows them: names, CIDs or the beginning of one, paths; or links [default:
    /// all shares]
    #[arg(value_name = "SHARE")]
    pub(crate) shares: Vec<String>,
}
