//! Which connected peers are kept although nothing uses their connections: pure.
//!
//! Three quarters of the neighbours are near ones, chosen so that a walk among them reaches every key
//! in a few steps: of each common prefix with the own position the nearest few. The rest is for
//! everybody else, spread over the prefixes, so that a neighbourhood does not become an island. A
//! peer that is kept already stays where nothing speaks against it, for each change costs a
//! connection.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::PeerId;
use shoal_protocol::near::Nearness;
use shoal_protocol::replicate::{BUCKET_MAX, Position};

/// A peer that may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    pub(super) nearness: Option<Nearness>,
    pub(super) rtt: Option<Duration>,
    pub(super) is_kept: bool,
}

impl Candidate {
    fn is_near(&self) -> bool {
        self.nearness.is_some_and(Nearness::is_near)
    }
}

/// How many of so many neighbours are near ones: 48 of 64.
fn near_max(neighbours_max: usize) -> usize {
    neighbours_max - neighbours_max / 4
}

/// Chooses at most `most` neighbours of the node `own`.
pub(super) fn choose(own: &PeerId, candidates: &[Candidate], most: usize) -> HashSet<PeerId> {
    let position = |peer: &PeerId| Position::of_peer(&peer.to_bytes());
    let own = position(own);
    let bucket = |candidate: &Candidate| own.shared_bits(position(&candidate.peer));
    let mut near: Vec<_> = candidates.iter().filter(|it| it.is_near()).collect();
    near.sort_by_key(|it| (it.nearness, it.rtt, !it.is_kept, it.peer));
    let mut in_bucket: HashMap<u32, usize> = HashMap::new();
    let mut chosen = HashSet::new();
    for candidate in near {
        let taken = in_bucket.entry(bucket(candidate)).or_default();
        if *taken < BUCKET_MAX && chosen.len() < near_max(most) {
            *taken += 1;
            chosen.insert(candidate.peer);
        }
    }
    let left = candidates.iter().filter(|it| !chosen.contains(&it.peer));
    // Each prefix in turn; of one, those first that are kept, and that are not near.
    let mut left: Vec<_> = left.map(|it| (bucket(it), it)).collect();
    left.sort_by_key(|(bucket, it)| (*bucket, !it.is_kept, it.is_near(), it.peer));
    let mut turns: HashMap<u32, usize> = HashMap::new();
    let mut turn_of = |bucket: u32| {
        let turn = turns.entry(bucket).or_default();
        *turn += 1;
        *turn
    };
    let mut in_turn: Vec<_> = left
        .into_iter()
        .map(|(bucket, it)| (turn_of(bucket), bucket, it.peer))
        .collect();
    in_turn.sort_unstable();
    let room = most.saturating_sub(chosen.len());
    chosen.extend(in_turn.into_iter().take(room).map(|(.., peer)| peer));
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(rtts: &[(u64, bool)]) -> Vec<Candidate> {
        let candidate = |(rtt, is_kept): &(u64, bool)| {
            let nearness = match rtt {
                0 => None,
                1..=25 => Some(Nearness::Near),
                _ => Some(Nearness::Far),
            };
            Candidate {
                peer: PeerId::random(),
                nearness,
                rtt: nearness.map(|_| Duration::from_millis(*rtt)),
                is_kept: *is_kept,
            }
        };
        rtts.iter().map(candidate).collect()
    }

    #[test]
    fn all_are_kept_while_there_is_room() {
        let all = candidates(&[(3, false); 40]);
        let chosen = choose(&PeerId::random(), &all, 64);
        assert_eq!(chosen.len(), 40);
    }

    #[test]
    fn a_neighbourhood_keeps_a_quarter_for_others() {
        let near = candidates(&[(3, false); 400]);
        let far = candidates(&[(80, false); 100]);
        let own = PeerId::random();
        let chosen = choose(&own, &[near.clone(), far.clone()].concat(), 64);
        let of = |some: &[Candidate]| some.iter().filter(|it| chosen.contains(&it.peer)).count();
        assert_eq!(chosen.len(), 64);
        assert!(of(&far) >= 16, "{} far ones", of(&far));
        assert!(of(&near) >= 16, "{} near ones", of(&near));
    }

    proptest! {
        #[test]
        fn the_nearest_of_each_prefix_are_kept(
            rtts in prop::collection::vec((0..100_u64, any::<bool>()), 0..300),
        ) {
            let own = PeerId::random();
            let all = candidates(&rtts);
            let chosen = choose(&own, &all, 64);
            prop_assert_eq!(chosen.len(), all.len().min(64));
            let position = |peer: &PeerId| Position::of_peer(&peer.to_bytes());
            let bucket = |it: &Candidate| position(&own).shared_bits(position(&it.peer));
            // The nearest of each prefix is among them, as far as there is room for near ones.
            let near = || all.iter().filter(|it| it.is_near());
            let buckets: HashSet<u32> = near().map(bucket).collect();
            if buckets.len() * BUCKET_MAX <= 48 {
                for one in buckets {
                    let nearest = near().filter(|it| bucket(it) == one).min_by_key(|it| it.rtt);
                    let least = nearest.and_then(|it| it.rtt);
                    let is_kept = near().any(|it| {
                        bucket(it) == one && it.rtt == least && chosen.contains(&it.peer)
                    });
                    prop_assert!(is_kept);
                }
            }
        }
    }
}
