//! How an asker finds the homes of a key.
//!
//! Owns the steps of one walk: it begins at the two neighbours that are closest to the key, and goes
//! on to those that their answers name, as long as these are closer. It ends when the two closest
//! that it heard of have answered, or after [`STEPS_MAX`] steps. It refuses to wait: the caller asks,
//! says what came of it, and may give up at any moment.

use super::position::{Distance, Key, PeerKey, Position};

/// How many homes a key has: where all are asked, one of them may be gone or new.
pub const HOMES: usize = 2;

/// The most steps of a walk. Each asks at most [`HOMES`] nodes at a time, so a walk costs at most 8
/// asks. Among 4,000 near nodes it needs 3.4 on average.
pub const STEPS_MAX: u32 = 4;

/// The most nodes a walk keeps in mind, a hundred bytes each.
const KNOWN_MAX: usize = 64;

/// A node that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The peer.
    pub peer: PeerKey,
    /// Where it stands among the keys.
    pub position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Known,
    Asked,
    Answered,
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    peer: PeerKey,
    distance: Distance,
    state: State,
}

/// One walk; see the module's head.
#[derive(Clone, Debug)]
pub struct Walk {
    key: Key,
    /// From the closest on.
    nodes: Vec<Node>,
    steps: u32,
}

impl Walk {
    /// A walk from these neighbours, of which the closest are asked first.
    #[must_use]
    pub fn new(key: Key, from: impl IntoIterator<Item = Candidate>) -> Self {
        let mut walk = Self {
            key,
            nodes: Vec::new(),
            steps: 0,
        };
        for candidate in from {
            walk.add(candidate);
        }
        walk
    }

    /// Whom to ask now; nobody while answers are awaited, and once the walk is over.
    pub fn step(&mut self) -> Vec<PeerKey> {
        let waits = self.nodes.iter().any(|it| it.state == State::Asked);
        if waits || self.steps >= STEPS_MAX {
            return Vec::new();
        }
        let closest = self.nodes.iter_mut().filter(|it| it.state != State::Silent);
        let mut asked = Vec::new();
        for node in closest.take(HOMES).filter(|it| it.state == State::Known) {
            node.state = State::Asked;
            asked.push(node.peer);
        }
        if !asked.is_empty() {
            self.steps = self.steps.saturating_add(1);
        }
        asked
    }

    /// Takes an answer, with the closer nodes that it names. Those that are not closer than the
    /// node that names them are left out: that is what makes every walk end.
    pub fn answered(&mut self, peer: PeerKey, closer: impl IntoIterator<Item = Candidate>) {
        let is_asked = |it: &&mut Node| it.peer == peer && it.state == State::Asked;
        let Some(node) = self.nodes.iter_mut().find(is_asked) else {
            return;
        };
        node.state = State::Answered;
        let from = node.distance;
        for candidate in closer {
            if self.key.distance(candidate.position) < from {
                self.add(candidate);
            }
        }
    }

    /// Takes note that a node does not answer, or cannot be reached.
    pub fn failed(&mut self, peer: PeerKey) {
        let is_it = |it: &&mut Node| it.peer == peer && it.state != State::Answered;
        if let Some(node) = self.nodes.iter_mut().find(is_it) {
            node.state = State::Silent;
        }
    }

    /// The homes as far as they are known: of the nodes that answered, the closest ones.
    pub fn homes(&self) -> impl Iterator<Item = PeerKey> {
        let answered = self.nodes.iter().filter(|it| it.state == State::Answered);
        answered.take(HOMES).map(|it| it.peer)
    }

    /// How many steps were made.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    fn add(&mut self, candidate: Candidate) {
        let Candidate { peer, position } = candidate;
        if self.nodes.iter().any(|it| it.peer == peer) {
            return;
        }
        let distance = self.key.distance(position);
        let at = self.nodes.partition_point(|it| it.distance < distance);
        let state = State::Known;
        self.nodes.insert(
            at,
            Node {
                peer,
                distance,
                state,
            },
        );
        self.nodes.truncate(KNOWN_MAX);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::replicate::{NearTable, Neighbour};

    fn candidate(n: u32) -> Candidate {
        Candidate {
            peer: PeerKey(n),
            position: Position::of_peer(&n.to_le_bytes()),
        }
    }

    fn key(n: u32) -> Key {
        Key(*Position::of_peer(&(n + (1 << 20)).to_le_bytes()).bytes())
    }

    /// Tables of `count` nodes that are all near each other.
    fn tables(count: u32) -> BTreeMap<PeerKey, NearTable> {
        let rtt = |a: u32, b: u32| Duration::from_micros(1000 + u64::from((a * 31 + b * 17) % 977));
        let table = |own: u32| {
            let mut table = NearTable::new(candidate(own).position);
            for n in 0..count {
                let Candidate { peer, position } = candidate(n);
                let rtt = rtt(own, n);
                table.insert(Neighbour {
                    peer,
                    position,
                    rtt,
                });
            }
            (PeerKey(own), table)
        };
        (0..count).map(table).collect()
    }

