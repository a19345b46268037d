//! The DHT queries that run, and those that wait for their turn.
//!
//! Owns the bound on both. Lookups of people come before announcements. A lookup ends when its
//! query does, when as many providers were found as one may give, or when nobody listens any more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use libp2p::kad::{ALPHA_VALUE, QueryId, QueryStats};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::records::Key;

/// Queries at a time (protocols.md, DHT). Each dials 3 peers at once at most, 192 in all, within
/// the pending limit because most are connected.
pub(super) const RUNNING_MAX: usize = 64;

/// Of these, announcements: a node that shares much still finds things at once.
pub(super) const ANNOUNCING_MAX: usize = 32;

/// Lookups that wait for a turn. A quarter of a second each when busy: the last waits a minute at
/// the very most.
const WAITING_MAX: usize = 256;

/// Providers that one lookup gives. Far more than a fetch can use.
pub(super) const PROVIDERS_PER_LOOKUP_MAX: usize = 128;

/// Providers without an address whose address is asked for, per lookup: a query each.
const ADDRESS_QUERIES_PER_LOOKUP_MAX: usize = 8;

/// Somebody who says that they provide a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderFound {
    /// Who.
    pub peer: PeerId,
    /// Where, best to dial first; empty when nobody knows.
    pub addresses: Vec<Multiaddr>,
    /// What it took the lookup to hear of them.
    pub cost: LookupCost,
}

/// What a lookup has cost when it names a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookupCost {
    /// Peers that have answered.
    pub answers: u32,
    /// Rounds of requests: a lookup asks [`ALPHA_VALUE`] peers at a time,
    /// and those of a round are named by those of the one before, so this is the length of the way
    /// if every answer led nearer. None when this node knew it itself.
    pub hops: u32,
    /// From the first request on.
    pub elapsed: Duration,
}

impl LookupCost {
    /// As the statistics of the query say.
    pub(super) fn of(stats: &QueryStats) -> Self {
        let answers = stats.num_successes();
        let at_a_time = u32::try_from(ALPHA_VALUE.get()).unwrap_or(u32::MAX);
        Self {
            answers,
            hops: answers.div_ceil(at_a_time),
            elapsed: stats.duration().unwrap_or_default(),
        }
    }
}

/// What a running query is for.
pub(super) enum Job {
    /// The providers of a key.
    Providers(Lookup),
    /// The addresses of a provider that was found without.
    Address {
        peer: PeerId,
        results: mpsc::Sender<ProviderFound>,
        cost: LookupCost,
    },
    /// Telling of an own key.
    Announce(Key),
}

/// One lookup of providers.
pub(super) struct Lookup {
    pub(super) key: Key,
    results: mpsc::Sender<ProviderFound>,
    seen: HashSet<PeerId>,
    address_queries: usize,
}

impl Lookup {
    pub(super) fn new(key: Key, results: mpsc::Sender<ProviderFound>) -> Self {
        Self {
            key,
            results,
            seen: HashSet::new(),
            address_queries: 0,
        }
    }

    /// Whether a provider is new to this lookup and there is room for it.
    pub(super) fn is_new(&mut self, peer: PeerId) -> bool {
        self.seen.len() < PROVIDERS_PER_LOOKUP_MAX && self.seen.insert(peer)
    }

    /// Gives a provider to who asked.
    pub(super) fn found(&self, provider: ProviderFound) {
        give(&self.results, provider);
    }

    /// Whether nothing more can come of it.
    pub(super) fn is_over(&self) -> bool {
        self.results.is_closed() || self.seen.len() >= PROVIDERS_PER_LOOKUP_MAX
    }

    /// Where to give a provider whose address is asked for first; `None` when enough are being
    /// asked for.
    pub(super) fn address_query(&mut self) -> Option<mpsc::Sender<ProviderFound>> {
        let allowed = self.address_queries < ADDRESS_QUERIES_PER_LOOKUP_MAX;
        self.address_queries += usize::from(allowed);
        allowed.then(|| self.results.clone())
    }
}

