//! Lines that people know by a name.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use shoal_ground::units::Rate;

use super::{
    Line,
    plan::{Loss, Reset, Stall},
};

/// A line that people know by a name.
///
/// The latency of a line is its own part of a link: two `home` lines are 20 ms apart, so a round
/// trip takes 40 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A cable in one building: 1 Gbit/s both ways, a round trip of 0.6 ms.
    Lan,
    /// A flat with cable or VDSL: 20 Mbit/s up, 100 Mbit/s down, a round trip of 40 ms.
    Home,
    /// A telephone on LTE: 10 Mbit/s up, 40 Mbit/s down, a round trip of 100 ms that varies by 40,
    /// one packet in 200 lost, and nothing for a second once in a minute.
    Mobile,
    /// A server on another continent: 500 Mbit/s both ways, a round trip of 160 ms.
    Wan,
    /// A bad line at the end of the village: 1 Mbit/s up, 6 Mbit/s down, a round trip of 120 ms,
    /// one packet in 100 lost, stalls, and connections that break every ten minutes.
    Slow,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Lan, Self::Home, Self::Mobile, Self::Wan, Self::Slow];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Home => "home",
            Self::Mobile => "mobile",
            Self::Wan => "wan",
            Self::Slow => "slow",
        }
    }

    /// The line.
    #[must_use]
    pub fn line(self) -> Line {
        match self {
            Self::Lan => plain(1_000, 1_000, micros(150), micros(50)),
            Self::Home => Line {
                loss: Loss::parts_per_million(100),
                ..plain(20, 100, millis(10), millis(1))
            },
            Self::Mobile => Line {
                loss: Loss::parts_per_million(5_000),
                stall: Some(Stall::new(secs(60), secs(1))),
                ..plain(10, 40, millis(25), millis(10))
            },
            Self::Wan => Line {
                loss: Loss::parts_per_million(100),
                ..plain(500, 500, millis(40), millis(1))
            },
            Self::Slow => Line {
                loss: Loss::parts_per_million(10_000),
                stall: Some(Stall::new(secs(60), secs(2))),
                reset: Some(Reset::new(secs(600))),
                ..plain(1, 6, millis(30), millis(10))
            },
        }
    }
}

/// A line of so many Mbit/s up and down.
fn plain(up: u64, down: u64, latency: Duration, jitter: Duration) -> Line {
    let rate = |mbit: u64| Rate::from_bytes_per_second(mbit.saturating_mul(1_000_000 / 8));
    Line {
        up: rate(up),
        down: rate(down),
        latency,
        jitter,
        ..Line::default()
    }
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|profile| profile.name() == text);
        known.ok_or_else(|| {
            format!("`{text}` is no link profile: there are lan, home, mobile, wan and slow")
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn profiles_are_known_by_their_names() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
            let text = serde_json::to_string(&profile).unwrap();
            assert_eq!(text, format!("\"{profile}\""));
            let line = serde_json::to_string(&profile.line()).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&line).unwrap(), profile.line());
        }
        let error = "dsl".parse::<Profile>().unwrap_err();
        assert!(error.contains("mobile"), "{error}");
    }
}
