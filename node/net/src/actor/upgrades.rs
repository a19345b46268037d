//! From QUIC to TCP: a peer that is connected by QUIC only is dialled by TCP before a stream that
//! will carry bulk is opened.
//!
//! Whatever made the connection, an address of the local network, a record or the other side, QUIC
//! may have been there first or have been all that was known. Owns who waits for TCP and which of
//! these dials run. It refuses to hold anybody up for long: the waiter sets the deadline, and after
//! a failure nobody waits for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::Actor;
use crate::order::kind_of;
use crate::scope::Kind;

/// After a dial by TCP has failed, how long none is made.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Who wait for TCP to one peer at once: a transfer and a search or two. More do not wait.
const WAITERS_PER_PEER_MAX: usize = 32;

/// Where somebody waits; told when there is nothing to wait for any more.
pub(super) type Waiter = oneshot::Sender<()>;

/// All upgrades; an entry lives as long as its peer is connected.
#[derive(Default)]
pub(super) struct Upgrades {
    peers: HashMap<PeerId, Upgrade>,
}

#[derive(Default)]
struct Upgrade {
    dial: Option<ConnectionId>,
    waiting: Vec<Waiter>,
    not_before: Option<Instant>,
}

impl Upgrades {
    /// Lets `waiter` wait; who is one too many goes on.
    fn wait(&mut self, peer: PeerId, waiter: Waiter) {
        let waiting = &mut self.peers.entry(peer).or_default().waiting;
        waiting.retain(|waiter| !waiter.is_closed());
        if waiting.len() < WAITERS_PER_PEER_MAX {
            waiting.push(waiter);
        } else {
            waiter.send(()).ok();
        }
    }

    fn is_waited_for(&self, peer: &PeerId) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|upgrade| !upgrade.waiting.is_empty())
    }

    /// Whether a dial runs.
    fn is_running(&self, peer: &PeerId) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|upgrade| upgrade.dial.is_some())
    }

    /// Whether a dial may be made.
    fn is_due(&self, peer: &PeerId, now: Instant) -> bool {
        let upgrade = self.peers.get(peer);
        upgrade.is_none_or(|it| it.dial.is_none() && it.not_before.is_none_or(|at| at <= now))
    }

    fn started(&mut self, peer: PeerId, id: ConnectionId) {
        self.peers.entry(peer).or_default().dial = Some(id);
    }

    /// There is nothing to wait for any more: TCP is there, or will not be.
    fn settle(&mut self, peer: &PeerId) {
        if let Some(upgrade) = self.peers.get_mut(peer) {
            for waiter in upgrade.waiting.drain(..) {
                waiter.send(()).ok();
            }
        }
    }

    /// A dial has failed; if it was one of these, nobody waits any more.
    fn failed(&mut self, peer: &PeerId, id: ConnectionId, now: Instant) {
        if let Some(upgrade) = self.peers.get_mut(peer)
            && upgrade.dial == Some(id)
        {
            upgrade.dial = None;
            upgrade.not_before = Some(now + RETRY_DELAY);
            self.settle(peer);
        }
    }

    /// A dial has succeeded.
    fn connected(&mut self, peer: &PeerId, id: ConnectionId) {
        if let Some(upgrade) = self.peers.get_mut(peer)
            && upgrade.dial == Some(id)
        {
            upgrade.dial = None;
        }
    }

    /// The peer is gone.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }
}

impl Actor {
    /// Tells `waiter` when `peer` is connected by TCP, or cannot be, as far as is known.
    pub(super) fn handle_prefer_tcp(&mut self, peer: PeerId, waiter: Waiter) {
        let is_known = self.peers.is_member(&peer);
        if !self.peers.contains(&peer)
            || self.has_tcp(&peer)
            // Where a peer is, it says itself within a moment.
            || (is_known && !self.upgrade(peer))
        {
            waiter.send(()).ok();
            return;
        }
        self.upgrades.wait(peer, waiter);
        if !is_known {
            // What a link says is known before.
            self.upgrade(peer);
        }
    }

    /// Dials a peer by TCP that is connected by QUIC only, where that may help; says whether a dial
    /// runs.
    pub(super) fn upgrade(&mut self, peer: PeerId) -> bool {
        if self.upgrades.is_running(&peer) {
            return true;
        }
        if self.has_tcp(&peer) || !self.upgrades.is_due(&peer, Instant::now()) {
            return false;
        }
        let mut addresses: Vec<Multiaddr> = self.addresses_to_dial(peer, Vec::new());
        addresses.retain(|address| kind_of(address) == Kind::Tcp);
        if addresses.is_empty() {
            return false;
        }
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.upgrades.started(peer, id);
                true
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "not dialled by TCP");
                false
            }
        }
    }

    fn has_tcp(&self, peer: &PeerId) -> bool {
        self.swarm.behaviour().exchange.has_tcp(peer)
    }

    /// A connection with `peer` is there.
    pub(super) fn upgrade_connected(&mut self, peer: PeerId, id: ConnectionId) {
        self.upgrades.connected(&peer, id);
        if self.has_tcp(&peer) {
            self.upgrades.settle(&peer);
        }
    }

    /// A peer has said where it is.
    pub(super) fn upgrade_identified(&mut self, peer: PeerId, is_dialler: bool) {
        // The side that has dialled knows that it reaches the other one.
        if (is_dialler || self.upgrades.is_waited_for(&peer)) && !self.upgrade(peer) {
            self.upgrades.settle(&peer);
        }
    }

    pub(super) fn upgrade_failed(&mut self, peer: PeerId, id: ConnectionId) {
        self.upgrades.failed(&peer, id, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(upgrades: &mut Upgrades, peer: PeerId) -> oneshot::Receiver<()> {
        let (waiter, told) = oneshot::channel();
        upgrades.wait(peer, waiter);
        told
    }

    #[test]
    fn who_waits_is_told_of_either_end_and_a_failure_is_remembered() {
        let (mut upgrades, peer) = (Upgrades::default(), PeerId::random());
        let (now, id) = (Instant::now(), ConnectionId::new_unchecked(7));
        assert!(upgrades.is_due(&peer, now) && !upgrades.is_running(&peer));
        let mut told = waiter(&mut upgrades, peer);
        upgrades.started(peer, id);
        assert!(upgrades.is_running(&peer) && !upgrades.is_due(&peer, now));
        upgrades.failed(&peer, ConnectionId::new_unchecked(8), now);
        assert!(told.try_recv().is_err(), "another dial");
        upgrades.failed(&peer, id, now);
        assert!(told.try_recv().is_ok());
        assert!(!upgrades.is_due(&peer, now) && !upgrades.is_running(&peer));
        assert!(upgrades.is_due(&peer, now + RETRY_DELAY));
        upgrades.forget(&peer);
        assert!(upgrades.is_due(&peer, now));
    }

    #[test]
    fn waiters_are_bounded() {
        let (mut upgrades, peer) = (Upgrades::default(), PeerId::random());
        let mut waiting: Vec<_> = (0..WAITERS_PER_PEER_MAX)
            .map(|_| waiter(&mut upgrades, peer))
            .collect();
        let mut one_more = waiter(&mut upgrades, peer);
        assert!(one_more.try_recv().is_ok());
        waiting.pop();
        let mut another = waiter(&mut upgrades, peer);
        assert!(another.try_recv().is_err());
        upgrades.settle(&peer);
        assert!(another.try_recv().is_ok());
        assert!(!upgrades.is_waited_for(&peer));
    }
}