    /// Walks, and returns the homes, how many asks it took and in how many steps.
    fn walk(
        tables: &BTreeMap<PeerKey, NearTable>,
        own: u32,
        key: Key,
    ) -> (Vec<PeerKey>, usize, u32) {
        let named = |it: &NearTable, except| -> Vec<_> {
            let closest = it.closest(key, except).into_iter();
            closest
                .map(|it| Candidate {
                    peer: it.peer,
                    position: it.position,
                })
                .collect()
        };
        let mut walk = Walk::new(key, named(&tables[&PeerKey(own)], None));
        let mut asks = 0;
        loop {
            let asked = walk.step();
            if asked.is_empty() {
                return (walk.homes().collect(), asks, walk.steps());
            }
            for peer in asked {
                asks += 1;
                let closer = named(&tables[&peer], Some(PeerKey(own)));
                walk.answered(peer, closer.into_iter().take(4));
            }
        }
    }

    #[test]
    fn finds_the_two_closest_in_a_few_asks() {
        for (count, asks_max, sure) in [(15, 3.0, 1.0), (200, 5.0, 0.99), (1000, 6.0, 0.97)] {
            let tables = tables(count);
            let (mut first, mut asks) = (0, 0);
            let walks = 300;
            for n in 0..walks {
                let (own, key) = (n * 7 % count, key(n));
                let mut order: Vec<_> = (0..count).filter(|it| *it != own).map(candidate).collect();
                order.sort_by_key(|it| key.distance(it.position));
                let (homes, took, steps) = walk(&tables, own, key);
                assert!(steps <= STEPS_MAX && took <= 8);
                assert!(
                    order.iter().take(8).any(|it| it.peer == homes[0]),
                    "far off"
                );
                first += usize::from(homes[0] == order[0].peer);
                asks += took;
            }
            let (share, mean) = (
                first as f64 / f64::from(walks),
                asks as f64 / f64::from(walks),
            );
            assert!(share >= sure, "{count} nodes: closest found in {share}");
            assert!(mean <= asks_max, "{count} nodes: {mean} asks");
        }
    }

    #[test]
    fn a_liar_cannot_make_a_walk_long() {
        let key = key(1);
        let mut walk = Walk::new(key, [candidate(0)]);
        let mut asks = 0;
        let mut next = 1;
        loop {
            let asked = walk.step();
            if asked.is_empty() {
                break;
            }
            for peer in asked {
                asks += 1;
                let made_up: Vec<_> = (next..next + 1000).map(candidate).collect();
                next += 1000;
                walk.answered(peer, made_up);
            }
        }
        assert!(asks <= 8, "{asks}");
        assert!(walk.nodes.len() <= KNOWN_MAX);
    }

    #[test]
    fn what_is_not_closer_is_left_out() {
        let key = key(1);
        let mut order: Vec<_> = (0..20).map(candidate).collect();
        order.sort_by_key(|it| key.distance(it.position));
        let mut walk = Walk::new(key, [order[5], order[6]]);
        assert_eq!(walk.step(), [order[5].peer, order[6].peer]);
        assert!(walk.step().is_empty(), "two answers are awaited");
        walk.answered(order[5].peer, [order[9]]);
        walk.answered(order[6].peer, [order[7], order[5]]);
        assert!(walk.step().is_empty(), "it is over");
        assert_eq!(
            walk.homes().collect::<Vec<_>>(),
            [order[5].peer, order[6].peer]
        );
    }

    #[test]
    fn silent_nodes_give_way_to_the_next() {
        let key = key(2);
        let mut order: Vec<_> = (0..4).map(candidate).collect();
        order.sort_by_key(|it| key.distance(it.position));
        let mut walk = Walk::new(key, order.iter().copied());
        assert_eq!(walk.step(), [order[0].peer, order[1].peer]);
        walk.failed(order[0].peer);
        walk.answered(order[1].peer, []);
        assert_eq!(walk.step(), [order[2].peer]);
        walk.answered(order[2].peer, []);
        assert!(walk.step().is_empty());
        assert_eq!(
            walk.homes().collect::<Vec<_>>(),
            [order[1].peer, order[2].peer]
        );
        walk.answered(PeerKey(99), [candidate(50)]);
        assert!(
            walk.step().is_empty(),
            "an answer that nobody asked for is no news"
        );
    }

    #[test]
    fn an_empty_table_walks_nowhere() {
        let mut walk = Walk::new(key(3), []);
        assert!(walk.step().is_empty());
        assert_eq!((walk.homes().count(), walk.steps()), (0, 0));
    }
}
