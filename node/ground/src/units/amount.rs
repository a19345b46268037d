//! Rates and sizes as people write them: `20mbit`, `5MB/s`, `2MiB/s`, `500GB`, `off`.
//!
//! `mbit` is 10^6 bits, `MB` 10^6 bytes, `MiB` 2^20 bytes, always per second in a rate. What could
//! be read in two ways is refused: a rate without a unit, and a `b` that may be bits or bytes.
//! Both print as the shortest text that reads as exactly the same number.

use std::{fmt, num::NonZeroU64, str::FromStr};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The least rate. Below it other nodes take this one for dead: they expect 10 KiB in 10 s of a
/// provider, and that 64 KiB are taken in 10 s.
pub const RATE_MIN: u64 = 8_000;

/// A limit on bytes per second, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(Option<NonZeroU64>);

/// A limit on bytes, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(Option<NonZeroU64>);

impl Rate {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// So many bytes per second; 0 is no limit.
    #[must_use]
    pub const fn from_bytes_per_second(bytes: u64) -> Self {
        Self(NonZeroU64::new(bytes))
    }

    /// Bytes per second; none when there is no limit.
    #[must_use]
    pub fn bytes_per_second(self) -> Option<u64> {
        self.0.map(NonZeroU64::get)
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.0.is_none()
    }
}

impl Size {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// So many bytes; 0 is no limit.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(NonZeroU64::new(bytes))
    }

    /// Bytes; none when there is no limit.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        self.0.map(NonZeroU64::get)
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.0.is_none()
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::OFF);
        }
        let amount = text.strip_suffix("/s").unwrap_or(text).trim_end();
        if amount.ends_with('b') {
            return Err(format!(
                "`{text}` is not a rate: `b` may mean bits or bytes: write `MB/s` for bytes, `mbit` for \
                 bits"
            ));
        }
        let bytes = match bits(amount) {
            Some(bits) => bits? / 8,
            None => {
                if amount.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(format!("`{text}` is not a rate: {RATE_EXAMPLES}"));
                }
                bytes(amount, RATE_EXAMPLES)
                    .map_err(|why| format!("`{text}` is not a rate: {why}"))?
            }
        };
        if bytes < RATE_MIN {
            return Err(format!(
                "`{text}` is too little: the least is {}, and `off` is no limit",
                Self(NonZeroU64::new(RATE_MIN))
            ));
        }
        Ok(Self(NonZeroU64::new(bytes)))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::OFF);
        }
        let bytes =
            bytes(text, SIZE_EXAMPLES).map_err(|why| format!("`{text}` is not a size: {why}"))?;
        match NonZeroU64::new(bytes) {
            Some(bytes) => Ok(Self(Some(bytes))),
            None => Err(format!("`{text}` is too little: `off` is no limit")),
        }
    }
}

const RATE_EXAMPLES: &str = "write `20mbit`, `5MB/s`, `2MiB/s` or `off`";
const SIZE_EXAMPLES: &str = "write `500GB`, `20GiB` or `off`";

/// The bits of `20mbit`; none when the text does not speak of bits.
fn bits(text: &str) -> Option<Result<u64, String>> {
    let lower = text.to_ascii_lowercase();
    let amount = lower
        .strip_suffix("bit")
        .or_else(|| lower.strip_suffix("bits"))?;
    let factor = match amount.bytes().last() {
        Some(b'k') => "kB",
        Some(b'm') => "MB",
        Some(b'g') => "GB",
        _ => "B",
    };
    let number = amount.trim_end_matches(['k', 'm', 'g']);
    // Thousands are thousands, of bits as of bytes.
    let parsed = format!("{}{factor}", number.trim_end()).parse::<ByteSize>();
    Some(match parsed {
        Ok(bits) => Ok(bits.0),
        Err(_) => Err(format!("`{text}` is not a rate: {RATE_EXAMPLES}")),
    })
}

/// The bytes of `20MB`, or what to write instead.
fn bytes(text: &str, examples: &str) -> Result<u64, String> {
    if text.ends_with('b') {
        return Err("`b` may mean bits or bytes: write `GB` for bytes".to_owned());
    }
    text.parse::<ByteSize>()
        .map(|size| size.0)
        .map_err(|_| examples.to_owned())
}

