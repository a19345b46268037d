//! Looking for providers without fetching anything.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use shoal_protocol::{address::Cid, dht, exchange::Availability, link::Link, planner::ProviderId};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    FetchError, Inner, contacts,
    discovery::{self, Candidate},
    halves::hints,
    session::{Serial, Session, SessionEvent, Source},
};
use crate::store::Held;

/// Peers asked at a time.
const ASKED_AT_ONCE_MAX: usize = 16;
/// Peers asked in one search.
const ASKED_MAX: usize = 128;
/// Connecting and the answer together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two rounds of a search that found nobody.
const ROUND_DELAY: Duration = Duration::from_millis(500);

/// A peer that was named as a provider, and what it said.
#[derive(Clone, Debug)]
pub(crate) struct FoundProvider {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
    /// What it says it has, or why it said nothing.
    pub(crate) answer: Result<Availability, String>,
    /// From the opening message to the answer.
    pub(crate) rtt: Option<Duration>,
}

impl FoundProvider {
    /// Whether it can serve anything of the root.
    pub(crate) fn provides(&self) -> bool {
        match &self.answer {
            Ok(Availability::Complete) => true,
            Ok(Availability::Partial { ranges }) => !ranges.is_empty(),
            _ => false,
        }
    }
}

impl Inner {
    /// Asks everybody whom the link and the DHT name; all answers, once somebody provides the root.
    ///
    /// # Errors
    /// [`FetchError::NotFound`] when nobody does within `timeout`.
    pub(super) async fn find(
        self: &Arc<Self>,
        link: &Link,
        timeout: Duration,
        on_answer: &(dyn Fn(&[FoundProvider]) + Sync),
    ) -> Result<Vec<FoundProvider>, FetchError> {
        let start = Instant::now();
        let mut answers: HashMap<PeerId, FoundProvider> = HashMap::new();
        if let Some(own) = self.own(&link.root) {
            answers.insert(own.peer, own);
        }
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            // A round that takes too long is cut; what it found by then counts.
            let _ = tokio::time::timeout(left, self.round(link, &mut answers, on_answer)).await;
            let mut found: Vec<_> = answers.values().cloned().collect();
            found.sort_by_key(|it| (!it.provides(), it.rtt.unwrap_or(Duration::MAX), it.peer));
            if found.iter().any(FoundProvider::provides) {
                return Ok(found);
            }
            if start.elapsed() + ROUND_DELAY >= timeout {
                let asked = found
                    .into_iter()
                    .map(|it| (it.peer, describe(&it.answer)))
                    .collect();
                return Err(FetchError::NotFound {
                    root: link.root.clone(),
                    timeout,
                    asked,
                });
            }
            tokio::time::sleep(ROUND_DELAY).await;
        }
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

    async fn round(
        self: &Arc<Self>,
        link: &Link,
        answers: &mut HashMap<PeerId, FoundProvider>,
        on_answer: &(dyn Fn(&[FoundProvider]) + Sync),
    ) {
        let key = link.root.digest().map(|digest| dht::key(&digest));
        let (sender, mut candidates) = mpsc::channel(discovery::CANDIDATES_QUEUED_MAX);
        let (net, hints) = (self.net.clone(), hints(link, &[]));
        let looking = async move {
            discovery::round(&net, key, &hints, &sender).await;
            drop(sender);
        };
        let mut asking = JoinSet::new();
        let asking_all = async {
            let mut open = true;
            while open || !asking.is_empty() {
                tokio::select! {
                    candidate = candidates.recv(), if open && asking.len() < ASKED_AT_ONCE_MAX => {
                        match candidate {
                            Some(candidate) if is_new(answers, &candidate) => {
                                let (inner, root) = (Arc::clone(self), link.root.clone());
                                asking.spawn(async move { inner.ask(candidate, root).await });
                            }
                            Some(_) => {}
                            None => open = false,
                        }
                    }
                    Some(Ok(answer)) = asking.join_next() => {
                        answers.insert(answer.peer, answer);
                        let so_far: Vec<_> = answers.values().cloned().collect();
                        on_answer(&so_far);
                    }
                    else => break,
                }
            }
        };
        tokio::join!(looking, asking_all);
    }

    async fn ask(&self, candidate: Candidate, root: Cid) -> FoundProvider {
        let Candidate {
            peer, addresses, ..
        } = candidate.clone();
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let stream = contacts::open(&self.net, candidate).await?;
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
                    SessionEvent::Available(availability) => {
                        return Ok((availability, start.elapsed()));
                    }
                    SessionEvent::Ended(end) => return Err(end.to_string()),
                    _ => {}
                }
            }
            Err("ended without an answer".to_owned())
        });
        let (answer, rtt) = match asked.await {
            Ok(Ok((availability, rtt))) => (Ok(availability), Some(rtt)),
            Ok(Err(error)) => (Err(error), None),
            Err(_) => (Err("no answer in time".to_owned()), None),
        };
        FoundProvider {
            peer,
            addresses,
            answer,
            rtt,
        }
    }
}

fn is_new(answers: &HashMap<PeerId, FoundProvider>, candidate: &Candidate) -> bool {
    match answers.get(&candidate.peer) {
        Some(known) => known.answer.is_err(),
        None => answers.len() < ASKED_MAX,
    }
}

fn describe(answer: &Result<Availability, String>) -> String {
    match answer {
        Ok(Availability::Complete) => "has all of it".to_owned(),
        Ok(Availability::Partial { .. }) => "has a part of it".to_owned(),
        Ok(Availability::Absent) => "does not have it".to_owned(),
        Ok(Availability::Gone) => "does not share it any more".to_owned(),
        Ok(Availability::Busy { .. }) => "is busy".to_owned(),
        Err(error) => error.clone(),
    }
}
