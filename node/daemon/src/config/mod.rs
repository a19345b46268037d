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

use std::{fmt, str::FromStr, time::Duration};

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
    fn network_names_fit_into_protocol_names() {
        for good in ["main", "test-1", "a", &"x".repeat(32)] {
            assert_eq!(good.parse::<NetworkName>().unwrap().as_str(), good);
        }
        for bad in ["", "Main", "a/b", "ü", "a b", &"x".repeat(33)] {
            bad.parse::<NetworkName>().unwrap_err();
        }
    }
}
