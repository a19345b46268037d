//! How bytes reach a peer: TCP under TLS 1.3 or Noise and yamux, QUIC, and names resolved for both.
//!
//! Owns the choice of security layer, multiplexer and windows, and nothing else: it is the one
//! place to change for a faster path. Nothing unencrypted can be negotiated. Every handshake has a
//! deadline. TLS and yamux are set up for bulk in [`tls`], [`record`] and [`mux`], and speak the
//! same protocols as any libp2p peer; [`tcp_first`] says which of TCP and QUIC is tried when. In a
//! test network, links are emulated below all of this ([`emulated`]).

mod buffers;
mod emulated;
mod mux;
mod record;
mod tcp_first;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::time::Duration;

use futures::future::{BoxFuture, Either, FutureExt, TryFutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::{
    InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version,
};
use libp2p::dns::{self, ResolverConfig, ResolverOpts};
use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, noise, quic, tcp};
use socket2::SockRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(super) use self::emulated::Carriers;
use self::emulated::memory::MemoryTransport;
use self::emulated::relay::Relayed;
use self::mux::Yamux;
use self::record::TlsStream;
use self::tcp_first::TcpFirst;
use self::tls::Tls;
use super::meter::Traffic;
use super::{NetConfig, NetError};
use crate::emulation::{Emulation, Emulator};

/// Streams of all protocols on one TCP connection; a peer that opens more loses the connection.
/// yamux grants each 256 KiB at first, so a peer that is not read from can make us hold 32 MiB at
/// the very most.
const STREAMS_PER_CONNECTION_MAX: u16 = 128;

/// Unread bytes that one QUIC stream may hold: 8 MiB is 80 MB/s at 100 ms.
const QUIC_STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Unread bytes that all streams of a QUIC connection may hold together: two busy streams.
const QUIC_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes that the system takes for a TCP connection and has not sent yet. By itself it takes 4 MiB,
/// behind which everything else on the connection waits, and which are sent for nothing when the
/// peer goes away. What is on its way does not count, so this is no bound on speed.
const UNSENT_BYTES: u32 = 256 << 10;

/// Builds the transport of a node with this identity.
///
/// # Errors
/// [`NetError::Transport`] when a certificate cannot be made.
pub(super) fn build(
    keypair: &Keypair,
    handshake_timeout: Duration,
    traffic: &Traffic,
    links: &Links,
) -> Result<Boxed<Output>, NetError> {
    let sockets = || {
        let above = Above::new(keypair, handshake_timeout, traffic)?;
        Ok(match links {
            Links::Real => above.sockets(),
            Links::Emulated(Emulation::Sockets { emulator, node }, carriers) => {
                above.linked_sockets(emulator, *node, carriers)
            }
            Links::Emulated(Emulation::Memory { switch, node }, _) => {
                above.tcp(MemoryTransport::new(switch.clone(), *node))
            }
        })
    };
    if let Links::Emulated(Emulation::Memory { .. }, _) = links {
        // There is nobody whose name could be resolved.
        return sockets();
    }
    let error = match dns::tokio::Transport::system(sockets()?) {
        Ok(named) => return Ok(TcpFirst::new(named.boxed()).boxed()),
        Err(error) => error,
    };
    tracing::warn!(%error, "no resolver configuration: only the names in the hosts file work");
    let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    let named = dns::tokio::Transport::custom(sockets()?, nobody, ResolverOpts::default());
    Ok(TcpFirst::new(named.boxed()).boxed())
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
    let carriers = Carriers {
        tasks: TaskTracker::new(),
        end: end.clone(),
    };
    let links = Links::of(config, carriers);
    let timeout = config.limits.handshake_timeout;
    build(keypair, timeout, &Traffic::default(), &links)
}

/// What the bytes of connections pass.
pub(super) enum Links {
    /// Sockets, as they are.
    Real,
    /// What a test network says, by tasks of these carriers.
    Emulated(Emulation, Carriers),
}

impl Links {
    /// Those that the configuration asks for.
    pub(super) fn of(config: &NetConfig, carriers: Carriers) -> Self {
        match config.emulation.clone() {
            Some(emulation) => Self::Emulated(emulation, carriers),
            None => Self::Real,
        }
    }
}

type Output = (PeerId, StreamMuxerBox);

/// What is above the sockets, whatever they are.
struct Above<'a> {
    keypair: &'a Keypair,
    security: Security,
    handshake_timeout: Duration,
    traffic: &'a Traffic,
}

