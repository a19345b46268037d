//! How long a share lasts.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;

use super::times::{duration, millis};

/// Until when something is shared.
#[derive(Debug, Args)]
pub(crate) struct Terms {
    /// Stop sharing it when one peer has all of it
    #[arg(long, conflicts_with = "until")]
    once: bool,
    /// Stop sharing it when this many different peers have all of it
    #[arg(long, value_name = "N", value_parser = copies)]
    until: Option<NonZeroU32>,
    /// Stop sharing it after this time, like 2h or 7days, also when the daemon was restarted meanwhile
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    /// Without a daemon, leave it shared when this command ends: the next daemon serves it
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Terms {
    /// After how many milliseconds it ends.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.expires.map(millis)
    }

    /// After how many copies it ends.
    pub(crate) fn copies(&self) -> Option<NonZeroU32> {
        match self.once {
            true => Some(NonZeroU32::MIN),
            false => self.until,
        }
    }
}

fn copies(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<u32>() {
        Ok(copies) => NonZeroU32::new(copies)
            .ok_or_else(|| "a share that nobody is to get is none: give 1 or more".to_owned()),
        Err(_) => Err("give a number of copies, like 3".to_owned()),
    }
}
