//! Where in its files a replica store puts bytes: slabs of 64 MiB, of which any part may be a hole.
//!
//! Owns which parts of the slabs are in use, so that the number of files follows what is held, and
//! so that at a start everything that no row accounts for is known and can be punched out. It touches
//! no file: the caller writes, punches and deletes. Rows are the truth: [`Slabs::restore`] takes the
//! extents that rows name, and refuses those that cannot be.

use std::collections::BTreeMap;

/// The length of a slab file: large enough that a quota of 2 GiB is 32 of them, small enough to be
/// deleted soon after most of it is gone.
pub const SLAB_BYTES: u32 = 64 << 20;

/// What an extent is rounded up to, so that a hole gives back all that it covers: a page, which is
/// the block of the usual file systems.
pub const EXTENT_ALIGN: u32 = 4096;

/// The most slabs, 4 TiB.
const SLABS_MAX: u32 = 1 << 16;

/// A part of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// The number of the slab.
    pub slab: u32,
    /// Where it begins, a multiple of [`EXTENT_ALIGN`].
    pub offset: u32,
    /// How many bytes of it are used, at least one.
    pub bytes: u32,
}

/// What the caller is to do after an extent was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Punch this hole.
    Hole(Extent),
    /// Delete the slab's file: nothing is left in it.
    Slab(u32),
}

/// The slabs that exist, and what of them is free; see the module's head.
#[derive(Clone, Debug, Default)]
pub struct Slabs {
    /// Of each slab its free parts, from offset to length.
    free: BTreeMap<u32, BTreeMap<u32, u32>>,
}

impl Slabs {
    /// The slabs in which these extents lie, and the extents that cannot be: beyond a slab, not
    /// aligned, or over one before.
    pub fn restore(extents: impl IntoIterator<Item = Extent>) -> (Self, Vec<Extent>) {
        let (mut slabs, mut refused) = (Self::default(), Vec::new());
        for extent in extents {
            if !slabs.occupy(extent) {
                refused.push(extent);
            }
        }
        slabs.free.retain(|_, parts| !is_empty(parts));
        (slabs, refused)
    }

    /// Room for so many bytes, in the first place where they fit; a new slab where there is none.
    /// `None` for no bytes, or more than a slab has.
    pub fn take(&mut self, bytes: u32) -> Option<Extent> {
        let room = aligned(bytes).filter(|room| (1..=SLAB_BYTES).contains(room))?;
        let fits = |parts: &BTreeMap<u32, u32>| {
            let part = parts.iter().find(|(_, len)| **len >= room);
            part.map(|(offset, _)| *offset)
        };
        let found = self
            .free
            .iter()
            .find_map(|(slab, parts)| Some((*slab, fits(parts)?)));
        let (slab, offset) = match found {
            Some(found) => found,
            None => {
                let unused = (0..SLABS_MAX).find(|slab| !self.free.contains_key(slab))?;
                (unused, 0)
            }
        };
        let extent = Extent {
            slab,
            offset,
            bytes,
        };
        self.occupy(extent).then_some(extent)
    }

    /// Gives an extent back; `None` if it was not in use.
    pub fn give_back(&mut self, extent: Extent) -> Option<Freed> {
        let room = aligned(extent.bytes)?;
        let parts = self.free.get_mut(&extent.slab)?;
        let end = extent
            .offset
            .checked_add(room)
            .filter(|end| *end <= SLAB_BYTES)?;
        let overlaps = parts
            .range(..end)
            .next_back()
            .is_some_and(|(offset, len)| offset.saturating_add(*len) > extent.offset);
        if overlaps {
            return None;
        }
        let (mut start, mut len) = (extent.offset, room);
        let before = parts
            .range(..start)
            .next_back()
            .map(|(offset, len)| (*offset, *len));
        if let Some((offset, before)) =
            before.filter(|(offset, len)| offset.saturating_add(*len) == start)
        {
            (start, len) = (offset, len.saturating_add(before));
        }
        if let Some(after) = parts.remove(&end) {
            len = len.saturating_add(after);
        }
        parts.insert(start, len);
        if is_empty(parts) {
            self.free.remove(&extent.slab);
            return Some(Freed::Slab(extent.slab));
        }
        Some(Freed::Hole(Extent {
            bytes: room,
            ..extent
        }))
    }

    /// The numbers of the slabs that exist; any other slab file belongs to nobody.
    pub fn slabs(&self) -> impl Iterator<Item = u32> {
        self.free.keys().copied()
    }

    /// Everything in these slabs that no extent accounts for: to be punched out at a start, for a
    /// crash may have left bytes there.
    pub fn gaps(&self) -> impl Iterator<Item = Extent> {
        self.free.iter().flat_map(|(slab, parts)| {
            let gap = |(offset, bytes): (&u32, &u32)| Extent {
                slab: *slab,
                offset: *offset,
                bytes: *bytes,
            };
            parts.iter().map(gap)
        })
    }

