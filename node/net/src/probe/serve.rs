//! Whom this node connects to when it is asked to, and whom not. Pure.
//!
//! The address has to be one on the internet, and of the very host that asks: whoever wants somebody
//! else dialled, or a host of the local network, is refused. So a peer can have this node send no
//! packet that it could not send itself. Requests are limited for each peer, for each host and in
//! all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::wire::Request;
use crate::scope::{Scope, Socket, host_of, peer_of, without_peer};

/// Dials for one peer in a minute: three addresses over two transports.
const PER_PEER_MAX: u32 = 6;

/// Dials to one host in a minute: some peers may share it.
const PER_HOST_MAX: u32 = 12;

/// Dials in a minute in all.
const IN_ALL_MAX: u32 = 60;

/// What these numbers are counted over.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses in one request, of which the first that may be dialled is.
const ADDRESSES_MAX: usize = 16;

/// Why nothing is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No address of the request may be dialled.
    Forbidden,
    /// There were enough requests in the last minute.
    TooMany,
}

/// Decides, and counts what it has allowed.
#[derive(Debug, Default)]
pub(super) struct Server {
    began: Option<Instant>,
    per_peer: HashMap<PeerId, u32>,
    per_host: HashMap<IpAddr, u32>,
    in_all: u32,
}

impl Server {
    /// The address to dial for `client`, which asks from `from`.
    pub(super) fn allow(
        &mut self,
        request: &Request,
        client: PeerId,
        from: IpAddr,
        now: Instant,
    ) -> Result<Multiaddr, Refusal> {
        let allowed = request
            .addresses
            .iter()
            .take(ADDRESSES_MAX)
            .find(|address| is_own(address, client, from))
            .ok_or(Refusal::Forbidden)?;
        self.count(client, host_of(from), now)?;
        Ok(without_peer(allowed))
    }

    fn count(&mut self, client: PeerId, host: IpAddr, now: Instant) -> Result<(), Refusal> {
        let runs = |began| now.saturating_duration_since(began) < WINDOW;
        if !self.began.is_some_and(runs) {
            *self = Self {
                began: Some(now),
                ..Self::default()
            };
        }
        let of = |counts: &HashMap<_, u32>| counts.get(&host).copied().unwrap_or_default();
        let of_peer = self.per_peer.get(&client).copied().unwrap_or_default();
        if self.in_all >= IN_ALL_MAX
            || of_peer >= PER_PEER_MAX
            || of(&self.per_host) >= PER_HOST_MAX
        {
            return Err(Refusal::TooMany);
        }
        self.in_all += 1;
        add(&mut self.per_peer, client);
        add(&mut self.per_host, host);
        Ok(())
    }
}

/// Entries are at most as many as dials in all.
fn add<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) {
    *counts.entry(key).or_default() += 1;
}

