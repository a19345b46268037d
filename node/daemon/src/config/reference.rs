//! `docs/configuration.md`, made of the documentation of the keys and their defaults.
//!
//! With `SHOAL_RECORD` in the environment the file is written; without, it has to be what would be
//! written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use shoal_transfer::limits::Period;

use super::{
    Config, Overrides,
    settings::{Setting, descriptions, settings},
};

const HEAD: &str = "\
# Configuration

Made of the code by `node/daemon/src/config/reference.rs`. A node reads `config.toml` in its home when it starts. What
stands there goes before the default, the environment before the file, and flags before the environment. A list in
the environment is separated by commas. An unknown key or an unusable value ends the start with exit code 2 and names
what was probably meant; nothing is repaired or ignored.

`shoal config` shows what counts and where it comes from, `shoal config set KEY VALUE` changes the file and leaves
its comments, `shoal config check FILE` checks a file before it becomes one. A daemon reads the file when it starts;
rates and the monthly budget change at once with `shoal limits`.

Rates count all bytes on the sockets: `mbit` is 10^6 bits a second, `MB/s` 10^6 bytes a second, `MiB/s` 2^20.
";

const EXAMPLE: &str = r#"[network]
bootstrap = ["/ip4/192.0.2.7/tcp/4101/p2p/12D3KooWLTEQ8qS7nDSQCCiSVjDPEHsHfFtdHQuXBoz2bjn3yQdV"]

[limits]
up = "20mbit"
monthly = "500GB"

# By day the line is for others.
[[limits.schedule]]
from = "08:00"
to = "18:00"
days = ["mon-fri"]
up = "5mbit"
"#;

#[test]
fn the_reference_says_what_the_code_says() {
    let made = reference();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("SHOAL_RECORD").is_some() {
        fs::write(&file, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap(), made, "record it again");
}

#[test]
fn the_example_is_a_configuration() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(super::FILE_NAME), EXAMPLE).unwrap();
    let config = Config::load(home.path(), [], Overrides::default()).unwrap();
    assert_eq!(config.limits.schedule.len(), 1);
    assert_eq!(config.network.bootstrap.len(), 1);
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    let settings = settings(&Config::default(), &BTreeMap::new()).unwrap();
    for setting in &settings {
        let (of, name) = setting.key.split_once('.').unwrap();
        if of != section {
            section = of;
            write!(text, "\n## `[{section}]`\n").unwrap();
        }
        add(&mut text, name, setting);
    }
    write!(text, "\n## Example\n\n```toml\n{EXAMPLE}```\n").unwrap();
    text
}

fn add(text: &mut String, name: &str, setting: &Setting) {
    let Setting { doc, variable, .. } = setting;
    let default = &setting.default;
    write!(text, "\n### `{name}`\n\n{doc}\n").unwrap();
    if setting.key == "limits.schedule" {
        writeln!(text, "An entry has:\n").unwrap();
        for (key, doc) in descriptions::<Period>("") {
            writeln!(text, "- `{}`: {doc}", key.trim_start_matches('.')).unwrap();
        }
    }
    write!(text, "\nDefault: `{default}`. Environment: `{variable}`.\n").unwrap();
}
