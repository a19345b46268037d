//! What a transfer does about each thing that happens to it.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use shoal_protocol::{
    exchange::{Availability, Missing, PeerHint},
    link::Marks,
    near::Nearness,
    planner::{Action, Arrival, Blame, Class, Holdings, ProviderId, Refused, Removal, WantId},
};
use tracing::Instrument as _;

use super::{
    super::{
        FetchError,
        answer::Answer,
        contacts::Contacted,
        discovery::{Candidate, Found},
        landing::LandError,
        progress::Phase,
        reputation::BAN_TIME,
        session::{Received, Serial, Session, SessionEnd, SessionEvent, Source, SourceEvent},
        slots::Room,
    },
    Sink, Transfer,
    landers::{Arrived, Verdict},
    swarm_key,
};

impl Transfer {
    /// A peer asked this node about the root: it may have a part of it by now.
    pub(super) fn handle_guest(&mut self, peer: PeerId) {
        if self.is_acceptable(peer) {
            let candidate = Candidate {
                peer,
                addresses: Vec::new(),
                told_by: None,
            };
            self.setup.contacts.consider(candidate, Instant::now());
        }
    }

    pub(super) fn handle_found(&mut self, found: Found) {
        match found {
            Found::Candidate(candidate) => self.handle_candidate(candidate),
            Found::Nobody { address, why } => self.setup.contacts.nobody_at(address, why),
            Found::RoundEnded { began, asked } => {
                self.setup.contacts.round_ended();
                self.wait.round_ended(began, asked);
            }
            Found::Helper(peer) => self.nominees.add(peer),
            Found::NearAsked => {
                self.wait.near_asked();
                self.nominees.all_asked();
                self.nominate();
            }
        }
    }

    fn handle_candidate(&mut self, candidate: Candidate) {
        if self.is_acceptable(candidate.peer) {
            self.setup.contacts.named(candidate, Instant::now());
        }
    }

    /// Whether a peer may be asked; one that served wrong bytes is out.
    fn is_acceptable(&mut self, peer: PeerId) -> bool {
        if peer == self.setup.net.peer_id() {
            return false;
        }
        let is_out = self.setup.offences.is_out(&peer, &self.setup.root);
        if is_out && !self.setup.contacts.is_out(peer) {
            let answer = Answer::WrongBytesBefore;
            self.setup.contacts.out(peer, answer, Instant::now());
        }
        !is_out
    }

    pub(super) fn handle_contacted(&mut self, contacted: Contacted) {
        match contacted.stream {
            Ok(_) if !self.makes_room_for(contacted.peer) => {
                let answer = Answer::Ended("enough providers work for the fetch".to_owned());
                let contacts = &mut self.setup.contacts;
                contacts.later(contacted.peer, answer, Instant::now());
            }
            Ok(stream) => {
                let provider = self.setup.contacts.activate(contacted.peer);
                tracing::debug!(peer = %contacted.peer, "exchange opened");
                let (root, buffers) = (self.setup.root.clone(), self.setup.buffers.clone());
                let events = self.event_sender.clone();
                self.next_serial += 1;
                let serial = Serial(self.next_serial);
                let source = Source { provider, serial };
                let tasks = &self.setup.tasks;
                let limits = self.setup.limits.clone();
                let session = Session::start(source, stream, root, buffers, limits, events, tasks);
                self.sessions.insert(provider, session);
            }
            Err(error) => {
                tracing::debug!(peer = %contacted.peer, error, "no exchange");
                let contacts = &mut self.setup.contacts;
                contacts.unreachable(contacted.peer, error, Instant::now());
            }
        }
    }

    /// Whether a peer gets a slot among the providers; an idle one that is far may give way for it.
    fn makes_room_for(&mut self, peer: PeerId) -> bool {
        match self.setup.contacts.room_for(&peer) {
            Room::Free => true,
            Room::None => false,
            Room::GiveWay => {
                let Some(idle) = self.idle_far_provider() else {
                    return false;
                };
                let answer = Answer::Ended("it gave way to another provider".to_owned());
                self.drop_session(idle, answer);
                true
            }
        }
    }

    /// A provider that is far, as was measured, and was asked for nothing now.
    fn idle_far_provider(&self) -> Option<ProviderId> {
        let mut providers = self.sessions.keys().copied();
        providers.find(|provider| {
            let peer = self.setup.contacts.peer(*provider);
            let nearness = peer.and_then(|peer| self.setup.net.nearness(&peer));
            nearness == Some(Nearness::Far) && self.planner.is_idle(*provider)
        })
    }

