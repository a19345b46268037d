//! Listeners that report their own end of a tunnel.
//!
//! The watcher of interfaces below reports the address that Linux calls `IFA_ADDRESS`. On a
//! point-to-point interface that is the other end's. A node that took it for its own would tell
//! others an address of somebody else, and would never dial that one, for it would seem to be
//! itself. This transport puts the own end in its place.
//!
//! It is below the resolver, so it is also what takes note of whom this node dials.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::interfaces::Interfaces;
use crate::reach::Contacts;
use crate::scope::Socket;

/// How long the interfaces that were read serve further reports: they come in bursts.
const FRESH: Duration = Duration::from_millis(100);

type Output = (PeerId, StreamMuxerBox);

/// A transport over one whose listeners report far ends.
pub(super) struct OwnEnds {
    inner: Boxed<Output>,
    /// What was reported in place of what; as many as there are tunnels.
    replaced: HashMap<(ListenerId, Multiaddr), Multiaddr>,
    interfaces: Option<(Instant, Interfaces)>,
    contacts: Contacts,
}

impl OwnEnds {
    pub(super) fn new(inner: Boxed<Output>, contacts: Contacts) -> Self {
        Self {
            inner,
            replaced: HashMap::new(),
            interfaces: None,
            contacts,
        }
    }

    /// The own end of a tunnel whose far end is `ip`.
    ///
    /// Reads the interfaces, a matter of a millisecond, when an address has come: seldom.
    fn own_end(&mut self, ip: IpAddr) -> Option<IpAddr> {
        if ip.is_loopback() {
            return None;
        }
        let is_fresh = |(at, _): &(Instant, Interfaces)| at.elapsed() < FRESH;
        if !self.interfaces.as_ref().is_some_and(is_fresh) {
            self.interfaces = Some((Instant::now(), Interfaces::read()));
        }
        self.interfaces.as_ref()?.1.own_end(ip)
    }

    fn corrected(&mut self, id: ListenerId, address: Multiaddr) -> Multiaddr {
        let own = Socket::parse(&address).and_then(|socket| self.own_end(socket.ip));
        let Some(own) = own else { return address };
        let corrected = with_ip(&address, own);
        self.replaced.insert((id, address), corrected.clone());
        corrected
    }
}

/// `address` with another IP address in front.
fn with_ip(address: &Multiaddr, ip: IpAddr) -> Multiaddr {
    let first = match ip {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    std::iter::once(first)
        .chain(address.iter().skip(1))
        .collect()
}

impl Transport for OwnEnds {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Output> as Transport>::ListenerUpgrade;
    type Dial = <Boxed<Output> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.contacts.dialled(&address);
        self.inner.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let Poll::Ready(event) = Pin::new(&mut self.inner).poll(cx) else {
            return Poll::Pending;
        };
        Poll::Ready(match event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => TransportEvent::NewAddress {
                listener_id,
                listen_addr: self.corrected(listener_id, listen_addr),
            },
            TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } => {
                let reported = self.replaced.remove(&(listener_id, listen_addr.clone()));
                TransportEvent::AddressExpired {
                    listener_id,
                    listen_addr: reported.unwrap_or(listen_addr),
                }
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_ip_address_is_replaced() {
        let check = |address: &str, ip: &str, expected: &str| {
            let address: Multiaddr = address.parse().unwrap();
            let replaced = with_ip(&address, ip.parse().unwrap());
            assert_eq!(replaced.to_string(), expected);
        };
        check("/ip4/10.9.0.2/tcp/41", "10.9.0.1", "/ip4/10.9.0.1/tcp/41");
        check(
            "/ip6/fd00::2/udp/41/quic-v1",
            "fd00::1",
            "/ip6/fd00::1/udp/41/quic-v1",
        );
    }
}
