//! The order of the queue.
//!
//! By [`Order::ById`] it is that of the ids. By [`Order::Swarm`] nodes come first, since they say
//! what else there is to want; then leaves that no holder and no other fetcher has, those that only
//! far ones have, and those that a near one has; of the latter two, those that the fewest have. Among these, each
//! leaf belongs to one fetcher, its home, by rendezvous hashing over the keys of those that know
//! each other: a fetcher takes its own leaves first, then those it would be next in line for. So a
//! swarm asks a source for every leaf about once without a word of agreement, and whoever sees
//! fewer members only takes more. The home goes through its leaves in a permutation of its own, and
//! who helps it goes through them from behind, so that the two meet once at most.
//!
//! Leaves go by runs of [`RUN_LEAVES`], so that they are read and written in order for a while.

use super::config::RUN_LEAVES;
use super::tier::Tier;
use super::types::{Order, Part, WantId};

/// A want's place in the queue; less is sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) band: Band,
    /// How many fetchers are nearer to being the leaf's home than this one.
    pub(super) home: u8,
    turn: u64,
    pub(super) id: WantId,
}

/// What kind of want it is, and which holders and members have it: how near the nearest of them is,
/// and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Band(u8);

/// The holders and members that have a want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) count: u32,
    /// The cheapest of them; owners, where there is none.
    pub(super) tier: Tier,
}

impl Band {
    /// DAG nodes.
    pub(super) const NODES: Self = Self(0);
    /// Leaves that only owners have.
    pub(super) const UNSHARED: Self = Self(1);
    /// Leaves that one far holder or member has; those that more have follow.
    pub(super) const FAR: Self = Self(2);
    /// The same where one of them is near.
    pub(super) const NEAR: Self = Self(128);

    fn of(part: Part, held: Held) -> Self {
        let first = match (part, held.tier) {
            (Part::Node, _) => return Self::NODES,
            (_, Tier::Owner) => return Self::UNSHARED,
            (_, Tier::Far) => Self::FAR,
            (_, Tier::Near) => Self::NEAR,
        };
        let others = held.count.saturating_sub(1).min(COUNT_MAX);
        Self(
            first
                .0
                .saturating_add(u8::try_from(others).unwrap_or(u8::MAX)),
        )
    }

    /// The first band with wants that a provider of that tier may have.
    pub(super) fn first_of(tier: Tier) -> Self {
        match tier {
            Tier::Near => Self::NEAR,
            Tier::Far => Self::FAR,
            Tier::Owner => Self::UNSHARED,
        }
    }
}

/// More holders than this are not told apart; there are never more than
/// [`PROVIDERS_MAX`](super::PROVIDERS_MAX).
const COUNT_MAX: u32 = 100;

impl Rank {
    /// The rank of a want, where `members` are the keys of the fetchers that are known.
    pub(super) fn new(
        order: Order,
        (id, part): (WantId, Part),
        held: Held,
        members: &[u64],
    ) -> Self {
        let Order::Swarm { key } = order else {
            return Self {
                id,
                ..Self::start_of(Band::NEAR)
            };
        };
        let number = match part {
            Part::Leaf(leaf) => leaf,
            Part::Node | Part::Unnumbered => id.0,
        };
        let run = number.checked_div(RUN_LEAVES).unwrap_or_default();
        let own = claim(key, run);
        let (mut home, mut greatest) = (0_u8, own);
        if let Part::Leaf(_) = part {
            for member in members.iter().map(|member| claim(*member, run)) {
                home = home.saturating_add(u8::from(member > own));
                greatest = greatest.max(member);
            }
        }
        let place = number.checked_rem(RUN_LEAVES).unwrap_or_default();
        let turn = greatest << 32 | place;
        Self {
            band: Band::of(part, held),
            home,
            turn: if home == 0 { turn } else { !turn },
            id,
        }
    }

    /// The least rank of a band.
    pub(super) fn start_of(band: Band) -> Self {
        Self {
            band,
            home: 0,
            turn: 0,
            id: WantId(0),
        }
    }

    /// The next rank that a provider of that tier has to look at, when it does not have the leaf at
    /// this one. What a holder or member says it has is in a band of its tier or of a cheaper one.
    pub(super) fn next_for(self, tier: Tier, part: Part) -> Self {
        let first = Self::start_of(Band::first_of(tier));
        match part {
            Part::Leaf(_) if self.band > Band::NODES && self < first => first,
            _ => self.next(),
        }
    }

