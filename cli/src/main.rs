//! `shoal`, the one binary: parse, call, print.
//!
//! Everything that a person asks for goes through the node's local API, also when the node runs in
//! this very process. What a library caller would want is in `shoal-node`, not here.

mod app;
mod args;
mod commands;
mod completion;
mod daemon;
mod dispatch;
mod groups;
mod holder;
mod host;
mod human;
mod interrupt;
mod limits;
mod logging;
mod manual;
mod output;
mod process;
mod progress;
mod qr;
mod reach;
mod session;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(shell) = completion::asked() {
        return completion::answer(&shell);
    }
    limits::set_up();
    match args::Cli::try_parse() {
        Ok(cli) => dispatch::run(cli),
        Err(error) => output::usage_error(error),
    }
}
