//! The network: finds peers and content, and carries streams.
//!
//! Owns the identity's use, all connections, the DHT with its records, and which addresses are
//! believed. It knows nothing of files: what it announces are keys, what it carries are streams
//! that other parts open and take. A node is reached through [`Net`]; behind it one task owns the
//! swarm and nothing blocks it. Disk is touched at start and by the journal's thread only. It ends
//! with [`Net::shutdown`], which waits until every task and thread has ended.
//!
//! Where to start reading: [`Net`], then `actor`, then `dht`, `records` and `exchange`.

mod activity;
mod actor;
mod announce;
mod behaviour;
mod book;
mod config;
mod counters;
mod dht;
#[cfg_attr(not(feature = "emulation"), path = "unemulated.rs")]
pub mod emulation;
mod error;
mod event;
mod exchange;
mod foreign;
mod handle;
mod heard;
pub mod identity;
mod interfaces;
mod introduce;
mod journal;
mod limits;
mod lookups;
mod meter;
mod nearby;
mod neighbours;
mod order;
mod peers;
mod ping;
mod probe;
mod reach;
mod records;
mod scope;
mod seeds;
#[cfg(test)]
mod tests;
mod transport;

pub use self::actor::NetDeps;
pub use self::announce::AnnounceState;
pub use self::config::{
    ConnectionLimits, DEFAULT_PORT, DhtConfig, Diversity, NetConfig, default_listen,
};
pub use self::counters::NetCounters;
pub use self::dht::DhtStatus;
pub use self::error::{ConnectError, LookupError, NetError, OpenError, Refusal};
pub use self::event::{NetEvent, OwnAddresses};
pub use self::exchange::{ExchangeStream, Incoming};
pub use self::foreign::{Foreign, Misfit};
pub use self::handle::Net;
pub use self::journal::{Change, Journal, KvLog};
pub use self::lookups::{LookupCost, ProviderFound};
pub use self::meter::{Traffic, Way};
pub use self::nearby::NearPeer;
pub use self::peers::{Direction, PeerInfo};
pub use self::reach::{Reachability, Verdict};
pub use self::records::Key;
pub use self::scope::{Scope, peer_of, without_peer};
pub use self::transport::swarm_transport;
