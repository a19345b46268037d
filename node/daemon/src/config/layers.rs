//! The layers of a configuration: reading, checking and merging them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use shoal_api::{ApiError, ErrorCode};
use shoal_ground::{said::said, suggest::closest};
use shoal_transfer::limits::Flags;
use toml::{Table, Value};

use super::{Config, LogFormat, Multiaddr};

/// The file in a home that holds its configuration.
pub const FILE_NAME: &str = "config.toml";

const ENV_PREFIX: &str = "SHOAL_";

/// A configuration is a page or two; more is another file by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The uppermost layer: what flags set.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Replaces the listen addresses, unless empty.
    pub listen: Vec<Multiaddr>,
    /// Replaces the external addresses, unless empty.
    pub external: Vec<Multiaddr>,
    /// Replaces the bootstrap peers, unless empty.
    pub bootstrap: Vec<Multiaddr>,
    /// Switches mDNS off.
    pub no_mdns: bool,
    /// Sets the form of log lines.
    pub log_format: Option<LogFormat>,
    /// Sets rates.
    pub limits: Flags,
}

/// The layer that a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", content = "from", rename_all = "lowercase")]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// This file.
    File(PathBuf),
    /// This variable of the environment.
    Environment(String),
}

/// What the layers below the flags make together.
pub(super) struct Layered {
    pub(super) config: Config,
    /// Where the values come from that are not defaults, by key.
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Config {
    /// The configuration of a home, from its file, the given environment and flags.
    ///
    /// # Errors
    /// Names the layer and the key; see [`ConfigError`].
    pub fn load(
        home: &Path,
        env: impl IntoIterator<Item = (String, String)>,
        flags: Overrides,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::layered(home, env)?.config;
        config.apply(flags);
        Ok(config)
    }

    /// Checks a file as [`Config::load`] would, and says how many keys it sets.
    ///
    /// # Errors
    /// As [`Config::load`], and when there is no such file.
    pub fn check(path: &Path) -> Result<usize, ConfigError> {
        let text = read_file(path)?.ok_or_else(|| ConfigError::Read {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok(keys_of(&parse_file(path, &text)?).count())
    }

    pub(super) fn layered(
        home: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Layered, ConfigError> {
        let mut table = table(&Self::default())?;
        let mut origins = BTreeMap::new();
        let path = home.join(FILE_NAME);
        if let Some(text) = read_file(&path)? {
            let file = parse_file(&path, &text)?;
            origins.extend(keys_of(&file).map(|key| (key, Origin::File(path.clone()))));
            merge(&mut table, file);
        }
        for (variable, value) in env {
            if let Some((section, key)) = section_and_key(&table, &variable) {
                set_from_env(&mut table, &section, &key, &variable, &value)?;
                origins.insert(format!("{section}.{key}"), Origin::Environment(variable));
            }
        }
        let config = table.try_into().map_err(|error| ConfigError::Value {
            origin: "configuration".to_owned(),
            message: error.to_string(),
        })?;
        Ok(Layered { config, origins })
    }

    fn apply(&mut self, flags: Overrides) {
        if !flags.listen.is_empty() {
            self.network.listen = flags.listen;
        }
        if !flags.external.is_empty() {
            self.network.external = flags.external;
        }
        if !flags.bootstrap.is_empty() {
            self.network.bootstrap = flags.bootstrap;
        }
        self.network.mdns &= !flags.no_mdns;
        self.log.format = flags.log_format.unwrap_or(self.log.format);
        self.limits.flags = flags.limits;
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {}", path.display(), said(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {}", path.display(), said(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such key.
    #[error("{origin}: unknown key `{key}`")]
    UnknownKey {
        /// The layer.
        origin: String,
        /// The key, with its section.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A value is not of the right type or out of range, or the file is not TOML.
    #[error("{origin}: {message}")]
    Value {
        /// The layer.
        origin: String,
        /// What is wrong, with the place in the file.
        message: String,
    },
}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string().trim_end().to_owned();
        match error {
            ConfigError::Read { source, .. } => Self::from_io(&source, message)
                .hint("make it readable for this user, or choose another home with --home"),
            ConfigError::Write { source, .. } => Self::from_io(&source, message)
                .hint("make its folder writable for this user, and see that its disk has space"),
            ConfigError::UnknownKey { suggestion, .. } => {
                let hint = match suggestion {
                    Some(suggestion) => format!("did you mean `{suggestion}`?"),
                    None => "take it out; `shoal config show` lists the keys".to_owned(),
                };
                Self::new(ErrorCode::Config, message).hint(hint)
            }
            ConfigError::Value { .. } => Self::new(ErrorCode::Config, message)
                .hint("correct the value, or take it out to use the default"),
        }
    }
}

/// A configuration as a file would have it.
pub(super) fn table(config: &Config) -> Result<Table, ConfigError> {
    Table::try_from(config).map_err(|error| ConfigError::Value {
        origin: "defaults".to_owned(),
        message: error.to_string(),
    })
}

/// The keys of a table, with their sections.
fn keys_of(table: &Table) -> impl Iterator<Item = String> {
    table.iter().flat_map(|(section, keys)| {
        let names = keys.as_table().into_iter().flat_map(Table::keys);
        names.map(move |name| format!("{section}.{name}"))
    })
}

pub(super) fn read_file(path: &Path) -> Result<Option<String>, ConfigError> {
    let read = || {
        if fs::metadata(path)?.len() > FILE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "larger than {FILE_BYTES_MAX} bytes"
            )));
        }
        fs::read_to_string(path)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The file's table, which by itself has to make a configuration: so that errors name its lines.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Table, ConfigError> {
    let origin = path.display().to_string();
    let value_error = |error: toml::de::Error| ConfigError::Value {
        origin: origin.clone(),
        message: error.to_string(),
    };
    let table: Table = toml::from_str(text).map_err(value_error)?;
    check_keys(&table, &self::table(&Config::default())?, "", &origin)?;
    toml::from_str::<Config>(text).map_err(value_error)?;
    Ok(table)
}

fn check_keys(
    table: &Table,
    known: &Table,
    section: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    for (key, value) in table {
        match (known.get(key), value) {
            (None, _) => {
                let suggestion = closest(key, known.keys().map(String::as_str));
                return Err(ConfigError::UnknownKey {
                    origin: origin.to_owned(),
                    key: format!("{section}{key}"),
                    suggestion: suggestion.map(|name| format!("{section}{name}")),
                });
            }
            (Some(Value::Table(known)), Value::Table(table)) => {
                check_keys(table, known, &format!("{section}{key}."), origin)?;
            }
            (Some(_), _) => {}
        }
    }
    Ok(())
}

fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => merge(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

/// `SHOAL_NETWORK_LISTEN` is `network.listen`; variables of no section, like `SHOAL_HOME`, are not
/// ours.
fn section_and_key(known: &Table, variable: &str) -> Option<(String, String)> {
    let name = variable.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
    let (section, key) = name.split_once('_')?;
    known.get(section)?.as_table()?;
    Some((section.to_owned(), key.to_owned()))
}

fn set_from_env(
    table: &mut Table,
    section: &str,
    key: &str,
    variable: &str,
    text: &str,
) -> Result<(), ConfigError> {
    let Some(Value::Table(keys)) = table.get_mut(section) else {
        return Ok(());
    };
    let Some(current) = keys.get(key) else {
        let known = closest(key, keys.keys().map(String::as_str));
        return Err(ConfigError::UnknownKey {
            origin: "environment".to_owned(),
            key: variable.to_owned(),
            suggestion: known.map(|name| self::variable(section, name)),
        });
    };
    let value = parse_alone(variable, section, key, current, text)?;
    keys.insert(key.to_owned(), value);
    Ok(())
}

/// The variable that sets a key.
pub(super) fn variable(section: &str, key: &str) -> String {
    format!("{ENV_PREFIX}{section}_{key}").to_ascii_uppercase()
}

/// What a text means as a value of a key, of the same type as `current` and sound by itself;
/// `origin` is where the text stands.
pub(super) fn parse_alone(
    origin: &str,
    section: &str,
    key: &str,
    current: &Value,
    text: &str,
) -> Result<Value, ConfigError> {
    let value_error = |message: String| ConfigError::Value {
        origin: origin.to_owned(),
        message,
    };
    let value = env_value(current, text).ok_or_else(|| {
        let expected = article(current.type_str());
        value_error(format!("`{text}` is not {expected}"))
    })?;
    let alone = Table::from_iter([(key.to_owned(), value.clone())]);
    Table::from_iter([(section.to_owned(), Value::Table(alone))])
        .try_into::<Config>()
        .map_err(|error| value_error(error.message().to_owned()))?;
    Ok(value)
}

/// The text as a value of the same type as the one that it replaces.
fn env_value(current: &Value, text: &str) -> Option<Value> {
    match current {
        Value::Boolean(_) => match text {
            "1" | "true" | "yes" | "on" => Some(true.into()),
            "0" | "false" | "no" | "off" => Some(false.into()),
            _ => None,
        },
        Value::Integer(_) => text.parse::<i64>().ok().map(Value::from),
        // As in the file, which is the only way to write tables in a list.
        Value::Array(_) if text.trim_start().starts_with('[') => {
            let line = format!("list = {text}");
            toml::from_str::<Table>(&line).ok()?.remove("list")
        }
        Value::Array(_) => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Some(Value::Array(items.map(Value::from).collect()))
        }
        _ => Some(text.into()),
    }
}

fn article(type_name: &str) -> String {
    let article = if type_name.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {type_name}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(file: &str, env: &[(&str, &str)], flags: Overrides) -> Result<Config, ConfigError> {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE_NAME), file).unwrap();
        let env = env
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        Config::load(home.path(), env, flags)
    }

