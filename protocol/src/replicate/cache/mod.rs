//! Which replicas are kept: S3-FIFO over runs, by bytes.
//!
//! Owns the order of what a replica store holds. A new run stands in the small queue, a tenth of the
//! quota; at its end it goes on to the main queue if two distinct readers read it, and leaves
//! otherwise. What leaves the small queue is remembered as a ghost: if it comes again, it stands in
//! the main queue at once. In the main queue every read, up to three, is another round. (Yang et al.,
//! "FIFO queues are all you need for cache eviction", SOSP 2023.) Three things are added to the paper:
//! runs have sizes, readers are told apart, and no cause of pulls has more than a tenth of the quota.
//!
//! It keeps no bytes and writes no rows: every call says what has changed. What the rows say brings
//! it back after a restart, in the same order.

mod ghosts;
mod owners;
#[cfg(test)]
mod paper;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use self::ghosts::Ghosts;
use self::owners::Owners;
use super::asker::Mark;
use super::position::Key;
use super::slabs::EXTENT_ALIGN;

/// What a run counts as at least: a row, an entry here (300 bytes) and its ghosts. A quota of 2 GiB
/// then holds at most 32,768 runs, which take 12 MiB of memory.
pub const RUN_BYTES_MIN: u64 = 64 << 10;

/// The most runs that are held, whatever the quota is.
pub const RUNS_MAX: usize = 1 << 16;

/// The part of the quota that is the small queue.
const SMALL_PART: u64 = 10;

/// The part of the quota that one cause of pulls may have; but a run of 4 MiB it may always have.
const OWNER_PART: u64 = 10;
const OWNER_BYTES_MIN: u64 = 4 << 20;

/// Counts of readers saturate here.
const READS_MAX: u8 = 3;

/// With so many readers a run goes on to the main queue.
const READS_TO_MAIN: u8 = 2;

/// A run that nobody reads for so long is let go.
const UNREAD_MAX: Duration = Duration::from_hours(7 * 24);

/// A run of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// The root's key.
    pub key: Key,
    /// Its number.
    pub run: u64,
}

/// In which queue a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Where new ones stand.
    Small,
    /// Where those stand that were read.
    Main,
}

/// How a run stands: what a row has to keep of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The bytes of its leaves.
    pub bytes: u64,
    /// In which queue.
    pub queue: Queue,
    /// Its place there: who has less came before.
    pub order: u64,
    /// Distinct readers, at most 3, less one for each round in the main queue.
    pub reads: u8,
    /// When it was admitted, or last read.
    pub used: Duration,
}

/// Something has changed, and its row with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The run has another place.
    Moved(RunId),
    /// The run is gone.
    Gone {
        /// Which.
        run: RunId,
        /// Its bytes.
        bytes: u64,
        /// Why.
        why: Why,
    },
    /// Nothing is left of this root, and its nodes are gone, too.
    RootGone(Key),
}

/// Why a run is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Others need its place.
    Space,
    /// The cause of its pull has others, and more than its part.
    Owner,
    /// Nobody read it for a week.
    Unread,
    /// It was dropped on purpose, or could not be read.
    Dropped,
}

/// There is no room, whatever is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for {bytes} bytes")]
pub struct NoRoom {
    /// How many bytes were to be held.
    pub bytes: u64,
}