    pub(super) fn handle_events(&mut self, events: &mut Vec<SourceEvent>, sink: &Sink) {
        let now = self.now();
        for (source, event) in events.drain(..) {
            let provider = source.provider;
            // What a session says that was replaced or dropped is not held against the new one.
            if self.sessions.get(&provider).map(Session::serial) != Some(source.serial) {
                continue;
            }
            match event {
                SessionEvent::Block(received) => {
                    self.note_arrival(provider, received.want, received.grown);
                    let is_awaited = match self.is_early(source, &received) {
                        Some(is_awaited) => is_awaited,
                        None => self.arrived(provider, &received, now),
                    };
                    if is_awaited {
                        self.land(provider, received, sink);
                    }
                }
                SessionEvent::Progress(want, grown) => {
                    self.note_arrival(provider, want, grown);
                    self.wait.grew(grown);
                    self.planner.progress(provider, want, grown, now);
                }
                SessionEvent::Missing(want, why) => {
                    tracing::debug!(?provider, ?why, "a provider is missing a block");
                    self.handle_missing(source, want, why);
                    // A part holder was asked on the chance, and says what it has by itself.
                    if why != Missing::Beyond && self.planner.has_everything(provider) {
                        self.wait.lacks(provider, why);
                    }
                }
                SessionEvent::Misfit(want) => {
                    tracing::debug!(?provider, "a block does not fit what there is of it");
                    self.handle_misfit(provider, want, now);
                }
                SessionEvent::Wasted(bytes) => self.planner.wasted(provider, bytes),
                SessionEvent::Available(availability, marks) => {
                    self.hear(&availability, marks);
                    self.handle_availability(provider, availability);
                }
                SessionEvent::Hint(peers) => self.handle_hint(provider, peers),
                SessionEvent::Nominate => {
                    self.nominees.wanted_by(provider);
                    self.nominate();
                }
                SessionEvent::Ended(end) => self.handle_ended(provider, &end),
            }
        }
    }

    /// Bytes came in. A want that is no more was for payload, in all likelihood.
    fn note_arrival(&mut self, provider: ProviderId, want: WantId, grown: u32) {
        let want = self.wants.get(&want);
        let is_content = want.is_none_or(|want| want.is_content);
        let grown = if is_content { grown.into() } else { 0 };
        self.arrivals.came(provider, grown, Instant::now());
    }

    /// Looks at what there is of blocks that are not whole, when it is time.
    pub(super) fn look_at_parts(&mut self) {
        let now = Instant::now();
        if self.arrivals.is_due(now) {
            let coming = self.wants.iter();
            let coming = coming.filter(|(_, want)| want.is_content && !want.landing);
            self.arrivals
                .look(coming.map(|(id, want)| (*id, want.held())), now);
        }
    }

    /// Tells the planner of a block; false when nobody waits for it any more.
    fn arrived(&mut self, provider: ProviderId, received: &Received, now: Duration) -> bool {
        let bytes = u32::try_from(received.block.len()).unwrap_or(u32::MAX);
        let arrival = self
            .planner
            .block_arrived(provider, received.want, bytes, now);
        let want = self.wants.get_mut(&received.want);
        match want {
            Some(want) if arrival == Arrival::Wanted && !want.landing => {
                want.landing = true;
                true
            }
            _ => false,
        }
    }

    /// A provider that has something of the root knows its marks; one that has nothing yet may not.
    fn hear(&self, availability: &Availability, marks: Marks) {
        let knows = match availability {
            Availability::Complete => true,
            Availability::Partial { ranges, .. } | Availability::Held { ranges } => {
                !ranges.is_empty()
            }
            Availability::Absent | Availability::Gone | Availability::Busy { .. } => false,
        };
        if knows {
            self.setup.heard.hear(marks);
        }
    }

    fn handle_availability(&mut self, provider: ProviderId, availability: Availability) {
        let answer = match availability {
            Availability::Complete => {
                let added = self.planner.add_provider(provider, self.now());
                return self.handle_holdings(provider, added, Holdings::Everything);
            }
            Availability::Partial { ranges, coming } => {
                let (added, now) = (self.add_member(provider), self.now());
                if self.handle_added(provider, added, !ranges.is_empty()) {
                    self.planner.set_growing(provider, ranges, &coming, now);
                }
                return;
            }
            Availability::Held { ranges } if ranges.is_all() => {
                let added = self.add_holder(provider);
                return self.handle_holdings(provider, added, Holdings::Everything);
            }
            Availability::Held { ranges } => {
                let added = self.add_holder(provider);
                return self.handle_holdings(provider, added, Holdings::Leaves(ranges));
            }
            Availability::Absent => Answer::Absent,
            Availability::Gone => Answer::Gone,
            Availability::Busy { retry_after_ms } => {
                let retry_after = Duration::from_millis(retry_after_ms.into());
                return self.handle_busy(provider, retry_after);
            }
        };
        self.drop_session(provider, answer);
    }

