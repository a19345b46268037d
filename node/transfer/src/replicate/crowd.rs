//! Offering copies to helpers that are near the askers of a crowd, and far from here.
//!
//! Whom, what and when is decided by those who serve; this connects with the helper, offers, and says
//! what came of it. It moves no content: the helper fetches what it takes.

use std::{net::IpAddr, time::Duration};

use libp2p::PeerId;
use shoal_ground::deadline::within;
use shoal_protocol::{
    address::Cid,
    exchange::List,
    replicate::{
        Mark, Offer, PeerKey, Reply,
        offers::{Planned, Replied},
    },
};

use super::{Named, Replicator, caller_of, counters};

/// A helper that cannot be reached for so long is silent.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

impl Replicator {
    /// Whether this node offers copies to helpers near those who ask, when many do.
    pub(crate) fn offers_copies(&self) -> bool {
        self.inner.config.offers && self.is_on() && self.inner.lasts
    }

    /// The number of a peer that reads here from an address, and as who it counts.
    pub(crate) fn asker(&self, peer: PeerId, ip: Option<IpAddr>) -> (PeerKey, Mark) {
        let inner = &self.inner;
        let number = self.number(&peer);
        let asker = caller_of(&inner.net, number, (peer, ip)).asker(inner.config.diversity);
        (number, inner.replicas.decide(|helper| helper.mark(&asker)))
    }

    /// The number of a peer.
    pub(crate) fn number(&self, peer: &PeerId) -> PeerKey {
        self.inner.people().numbers.key(peer)
    }

    /// Whether this is the node's own id.
    pub(crate) fn is_itself(&self, peer: &PeerId) -> bool {
        *peer == self.inner.net.peer_id()
    }

    /// Offers a stripe of a root to a helper that was named.
    pub(crate) async fn offer_copy(&self, root: &Cid, planned: &Planned, helper: Named) -> Replied {
        let inner = &self.inner;
        if let Some(told_by) = helper.told_by {
            inner
                .net
                .learn(helper.peer, helper.addresses, told_by)
                .await;
        }
        let connecting = inner.net.connect_peer(helper.peer, Vec::new());
        let connected = within(CONNECT_PATIENCE, connecting).await;
        let link = match connected {
            Some(Ok(_)) => inner.link_to(helper.peer),
            Some(Err(_)) | None => None,
        };
        let Some(link) = link else {
            inner.counters.replies.add("unreachable");
            return Replied::Silent;
        };
        let offer = Offer {
            id: 0,
            root: root.clone(),
            leaves: planned.shape.leaves,
            size: planned.shape.size,
            ranges: planned.ranges.clone(),
            asked: planned.asked,
            holders: List::default(),
        };
        let Some(reply) = link.offer(offer).await else {
            inner.counters.replies.add("silent");
            return Replied::Silent;
        };
        let word = counters::of_reply(&reply);
        inner.counters.replies.add(word);
        tracing::debug!(peer = %helper.peer, reply = word, "a copy was offered for a crowd");
        match reply {
            Reply::Accept { .. } => Replied::Accepted,
            Reply::Decline { retry_s, .. } => Replied::Declined {
                retry: Duration::from_secs(retry_s.into()),
            },
        }
    }
}
