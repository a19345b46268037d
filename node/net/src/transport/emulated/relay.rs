//! QUIC over an emulated link: a relay on loopback for each connection that this node dials.
//!
//! The relay is what is dialled instead, and carries datagrams both ways as routers do: it holds
//! them back as the link and the lines of both ends demand, drops what comes on top of a full queue,
//! and loses what the plan says. It keeps the rates of the other end's line for this process alone:
//! what others send that node is not known here. It ends with the connection. Who is not on
//! loopback is dialled without a relay.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::Carriers;
use crate::emulation::{Emulator, LATE, Path, Payer};
use crate::scope::{Kind, Socket, peer_of};

/// The largest datagram that there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What the system may hold of datagrams that the relay has not read yet: a burst of a whole
/// congestion window comes at once. It gives less where it allows less.
const SOCKET_BYTES: usize = 4 << 20;

/// Datagrams that are read before what is due is sent.
const READ_AT_ONCE: usize = 64;

/// How long a relay goes on when its connection has ended, so that the other side learns of it.
const LINGER: Duration = Duration::from_secs(1);

type Output = (PeerId, StreamMuxerBox);

/// A QUIC transport that dials by relays.
pub(in crate::transport) struct Relayed {
    quic: Boxed<Output>,
    emulator: Emulator,
    node: usize,
    carriers: Carriers,
}

impl Relayed {
    pub(in crate::transport) fn new(
        quic: Boxed<Output>,
        emulator: Emulator,
        node: usize,
        carriers: Carriers,
    ) -> Self {
        Self {
            quic,
            emulator,
            node,
            carriers,
        }
    }

    /// Starts a relay to where `address` leads, and says where it listens.
    fn relay(&self, address: &Multiaddr) -> io::Result<Option<(Multiaddr, Hold)>> {
        let quic = Socket::parse(address).filter(|socket| socket.kind == Kind::Quic);
        let Some(far) = quic.filter(|socket| socket.ip.is_loopback()) else {
            return Ok(None);
        };
        let far = SocketAddr::new(far.ip, far.port);
        let loopback: SocketAddr = if far.is_ipv4() {
            (Ipv4Addr::LOCALHOST, 0).into()
        } else {
            (Ipv6Addr::LOCALHOST, 0).into()
        };
        let socket = std::net::UdpSocket::bind(loopback)?;
        socket.set_nonblocking(true)?;
        let deep = SockRef::from(&socket);
        deep.set_recv_buffer_size(SOCKET_BYTES)?;
        deep.set_send_buffer_size(SOCKET_BYTES)?;
        let socket = UdpSocket::from_std(socket)?;
        let near = socket.local_addr()?;
        let mut instead = Multiaddr::from(near.ip())
            .with(Protocol::Udp(near.port()))
            .with(Protocol::QuicV1);
        if let Some(peer) = peer_of(address) {
            instead.push(Protocol::P2p(peer));
        }
        let (released, broken) = (CancellationToken::new(), CancellationToken::new());
        let relay = Relay::new(
            socket,
            far,
            self.emulator.clone(),
            self.node,
            broken.clone(),
        );
        self.carriers.spawn(relay.run(released.clone()));
        let hold = Hold {
            broken,
            _released: released.drop_guard(),
        };
        Ok(Some((instead, hold)))
    }
}

/// What a connection holds of its relay.
struct Hold {
    /// Fires when the link breaks.
    broken: CancellationToken,
    /// Has the relay end.
    _released: DropGuard,
}

impl Transport for Relayed {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Output> as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.quic.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.quic.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        match self.relay(&address).map_err(TransportError::Other)? {
            None => self.quic.dial(address, opts),
            Some((instead, hold)) => {
                let dial = self.quic.dial(instead, opts)?;
                Ok(async move {
                    let (peer, muxer) = dial.await?;
                    let muxer = RelayedMuxer {
                        muxer,
                        broken: Box::pin(hold.broken.clone().cancelled_owned()),
                        _hold: hold,
                    };
                    Ok((peer, StreamMuxerBox::new(muxer)))
                }
                .boxed())
            }
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.quic).poll(cx)
    }
}

/// A connection by a relay, which breaks when the link does.
struct RelayedMuxer {
    muxer: StreamMuxerBox,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
    _hold: Hold,
}

impl StreamMuxer for RelayedMuxer {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Substream>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        if self.broken.as_mut().poll(cx).is_ready() {
            // Closing ends its streams too, and tells the other side; nobody waits for that.
            let _ = Pin::new(&mut self.muxer).poll_close(cx);
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.muxer).poll(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }
}

/// One relay: a socket between this node's QUIC and the other end's.
struct Relay {
    socket: UdpSocket,
    far: SocketAddr,
    /// Where this node's QUIC sends from, once it has.
    near: Option<SocketAddr>,
    emulator: Emulator,
    node: usize,
    there: Way,
    back: Way,
    broken: CancellationToken,
    breaks_at: Option<Duration>,
}

