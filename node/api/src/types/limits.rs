//! Budgets: what is allowed of the line and of the month, and what is used.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use shoal_ground::units::{Rate, Size};
use utoipa::ToSchema;

use super::schema::{RateText, SizeText};

/// The limits in force, and what is used of them; all bytes on the sockets count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// What may be sent.
    pub up: RateLimit,
    /// What may be received.
    pub down: RateLimit,
    /// What may be sent and received in a month.
    pub monthly: MonthlyLimit,
}

/// A limit on bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RateLimit {
    /// As people write it: `20mbit`, `5MB/s`, `off`.
    #[schema(value_type = String)]
    pub limit: Rate,
    /// The same in bytes per second; none when there is no limit.
    #[schema(required)]
    pub bytes_per_second: Option<u64>,
    /// Who set it.
    pub source: LimitSource,
    /// Bytes per second, lately.
    pub rate: u64,
}

/// A limit on the bytes of a month, and its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MonthlyLimit {
    /// As people write it: `500GB`, `off`.
    #[schema(value_type = String)]
    pub limit: Size,
    /// The same in bytes; none when there is no limit.
    #[schema(required)]
    pub bytes: Option<u64>,
    /// Who set it.
    pub source: LimitSource,
    /// What was sent this month.
    pub up: u64,
    /// What was received this month.
    pub down: u64,
    /// When this month began.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When the next month begins, with nothing used.
    #[schema(value_type = String, format = DateTime)]
    pub resets: Timestamp,
    /// It is used up: nothing is served or fetched.
    pub spent: bool,
}

/// Who set a limit; the later ones cover the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitSource {
    /// Nobody.
    Default,
    /// The configuration file or the environment.
    Configuration,
    /// The schedule in the configuration.
    Schedule,
    /// A flag of the daemon.
    Flag,
    /// A request to the running node; it holds over restarts.
    Live,
}

/// A change of limits. What is left out stays; null goes back to the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsChange {
    /// What may be sent.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<RateText>)]
    pub up: Option<Option<Rate>>,
    /// What may be received.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<RateText>)]
    pub down: Option<Option<Rate>>,
    /// What may be sent and received in a month.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<SizeText>)]
    pub monthly: Option<Option<Size>>,
}

/// A field that is there, if only as null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn left_out_null_and_a_value_are_three_things() {
        let check = |text: &str, up: Option<Option<&str>>| {
            let change: LimitsChange = serde_json::from_str(text).unwrap();
            let up = up.map(|up| up.map(|up| up.parse().unwrap()));
            assert_eq!(change.up, up, "{text}");
            assert_eq!(serde_json::to_string(&change).unwrap(), text);
        };
        check("{}", None);
        check(r#"{"up":null}"#, Some(None));
        check(r#"{"up":"20mbit"}"#, Some(Some("20mbit")));
        check(r#"{"up":"off","monthly":"500GB"}"#, Some(Some("off")));
        for bad in [r#"{"up":5}"#, r#"{"up":"fast"}"#, r#"{"upp":"off"}"#] {
            serde_json::from_str::<LimitsChange>(bad).unwrap_err();
        }
    }
}
