//! Changing the file of a configuration: one key at a time, comments and order kept.
//!
//! What would come of it is checked as a whole before anything is written, and the file is replaced
//! in one step: whoever reads it sees the one or the other. Of two changes at the same moment the
//! later one wins.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::{ConfigError, FILE_NAME, layers, settings};

/// A change of one key that by itself is sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    section: String,
    name: String,
    /// None takes the key out.
    value: Option<toml::Value>,
}

impl Change {
    /// Sets `key` to what `text` says. It is written as in the environment: a word, a number, words
    /// separated by commas; lists as in the file are understood too.
    ///
    /// # Errors
    /// When there is no such key, or it cannot be that.
    pub fn set(key: &str, text: &str) -> Result<Self, ConfigError> {
        let default = settings::default_of(key)?;
        let (section, name) = split(key);
        let value = layers::parse_alone(key, section, name, &default, text)?;
        Ok(Self {
            section: section.to_owned(),
            name: name.to_owned(),
            value: Some(value),
        })
    }

    /// Takes `key` out, so that a layer below the file counts.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn unset(key: &str) -> Result<Self, ConfigError> {
        settings::default_of(key)?;
        let (section, name) = split(key);
        Ok(Self {
            section: section.to_owned(),
            name: name.to_owned(),
            value: None,
        })
    }

    /// Changes the file of `home`, which is made when it has to be, and says whether it is another
    /// one now.
    ///
    /// # Errors
    /// When the file cannot be read or written, or no node could use it before or afterwards; then
    /// it is as it was.
    pub fn write(&self, home: &Path) -> Result<bool, ConfigError> {
        let path = home.join(FILE_NAME);
        let before = layers::read_file(&path)?.unwrap_or_default();
        // Says what is wrong with the file as it is by its lines, before anything is changed.
        layers::parse_file(&path, &before)?;
        let mut document = before
            .parse::<DocumentMut>()
            .map_err(|error| malformed(&path, &error))?;
        self.apply(&mut document, &path)?;
        let after = document.to_string();
        layers::parse_file(&path, &after)?;
        if after == before {
            return Ok(false);
        }
        replace(home, &path, &after).map_err(|source| ConfigError::Write { path, source })?;
        Ok(true)
    }

    fn apply(&self, document: &mut DocumentMut, path: &Path) -> Result<(), ConfigError> {
        let Some(value) = &self.value else {
            let section = document.get_mut(&self.section);
            if let Some(table) = section.and_then(Item::as_table_like_mut) {
                table.remove(&self.name);
            }
            return Ok(());
        };
        // The two libraries have a type of values each, and one notation.
        let value = value.to_string().parse::<Value>();
        let value = value.map_err(|error| malformed(path, &error))?;
        let section = document
            .entry(&self.section)
            .or_insert_with(toml_edit::table);
        // A section that is none has been refused with the file.
        if let Some(table) = section.as_table_like_mut() {
            put(table, &self.name, value);
        }
        Ok(())
    }
}

fn split(key: &str) -> (&str, &str) {
    key.split_once('.').unwrap_or((key, ""))
}

fn malformed(path: &Path, error: &toml_edit::TomlError) -> ConfigError {
    ConfigError::Value {
        origin: path.display().to_string(),
        message: error.to_string(),
    }
}

/// Replaces a value and keeps what is written around it.
fn put(table: &mut dyn TableLike, name: &str, mut value: Value) {
    match table.get_mut(name) {
        Some(Item::Value(before)) => {
            *value.decor_mut() = before.decor().clone();
            *before = value;
        }
        _ => {
            table.insert(name, Item::Value(value));
        }
    }
}

