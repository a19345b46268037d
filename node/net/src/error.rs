//! What can go wrong in the network, one small enum per operation.
//!
//! Every error is cheap to clone, for one failed dial may answer many callers, and carries text
//! that is safe to print: addresses, peer ids and causes of the operating system, never bytes of a
//! peer.

use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

/// Why the network did not start, or ended.
#[derive(Debug, Clone, Error)]
pub enum NetError {
    /// Another program, perhaps another Shoal, listens on this port.
    #[error("the port of {addr} is in use by another program")]
    PortInUse {
        /// The address that was asked for.
        addr: Multiaddr,
    },
    /// The operating system refused to listen there.
    #[error("cannot listen on {addr}: {why}")]
    Listen {
        /// The address that was asked for.
        addr: Multiaddr,
        /// The cause.
        why: String,
    },
    /// An address that the configuration tells others is none that they could dial.
    #[error("others cannot dial {addr}, so it is no external address")]
    External {
        /// The address as configured.
        addr: Multiaddr,
    },
    /// A configured name cannot be part of a protocol name.
    #[error("the network name {name:?} is not usable: use 1 to 32 of a-z, 0-9 and -")]
    NetworkName {
        /// The name as configured.
        name: String,
    },
    /// The resolver or a security layer could not be set up.
    #[error("cannot set up the transport: {0}")]
    Transport(String),
    /// What was remembered from earlier runs cannot be read.
    #[error("cannot read the remembered {what}: {why}")]
    Load {
        /// Which of the tables.
        what: &'static str,
        /// The cause.
        why: String,
    },
    /// The network task has ended.
    #[error("the network has been shut down")]
    Closed,
    /// The network task panicked; a defect of this program.
    #[error("the network task failed: {0}")]
    Panicked(String),
}

/// Why a peer could not be connected to.
#[derive(Debug, Clone, Error)]
pub enum ConnectError {
    /// No address of the peer is known.
    #[error("no address is known for peer {0}")]
    NoAddresses(PeerId),
    /// Every address failed.
    #[error("unreachable: {}", list(.0))]
    Unreachable(Vec<(Multiaddr, String)>),
    /// Somebody else answered at that address.
    #[error("{address} is peer {obtained}, not the one asked for")]
    WrongPeer {
        /// Where the other peer answered.
        address: Multiaddr,
        /// Who answered.
        obtained: PeerId,
    },
    /// The address leads back to this node.
    #[error("{0} is this node itself")]
    Myself(Multiaddr),
    /// A limit or a ban of this node is in the way.
    #[error("refused by this node: {0}")]
    Refused(Refusal),
    /// The dial was given up, for the peer was disconnected or banned meanwhile.
    #[error("given up")]
    Aborted,
    /// The deadline passed.
    #[error("no answer in time")]
    Timeout,
    /// Too many connects are waiting; a named limit of this node.
    #[error("too many connections are being made at once")]
    Busy,
    /// The network task has ended.
    #[error("the network has been shut down")]
    Closed,
}

fn list(attempts: &[(Multiaddr, String)]) -> String {
    let attempts: Vec<String> = attempts
        .iter()
        .map(|(address, why)| format!("{address} ({why})"))
        .collect();
    attempts.join(", ")
}

/// Why an exchange stream could not be opened.
#[derive(Debug, Clone, Error)]
pub enum OpenError {
    /// There is no connection to the peer and none could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Too many streams are being opened to this peer; a named limit of this node.
    #[error("too many streams are being opened to this peer")]
    Busy,
    /// The peer did not answer within the deadline.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The connection ended before the stream was open.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// Why a lookup was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LookupError {
    /// As many lookups as a named limit allows are running and waiting.
    #[error("too many lookups are waiting")]
    Busy,
    /// The network task has ended.
    #[error("the network has been shut down")]
    Closed,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The peer is banned for now.
    #[error("the peer is banned")]
    Banned,
    /// As many connections as allowed.
    #[error("too many connections")]
    Established,
    /// As many inbound connections as allowed.
    #[error("too many inbound connections")]
    Inbound,
    /// As many handshakes as allowed.
    #[error("too many handshakes at once")]
    Pending,
    /// As many connections with this peer as allowed.
    #[error("too many connections with this peer")]
    Peer,
    /// As many inbound connections from this host as allowed.
    #[error("too many connections from this host")]
    Host,
    /// As many inbound connections from this subnet as allowed.
    #[error("too many connections from this subnet")]
    Subnet,
}
