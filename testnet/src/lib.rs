//! Local networks of real Shoal nodes on one machine.
//!
//! A [`Testnet`] is a folder with a manifest and the homes of nodes, each of which is an ordinary
//! detached `shoal daemon` on loopback. It outlives the command that started it; the manifest says
//! what there is, before it runs, so that another command can always end all of it and remove it. A
//! [`NodeProcess`] is one node that lasts as long as a test.
//!
//! Emulated links, evil peers, scenarios, their reports and the lab of machines and routers are the
//! feature `scenarios`: for who works on Shoal, and not for who uses it.
//!
//! What is started here is ended here by the identity of its process, and only what a testnet has
//! made is removed.

mod capacity;
mod command;
#[cfg(feature = "scenarios")]
pub mod conduct;
mod demo;
#[cfg(feature = "scenarios")]
mod dice;
mod end;
mod error;
#[cfg(feature = "scenarios")]
pub mod evil;
mod folder;
#[cfg(feature = "scenarios")]
pub mod lab;
mod launch;
#[cfg_attr(not(feature = "scenarios"), path = "unlinked.rs")]
mod links;
mod log;
mod manifest;
mod network;
mod node_process;
mod numbering;
mod process;
#[cfg(feature = "scenarios")]
pub mod report;
#[cfg(feature = "scenarios")]
pub mod run;
#[cfg(feature = "scenarios")]
pub mod scenario;
mod transport;

pub use capacity::Shortage;
pub use demo::{DEMO_NODES_MIN, DemoFetch, DemoReport, DemoSource, DemoStep, demo};
pub use error::Error;
pub use launch::log_path;
pub use links::plan_in;
pub use log::LogLines;
pub use manifest::{MANIFEST_FILE, Manifest, NodeEntry};
#[cfg(feature = "scenarios")]
pub use network::LinksChanged;
pub use network::{Down, PEERS_READY, Setup, Testnet, nodes};
pub use node_process::{NodeProcess, StartError};
pub use numbering::NODES_MAX;
pub use process::ProcessId;
pub use transport::Transport;
