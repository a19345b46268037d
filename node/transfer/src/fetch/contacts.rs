//! The peers that a transfer deals with: each in exactly one state.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{backoff::Backoff, planner::ProviderId};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    answer::Answer,
    discovery::Candidate,
    error::Asked,
    slots::{PROVIDERS_MAX, Room, Taken},
    span,
    verdict::Standing,
};

/// Peers that are dialled at a time. Twice as many as there is use for, so that records of peers
/// that are gone do not keep those waiting that are there; each costs a task and up to 16 dials.
const OPENING_MAX: usize = 2 * PROVIDERS_MAX;
/// Peers that one transfer remembers, so that a DHT full of junk cannot grow it.
const CONTACTS_MAX: usize = 1024;
/// Peers that one provider can make a transfer dial. Eight providers can name all there is room for.
const HINTS_PER_PROVIDER_MAX: usize = 128;
/// The longest that a busy provider is left alone, whatever it says.
const BUSY_DELAY_MAX: Duration = Duration::from_secs(60);
/// Dialling and opening the stream together.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(15);
/// Before a peer that failed or had nothing is asked again, for the first time.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The same, up to 17 minutes, beyond any sensible time-out: who never delivers must not keep a
/// transfer busy for ever.
const RETRY: Backoff = Backoff::new(RETRY_DELAY, Duration::from_secs(1024));
/// Between two dials of a provider that was lost: when it is back, the transfer goes on within ten
/// seconds.
const RETURN: Backoff = Backoff::new(RETRY_DELAY, Duration::from_secs(8));
/// Before a peer that said no is asked again: up to 5 minutes, in which a share can be made.
const DENIED: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(320));
/// A provider that says it has nothing is believed when it says so again after this time: it may
/// have been restarted, and not have looked yet.
const ABSENT_CONFIRMED_AFTER: Duration = Duration::from_secs(10);
/// How often a provider may lack the blocks that are left before that counts as a no. The first
/// time it is asked again, and can say that it does not share it any more.
const LACKS_MAX: u32 = 2;
/// Addresses at which nobody answered that are kept for the report.
const SILENT_ADDRESSES_MAX: usize = 16;

/// Where a transfer stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// A stream is being opened, since this round of look-ups.
    Opening(u64),
    /// A session runs.
    Active,
    /// It could not be reached, was lost, or has nothing now.
    Later {
        at: Instant,
        /// It is not asked before this round, whoever names it.
        round: u64,
    },
    /// It is not asked again by this transfer.
    Out,
}

/// What a transfer remembers of a peer beside that.
#[derive(Debug, Default)]
struct Memory {
    /// The last thing that came of asking it.
    answer: Option<Answer>,
    /// The link, the DHT, a provider or a person named it; others came by themselves.
    is_named: bool,
    /// A provider named it, and nothing has come of it yet.
    is_awaited: bool,
    /// It had something, and is asked again without being named again.
    is_returning: bool,
    /// Where it was said to be last, by others than peers.
    addresses: Vec<Multiaddr>,
    /// How often it promised everything since it last delivered anything.
    promises: u32,
    /// Dials that failed since one did not.
    failures: u32,
    /// How often it said no in a row.
    denials: u32,
    /// How often it lacked what it said it had.
    lacks: u32,
    /// When it first said that it has nothing, although it had.
    absent_since: Option<Instant>,
}

/// Connects with a candidate and opens an exchange stream to it.
pub(super) async fn open(net: &Net, candidate: Candidate) -> Result<ExchangeStream, String> {
    let opening = async {
        let Candidate {
            peer,
            mut addresses,
            told_by,
        } = candidate;
        if let Some(told_by) = told_by {
            let addresses = std::mem::take(&mut addresses);
            net.learn(peer, addresses, told_by).await;
        }
        let connected = net.connect_peer(peer, addresses).await;
        connected.map_err(|error| error.to_string())?;
        net.open_exchange(peer)
            .await
            .map_err(|error| error.to_string())
    };
    let opened = tokio::time::timeout(CONTACT_TIMEOUT, opening).await;
    opened.unwrap_or_else(|_| Err("no connection in time".to_owned()))
}

