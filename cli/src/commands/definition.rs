//! `shoal completions` and `shoal man`: what is made of the definition of the command line.
//!
//! Neither asks a daemon or looks at the home.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use serde::Serialize;
use shoal_api::{ApiError, ErrorCode};

use crate::{
    app::{self, App},
    args::{Cli, CompletionsArgs, ManArgs},
    human,
};

/// The command's name, for which a shell completes.
const NAME: &str = "shoal";

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
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    let completions = Completions {
        shell: args.shell.to_string(),
        script: text(script)?,
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
    let mut page = Vec::new();
    Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| ApiError::of_io(&error, "cannot make the page"))?;
    text(page)
}

fn write_pages(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    let mut files = Vec::new();
    // What pages say of `help` is what they are for themselves.
    let mut command = Cli::command().disable_help_subcommand(true);
    // Gives commands the flags that all of them take, and the names of those above them.
    command.build();
    write_page(command, dir, &mut files)?;
    Ok(files)
}

/// Writes the page of a command after those of the commands under it.
fn write_page(command: Command, dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for under in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        write_page(under.clone(), dir, files)?;
    }
    files.push(Man::new(command).generate_to(dir)?);
    Ok(())
}

fn text(bytes: Vec<u8>) -> Result<String, ApiError> {
    String::from_utf8(bytes).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))
}
