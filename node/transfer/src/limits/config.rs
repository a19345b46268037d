//! `[limits]`: how much of the line a node may use.

use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use shoal_ground::units::{Days, Rate, Size};
use utoipa::ToSchema;

/// `[limits]`: how much of the line a node may use, of all bytes on its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The most it sends, like `20mbit` or `5MB/s`; `off` is no limit.
    #[schema(value_type = String)]
    pub up: Rate,
    /// The most it receives; `off` is no limit.
    #[schema(value_type = String)]
    pub down: Rate,
    /// The most it sends and receives in a month, like `500GB`; `off` is no limit. Once it is used
    /// up, nothing is served or fetched until the next month begins.
    #[schema(value_type = String)]
    pub monthly: Size,
    /// The day on which a month begins, 1 to 31; the last day of a month that is shorter.
    #[schema(value_type = i64)]
    pub reset_day: ResetDay,
    /// Times of day with other rates; the first entry that applies and names a rate counts.
    #[schema(value_type = Vec<Object>)]
    pub schedule: Vec<Period>,
    /// What was set by flags of this start. Not a key of the file.
    #[serde(skip)]
    pub flags: Flags,
}

/// Rates that were given on the command line; none where nothing was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--up`.
    pub up: Option<Rate>,
    /// `--down`.
    pub down: Option<Rate>,
}

/// The day of the month on which a month of the budget begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct ResetDay(i8);

impl ResetDay {
    /// 1 to 31.
    #[must_use]
    pub fn day(self) -> i8 {
        self.0
    }
}

impl Default for ResetDay {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<i64> for ResetDay {
    type Error = String;

    fn try_from(day: i64) -> Result<Self, Self::Error> {
        match i8::try_from(day) {
            Ok(day @ 1..=31) => Ok(Self(day)),
            _ => Err(format!("{day} is no day of a month: 1 to 31")),
        }
    }
}

impl From<ResetDay> for i64 {
    fn from(day: ResetDay) -> Self {
        day.0.into()
    }
}

/// One entry of the schedule, in local time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// When it begins, like `08:00`.
    #[schema(value_type = String)]
    pub from: Time,
    /// When it ends. Not later than `from` means on the next day.
    #[schema(value_type = String)]
    pub to: Time,
    /// On which days it begins, like `["mon-fri", "sun"]`; every day when left out.
    #[schema(value_type = Vec<String>)]
    #[serde(default)]
    pub days: Days,
    /// The most that is sent meanwhile; left out, this entry does not change it.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<Rate>,
    /// The most that is received meanwhile; left out, this entry does not change it.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<Rate>,
}
