//! How bytes reach a peer: TCP under TLS 1.3 or Noise and yamux, QUIC, and names resolved for both.
//!
//! Owns the choice of security layer, multiplexer and windows, and nothing else: it is the one
//! place to change for a faster path. Nothing unencrypted can be negotiated. Every handshake has a
//! deadline. TLS and yamux are set up for bulk in [`tls`], [`record`] and [`yamux`], and speak the
//! same protocols as any libp2p peer; nodes of Shoal have a multiplexer of their own, [`mux`].
//! [`upgrade`] agrees on all of it, [`tcp_first`] says which of TCP and QUIC is tried when.

mod buffers;
mod mux;
mod record;
mod tcp_first;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;
mod yamux;

use std::time::Duration;

use futures::future::FutureExt;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::dns::{self, ResolverConfig, ResolverOpts};
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, quic, tcp};
use socket2::SockRef;

use self::tcp_first::TcpFirst;
use self::upgrade::{STREAMS_PER_CONNECTION_MAX, Upgrade};
use super::NetError;
use super::meter::Traffic;

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
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let error = match dns::tokio::Transport::system(sockets(keypair, handshake_timeout, traffic)?) {
        Ok(named) => return Ok(TcpFirst::new(named.boxed()).boxed()),
        Err(error) => error,
    };
    tracing::warn!(%error, "no resolver configuration: only the names in the hosts file work");
    let nobody = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    let sockets = sockets(keypair, handshake_timeout, traffic)?;
    let named = dns::tokio::Transport::custom(sockets, nobody, ResolverOpts::default());
    Ok(TcpFirst::new(named.boxed()).boxed())
}

/// TCP and QUIC without names.
fn sockets(
    keypair: &Keypair,
    handshake_timeout: Duration,
    traffic: &Traffic,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let upgrade = Upgrade::new(keypair)?;
    let (on_tcp, on_quic) = (traffic.clone(), traffic.clone());
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(move |socket, _| on_tcp.tcp(shallow(socket)))
        .and_then(move |socket, point| upgrade.apply(socket, point).boxed());
    let tcp = TransportTimeout::new(tcp, handshake_timeout);
    let quic = quic::tokio::Transport::new(quic_config(keypair, handshake_timeout))
        .map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(on_quic.quic(muxer))));
    Ok(OrTransport::new(quic, tcp)
        .map(|either, _| either.into_inner())
        .boxed())
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