/// The replicas that are held; see the module's head.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    quota: u64,
    used: u64,
    small_bytes: u64,
    node_bytes: u64,
    runs: BTreeMap<RunId, Slot>,
    small: BTreeMap<u64, RunId>,
    main: BTreeMap<u64, RunId>,
    roots: BTreeMap<Key, Root>,
    owners: Owners,
    ghosts: Ghosts,
    next_order: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    standing: Standing,
    /// Those whose asks caused the pull: their reads prove nothing.
    causes: [Option<Mark>; 2],
    /// The last readers that counted.
    readers: [Option<u32>; READS_MAX as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Root {
    runs: usize,
    node_bytes: u64,
}

impl Cache {
    /// Nothing is held.
    #[must_use]
    pub fn new(quota: u64) -> Self {
        Self {
            quota,
            ..Self::default()
        }
    }

    /// Takes a run in, and lets go of others until there is room.
    ///
    /// # Errors
    /// [`NoRoom`] where the run is larger than what the quota leaves beside the nodes of roots; all
    /// is as it was before.
    pub fn insert(
        &mut self,
        id: RunId,
        bytes: u64,
        causes: &[Mark],
        now: Duration,
    ) -> Result<Vec<Change>, NoRoom> {
        let mut changes = Vec::new();
        if self.runs.contains_key(&id) {
            return Ok(changes);
        }
        let weight = weight(bytes);
        if weight > self.quota.saturating_sub(self.pinned_bytes(id.key)) {
            return Err(NoRoom { bytes });
        }
        let groups: Vec<u32> = causes.iter().take(2).map(|it| it.group).collect();
        self.make_owners_fit(&groups, weight, id.key, &mut changes);
        self.make_room(weight, Some(id.key), &mut changes);
        let queue = match self.ghosts.remove(id) {
            true => Queue::Main,
            false => Queue::Small,
        };
        self.owners.add(self.next_order, &groups, weight);
        let mut kept = [None; 2];
        for (to, from) in kept.iter_mut().zip(causes) {
            *to = Some(*from);
        }
        self.place(id, bytes, queue, now, kept);
        Ok(changes)
    }

    /// Takes note of the nodes of a root, which are held while one of its runs is, and until
    /// [`settle`](Self::settle).
    ///
    /// # Errors
    /// [`NoRoom`], as [`insert`](Self::insert).
    pub fn insert_nodes(&mut self, key: Key, bytes: u64) -> Result<Vec<Change>, NoRoom> {
        let mut changes = Vec::new();
        if bytes > self.quota.saturating_sub(self.pinned_bytes(key)) {
            return Err(NoRoom { bytes });
        }
        self.make_room(bytes, Some(key), &mut changes);
        self.restore_nodes(key, bytes);
        Ok(changes)
    }

    /// A pull has ended: where it left no run, its nodes go.
    pub fn settle(&mut self, key: Key) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.roots.get(&key).is_some_and(|it| it.runs == 0) {
            self.drop_root(key, &mut changes);
        }
        changes
    }

    /// A reader has read a run; `true` if it counts: it is neither a cause of the pull nor one of
    /// the last readers.
    pub fn read(&mut self, id: RunId, by: Mark, now: Duration) -> bool {
        let Some(slot) = self.runs.get_mut(&id) else {
            return false;
        };
        slot.standing.used = now;
        let is_cause = slot.causes.iter().flatten().any(|it| it.who == by.who);
        if is_cause || slot.readers.contains(&Some(by.who)) {
            return false;
        }
        slot.readers.rotate_right(1);
        if let Some(first) = slot.readers.first_mut() {
            *first = Some(by.who);
        }
        slot.standing.reads = slot.standing.reads.saturating_add(1).min(READS_MAX);
        true
    }

    /// Lets go of runs until at least so many bytes are free that were not: a user's data needs them.
    pub fn release(&mut self, bytes: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let target = self.used.saturating_sub(bytes);
        while self.used > target && self.evict(None, &mut changes) {}
        changes
    }

    /// Sets the quota, and lets go of runs until what is held fits it.
    pub fn set_quota(&mut self, quota: u64) -> Vec<Change> {
        self.quota = quota;
        let mut changes = Vec::new();
        self.make_room(0, None, &mut changes);
        changes
    }

    /// Lets go of all runs of a root.
    pub fn remove_root(&mut self, key: Key) -> Vec<Change> {
        let mut changes = Vec::new();
        let first = RunId { key, run: 0 };
        let last = RunId { key, run: u64::MAX };
        let runs: Vec<_> = self.runs.range(first..=last).map(|(id, _)| *id).collect();
        for id in runs {
            self.remove(id, Why::Dropped, &mut changes);
        }
        changes.extend(self.settle(key));
        changes
    }

    /// Lets go of a run, which could not be read.
    pub fn remove_run(&mut self, id: RunId) -> Vec<Change> {
        let mut changes = Vec::new();
        self.remove(id, Why::Dropped, &mut changes);
        changes
    }

    /// Lets go of what nobody has read for a week.
    pub fn expire(&mut self, now: Duration) -> Vec<Change> {
        let is_old = |it: &Slot| now.saturating_sub(it.standing.used) >= UNREAD_MAX;
        let old: Vec<_> = self
            .runs
            .iter()
            .filter(|(_, it)| is_old(it))
            .map(|(id, _)| *id)
            .collect();
        let mut changes = Vec::new();
        for id in old {
            self.remove(id, Why::Unread, &mut changes);
        }
        changes
    }

    /// Brings back a run that a row tells of. Who caused it, and who read it, is not known any more.
    /// After the last of them, [`set_quota`](Self::set_quota) makes them fit.
    pub fn restore(&mut self, id: RunId, standing: Standing) {
        if self.runs.contains_key(&id) {
            return;
        }
        self.next_order = self.next_order.max(standing.order);
        let queue = self.queue_mut(standing.queue);
        let mut order = standing.order;
        while queue.contains_key(&order) {
            // Two rows of one place: what wrote them was cut off between the two.
            order = order.saturating_add(1);
        }
        queue.insert(order, id);
        let reads = standing.reads.min(READS_MAX);
        self.next_order = self.next_order.max(order.saturating_add(1));
        self.account(id, weight(standing.bytes), standing.queue);
        self.runs.insert(
            id,
            Slot {
                standing: Standing {
                    order,
                    reads,
                    ..standing
                },
                causes: [None; 2],
                readers: [None; READS_MAX as usize],
            },
        );
    }

    /// Brings back the nodes of a root that a row tells of.
    pub fn restore_nodes(&mut self, key: Key, bytes: u64) {
        let root = self.roots.entry(key).or_default();
        root.node_bytes = root.node_bytes.saturating_add(bytes);
        self.used = self.used.saturating_add(bytes);
        self.node_bytes = self.node_bytes.saturating_add(bytes);
    }

    /// How a run stands.
    #[must_use]
    pub fn standing(&self, id: RunId) -> Option<Standing> {
        self.runs.get(&id).map(|it| it.standing)
    }

    /// The runs that are held of a root, in order.
    pub fn runs_of(&self, key: Key) -> impl Iterator<Item = u64> {
        let (first, last) = (RunId { key, run: 0 }, RunId { key, run: u64::MAX });
        self.runs.range(first..=last).map(|(id, _)| id.run)
    }

    /// The roots of which something is held.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.roots.keys().copied()
    }

    /// What all that is held counts as, in bytes; never more than the quota.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The quota in bytes.
    #[must_use]
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// How many runs are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether no run is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The nodes that stay when all else is let go.
    fn pinned_bytes(&self, key: Key) -> u64 {
        self.roots.get(&key).map_or(0, |it| it.node_bytes)
    }

    fn queue_mut(&mut self, queue: Queue) -> &mut BTreeMap<u64, RunId> {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    fn place(
        &mut self,
        id: RunId,
        bytes: u64,
        queue: Queue,
        now: Duration,
        causes: [Option<Mark>; 2],
    ) {
        let order = self.next_order;
        self.next_order = order.saturating_add(1);
        self.queue_mut(queue).insert(order, id);
        self.account(id, weight(bytes), queue);
        let standing = Standing {
            bytes,
            queue,
            order,
            reads: 0,
            used: now,
        };
        let readers = [None; READS_MAX as usize];
        self.runs.insert(
            id,
            Slot {
                standing,
                causes,
                readers,
            },
        );
    }

    fn account(&mut self, id: RunId, weight: u64, queue: Queue) {
        self.used = self.used.saturating_add(weight);
        if queue == Queue::Small {
            self.small_bytes = self.small_bytes.saturating_add(weight);
        }
        let root = self.roots.entry(id.key).or_default();
        root.runs = root.runs.saturating_add(1);
    }

    /// Lets go of what a cause of pulls has beyond its part. The nodes of `spared` stay, of which a
    /// run is about to come in.
    fn make_owners_fit(
        &mut self,
        groups: &[u32],
        weight: u64,
        spared: Key,
        changes: &mut Vec<Change>,
    ) {
        let most = self
            .quota
            .checked_div(OWNER_PART)
            .unwrap_or_default()
            .max(OWNER_BYTES_MIN);
        for group in groups {
            while let Some(order) = self.owners.beyond(*group, groups, weight, most) {
                let first = self.small.get(&order).or_else(|| self.main.get(&order));
                match first.copied() {
                    Some(id) => self.remove_sparing(id, Why::Owner, Some(spared), changes),
                    None => self.owners.remove(order),
                }
            }
        }
    }

    fn make_room(&mut self, bytes: u64, spared: Option<Key>, changes: &mut Vec<Change>) {
        let is_full = |it: &Self| {
            it.used.saturating_add(bytes) > it.quota || (bytes > 0 && it.runs.len() >= RUNS_MAX)
        };
        while is_full(self) && self.evict(spared, changes) {}
    }

    /// Lets go of one run, or, where there is none, of the nodes of a root without one; `false` where
    /// there is nothing. The nodes of `spared` stay.
    fn evict(&mut self, spared: Option<Key>, changes: &mut Vec<Change>) -> bool {
        let before = self.runs.len();
        let small_most = self.quota.checked_div(SMALL_PART).unwrap_or_default();
        if self.small_bytes >= small_most || self.main.is_empty() {
            self.evict_small(small_most, spared, changes);
        }
        if self.runs.len() == before {
            self.evict_main(spared, changes);
        }
        if self.runs.len() < before {
            return true;
        }
        let bare = self
            .roots
            .iter()
            .find(|(key, it)| it.runs == 0 && spared != Some(**key));
        match bare.map(|(key, _)| *key) {
            Some(key) => self.drop_root(key, changes),
            None => return false,
        }
        true
    }

    fn evict_small(&mut self, small_most: u64, spared: Option<Key>, changes: &mut Vec<Change>) {
        while let Some((_, id)) = self.small.first_key_value() {
            let id = *id;
            if self
                .runs
                .get(&id)
                .is_some_and(|it| it.standing.reads >= READS_TO_MAIN)
            {
                self.move_to_main(id, changes);
                let main_most = self.quota.saturating_sub(small_most);
                if self.main_bytes() > main_most {
                    self.evict_main(spared, changes);
                }
                continue;
            }
            self.remove_sparing(id, Why::Space, spared, changes);
            self.ghosts.insert(id, self.runs.len());
            return;
        }
    }

    fn evict_main(&mut self, spared: Option<Key>, changes: &mut Vec<Change>) {
        while let Some((_, id)) = self.main.first_key_value() {
            let id = *id;
            let Some(slot) = self.runs.get_mut(&id).filter(|it| it.standing.reads > 0) else {
                self.remove_sparing(id, Why::Space, spared, changes);
                return;
            };
            slot.standing.reads = slot.standing.reads.saturating_sub(1);
            self.move_to_main(id, changes);
        }
    }

    fn main_bytes(&self) -> u64 {
        self.used
            .saturating_sub(self.node_bytes)
            .saturating_sub(self.small_bytes)
    }

    /// Puts a run at the head of the main queue.
    fn move_to_main(&mut self, id: RunId, changes: &mut Vec<Change>) {
        let order = self.next_order;
        let Some(slot) = self.runs.get_mut(&id) else {
            return;
        };
        self.next_order = order.saturating_add(1);
        let before = std::mem::replace(&mut slot.standing.order, order);
        let was_in = std::mem::replace(&mut slot.standing.queue, Queue::Main);
        let weight = weight(slot.standing.bytes);
        self.queue_mut(was_in).remove(&before);
        if was_in == Queue::Small {
            self.small_bytes = self.small_bytes.saturating_sub(weight);
        }
        self.main.insert(order, id);
        self.owners.moved(before, order);
        changes.push(Change::Moved(id));
    }

    fn remove(&mut self, id: RunId, why: Why, changes: &mut Vec<Change>) {
        self.remove_sparing(id, why, None, changes);
    }

    fn remove_sparing(
        &mut self,
        id: RunId,
        why: Why,
        spared: Option<Key>,
        changes: &mut Vec<Change>,
    ) {
        let Some(slot) = self.runs.remove(&id) else {
            return;
        };
        let Standing {
            bytes,
            queue,
            order,
            ..
        } = slot.standing;
        self.queue_mut(queue).remove(&order);
        self.owners.remove(order);
        self.used = self.used.saturating_sub(weight(bytes));
        if queue == Queue::Small {
            self.small_bytes = self.small_bytes.saturating_sub(weight(bytes));
        }
        changes.push(Change::Gone {
            run: id,
            bytes,
            why,
        });
        let Some(root) = self.roots.get_mut(&id.key) else {
            return;
        };
        root.runs = root.runs.saturating_sub(1);
        if root.runs == 0 && spared != Some(id.key) {
            self.drop_root(id.key, changes);
        }
    }

    fn drop_root(&mut self, key: Key, changes: &mut Vec<Change>) {
        if let Some(root) = self.roots.remove(&key) {
            self.used = self.used.saturating_sub(root.node_bytes);
            self.node_bytes = self.node_bytes.saturating_sub(root.node_bytes);
            changes.push(Change::RootGone(key));
        }
    }
}

/// What a run of so many bytes counts as: the pages that they lie in, so that what is held takes no
/// more of the disk than the quota says.
fn weight(bytes: u64) -> u64 {
    let pages = bytes.checked_next_multiple_of(EXTENT_ALIGN.into());
    pages.unwrap_or(bytes).max(RUN_BYTES_MIN)
}