/// Gives a provider to who asked. The channel holds as many as a lookup gives, so it only fails
/// when nobody listens.
pub(super) fn give(results: &mpsc::Sender<ProviderFound>, provider: ProviderFound) {
    results.try_send(provider).ok();
}

/// All queries.
#[derive(Default)]
pub(super) struct Lookups {
    running: HashMap<QueryId, Job>,
    announcing: usize,
    waiting: VecDeque<Lookup>,
}

impl Lookups {
    /// Puts a lookup in line; gives it back when the line is full.
    pub(super) fn wait(&mut self, lookup: Lookup) -> Result<(), Lookup> {
        self.waiting.retain(|lookup| !lookup.is_over());
        if self.waiting.len() >= WAITING_MAX {
            return Err(lookup);
        }
        self.waiting.push_back(lookup);
        Ok(())
    }

    /// The next lookup in line, if there is a place for it.
    pub(super) fn next(&mut self) -> Option<Lookup> {
        while self.has_room() {
            let lookup = self.waiting.pop_front()?;
            if !lookup.is_over() {
                return Some(lookup);
            }
        }
        None
    }

    /// Whether one more query may run.
    pub(super) fn has_room(&self) -> bool {
        self.running.len() < RUNNING_MAX
    }

    /// Whether one more announcement may run.
    pub(super) fn may_announce(&self) -> bool {
        self.has_room() && self.announcing < ANNOUNCING_MAX
    }

    pub(super) fn started(&mut self, query: QueryId, job: Job) {
        self.announcing += usize::from(matches!(job, Job::Announce(_)));
        self.running.insert(query, job);
    }

    pub(super) fn running(&mut self, query: &QueryId) -> Option<&mut Job> {
        self.running.get_mut(query)
    }

    pub(super) fn finished(&mut self, query: &QueryId) -> Option<Job> {
        let job = self.running.remove(query)?;
        self.announcing -= usize::from(matches!(job, Job::Announce(_)));
        Some(job)
    }

    /// The queries that need not go on, because nobody listens.
    pub(super) fn abandoned(&self) -> Vec<QueryId> {
        let abandoned = |job: &Job| match job {
            Job::Providers(lookup) => lookup.is_over(),
            Job::Address { results, .. } => results.is_closed(),
            Job::Announce(_) => false,
        };
        self.running
            .iter()
            .filter(|(_, job)| abandoned(job))
            .map(|(query, _)| *query)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lookup() -> (Lookup, mpsc::Receiver<ProviderFound>) {
        let (results, found) = mpsc::channel(PROVIDERS_PER_LOOKUP_MAX);
        (Lookup::new([1; 32], results), found)
    }

    #[test]
    fn the_line_is_bounded_and_who_left_makes_room() {
        let mut lookups = Lookups::default();
        let mut listening = Vec::new();
        for _ in 0..WAITING_MAX {
            let (waiting, found) = lookup();
            listening.push(found);
            assert!(lookups.wait(waiting).is_ok());
        }
        let (refused, _found) = lookup();
        assert!(lookups.wait(refused).is_err());
        listening.remove(0);
        let (waiting, _found) = lookup();
        assert!(lookups.wait(waiting).is_ok());
        listening.clear();
        assert!(lookups.next().is_some(), "the one that is listened to");
        assert!(lookups.next().is_none());
    }

    #[test]
    fn a_lookup_gives_each_provider_once_and_so_many_at_most() {
        let (mut lookup, mut found) = lookup();
        let peer = PeerId::random();
        assert!(lookup.is_new(peer));
        assert!(!lookup.is_new(peer));
        while lookup.is_new(PeerId::random()) {
            lookup.found(ProviderFound {
                peer,
                addresses: Vec::new(),
                cost: LookupCost::default(),
            });
        }
        assert!(lookup.is_over());
        assert_eq!(
            std::iter::from_fn(|| found.try_recv().ok()).count(),
            PROVIDERS_PER_LOOKUP_MAX - 1
        );
    }
}
