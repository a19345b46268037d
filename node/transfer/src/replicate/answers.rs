//! What this node answers to what near peers ask, offer and tell.

use std::sync::Arc;

use libp2p::PeerId;
use shoal_protocol::{
    address::Cid,
    exchange::{LeafRanges, List},
    near::Nearness,
    replicate::{
        Answer, HELD_RANGES_MAX, Held, Hello, Key, NearTable, Offer, PeerKey, Reply, Shape, Why,
        helper::{Accepted, Around, Ask, Helper, HelperConfig, Offered, Said},
    },
};
use shoal_store::replicas::Cause;

use super::{
    Named, PullOrder, ReplicatorInner, Word,
    caller::{Asked, Caller},
    counters, key_of, named,
    people::Named as Unknown,
};

/// When an offer of something that is here already, or must not be here, is of use again.
const NEVER_S: u32 = 24 * 3600;

/// When an offer is of use again that came while everything was busy.
const BUSY_S: u32 = 30;

impl ReplicatorInner {
    /// A peer has said who it is: a near helper enters the tables, and those that it names are tried.
    pub(super) fn greeted(&self, peer: PeerId, hello: &Hello) {
        let near = self.net.near_peers().into_iter().find(|it| it.peer == peer);
        let has_changed = {
            let mut people = self.people();
            let own = self.net.peer_id();
            let unknown = hello.near.iter().filter_map(|it| named(it.clone(), peer));
            let unknown = unknown.filter(|it| it.peer != own).map(|it| Unknown {
                peer: it.peer,
                addresses: it.addresses,
                told_by: peer,
            });
            if near.is_some() {
                people.hear_of(unknown);
            }
            match near {
                Some(near) if hello.helps => people.place(&peer, near.nearness, near.rtt),
                Some(_) | None => people.displace(&peer),
            }
        };
        if has_changed {
            tracing::debug!(%peer, helps = hello.helps, "the near helpers have changed");
            self.placed.notify_waiters();
            self.nudge.notify_one();
        }
    }

