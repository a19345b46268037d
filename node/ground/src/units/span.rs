//! Lengths of time as people write them: `40ms`, `1m 30s`.
//!
//! Fields of that kind are read and written by `#[serde(with = "span")]`, or `"span::maybe"` where
//! there may be none.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// The longest length of time. What takes longer does not happen in a test network, and sums of
/// some of them never overflow.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// Reads a length of time like `40ms` or `1m 30s`, 24 hours at most.
///
/// # Errors
/// What is wrong with the text, for a person.
pub fn parse(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text)
        .map_err(|why| format!("`{text}` is no length of time like `40ms` or `1m 30s`: {why}"))?;
    if span > SPAN_MAX {
        return Err(format!("`{text}` is too long: the most is 24h"));
    }
    Ok(span)
}

/// Writes a length of time as [`parse`] reads it.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*span))
}

/// Reads a length of time as [`parse`] does.
///
/// # Errors
/// Those of [`parse`] and of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// The same where there may be none.
pub mod maybe {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes a length of time, or nothing.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, to),
            None => to.serialize_none(),
        }
    }

    /// Reads a length of time, or nothing.
    ///
    /// # Errors
    /// What is wrong with the text, for a person.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let span = text.map(|text| super::parse(&text)).transpose();
        span.map_err(D::Error::custom)
    }
}