/// The outcome of contacting a peer.
pub(super) struct Contacted {
    pub(super) peer: PeerId,
    pub(super) stream: Result<ExchangeStream, String>,
}

/// All contacts of one transfer, and what they said for the final report.
pub(super) struct Contacts {
    net: Net,
    contacts: HashMap<PeerId, Contact>,
    /// Of the same peers.
    memories: HashMap<PeerId, Memory>,
    /// A peer has one id for the whole transfer, so that blame stays with it.
    ids: HashMap<PeerId, ProviderId>,
    peers: HashMap<ProviderId, PeerId>,
    /// How many peers each provider has hinted at.
    hints: HashMap<ProviderId, usize>,
    /// Addresses of the link or of a person, without a peer id, at which nobody answered, and why.
    silent_addresses: BTreeMap<Multiaddr, String>,
    /// Rounds of look-ups that have ended.
    round: u64,
    began: Instant,
    /// When the last peer gave an answer that stands.
    settled: Instant,
    /// When those that return are looked at next.
    returns_at: Instant,
    opened: mpsc::Sender<Contacted>,
    tasks: TaskTracker,
}

impl Contacts {
    pub(super) fn new(net: Net, tasks: TaskTracker) -> (Self, mpsc::Receiver<Contacted>) {
        let (opened, receiver) = mpsc::channel(OPENING_MAX);
        let now = Instant::now();
        let contacts = Self {
            net,
            contacts: HashMap::new(),
            memories: HashMap::new(),
            ids: HashMap::new(),
            peers: HashMap::new(),
            hints: HashMap::new(),
            silent_addresses: BTreeMap::new(),
            round: 0,
            began: now,
            settled: now,
            returns_at: now,
            opened,
            tasks,
        };
        (contacts, receiver)
    }

    /// Somebody named a peer; see [`Self::consider`].
    pub(super) fn named(&mut self, candidate: Candidate, now: Instant) {
        let peer = candidate.peer;
        let addresses = match candidate.told_by {
            None => candidate.addresses.clone(),
            Some(_) => Vec::new(),
        };
        self.consider(candidate, now);
        if self.contacts.contains_key(&peer) {
            let memory = self.memory(peer);
            memory.is_named = true;
            if !addresses.is_empty() {
                memory.addresses = addresses;
            }
        }
    }

    /// Takes note that a provider has named a peer, which is being dialled for that.
    pub(super) fn awaits(&mut self, peer: PeerId) {
        if matches!(self.contacts.get(&peer), Some(Contact::Opening(_))) {
            self.memory(peer).is_awaited = true;
        }
    }

    /// Starts to contact a candidate, unless there is a reason not to.
    pub(super) fn consider(&mut self, candidate: Candidate, now: Instant) {
        let known = self.contacts.get(&candidate.peer);
        let ready = match known {
            None => self.contacts.len() < CONTACTS_MAX,
            Some(Contact::Later { at, round }) => *at <= now && *round <= self.round,
            Some(Contact::Opening(_) | Contact::Active | Contact::Out) => false,
        };
        if matches!(known, Some(Contact::Opening(_))) {
            // It may be at none of the addresses that are being dialled. What a peer hints at has to
            // be believed first, and waits for the next turn.
            if candidate.told_by.is_none() && !candidate.addresses.is_empty() {
                self.net.try_too(candidate.peer, candidate.addresses);
            }
            return;
        }
        if ready {
            self.contact(candidate);
        }
    }

