//! The transport of a node without sockets: connections by the switch.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::future::{BoxFuture, FutureExt as _, Ready, ready};
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use crate::emulation::{MemoryListener, MemoryStream, Switch};
use crate::scope::{Kind, Socket};

/// Connects one node with the others of the switch.
pub(in crate::transport) struct MemoryTransport {
    switch: Switch,
    node: usize,
    /// In the order of whose turn it is to be asked.
    listeners: VecDeque<Listener>,
    /// What is told before anything else: where somebody listens, or no longer does.
    told: VecDeque<Event>,
    waker: Option<Waker>,
}

struct Listener {
    id: ListenerId,
    listener: MemoryListener,
}

type Event = TransportEvent<Ready<io::Result<MemoryStream>>, io::Error>;

impl MemoryTransport {
    pub(in crate::transport) fn new(switch: Switch, node: usize) -> Self {
        Self {
            switch,
            node,
            listeners: VecDeque::new(),
            told: VecDeque::new(),
            waker: None,
        }
    }

    fn tell(&mut self, event: Event) {
        self.told.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn tcp_address(address: &Multiaddr) -> Option<SocketAddr> {
    let socket = Socket::parse(address).filter(|socket| socket.kind == Kind::Tcp)?;
    Some(SocketAddr::new(socket.ip, socket.port))
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

impl Transport for MemoryTransport {
    type Output = MemoryStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<MemoryStream>>;
    type Dial = BoxFuture<'static, io::Result<MemoryStream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(socket) = tcp_address(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let listener = self.switch.listen(self.node, socket);
        let listener = listener.map_err(TransportError::Other)?;
        let listen_addr = multiaddr(listener.address);
        self.listeners.push_back(Listener { id, listener });
        self.tell(TransportEvent::NewAddress {
            listener_id: id,
            listen_addr,
        });
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| listener.id != id);
        let removed = self.listeners.len() < before;
        if removed {
            self.tell(TransportEvent::ListenerClosed {
                listener_id: id,
                reason: Ok(()),
            });
        }
        removed
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(to) = tcp_address(&address).filter(|to| to.port() != 0) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (switch, node) = (self.switch.clone(), self.node);
        Ok(async move { switch.connect(node, to).await }.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = self.get_mut();
        if let Some(event) = this.told.pop_front() {
            return Poll::Ready(event);
        }
        for _ in 0..this.listeners.len() {
            let Some(mut listener) = this.listeners.pop_front() else {
                break;
            };
            let arrival = listener.listener.arrivals.poll_recv(cx);
            let (listener_id, local) = (listener.id, listener.listener.address);
            this.listeners.push_back(listener);
            if let Poll::Ready(Some(arrival)) = arrival {
                return Poll::Ready(TransportEvent::Incoming {
                    listener_id,
                    upgrade: ready(Ok(arrival.stream)),
                    local_addr: multiaddr(local),
                    send_back_addr: multiaddr(arrival.from),
                });
            }
        }
        this.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
