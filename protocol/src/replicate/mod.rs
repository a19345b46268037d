//! Popular content gets copies near those who ask for it: what is said, and what is decided.
//!
//! A fetch asks the two near helpers whose [`Position`]s are closest to the root's [`Key`], its
//! **homes**. They count who asks, name who holds the root, and pull a part of it once enough
//! distinct askers came. Nobody coordinates, and nothing is pushed: only asks cause pulls.
//!
//! This module owns the messages ([`encode`], [`FrameDecoder`]) and the decisions: whom to ask
//! ([`NearTable`], [`Walk`]), what a helper answers and pulls ([`helper::Helper`]), what it lets go
//! ([`cache::Cache`]), whom a provider with a crowd offers copies ([`offers::Offers`]), whom a holder tells ([`Tellings`]) and how much one peer may say
//! ([`PeerLimits`]). It reads no clock, rolls no dice and moves no byte: time comes in as an
//! argument, and answers go out as values.

mod asker;
pub mod cache;
mod credit;
mod demand;
mod frame;
pub mod helper;
mod limits;
mod message;
mod near_table;
pub mod offers;
mod position;
pub mod seal;
mod sketch;
pub mod slabs;
mod stripes;
mod telling;
mod walk;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod wire_format;

pub use asker::{Asker, Mark, Origin, Salt};
pub use credit::{Credit, CreditConfig};
pub use demand::{Demand, DemandConfig, KEYS_MAX, SAVED_MAX, Standing, ToldHolder};
pub use frame::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameDecoder, FrameError, Message, encode};
pub use limits::{Allowed, PeerLimits, Saying};
pub use message::{
    Answer, CLOSER_MAX, HELD_MAX, HELD_RANGES_MAX, HELLO_PEERS_MAX, HOLDERS_MAX, Held, Hello,
    OFFER_HOLDERS_MAX, Offer, PEER_ADDRESSES_MAX, Peer, RANGES_MAX, Reply, Request, Response, Why,
};
pub use near_table::{BUCKET_MAX, NearTable, Neighbour, Placed, TABLE_MAX};
pub use position::{Distance, Key, PeerKey, Position};
pub use stripes::{Neighbourhood, PARTS, RUN_LEAVES, Shape, copies};
pub use telling::{Telling, Tellings};
pub use walk::{Candidate, HOMES, STEPS_MAX, Walk};
