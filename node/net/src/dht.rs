//! The DHT: libp2p's Kademlia behind a filter.
//!
//! Owns what goes in and out of it: which peers enter the routing table and with which addresses,
//! which addresses of a query are dialled, and which records are asked for. It wraps the behaviour
//! because Kademlia believes and dials every address that any peer of a query names, keeps every
//! address a peer ever had, and gives provider ids without the addresses that came with them.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::kad::{
    self, Addresses, BucketInserts, Caching, K_VALUE, Mode, QueryId, RecordKey, StoreInserts,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use super::book::ADDRESSES_MAX;
use super::config::{DhtConfig, Diversity};
use super::counters::Counters;
use super::records::{Key, Records};
use super::scope::{Scope, Socket, believed, host_of, subnet_of, without_peer};

/// How the DHT stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DhtStatus {
    /// Peers in the routing table.
    pub peers: usize,
    /// Provider records that this node holds for others.
    pub records: usize,
}

/// The largest DHT message. 20 providers and 20 nearer peers of 40 bytes and 16 addresses of 40
/// bytes each are 27 KiB; the 16 KiB of the default would make such answers fail.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// After how long one request to one peer has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Peers of one subnet in one bucket of 20. Each bucket is asked for its part of the key space, so
/// a cluster must not be most of any.
const SUBNET_PEERS_PER_BUCKET_MAX: usize = 3;

/// Peers of one subnet in the whole routing table, which has some hundreds of peers when it is
/// full.
const SUBNET_PEERS_MAX: usize = 16;

/// The filtered behaviour.
pub(super) struct Dht {
    inner: kad::Behaviour<Records>,
    diversity: Diversity,
    counters: Counters,
    /// The narrowest scope that a connection had so far: addresses that reach less far are of
    /// another network.
    reach: Scope,
}

impl Dht {
    /// A DHT server, unless it is configured to be a client. Whoever is reachable from nowhere has
    /// no believed address, so it enters nobody's table.
    pub(super) fn new(
        local: PeerId,
        protocol: StreamProtocol,
        records: Records,
        config: &DhtConfig,
        counters: Counters,
    ) -> Self {
        let mut kad = kad::Config::new(protocol);
        kad.set_query_timeout(config.query_timeout)
            .set_substreams_timeout(REQUEST_TIMEOUT)
            .set_max_packet_size(MESSAGE_BYTES_MAX)
            .set_provider_record_ttl(Some(config.record_ttl))
            // Refreshing is the actor's: the built-in timer complains while there are no peers.
            .set_periodic_bootstrap_interval(None)
            // Announcing again is the announcer's: the built-in job clones every record.
            .set_provider_publication_interval(None)
            .set_publication_interval(None)
            .set_replication_interval(None)
            .set_caching(Caching::Disabled)
            // Nothing is stored and nobody enters the table before it was filtered.
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_kbucket_inserts(BucketInserts::Manual);
        let mut inner = kad::Behaviour::with_config(local, records, kad);
        // Set outright: otherwise it stays a client until an external address is confirmed, and on
        // a LAN or a testnet nobody would serve.
        inner.set_mode(Some(match config.serves {
            true => Mode::Server,
            false => Mode::Client,
        }));
        Self {
            inner,
            diversity: config.diversity,
            counters,
            reach: Scope::Public,
        }
    }

    /// Whether it answers others, and so enters their routing tables.
    pub(super) fn serve(&mut self, serves: bool) {
        let mode = match serves {
            true => Mode::Server,
            false => Mode::Client,
        };
        if self.inner.mode() != mode {
            tracing::info!(?mode, "part in the DHT");
            self.inner.set_mode(Some(mode));
        }
    }

    /// Asks for the providers of `key`.
    pub(super) fn providers(&mut self, key: &Key) -> QueryId {
        self.inner.get_providers(RecordKey::new(key))
    }

    /// Tells the peers nearest to `key` that this node provides it, and answers so itself from now
    /// on.
    pub(super) fn announce(&mut self, key: &Key) -> Result<QueryId, kad::store::Error> {
        self.inner.start_providing(RecordKey::new(key))
    }

    /// Asks for the addresses of a peer: those nearest to it know them.
    pub(super) fn find_peer(&mut self, peer: PeerId) -> QueryId {
        self.inner.get_n_closest_peers(peer, NonZeroUsize::MIN)
    }

    /// Looks for nearer peers and fills thin parts of the routing table, if that is thin.
    pub(super) fn refill(&mut self) {
        if self.status().peers < K_VALUE.get() {
            self.refresh();
        }
    }

    /// Looks for nearer peers and fills thin parts of the routing table: among 64 peers some 0.8 MB.
    pub(super) fn refresh(&mut self) {
        // An error says that there is nobody to ask; whoever comes triggers a refresh.
        self.inner.bootstrap().ok();
    }