/// One of the two ways.
struct Way {
    path: Path,
    queue: VecDeque<Datagram>,
    bytes: usize,
    /// Datagrams so far.
    number: u64,
}

struct Datagram {
    arrives: Duration,
    bytes: Vec<u8>,
}

impl Relay {
    fn new(
        socket: UdpSocket,
        far: SocketAddr,
        emulator: Emulator,
        node: usize,
        broken: CancellationToken,
    ) -> Self {
        let (there, back) = paths(&emulator, node, far);
        let breaks_at = there.breaks_at(emulator.now());
        Self {
            socket,
            far,
            near: None,
            there: Way::new(there),
            back: Way::new(back),
            emulator,
            node,
            broken,
            breaks_at,
        }
    }

    /// Carries until the connection has let go of it.
    async fn run(mut self, released: CancellationToken) {
        let emulator = self.emulator.clone();
        let mut changes = emulator.changes();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let ended = async {
            released.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        let mut ended = pin!(ended);
        loop {
            let due = self.next_due();
            let wait = async {
                match due {
                    Some(due) => {
                        let at = emulator.instant(due.saturating_sub(LATE));
                        tokio::time::sleep_until(at).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut ended => return,
                _ = changes.changed() => self.look(),
                () = wait => self.send_due(),
                readable = self.socket.readable() => match readable {
                    Ok(()) => self.read(&mut buffer),
                    Err(error) => {
                        tracing::debug!(%error, "a relay has lost its socket");
                        return;
                    }
                },
            }
        }
    }

    /// Takes note of a new plan. Which node is at the other end may have become known by it.
    fn look(&mut self) {
        (self.there.path, self.back.path) = paths(&self.emulator, self.node, self.far);
        let now = self.emulator.now();
        self.breaks_at = self.there.path.breaks_at(now);
        self.there.hurry(now);
        self.back.hurry(now);
    }

    fn next_due(&self) -> Option<Duration> {
        let breaks = self.breaks_at.filter(|_| !self.broken.is_cancelled());
        let fronts = [self.there.queue.front(), self.back.queue.front()];
        let arrivals = fronts
            .into_iter()
            .flatten()
            .map(|datagram| datagram.arrives);
        arrivals.chain(breaks).min()
    }

    fn send_due(&mut self) {
        let now = self.emulator.now().saturating_add(LATE);
        if self.breaks_at.is_some_and(|at| at <= now) {
            self.broken.cancel();
        }
        while let Some(datagram) = self.there.next_arrived(now) {
            // What the system does not take is lost, as in any router.
            let _ = self.socket.try_send_to(&datagram, self.far);
        }
        while let Some(datagram) = self.back.next_arrived(now) {
            if let Some(near) = self.near {
                let _ = self.socket.try_send_to(&datagram, near);
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        for _ in 0..READ_AT_ONCE {
            match self.socket.try_recv_from(buffer) {
                Ok((bytes, from)) => {
                    let now = self.emulator.now();
                    let way = if from == self.far {
                        &mut self.back
                    } else {
                        self.near = Some(from);
                        &mut self.there
                    };
                    way.queue(now, &buffer[..bytes]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The other end is not there: a datagram that was sent to it came back.
                Err(_) => {}
            }
        }
        self.send_due();
    }
}

/// To the node at `far`, and back.
fn paths(emulator: &Emulator, node: usize, far: SocketAddr) -> (Path, Path) {
    let (near, far) = (Some(node), emulator.plan().node_at(far));
    let there = emulator.path(near, far, Payer::Both);
    (there, emulator.path(far, near, Payer::Both))
}

impl Way {
    fn new(path: Path) -> Self {
        Self {
            path,
            queue: VecDeque::new(),
            bytes: 0,
            number: 0,
        }
    }

    /// Takes a datagram, unless it is lost or there is no room for it.
    fn queue(&mut self, now: Duration, bytes: &[u8]) {
        self.number += 1;
        let backlog = self.path.passed(now).saturating_sub(now);
        let full = backlog > self.path.backlog_max() || self.bytes > self.path.window_bytes();
        if full || self.path.is_blocked() || self.path.loses(self.number) {
            return;
        }
        self.bytes += bytes.len();
        self.queue.push_back(Datagram {
            arrives: self.path.send(now, bytes.len()).arrives,
            bytes: bytes.to_owned(),
        });
    }

    /// Has what waits profit from a plan that carries it faster.
    fn hurry(&mut self, now: Duration) {
        for datagram in &mut self.queue {
            let sent = self.path.send(now, datagram.bytes.len());
            datagram.arrives = datagram.arrives.min(sent.arrives);
        }
    }

    fn next_arrived(&mut self, now: Duration) -> Option<Vec<u8>> {
        loop {
            self.queue
                .front()
                .filter(|datagram| datagram.arrives <= now)?;
            let datagram = self.queue.pop_front()?;
            self.bytes = self.bytes.saturating_sub(datagram.bytes.len());
            if !self.path.is_blocked() {
                return Some(datagram.bytes);
            }
        }
    }
}
