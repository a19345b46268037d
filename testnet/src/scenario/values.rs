//! Values as people write them in a scenario: `90s`, `30%`, `64MiB`, `1MiB-16MiB`.

use std::{ops::RangeInclusive, time::Duration};

use shoal_ground::units::Size;

/// A day: longer than anybody waits for a testnet, and short enough for all arithmetic.
const SPAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest name of a group, a region or a content: it becomes part of file names and lines.
const NAME_CHARS_MAX: usize = 32;

/// So many, or a share of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many.
    Count(usize),
    /// A share of all, from 0 to 1.
    Share(f64),
}

impl Amount {
    /// How many of `all` it is, the nearest whole number.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => rounded(share * as_f64(all)),
        }
    }
}

/// A length of time, or a time since the start of a run.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let example = "write a length of time like `90s`, `1m 30s` or `500ms`";
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    if text.trim_start().starts_with('-') {
        return Err(format!("`{text}` is before the start: {example}"));
    }
    let span = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no length of time: {example}"))?;
    if span > SPAN_MAX {
        return Err(format!("`{text}` is longer than a day"));
    }
    Ok(span)
}

/// A length of time that is more than nothing.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    match span(text)? {
        span if span.is_zero() => Err("this has to be more than nothing".to_owned()),
        span => Ok(span),
    }
}

/// A share: `30%` or `0.3`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no share: write `30%`, or a number from 0 to 1");
    let share = match text.trim().strip_suffix('%') {
        Some(percent) => number(percent.trim_end()).map_err(|_| wrong())? / 100.0,
        None => number(text).map_err(|_| wrong())?,
    };
    match share {
        0.0..=1.0 => Ok(share),
        _ => Err(wrong()),
    }
}

/// By how much a share is more than another, or less: `5%` or `-0.05`.
pub(super) fn points(text: &str) -> Result<f64, String> {
    match text.trim().strip_prefix('-') {
        Some(less) => share(less).map(|share| -share),
        None => share(text),
    }
}

/// A number that is not negative.
pub(super) fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err(format!("`{text}` is no number from 0 on")),
    }
}

/// A whole number that is not zero.
pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is no whole number from 1 on")),
        Ok(count) => Ok(count),
    }
}

/// A whole number, or a share: `3` or `30%`.
pub(super) fn amount(text: &str) -> Result<Amount, String> {
    if text.trim().ends_with('%') {
        return share(text).map(Amount::Share);
    }
    let wrong = |_| format!("`{text}` is neither a whole number from 1 on, nor a share like `30%`");
    count(text).map(Amount::Count).map_err(wrong)
}

/// Bytes: `64MiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write `64MiB`, `10MB` or `1GiB`");
    if text.trim().bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let size: Size = text.parse().map_err(|_| wrong())?;
    size.bytes().ok_or_else(wrong)
}

/// Bytes, or what a size is drawn from: `1MiB-16MiB`.
pub(super) fn sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let Some((least, most)) = text.split_once('-') else {
        return size(text).map(|size| size..=size);
    };
    let (least, most) = (size(least.trim())?, size(most.trim())?);
    match least <= most {
        true => Ok(least..=most),
        false => Err(format!("`{text}` begins with the larger size")),
    }
}

/// Yes or no.
pub(super) fn yes(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is neither true nor false"))
}

/// A name that can stand in a path, a line and a selection of nodes.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let whole = text.chars().all(fits) && text.starts_with(|c: char| c.is_ascii_lowercase());
    match whole && text.len() <= NAME_CHARS_MAX {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no name: a small letter, then up to {} small letters, digits and `-`",
            NAME_CHARS_MAX - 1
        )),
    }
}

/// The nearest whole number; what does not fit is the largest there is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and a cast from a float stops at the ends"
)]
fn rounded(number: f64) -> usize {
    number.round() as usize
}

/// So much of a size, the nearest byte.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and a cast from a float stops at the ends"
)]
pub(super) fn scaled(size: u64, scale: f64) -> u64 {
    (bytes_as_f64(size) * scale).round() as u64
}

/// Bytes as a number to compare and divide.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
pub(crate) fn bytes_as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "far fewer than 2^53 are counted here"
)]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused_with_an_example() {
        assert_eq!(span("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("0"), Ok(Duration::ZERO));
        assert_eq!(share("30%"), Ok(0.3));
        assert_eq!(amount("3"), Ok(Amount::Count(3)));
        assert_eq!(amount("50%").map(|it| it.of(9)), Ok(5));
        assert_eq!(sizes("1KiB-1MiB"), Ok(1024..=1 << 20));
        assert_eq!(sizes("64MiB"), Ok(64 << 20..=64 << 20));
        assert_eq!(name("zipf-2"), Ok("zipf-2".to_owned()));

        let check = |error: Option<String>, part: &str| {
            let error = error.unwrap_or_default();
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        };
        check(span("-5s").err(), "before the start");
        check(span("5").err(), "`90s`");
        check(span("48h").err(), "longer than a day");
        check(period("0s").err(), "more than nothing");
        check(share("130%").err(), "`30%`");
        check(number("NaN").err(), "no number");
        check(count("0").err(), "from 1 on");
        check(amount("-3").err(), "neither");
        check(size("64").err(), "`64MiB`");
        check(sizes("2MiB-1MiB").err(), "larger size");
        check(name("No").err(), "small letter");
        check(name("a/b").err(), "small letter");
    }
}
