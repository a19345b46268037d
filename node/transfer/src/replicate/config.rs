//! `[replicas]`: copies that are near, and how much they are preferred.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shoal_ground::units::span;
use shoal_protocol::near::NearConfig;
use utoipa::ToSchema;

/// `[replicas]`: copies that are near, and how much they are preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicasConfig {
    /// The longest distance of a near peer, a round-trip time like `25ms`; with `0s` only peers of
    /// the local network are near.
    #[serde(with = "span")]
    #[schema(value_type = String)]
    pub near: Duration,
    /// Whether a far peer is never asked for what a near one has, and whoever shares content of their
    /// own never for what others have, even where it would come sooner: for lines that cost money.
    pub strict: bool,
}

impl Default for ReplicasConfig {
    fn default() -> Self {
        Self {
            near: NearConfig::default().near_rtt,
            strict: false,
        }
    }
}

impl ReplicasConfig {
    /// How near is near.
    #[must_use]
    pub fn nearness(&self) -> NearConfig {
        NearConfig {
            near_rtt: self.near,
            ..NearConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let check = |text: &str, near: u64, strict| {
            let config: ReplicasConfig = toml::from_str(text).unwrap();
            let again = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<ReplicasConfig>(&again).unwrap(), config);
            let near = Duration::from_millis(near);
            assert_eq!((config.nearness().near_rtt, config.strict), (near, strict));
        };
        check("", 25, false);
        check("near = '40ms'\nstrict = true", 40, true);
        check("near = '0s'", 0, false);
        toml::from_str::<ReplicasConfig>("near = 'soon'").unwrap_err();
    }
}