    /// The rank right behind this one.
    pub(super) fn next(self) -> Self {
        Self {
            id: WantId(self.id.0.saturating_add(1)),
            ..self
        }
    }
}

/// How much a fetcher is the home of a leaf: the one with the greatest claim is.
pub(super) fn claim_on(part: Part, key: u64) -> u64 {
    let run = match part {
        Part::Leaf(leaf) => leaf.checked_div(RUN_LEAVES).unwrap_or_default(),
        Part::Node | Part::Unnumbered => 0,
    };
    claim(key, run)
}

fn claim(key: u64, run: u64) -> u64 {
    mix(key ^ mix(run))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation)]

    use super::*;

    fn rank(key: u64, leaf: u64, count: u32, members: &[u64]) -> Rank {
        let tier = if count == 0 { Tier::Owner } else { Tier::Far };
        ranked(key, leaf, Held { count, tier }, members)
    }

    fn ranked(key: u64, leaf: u64, held: Held, members: &[u64]) -> Rank {
        let want = (WantId(leaf), Part::Leaf(leaf));
        Rank::new(Order::Swarm { key }, want, held, members)
    }

    #[test]
    fn every_leaf_has_one_home_and_a_whole_line_behind_it() {
        let keys: Vec<u64> = (1..=8).collect();
        let mut homes = [0; 8];
        for leaf in 0..4096 {
            let mut line: Vec<u8> = keys
                .iter()
                .map(|key| {
                    let others: Vec<u64> =
                        keys.iter().copied().filter(|other| other != key).collect();
                    let rank = rank(*key, leaf, 0, &others);
                    homes[(*key - 1) as usize] += u32::from(rank.home == 0);
                    rank.home
                })
                .collect();
            line.sort_unstable();
            assert_eq!(line, [0, 1, 2, 3, 4, 5, 6, 7], "leaf {leaf}");
        }
        // 512 each, in runs of 4: within five standard deviations.
        assert!(
            homes.iter().all(|count| (300..750).contains(count)),
            "{homes:?}"
        );
    }

    #[test]
    fn nodes_come_first_and_what_many_have_last() {
        let near = |count| Held {
            count,
            tier: Tier::Near,
        };
        let node = (WantId(9), Part::Node);
        let node = Rank::new(Order::Swarm { key: 1 }, node, near(1), &[2]);
        let mut ranks = [
            ranked(1, 2, near(300), &[2]),
            ranked(1, 6, near(1), &[2]),
            rank(1, 7, 300, &[2]),
            rank(1, 3, 1, &[2]),
            rank(1, 5, 0, &[2]),
            rank(1, 8, 2, &[2]),
            node,
        ];
        ranks.sort_unstable();
        let ids: Vec<u64> = ranks.iter().map(|rank| rank.id.0).collect();
        assert_eq!(ids, [9, 5, 3, 8, 7, 6, 2]);
    }

    #[test]
    fn helpers_go_through_the_homes_leaves_from_behind() {
        let of_home = |key, other| {
            let leaves = (0..1024).filter(|leaf| rank(1, *leaf, 0, &[2]).home == 0);
            let mut ranks: Vec<Rank> = leaves.map(|leaf| rank(key, leaf, 0, &[other])).collect();
            ranks.sort_unstable();
            ranks.iter().map(|rank| rank.id.0).collect::<Vec<u64>>()
        };
        let mut helper = of_home(2, 1);
        helper.reverse();
        assert_eq!(of_home(1, 2), helper);
    }

    #[test]
    fn leaves_of_a_run_stay_together_and_fetchers_differ() {
        let order = |key| {
            let mut ranks: Vec<Rank> = (0..256).map(|leaf| rank(key, leaf, 0, &[])).collect();
            ranks.sort_unstable();
            ranks.iter().map(|rank| rank.id.0).collect::<Vec<u64>>()
        };
        let (one, other) = (order(1), order(2));
        assert_ne!(one, other);
        for run in one.chunks(RUN_LEAVES as usize) {
            assert!(run.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{run:?}");
        }
    }
}
