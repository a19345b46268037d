//! The pure part of Shoal: decisions and formats, without a clock, a disk, a socket or a thread.
//!
//! It owns the formats that strangers must agree on (addresses, the UnixFS DAG, links, names) and
//! the decisions that follow from bytes alone. Time and randomness come in as arguments, bytes come
//! in as slices and go out as values. It refuses to panic on any input: indexing, unchecked
//! arithmetic and unwrapping are denied in this crate, clocks and `std::fs` by its `clippy.toml`.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic,
        clippy::disallowed_methods,
        clippy::disallowed_types
    )
)]

pub mod address;
pub mod backoff;
pub mod chunker;
pub mod dht;
pub mod exchange;
mod frame;
pub mod link;
pub mod name;
pub mod near;
pub mod planner;
pub mod replicate;
pub mod turns;
pub mod unixfs;
pub mod walk;

mod varint;
