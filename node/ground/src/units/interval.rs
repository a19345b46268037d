//! Lengths of time as people write them: `10s`, `22h`, `30days`, and `off`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Time between two runs of something, or that it never runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(Option<Duration>);

impl Interval {
    /// Between two runs.
    #[must_use]
    pub const fn every(duration: Duration) -> Self {
        Self(Some(duration))
    }

    /// The time; none when it never runs.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        match humantime::parse_duration(text) {
            Ok(span) if !span.is_zero() => Ok(Self(Some(span))),
            Ok(_) => Err("a length of time is more than nothing; `off` is never".to_owned()),
            Err(error) => Err(format!(
                "`{text}` is no length of time like `30days` or `12h`: {error}"
            )),
        }
    }
}

impl TryFrom<String> for Interval {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(span) => humantime::format_duration(span).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn intervals_read_as_they_print() {
        for (text, seconds) in [("10s", 10), ("1h 30m", 5400), ("30days", 30 * 86_400)] {
            let interval: Interval = text.parse().unwrap();
            assert_eq!(interval.duration(), Some(Duration::from_secs(seconds)));
            assert_eq!(interval.to_string().parse(), Ok(interval), "{text}");
        }
        let off: Interval = "off".parse().unwrap();
        assert_eq!((off.duration(), off.to_string()), (None, "off".to_owned()));
        for bad in ["", "0s", "10", "soon", "-1s", "on"] {
            bad.parse::<Interval>().unwrap_err();
        }
    }
}