    fn contact(&mut self, candidate: Candidate) {
        let contacts = self.contacts.values();
        let opening = contacts.filter(|it| matches!(it, Contact::Opening(_)));
        if opening.count() >= OPENING_MAX || self.room_for(&candidate.peer) == Room::None {
            return;
        }
        let opening = Contact::Opening(self.round);
        self.contacts.insert(candidate.peer, opening);
        let (net, opened) = (self.net.clone(), self.opened.clone());
        let contacting = async move {
            let peer = candidate.peer;
            tokio::select! {
                // The transfer is over.
                () = opened.closed() => {}
                stream = open(&net, candidate) => {
                    let _ = opened.send(Contacted { peer, stream }).await;
                }
            }
        };
        span::spawn(&self.tasks, contacting);
    }

    /// Whether there is a slot for a peer among the providers.
    pub(super) fn room_for(&self, peer: &PeerId) -> Room {
        let mut taken = Taken::default();
        let contacts = self.contacts.iter();
        contacts
            .filter(|(_, contact)| **contact == Contact::Active)
            .for_each(|(peer, _)| taken.add(self.net.nearness(peer)));
        taken.room(self.net.nearness(peer))
    }

    /// A round of look-ups has ended: the next one may name again who could not be reached.
    pub(super) fn round_ended(&mut self) {
        self.round = self.round.saturating_add(1);
    }

    /// Nobody answered at an address without a peer id.
    pub(super) fn nobody_at(&mut self, address: Multiaddr, why: String) {
        if self.silent_addresses.len() < SILENT_ADDRESSES_MAX {
            self.silent_addresses.insert(address, why);
        }
    }

