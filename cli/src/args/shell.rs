//! The arguments of what is made of the command line's definition.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that is to complete
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for every command into this folder, and print where
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