    #[test]
    fn an_empty_home_has_the_defaults() {
        let home = tempfile::tempdir().unwrap();
        let config = Config::load(home.path(), [], Overrides::default()).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(
            load("", &[("SHOAL_HOME", "x")], Overrides::default()).unwrap(),
            config
        );
    }

    #[test]
    fn each_layer_covers_the_one_below() {
        let file = "[network]\nname = \"file\"\nmdns = false\nbootstrap = [\"/ip4/1.1.1.1/tcp/1\"]";
        let env = [
            ("SHOAL_NETWORK_NAME", "env"),
            (
                "SHOAL_NETWORK_BOOTSTRAP",
                "/ip4/2.2.2.2/tcp/2, /ip4/3.3.3.3/tcp/3",
            ),
            ("SHOAL_LOG_FORMAT", "json"),
        ];
        let config = load(file, &[], Overrides::default()).unwrap();
        assert_eq!(config.network.name.as_str(), "file");
        assert!(!config.network.mdns);
        assert_eq!(config.network.listen, Config::default().network.listen);

        let config = load(file, &env, Overrides::default()).unwrap();
        assert_eq!(config.network.name.as_str(), "env");
        assert_eq!(config.network.bootstrap.len(), 2);
        assert_eq!(config.log.format, LogFormat::Json);
        assert!(!config.network.mdns);

        let flags = Overrides {
            bootstrap: vec!["/ip4/4.4.4.4/tcp/4".parse().unwrap()],
            log_format: Some(LogFormat::Text),
            ..Overrides::default()
        };
        let config = load(file, &env, flags).unwrap();
        assert_eq!(
            config.network.bootstrap[0].to_string(),
            "/ip4/4.4.4.4/tcp/4"
        );
        assert_eq!(config.log.format, LogFormat::Text);
    }

