//! `[replicas]`: copies that are near, what a node keeps of them for others, and how much they are
//! preferred.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use shoal_ground::units::{Size, span};
use shoal_protocol::{near::NearConfig, replicate::helper::HelperConfig};
use utoipa::ToSchema;

/// `[replicas]`: copies that are near: what this node keeps for others, and how much it prefers
/// theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicasConfig {
    /// For whom copies are kept: `public` is everybody near, `private` the peers at private
    /// addresses, `lan` the local network, and `off` nobody. With `off` this node asks no near peer
    /// for copies either.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// The most that copies take of the disk, like `2GiB`; `off` keeps none.
    #[schema(value_type = String)]
    pub quota: Size,
    /// What copies leave free of the disk, like `20GiB`; `auto` is the greater of 10% of the disk
    /// and 2 GiB.
    #[schema(value_type = String)]
    pub floor: Floor,
    /// For how long after its start a node keeps nothing new, like `5m`.
    #[serde(with = "span")]
    #[schema(value_type = String)]
    pub warmup: Duration,
    /// Whether one peer that asks for a root is enough for a copy while more than half of the quota
    /// is free; otherwise it takes two.
    pub eager: bool,
    /// Where peers of one network count as four at most, however many they are: `public` is at
    /// public addresses, `all` everywhere but on the local network.
    #[schema(value_type = String)]
    pub diversity: Diversity,
    /// The longest distance of a near peer, a round-trip time like `25ms`; with `0s` only peers of
    /// the local network are near.
    #[serde(with = "span")]
    #[schema(value_type = String)]
    pub near: Duration,
    /// Whether this node offers copies to helpers near those who ask, when more ask for what it shares
    /// than its line carries. It is new, and not proven on slow lines yet.
    pub offers: bool,
    /// Whether a far peer is never asked for what a near one has, and whoever shares content of their
    /// own never for what others have, even where it would come sooner: for lines that cost money.
    pub strict: bool,
}

impl Default for ReplicasConfig {
    fn default() -> Self {
        let HelperConfig { quota, eager, .. } = HelperConfig::default();
        Self {
            scope: Scope::Public,
            quota: Size::from_bytes(quota),
            floor: Floor::Auto,
            warmup: Duration::from_mins(5),
            eager,
            diversity: Diversity::Public,
            near: NearConfig::default().near_rtt,
            offers: false,
            strict: false,
        }
    }
}

impl ReplicasConfig {
    /// The numbers of the policy.
    #[must_use]
    pub fn helper(&self) -> HelperConfig {
        HelperConfig {
            quota: self.quota.bytes().unwrap_or(0),
            eager: self.eager,
            ..HelperConfig::default()
        }
    }

    /// How near is near.
    #[must_use]
    pub fn nearness(&self) -> NearConfig {
        NearConfig {
            near_rtt: self.near,
            ..NearConfig::default()
        }
    }

    /// The same for a node that a person has switched on: with the usual scope where it has none.
    #[must_use]
    pub fn switched_on(mut self) -> Self {
        if self.is_off() {
            self.scope = Self::default().scope;
        }
        self
    }

    /// Whether it takes no part at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.scope == Scope::Off
    }
}

/// For whom copies are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// For nobody.
    Off,
    /// For peers of the local network.
    Lan,
    /// For near peers at addresses that are not public, too.
    Private,
    /// For all near peers.
    Public,
}

/// Where the addresses of askers tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Diversity {
    /// At public addresses; elsewhere each peer is one.
    Public,
    /// Everywhere but on the local network: for test networks.
    All,
}

/// What copies leave free of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Floor {
    /// The greater of 10% of it and 2 GiB.
    Auto,
    /// So much; none is nothing.
    Bytes(Size),
}

impl Floor {
    /// How many bytes, where somebody has chosen it.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Auto => None,
            Self::Bytes(size) => Some(size.bytes().unwrap_or(0)),
        }
    }
}

impl FromStr for Floor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            auto if auto.eq_ignore_ascii_case("auto") => Ok(Self::Auto),
            size => size.parse().map(Self::Bytes),
        }
    }
}

impl TryFrom<String> for Floor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Floor> for String {
    fn from(floor: Floor) -> Self {
        floor.to_string()
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let check = |text: &str| {
            let config: ReplicasConfig = toml::from_str(text).unwrap();
            let again = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<ReplicasConfig>(&again).unwrap(), config);
            config
        };
        assert_eq!(check(""), ReplicasConfig::default());
        let config = check("scope = 'off'\nquota = 'off'\nfloor = '5GiB'\nwarmup = '0s'");
        assert!(config.is_off());
        assert_eq!(config.helper().quota, 0);
        assert_eq!(config.clone().switched_on().scope, Scope::Public);
        let lan = check("scope = 'lan'");
        assert_eq!(lan.clone().switched_on(), lan);
        assert_eq!(config.floor.bytes(), Some(5 << 30));
        assert_eq!(config.warmup, Duration::ZERO);
        assert_eq!(check("floor = 'off'").floor.bytes(), Some(0));
        toml::from_str::<ReplicasConfig>("scope = 'everybody'").unwrap_err();
        toml::from_str::<ReplicasConfig>("floor = 'much'").unwrap_err();
        let config = check("near = '40ms'\nstrict = true");
        assert_eq!(config.nearness().near_rtt, Duration::from_millis(40));
        assert!(config.strict);
        toml::from_str::<ReplicasConfig>("near = 'soon'").unwrap_err();
    }
}
