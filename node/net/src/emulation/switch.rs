//! TCP between nodes of one process, without sockets.
//!
//! Each node has an address in a network of its own, a /24 of 10.0.0.0/8: by that others tell nodes apart,
//! as they tell households apart on the internet. What listens and dials there meets in the switch, and
//! is joined by two pipes that are what the plan says of the link. Dialling takes a round trip, is
//! refused where nobody listens, and waits where the link is blocked.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr,
    futures::{AsyncRead, AsyncWrite},
    multiaddr::Protocol,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    Emulator, Plan,
    emulator::lock,
    path::Payer,
    pipe::{PipeReader, PipeWriter, pipe},
};

/// Connections that a listener has not taken yet; more are refused, as by a full backlog.
const BACKLOG_MAX: usize = 128;

/// The port that nodes listen on.
const PORT: u16 = 4101;

/// The first of the ports that are dialled from.
const DIAL_PORT_MIN: u16 = 32_768;

/// Where the nodes of a process meet that are emulated in memory. Cheap to clone; all clones are
/// one.
#[derive(Clone)]
pub struct Switch {
    inner: Arc<SwitchInner>,
}

struct SwitchInner {
    emulator: Emulator,
    listeners: Mutex<HashMap<SocketAddr, mpsc::Sender<Arrival>>>,
    dialled: AtomicU16,
}

/// A connection that somebody made to a listener.
pub(crate) struct Arrival {
    /// The address that the connection comes from.
    pub(crate) from: SocketAddr,
    /// Its own end of the connection.
    pub(crate) stream: MemoryStream,
}

/// Where connections arrive, until it is dropped.
pub(crate) struct MemoryListener {
    switch: Switch,
    pub(crate) address: SocketAddr,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
}

impl Switch {
    /// For the network of `plan`.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let inner = SwitchInner {
            emulator: Emulator::new(plan),
            listeners: Mutex::default(),
            dialled: AtomicU16::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What the links are like, and how to change it.
    #[must_use]
    pub fn emulator(&self) -> &Emulator {
        &self.inner.emulator
    }

    /// The address that a node listens on.
    #[must_use]
    pub fn address(node: usize) -> Multiaddr {
        Multiaddr::empty()
            .with(Protocol::Ip4(ip_of(node)))
            .with(Protocol::Tcp(PORT))
    }

    /// The node at an address, if it can be that of one.
    pub(super) fn node_at(ip: IpAddr) -> Option<usize> {
        node_of(ip)
    }

    /// Has a node listen. Port 0 is the usual one.
    ///
    /// # Errors
    /// When the address is not the node's, or somebody listens there already.
    pub(crate) fn listen(
        &self,
        node: usize,
        mut address: SocketAddr,
    ) -> io::Result<MemoryListener> {
        if address.ip() != IpAddr::V4(ip_of(node)) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(PORT);
        }
        let (sender, arrivals) = mpsc::channel(BACKLOG_MAX);
        let mut listeners = lock(&self.inner.listeners);
        if listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        listeners.insert(address, sender);
        Ok(MemoryListener {
            switch: self.clone(),
            address,
            arrivals,
        })
    }

    /// Connects a node with who listens at an address. Waits as long as the link is blocked.
    ///
    /// # Errors
    /// When nobody listens there, or too many wait to be taken already.
    pub(crate) async fn connect(&self, node: usize, to: SocketAddr) -> io::Result<MemoryStream> {
        let (near, far) = (Some(node), node_of(to.ip()));
        let emulator = self.emulator();
        emulator.round_trip(near, far).await;
        let listener = lock(&self.inner.listeners).get(&to).cloned();
        let listener = listener.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (writer, their_reader) = pipe(emulator.path(near, far, Payer::Both));
        let (their_writer, reader) = pipe(emulator.path(far, near, Payer::Both));
        let port = DIAL_PORT_MIN | self.inner.dialled.fetch_add(1, Ordering::Relaxed);
        let arrival = Arrival {
            from: SocketAddr::new(ip_of(node).into(), port),
            stream: MemoryStream {
                reader: their_reader,
                writer: their_writer,
            },
        };
        let taken = listener.try_send(arrival);
        taken.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(MemoryStream { reader, writer })
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        lock(&self.switch.inner.listeners).remove(&self.address);
    }
}

impl PartialEq for Switch {
    /// Whether they are the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Switch {}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch")
            .field("emulator", self.emulator())
            .finish_non_exhaustive()
    }
}

/// 10.0.0.1 is node 0, 10.0.1.1 is node 1: each is a /24 of its own, the network by which nodes count
/// those who ask and connect. There are 65,536 of these.
fn ip_of(node: usize) -> Ipv4Addr {
    let [.., high, low] = node.to_be_bytes();
    Ipv4Addr::new(10, high, low, 1)
}

fn node_of(ip: IpAddr) -> Option<usize> {
    let IpAddr::V4(ip) = ip else { return None };
    match ip.octets() {
        [10, high, low, 1] => Some(u16::from_be_bytes([high, low]).into()),
        _ => None,
    }
}

/// One end of a connection in memory.
pub(crate) struct MemoryStream {
    reader: PipeReader,
    writer: PipeWriter,
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, to)
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}
