//! Dials that run, and who waits for a peer to be connected.
//!
//! Owns the answers to every waiter: each is answered once, when the peer is connected by whatever
//! means, or when a dial made for them failed. A dial that another part of the node made for the
//! same peer is waited for; when that one fails, whose addresses were not the waiter's, one is made
//! for the waiters.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::swarm::{ConnectionId, DialError};
use tokio::sync::oneshot;

use crate::net::ConnectError;
use crate::net::limits::Refusal;
use crate::net::seeds::SeedId;

/// Who wait for connections at once; more are told that the node is busy.
const WAITERS_MAX: usize = 1024;

/// Where somebody waits for a connection.
pub(super) type Waiter = oneshot::Sender<Result<PeerId, ConnectError>>;

/// Why a dial was made.
pub(super) enum Origin {
    /// For those who wait for this peer.
    Waiters(PeerId),
    /// For one who has an address but does not know whose.
    Address(Waiter),
    /// To join the network.
    Seed(SeedId),
}

/// All dials of the actor and all waiters.
#[derive(Default)]
pub(super) struct Dials {
    running: HashMap<ConnectionId, Origin>,
    waiting: HashMap<PeerId, Vec<Waiter>>,
    /// Peers that a dial for waiters runs for; at most one each.
    dialled: HashMap<PeerId, ConnectionId>,
}

impl Dials {
    /// Lets `waiter` wait for `peer`; says whether a dial has to be made.
    pub(super) fn wait(&mut self, peer: PeerId, waiter: Waiter) -> bool {
        if !self.has_room() {
            waiter.send(Err(ConnectError::Busy)).ok();
            return false;
        }
        self.waiting.entry(peer).or_default().push(waiter);
        !self.dialled.contains_key(&peer)
    }

    /// Whether one more may wait; forgets who has gone.
    pub(super) fn has_room(&mut self) -> bool {
        let waiting = |dials: &Self| {
            dials.waiting.values().map(Vec::len).sum::<usize>() + dials.running.len()
        };
        if waiting(self) >= WAITERS_MAX {
            self.waiting.retain(|_, waiters| {
                waiters.retain(|waiter| !waiter.is_closed());
                !waiters.is_empty()
            });
        }
        waiting(self) < WAITERS_MAX
    }

    /// Takes note of a dial that runs.
    pub(super) fn started(&mut self, id: ConnectionId, origin: Origin) {
        if let Origin::Waiters(peer) = origin {
            self.dialled.insert(peer, id);
        }
        self.running.insert(id, origin);
    }

    /// A connection with `peer` is there: answers its waiters, and gives the seed that the dial was
    /// made for.
    pub(super) fn connected(&mut self, id: ConnectionId, peer: PeerId) -> Option<SeedId> {
        for waiter in self.waiting.remove(&peer).unwrap_or_default() {
            waiter.send(Ok(peer)).ok();
        }
        match self.finish(id)? {
            Origin::Seed(seed) => Some(seed),
            Origin::Address(waiter) => {
                waiter.send(Ok(peer)).ok();
                None
            }
            Origin::Waiters(_) => None,
        }
    }

    /// A dial, of whomever, for `peer` failed.
    pub(super) fn failed(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        error: &ConnectError,
    ) -> Failed {
        let mut seed = None;
        match self.finish(id) {
            Some(Origin::Waiters(peer)) => self.refuse(&peer, error),
            Some(Origin::Address(waiter)) => {
                waiter.send(Err(error.clone())).ok();
            }
            Some(Origin::Seed(dialled)) => seed = Some(dialled),
            None => {}
        }
        let redial =
            peer.filter(|peer| self.waiting.contains_key(peer) && !self.dialled.contains_key(peer));
        Failed { seed, redial }
    }

    /// Tells the waiters of a peer that it cannot be connected.
    pub(super) fn refuse(&mut self, peer: &PeerId, error: &ConnectError) {
        for waiter in self.waiting.remove(peer).unwrap_or_default() {
            waiter.send(Err(error.clone())).ok();
        }
    }