    fn check_error(file: &str, env: &[(&str, &str)], message: &str, hint: &str) {
        let error = load(file, env, Overrides::default()).unwrap_err();
        let error = ApiError::from(error);
        assert_eq!(error.code, ErrorCode::Config);
        assert!(error.message.contains(message), "{}", error.message);
        let given = error.hint.unwrap();
        assert!(given.contains(hint), "{given}");
    }

    #[test]
    fn mistakes_are_named() {
        check_error(
            "[network]\nlisten_on = []",
            &[],
            "`network.listen_on`",
            "`network.listen`?",
        );
        check_error("[netwrok]\nmdns = true", &[], "`netwrok`", "`network`?");
        check_error(
            "[network]\nzzzzzz = 1",
            &[],
            "`network.zzzzzz`",
            "take it out",
        );
        check_error(
            "[network]\nmdns = \"on\"",
            &[],
            "line 2",
            "correct the value",
        );
        check_error(
            "[network]\nname = \"No/Good\"",
            &[],
            "network name",
            "correct the value",
        );
        check_error(
            "[network]\nlisten = [\"4101\"]",
            &[],
            "line 2",
            "correct the value",
        );
        check_error("network", &[], "line 1", "correct the value");
        check_error(
            "",
            &[("SHOAL_NETWORK_MDMS", "1")],
            "MDMS",
            "`SHOAL_NETWORK_MDNS`?",
        );
        check_error(
            "",
            &[("SHOAL_NETWORK_MDNS", "maybe")],
            "not a boolean",
            "correct the value",
        );
        check_error(
            "",
            &[("SHOAL_LOG_FORMAT", "xml")],
            "SHOAL_LOG_FORMAT",
            "correct the value",
        );
        check_error(
            "",
            &[("SHOAL_NETWORK_LISTEN", "4101")],
            "SHOAL_NETWORK_LISTEN",
            "correct",
        );
    }
}
