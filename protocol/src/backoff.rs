//! The pause before something that failed is tried again: twice as long each time, up to a limit.
//!
//! Chance is the caller's: who must not come back together with others draws it apart.

use std::time::Duration;

/// Pauses that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses that begin with `first` and grow up to `longest`, which wins if it is shorter.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The first pause, doubled so many times.
    #[must_use]
    pub fn doubled(self, times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The pause after so many failures in a row; none and one are followed by the first.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        self.doubled(failures.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let check = |first: u64, longest: u64, expected: &[u64]| {
            let [first, longest] = [first, longest].map(Duration::from_secs);
            let backoff = Backoff::new(first, longest);
            let pauses: Vec<u64> = (0..)
                .zip(expected)
                .map(|(n, _)| backoff.doubled(n).as_secs())
                .collect();
            assert_eq!(pauses, expected);
            assert_eq!(backoff.after(0), backoff.doubled(0));
            assert_eq!(backoff.after(3), backoff.doubled(2));
        };
        check(5, 300, &[5, 10, 20, 40, 80, 160, 300, 300]);
        check(1, u64::MAX, &[1, 2, 4, 8]);
        check(9, 4, &[4, 4]);
        check(0, 4, &[0, 0]);
    }

    #[test]
    fn every_number_of_doublings_has_a_pause() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1024));
        let pauses = [9, 10, 11, 31, 32, 33, 64].map(|times| backoff.doubled(times).as_secs());
        assert_eq!(pauses, [512, 1024, 1024, 1024, 1024, 1024, 1024]);
    }
}
