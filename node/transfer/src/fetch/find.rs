//! Looking for providers without fetching anything.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use shoal_ground::deadline::RunningTime;
use shoal_protocol::{address::Cid, dht, exchange::Availability, link::Link, planner::ProviderId};
use shoal_store::Held;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::{
    FetchError, FetcherInner,
    answer::Answer,
    contacts,
    discovery::{self, Candidate, Discovery, Found},
    error::Asked,
    halves::hints,
    heard::Heard,
    session::{Serial, Session, SessionEvent, Source},
    span,
    verdict::{Case, Deadlines, End, Round, Standing, Verdict},
};

/// Peers asked at a time: as many as a look-up names, so that those that are gone keep nobody
/// waiting. Each is a task and a few dials.
const ASKED_AT_ONCE_MAX: usize = ASKED_MAX;
/// Peers asked in one search.
const ASKED_MAX: usize = 128;
/// Connecting and the answer together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the others are waited for once a provider has answered: this at the least, at the most
/// that, and between them four times what the slowest answer took. A peer that is there answers in
/// about the time that others take; one that is gone does not answer in any.
const OTHERS_TIME_MIN: Duration = Duration::from_millis(1500);
const OTHERS_TIME_MAX: Duration = Duration::from_secs(5);
const OTHERS_TIMES: u32 = 4;
/// How often a search looks whether it is over.
const TICK: Duration = Duration::from_millis(100);
/// Addresses at which nobody answered that are kept for the report.
const SILENT_ADDRESSES_MAX: usize = 16;

/// A peer that was named as a provider, and what it said.
#[derive(Clone, Debug)]
pub struct FoundProvider {
    /// The peer.
    pub peer: PeerId,
    /// Its addresses, as far as they are known.
    pub addresses: Vec<Multiaddr>,
    /// What it says it has, or why it said nothing.
    pub answer: Result<Availability, Answer>,
    /// From the opening message to the answer.
    pub rtt: Option<Duration>,
}

impl FoundProvider {
    /// Whether it can serve anything of the root.
    pub fn provides(&self) -> bool {
        match &self.answer {
            Ok(Availability::Complete) => true,
            Ok(Availability::Partial { ranges, .. } | Availability::Held { ranges }) => {
                !ranges.is_empty()
            }
            _ => false,
        }
    }
}

impl FetcherInner {
    /// Asks everybody whom the link and the DHT name, side by side. Once a provider has answered,
    /// the others have a moment to do so, too.
    ///
    /// # Errors
    /// [`FetchError::Denied`] when all who could be asked say no, [`FetchError::NotFound`] when
    /// nobody provides it within `timeout`.
    pub(super) async fn find(
        self: &Arc<Self>,
        link: &Link,
        timeout: Duration,
        on_answer: &(dyn Fn(&[FoundProvider]) + Sync),
    ) -> Result<Vec<FoundProvider>, FetchError> {
        let (sender, mut found) = mpsc::channel(discovery::FOUND_QUEUED_MAX);
        let hurry = Arc::new(Notify::new());
        let discovery = Discovery {
            net: self.net.clone(),
            key: link.root.digest().map(|digest| dht::key(&digest)),
            heard: Arc::new(self.heard(link)),
            named: Vec::new(),
            hints: hints(link, &[]),
            hurry: Arc::clone(&hurry),
        };
        span::spawn(&self.tasks, discovery.run(sender));
        let mut search = Search::new(self.own(&link.root));
        let mut asking = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                Some(found) = found.recv(), if asking.len() < ASKED_AT_ONCE_MAX => {
                    if let Some(candidate) = search.handle_found(found) {
                        let (inner, root) = (Arc::clone(self), link.root.clone());
                        asking.spawn(async move { inner.ask(candidate, root).await });
                    }
                }
                Some(joined) = asking.join_next() => {
                    match joined {
                        Ok(answer) => search.handle_answer(answer),
                        Err(panic) => return Err(panic.into()),
                    }
                    on_answer(&search.answers());
                }
                _ = ticks.tick() => {}
            }
            match search.decide(timeout) {
                Next::GoesOn => {}
                Next::LooksUp => hurry.notify_waiters(),
                Next::Found => return Ok(search.answers()),
                Next::Ends(end) => return Err(search.ended_for(end, &link.root, timeout)),
            }
        }
    }

    /// What is known of a link's marks before anybody was asked.
    pub(super) fn heard(&self, link: &Link) -> Heard {
        Heard::new(link.marks.with(self.library.marks(&link.root)))
    }

    /// This node as a provider of `root`, if it is one.
    fn own(&self, root: &Cid) -> Option<FoundProvider> {
        let complete = self.library.held(root) == Held::Complete;
        complete.then(|| FoundProvider {
            peer: self.net.peer_id(),
            addresses: self.net.dial_addresses(),
            answer: Ok(Availability::Complete),
            rtt: Some(Duration::ZERO),
        })
    }

    /// Why this node and a peer do not understand each other, if they do not.
    async fn misfit(&self, peer: PeerId) -> Option<Answer> {
        let misfit = self.net.misfit(peer).await?;
        Some(Answer::Ended(misfit.to_string()))
    }

    async fn ask(&self, candidate: Candidate, root: Cid) -> FoundProvider {
        let Candidate {
            peer, addresses, ..
        } = candidate.clone();
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let stream = contacts::open(&self.net, candidate);
            let stream = stream.await.map_err(Answer::Unreachable)?;
            let (events, mut inbox) = mpsc::channel(1);
            let start = Instant::now();
            let (buffers, limits) = (self.buffers.clone(), self.limits.clone());
            let source = Source {
                provider: ProviderId(0),
                serial: Serial(0),
            };
            let tasks = &self.tasks;
            let _session = Session::start(source, stream, root, buffers, limits, events, tasks);
            while let Some((_, event)) = inbox.recv().await {
                match event {
                    SessionEvent::Available(availability, _) => {
                        return Ok((availability, start.elapsed()));
                    }
                    SessionEvent::Ended(end) => return Err(Answer::of_end(&end)),
                    _ => {}
                }
            }
            Err(Answer::Ended("ended without an answer".to_owned()))
        });
        let (answer, rtt) = match asked.await {
            Ok(Ok((availability, rtt))) => (Ok(availability), Some(rtt)),
            Ok(Err(answer)) => (Err(answer), None),
            Err(_) => (Err(no_answer("no answer in time")), None),
        };
        let answer = match answer {
            // The cause of what went wrong, where it is known.
            Err(how) => Err(self.misfit(peer).await.unwrap_or(how)),
            answer => answer,
        };
        FoundProvider {
            peer,
            addresses,
            answer,
            rtt,
        }
    }
}

