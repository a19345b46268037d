//! The arguments of `shoal config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ConfigCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every key with its meaning, its value and where that comes from (the default)
    Show,
    /// Print the value of a key
    Get {
        /// Like network.listen
        key: String,
    },
    /// Set a key in the home's config.toml; comments stay
    Set {
        /// Like network.mdns
        key: String,
        /// A word, a number, or words separated by commas; off switches off
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a key out of the home's config.toml
    Unset {
        /// Like network.mdns
        key: String,
    },
    /// Check the home's configuration, or a file before it becomes one
    Check {
        /// The file [default: what a daemon of the home would read]
        file: Option<PathBuf>,
    },
}