/// The units that numbers are printed in, the most usual first.
const BYTE_UNITS: [(u64, &str); 7] = [
    (1_000_000_000_000, "TB"),
    (1_000_000_000, "GB"),
    (1_000_000, "MB"),
    (1 << 40, "TiB"),
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
];

fn exact(bytes: u64) -> Option<(u64, &'static str)> {
    let unit = BYTE_UNITS
        .iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit))?;
    Some((bytes / unit.0, unit.1))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.bytes_per_second() else {
            return f.write_str("off");
        };
        let bits = bytes.saturating_mul(8);
        if let Some((number, unit)) = exact(bytes) {
            write!(f, "{number}{unit}/s")
        } else if bits.is_multiple_of(1_000_000) {
            write!(f, "{}mbit", bits / 1_000_000)
        } else if bytes.is_multiple_of(1000) {
            write!(f, "{}kB/s", bytes / 1000)
        } else if bits.is_multiple_of(1000) {
            write!(f, "{}kbit", bits / 1000)
        } else {
            write!(f, "{bytes}B/s")
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            None => f.write_str("off"),
            Some(bytes) => match exact(bytes) {
                Some((number, unit)) => write!(f, "{number}{unit}"),
                None => write!(f, "{bytes}B"),
            },
        }
    }
}

macro_rules! as_text {
    ($($kind:ident),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(limit: $kind) -> Self {
                limit.to_string()
            }
        }
    )*};
}

as_text!(Rate, Size);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn check_rate(text: &str, bytes: Option<u64>, printed: &str) {
        let rate: Rate = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(rate.bytes_per_second(), bytes, "{text}");
        assert_eq!(rate.to_string(), printed, "{text}");
    }

    #[test]
    fn rates_read_and_print() {
        check_rate("off", None, "off");
        check_rate("OFF", None, "off");
        check_rate("20mbit", Some(2_500_000), "20mbit");
        check_rate("20 Mbit/s", Some(2_500_000), "20mbit");
        check_rate("1gbit", Some(125_000_000), "125MB/s");
        check_rate("64kbit", Some(8000), "8kB/s");
        check_rate("5MB/s", Some(5_000_000), "5MB/s");
        check_rate("5MB", Some(5_000_000), "5MB/s");
        check_rate("2MiB/s", Some(2 << 20), "2MiB/s");
        check_rate("1.5mbit", Some(187_500), "1500kbit");
        check_rate("512 KiB/s", Some(512 << 10), "512KiB/s");
        check_rate("12345B/s", Some(12_345), "12345B/s");
    }

    fn check_error<T: FromStr<Err = String> + fmt::Debug>(text: &str, part: &str) {
        let error = text.parse::<T>().unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }

    #[test]
    fn what_is_no_rate_or_size_is_said_so() {
        for (text, part) in [
            ("", "20mbit"),
            ("20", "20mbit"),
            ("fast", "20mbit"),
            ("-5MB/s", "is not a rate"),
            ("mbit", "is not a rate"),
            ("5Mb/s", "bits or bytes"),
            ("5mb", "bits or bytes"),
            ("0B/s", "too little"),
            ("1kB/s", "the least is 8kB/s"),
            ("5MB/h", "is not a rate"),
        ] {
            check_error::<Rate>(text, part);
            // Nobody who looks for a rate is helped by a size.
            let error = text.parse::<Rate>().unwrap_err();
            assert!(!error.contains("GB"), "{text}: {error}");
        }
        for (text, part) in [
            ("", "is not a size"),
            ("lots", "500GB"),
            ("5Gb", "bits or bytes"),
            ("0", "`off`"),
            ("1GB/s", "is not a size"),
        ] {
            check_error::<Size>(text, part);
        }
    }

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, printed) in [
            ("off", None, "off"),
            ("500GB", Some(500_000_000_000), "500GB"),
            ("20GiB", Some(20 << 30), "20GiB"),
            ("1000", Some(1000), "1000B"),
            ("1.5 TB", Some(1_500_000_000_000), "1500GB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, printed));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_as_the_same(bytes in RATE_MIN..=u64::MAX / 8) {
            let rate = Rate(NonZeroU64::new(bytes));
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
            let size = Size(NonZeroU64::new(bytes));
            prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
    }
}
