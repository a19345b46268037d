//! Numbers as people write them: rates and sizes, days of the week, lengths of time.
//!
//! The configuration, the command line, the API and test networks read and print the same texts.
//! This module knows none of them. A text that could mean two things is an error that says what to
//! write.

mod amount;
mod days;
mod interval;
pub mod span;

pub use self::{
    amount::{RATE_MIN, Rate, Size},
    days::Days,
    interval::Interval,
    span::parse as parse_span,
};
