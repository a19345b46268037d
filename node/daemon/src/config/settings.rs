//! The configuration as a list of keys: what each means, what it is, and which layer says so.
//!
//! The texts are the documentation of the fields themselves, and the defaults are those of
//! `Default`: nothing is written twice.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use shoal_ground::suggest::closest;
use shoal_transfer::{limits::LimitsConfig, replicate::ReplicasConfig};
use toml::Value;
use utoipa::PartialSchema;

use super::{
    Config, ConfigError, LogConfig, NetworkConfig, Origin, ScrubConfig, TransfersConfig,
    layers::{self, Layered},
};

/// One key with all there is to know about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its section and name, like `network.listen`.
    pub key: String,
    /// What it is.
    pub value: Value,
    /// What it is when nobody sets it.
    pub default: Value,
    /// Which layer sets it.
    #[serde(flatten)]
    pub origin: Origin,
    /// What it means.
    pub doc: String,
    /// The variable of the environment that sets it.
    pub variable: String,
}

impl Config {
    /// Every key there is, by section and name, with what a node that starts on `home` without
    /// flags makes of it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn settings(
        home: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<Setting>, ConfigError> {
        let Layered { config, origins } = Self::layered(home, env)?;
        settings(&config, &origins)
    }
}

pub(super) fn settings(
    config: &Config,
    origins: &BTreeMap<String, Origin>,
) -> Result<Vec<Setting>, ConfigError> {
    let values = layers::table(config)?;
    let docs = docs();
    let mut settings = Vec::new();
    for (section, keys) in layers::table(&Config::default())? {
        for (name, default) in keys.as_table().into_iter().flatten() {
            let key = format!("{section}.{name}");
            let value = values.get(&section).and_then(|keys| keys.get(name));
            settings.push(Setting {
                value: value.unwrap_or(default).clone(),
                default: default.clone(),
                origin: origins.get(&key).cloned().unwrap_or_default(),
                doc: docs.get(&key).cloned().unwrap_or_default(),
                variable: layers::variable(&section, name),
                key,
            });
        }
    }
    Ok(settings)
}

/// The setting of one key.
///
/// # Errors
/// [`ConfigError::UnknownKey`] with the key that was probably meant.
pub fn setting_of(settings: Vec<Setting>, key: &str) -> Result<Setting, ConfigError> {
    let unknown = ConfigError::UnknownKey {
        origin: "configuration".to_owned(),
        key: key.to_owned(),
        suggestion: closest_key(key, &settings),
    };
    let found = settings.into_iter().find(|setting| setting.key == key);
    found.ok_or(unknown)
}

/// What `key` is when nobody sets it.
pub(super) fn default_of(key: &str) -> Result<Value, ConfigError> {
    let defaults = settings(&Config::default(), &BTreeMap::new())?;
    Ok(setting_of(defaults, key)?.default)
}

/// The key that was meant: one of that name in any section, or one that is written alike.
fn closest_key(key: &str, settings: &[Setting]) -> Option<String> {
    let name = key.rsplit('.').next().unwrap_or(key);
    let same_name = |setting: &&Setting| setting.key.rsplit('.').next() == Some(name);
    match settings.iter().find(same_name) {
        Some(setting) => Some(setting.key.clone()),
        None => closest(key, settings.iter().map(|it| it.key.as_str())).map(str::to_owned),
    }
}

/// What each key means.
fn docs() -> BTreeMap<String, String> {
    let mut docs = BTreeMap::new();
    docs.extend(descriptions::<NetworkConfig>("network"));
    docs.extend(descriptions::<LimitsConfig>("limits"));
    docs.extend(descriptions::<ReplicasConfig>("replicas"));
    docs.extend(descriptions::<ScrubConfig>("scrub"));
    docs.extend(descriptions::<TransfersConfig>("transfers"));
    docs.extend(descriptions::<LogConfig>("log"));
    docs
}

/// The documentation of a section's fields, each on one line.
pub(super) fn descriptions<T: PartialSchema>(section: &str) -> BTreeMap<String, String> {
    let schema = serde_json::to_value(T::schema()).unwrap_or_default();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| {
            let doc = property["description"].as_str().unwrap_or_default();
            let words: Vec<_> = doc.split_whitespace().collect();
            (format!("{section}.{name}"), words.join(" "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn defaults() -> Vec<Setting> {
        settings(&Config::default(), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn every_key_is_documented_and_has_its_variable() {
        assert!(defaults().len() >= 10, "{:?}", defaults());
        for setting in defaults() {
            assert!(setting.doc.ends_with('.'), "{setting:?}");
            assert_eq!(setting.origin, Origin::Default);
            assert_eq!(setting.value, setting.default);
            let name = setting.key.replace('.', "_").to_ascii_uppercase();
            assert_eq!(setting.variable, format!("SHOAL_{name}"));
        }
    }

    #[test]
    fn a_key_that_does_not_exist_is_told_from_its_neighbours() {
        let check = |key: &str, meant: Option<&str>| {
            let error = setting_of(defaults(), key).unwrap_err();
            let ConfigError::UnknownKey { suggestion, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(suggestion.as_deref(), meant, "{key}");
        };
        check("network.lisen", Some("network.listen"));
        check("listen", Some("network.listen"));
        check("log.mdns", Some("network.mdns"));
        check("nothing.like.it", None);
    }
}