/// What a search knows.
struct Search {
    began: Instant,
    clock: RunningTime,
    peers: HashMap<PeerId, Sought>,
    silent_addresses: Asked,
    /// Rounds of look-ups that have ended, and the last of them.
    rounds: u64,
    round: Option<Round>,
    /// When the last peer said no, since the search began.
    settled: Duration,
    /// When a provider answered first, by the clock.
    provided: Option<Duration>,
    /// What the slowest answer took.
    slowest: Duration,
}

/// A peer of a search.
enum Sought {
    /// It is being asked, since then and since this round.
    Asked {
        candidate: Candidate,
        since: Instant,
        round: u64,
    },
    /// What came of it; it is not asked again before this round.
    Answered { found: FoundProvider, round: u64 },
}

/// What a search does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    GoesOn,
    LooksUp,
    Found,
    Ends(End),
}

impl Search {
    fn new(own: Option<FoundProvider>) -> Self {
        let now = Instant::now();
        let provided = own.as_ref().map(|_| Duration::ZERO);
        let own = own.map(|found| {
            let round = u64::MAX;
            (found.peer, Sought::Answered { found, round })
        });
        Self {
            began: now,
            clock: RunningTime::start(TICK),
            peers: own.into_iter().collect(),
            silent_addresses: Asked::new(),
            rounds: 0,
            round: None,
            settled: Duration::ZERO,
            provided,
            slowest: Duration::ZERO,
        }
    }

    /// Takes note of what was found; a peer that is to be asked.
    fn handle_found(&mut self, found: Found) -> Option<Candidate> {
        match found {
            Found::Candidate(candidate) => self.is_to_be_asked(candidate.peer).then(|| {
                let asked = Sought::Asked {
                    candidate: candidate.clone(),
                    since: Instant::now(),
                    round: self.rounds,
                };
                self.peers.insert(candidate.peer, asked);
                candidate
            }),
            Found::Nobody { address, why } => {
                let address = address.to_string();
                let is_new = self
                    .silent_addresses
                    .iter()
                    .all(|(known, _)| *known != address);
                if is_new && self.silent_addresses.len() < SILENT_ADDRESSES_MAX {
                    self.silent_addresses
                        .push((address, Answer::Unreachable(why)));
                }
                None
            }
            Found::RoundEnded { began, asked } => {
                self.rounds = self.rounds.saturating_add(1);
                let began = began.saturating_duration_since(self.began);
                self.round = Some(Round { began, asked });
                None
            }
            // Who looks for providers asks for no copies.
            Found::Helper(_) | Found::NearAsked => None,
        }
    }

    fn is_to_be_asked(&self, peer: PeerId) -> bool {
        match self.peers.get(&peer) {
            Some(Sought::Asked { .. }) => false,
            Some(Sought::Answered { round, .. }) => *round <= self.rounds,
            None => self.peers.len() < ASKED_MAX,
        }
    }

