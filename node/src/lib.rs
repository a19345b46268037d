//! The Shoal daemon as a library.

pub mod net;