    /// Ends a query early; its result then comes soon.
    pub(super) fn finish(&mut self, query: QueryId) {
        if let Some(mut query) = self.inner.query_mut(&query) {
            query.finish();
        }
    }

    /// The record store.
    pub(super) fn records(&mut self) -> &mut Records {
        self.inner.store_mut()
    }

    /// The addresses that the routing table, running queries and the records here know of a peer,
    /// filtered.
    ///
    /// A provider's addresses are known to the query that found it and vanish with it, so they are
    /// read while its event is handled. Queries do not know those of the records here.
    pub(super) fn addresses(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        // The id is not kept: the behaviour only looks addresses up.
        let id = ConnectionId::new_unchecked(0);
        let known = self.handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer);
        let mut addresses = known.unwrap_or_default();
        // Filtered when they came.
        for address in self.inner.store_mut().addresses(&peer) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// Puts a DHT server with these believed addresses into the routing table, in place of what it
    /// had before.
    ///
    /// `hosts` are those it is connected from. Where diversity counts, only addresses there enter
    /// the table: a peer that named hosts of others would make its table neighbours dial them.
    /// Without `hosts` all enter.
    pub(super) fn route(
        &mut self,
        peer: PeerId,
        addresses: &[Multiaddr],
        hosts: Option<&[IpAddr]>,
    ) {
        let diversity = self.diversity;
        let proven = |address: &&Multiaddr| {
            let ip = Socket::parse(address).map(|socket| socket.ip);
            let seen = |ip| hosts.is_none_or(|hosts| hosts.contains(&host_of(ip)));
            ip.is_some_and(|ip| !diversity.covers(ip) || seen(ip))
        };
        let addresses: Vec<&Multiaddr> = addresses
            .iter()
            .filter(proven)
            .take(ADDRESSES_MAX)
            .collect();
        let Some(first) = addresses.first() else {
            return;
        };
        let known = self.routed(peer);
        if known.is_empty() && !self.is_diverse(peer, first) {
            self.counters.routes_refused.add();
            return;
        }
        for address in &addresses {
            self.inner.add_address(&peer, (*address).clone());
        }
        for old in known {
            if !addresses.contains(&&without_peer(&old)) {
                self.inner.remove_address(&peer, &old);
            }
        }
    }

    /// Whether the subnet of a new peer has not its part of the table yet.
    fn is_diverse(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
        let Some(subnet) = subnet_at(self.diversity, address) else {
            return true;
        };
        let own_bucket = self.inner.kbucket(peer).map(|bucket| bucket.range());
        let diversity = self.diversity;
        let (mut in_bucket, mut in_table) = (0, 0);
        for bucket in self.inner.kbuckets() {
            let first = |entry: &Addresses| subnet_at(diversity, entry.first());
            let same = bucket
                .iter()
                .filter(|entry| first(entry.node.value) == Some(subnet))
                .count();
            in_table += same;
            if own_bucket == Some(bucket.range()) {
                in_bucket = same;
            }
        }
        in_bucket < SUBNET_PEERS_PER_BUCKET_MAX && in_table < SUBNET_PEERS_MAX
    }

    /// Takes a peer out of the routing table.
    pub(super) fn unroute(&mut self, peer: &PeerId) {
        self.inner.remove_peer(peer);
    }

    /// How full it is.
    pub(super) fn status(&mut self) -> DhtStatus {
        let peers = self
            .inner
            .kbuckets()
            .map(|bucket| bucket.num_entries())
            .sum();
        DhtStatus {
            peers,
            records: self.inner.store_mut().foreign_len(),
        }
    }

    fn routed(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let Some(bucket) = self.inner.kbucket(peer) else {
            return Vec::new();
        };
        let entry = bucket
            .iter()
            .find(|entry| *entry.node.key.preimage() == peer);
        entry
            .map(|entry| entry.node.value.iter().cloned().collect())
            .unwrap_or_default()
    }
}

/// The subnet that an address counts for, if it counts.
fn subnet_at(diversity: Diversity, address: &Multiaddr) -> Option<IpAddr> {
    let ip = Socket::parse(address)?.ip;
    diversity.covers(ip).then(|| subnet_of(host_of(ip)))
}

impl NetworkBehaviour for Dht {
    type ConnectionHandler = <kad::Behaviour<Records> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    /// The addresses that Kademlia would dial, without those that are not believed and at most as
    /// many as allowed.
    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let known = self
            .inner
            .handle_pending_outbound_connection(id, peer, addresses, role)?;
        Ok(peer
            .map(|peer| believed(&peer, &known, self.reach, ADDRESSES_MAX))
            .unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(established) = &event
            && let Some(scope) = Scope::of(established.endpoint.get_remote_address())
        {
            self.reach = self.reach.min(scope);
        }
        // It would only ask an empty routing table; listen addresses are confirmed ones here.
        if let FromSwarm::NewListenAddr(_) = event {
            return;
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}
