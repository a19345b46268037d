//! The command line of `shoal service`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the unit, and have systemd start it now and at every login
    ///
    /// The daemon is this very program on this very home, and takes its configuration from the
    /// home's config.toml. What else a unit may say belongs into `systemctl --user edit shoal`.
    Install(InstallArgs),
    /// Stop the service and remove its unit; the home stays
    Uninstall,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Only print the unit
    #[arg(long)]
    pub(crate) print: bool,
}
