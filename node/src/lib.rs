//! The Shoal daemon as a library.
//!
//! [`Node::spawn`] starts a node on a home and returns a [`NodeHandle`], through which everything
//! that a person or a program can ask of it is reached. The parts below it own one thing each:
//! `net` the swarm, `store` the database and the view of the shares, `share` the way from files to
//! an index, `fetch` the way from a link to files, `serve` what others ask of this node, `swarm`
//! what these two know of each other, `disks` the threads on which users' files are touched, `limits`
//! how much of the line it may use, `api` the local HTTP interface and `client` who asks there,
//! `clock_gap` notices when this program did not run, `events` the bus of what happens, `metrics` the
//! numbers, `units` numbers as people write them, `config` the one typed configuration.

pub mod api;
mod budgets;
pub mod client;
mod clock_gap;
pub mod config;
mod deadline;
pub mod disks;
pub mod emulation;
pub mod events;
mod fetch;
pub mod limits;
mod meter;
pub mod metrics;
pub mod net;
mod node;
mod own;
mod patterns;
mod pool;
mod said;
mod serve;
pub mod share;
pub mod store;
mod swarm;
pub mod units;

pub use clock_gap::{ClockGaps, Gap};
pub use node::{HomeChecked, Node, NodeError, NodeHandle, Shared, check_home};
