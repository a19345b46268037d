//! Lengths of time in files, as people write them: `40ms`, `1m 30s`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// The longest length of time in a plan. What takes longer does not happen in a test network, and
/// sums of some of them never overflow.
pub(super) const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

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

pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*span))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// The same where there may be none.
pub(super) mod maybe {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in super::super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, to),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let span = text.map(|text| super::parse(&text)).transpose();
        span.map_err(D::Error::custom)
    }
}
