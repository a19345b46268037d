//! How bytes reach a peer: TCP under TLS 1.3 or Noise and yamux, QUIC, and names resolved for both.
//!
//! Owns the choice of security layer, multiplexer and windows, and nothing else: it is the one
//! place to change for a faster path. Nothing unencrypted can be negotiated. Every handshake has a
//! deadline. TLS and yamux are set up for bulk in [`tls`], [`record`] and [`yamux`], and speak the
//! same protocols as any libp2p peer; nodes of Shoal have a multiplexer of their own, [`mux`].
//! [`ends`] bounds how long closing and silence last, [`handshakes`] how many of them run, [`upgrade`]
//! agrees on all of it, [`attempts`] says when each address of a dial is tried, and [`own_end`]
//! corrects where listeners are. In a
//! test network, links are emulated below all of this ([`emulated`]).

mod attempts;
mod buffers;
mod certificate;
#[cfg(feature = "emulation")]
mod emulated;
mod ends;
mod handshakes;
mod mux;
mod own_end;
mod record;
mod shallow;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
mod yamux;

use std::io;
use std::time::Duration;

use futures::future::FutureExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::dns::{self, ResolverConfig, ResolverOpts};
use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, quic, tcp};
use shoal_ground::clock_gap::ClockGaps;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::attempts::Paced;
pub(super) use self::attempts::WrongPeer;
#[cfg(feature = "emulation")]
use self::emulated::{Carriers, memory::MemoryTransport, relay::Relayed};
use self::ends::Listening;
#[cfg(target_os = "linux")]
use self::ends::UNACKED_MAX;
use self::handshakes::Handshakes;
use self::own_end::OwnEnds;
use self::shallow::Shallow;
use self::upgrade::{STREAMS_PER_CONNECTION_MAX, Upgrade};
use super::config::ConnectionLimits;
use super::config::IDLE_SILENCE_MAX;
use super::meter::Traffic;
use super::reach::Contacts;
use super::{NetConfig, NetError};
#[cfg(feature = "emulation")]
use crate::emulation::{Emulation, Emulator};

/// Unread bytes that one QUIC stream may hold: 8 MiB is 80 MB/s at 100 ms.
const QUIC_STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Unread bytes that all streams of a QUIC connection may hold together: two busy streams.
const QUIC_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Builds the transport of a node with this identity, which puts whom it dials among `contacts`.
///
/// # Errors
/// [`NetError::Transport`] when a certificate cannot be made.
pub(super) fn build(
    keypair: &Keypair,
    limits: &ConnectionLimits,
    traffic: &Traffic,
    gaps: &ClockGaps,
    contacts: &Contacts,
    links: &Links,
) -> Result<Boxed<Output>, NetError> {
    let sockets = || {
        let above = Above::new(keypair, limits, traffic, gaps)?;
        Ok(match links {
            Links::Real => above.sockets(),
            #[cfg(feature = "emulation")]
            Links::Emulated(Emulation::Sockets { emulator, node }, carriers) => {
                above.linked_sockets(emulator, *node, carriers)
            }
            #[cfg(feature = "emulation")]
            Links::Emulated(Emulation::Memory { switch, node }, _) => {
                above.tcp(MemoryTransport::new(switch.clone(), *node))
            }
        })
    };
    #[cfg(feature = "emulation")]
    if let Links::Emulated(Emulation::Memory { .. }, _) = links {
        // There is nobody whose name could be resolved.
        return Ok(Paced::new(sockets()?, contacts.clone()).boxed());
    }
    let sockets =
        || -> Result<_, NetError> { Ok(OwnEnds::new(sockets()?, contacts.clone()).boxed()) };
    let error = match dns::tokio::Transport::system(sockets()?) {
        Ok(named) => return Ok(Paced::new(named.boxed(), contacts.clone()).boxed()),
        Err(error) => error,
    };
    tracing::warn!(%error, "no resolver configuration: only the names in the hosts file work");
    let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    let named = dns::tokio::Transport::custom(sockets()?, nobody, ResolverOpts::default());
    Ok(Paced::new(named.boxed(), contacts.clone()).boxed())
}

/// The transport of a node with this configuration and identity, without the node: for a swarm that
/// says what no node would. Its links, where they are emulated, are cut when `end` fires.
///
/// # Errors
/// [`NetError::Transport`] when a certificate cannot be made.
pub fn swarm_transport(
    config: &NetConfig,
    keypair: &Keypair,
    end: &CancellationToken,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let links = Links::of(config, &TaskTracker::new(), end);
    let (traffic, gaps) = (Traffic::default(), ClockGaps::default());
    let contacts = Contacts::default();
    build(keypair, &config.limits, &traffic, &gaps, &contacts, &links)
}

/// What the bytes of connections pass.
pub(super) enum Links {
    /// Sockets, as they are.
    Real,
    /// What a test network says, by tasks of these carriers.
    #[cfg(feature = "emulation")]
    Emulated(Emulation, Carriers),
}

