//! What it costs to ask a provider, and how much of the queue is to be had at which cost.

use super::types::Class;

/// What it costs to ask a provider; the cheapest comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// A holder or member that is near.
    Near,
    /// A holder or member that is far.
    Far,
    /// An owner: it serves everybody.
    #[default]
    Owner,
}

impl Tier {
    pub(super) fn of(class: Class, is_near: bool) -> Self {
        match class {
            Class::Owner => Self::Owner,
            Class::Holder | Class::Member { .. } if is_near => Self::Near,
            Class::Holder | Class::Member { .. } => Self::Far,
        }
    }
}

/// What is in the queue, in bytes, by its charge.
#[derive(Debug, Default)]
pub(super) struct QueuedBytes {
    all: u64,
    /// What holders and members have of it, and what near ones have.
    pub(super) shared: u64,
    pub(super) near: u64,
}

impl QueuedBytes {
    pub(super) fn add(&mut self, tier: Tier, charge: u32) {
        self.change(tier, |bytes| bytes.saturating_add(u64::from(charge)));
    }

    pub(super) fn take(&mut self, tier: Tier, charge: u32) {
        self.change(tier, |bytes| bytes.saturating_sub(u64::from(charge)));
    }

    /// What only owners have.
    pub(super) fn unshared(&self) -> u64 {
        self.all.saturating_sub(self.shared)
    }

    fn change(&mut self, tier: Tier, change: impl Fn(u64) -> u64) {
        self.all = change(self.all);
        if tier <= Tier::Far {
            self.shared = change(self.shared);
        }
        if tier <= Tier::Near {
            self.near = change(self.near);
        }
    }
}
