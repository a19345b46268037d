//! Naming near helpers to providers that more peers ask than their lines carry.
//!
//! A provider asks for it. It is told of those that this fetch has asked itself and that have nothing
//! of the root, once all of them were asked: so only helpers are named that know of the demand. Where a
//! near copy is at hand nobody is named, for a further one is of no use.

use std::collections::BTreeSet;

use libp2p::PeerId;
use shoal_protocol::{
    address::Cid,
    exchange::{HELPER_ADDRESSES_MAX, Helper, List, NEARBY_HELPERS_MAX},
    planner::ProviderId,
    replicate::{Key, Position},
};

use super::{super::span, Transfer};

/// Helpers that are remembered of one fetch: it asks fewer of them.
const HELPERS_MAX: usize = 64;

/// The helpers that may be named, and to whom.
#[derive(Debug, Default)]
pub(super) struct Nominees {
    helpers: Vec<PeerId>,
    /// Whether all near helpers were asked.
    are_all_asked: bool,
    /// Providers that want to know them.
    wanting: BTreeSet<ProviderId>,
    /// Providers that know them.
    told: BTreeSet<ProviderId>,
}

impl Nominees {
    /// A helper was asked that has nothing of the root.
    pub(super) fn add(&mut self, helper: PeerId) {
        if self.helpers.len() < HELPERS_MAX && !self.helpers.contains(&helper) {
            self.helpers.push(helper);
        }
    }

    /// All near helpers were asked.
    pub(super) fn all_asked(&mut self) {
        self.are_all_asked = true;
    }

    /// A provider wants to know them; its first word counts.
    pub(super) fn wanted_by(&mut self, provider: ProviderId) {
        if !self.told.contains(&provider) {
            self.wanting.insert(provider);
        }
    }

    /// The providers that are told now, once each.
    fn due(&mut self) -> BTreeSet<ProviderId> {
        if !self.are_all_asked || self.helpers.is_empty() {
            return BTreeSet::new();
        }
        let due = std::mem::take(&mut self.wanting);
        self.told.extend(&due);
        due
    }

    /// The helpers, the closest to the root's key first, as many as are named.
    fn closest(&self, root: &Cid) -> Vec<PeerId> {
        let Some(digest) = root.digest() else {
            return Vec::new();
        };
        let key = Key::of(&digest);
        let mut closest = self.helpers.clone();
        closest.sort_by_key(|peer| key.distance(Position::of_peer(&peer.to_bytes())));
        closest.truncate(NEARBY_HELPERS_MAX);
        closest
    }
}

impl Transfer {
    /// Names near helpers to the providers that want to know them.
    pub(super) fn nominate(&mut self) {
        if self.setup.providers.borrow().has_near_copy {
            return;
        }
        let due = self.nominees.due();
        let closest = match due.is_empty() {
            true => return,
            false => self.nominees.closest(&self.setup.root),
        };
        for provider in due {
            let peer = self.setup.contacts.peer(provider);
            let Some((session, peer)) = self.sessions.get(&provider).zip(peer) else {
                continue;
            };
            tracing::debug!(%peer, helpers = closest.len(), "names near helpers");
            let (nominator, net) = (session.nominator(), self.setup.net.clone());
            let closest = closest.clone();
            let naming = async move {
                let known = net
                    .introduce(closest.clone(), peer, NEARBY_HELPERS_MAX)
                    .await;
                let place = |helper: &PeerId| closest.iter().position(|it| it == helper);
                let mut known: Vec<_> = known.into_iter().collect();
                known.sort_by_key(|(helper, _)| place(helper));
                let helpers = known.into_iter().filter_map(|(helper, addresses)| {
                    let addresses = addresses
                        .iter()
                        .filter_map(|address| List::try_from(address.to_vec()).ok())
                        .take(HELPER_ADDRESSES_MAX);
                    Some(Helper {
                        peer: List::try_from(helper.to_bytes()).ok()?,
                        addresses: List::first_of(addresses),
                    })
                });
                nominator.name(List::first_of(helpers));
            };
            span::spawn(&self.setup.tasks, naming);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use shoal_protocol::address::{Digest, HashFn};

    use super::*;

    #[test]
    fn each_provider_is_told_once_and_not_before_all_were_asked() {
        let mut nominees = Nominees::default();
        let provider = ProviderId(1);
        nominees.wanted_by(provider);
        nominees.add(PeerId::random());
        assert!(nominees.due().is_empty(), "others are still asked");
        nominees.all_asked();
        assert_eq!(nominees.due(), BTreeSet::from([provider]));
        nominees.wanted_by(provider);
        assert!(nominees.due().is_empty(), "it knows");
        nominees.wanted_by(ProviderId(2));
        assert_eq!(nominees.due(), BTreeSet::from([ProviderId(2)]));
    }

    #[test]
    fn the_closest_to_the_key_are_named() {
        let digest = Digest::of(HashFn::Blake3, b"root");
        let mut nominees = Nominees::default();
        for _ in 0..100 {
            nominees.add(PeerId::random());
        }
        assert_eq!(nominees.helpers.len(), HELPERS_MAX);
        let closest = nominees.closest(&Cid::raw(digest));
        assert_eq!(closest.len(), NEARBY_HELPERS_MAX);
        let distance =
            |peer: &PeerId| Key::of(&digest).distance(Position::of_peer(&peer.to_bytes()));
        assert!(closest.is_sorted_by_key(distance));
        let farthest = closest.iter().map(distance).max().unwrap();
        let nearer = nominees.helpers.iter().map(distance);
        assert_eq!(nearer.filter(|it| *it <= farthest).count(), closest.len());
    }
}
