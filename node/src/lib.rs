//! The Shoal daemon as a library.

pub mod share;
pub mod store;
