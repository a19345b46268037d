//! The time of replicas: what is written to the disk is compared over restarts.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch, by the machine's clock when the process began and from then on by one
/// that never goes back. Cheap to copy; all copies are one clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    epoch: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            began: Instant::now(),
            // A machine whose clock stands before the epoch keeps no times worth comparing.
            epoch: epoch.unwrap_or_default(),
        }
    }
}

impl Clock {
    /// Now, as a time since the epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.saturating_add(self.uptime())
    }

    /// How long ago this clock was made.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}
