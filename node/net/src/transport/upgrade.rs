//! From a socket to a multiplexed connection with somebody who has proven who they are.
//!
//! What libp2p's builder does, with one thing more: two nodes of Shoal agree on their multiplexer
//! within the TLS handshake, where the stock upgrade would ask again. With everybody else it is the
//! same on the wire.

use std::io;

use futures::future::Either;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::futures::{AsyncRead, AsyncWrite};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise};
use multistream_select::{Negotiated, Version, dialer_select_proto, listener_select_proto};
use shoal_ground::clock_gap::ClockGaps;

use super::ends::{Heard, bounded};
use super::mux::{Muxer, Side};
use super::record::TlsStream;
use super::tls::{ALPN_MUX, Tls};
use super::yamux::Yamux;
use crate::NetError;

/// Streams of all protocols on one TCP connection; a peer that opens more loses the connection. It
/// may have 256 KiB unread on each, so it can make us hold 32 MiB at the very most.
pub(super) const STREAMS_PER_CONNECTION_MAX: u16 = 128;

/// The upgrade of a socket: TLS 1.3, or Noise for peers that do not have it; both prove the peer's
/// identity.
#[derive(Clone)]
pub(super) struct Upgrade {
    tls: Tls,
    noise: noise::Config,
    yamux: Yamux,
}

/// A security layer that can be agreed on.
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

impl Upgrade {
    /// An upgrade that proves the identity of `keypair`.
    ///
    /// # Errors
    /// [`NetError::Transport`] when a certificate cannot be made.
    pub(super) fn new(keypair: &Keypair) -> Result<Self, NetError> {
        let noise = noise::Config::new(keypair);
        Ok(Self {
            tls: Tls::new(keypair)?,
            noise: noise.map_err(|error| NetError::Transport(error.to_string()))?,
            yamux: Yamux::new(STREAMS_PER_CONNECTION_MAX),
        })
    }

    /// Secures and multiplexes `socket`. The connection ends when `silence` lasts too long.
    pub(super) async fn apply<C>(
        self,
        socket: C,
        point: ConnectedPoint,
        silence: (Heard, ClockGaps),
    ) -> io::Result<(PeerId, StreamMuxerBox)>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let side = side(&point);
        let (peer, secured) = self.secure(socket, side).await?;
        let muxer = match secured {
            Either::Left(tls) if tls.alpn() == Some(ALPN_MUX) => {
                let muxer = Muxer::new(tls, side, STREAMS_PER_CONNECTION_MAX);
                bounded(muxer, Some(silence))
            }
            Either::Left(tls) => self.multiplex(tls, side, silence).await?,
            Either::Right(noise) => self.multiplex(noise, side, silence).await?,
        };
        Ok((peer, muxer))
    }

    async fn secure<C>(&self, socket: C, side: Side) -> io::Result<(PeerId, Secured<Negotiated<C>>)>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (layer, socket) = negotiate(socket, self.layers(), side).await?;
        let (tls, noise) = (self.tls.clone(), self.noise.clone());
        Ok(match (layer, side) {
            (Layer::Tls(name), Side::Dialler) => left(tls.upgrade_outbound(socket, name).await?),
            (Layer::Tls(name), Side::Listener) => left(tls.upgrade_inbound(socket, name).await?),
            (Layer::Noise(name), Side::Dialler) => {
                let secured = noise.upgrade_outbound(socket, name).await;
                right(secured.map_err(io::Error::other)?)
            }
            (Layer::Noise(name), Side::Listener) => {
                let secured = noise.upgrade_inbound(socket, name).await;
                right(secured.map_err(io::Error::other)?)
            }
        })
    }

    fn layers(&self) -> Vec<Layer> {
        let tls = self.tls.protocol_info().map(Layer::Tls);
        let noise = self.noise.protocol_info().map(Layer::Noise);
        tls.chain(noise).collect()
    }

    async fn multiplex<C>(
        self,
        secured: C,
        side: Side,
        silence: (Heard, ClockGaps),
    ) -> io::Result<StreamMuxerBox>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (_, line) = negotiate(secured, vec![Yamux::NAME], side).await?;
        Ok(bounded(self.yamux.muxer(line, side), Some(silence)))
    }
}

/// Agrees on one of `names`, in the order of the dialler.
async fn negotiate<C, N>(line: C, names: Vec<N>, side: Side) -> io::Result<(N, Negotiated<C>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsRef<str> + Clone,
{
    let agreed = match side {
        Side::Dialler => dialer_select_proto(line, names, Version::V1Lazy).await,
        Side::Listener => listener_select_proto(line, names).await,
    };
    agreed.map_err(io::Error::other)
}

/// Who dials is the dialler, unless both dialled at once and have agreed otherwise.
fn side(point: &ConnectedPoint) -> Side {
    match point {
        ConnectedPoint::Dialer {
            role_override: Endpoint::Dialer,
            ..
        } => Side::Dialler,
        _ => Side::Listener,
    }
}

fn left<C>((peer, tls): (PeerId, TlsStream<C>)) -> (PeerId, Secured<C>) {
    (peer, Either::Left(tls))
}

fn right<C>((peer, noise): (PeerId, noise::Output<C>)) -> (PeerId, Secured<C>) {
    (peer, Either::Right(noise))
}
