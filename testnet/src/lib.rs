//! Local networks of real Shoal nodes on one machine.
//!
//! A [`NodeProcess`] is one `shoal daemon` on loopback with a home of its own, as users run it.
//! What is started here is ended here, by its own process id, also when the value is dropped.

mod process;

pub use process::{NodeProcess, StartError};
