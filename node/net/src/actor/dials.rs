//! Dials that run, and who waits for a peer to be connected.
//!
//! Owns the answers to every waiter: each is answered once, when the peer is connected by whatever
//! means, or when all dials made for them have failed. Addresses that become known while a dial
//! runs are tried beside it. A dial that another part of the node made for the same peer is waited
//! for, a moment; when it takes longer or fails, whose addresses were not the waiter's, one is made
//! for the waiters.

use std::collections::HashMap;
use std::io;

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::ConnectError;
use crate::error::Refusal;
use crate::scope::without_peer;
use crate::seeds::SeedId;
use crate::transport::WrongPeer;

/// Who wait for connections at once; more are told that the node is busy.
const WAITERS_MAX: usize = 1024;

/// Dials for the waiters of one peer at once: the first, and some with addresses that became known
/// meanwhile.
const DIALS_PER_PEER_MAX: usize = 4;

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
    /// What runs for waiters, by peer.
    dialled: HashMap<PeerId, Dialled>,
}

/// The dials that run for the waiters of one peer.
#[derive(Default)]
struct Dialled {
    /// At most [`DIALS_PER_PEER_MAX`].
    dials: Vec<ConnectionId>,
    /// All addresses that they try.
    addresses: Vec<Multiaddr>,
}

impl Dials {
    /// Lets `waiter` wait for `peer`; says whether it does.
    pub(super) fn wait(&mut self, peer: PeerId, waiter: Waiter) -> bool {
        if !self.has_room() {
            waiter.send(Err(ConnectError::Busy)).ok();
            return false;
        }
        self.waiting.entry(peer).or_default().push(waiter);
        true
    }

    /// Whether somebody waits for `peer`.
    pub(super) fn is_waited_for(&self, peer: &PeerId) -> bool {
        self.waiting.contains_key(peer)
    }

    /// Whether a dial for the waiters of `peer` runs.
    pub(super) fn is_dialled(&self, peer: &PeerId) -> bool {
        self.dialled.contains_key(peer)
    }

    /// Those of `addresses` that another dial for the waiters of `peer` is to try: none that is
    /// being tried, and none at all when enough dials run.
    pub(super) fn untried(&self, peer: &PeerId, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        if let Some(running) = self.dialled.get(peer) {
            if running.dials.len() >= DIALS_PER_PEER_MAX {
                return Vec::new();
            }
            addresses.retain(|address| !running.addresses.contains(address));
        }
        addresses
    }

    /// Peers that somebody waits for and no dial of their own runs for.
    pub(super) fn unattended(&self) -> Vec<PeerId> {
        let waited_for = self.waiting.keys().copied();
        waited_for.filter(|peer| !self.is_dialled(peer)).collect()
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
        self.running.insert(id, origin);
    }

    /// Takes note of a dial that runs for the waiters of `peer`.
    pub(super) fn started_for(&mut self, id: ConnectionId, peer: PeerId, tried: Vec<Multiaddr>) {
        let dialled = self.dialled.entry(peer).or_default();
        dialled.dials.push(id);
        dialled.addresses.extend(tried);
        self.running.insert(id, Origin::Waiters(peer));
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
            // While others of them run, the waiters wait.
            Some(Origin::Waiters(peer)) if self.is_dialled(&peer) => {}
            Some(Origin::Waiters(peer)) => self.refuse(&peer, error),
            Some(Origin::Address(waiter)) => {
                waiter.send(Err(error.clone())).ok();
            }
            Some(Origin::Seed(dialled)) => seed = Some(dialled),
            None => {}
        }
        let redial = peer.filter(|peer| self.is_waited_for(peer) && !self.is_dialled(peer));
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
        if let Origin::Waiters(peer) = &origin
            && let Some(dialled) = self.dialled.get_mut(peer)
        {
            dialled.dials.retain(|dial| *dial != id);
            if dialled.dials.is_empty() {
                self.dialled.remove(peer);
            }
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
            if let [(address, error)] = attempts.as_slice()
                && let Some(wrong) = wrong_peer(error)
            {
                return ConnectError::WrongPeer {
                    address: without_peer(address),
                    obtained: wrong.obtained,
                };
            }
            let attempts = attempts
                .into_iter()
                .map(|(address, error)| (without_peer(&address), in_words(root_cause(&error))));
            ConnectError::Unreachable(attempts.collect())
        }
        DialError::NoAddresses => peer.map_or(
            ConnectError::Unreachable(Vec::new()),
            ConnectError::NoAddresses,
        ),
        DialError::DialPeerConditionFalse(_) | DialError::Aborted => ConnectError::Aborted,
    }
}

