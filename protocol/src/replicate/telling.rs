//! Which homes know what this node holds.
//!
//! A holder tells the two homes of a key when it begins to hold some of it, when that changes, and
//! when it ends. As near helpers come and go, the homes of a key change: the new ones are told, and
//! nothing is moved. Old ones are told that it is gone, so that nobody believes what no longer holds.
//! It owns the books of who was told what; it refuses to send: the caller does.

use std::collections::{BTreeMap, BTreeSet};

use super::near_table::NearTable;
use super::position::{Key, PeerKey};
use super::walk::HOMES;

/// Something to tell a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Telling {
    /// What is held of this key.
    Holds(Key),
    /// Nothing is held of it any more.
    Gone(Key),
}

/// The books; see the module's head. A key takes 50 bytes, so 32,768 of them 1.6 MiB.
#[derive(Clone, Debug, Default)]
pub struct Tellings {
    told: BTreeMap<Key, Told>,
}

/// What was told of a key.
#[derive(Clone, Debug, Default)]
struct Told {
    /// To whom.
    homes: [Option<PeerKey>; HOMES],
    /// It is not so any more.
    has_changed: bool,
}

impl Tellings {
    /// What is to be told to whom now, for what is held and the near helpers as they are; it counts
    /// as told.
    pub fn due(
        &mut self,
        held: impl IntoIterator<Item = Key>,
        table: &NearTable,
    ) -> BTreeMap<PeerKey, Vec<Telling>> {
        let mut due: BTreeMap<PeerKey, Vec<Telling>> = BTreeMap::new();
        let held: BTreeSet<Key> = held.into_iter().collect();
        self.told.retain(|key, told| {
            let is_held = held.contains(key);
            for home in told.homes.iter().flatten().filter(|_| !is_held) {
                due.entry(*home).or_default().push(Telling::Gone(*key));
            }
            is_held
        });
        for key in held {
            let told = self.told.entry(key).or_default();
            let mut homes = [None; HOMES];
            for (home, near) in homes.iter_mut().zip(table.closest(key, None)) {
                *home = Some(near.peer);
            }
            let has_changed = std::mem::take(&mut told.has_changed);
            let to_tell = |it: &&Option<PeerKey>| has_changed || !told.homes.contains(it);
            for new in homes.iter().filter(to_tell).flatten() {
                due.entry(*new).or_default().push(Telling::Holds(key));
            }
            // One that is no home any more would believe for as long as its stream lives.
            for old in told.homes.iter().filter(|it| !homes.contains(it)).flatten() {
                due.entry(*old).or_default().push(Telling::Gone(key));
            }
            told.homes = homes;
        }
        due
    }

    /// What is held of a key has changed: its homes hear it again, or that nothing is held any more.
    pub fn changed(&mut self, key: Key) {
        if let Some(told) = self.told.get_mut(&key) {
            told.has_changed = true;
        }
    }

    /// The stream to a peer has ended: if it comes back, it hears all again.
    pub fn left(&mut self, peer: PeerKey) {
        for home in self.told.values_mut().flat_map(|told| &mut told.homes) {
            if *home == Some(peer) {
                *home = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::replicate::{Neighbour, Position};

    fn position(n: u32) -> Position {
        Position::of_peer(&n.to_le_bytes())
    }

    fn key(n: u32) -> Key {
        Key(*position(n + 1000).bytes())
    }

    fn add(table: &mut NearTable, n: u32) {
        let (peer, position) = (PeerKey(n), position(n));
        table.insert(Neighbour {
            peer,
            position,
            rtt: Duration::from_millis(1),
        });
    }

    fn count(due: &BTreeMap<PeerKey, Vec<Telling>>) -> usize {
        due.values().map(Vec::len).sum()
    }

    #[test]
    fn homes_are_told_once_and_again_when_something_changes() {
        let mut table = NearTable::new(position(0));
        let mut tellings = Tellings::default();
        let keys = || (0..50).map(key);
        assert!(
            tellings.due(keys(), &table).is_empty(),
            "there is nobody to tell"
        );
        (1..10).for_each(|n| add(&mut table, n));
        assert_eq!(count(&tellings.due(keys(), &table)), 100);
        assert!(tellings.due(keys(), &table).is_empty());
        tellings.changed(key(7));
        let due = tellings.due(keys(), &table);
        assert_eq!(count(&due), 2);
        assert!(
            due.values()
                .flatten()
                .all(|it| *it == Telling::Holds(key(7)))
        );
        // It is not held any more, which is a change of it, too.
        tellings.changed(key(0));
        let due = tellings.due(keys().skip(1), &table);
        assert_eq!(count(&due), 2);
        assert!(
            due.values()
                .flatten()
                .all(|it| *it == Telling::Gone(key(0)))
        );
    }

    #[test]
    fn new_homes_are_told_and_those_that_come_back() {
        let mut table = NearTable::new(position(0));
        let mut tellings = Tellings::default();
        let keys = || (0..200).map(key);
        (1..10).for_each(|n| add(&mut table, n));
        let before = tellings.due(keys(), &table);
        let gone = PeerKey(3);
        let of_gone = before.get(&gone).map_or(0, Vec::len);
        assert!(of_gone > 0);
        table.remove(gone);
        tellings.left(gone);
        let after = tellings.due(keys(), &table);
        assert_eq!(
            count(&after),
            of_gone,
            "each key of the one that left has another home"
        );
        add(&mut table, 3);
        let again = tellings.due(keys(), &table);
        let holds = |it: &&Telling| matches!(it, Telling::Holds(_));
        let told = |peer| {
            again
                .get(&peer)
                .map_or(0, |it| it.iter().filter(holds).count())
        };
        assert_eq!(told(gone), of_gone);
        assert_eq!(
            count(&again),
            2 * of_gone,
            "those in between hear that they are no homes"
        );
    }
}
