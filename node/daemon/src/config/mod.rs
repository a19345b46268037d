//! The node's configuration: one typed value, made of four layers.
//!
//! Defaults < `config.toml` in the home < environment (`SHOAL_<SECTION>_<KEY>`, lists separated by
//! commas) < flags. `Default` is the only place a number is written. Unknown keys and unusable
//! values are errors that name the layer they come from; nothing is repaired or ignored. The file
//! is only written by a [`Change`], which a person asks for.

mod edit;
mod layers;
#[cfg(test)]
mod reference;
mod settings;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use libp2p::multiaddr::Protocol;
use serde::{Deserialize, Serialize};
use shoal_ground::units::{Interval, Rate};
use shoal_net::{DEFAULT_PORT, default_listen};
use shoal_transfer::{limits::LimitsConfig, replicate::ReplicasConfig};
use utoipa::ToSchema;

pub use edit::Change;
pub use layers::{ConfigError, FILE_NAME, Origin, Overrides};
pub use libp2p::Multiaddr;
pub use settings::{Setting, setting_of};

/// The whole configuration of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens and whom it looks for.
    pub network: NetworkConfig,
    /// How much of the line it may use.
    pub limits: LimitsConfig,
    /// How much copies that are near are preferred.
    pub replicas: ReplicasConfig,
    /// How it re-hashes what it shares.
    pub scrub: ScrubConfig,
    /// What it does with transfers.
    pub transfers: TransfersConfig,
    /// What it writes about itself.
    pub log: LogConfig,
}

/// `[network]`: where a node listens and whom it looks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Nodes meet only nodes of the same network.
    #[schema(value_type = String)]
    pub name: NetworkName,
    /// The addresses to listen on, port 0 for any free one; none means that others cannot dial this
    /// node.
    #[schema(value_type = Vec<String>)]
    pub listen: Vec<Multiaddr>,
    /// Addresses at which others reach this node although it does not listen there, like that of a
    /// router that forwards the port; they come first in links.
    #[schema(value_type = Vec<String>)]
    pub external: Vec<Multiaddr>,
    /// Peers to contact first; may be empty, since links, remembered peers and mDNS bring others.
    #[schema(value_type = Vec<String>)]
    pub bootstrap: Vec<Multiaddr>,
    /// Whether to find peers on the local network by multicast.
    pub mdns: bool,
    /// Whether a free port takes the place of one that another program has. Only for a node that
    /// ends with its command, which sets it.
    #[serde(skip)]
    pub port_fallback: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            name: NetworkName("main".to_owned()),
            listen: default_listen(DEFAULT_PORT),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            port_fallback: false,
        }
    }
}

impl NetworkConfig {
    /// The same for a node that ends with its command and must not be in a daemon's way: where
    /// nobody has chosen addresses it takes free ports, and where somebody has, it takes a free port
    /// only if the chosen one is in use.
    #[must_use]
    pub fn for_one_command(mut self) -> Self {
        self.port_fallback = true;
        if self.listen == Self::default().listen {
            self.on_free_ports()
        } else {
            self
        }
    }

    /// The same for a node that has no network.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.listen.clear();
        self.external.clear();
        self.bootstrap.clear();
        self.mdns = false;
        self
    }

    /// The same, and where any free port would do, that of an address of the same kind among `had`:
    /// links with the addresses of a node that has ended lead to the one that takes its place.
    #[must_use]
    pub fn on_ports_of(mut self, had: &[Multiaddr]) -> Self {
        let kind = |address: &Multiaddr| {
            let mut parts = address.iter();
            let is_v6 = matches!(parts.next()?, Protocol::Ip6(_));
            match parts.next()? {
                Protocol::Tcp(port) => Some((is_v6, true, port)),
                Protocol::Udp(port) => Some((is_v6, false, port)),
                _ => None,
            }
        };
        for address in &mut self.listen {
            let Some((is_v6, is_tcp, 0)) = kind(address) else {
                continue;
            };
            let ports = had.iter().filter_map(kind);
            let mut same = ports.filter(|it| (it.0, it.1) == (is_v6, is_tcp));
            let Some((_, _, port)) = same.next() else {
                continue;
            };
            *address = address
                .iter()
                .map(|part| match part {
                    Protocol::Tcp(_) => Protocol::Tcp(port),
                    Protocol::Udp(_) => Protocol::Udp(port),
                    other => other,
                })
                .collect();
        }
        self
    }

    /// The same with any free port instead of fixed ones.
    fn on_free_ports(mut self) -> Self {
        for address in &mut self.listen {
            *address = address
                .iter()
                .map(|part| match part {
                    Protocol::Tcp(_) => Protocol::Tcp(0),
                    Protocol::Udp(_) => Protocol::Udp(0),
                    other => other,
                })
                .collect();
        }
        self
    }
}

/// The name of a network: 1 to 32 lower-case letters, digits and `-`, since it is a part of
/// protocol names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