    fn handle_answer(&mut self, found: FoundProvider) {
        let now = Instant::now();
        let (mut asked_in, mut took) = (self.rounds, Duration::ZERO);
        if let Some(Sought::Asked { since, round, .. }) = self.peers.get(&found.peer) {
            (asked_in, took) = (*round, now.saturating_duration_since(*since));
        }
        if found.answer.is_ok() {
            self.slowest = self.slowest.max(took);
        }
        if found.provides() && self.provided.is_none() {
            self.provided = Some(self.clock.now());
        }
        let round = match &found.answer {
            // Who was busy, or has a part that grows, is asked in the next round.
            Ok(Availability::Busy { .. } | Availability::Partial { .. }) if !found.provides() => 0,
            Ok(Availability::Absent | Availability::Gone) => {
                self.settled = now.saturating_duration_since(self.began);
                u64::MAX
            }
            Ok(_) => u64::MAX,
            // Who cannot be reached is not asked in the next round.
            Err(_) => asked_in.saturating_add(2),
        };
        self.peers
            .insert(found.peer, Sought::Answered { found, round });
    }

    /// What is known of each peer, those that provide it first, the nearest of them first.
    fn answers(&self) -> Vec<FoundProvider> {
        let mut found: Vec<_> = self
            .peers
            .values()
            .map(|sought| match sought {
                Sought::Answered { found, .. } => found.clone(),
                Sought::Asked { candidate, .. } => FoundProvider {
                    peer: candidate.peer,
                    addresses: candidate.addresses.clone(),
                    answer: Err(no_answer("no answer yet")),
                    rtt: None,
                },
            })
            .collect();
        found.sort_by_key(|it| (!it.provides(), it.rtt.unwrap_or(Duration::MAX), it.peer));
        found
    }

    fn standing(&self) -> Standing {
        let mut standing = Standing {
            settled: self.settled,
            ..Standing::default()
        };
        for sought in self.peers.values() {
            match sought {
                Sought::Asked { .. } => standing.open += 1,
                Sought::Answered { found, .. } => match &found.answer {
                    Ok(Availability::Absent) => standing.absent += 1,
                    Ok(Availability::Gone) => standing.gone += 1,
                    Ok(_) => standing.open += 1,
                    Err(_) => {}
                },
            }
        }
        standing
    }

    fn decide(&mut self, timeout: Duration) -> Next {
        let running = self.clock.now();
        let is_asking = |sought: &Sought| matches!(sought, Sought::Asked { .. });
        if let Some(provided) = self.provided {
            let is_complete = self.round.is_some() && !self.peers.values().any(is_asking);
            let time = self.slowest.saturating_mul(OTHERS_TIMES);
            let time = time.clamp(OTHERS_TIME_MIN, OTHERS_TIME_MAX);
            return match is_complete || running >= (provided + time).min(timeout) {
                true => Next::Found,
                false => Next::GoesOn,
            };
        }
        let case = Case {
            idle: running,
            has_begun: false,
            elapsed: self.began.elapsed(),
            standing: self.standing(),
            round: self.round,
            asks_near: false,
        };
        let deadlines = Deadlines {
            timeout,
            patience: timeout,
        };
        match case.decide(&deadlines) {
            Verdict::GoesOn | Verdict::Waits => Next::GoesOn,
            Verdict::LooksUp => Next::LooksUp,
            Verdict::Ends(end) => Next::Ends(end),
        }
    }

    fn ended_for(&self, end: End, root: &Cid, timeout: Duration) -> FetchError {
        let peers = self.answers().into_iter();
        let peers = peers.map(|it| (it.peer.to_string(), described(it.answer)));
        let asked = peers.chain(self.silent_addresses.iter().cloned()).collect();
        let root = root.clone();
        match end {
            End::Denied => FetchError::Denied {
                root,
                asked,
                has_begun: false,
            },
            End::NotFound | End::NoProgress => FetchError::NotFound {
                root,
                timeout,
                asked,
                was_alone: self.round.is_none_or(|round| !round.asked),
            },
        }
    }
}

fn no_answer(why: &str) -> Answer {
    Answer::Unreachable(why.to_owned())
}

fn described(answer: Result<Availability, Answer>) -> Answer {
    match answer {
        Ok(Availability::Complete) => Answer::Silent,
        Ok(Availability::Held { ranges }) if ranges.is_all() => Answer::Silent,
        Ok(Availability::Partial { ranges, .. }) if ranges.is_empty() => Answer::NothingYet,
        Ok(Availability::Partial { .. } | Availability::Held { .. }) => Answer::PartOnly,
        Ok(Availability::Absent) => Answer::Absent,
        Ok(Availability::Gone) => Answer::Gone,
        Ok(Availability::Busy { .. }) => Answer::Busy,
        Err(answer) => answer,
    }
}