    /// A stream to `peer` is open: it becomes a provider.
    pub(super) fn activate(&mut self, peer: PeerId) -> ProviderId {
        let known = self.ids.get(&peer).copied();
        let provider = known.unwrap_or_else(|| {
            let next = ProviderId(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
            self.ids.insert(peer, next);
            self.peers.insert(next, peer);
            next
        });
        self.contacts.insert(peer, Contact::Active);
        self.memory(peer).failures = 0;
        provider
    }

    /// The peer could not be reached. Whoever names it, it is not dialled in the next round; one
    /// that had something is dialled again by itself.
    pub(super) fn unreachable(&mut self, peer: PeerId, why: String, now: Instant) {
        let round = match self.contacts.get(&peer) {
            Some(Contact::Out) => return,
            Some(Contact::Opening(round)) => *round,
            _ => self.round,
        };
        let memory = self.memory(peer);
        memory.is_awaited = false;
        memory.failures = memory.failures.saturating_add(1);
        memory.answer = Some(Answer::Unreachable(why));
        let later = Contact::Later {
            at: now + RETURN.after(memory.failures),
            round: round.saturating_add(2),
        };
        self.contacts.insert(peer, later);
    }

    /// The peer is asked again later, if it had something or someone still names it.
    pub(super) fn later(&mut self, peer: PeerId, answer: Answer, now: Instant) {
        let round = self.round;
        let is_out = self.contacts.get(&peer) == Some(&Contact::Out);
        let memory = self.memory(peer);
        memory.is_awaited = false;
        if matches!(answer, Answer::Lacks(_)) {
            memory.lacks = memory.lacks.saturating_add(1);
        }
        let delay = match &answer {
            Answer::Absent | Answer::Gone => memory.denied(&answer, now),
            _ => RETRY.after(memory.promises),
        };
        let is_settled = memory.is_final(&answer);
        memory.answer = Some(answer);
        if is_settled {
            self.settled = now;
        }
        if !is_out {
            let at = now + delay;
            self.contacts.insert(peer, Contact::Later { at, round });
        }
    }

    /// The provider says that it has something.
    pub(super) fn promised(&mut self, provider: ProviderId) {
        if let Some(peer) = self.peer(provider) {
            let memory = self.memory(peer);
            memory.is_awaited = false;
            memory.promises = memory.promises.saturating_add(1);
            memory.is_returning = true;
            memory.denials = 0;
            memory.absent_since = None;
            memory.answer = None;
        }
    }

    /// The provider has no time, and says when it will have.
    pub(super) fn busy(&mut self, provider: ProviderId, retry_after: Duration, now: Instant) {
        let Some(peer) = self.peer(provider) else {
            return;
        };
        self.promised(provider);
        self.later(peer, Answer::Busy, now);
        let after = now + retry_after.min(BUSY_DELAY_MAX);
        if let Some(Contact::Later { at, .. }) = self.contacts.get_mut(&peer) {
            *at = after.max(*at);
        }
    }

    /// Asks those again that had something, when it is time.
    pub(super) fn return_to(&mut self, now: Instant) {
        if now < self.returns_at {
            return;
        }
        self.returns_at = now + RETRY_DELAY;
        let is_due = |peer: &PeerId| matches!(self.contacts.get(peer), Some(Contact::Later { at, .. }) if *at <= now);
        let returning = self.memories.iter().filter(|(_, it)| it.is_returning);
        let due: Vec<_> = returning
            .filter(|(peer, _)| is_due(peer))
            .map(|(peer, memory)| (*peer, memory.addresses.clone()))
            .collect();
        for (peer, addresses) in due {
            self.contact(Candidate {
                peer,
                addresses,
                told_by: None,
            });
        }
    }

    /// How many of so many hints of one provider are followed.
    pub(super) fn take_hints(&mut self, from: ProviderId, count: usize) -> usize {
        let taken = self.hints.entry(from).or_default();
        let room = HINTS_PER_PROVIDER_MAX.saturating_sub(*taken).min(count);
        *taken += room;
        room
    }

    /// The provider delivered a block that was verified.
    pub(super) fn delivered(&mut self, provider: ProviderId) {
        if let Some(peer) = self.peer(provider) {
            let memory = self.memory(peer);
            (memory.promises, memory.lacks) = (0, 0);
        }
    }

    /// The peer is never asked again by this transfer.
    pub(super) fn out(&mut self, peer: PeerId, answer: Answer, now: Instant) {
        // Named again and again, it was out long since.
        if self.contacts.insert(peer, Contact::Out) != Some(Contact::Out) {
            self.settled = now;
        }
        let memory = self.memory(peer);
        memory.is_awaited = false;
        memory.answer = Some(answer);
    }

    /// Whether peers that providers have named are dialled, or have not said yet what they have.
    pub(super) fn awaits_answers(&self) -> bool {
        self.memories.values().any(|memory| memory.is_awaited)
    }

    /// The peer behind a provider, also after its session ended.
    pub(super) fn peer(&self, provider: ProviderId) -> Option<PeerId> {
        self.peers.get(&provider).copied()
    }

    /// What the peers have said, in numbers.
    pub(super) fn standing(&self) -> Standing {
        let mut standing = Standing {
            settled: self.settled.saturating_duration_since(self.began),
            ..Standing::default()
        };
        let nothing = Memory::default();
        for (peer, contact) in &self.contacts {
            let memory = self.memories.get(peer).unwrap_or(&nothing);
            match (contact, &memory.answer) {
                (Contact::Opening(_) | Contact::Active, _) => standing.open += 1,
                (Contact::Out, _) => standing.out += 1,
                (Contact::Later { .. }, Some(answer)) if memory.is_final(answer) => {
                    // Who came by itself, to ask, says nothing by not having it.
                    let counted = usize::from(memory.is_named);
                    match answer {
                        Answer::Absent => standing.absent += counted,
                        _ => standing.gone += counted,
                    }
                }
                (Contact::Later { .. }, _) => standing.open += usize::from(memory.is_returning),
            }
        }
        standing
    }

    /// Who was asked and what came of it, for an error message.
    pub(super) fn asked(&self) -> Asked {
        let peers = self.contacts.iter().filter_map(|(peer, contact)| {
            let answer = self.memories.get(peer).and_then(|it| it.answer.clone());
            let answer = match contact {
                Contact::Active => Some(answer.unwrap_or(Answer::Silent)),
                Contact::Opening(_) => {
                    let pending = || Answer::Unreachable("no answer yet".to_owned());
                    Some(answer.unwrap_or_else(pending))
                }
                Contact::Later { .. } | Contact::Out => answer,
            };
            Some((peer.to_string(), answer?))
        });
        let addresses = self.silent_addresses.iter();
        let addresses =
            addresses.map(|(at, why)| (at.to_string(), Answer::Unreachable(why.clone())));
        let mut asked: Vec<_> = peers.chain(addresses).collect();
        asked.sort_by(|(one, _), (other, _)| one.cmp(other));
        asked
    }

    /// Whether the peer is not asked again.
    pub(super) fn is_out(&self, peer: PeerId) -> bool {
        self.contacts.get(&peer) == Some(&Contact::Out)
    }

    /// Whether a session with the peer is to go on.
    pub(super) fn is_active(&self, peer: PeerId) -> bool {
        self.contacts.get(&peer) == Some(&Contact::Active)
    }

    /// How many peers it has dealt with.
    pub(super) fn count(&self) -> usize {
        self.contacts.len()
    }

    /// What is remembered of a peer; bounded as the contacts are, which have the same peers.
    fn memory(&mut self, peer: PeerId) -> &mut Memory {
        self.memories.entry(peer).or_default()
    }
}

impl Memory {
    /// Takes note of a no, and says how long the peer is left alone.
    fn denied(&mut self, answer: &Answer, now: Instant) -> Duration {
        let since = *self.absent_since.get_or_insert(now);
        let is_sure = *answer == Answer::Gone || now >= since + ABSENT_CONFIRMED_AFTER;
        if self.is_returning && !is_sure {
            return RETRY_DELAY;
        }
        self.is_returning = false;
        self.denials = self.denials.saturating_add(1);
        DENIED.after(self.denials)
    }