    fn finish(&mut self, id: ConnectionId) -> Option<Origin> {
        let origin = self.running.remove(&id)?;
        if let Origin::Waiters(peer) = &origin {
            self.dialled.remove(peer);
        }
        Some(origin)
    }
}

/// What a failed dial asks for.
pub(super) struct Failed {
    /// The seed that it was made for.
    pub(super) seed: Option<SeedId>,
    /// A peer whose waiters need a dial of their own.
    pub(super) redial: Option<PeerId>,
}

/// Says in this crate's words why a dial failed.
pub(super) fn connect_error(error: DialError, peer: Option<PeerId>) -> ConnectError {
    match error {
        DialError::LocalPeerId { address } => ConnectError::Myself(address),
        DialError::WrongPeerId { obtained, address } => {
            ConnectError::WrongPeer { address, obtained }
        }
        DialError::Denied { cause } => match cause.downcast::<Refusal>() {
            Ok(refusal) => ConnectError::Refused(refusal),
            Err(_) => ConnectError::Refused(Refusal::Established),
        },
        DialError::Transport(attempts) => {
            let attempts = attempts
                .into_iter()
                .map(|(address, error)| (address, root_cause(&error)));
            ConnectError::Unreachable(attempts.collect())
        }
        DialError::NoAddresses => peer.map_or(
            ConnectError::Unreachable(Vec::new()),
            ConnectError::NoAddresses,
        ),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => ConnectError::Aborted,
    }
}

/// The innermost cause: what a person can act on, without the layers that passed it on.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    type Answer = oneshot::Receiver<Result<PeerId, ConnectError>>;

    fn wait(dials: &mut Dials, peer: PeerId) -> (bool, Answer) {
        let (waiter, answer) = oneshot::channel();
        (dials.wait(peer, waiter), answer)
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn one_dial_serves_all_waiters() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        let (dial, mut first) = wait(&mut dials, peer);
        assert!(dial);
        dials.started(id(1), Origin::Waiters(peer));
        let (dial, mut second) = wait(&mut dials, peer);
        assert!(!dial, "the running dial is waited for");
        assert_eq!(
            dials.connected(id(9), peer),
            None,
            "whoever made the connection"
        );
        assert!(matches!(first.try_recv(), Ok(Ok(_))));
        assert!(matches!(second.try_recv(), Ok(Ok(_))));
        dials.failed(id(1), Some(peer), &ConnectError::Timeout);
        assert!(dials.running.is_empty() && dials.dialled.is_empty() && dials.waiting.is_empty());
    }

    #[test]
    fn a_foreign_dial_that_fails_is_followed_by_an_own_one() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        let (_, mut answer) = wait(&mut dials, peer);
        let failed = dials.failed(id(7), Some(peer), &ConnectError::Timeout);
        assert_eq!(failed.redial, Some(peer));
        assert!(answer.try_recv().is_err(), "still waiting");
        dials.started(id(8), Origin::Waiters(peer));
        let failed = dials.failed(id(6), Some(peer), &ConnectError::Timeout);
        assert_eq!(failed.redial, None, "an own one runs");
        dials.failed(id(8), Some(peer), &ConnectError::Timeout);
        assert!(matches!(answer.try_recv(), Ok(Err(ConnectError::Timeout))));
    }

    #[test]
    fn waiters_are_bounded_and_those_who_left_make_room() {
        let mut dials = Dials::default();
        let mut answers: Vec<Answer> = (0..WAITERS_MAX)
            .map(|_| wait(&mut dials, PeerId::random()).1)
            .collect();
        let (dial, mut answer) = wait(&mut dials, PeerId::random());
        assert!(!dial);
        assert!(matches!(answer.try_recv(), Ok(Err(ConnectError::Busy))));
        answers.pop();
        assert!(wait(&mut dials, PeerId::random()).0);
    }
}