    /// Runs a question to the policy in the neighbourhood of a peer.
    fn ask_policy<T>(
        &self,
        nearness: Nearness,
        ask: impl FnOnce(&mut Helper, Around<'_>) -> T,
    ) -> T {
        let mut people = self.people();
        let table: &NearTable = &people.circle(nearness).table;
        let around = Around {
            table,
            is_lan: nearness == Nearness::Lan,
        };
        self.replicas.decide(|helper| ask(helper, around))
    }

    /// Answers an ask of a near peer.
    pub(super) async fn answer(&self, caller: &Caller, key: Key, stays: bool) -> Answer {
        let now = self.clock.now();
        let ask = Ask {
            key,
            peer: caller.key,
            by: caller.asker(self.config.diversity),
            stays,
        };
        let said = self.ask_policy(caller.nearness, |helper, around| {
            helper.asked(&ask, around, now)
        });
        let answer = match said {
            // What is not confirmed on the disk yet is on its way.
            Said::Have { wants, .. } => match self.replicas.held(key) {
                Some(ranges) => Answer::Have { ranges, wants },
                None => Answer::Pulling,
            },
            Said::Pulling => Answer::Pulling,
            Said::Want => Answer::Want,
            Said::Elsewhere { holders, closer } => Answer::Elsewhere {
                holders: List::first_of(self.named_to(holders, caller.peer).await),
                closer: List::first_of(self.named_to(closer, caller.peer).await),
            },
            Said::No { why, retry } => Answer::No {
                why,
                retry_s: seconds(retry),
            },
        };
        self.counters.answered.add(counters::of_answer(&answer));
        tracing::debug!(peer = %caller.peer, answer = counters::of_answer(&answer), "asked");
        answer
    }

    async fn named_to(
        &self,
        keys: Vec<PeerKey>,
        to: PeerId,
    ) -> Vec<shoal_protocol::replicate::Peer> {
        let peers: Vec<_> = {
            let people = self.people();
            keys.into_iter()
                .filter_map(|key| people.numbers.peer(key))
                .collect()
        };
        self.introduce(peers, to).await
    }

    /// Replies to an offer. What is accepted is on its way to be pulled.
    pub(super) fn offered(&self, offer: Offer, caller: Caller, asked: Option<Asked>) -> Reply {
        let reply = match self.weigh(offer, caller, asked) {
            Ok(ranges) => Reply::Accept { ranges },
            Err((why, retry_s)) => Reply::Decline { why, retry_s },
        };
        tracing::debug!(peer = %caller.peer, reply = counters::of_reply(&reply), "offered");
        reply
    }

    fn weigh(
        &self,
        offer: Offer,
        caller: Caller,
        asked: Option<Asked>,
    ) -> Result<LeafRanges, (Why, u32)> {
        let (Some(digest), Some(key)) = (offer.root.digest(), key_of(&offer.root)) else {
            return Err((Why::Untrue, NEVER_S));
        };
        if !caller.may_offer(self.config.scope) {
            return Err((Why::Off, NEVER_S));
        }
        if !self.library.marks(&offer.root).may_replicate() {
            return Err((Why::Refused, NEVER_S));
        }
        if self.library.serves(&offer.root) {
            // A copy beside a copy helps nobody. What a fetch keeps to itself is none.
            return Err((Why::Enough, NEVER_S));
        }
        let shape = Shape {
            leaves: offer.leaves,
            size: offer.size,
        };
        let offered = Offered {
            key,
            peer: caller.key,
            by: caller.asker(self.config.diversity),
            is_near: caller.nearness.is_near(),
            stays: asked.is_some_and(|it| it.stays),
            shape,
            ranges: offer.ranges,
            asked: offer.asked,
        };
        let now = self.clock.now();
        // Before it is accepted: what is accepted has to be begun.
        let Ok(place) = self.orders.try_reserve() else {
            return Err((Why::Busy, BUSY_S));
        };
        let accepted = self.ask_policy(caller.nearness, |helper, around| {
            helper.offered(&offered, around, now)
        });
        let accepted = accepted.map_err(|(why, retry)| (why, seconds(retry)))?;
        let cause = match asked.is_some_and(|it| it.is_invited) {
            false => Cause::Offer,
            true if caller.nearness == Nearness::Lan => Cause::Lan,
            true => Cause::Near,
        };
        self.replicas.begin_pull(&digest, cause, now);
        let ranges = accepted.ranges.clone();
        let holders = offer.holders.into_vec().into_iter();
        let mut holders: Vec<_> = holders.filter_map(|it| named(it, caller.peer)).collect();
        holders.push(Named {
            peer: caller.peer,
            addresses: Vec::new(),
            told_by: None,
        });
        holders.retain(|it| it.peer != self.net.peer_id());
        place.send(PullOrder {
            root: offer.root,
            digest,
            accepted,
            shape,
            holders,
        });
        Ok(ranges)
    }

    /// A peer tells what it holds.
    pub(super) fn told(&self, peer: PeerKey, held: Vec<Held>) {
        let now = self.clock.now();
        self.replicas.decide(|helper| {
            for Held { key, ranges, busy } in held {
                helper.told(key, peer, ranges.leaves(), busy, now);
            }
        });
    }

    /// A peer wants to know what this node holds of a key.
    pub(super) fn tell(&self, peer: &PeerId, key: Key) {
        let held = List::first_of([self.held(key)]);
        if let Some(link) = self.people().links.get(peer) {
            link.say(Word::Hold(held));
        }
    }

    /// What this node holds of a key, in as many ranges as are told.
    pub(super) fn held(&self, key: Key) -> Held {
        let ranges = match self.finished.lock().contains(&key) {
            true => LeafRanges::all(),
            false => {
                let ranges = self.replicas.held(key).unwrap_or_default();
                LeafRanges::new(ranges.iter().take(HELD_RANGES_MAX).collect()).unwrap_or_default()
            }
        };
        Held {
            key,
            ranges,
            busy: self.is_busy(),
        }
    }

    /// Offers stripes of a root to the helpers of places that no ask reaches, as far as they are
    /// due: the root is known only while somebody reads or pulls it.
    pub(super) async fn pass_on(self: Arc<Self>, root: Cid) {
        let Some(key) = key_of(&root) else { return };
        // What others asked for may be a share of this node's by now, which its owner keeps to himself.
        if !self.library.marks(&root).may_replicate() {
            return;
        }
        for nearness in [Nearness::Lan, Nearness::Near] {
            while let Some((to, accepted)) = self.next_place(key, nearness) {
                self.offer_on(&root, key, to, accepted.ranges).await;
            }
        }
    }

    fn next_place(&self, key: Key, nearness: Nearness) -> Option<(PeerKey, Accepted)> {
        let now = self.clock.now();
        self.ask_policy(nearness, |helper, around| {
            helper.next_place(key, around, now)
        })
    }

    async fn offer_on(self: &Arc<Self>, root: &Cid, key: Key, to: PeerKey, ranges: LeafRanges) {
        let shape = self.replicas.decide(|helper| helper.shape(key));
        let to = self.people().numbers.peer(to);
        let link = to.and_then(|to| self.link_to(to));
        let (Some(shape), Some(link)) = (shape, link) else {
            return;
        };
        let offer = Offer {
            id: 0,
            root: root.clone(),
            leaves: shape.leaves,
            size: shape.size,
            ranges,
            // What made this node pull it, and what makes others take it.
            asked: HelperConfig::default().need.into(),
            holders: List::default(),
        };
        if let Some(reply) = link.offer(offer).await {
            self.counters.replies.add(counters::of_reply(&reply));
        }
    }
}

fn seconds(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