impl Links {
    /// Those that the configuration asks for; the tasks that carry bytes over emulated ones are among
    /// `tasks`, and are cut when `end` fires.
    #[cfg_attr(not(feature = "emulation"), expect(unused_variables))]
    pub(super) fn of(config: &NetConfig, tasks: &TaskTracker, end: &CancellationToken) -> Self {
        match config.emulation.clone() {
            #[cfg(feature = "emulation")]
            Some(emulation) => {
                let (tasks, end) = (tasks.clone(), end.clone());
                Self::Emulated(emulation, Carriers { tasks, end })
            }
            None => Self::Real,
        }
    }
}

type Output = (PeerId, StreamMuxerBox);

/// What is above the sockets, whatever they are.
struct Above<'a> {
    keypair: &'a Keypair,
    upgrade: Upgrade,
    handshake_timeout: Duration,
    handshakes: Handshakes,
    traffic: &'a Traffic,
    gaps: &'a ClockGaps,
}

impl<'a> Above<'a> {
    fn new(
        keypair: &'a Keypair,
        limits: &ConnectionLimits,
        traffic: &'a Traffic,
        gaps: &'a ClockGaps,
    ) -> Result<Self, NetError> {
        Ok(Self {
            keypair,
            upgrade: Upgrade::new(keypair)?,
            handshake_timeout: limits.handshake_timeout,
            handshakes: Handshakes::new(limits.pending_inbound_max),
            traffic,
            gaps,
        })
    }

    /// TCP and QUIC.
    fn sockets(self) -> Boxed<Output> {
        let tcp = self.tcp(tcp_sockets().map(|socket, _| Shallow::new(socket)));
        self.either(tcp, self.quic())
    }

    /// The same, each connection over the link that the emulator says.
    #[cfg(feature = "emulation")]
    fn linked_sockets(
        self,
        emulator: &Emulator,
        node: usize,
        carriers: &Carriers,
    ) -> Boxed<Output> {
        let (on_tcp, by_tcp) = (emulator.clone(), carriers.clone());
        let linked = tcp_sockets().and_then(move |socket, point| {
            let dialled = point.is_dialer();
            emulated::tcp::linked(socket, dialled, on_tcp, node, by_tcp).boxed()
        });
        let quic = Relayed::new(self.quic(), emulator.clone(), node, carriers.clone());
        let tcp = self.tcp(linked);
        self.either(tcp, quic.boxed())
    }

    fn either(&self, tcp: Boxed<Output>, quic: Boxed<Output>) -> Boxed<Output> {
        OrTransport::new(quic, tcp)
            .map(|either, _| either.into_inner())
            .boxed()
    }

    /// Streams of bytes, secured and multiplexed.
    fn tcp<T>(&self, streams: T) -> Boxed<Output>
    where
        T: Transport<Output: AsyncRead + AsyncWrite + Send + Unpin + 'static>
            + Send
            + Unpin
            + 'static,
        T::Error: Send + Sync + 'static,
        T::Dial: Send,
        T::ListenerUpgrade: Send,
    {
        let (traffic, upgrade) = (self.traffic.clone(), self.upgrade.clone());
        let (gaps, handshakes) = (self.gaps.clone(), self.handshakes.clone());
        let upgraded = streams
            .map(move |stream, _| Listening::new(traffic.tcp(stream)))
            .and_then(move |stream, point| {
                let silence = (stream.heard(), gaps.clone());
                let inbound = point.is_listener().then_some(handshakes);
                let upgrade = upgrade.apply(stream, point, silence);
                match inbound {
                    Some(handshakes) => handshakes.run(upgrade).boxed(),
                    None => upgrade.boxed(),
                }
            });
        TransportTimeout::new(upgraded, self.handshake_timeout).boxed()
    }

    fn quic(&self) -> Boxed<Output> {
        let traffic = self.traffic.clone();
        quic::tokio::Transport::new(quic_config(self.keypair, self.handshake_timeout))
            .map(move |(peer, muxer), _| (peer, ends::bounded(traffic.quic(muxer), None)))
            .boxed()
    }
}

fn tcp_sockets()
-> impl Transport<Output = tcp::tokio::TcpStream, Error = io::Error, Dial: Send, ListenerUpgrade: Send>
+ Send
+ Unpin
+ 'static {
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)).map(|socket, _| impatient(socket))
}

/// Has a socket give up a peer that acknowledges nothing.
fn impatient(socket: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(&socket.0).set_tcp_user_timeout(Some(UNACKED_MAX)) {
        tracing::debug!(%error, "a socket waits for its peer as long as the system does");
    }
    socket
}

fn quic_config(keypair: &Keypair, handshake_timeout: Duration) -> quic::Config {
    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = handshake_timeout;
    // As long as over TCP. Nothing is sent to keep it alive: a connection that is to last is tried
    // out more often than it times out.
    config.max_idle_timeout = u32::try_from(IDLE_SILENCE_MAX.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = IDLE_SILENCE_MAX.saturating_mul(2);
    config.max_concurrent_stream_limit = STREAMS_PER_CONNECTION_MAX.into();
    config.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
    config.max_connection_data = QUIC_CONNECTION_WINDOW_BYTES;
    config
}