/// Replaces the file at `path`, or the one that it is a link to, in one step.
fn replace(home: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)?;
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let folder = target.parent().unwrap_or(home);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(metadata) = target.metadata() {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(&target)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new(file: &str) -> Self {
            let home = tempfile::tempdir().unwrap();
            fs::write(home.path().join(FILE_NAME), file).unwrap();
            Self(home)
        }

        fn file(&self) -> String {
            fs::read_to_string(self.0.path().join(FILE_NAME)).unwrap()
        }

        fn set(&self, key: &str, text: &str) -> Result<bool, ConfigError> {
            Change::set(key, text)?.write(self.0.path())
        }
    }

    #[test]
    fn a_key_is_set_where_it_stands_and_everything_else_stays() {
        let check = |before: &str, key: &str, text: &str, after: &str| {
            let home = Home::new(before);
            assert!(home.set(key, text).unwrap());
            assert_eq!(home.file(), after, "{key} = {text}");
            assert!(!home.set(key, text).unwrap(), "{key} = {text}");
        };
        check("", "network.mdns", "off", "[network]\nmdns = false\n");
        check(
            "# mine\n[network] # here\n# above\nmdns = true # loud\nname = \"x\"\n",
            "network.mdns",
            "false",
            "# mine\n[network] # here\n# above\nmdns = false # loud\nname = \"x\"\n",
        );
        check(
            "[log]\nformat = \"json\"\n",
            "network.bootstrap",
            "/ip4/1.1.1.1/tcp/1, /ip4/2.2.2.2/tcp/2",
            "[log]\nformat = \"json\"\n\n[network]\n\
             bootstrap = [\"/ip4/1.1.1.1/tcp/1\", \"/ip4/2.2.2.2/tcp/2\"]\n",
        );
        check(
            "network = { mdns = true }\n",
            "network.mdns",
            "no",
            "network = { mdns = false }\n",
        );
        check("", "limits.up", "20mbit", "[limits]\nup = \"20mbit\"\n");
        check("", "limits.reset_day", "7", "[limits]\nreset_day = 7\n");
        check(
            "",
            "limits.schedule",
            "[{ from = \"08:00\", to = \"18:00\", up = \"5mbit\" }]",
            "[limits]\nschedule = [{ from = \"08:00\", to = \"18:00\", up = \"5mbit\" }]\n",
        );
    }

    #[test]
    fn what_no_node_could_use_is_not_written() {
        let check = |before: &str, key: &str, text: &str, message: &str| {
            let home = Home::new(before);
            let error = home.set(key, text).unwrap_err().to_string();
            assert!(error.contains(message), "{key} = {text}: {error}");
            assert_eq!(home.file(), before, "{key} = {text}");
        };
        check("", "network.mdms", "on", "unknown key");
        check("", "network", "on", "unknown key");
        check("", "network.mdns", "maybe", "not a boolean");
        check("", "network.name", "No/Good", "network name");
        check("", "network.listen", "4101", "network.listen");
        check("", "limits.up", "fast", "limits.up");
        check("", "limits.reset_day", "32", "1 to 31");
        check("", "limits.schedule", "[{ from = 1 }]", "limits.schedule");
        check("# odd\n[netwrok]\n", "network.mdns", "on", "netwrok");
        check("network = 1\n", "network.mdns", "on", "line 1");
    }

    #[test]
    fn unsetting_leaves_the_rest() {
        let home = Home::new("[network]\n# why\nmdns = true\nname = \"x\"\n");
        let unset = Change::unset("network.mdns").unwrap();
        assert!(unset.write(home.0.path()).unwrap());
        assert_eq!(home.file(), "[network]\nname = \"x\"\n");
        assert!(!unset.write(home.0.path()).unwrap());
        Change::unset("network.nope").unwrap_err();
        let empty = tempfile::tempdir().unwrap();
        assert!(!unset.write(empty.path()).unwrap());
        assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_to_a_file_elsewhere_stays_one() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), Home::new("[network]\n"));
        let link = home.path().join(FILE_NAME);
        std::os::unix::fs::symlink(elsewhere.0.path().join(FILE_NAME), &link).unwrap();
        let change = Change::set("network.mdns", "off").unwrap();
        assert!(change.write(home.path()).unwrap());
        assert!(link.is_symlink());
        assert_eq!(elsewhere.file(), "[network]\nmdns = false\n");
    }
}
