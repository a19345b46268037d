//! What goes into the planner and comes out of it.

use std::time::Duration;

use crate::exchange::LeafRanges;

/// A provider, named by the caller; one id stands for one peer over the whole transfer, so that
/// blame stays with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(pub u32);

/// A block that is wanted, named by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantId(pub u64);

/// What kind of provider it is, and so who is asked before whom: members and holders before owners,
/// and among these near ones before far ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It has the root by itself and serves everybody: it is spared.
    Owner,
    /// It keeps a copy of the root, or of a part of it, and fetches nothing.
    Holder,
    /// It fetches the root itself: what it has grows.
    Member {
        /// What stands for it, as [`Order::Swarm`] has it.
        key: u64,
    },
}

/// What a provider says it has of the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holdings {
    /// Every block.
    Everything,
    /// These leaves, and the nodes above them.
    Leaves(LeafRanges),
    /// Nothing, for now.
    Nothing,
}

impl Holdings {
    /// Whether it says that it has the block. Who has no leaf has none of the nodes above them.
    pub(super) fn has(&self, part: Part) -> bool {
        match (self, part) {
            (Self::Everything, _) => true,
            (Self::Leaves(ranges), Part::Node) => !ranges.is_empty(),
            (Self::Leaves(ranges), Part::Leaf(leaf)) => ranges.contains(leaf),
            (Self::Leaves(_), Part::Unnumbered) | (Self::Nothing, _) => false,
        }
    }

    /// Whether it may have the block although it does not say so: some leaves are there, and nobody
    /// knows which number this one has.
    pub(super) fn may_include(&self, part: Part) -> bool {
        match (self, part) {
            (Self::Leaves(ranges), Part::Unnumbered) => !ranges.is_empty(),
            _ => false,
        }
    }
}

/// Which part of the root a block is, and so who may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A DAG node: whoever has any leaf is taken to have it.
    Node,
    /// The leaf of this number, counted in the order of the whole DAG.
    Leaf(u64),
    /// A leaf whose number is not known: a provider of everything is taken to have it, one of a part
    /// is asked on the chance.
    Unnumbered,
}

/// In which order wants are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By their ids, for who reads the content as it comes.
    ById,
    /// Nodes first, then what the fewest fetchers have, by every fetcher in an order of its own: a
    /// swarm asks a source for each chunk about once, and passes it on.
    Swarm {
        /// What stands for this fetcher: any number that is unlikely to be another's, and the same
        /// that the others know it by.
        key: u64,
    },
}

/// Why the caller takes a provider out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The connection or stream is gone; it may be added again.
    Lost,
    /// It withdrew the root.
    Gone,
    /// It is overloaded: it stays, and is asked again after this time.
    Busy {
        /// What the provider asked for; kept within
        /// [`PlannerConfig::rest`](super::PlannerConfig::rest).
        retry_after: Duration,
    },
}

/// What a provider did that it was dropped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// It sent bytes that are not the block.
    BadBlock,
    /// It answered what it was never asked.
    Unasked,
    /// It had requests and delivered less than the slowest line carries, for longer than a full
    /// queue explains; see [`pace`](crate::exchange::pace).
    Stalled,
}

impl Blame {
    /// Whether the provider is out for the whole transfer; one that stalled may be added again.
    pub fn bars(self) -> bool {
        match self {
            Self::BadBlock | Self::Unasked => true,
            Self::Stalled => false,
        }
    }
}

/// Why a provider was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is out for this transfer.
    #[error("the provider is out for this transfer ({0:?})")]
    Barred(Blame),
    /// [`PROVIDERS_MAX`](super::PROVIDERS_MAX) providers work already.
    #[error("enough providers work for this transfer")]
    Full,
}

/// What an arriving block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Verify it, and report [`block_verified`](super::Planner::block_verified) or
    /// [`block_bad`](super::Planner::block_bad).
    Wanted,
    /// It was asked for but is not needed any more: discard it.
    Late,
    /// It was never asked for: discard it; the next poll drops the provider.
    Unasked,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the provider for these blocks, in this order, in one message.
    Want {
        /// Whom to ask.
        provider: ProviderId,
        /// At most [`WANTS_PER_MESSAGE_MAX`](crate::exchange::WANTS_PER_MESSAGE_MAX), at least one.
        wants: Vec<WantId>,
    },
    /// Tell the provider that the block is no longer needed.
    Cancel {
        /// Whom to tell.
        provider: ProviderId,
        /// What was asked for.
        want: WantId,
    },
    /// Close the stream; the planner has forgotten the provider already.
    Drop {
        /// Whose stream.
        provider: ProviderId,
        /// What for.
        blame: Blame,
    },
}
