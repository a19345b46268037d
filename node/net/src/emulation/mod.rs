//! Emulated links: what the lines between nodes are like, on one machine.
//!
//! A [`Plan`] says it for a whole network, as data: the line of each node, and rules for the links
//! between them. What happens on a link at a time, a stall, a reset, a delay that differs, is a
//! [`Schedule`]: a pure function of the plan's seed, the link and the time since the network's
//! start, never of what passes. So the same seed gives the same network, and a plan may be replaced
//! while it runs.
//!
//! An [`Emulator`] puts a plan in force: it says of what is sent when it arrives. Streams pass a
//! pipe, between sockets or in memory by a [`Switch`]; datagrams pass a relay, which is with the
//! transports (`net/transport/emulated`). All is in this process: no root, no kernel module.
//!
//! It is for test networks: nothing in here runs in a node that was not told to be emulated.

mod emulator;
mod follow;
mod nodes;
mod path;
mod pipe;
mod plan;
mod profile;
mod schedule;
mod switch;
mod timer;

use std::net::IpAddr;

pub use self::{
    emulator::Emulator,
    follow::LinksFile,
    nodes::NodeSet,
    plan::{Line, Link, LinkChange, Loss, Plan, Reset, Rule, Site, Stall},
    profile::Profile,
    schedule::{Decision, Happening, Schedule, decisions},
    switch::Switch,
};
pub(crate) use self::{
    path::{AHEAD_MAX, Path, Payer},
    pipe::{PipeReader, PipeWriter, pipe},
    switch::{MemoryListener, MemoryStream},
    timer::{LATE, Timer},
};

/// How a node is emulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// Its sockets are: it speaks to nodes of this and other processes, which are emulated too.
    Sockets {
        /// The network.
        emulator: Emulator,
        /// Which node of it this is.
        node: usize,
    },
    /// It has no sockets, and speaks to nodes of this process: it listens on
    /// [`Switch::address`].
    Memory {
        /// Where the nodes meet.
        switch: Switch,
        /// Which node this is.
        node: usize,
    },
}

impl Emulation {
    /// The network.
    #[must_use]
    pub fn emulator(&self) -> &Emulator {
        match self {
            Self::Sockets { emulator, .. } => emulator,
            Self::Memory { switch, .. } => switch.emulator(),
        }
    }

    /// Whether the node has no sockets.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self, Self::Memory { .. })
    }

    /// Whether the node at an address is on this one's local network, as the plan says. Nodes with
    /// sockets are told apart by their ports, which says nothing of a connection that they made.
    pub(crate) fn is_on_lan(&self, ip: IpAddr) -> bool {
        let Self::Memory { switch, node } = self else {
            return false;
        };
        let plan = switch.emulator().plan();
        Switch::node_at(ip).is_some_and(|other| plan.share_lan(*node, other))
    }

    /// Which node of it this is.
    #[must_use]
    pub fn node(&self) -> usize {
        match self {
            Self::Sockets { node, .. } | Self::Memory { node, .. } => *node,
        }
    }
}
