//! The Shoal daemon as a library.

pub mod api;
pub mod config;
