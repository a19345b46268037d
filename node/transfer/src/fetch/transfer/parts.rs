//! Asking for blocks and taking that back, without losing what has come of them.
//!
//! What there is of a block when its request ends is kept with the want, and the next request asks
//! for the rest. A block that turns out wrong is blamed on its sender where there is one; of several
//! nobody is blamed, and from then on only bytes of one provider are joined for this block, so that
//! the next answer can be blamed on somebody.

use std::time::Duration;

use shoal_protocol::{
    exchange::Missing,
    planner::{ProviderId, WantId},
};

use super::{
    super::{
        asked::Ask,
        assembly::{Assembly, Slot},
        buffers::Buffers,
        session::Source,
    },
    Transfer, Want,
};

/// What a provider has to have sent of a block that did not become whole, to be asked again as soon
/// as one that has delivered: a second of 16 kB/s.
const DELIVERED_BYTES_MIN: usize = 16 << 10;

impl Want {
    /// A request to `provider`, for what is not here yet.
    pub(super) fn ask(&mut self, id: WantId, provider: ProviderId) -> Ask {
        let joins = |prefix: &Assembly| !self.is_alone || prefix.is_all_of(provider);
        let prefix = match self.prefix.as_ref().is_some_and(joins) {
            true => self.prefix.take(),
            false => None,
        };
        let offset = prefix.as_ref().map_or(0, Assembly::filled);
        let slot = Slot::with(prefix);
        self.slots.push((provider, slot.clone()));
        Ask {
            want: id,
            digest: self.digest,
            bytes_max: self.bytes_max,
            slot,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
        }
    }

    /// How many bytes there are of it, which is not whole yet.
    pub(super) fn held(&self) -> u64 {
        let kept = self.prefix.as_ref().map_or(0, Assembly::filled);
        let coming = self.slots.iter().map(|(_, slot)| slot.filled());
        coming.fold(kept, usize::max) as u64
    }

    /// Ends the request to `provider`, and takes what has come of the block.
    pub(super) fn end_request(&mut self, provider: ProviderId) -> Option<Assembly> {
        let mut ended = self.slots.extract_if(.., |(of, _)| *of == provider);
        ended.find_map(|(_, slot)| slot.close())
    }

    /// Keeps the beginning of a block, if it is the longest that there is.
    fn keep(&mut self, mut beginning: Assembly, buffers: &Buffers) {
        let known = self.prefix.as_ref().map_or(0, Assembly::filled);
        if !self.landing && beginning.filled() > known && beginning.keep(buffers) {
            self.prefix = Some(beginning);
        }
    }
}

impl Drop for Want {
    /// What still comes of it is of no use.
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            slot.close();
        }
    }
}

impl Transfer {
    /// Asks a provider for wants; false when its session cannot take more now or is over.
    pub(super) fn ask(&mut self, provider: ProviderId, ids: &[WantId]) -> bool {
        let Some(session) = self.sessions.get(&provider) else {
            return false;
        };
        let mut asks = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(want) = self.wants.get_mut(id) {
                let ask = want.ask(*id, provider);
                if ask.offset > 0 {
                    tracing::debug!(?provider, offset = ask.offset, "a block goes on");
                    self.planner.resumes(provider, *id, ask.offset);
                }
                asks.push(ask);
            }
        }
        session.want(asks)
    }

    /// Takes a request back.
    pub(super) fn take_back(&mut self, provider: ProviderId, id: WantId) {
        self.end_request(provider, id);
        if let Some(session) = self.sessions.get(&provider) {
            session.cancel(id);
        }
    }

    /// A request has ended; what has come of the block is kept.
    pub(super) fn end_request(&mut self, provider: ProviderId, id: WantId) {
        if let Some(want) = self.wants.get_mut(&id)
            && let Some(beginning) = want.end_request(provider)
        {
            want.keep(beginning, &self.setup.buffers);
        }
    }

    /// All requests to a provider have ended.
    pub(super) fn end_requests(&mut self, provider: ProviderId) {
        let mut most = 0;
        for want in self.wants.values_mut() {
            if let Some(beginning) = want.end_request(provider) {
                let parts = beginning.parts().filter(|(from, _)| *from == provider);
                most = most.max(parts.map(|(_, bytes)| bytes).max().unwrap_or_default());
                want.keep(beginning, &self.setup.buffers);
            }
        }
        if most >= DELIVERED_BYTES_MIN as u64 {
            // Its line may be too slow for a whole block between two breaks.
            self.setup.contacts.delivered(provider);
        }
    }

    /// What a provider has sent of blocks that are not whole is not gone on with.
    pub(super) fn forget_parts_of(&mut self, provider: ProviderId) {
        for want in self.wants.values_mut() {
            want.prefix.take_if(|prefix| prefix.has_any_of(provider));
        }
    }

    /// A provider says that it has no answer to a request.
    pub(super) fn handle_missing(&mut self, source: Source, id: WantId, why: Missing) {
        let provider = source.provider;
        if why == Missing::Beyond {
            return self.handle_misfit(provider, id, self.now());
        }
        self.end_request(provider, id);
        if !self.early_is_missing(source, id) {
            self.planner.block_missing(provider, id, self.now());
        }
    }

    /// What is here of a block does not fit what `provider` has: either is wrong.
    pub(super) fn handle_misfit(&mut self, provider: ProviderId, id: WantId, now: Duration) {
        let Some(want) = self.wants.get_mut(&id) else {
            return self.planner.block_missing(provider, id, now);
        };
        // Its beginning is in the request's slot, and goes with it.
        drop(want.end_request(provider));
        if want.is_alone {
            // It contradicts itself.
            self.planner.block_missing(provider, id, now);
        } else {
            want.is_alone = true;
            self.planner.block_unproven(provider, id, now);
        }
    }

    /// A block of several senders is wrong.
    pub(super) fn handle_unproven(&mut self, provider: ProviderId, id: WantId) {
        tracing::warn!(
            ?provider,
            "a block that several have sent is wrong: it is fetched from one"
        );
        if let Some(want) = self.wants.get_mut(&id) {
            want.landing = false;
            want.is_alone = true;
            want.prefix = None;
        }
        self.planner.block_unproven(provider, id, self.now());
    }
}