/// Whether an address is on the internet and of the host that asks.
fn is_own(address: &Multiaddr, client: PeerId, from: IpAddr) -> bool {
    let Some(socket) = Socket::parse(address) else {
        return false;
    };
    socket.port != 0
        && peer_of(address).is_none_or(|peer| peer == client)
        && Scope::of_ip(from) == Some(Scope::Public)
        && Scope::of_ip(socket.ip) == Some(Scope::Public)
        && host_of(socket.ip) == host_of(from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request(addresses: &[&str]) -> Request {
        Request {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            nonce: 1,
        }
    }

    /// Whether the address is dialled for a client that asks from there.
    #[test]
    fn what_must_not_be_dialled_is_not() {
        let client = PeerId::random();
        let own = format!("/ip4/73.1.0.1/tcp/4101/p2p/{client}");
        let others = format!("/ip4/73.1.0.1/tcp/4101/p2p/{}", PeerId::random());
        let circuit = format!("/ip4/73.1.0.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        for (from, address, is_dialled) in [
            ("73.1.0.1", "/ip4/73.1.0.1/tcp/4101", true),
            ("73.1.0.1", "/ip4/73.1.0.1/tcp/9", true),
            ("73.1.0.1", "/ip4/73.1.0.1/udp/4101/quic-v1", true),
            ("73.1.0.1", own.as_str(), true),
            ("2a00:1::5", "/ip6/2a00:1::9/tcp/4101", true),
            // Somebody else.
            ("73.1.0.1", "/ip4/73.1.0.2/tcp/4101", false),
            ("73.1.0.1", "/ip4/8.8.8.8/udp/53/quic-v1", false),
            ("2a00:1::5", "/ip6/2a00:1:0:1::5/tcp/4101", false),
            ("73.1.0.1", "/ip6/2a00:1::5/tcp/4101", false),
            ("73.1.0.1", others.as_str(), false),
            // This machine, and its local network.
            ("73.1.0.1", "/ip4/127.0.0.1/tcp/4101", false),
            ("127.0.0.1", "/ip4/127.0.0.1/tcp/4101", false),
            ("192.168.1.5", "/ip4/192.168.1.5/tcp/4101", false),
            ("192.168.1.5", "/ip4/192.168.1.1/tcp/80", false),
            ("100.64.0.7", "/ip4/100.64.0.7/tcp/4101", false),
            ("fe80::1", "/ip6/fe80::1/tcp/4101", false),
            ("::ffff:127.0.0.1", "/ip6/::ffff:127.0.0.1/tcp/1", false),
            // What is no address with a port.
            ("73.1.0.1", "/ip4/73.1.0.1/tcp/0", false),
            ("73.1.0.1", "/ip4/73.1.0.1/udp/4101", false),
            ("73.1.0.1", "/ip4/73.1.0.1/tcp/80/ws", false),
            // What may lead anywhere.
            ("73.1.0.1", "/dns4/example.org/tcp/4101", false),
            ("73.1.0.1", circuit.as_str(), false),
        ] {
            let asked = request(&[address]);
            let from = from.parse().unwrap();
            let allowed = Server::default().allow(&asked, client, from, Instant::now());
            match is_dialled {
                true => assert_eq!(allowed, Ok(without_peer(&asked.addresses[0])), "{address}"),
                false => assert_eq!(allowed, Err(Refusal::Forbidden), "{from}: {address}"),
            }
        }
    }

    #[test]
    fn only_the_first_that_may_be_dialled_is() {
        let (client, from) = (PeerId::random(), "73.1.0.1".parse().unwrap());
        let now = Instant::now();
        let asked = request(&[
            "/ip4/192.168.1.1/tcp/80",
            "/ip4/73.1.0.1/tcp/2",
            "/ip4/73.1.0.1/tcp/3",
        ]);
        let allowed = Server::default().allow(&asked, client, from, now);
        assert_eq!(allowed, Ok("/ip4/73.1.0.1/tcp/2".parse().unwrap()));
        let mut many = vec!["/ip4/192.168.1.1/tcp/80"; ADDRESSES_MAX];
        many.push("/ip4/73.1.0.1/tcp/2");
        let allowed = Server::default().allow(&request(&many), client, from, now);
        assert_eq!(allowed, Err(Refusal::Forbidden));
    }

    #[test]
    fn requests_are_limited_by_peer_by_host_and_in_all() {
        let now = Instant::now();
        let mut server = Server::default();
        let mut dials = |peer: PeerId, host: u32, now| {
            let ip = format!("73.1.{}.{}", host / 200, host % 200 + 1);
            let asked = request(&[&format!("/ip4/{ip}/tcp/4101")]);
            let mut count = 0;
            while server.allow(&asked, peer, ip.parse().unwrap(), now).is_ok() {
                count += 1;
            }
            count
        };
        let one = PeerId::random();
        assert_eq!(dials(one, 0, now), PER_PEER_MAX);
        assert_eq!(dials(one, 1, now), 0, "from another host");
        assert_eq!(dials(PeerId::random(), 0, now), PER_HOST_MAX - PER_PEER_MAX);
        assert_eq!(dials(PeerId::random(), 0, now), 0, "another peer there");
        let rest: u32 = (2..100)
            .map(|host| dials(PeerId::random(), host, now))
            .sum();
        assert_eq!(rest, IN_ALL_MAX - PER_HOST_MAX);
        assert_eq!(dials(one, 0, now + WINDOW), PER_PEER_MAX, "a minute later");
    }
}
