//! A wanted block and where it is on its way.
//!
//! ```text
//!            launch           launch            arrived
//!   Queued ----------> InFlight ----> Doubled ----------> Verifying{other}
//!     ^  ^              |    ^          |                    |        |
//!     |  '--ground------'    '--ground--'                    |        '--> verified: removed
//!     '---------------- rejected (InFlight where another is) '
//! ```

use std::time::Duration;

use super::rank::Rank;
use super::tier::Tier;
use super::types::{Part, ProviderId, WantId};

/// One request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) provider: ProviderId,
    pub(super) asked: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantState {
    /// In the queue.
    Queued,
    /// Asked of one provider.
    InFlight(Flight),
    /// Asked of two, since the first was too slow.
    Doubled(Flight, Flight),
    /// Received and in the caller's hands; a second request may still be on its way.
    Verifying {
        from: ProviderId,
        bytes: u32,
        other: Option<Flight>,
    },
}

#[derive(Debug)]
pub(super) struct Want {
    pub(super) state: WantState,
    /// Which part of the root it is.
    pub(super) part: Part,
    /// The providers, by slot, that said they lack it.
    pub(super) lacking: u64,
    /// The holders and members, by slot, that say they have it.
    pub(super) held: u64,
    /// The cheapest of these; owners, where there is none.
    pub(super) tier: Tier,
    /// Its place in the queue, while it is queued.
    pub(super) rank: Rank,
    /// What a request for it counts for in windows and budget, in bytes.
    pub(super) charge: u32,
    /// How often it was moved away from a provider; every move doubles the next one's time.
    pub(super) moves: u8,
    /// A cheaper provider took it over from a dearer one; that happens once.
    pub(super) is_taken_over: bool,
}

impl Want {
    pub(super) fn flights(&self) -> impl Iterator<Item = Flight> + use<> {
        let (first, second) = match self.state {
            WantState::Queued => (None, None),
            WantState::InFlight(flight) => (Some(flight), None),
            WantState::Doubled(first, second) => (Some(first), Some(second)),
            WantState::Verifying { other, .. } => (other, None),
        };
        first.into_iter().chain(second)
    }

    pub(super) fn flight_at(&self, provider: ProviderId) -> Option<Flight> {
        self.flights().find(|flight| flight.provider == provider)
    }

    /// Adds a request; `false` where none may be added.
    pub(super) fn launch(&mut self, flight: Flight) -> bool {
        self.state = match self.state {
            WantState::Queued => WantState::InFlight(flight),
            WantState::InFlight(first) => WantState::Doubled(first, flight),
            WantState::Doubled(..) | WantState::Verifying { .. } => return false,
        };
        true
    }

    /// Takes the request at that provider away, and returns it.
    pub(super) fn ground(&mut self, provider: ProviderId) -> Option<Flight> {
        let grounded = self.flight_at(provider)?;
        self.state = match self.state {
            WantState::Doubled(first, second) if first == grounded => WantState::InFlight(second),
            WantState::Doubled(first, _) => WantState::InFlight(first),
            WantState::Verifying { from, bytes, .. } => WantState::Verifying {
                from,
                bytes,
                other: None,
            },
            WantState::Queued | WantState::InFlight(_) => WantState::Queued,
        };
        Some(grounded)
    }

    /// The block came from that provider, whose request was grounded; `false` where another
    /// provider's block is being verified already.
    pub(super) fn arrived(&mut self, from: ProviderId, bytes: u32) -> bool {
        let other = match self.state {
            WantState::Queued => None,
            WantState::InFlight(flight) => Some(flight),
            WantState::Doubled(..) | WantState::Verifying { .. } => return false,
        };
        self.state = WantState::Verifying { from, bytes, other };
        true
    }

    /// The block being verified is not it: the want queues, or waits for its other request.
    /// Returns the block's length; `None` where no block of that provider's is being verified.
    pub(super) fn rejected(&mut self, sender: ProviderId) -> Option<u32> {
        match self.state {
            WantState::Verifying { from, bytes, other } if from == sender => {
                self.state = other.map_or(WantState::Queued, WantState::InFlight);
                Some(bytes)
            }
            _ => None,
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        self.state == WantState::Queued
    }
}

/// A request in a provider's books, oldest first.
pub(super) type Asked = (Duration, WantId);
