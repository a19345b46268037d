//! Whole numbers in requests, and the ranges that they have to be in.

use std::ops::RangeInclusive;

use serde::{Deserialize, Deserializer, de};

/// 2^53 - 1: up to here a float of 64 bits is the whole number that was meant (RFC 8259, 6).
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// A whole number, which JSON may write as `1000`, `1000.0` and `1e3`.
pub(super) struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and in range"
        )]
        let of_float = |float: f64| {
            let fits = float.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&float);
            fits.then_some(float as u64)
        };
        let whole = number
            .as_u64()
            .or_else(|| number.as_f64().and_then(of_float));
        whole.map(Self).ok_or_else(|| {
            de::Error::custom(format_args!("{number} is no whole number of at least 0"))
        })
    }
}

impl Whole {
    /// The number, if it is in this range of what it counts.
    ///
    /// # Errors
    /// A sentence that says which numbers it may be.
    pub(super) fn within<E: de::Error>(
        self,
        range: &RangeInclusive<u64>,
        what: &str,
    ) -> Result<u64, E> {
        let Self(number) = self;
        match range.contains(&number) {
            true => Ok(number),
            false => Err(de::Error::custom(format_args!(
                "{what} has to be {} to {}, and not {number}",
                range.start(),
                range.end()
            ))),
        }
    }
}