    fn add_holder(&mut self, provider: ProviderId) -> Result<(), Refused> {
        self.planner.add_provider(provider, self.now())?;
        self.planner.classify(provider, Class::Holder);
        Ok(())
    }

    fn add_member(&mut self, provider: ProviderId) -> Result<(), Refused> {
        let peer = self.setup.contacts.peer(provider);
        let key = peer.map_or(0, |peer| swarm_key(&peer));
        self.planner.add_member(provider, key, self.now())
    }

    /// A provider says what it has: first, or that it has changed.
    fn handle_holdings(
        &mut self,
        provider: ProviderId,
        added: Result<(), Refused>,
        holdings: Holdings,
    ) {
        let has_any = match &holdings {
            Holdings::Leaves(ranges) => !ranges.is_empty(),
            Holdings::Everything => true,
            Holdings::Nothing => false,
        };
        if self.handle_added(provider, added, has_any) {
            self.planner.set_availability(provider, holdings);
        }
    }

    /// A provider that says what it has was added, or not; `false` ends its session.
    fn handle_added(
        &mut self,
        provider: ProviderId,
        added: Result<(), Refused>,
        has_any: bool,
    ) -> bool {
        if let Err(refused) = added {
            self.drop_session(provider, Answer::Ended(refused.to_string()));
            return false;
        }
        if has_any && self.setup.progress.snapshot().phase == Phase::Finding {
            self.setup.progress.phase(Phase::Listing);
        }
        if let Some(session) = self.sessions.get_mut(&provider)
            && session.is_new()
        {
            self.setup.contacts.promised(provider);
            self.distances_at = Instant::now();
        }
        true
    }

    /// A provider has no time: what it was asked for is asked elsewhere, and it is left alone.
    fn handle_busy(&mut self, provider: ProviderId, retry_after: Duration) {
        let session = self.sessions.get_mut(&provider);
        if session.is_some_and(Session::is_new) {
            // It may still name others before it closes the stream.
            let contacts = &mut self.setup.contacts;
            return contacts.busy(provider, retry_after, Instant::now());
        }
        let busy = Removal::Busy { retry_after };
        self.planner.remove_provider(provider, busy, self.now());
    }

    fn handle_hint(&mut self, from: ProviderId, peers: Vec<PeerHint>) {
        let told_by = self.setup.contacts.peer(from);
        let room = self.setup.contacts.take_hints(from, peers.len());
        for hint in peers.into_iter().take(room) {
            let Ok(peer) = PeerId::from_bytes(&hint.peer) else {
                continue;
            };
            let addresses = hint.addresses.into_vec().into_iter();
            let addresses = addresses
                .filter_map(|bytes| Multiaddr::try_from(bytes.into_vec()).ok())
                .collect::<Vec<_>>();
            if addresses.is_empty() {
                self.colleagues.name(peer);
                continue;
            }
            self.handle_candidate(Candidate {
                peer,
                addresses,
                told_by,
            });
            self.setup.contacts.awaits(peer);
        }
    }

    /// A peer that was named without an address can be connected.
    pub(super) fn handle_located(&mut self, peer: PeerId) {
        self.handle_candidate(Candidate {
            peer,
            addresses: Vec::new(),
            told_by: None,
        });
        self.setup.contacts.awaits(peer);
    }

    fn handle_ended(&mut self, provider: ProviderId, end: &SessionEnd) {
        self.end_session(provider);
        self.planner
            .remove_provider(provider, Removal::Lost, self.now());
        let Some(peer) = self.setup.contacts.peer(provider) else {
            return;
        };
        tracing::debug!(%peer, ?end, "exchange ended");
        match end {
            SessionEnd::Dropped => {}
            // Of who was busy it is known already when to come back.
            SessionEnd::Closed(_) | SessionEnd::Lost(_) if !self.setup.contacts.is_active(peer) => {
            }
            SessionEnd::Closed(_) | SessionEnd::Lost(_) => {
                self.setup
                    .contacts
                    .later(peer, Answer::of_end(end), Instant::now());
            }
            SessionEnd::Violation(_) => {
                tracing::warn!(%peer, %end, "a provider is out");
                let answer = Answer::of_end(end);
                self.setup.contacts.out(peer, answer, Instant::now());
            }
        }
    }

