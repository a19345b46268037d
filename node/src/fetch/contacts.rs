//! The peers that a transfer deals with: each in exactly one state.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use shoal_protocol::planner::ProviderId;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{discovery::Candidate, span};
use crate::net::{ExchangeStream, Net};

/// Providers of one transfer at a time; more do not fill a link better and cost memory each.
const PROVIDERS_MAX: usize = 32;
/// Peers that one transfer remembers, so that a DHT full of junk cannot grow it.
const CONTACTS_MAX: usize = 1024;
/// Peers that one provider can make a transfer dial. Eight providers can name all there is room for.
const HINTS_PER_PROVIDER_MAX: usize = 128;
/// The longest that a busy provider is left alone, whatever it says.
const BUSY_DELAY_MAX: Duration = Duration::from_secs(60);
/// Dialling and opening the stream together.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(15);
/// Before a peer that failed or had nothing is asked again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often that delay is doubled at most: to 17 minutes, beyond any sensible time-out.
const RETRY_DOUBLINGS_MAX: u32 = 10;

/// Where a transfer stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// A stream is being opened.
    Opening,
    /// A session runs.
    Active,
    /// It could not be reached, was lost, or has nothing now.
    Later(Instant),
    /// It is not asked again by this transfer.
    Out,
}

/// Doubled with every broken promise: who never delivers must not keep a transfer busy for ever.
fn retry_delay(promises: u32) -> Duration {
    let doublings = promises.saturating_sub(1).min(RETRY_DOUBLINGS_MAX);
    RETRY_DELAY * (1 << doublings)
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
    /// A peer has one id for the whole transfer, so that blame stays with it.
    ids: HashMap<PeerId, ProviderId>,
    peers: HashMap<ProviderId, PeerId>,
    answers: HashMap<PeerId, String>,
    /// How often a peer promised everything since it last delivered anything.
    promises: HashMap<ProviderId, u32>,
    /// Those that had something: who is to be asked again without being named again.
    returning: HashSet<PeerId>,
    /// How many peers each provider has hinted at.
    hints: HashMap<ProviderId, usize>,
    /// When those that return are looked at next.
    returns_at: Instant,
    opened: mpsc::Sender<Contacted>,
    tasks: TaskTracker,
}

impl Contacts {
    pub(super) fn new(net: Net, tasks: TaskTracker) -> (Self, mpsc::Receiver<Contacted>) {
        let (opened, receiver) = mpsc::channel(PROVIDERS_MAX);
        let contacts = Self {
            net,
            contacts: HashMap::new(),
            ids: HashMap::new(),
            peers: HashMap::new(),
            answers: HashMap::new(),
            promises: HashMap::new(),
            returning: HashSet::new(),
            hints: HashMap::new(),
            returns_at: Instant::now(),
            opened,
            tasks,
        };
        (contacts, receiver)
    }

    /// Starts to contact a candidate, unless there is a reason not to.
    pub(super) fn consider(&mut self, candidate: Candidate, now: Instant) {
        let known = self.contacts.get(&candidate.peer);
        let ready = match known {
            None => self.contacts.len() < CONTACTS_MAX,
            Some(Contact::Later(at)) => *at <= now,
            Some(Contact::Opening | Contact::Active | Contact::Out) => false,
        };
        if known == Some(&Contact::Opening) {
            // It may be at none of the addresses that are being dialled. What a peer hints at has to
            // be believed first, and waits for the next turn.
            if candidate.told_by.is_none() && !candidate.addresses.is_empty() {
                self.net.try_too(candidate.peer, candidate.addresses);
            }
            return;
        }
        if !ready || self.dealt_with() >= PROVIDERS_MAX {
            return;
        }
        self.contacts.insert(candidate.peer, Contact::Opening);
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
        provider
    }

    /// The peer is asked again later, if someone still names it.
    pub(super) fn later(&mut self, peer: PeerId, answer: String, now: Instant) {
        self.answers.insert(peer, answer);
        if self.contacts.get(&peer) != Some(&Contact::Out) {
            let promises = self.ids.get(&peer).and_then(|id| self.promises.get(id));
            let delay = retry_delay(promises.copied().unwrap_or(0));
            self.contacts.insert(peer, Contact::Later(now + delay));
        }
    }

    /// The provider says that it has something.
    pub(super) fn promised(&mut self, provider: ProviderId) {
        let promises = self.promises.entry(provider).or_default();
        *promises = promises.saturating_add(1);
        self.returning.extend(self.peers.get(&provider));
    }

    /// The provider has no time, and says when it will have.
    pub(super) fn busy(&mut self, provider: ProviderId, retry_after: Duration, now: Instant) {
        let Some(peer) = self.peer(provider) else {
            return;
        };
        self.promised(provider);
        self.later(peer, "is busy".to_owned(), now);
        let at = now + retry_after.min(BUSY_DELAY_MAX);
        if let Some(Contact::Later(later)) = self.contacts.get_mut(&peer) {
            *later = at.max(*later);
        }
    }

    /// Asks those again that had something, when it is time.
    pub(super) fn return_to(&mut self, now: Instant) {
        if now < self.returns_at {
            return;
        }
        self.returns_at = now + RETRY_DELAY;
        let is_due = |peer: &&PeerId| matches!(self.contacts.get(peer), Some(Contact::Later(at)) if *at <= now);
        let due: Vec<PeerId> = self.returning.iter().filter(is_due).copied().collect();
        for peer in due {
            let candidate = Candidate {
                peer,
                addresses: Vec::new(),
                told_by: None,
            };
            self.consider(candidate, now);
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
        self.promises.remove(&provider);
    }

    /// The peer is never asked again by this transfer.
    pub(super) fn out(&mut self, peer: PeerId, answer: String) {
        self.answers.insert(peer, answer);
        self.contacts.insert(peer, Contact::Out);
    }

    /// The peer behind a provider, also after its session ended.
    pub(super) fn peer(&self, provider: ProviderId) -> Option<PeerId> {
        self.peers.get(&provider).copied()
    }

    /// Who was asked and what came of it, for an error message.
    pub(super) fn asked(&self) -> Vec<(PeerId, String)> {
        let silent = |(peer, contact): (&PeerId, &Contact)| {
            let is_silent = *contact == Contact::Active && !self.answers.contains_key(peer);
            is_silent.then(|| {
                (
                    *peer,
                    "says that it has it, and delivers nothing".to_owned(),
                )
            })
        };
        let silent = self.contacts.iter().filter_map(silent);
        let answered = self.answers.iter().map(|(p, a)| (*p, a.clone()));
        let mut asked: Vec<_> = answered.chain(silent).collect();
        asked.sort();
        asked
    }

    /// Whether a session with the peer is to go on.
    pub(super) fn is_active(&self, peer: PeerId) -> bool {
        self.contacts.get(&peer) == Some(&Contact::Active)
    }

    /// How many peers it has dealt with.
    pub(super) fn count(&self) -> usize {
        self.contacts.len()
    }

    fn dealt_with(&self) -> usize {
        let dealt_with = |contact: &&Contact| matches!(contact, Contact::Opening | Contact::Active);
        self.contacts.values().filter(dealt_with).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_delivers_is_asked_ever_more_rarely() {
        let check = |promises, expected| {
            assert_eq!(retry_delay(promises).as_secs(), expected, "{promises}");
        };
        check(0, 1);
        check(1, 1);
        check(2, 2);
        check(7, 64);
        check(u32::MAX, 1024);
    }
}
