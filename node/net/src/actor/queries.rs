//! The actor's part that talks to the DHT: lookups, announcements and what others leave here.

use libp2p::kad::{
    self, GetClosestPeersError, GetClosestPeersOk, GetClosestPeersResult, GetProvidersOk,
    GetProvidersResult, InboundRequest, K_VALUE, ProviderRecord, QueryId, QueryResult, QueryStats,
};
use libp2p::{Multiaddr, PeerId};

use super::Actor;
use crate::NetEvent;
use crate::book::ADDRESSES_MAX;
use crate::lookups::{Job, LookupCost, ProviderFound, give};
use crate::records::unix_now;
use crate::scope::{Scope, believed};

impl Actor {
    pub(super) fn handle_dht(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed {
                id,
                result,
                stats,
                step,
            } => {
                self.handle_progress(id, result, &stats, step.last);
            }
            kad::Event::InboundRequest { request } => self.handle_request(request),
            // A server that this node dialled; others enter when they have said where they are.
            kad::Event::RoutablePeer { peer, address } => self.route(peer, &[address]),
            kad::Event::RoutingUpdated {
                is_new_peer: true, ..
            } => {
                self.announcer.peers_appeared(unix_now());
            }
            _ => {}
        }
    }

    /// Starts what waits for a turn: lookups first, then announcements that are due.
    pub(super) fn start_queries(&mut self) {
        while let Some(lookup) = self.lookups.next() {
            let query = self.swarm.behaviour_mut().dht.providers(&lookup.key);
            self.lookups.started(query, Job::Providers(lookup));
        }
        let now = unix_now();
        while self.lookups.may_announce()
            && let Some(key) = self.announcer.start_next(now)
        {
            match self.swarm.behaviour_mut().dht.announce(&key) {
                Ok(query) => self.lookups.started(query, Job::Announce(key)),
                Err(error) => {
                    tracing::error!(%error, "an own record was refused");
                    self.announcer.finished(&key, 0, now, rand::random());
                }
            }
        }
    }

    fn handle_progress(
        &mut self,
        id: QueryId,
        result: QueryResult,
        stats: &QueryStats,
        last: bool,
    ) {
        match result {
            QueryResult::GetProviders(result) => self.handle_providers(id, result, stats, last),
            QueryResult::GetClosestPeers(result) => self.handle_found_peer(id, result),
            QueryResult::StartProviding(result) => {
                let peers = if result.is_ok() { told(stats) } else { 0 };
                self.handle_announced(id, peers);
            }
            _ => {}
        }
    }

    fn handle_providers(
        &mut self,
        id: QueryId,
        result: GetProvidersResult,
        stats: &QueryStats,
        last: bool,
    ) {
        let cost = LookupCost::of(stats);
        if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
            for peer in providers {
                self.handle_provider(id, peer, cost);
            }
        }
        if last {
            self.lookups.finished(&id);
        } else if let Some(Job::Providers(lookup)) = self.lookups.running(&id)
            && lookup.is_over()
        {
            self.swarm.behaviour_mut().dht.finish(id);
        }
    }

    /// Gives a provider to who asked, with its addresses; those are asked for when nobody told
    /// them.
    fn handle_provider(&mut self, id: QueryId, peer: PeerId, cost: LookupCost) {
        if peer == *self.swarm.local_peer_id() {
            return;
        }
        let dht = &mut self.swarm.behaviour_mut().dht;
        // Known only while this event is handled.
        self.book.add(peer, dht.addresses(peer));
        let addresses = self.book.addresses(&peer).to_vec();
        let room = self.lookups.has_room();
        let Some(Job::Providers(lookup)) = self.lookups.running(&id) else {
            return;
        };
        if !lookup.is_new(peer) {
            return;
        }
        let nowhere = addresses.is_empty() && !self.peers.contains(&peer);
        if nowhere
            && room
            && let Some(results) = lookup.address_query()
        {
            let query = dht.find_peer(peer);
            let job = Job::Address {
                peer,
                results,
                cost,
            };
            self.lookups.started(query, job);
        } else {
            lookup.found(ProviderFound {
                peer,
                addresses,
                cost,
            });
        }
    }

    fn handle_found_peer(&mut self, id: QueryId, result: GetClosestPeersResult) {
        let Some(Job::Address {
            peer,
            results,
            cost,
        }) = self.lookups.finished(&id)
        else {
            return;
        };
        let (Ok(GetClosestPeersOk { peers, .. })
        | Err(GetClosestPeersError::Timeout { peers, .. })) = result;
        let said: Vec<Multiaddr> = peers
            .into_iter()
            .filter(|found| found.peer_id == peer)
            .flat_map(|found| found.addrs)
            .collect();
        let reach = self.peers.scope(&peer).unwrap_or(Scope::Public);
        self.book
            .add(peer, believed(&peer, &said, reach, ADDRESSES_MAX));
        let addresses = self.book.addresses(&peer).to_vec();
        let found = ProviderFound {
            peer,
            addresses,
            cost,
        };
        give(&results, found);
    }

    fn handle_announced(&mut self, id: QueryId, peers: usize) {
        let Some(Job::Announce(key)) = self.lookups.finished(&id) else {
            return;
        };
        let now = unix_now();
        self.announcer.finished(&key, peers, now, rand::random());
        if peers == 0 {
            self.counters.announce_retries.add();
            return;
        }
        self.swarm
            .behaviour_mut()
            .dht
            .records()
            .mark_announced(&key, now);
        self.emit(NetEvent::Announced { key, peers });
    }

    fn handle_request(&mut self, request: InboundRequest) {
        match request {
            InboundRequest::AddProvider {
                record: Some(record),
            } => self.handle_record(record),
            InboundRequest::PutRecord { .. } => self.counters.values_refused.add(),
            _ => {}
        }
    }

    /// Keeps a record of a peer about itself, with the addresses that are believed of it.
    fn handle_record(&mut self, record: ProviderRecord) {
        let ProviderRecord {
            key,
            provider,
            addresses,
            ..
        } = record;
        self.heard.note(key.as_ref());
        // Only the peer itself may send it, over a connection, which tells how far its word
        // reaches.
        let scope = self.peers.scope(&provider).unwrap_or(Scope::Public);
        let mut addresses = believed(&provider, &addresses, scope, ADDRESSES_MAX);
        if addresses.is_empty() {
            addresses = self.book.addresses(&provider).to_vec();
        }
        self.swarm
            .behaviour_mut()
            .dht
            .records()
            .add_foreign(&key, provider, addresses);
    }
}

/// How many peers an announcement told.
///
/// The result itself proves nothing: it is a success without a single peer. The statistics count
/// the peers that answered the search and then, once more each, the up to K nearest of them that
/// were told.
fn told(stats: &QueryStats) -> usize {
    (stats.num_successes() as usize / 2).min(K_VALUE.get())
}