    /// Takes an extent out of what is free; `false`, and nothing changed, where it is not free.
    fn occupy(&mut self, extent: Extent) -> bool {
        let Extent {
            slab,
            offset,
            bytes,
        } = extent;
        let Some(room) = aligned(bytes).filter(|room| *room > 0) else {
            return false;
        };
        let Some(end) = offset.checked_add(room).filter(|end| *end <= SLAB_BYTES) else {
            return false;
        };
        if slab >= SLABS_MAX || !offset.is_multiple_of(EXTENT_ALIGN) {
            return false;
        }
        let parts = self
            .free
            .entry(slab)
            .or_insert_with(|| BTreeMap::from([(0, SLAB_BYTES)]));
        let part = parts
            .range(..=offset)
            .next_back()
            .map(|(start, len)| (*start, *len));
        let Some((start, len)) = part.filter(|(start, len)| start.saturating_add(*len) >= end)
        else {
            return false;
        };
        parts.remove(&start);
        if start < offset {
            parts.insert(start, offset.saturating_sub(start));
        }
        let rest = start.saturating_add(len).saturating_sub(end);
        if rest > 0 {
            parts.insert(end, rest);
        }
        true
    }
}

fn is_empty(parts: &BTreeMap<u32, u32>) -> bool {
    parts.get(&0) == Some(&SLAB_BYTES)
}

fn aligned(bytes: u32) -> Option<u32> {
    bytes.checked_next_multiple_of(EXTENT_ALIGN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const MIB: u32 = 1 << 20;

    #[test]
    fn holes_are_filled_before_a_slab_is_added() {
        let mut slabs = Slabs::default();
        let all: Vec<_> = (0..17).map(|_| slabs.take(4 * MIB).unwrap()).collect();
        assert_eq!(slabs.slabs().collect::<Vec<_>>(), [0, 1]);
        assert_eq!((all[15].offset, all[16].slab), (60 * MIB, 1));
        let hole = Freed::Hole(all[3]);
        assert_eq!(slabs.give_back(all[3]), Some(hole));
        assert_eq!(slabs.give_back(all[3]), None, "it was given back before");
        assert_eq!(slabs.take(4 * MIB), Some(all[3]));
        assert_eq!(slabs.give_back(all[16]), Some(Freed::Slab(1)));
        assert_eq!(slabs.slabs().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut slabs = Slabs::default();
        assert_eq!(slabs.take(0), None);
        assert_eq!(slabs.take(SLAB_BYTES + 1), None);
        assert_eq!(slabs.take(u32::MAX), None);
        assert_eq!(slabs.take(SLAB_BYTES).unwrap().offset, 0);
        let extent = |slab, offset, bytes| Extent {
            slab,
            offset,
            bytes,
        };
        let good = [extent(3, 0, 10), extent(3, 8192, MIB)];
        let bad = [
            extent(3, 4096, 4097),
            extent(3, 0, 1),
            extent(4, 7, 1),
            extent(4, SLAB_BYTES - 4096, 4097),
            extent(4, u32::MAX - 4095, 1),
            extent(4, 0, 0),
            extent(u32::MAX, 0, 1),
        ];
        let (slabs, refused) = Slabs::restore(good.into_iter().chain(bad));
        assert_eq!(refused, bad);
        assert_eq!(slabs.slabs().collect::<Vec<_>>(), [3]);
        let gaps: Vec<_> = slabs.gaps().map(|it| (it.offset, it.bytes)).collect();
        assert_eq!(gaps, [(4096, 4096), (8192 + MIB, SLAB_BYTES - MIB - 8192)]);
    }

    proptest! {
        #[test]
        fn extents_never_overlap_and_rows_bring_all_back(
            steps in proptest::collection::vec((any::<bool>(), 1..9 * MIB, any::<prop::sample::Index>()), 1..200)
        ) {
            let mut slabs = Slabs::default();
            let mut held: Vec<Extent> = Vec::new();
            for (is_taken, bytes, at) in steps {
                if is_taken || held.is_empty() {
                    held.push(slabs.take(bytes).unwrap());
                } else {
                    let extent = held.swap_remove(at.index(held.len()));
                    prop_assert!(slabs.give_back(extent).is_some());
                }
                let mut parts: Vec<(u32, u32, u32)> = held.iter().chain(&slabs.gaps().collect::<Vec<_>>())
                    .map(|it| (it.slab, it.offset, aligned(it.bytes).unwrap())).collect();
                parts.sort_unstable();
                let count = u32::try_from(slabs.slabs().count()).unwrap();
                let bytes: u64 = parts.iter().map(|it| u64::from(it.2)).sum();
                prop_assert_eq!(bytes, u64::from(count) * u64::from(SLAB_BYTES), "held and free make up the slabs");
                prop_assert!(parts.windows(2).all(|it| it[0].0 < it[1].0 || it[0].1 + it[0].2 == it[1].1));
            }
            let (again, refused) = Slabs::restore(held.iter().rev().copied());
            prop_assert!(refused.is_empty());
            prop_assert_eq!(again.free, slabs.free);
        }
    }
}
