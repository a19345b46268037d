//! `shoal config`: what holds, where it comes from, and changing it.
//!
//! Works without a daemon, which reads its configuration when it starts: one that runs is only
//! mentioned.

use std::path::PathBuf;

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode, client::Client};
use shoal_node::config::{self, Change, Config, ConfigError, FILE_NAME, Origin, Setting};

use crate::{
    app::{self, App},
    args::{ConfigArgs, ConfigCommand},
    human,
    output::Text,
    session::environment,
};

/// The result of `shoal config show --json`.
#[derive(Serialize)]
struct Shown {
    /// The file of the home, whether it exists or not.
    file: PathBuf,
    /// What a daemon that starts now would run with.
    settings: Vec<Setting>,
}

/// The result of `shoal config set` and `unset --json`.
#[derive(Serialize)]
struct Changed {
    file: PathBuf,
    /// Whether the file is another one now.
    changed: bool,
    #[serde(flatten)]
    setting: Setting,
    /// Whether a daemon runs that has not read it.
    restart_needed: bool,
}

/// The result of `shoal config check --json`.
#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    keys: usize,
}

pub(crate) async fn run(app: &App, args: ConfigArgs) -> Result<(), ApiError> {
    match args.command.unwrap_or(ConfigCommand::Show) {
        ConfigCommand::Show => show(app),
        ConfigCommand::Get { key } => get(app, &key),
        ConfigCommand::Set { key, value } => {
            let set = Change::set(&key, &value).map_err(mistyped)?;
            change(app, &key, &set).await
        }
        ConfigCommand::Unset { key } => {
            let unset = Change::unset(&key).map_err(mistyped)?;
            change(app, &key, &unset).await
        }
        ConfigCommand::Check { file } => check(app, file),
    }
}

/// What a daemon that starts now would run with.
fn settings(app: &App) -> Result<Vec<Setting>, ConfigError> {
    Config::settings(&app.home, environment())
}

fn show(app: &App) -> Result<(), ApiError> {
    let shown = Shown {
        file: app.home.join(FILE_NAME),
        settings: settings(app)?,
    };
    app.output.result(&shown, |text| shown_lines(text, &shown));
    Ok(())
}

fn get(app: &App, key: &str) -> Result<(), ApiError> {
    let setting = config::setting_of(settings(app)?, key).map_err(mistyped)?;
    app.output.result(&setting, |text| {
        for line in plain(&setting.value) {
            text.line(human::escape(&line));
        }
    });
    Ok(())
}

async fn change(app: &App, key: &str, change: &Change) -> Result<(), ApiError> {
    let changed = change.write(&app.home)?;
    let changed = Changed {
        file: app.home.join(FILE_NAME),
        changed,
        setting: config::setting_of(settings(app)?, key)?,
        restart_needed: changed && Client::connect(&app.home).await.is_ok(),
    };
    app.output.result(&changed, |text| {
        let Setting { key, value, .. } = &changed.setting;
        let origin = text.dim(format_args!("# {}", origin_text(&changed.setting.origin)));
        text.line(format_args!("{key} = {value}  {origin}"));
    });
    if let Origin::Environment(variable) = &changed.setting.origin {
        app.output.warning(&format!(
            "{variable} is set in this environment and counts more than the file"
        ));
    }
    if changed.restart_needed {
        app.output.note(
            "The running daemon goes on with what it was started with; restart it with: \
             shoal stop && shoal daemon --detach",
        );
    }
    Ok(())
}

fn check(app: &App, file: Option<PathBuf>) -> Result<(), ApiError> {
    let checked = match file {
        Some(file) => {
            let file = app::absolute(&file)?.into_path_buf();
            let keys = Config::check(&file)?;
            Checked { file, keys }
        }
        None => {
            let from_file = |setting: &&Setting| matches!(setting.origin, Origin::File(_));
            Checked {
                file: app.home.join(FILE_NAME),
                keys: settings(app)?.iter().filter(from_file).count(),
            }
        }
    };
    app.output.result(&checked, |text| {
        let keys = human::count(checked.keys as u64, "key");
        let file = human::path(&checked.file);
        text.line(format_args!("{file}: {keys} set, all good"));
    });
    Ok(())
}

/// Lines that could be a file, with what is worth knowing as comments.
fn shown_lines(text: &mut Text, shown: &Shown) {
    let mut section = "";
    for setting in &shown.settings {
        let (name, key) = setting.key.split_once('.').unwrap_or_default();
        if name != section {
            if !section.is_empty() {
                text.line("");
            }
            text.line(text.bold(format_args!("[{name}]")));
            section = name;
        }
        text.line(text.dim(format_args!("# {}", setting.doc)));
        let origin = text.dim(format_args!("# {}", origin_text(&setting.origin)));
        text.line(format_args!("{key} = {}  {origin}", setting.value));
    }
}

fn origin_text(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File(path) => human::path(path),
        Origin::Environment(variable) => variable.clone(),
    }
}

/// A value as a script wants it: words without quotes, a line for each item of a list.
fn plain(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Array(items) => items.iter().flat_map(plain).collect(),
        value => vec![value.to_string()],
    }
}

/// A key or value that was typed wrong is a mistake of the command line, not of the file.
fn mistyped(error: ConfigError) -> ApiError {
    let is_value = matches!(error, ConfigError::Value { .. });
    let error = ApiError {
        code: ErrorCode::Usage,
        ..error.into()
    };
    match is_value {
        true => error.hint("`shoal config show` says what each key takes"),
        false => error,
    }
}
