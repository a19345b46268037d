//! Which peers of a transfer have its slots for providers: pure.
//!
//! A part of the slots is for near peers, so that a crowd of far ones does not keep them out. How
//! near a peer is shows only once it is connected: one that was not measured yet may have a slot of
//! either kind.

use shoal_protocol::near::Nearness;

/// Providers of one transfer at a time; more do not fill a link better and cost memory each.
pub(super) const PROVIDERS_MAX: usize = 32;
/// The slots of these that are for near providers: as many as a swarm needs to spread what one of
/// them has.
const NEAR_SLOTS: usize = 8;
/// Providers that are known to be far, as long as nobody has to give way.
const FAR_MAX: usize = PROVIDERS_MAX - NEAR_SLOTS;

/// The providers that work for a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    all: usize,
    /// Those of them that were measured, and are far.
    far: usize,
}

/// Whether one more provider has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is a free one.
    Free,
    /// If a far provider that is idle gives way.
    GiveWay,
    /// There is none.
    None,
}

impl Taken {
    /// Takes note of a provider that works for the transfer.
    pub(super) fn add(&mut self, nearness: Option<Nearness>) {
        self.all += 1;
        self.far += usize::from(nearness == Some(Nearness::Far));
    }

    /// Whether there is a slot for a peer that is this near; none where that was not measured.
    pub(super) fn room(self, nearness: Option<Nearness>) -> Room {
        let is_far = nearness == Some(Nearness::Far);
        let is_full = self.all >= PROVIDERS_MAX;
        match (is_far, is_full) {
            (true, _) if self.far >= FAR_MAX => Room::None,
            (_, false) => Room::Free,
            (false, true) if self.far > FAR_MAX => Room::GiveWay,
            _ => Room::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_slots_are_for_those_that_are_near() {
        const FAR: Option<Nearness> = Some(Nearness::Far);
        const NEAR: Option<Nearness> = Some(Nearness::Near);
        let check = |far: usize, others: usize, nearness, expected| {
            let mut taken = Taken::default();
            (0..far).for_each(|_| taken.add(FAR));
            (0..others).for_each(|n| taken.add([None, NEAR, Some(Nearness::Lan)][n % 3]));
            assert_eq!(taken.room(nearness), expected, "{taken:?}, {nearness:?}");
        };
        check(0, 0, FAR, Room::Free);
        check(23, 0, FAR, Room::Free);
        check(24, 0, FAR, Room::None);
        check(24, 0, None, Room::Free);
        check(24, 7, NEAR, Room::Free);
        check(24, 8, NEAR, Room::None);
        check(0, 32, NEAR, Room::None);
        check(10, 22, FAR, Room::None);
        // Those that turned out to be far give way to others.
        check(32, 0, NEAR, Room::GiveWay);
        check(25, 7, None, Room::GiveWay);
        check(25, 7, FAR, Room::None);
    }
}
