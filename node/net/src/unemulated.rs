//! What stands for emulated links in a build that has none: nothing can be emulated.

use serde::Serialize;

/// What a network is like that is emulated: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Plan {}

impl Plan {
    /// Whether nothing that `from` sends reaches `to`, or the other way.
    #[must_use]
    pub fn cuts(&self, _from: usize, _to: usize) -> bool {
        match *self {}
    }
}

/// How a node is emulated: in no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {}

impl Emulation {
    /// Whether the scenario says that this address is on the node's local network.
    pub(crate) fn is_on_lan(&self, _ip: std::net::IpAddr) -> bool {
        match *self {}
    }

    /// Whether the node has no sockets.
    pub(crate) fn is_in_memory(&self) -> bool {
        match *self {}
    }
}
