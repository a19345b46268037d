//! The flags that are lengths of time.

use std::time::Duration;

use clap::Args;
use shoal_api::types::{PATIENCE_MS_DEFAULT, TIMEOUT_MS_DEFAULT};

/// How long to try to find somebody.
#[derive(Debug, Args)]
pub(crate) struct Timeout {
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        help = format!(
            "Give up when nothing has come for this long at the beginning [default: {}s]",
            TIMEOUT_MS_DEFAULT / 1000
        )
    )]
    timeout: Option<Duration>,
}

/// How long to go without bytes.
#[derive(Debug, Args)]
pub(crate) struct Deadlines {
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        help = format!(
            "Once it has begun, wait this long without a byte for a provider to come back [default: \
             {}m]",
            PATIENCE_MS_DEFAULT / 60_000
        )
    )]
    patience: Option<Duration>,
}

impl Timeout {
    /// In the API's unit.
    pub(crate) fn millis(&self) -> u64 {
        self.timeout.map_or(TIMEOUT_MS_DEFAULT, millis)
    }
}

impl Deadlines {
    /// The patience, in the API's unit.
    pub(crate) fn patience_millis(&self) -> u64 {
        self.patience.map_or(PATIENCE_MS_DEFAULT, millis)
    }
}

/// In the API's unit.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("has to be more than nothing".to_owned());
    }
    Ok(duration)
}
