//! Content on its way: from a link to files, and from files to the peers that ask.
//!
//! [`fetch`] owns the transfers of a node, [`serve`] the streams of its peers. [`swarm`] is what
//! these two know of each other's peers. [`limits`] says how much of the line both may use.
//! [`replicate`] is what near peers ask and tell each other of copies that they keep for others.
//!
//! They take blocks from and give them to the store, and reach peers through the network's handle.
//! They know nothing of the API, of events or of the configuration file: the node tells them what to
//! do and is told what came of it. Each ends with the token that it was given.

pub mod fetch;
pub mod limits;
pub mod replicate;
pub mod serve;
pub mod swarm;
