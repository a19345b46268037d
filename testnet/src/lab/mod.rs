//! A lab for what happens between local networks and the internet: machines that are network
//! namespaces, and routers of every common kind between them.
//!
//! It needs root, and the programs `unshare`, `nsenter`, `ip`, `nft` and `conntrack`. It changes
//! nothing outside the namespaces that it makes, and these end with what was made.

mod internet;
mod machine;
mod nat;

pub use internet::{Internet, Router};
pub use machine::{Machine, are_here, translate_here};
pub use nat::{Nat, UnknownNat};