    /// Whether an answer is a no that stands until the peer is asked again.
    fn is_final(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Gone | Answer::Absent => !self.is_returning,
            Answer::Lacks(_) => self.lacks >= LACKS_MAX,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_delivers_is_asked_ever_more_rarely() {
        let check = |promises, expected| {
            assert_eq!(RETRY.after(promises).as_secs(), expected, "{promises}");
        };
        check(0, 1);
        check(1, 1);
        check(2, 2);
        check(7, 64);
        check(u32::MAX, 1024);
    }

    #[test]
    fn delays_grow_and_are_bounded() {
        let check = |delay: Backoff, times, expected| {
            assert_eq!(delay.after(times).as_secs(), expected, "{times}");
        };
        for (failures, expected) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (u32::MAX, 8)] {
            check(RETURN, failures, expected);
        }
        for (denials, expected) in [(0, 10), (1, 10), (2, 20), (6, 320), (u32::MAX, 320)] {
            check(DENIED, denials, expected);
        }
    }

    #[test]
    fn a_provider_that_suddenly_has_nothing_is_asked_again_before_it_is_believed() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut memory = Memory {
            is_returning: true,
            ..Memory::default()
        };
        let mut says = |answer: Answer, now| {
            let delay = memory.denied(&answer, now);
            (delay.as_secs(), memory.is_final(&answer))
        };
        assert_eq!(says(Answer::Absent, at(0)), (1, false), "restarted?");
        assert_eq!(says(Answer::Absent, at(9)), (1, false));
        assert_eq!(says(Answer::Absent, at(10)), (10, true));
        assert_eq!(says(Answer::Absent, at(20)), (20, true));

        let mut withdrawn = Memory {
            is_returning: true,
            ..Memory::default()
        };
        withdrawn.denied(&Answer::Gone, at(0));
        assert!(withdrawn.is_final(&Answer::Gone), "it knows");
        let mut stranger = Memory::default();
        stranger.denied(&Answer::Absent, at(0));
        assert!(stranger.is_final(&Answer::Absent), "it never had it");
    }
}