    /// Has a block verified and written on a blocking thread.
    fn land(&mut self, provider: ProviderId, received: Received, sink: &Sink) {
        let Some(want) = self.wants.get(&received.want) else {
            return;
        };
        if want.is_content {
            let bytes = received.block.len() as u64;
            self.arrivals.lands(received.want, bytes);
        }
        let arrived = Arrived {
            provider,
            received,
            targets: want.targets.clone(),
        };
        self.landers.land(sink, arrived, &self.setup.tasks);
    }

    pub(super) fn handle_verdict(&mut self, verdict: Verdict) -> Result<(), FetchError> {
        let want = verdict.want;
        let judged = self.judge(verdict);
        // Once it counts as verified, so that nobody sees a bar go back and forth.
        self.arrivals.judged(want);
        judged
    }

    fn judge(&mut self, verdict: Verdict) -> Result<(), FetchError> {
        let Verdict {
            provider,
            want,
            bytes,
            parts,
            result,
        } = verdict;
        match result {
            Ok(()) => {
                self.wait.block_verified();
                self.planner.block_verified(want);
                let Some(want) = self.wants.remove(&want) else {
                    return Ok(());
                };
                self.by_digest.remove(&want.digest);
                self.setup.contacts.delivered(provider);
                for (from, bytes) in parts {
                    let peer = self.setup.contacts.peer(from);
                    let received = peer.map(|peer| self.received.entry(peer).or_default());
                    let of_content = received.filter(|_| want.is_content);
                    of_content
                        .into_iter()
                        .for_each(|received| *received += bytes);
                }
                let progress = &self.setup.progress;
                if want.is_content {
                    progress.downloaded(bytes);
                    // What belongs in several places came once.
                    let copies = want.targets.len().saturating_sub(1) as u64;
                    progress.local(bytes.saturating_mul(copies));
                } else {
                    progress.dag(bytes);
                }
                Ok(())
            }
            Err(LandError::Mismatch) if parts.len() > 1 => {
                self.handle_unproven(provider, want);
                self.early_was_bad(want);
                Ok(())
            }
            Err(LandError::Mismatch) => {
                if let Some(want) = self.wants.get_mut(&want) {
                    want.landing = false;
                }
                self.early_was_bad(want);
                self.planner.block_bad(provider, want, self.now());
                self.blame(provider);
                Ok(())
            }
            Err(error) => error.fatal().map_or(Ok(()), Err),
        }
    }

    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Want { provider, wants } => {
                tracing::trace!(?provider, ?wants, "asks");
                if !self.ask(provider, &wants) {
                    let answer = Answer::Ended("does not take requests".to_owned());
                    self.drop_session(provider, answer);
                }
            }
            Action::Cancel { provider, want } => {
                tracing::trace!(?provider, ?want, "takes back");
                self.take_back(provider, want);
            }
            Action::Drop { provider, blame } => match blame {
                Blame::BadBlock => self.blame(provider),
                Blame::Unasked => {
                    let what = "it sent what was not asked".to_owned();
                    self.put_out(provider, Answer::Violation(what));
                }
                Blame::Stalled => self.drop_session(provider, Answer::Stalled),
            },
        }
    }

    fn end_session(&mut self, provider: ProviderId) {
        self.arrivals.ended(provider);
        self.wait.left(provider);
        if let Some(session) = self.sessions.remove(&provider) {
            let serial = session.serial();
            self.end_requests(provider);
            self.early_failed(Source { provider, serial });
        }
    }

    /// Ends a session whose peer may be asked again later.
    pub(super) fn drop_session(&mut self, provider: ProviderId, answer: Answer) {
        self.end_session(provider);
        self.planner
            .remove_provider(provider, Removal::Lost, self.now());
        if let Some(peer) = self.setup.contacts.peer(provider) {
            self.setup.contacts.later(peer, answer, Instant::now());
        }
    }

    /// Ends a session whose peer is not asked again by this transfer.
    fn put_out(&mut self, provider: ProviderId, answer: Answer) {
        self.end_session(provider);
        self.forget_parts_of(provider);
        if let Some(peer) = self.setup.contacts.peer(provider) {
            self.setup.contacts.out(peer, answer, Instant::now());
        }
    }

    /// Ends a session whose peer served wrong bytes; it is out for this root.
    fn blame(&mut self, provider: ProviderId) {
        self.put_out(provider, Answer::WrongBytes);
        let Some(peer) = self.setup.contacts.peer(provider) else {
            return;
        };
        // Of a fetch the span says which; a pull for others names its root in no log.
        tracing::warn!(%peer, "wrong bytes: the peer is out");
        if self.setup.offences.bad_chunk(peer, &self.setup.root) {
            let net = self.setup.net.clone();
            let banning = async move { net.ban(peer, BAN_TIME).await };
            tokio::spawn(banning.in_current_span());
        }
    }
}
