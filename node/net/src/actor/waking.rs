//! The actor's part after a gap in this machine's own time: who is still there, who has to be
//! dialled again, and where this node is now.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::swarm::dial_opts::DialOpts;

use super::Actor;
use crate::records::unix_now;

/// How long after a gap a lost connection, or a change of addresses, is blamed on it: a connection
/// that the peer has closed meanwhile is found dead within 20 s, and a network interface takes some
/// seconds to come back.
const WAKING: Duration = Duration::from_secs(60);

/// What is left to do about the last gap.
#[derive(Default)]
pub(super) struct Waking {
    /// The number of the last gap that was noticed.
    seen: u64,
    ended: Option<Instant>,
    /// Peers that were connected, each of which is dialled again once when it is lost.
    missed: HashSet<PeerId>,
}

impl Waking {
    fn is_recent(&self, now: Instant) -> bool {
        self.ended
            .is_some_and(|ended| now.saturating_duration_since(ended) < WAKING)
    }
}

impl Actor {
    /// Looks whether this program has not run for a while, and sees to the connections if so.
    pub(super) fn look_for_gap(&mut self) {
        let gap = self.gaps.look();
        let Some(gap) = gap.filter(|gap| gap.number != self.waking.seen) else {
            return;
        };
        tracing::info!(
            seconds = gap.length.as_secs(),
            "this program did not run for a while"
        );
        self.peers.forget_distances();
        let connected = self.peers.ids();
        self.waking = Waking {
            seen: gap.number,
            ended: Some(gap.ended),
            missed: self.peers.member_ids().collect(),
        };
        self.seeds.hurry();
        self.publish_addresses();
        let behaviour = self.swarm.behaviour_mut();
        // Every peer that lives answers to this; of one that does not, the line is found dead.
        behaviour.identify.push(connected);
        behaviour.ping.hurry();
        behaviour.dht.refresh();
    }

    /// Dials a peer again whose last connection did not outlive a gap.
    pub(super) fn dial_missed(&mut self, peer: PeerId) {
        if !self.waking.is_recent(Instant::now()) || !self.waking.missed.remove(&peer) {
            return;
        }
        let addresses = self.book.addresses(&peer).to_vec();
        if addresses.is_empty() {
            return;
        }
        let opts = DialOpts::peer_id(peer).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(opts) {
            tracing::debug!(%peer, %error, "a peer that was lost is not dialled");
        }
    }

    /// This node is somewhere else than before a gap: what others hold of it names old addresses.
    pub(super) fn announce_after_move(&mut self) {
        if self.waking.is_recent(Instant::now()) {
            self.announcer.hurry_all(unix_now());
        }
    }
}