impl NetworkName {
    /// Enough for words, and short in the protocol names of every stream.
    const BYTES_MAX: usize = 32;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NetworkName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=Self::BYTES_MAX).contains(&name.len()) && name.chars().all(allowed) {
            Ok(Self(name))
        } else {
            Err(format!(
                "a network name has 1 to {} lower-case letters, digits or `-`",
                Self::BYTES_MAX
            ))
        }
    }
}

impl FromStr for NetworkName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.to_owned().try_into()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[scrub]`: how a node re-hashes what it shares, in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScrubConfig {
    /// From the beginning of one scrub to that of the next, like `30days`; `off` is never.
    #[schema(value_type = String)]
    pub interval: Interval,
    /// The most it reads per second, like `8MiB/s`, and less while others use the line; `off` is
    /// nothing at all, so that it never begins.
    #[schema(value_type = String)]
    pub rate: Rate,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self {
            interval: Interval::every(Duration::from_secs(30 * 24 * 3600)),
            // 1 TiB in a day and a half, for a third of a percent of one core.
            rate: Rate::from_bytes_per_second(8 << 20),
        }
    }
}

/// `[transfers]`: what a node does with transfers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransfersConfig {
    /// The program that is run when a transfer is done, with the path of what was fetched and its CID
    /// as arguments, like `/usr/local/bin/sort-it`; `off` is none. No shell reads it.
    #[schema(value_type = String)]
    pub on_done: Program,
}

/// A program by its absolute path, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Program(Option<PathBuf>);

impl Program {
    /// Where it is; none when there is none.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl TryFrom<String> for Program {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            off if off.eq_ignore_ascii_case("off") => Ok(Self(None)),
            path if Path::new(path).is_absolute() && !path.contains('\0') => {
                Ok(Self(Some(path.into())))
            }
            _ => Err(format!(
                "`{text}` is no absolute path of a program; `off` is none"
            )),
        }
    }
}

impl From<Program> for String {
    fn from(program: Program) -> Self {
        match program.0 {
            Some(path) => path.to_string_lossy().into_owned(),
            None => "off".to_owned(),
        }
    }
}

/// `[log]`: what a node writes about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` for people or `json` for collectors.
    #[schema(value_type = String)]
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn free_ports_keep_everything_else() {
        let config = NetworkConfig::default().for_one_command();
        let listen: Vec<_> = config.listen.iter().map(Multiaddr::to_string).collect();
        assert_eq!(
            listen,
            [
                "/ip4/0.0.0.0/tcp/0",
                "/ip4/0.0.0.0/udp/0/quic-v1",
                "/ip6/::/tcp/0",
                "/ip6/::/udp/0/quic-v1"
            ]
        );
        assert_eq!(config.name.as_str(), "main");
        let chosen = NetworkConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/4999".parse().unwrap()],
            ..NetworkConfig::default()
        };
        let config = chosen.clone().for_one_command();
        assert_eq!(config.listen, chosen.listen);
        assert!(config.port_fallback && !chosen.port_fallback);
    }

    #[test]
    fn who_takes_over_listens_where_the_other_did() {
        let config = NetworkConfig::default().for_one_command();
        let had = [
            "/ip4/192.168.1.5/tcp/4711/p2p/12D3KooWLTEQ8qS7nDSQCCiSVjDPEHsHfFtdHQuXBoz2bjn3yQdV",
            "/ip4/192.168.1.5/udp/4712/quic-v1",
            "/dns/example.org/tcp/1",
        ];
        let had = had.map(|it| it.parse().unwrap());
        let config = config.on_ports_of(&had);
        let listen: Vec<_> = config.listen.iter().map(Multiaddr::to_string).collect();
        assert_eq!(
            listen,
            [
                "/ip4/0.0.0.0/tcp/4711",
                "/ip4/0.0.0.0/udp/4712/quic-v1",
                "/ip6/::/tcp/0",
                "/ip6/::/udp/0/quic-v1"
            ]
        );
    }

    #[test]
    fn a_program_is_a_path_from_the_root_or_none() {
        let check = |text: &str, expected: Option<&str>| {
            let program = Program::try_from(text.to_owned()).unwrap();
            assert_eq!(program.path(), expected.map(Path::new), "{text}");
        };
        check("off", None);
        check("/bin/true", Some("/bin/true"));
        check("/opt/my tools/x", Some("/opt/my tools/x"));
        for bad in ["", "true", "./x", "bin/x; rm", "/a\0b"] {
            Program::try_from(bad.to_owned()).unwrap_err();
        }
    }

    #[test]
    fn network_names_fit_into_protocol_names() {
        for good in ["main", "test-1", "a", &"x".repeat(32)] {
            assert_eq!(good.parse::<NetworkName>().unwrap().as_str(), good);
        }
        for bad in ["", "Main", "a/b", "ü", "a b", &"x".repeat(33)] {
            bad.parse::<NetworkName>().unwrap_err();
        }
    }
}
