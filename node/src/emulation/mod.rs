//! Emulated links: what the lines between nodes are like, on one machine.
//!
//! A [`Plan`] says it for a whole network, as data: the line of each node, and rules for the links
//! between them. What happens on a link at a time, a stall, a reset, a delay that differs, is a
//! [`Schedule`]: a pure function of the plan's seed, the link and the time since the network's
//! start, never of what passes. So the same seed gives the same network, and a plan may be replaced
//! while it runs.
//!
//! It is for test networks: nothing in here runs in a node that was not told to be emulated.

mod humane;
mod nodes;
mod plan;
mod profile;
mod schedule;

pub use self::{
    nodes::NodeSet,
    plan::{Line, Link, LinkChange, Loss, Plan, Reset, Rule, Stall},
    profile::Profile,
    schedule::{Decision, Happening, Schedule, decisions},
};
