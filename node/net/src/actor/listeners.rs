//! Where the network listens: the addresses of the configuration, each of them with a port of its own.
//!
//! Owns the rule that QUIC rests while the clock of this machine is before all of its certificates: what
//! is to be listened on by QUIC waits here until the clock is right.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use shoal_ground::wall_clock;

use super::Actor;
use super::dials::root_cause;
use crate::emulation::Emulation;
use crate::order::kind_of;
use crate::scope::{Kind, Socket};
use crate::{NetConfig, NetError};

/// How long listeners may take to report where they listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long after the last report a wildcard may still report further interfaces.
const SETTLE: Duration = Duration::from_millis(20);

/// Events after which waiting for further interfaces ends on a node that is busy from the first
/// moment.
const SETTLE_EVENTS_MAX: usize = 256;

/// How ports are taken, and what is to be listened on later.
pub(super) struct Listeners {
    /// Whether a port that is taken is replaced by a free one.
    port_fallback: bool,
    /// The ports of this machine are nothing to a node that has no sockets.
    in_memory: bool,
    /// Addresses of QUIC, for when the clock is right.
    later: Vec<Multiaddr>,
}

impl Listeners {
    pub(super) fn new(config: &NetConfig) -> Self {
        let in_memory = config.emulation.as_ref();
        Self {
            port_fallback: config.port_fallback,
            in_memory: in_memory.is_some_and(Emulation::is_in_memory),
            later: Vec::new(),
        }
    }
}

impl Actor {
    /// Listens everywhere it should, and waits until every listener has said where that is.
    pub(super) async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), NetError> {
        let mut silent: Vec<ListenerId> = Vec::new();
        let mut refused = None;
        let has_quic = wall_clock::allows_quic(SystemTime::now());
        for address in addresses {
            if !has_quic && kind_of(address) == Kind::Quic {
                self.listeners.later.push(address.clone());
                continue;
            }
            match self.listen_on(address) {
                Ok(listener) => silent.push(listener),
                Err(error @ NetError::PortInUse { .. }) => return Err(error),
                // A machine without IPv6, for instance, still listens by IPv4.
                Err(error) => {
                    tracing::warn!(%error, "not listening there");
                    refused = Some(error);
                }
            }
        }
        if silent.is_empty()
            && let Some(error) = refused
        {
            return Err(error);
        }
        if !self.listeners.later.is_empty() {
            tracing::warn!("QUIC rests until the clock of this machine says 1975 or later");
        }
        let reported = tokio::time::timeout(LISTEN_TIMEOUT, self.all_reported(silent));
        if reported.await.is_err() {
            tracing::warn!("a listener has not said where it listens");
        }
        self.publish_addresses();
        Ok(())
    }

    async fn all_reported(&mut self, mut silent: Vec<ListenerId>) {
        while !silent.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. }
                | SwarmEvent::ListenerClosed { listener_id, .. } => {
                    silent.retain(|listener| listener != listener_id);
                }
                _ => {}
            }
            self.handle_event(event);
        }
        for _ in 0..SETTLE_EVENTS_MAX {
            let Ok(event) = tokio::time::timeout(SETTLE, self.swarm.select_next_some()).await
            else {
                break;
            };
            self.handle_event(event);
        }
    }

    /// Listens by QUIC once the clock is right. Where that is, is said as of any listener.
    pub(super) fn listen_later(&mut self) {
        if self.listeners.later.is_empty() || !wall_clock::allows_quic(SystemTime::now()) {
            return;
        }
        for address in std::mem::take(&mut self.listeners.later) {
            match self.listen_on(&address) {
                Ok(_) => tracing::info!(%address, "the clock was set: QUIC is used from now on"),
                Err(error) => tracing::warn!(%error, "not listening there"),
            }
        }
    }

    fn listen_on(&mut self, address: &Multiaddr) -> Result<ListenerId, NetError> {
        let failed = |why: String| NetError::Listen {
            addr: address.clone(),
            why,
        };
        let taken = |socket| !self.listeners.in_memory && is_taken(socket);
        let address = match Socket::parse(address).map(taken) {
            Some(true) if self.listeners.port_fallback => {
                let free = with_any_port(address);
                tracing::warn!(%address, %free, "port in use, taking a free one");
                free
            }
            Some(true) => {
                return Err(NetError::PortInUse {
                    addr: address.clone(),
                });
            }
            Some(false) => address.clone(),
            None => {
                return Err(failed(
                    "only IP addresses with tcp or udp/quic-v1 work".to_owned(),
                ));
            }
        };
        self.swarm
            .listen_on(address)
            .map_err(|error| failed(root_cause(&error)))
    }
}

/// Whether another program has this port.
///
/// Tried out, for the transport shares ports on purpose (`SO_REUSEPORT`, to dial from the port it
/// listens on) and would share with a second daemon of the same user without a word.
fn is_taken(socket: Socket) -> bool {
    // The wildcard of IPv6 would cover IPv4 here; the transport's does not.
    let ip = if socket.ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    } else {
        socket.ip
    };
    let tried = match socket.kind {
        Kind::Tcp => TcpListener::bind(SocketAddr::new(ip, socket.port)).map(drop),
        Kind::Quic => UdpSocket::bind(SocketAddr::new(ip, socket.port)).map(drop),
    };
    socket.port != 0 && tried.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn with_any_port(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(_) => Protocol::Tcp(0),
            Protocol::Udp(_) => Protocol::Udp(0),
            other => other,
        })
        .collect()
}