/// What it means that a certificate was not accepted. Peers judge certificates by one rule, in which
/// they can only disagree over what day it is.
fn in_words(cause: String) -> String {
    if cause.contains("InvalidCertValidity") {
        return "its certificate is not valid today, as the clock of this machine has it"
            .to_owned();
    }
    let is_refused = ["CertificateUnknown", "CertificateExpired"]
        .iter()
        .any(|alert| cause.contains(alert));
    match is_refused {
        true => "it does not accept this node's certificate: its clock may be wrong".to_owned(),
        false => cause,
    }
}

/// The peer that an attempt has reached in place of the one that was meant.
fn wrong_peer(error: &TransportError<io::Error>) -> Option<WrongPeer> {
    let TransportError::Other(error) = error else {
        return None;
    };
    // Transports wrap the errors of those below as causes of their own.
    let mut cause = error
        .get_ref()
        .map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(wrong) = error.downcast_ref::<WrongPeer>() {
            return Some(*wrong);
        }
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
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

    #[test]
    fn a_certificate_that_is_not_accepted_is_put_down_to_a_clock() {
        let of = |cause: &str| in_words(cause.to_owned());
        let ours = of("invalid peer certificate: Other(OtherError(InvalidCertValidity))");
        assert!(ours.contains("the clock of this machine"), "{ours}");
        let theirs = of("received fatal alert: CertificateUnknown");
        assert!(theirs.contains("its clock may be wrong"), "{theirs}");
        assert_eq!(of("connection refused"), "connection refused");
    }

    type Answer = oneshot::Receiver<Result<PeerId, ConnectError>>;

    fn wait(dials: &mut Dials, peer: PeerId) -> (bool, Answer) {
        let (waiter, answer) = oneshot::channel();
        (dials.wait(peer, waiter), answer)
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn one_dial_serves_all_waiters() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        let (waits, mut first) = wait(&mut dials, peer);
        assert!(waits);
        assert_eq!(dials.unattended(), [peer]);
        dials.started_for(id(1), peer, vec![address(1)]);
        let (waits, mut second) = wait(&mut dials, peer);
        assert!(waits && dials.is_dialled(&peer) && dials.unattended().is_empty());
        assert!(dials.untried(&peer, vec![address(1)]).is_empty());
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
    fn addresses_that_come_later_are_tried_beside_those_that_hang() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        let (_, mut answer) = wait(&mut dials, peer);
        dials.started_for(id(1), peer, vec![address(1), address(2)]);
        let untried = dials.untried(&peer, vec![address(2), address(3)]);
        assert_eq!(untried, [address(3)]);
        dials.started_for(id(2), peer, untried);
        dials.failed(id(1), Some(peer), &ConnectError::Timeout);
        assert!(answer.try_recv().is_err(), "the second dial runs");
        dials.failed(id(2), Some(peer), &ConnectError::Timeout);
        assert!(matches!(answer.try_recv(), Ok(Err(ConnectError::Timeout))));
        for n in 10..10 + DIALS_PER_PEER_MAX {
            dials.started_for(id(n), peer, vec![]);
        }
        assert!(dials.untried(&peer, vec![address(9)]).is_empty());
    }

    #[test]
    fn a_foreign_dial_that_fails_is_followed_by_an_own_one() {
        let mut dials = Dials::default();
        let peer = PeerId::random();
        let (_, mut answer) = wait(&mut dials, peer);
        let failed = dials.failed(id(7), Some(peer), &ConnectError::Timeout);
        assert_eq!(failed.redial, Some(peer));
        assert!(answer.try_recv().is_err(), "still waiting");
        dials.started_for(id(8), peer, vec![address(1)]);
        let failed = dials.failed(id(6), Some(peer), &ConnectError::Timeout);
        assert_eq!(failed.redial, None, "an own one runs");
        dials.failed(id(8), Some(peer), &ConnectError::Timeout);
        assert!(matches!(answer.try_recv(), Ok(Err(ConnectError::Timeout))));
    }

    #[test]
    fn another_peer_at_an_address_is_told_through_all_layers() {
        let obtained = PeerId::random();
        let error = io::Error::other(io::Error::other(WrongPeer { obtained }));
        let attempts = vec![(address(1), TransportError::Other(error))];
        let error = connect_error(DialError::Transport(attempts), None);
        let ConnectError::WrongPeer { obtained: told, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(told, obtained);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(wrong_peer(&TransportError::Other(refused)).is_none());
    }

    #[test]
    fn waiters_are_bounded_and_those_who_left_make_room() {
        let mut dials = Dials::default();
        let mut answers: Vec<Answer> = (0..WAITERS_MAX)
            .map(|_| wait(&mut dials, PeerId::random()).1)
            .collect();
        let (waits, mut answer) = wait(&mut dials, PeerId::random());
        assert!(!waits);
        assert!(matches!(answer.try_recv(), Ok(Err(ConnectError::Busy))));
        answers.pop();
        assert!(wait(&mut dials, PeerId::random()).0);
    }
}