impl<'a> Above<'a> {
    fn new(
        keypair: &'a Keypair,
        handshake_timeout: Duration,
        traffic: &'a Traffic,
    ) -> Result<Self, NetError> {
        let failed = |error: &dyn std::error::Error| NetError::Transport(error.to_string());
        let security = Security {
            tls: Tls::new(keypair)?,
            noise: noise::Config::new(keypair).map_err(|error| failed(&error))?,
        };
        Ok(Self {
            keypair,
            security,
            handshake_timeout,
            traffic,
        })
    }

    /// TCP and QUIC.
    fn sockets(self) -> Boxed<Output> {
        let tcp = self.tcp(tcp_sockets());
        self.either(tcp, self.quic())
    }

    /// The same, each connection over the link that the emulator says.
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
        let traffic = self.traffic.clone();
        streams
            .map(move |stream, _| traffic.tcp(stream))
            .upgrade(Version::V1Lazy)
            .authenticate(self.security.clone())
            .multiplex(Yamux::new(STREAMS_PER_CONNECTION_MAX))
            .timeout(self.handshake_timeout)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    }

    fn quic(&self) -> Boxed<Output> {
        let traffic = self.traffic.clone();
        quic::tokio::Transport::new(quic_config(self.keypair, self.handshake_timeout))
            .map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(traffic.quic(muxer))))
            .boxed()
    }
}

fn tcp_sockets()
-> impl Transport<Output = tcp::tokio::TcpStream, Error = io::Error, Dial: Send, ListenerUpgrade: Send>
+ Send
+ Unpin
+ 'static {
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)).map(|socket, _| shallow(socket))
}

/// Has a socket take no more than it sends soon.
fn shallow(socket: tcp::tokio::TcpStream) -> tcp::tokio::TcpStream {
    let set = SockRef::from(&socket.0).set_tcp_notsent_lowat(UNSENT_BYTES);
    if let Err(error) = set {
        tracing::debug!(%error, "a socket keeps more than it sends soon");
    }
    socket
}

fn quic_config(keypair: &Keypair, handshake_timeout: Duration) -> quic::Config {
    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = handshake_timeout;
    config.max_concurrent_stream_limit = STREAMS_PER_CONNECTION_MAX.into();
    config.max_stream_data = QUIC_STREAM_WINDOW_BYTES;
    config.max_connection_data = QUIC_CONNECTION_WINDOW_BYTES;
    config
}

/// TLS 1.3, and Noise for peers that do not have it; both prove the peer's identity.
#[derive(Clone)]
struct Security {
    tls: Tls,
    noise: noise::Config,
}

/// Which of the two was agreed on.
#[derive(Clone, Copy)]
enum Layer {
    Tls(&'static str),
    Noise(&'static str),
}

impl AsRef<str> for Layer {
    fn as_ref(&self) -> &str {
        match self {
            Self::Tls(name) | Self::Noise(name) => name,
        }
    }
}

type Secured<C> = Either<TlsStream<C>, noise::Output<C>>;

impl UpgradeInfo for Security {
    type Info = Layer;
    type InfoIter = std::vec::IntoIter<Layer>;

    fn protocol_info(&self) -> Self::InfoIter {
        let tls = self.tls.protocol_info().map(Layer::Tls);
        let noise = self.noise.protocol_info().map(Layer::Noise);
        tls.chain(noise).collect::<Vec<_>>().into_iter()
    }
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, layer: Layer) -> Self::Future {
        match layer {
            Layer::Tls(name) => secured_tls(self.tls.upgrade_inbound(socket, name)),
            Layer::Noise(name) => secured_noise(self.noise.upgrade_inbound(socket, name)),
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = (PeerId, Secured<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, layer: Layer) -> Self::Future {
        match layer {
            Layer::Tls(name) => secured_tls(self.tls.upgrade_outbound(socket, name)),
            Layer::Noise(name) => secured_noise(self.noise.upgrade_outbound(socket, name)),
        }
    }
}

type Upgraded<C> = BoxFuture<'static, io::Result<(PeerId, Secured<C>)>>;

fn secured_tls<C, H>(handshake: H) -> Upgraded<C>
where
    C: 'static,
    H: Future<Output = io::Result<(PeerId, TlsStream<C>)>> + Send + 'static,
{
    handshake
        .map_ok(|(peer, stream)| (peer, Either::Left(stream)))
        .boxed()
}

fn secured_noise<C, H>(handshake: H) -> Upgraded<C>
where
    C: 'static,
    H: Future<Output = Result<(PeerId, noise::Output<C>), noise::Error>> + Send + 'static,
{
    let secured = handshake.map_ok(|(peer, stream)| (peer, Either::Right(stream)));
    secured.map_err(io::Error::other).boxed()
}
