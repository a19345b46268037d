//! `shoal completions` and `shoal man`: what is made of the definition of the command line.
//!
//! Neither asks a daemon or looks at the home.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _};
use serde::Serialize;
use shoal_api::{ApiError, ErrorCode};

use crate::{
    app::{self, App},
    args::{Cli, CompletionsArgs, ManArgs},
    completion, human,
    manual::Manual,
};

/// The result of `shoal completions --json`.
#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

/// The result of `shoal man --json`.
#[derive(Serialize)]
struct Page {
    page: String,
}

/// The result of `shoal man DIR --json`.
#[derive(Serialize)]
struct Pages {
    /// What was written, every command after those under it.
    files: Vec<PathBuf>,
}

pub(crate) fn completions(app: &App, args: &CompletionsArgs) -> Result<(), ApiError> {
    let script = completion::script(args.shell)
        .map_err(|error| ApiError::of_io(&error, "cannot make the script"))?;
    let completions = Completions {
        shell: args.shell.to_string(),
        script,
    };
    app.output.result(&completions, |text| {
        text.line(completions.script.trim_end());
    });
    Ok(())
}

pub(crate) fn man(app: &App, args: &ManArgs) -> Result<(), ApiError> {
    let Some(dir) = &args.dir else {
        let page = Page { page: main_page()? };
        app.output
            .result(&page, |text| text.line(page.page.trim_end()));
        return Ok(());
    };
    let dir = app::absolute(dir)?;
    let files = write_pages(dir.as_path()).map_err(|error| {
        let dir = human::path(dir.as_path());
        ApiError::of_io(&error, format!("cannot write the pages to {dir}"))
    })?;
    let pages = Pages { files };
    app.output.result(&pages, |text| {
        for file in &pages.files {
            text.line(human::path(file));
        }
    });
    Ok(())
}

fn main_page() -> Result<String, ApiError> {
    let page = Manual::new(whole()).render();
    let page = page.map_err(|error| ApiError::of_io(&error, "cannot make the page"))?;
    String::from_utf8(page).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}

fn write_pages(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    write_page(whole(), dir, &mut files)?;
    Ok(files)
}

/// The definition of all commands, each with the flags that all of them take, and the names of those
/// above it.
fn whole() -> Command {
    // What pages say of `help` is what they are for themselves.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Writes the page of a command after those of the commands under it.
fn write_page(command: Command, dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for under in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_page(under.clone(), dir, files)?;
    }
    let manual = Manual::new(command);
    let file = dir.join(manual.file_name());
    fs::write(&file, manual.render()?)?;
    files.push(file);
    Ok(())
}
