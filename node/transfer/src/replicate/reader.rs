//! Replicas of one root, as one reader has them: a served stream, or a fetch of this node.
//!
//! What a replica store holds is sealed, so only a reader that brings the root finds anything. Each
//! run that a peer reads is counted once it was sent; what this node reads itself is no demand.

use std::net::IpAddr;

use libp2p::PeerId;
use shoal_protocol::{
    address::{Cid, Digest},
    exchange::LeafRanges,
    replicate::{Key, Mark},
};
use shoal_store::{
    Cut, ReadError,
    replicas::{ReplicaBlock, Replicas},
};

use super::{Clock, Replicator, caller::may_read, caller_of, key_of};

/// The replicas of one root. Cheap to clone; only one clone counts what is sent.
#[derive(Clone)]
pub struct Reader {
    replicator: Replicator,
    root: Digest,
    key: Key,
}

/// Counts what a peer reads, run by run.
pub(crate) struct Readings {
    replicas: Replicas,
    clock: Clock,
    key: Key,
    by: Mark,
    /// The run that is being read, and how many bytes of it were sent.
    run: Option<(u64, u64)>,
}

impl Replicator {
    /// The replicas of a root as a peer at an address may read them: none where copies are not kept
    /// for such a peer.
    #[must_use]
    pub(crate) fn reader_for(
        &self,
        root: &Cid,
        (peer, ip): (PeerId, Option<IpAddr>),
    ) -> Option<Reader> {
        let nearness = self.inner.net.nearness(&peer).unwrap_or_default();
        let may_read = may_read(self.inner.config.scope, nearness, ip);
        self.reader(root).filter(|_| may_read)
    }

    /// The replicas of a root; none of content that stands in its own address.
    #[must_use]
    pub fn reader(&self, root: &Cid) -> Option<Reader> {
        Some(Reader {
            replicator: self.clone(),
            root: root.digest()?,
            key: key_of(root)?,
        })
    }
}

impl Reader {
    /// The leaves that are held and served, if any are: none while copies rest, on a battery or a metered
    /// line, or once what they may use of the month is used up for today.
    #[must_use]
    pub fn held(&self) -> Option<LeafRanges> {
        if self.replicator.inner.resting().is_some() {
            return None;
        }
        self.replicator.replicas().held(self.key)
    }

    /// What is held of a block, without its bytes; none where it is not, or cannot be found out.
    /// Blocking.
    #[must_use]
    pub fn find(&self, block: &Digest) -> Option<ReplicaBlock> {
        let found = self.replicator.replicas().find(&self.root, block);
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a replica cannot be looked up");
            None
        })
    }

    /// A part of a block. Blocking.
    ///
    /// # Errors
    /// [`ReadError::NotHere`] for a block that is not held; any other where it cannot be read.
    pub fn read_part(
        &self,
        block: &Digest,
        cut: Cut,
        into: &mut Vec<u8>,
    ) -> Result<ReplicaBlock, ReadError> {
        self.replicator
            .replicas()
            .read(&self.root, block, cut, into)
    }

    /// A whole block for this node itself, if it is held and sound. Blocking.
    #[must_use]
    pub(crate) fn read_own(&self, block: &Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let whole = Cut {
            offset: 0,
            bytes_max: usize::MAX,
        };
        self.read_part(block, whole, &mut bytes).ok()?;
        // What was decrypted is verified like what comes from anybody else.
        block.matches(&bytes).then(|| {
            let read = &self.replicator.inner.counters.bytes_own;
            read.add_all(bytes.len() as u64);
            bytes
        })
    }

    /// Begins to count what a peer reads, connected from this address.
    pub(crate) fn readings(&self, peer: PeerId, ip: Option<IpAddr>) -> Readings {
        let inner = &self.replicator.inner;
        let number = inner.people().numbers.key(&peer);
        let caller = caller_of(&inner.net, number, (peer, ip));
        let asker = caller.asker(inner.config.diversity);
        Readings {
            replicas: inner.replicas.clone(),
            clock: inner.clock,
            key: self.key,
            by: inner.replicas.decide(|helper| helper.mark(&asker)),
            run: None,
        }
    }

    /// So many bytes were sent to a peer.
    pub(crate) fn sent(&self, bytes: u64) {
        self.replicator.inner.counters.bytes_out.add_all(bytes);
    }
}

impl Readings {
    /// So many bytes of a run were sent.
    pub(crate) fn read(&mut self, run: u64, bytes: u64) {
        match &mut self.run {
            Some((current, sent)) if *current == run => *sent = sent.saturating_add(bytes),
            _ => {
                self.end_run();
                self.run = Some((run, bytes));
            }
        }
    }

    fn end_run(&mut self) {
        if let Some((run, bytes)) = self.run.take() {
            let now = self.clock.now();
            self.replicas.served(self.key, run, bytes, self.by, now);
        }
    }
}

impl Drop for Readings {
    fn drop(&mut self) {
        self.end_run();
    }
}
