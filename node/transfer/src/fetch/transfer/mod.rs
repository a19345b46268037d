//! One fetch from its first provider to its last block: the asynchronous half.
//!
//! A [`Transfer`] owns the planner, the sessions and the wants of one fetch, and moves messages
//! between them: needs come in from the supply, the planner says whom to ask, sessions bring
//! blocks, landing jobs say whether they were what they claim. It does no disk work, no hashing and
//! no look-ups itself. It ends when the supply is done and nothing is in flight, when no provider
//! is left or none delivers ([`verdict`](super::verdict)), when the disk refuses, or when it is
//! dropped; dropping it ends all sessions.

mod arrivals;
mod early;
mod events;
mod landers;
mod nominees;
mod parts;
mod wait;

use std::{
    collections::HashMap,
    sync::{Arc, mpsc as blocking},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use shoal_ground::budgets::Share;
use shoal_net::Net;
use shoal_protocol::{
    address::{Cid, Digest},
    near::Nearness,
    planner::{Class, Order, Part, Planner, PlannerConfig, ProviderId, WantId},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::DropGuard, task::TaskTracker};

use self::{
    arrivals::Arrivals,
    early::Early,
    landers::{Landers, Verdict},
    nominees::Nominees,
    wait::Wait,
};
use super::{
    FetchError,
    assembly::{Assembly, Slot},
    buffers::Buffers,
    colleagues::Colleagues,
    contacts::{Contacted, Contacts},
    discovery::Found,
    heard::Heard,
    inquiry::Providers,
    journal::LandingJournal,
    landing::{LandError, Landing, Target},
    progress::Progress,
    reputation::Reputation,
    session::{Received, Session, SessionEvent, SourceEvent},
    supply::Need,
    verdict::Deadlines,
};
use crate::{limits::Limiter, swarm::Coming};

/// Needs waiting for the planner to have room.
pub(super) const NEEDS_QUEUED_MAX: usize = 256;
/// Events of sessions waiting for the transfer; each block among them counts in the buffer budget.
const EVENTS_QUEUED_MAX: usize = 256;
/// Events handled in one turn, so that small blocks are landed together.
const EVENTS_PER_TURN: usize = 64;
/// Needs taken in one turn: the thread that finds them out then goes on for as long without a pause.
const NEEDS_PER_TURN: usize = NEEDS_QUEUED_MAX;

/// What the planner is told a DAG node is long, when nothing says it.
const NODE_BYTES_HINT: u32 = 64 * 1024;
/// The same for a chunk, and the cap for either.
const CHUNK_BYTES_HINT: u32 = 1 << 20;
const BLOCK_BYTES_CAP: u32 = 2 << 20;
/// How long the first chunks wait for others to choose from: walking a file's leaves takes some
/// microseconds each.
const GATHER_TIME: Duration = Duration::from_millis(5);
/// How long the first chunks wait for those that a provider has named: a connection over a long
/// line takes that long. What an owner was asked for before is on its way when they answer. With a
/// near copy at hand no owner is asked, and nobody is waited for.
const MEET_TIME: Duration = Duration::from_millis(250);
/// The longest sleep of a transfer; whether it goes on and the rates are looked at this often.
const TICK_MAX: Duration = Duration::from_millis(500);
/// How long the sessions of a transfer that is done are kept until their providers were told so: a word
/// has its place in the muxer's buffer at once, unless a line is stuck.
const FAREWELL_TIME: Duration = Duration::from_millis(300);
/// How often it is looked who is near: a new peer is measured a round trip after it is connected.
const DISTANCES_INTERVAL: Duration = Duration::from_millis(100);

/// What a transfer is given.
pub(super) struct Setup {
    pub(super) root: Cid,
    pub(super) contacts: Contacts,
    pub(super) opened: mpsc::Receiver<Contacted>,
    pub(super) found: mpsc::Receiver<Found>,
    /// Has the DHT asked at once.
    pub(super) hurry: Arc<Notify>,
    /// What is known of the root's marks.
    pub(super) heard: Arc<Heard>,
    /// Whether blocks are asked for in the order in which they are needed.
    pub(super) in_order: bool,
    pub(super) needs: mpsc::Receiver<Need>,
    pub(super) nodes: blocking::SyncSender<(Digest, Vec<u8>)>,
    pub(super) buffers: Buffers,
    pub(super) progress: Arc<Progress>,
    pub(super) offences: Arc<Reputation>,
    pub(super) limits: Limiter,
    /// Ends the limit of this transfer with it.
    pub(super) _paced: DropGuard,
    pub(super) net: Net,
    /// Everything that works for this transfer.
    pub(super) tasks: TaskTracker,
    pub(super) deadlines: Deadlines,
    /// Whether a dearer provider is never asked for what a cheaper one has.
    pub(super) strict: bool,
    /// Where those who offer the root to near helpers see who has it.
    pub(super) providers: watch::Sender<Providers>,
    /// Whether near helpers are asked for it.
    pub(super) asks_near: bool,
}

/// The asynchronous half of a fetch.
pub(super) struct Transfer {
    setup: Setup,
    /// Peers that asked this node about the root.
    guests: Option<mpsc::Receiver<PeerId>>,
    /// Where other fetchers of the root hear what owners were asked for.
    coming: Option<Coming>,
    /// Peers that were named without an address.
    colleagues: Colleagues,
    /// Near helpers that may be named to providers.
    nominees: Nominees,
    planner: Planner,
    /// What may be in flight of it.
    share: Share,
    sessions: HashMap<ProviderId, Session>,
    /// When it is looked at next who is near.
    distances_at: Instant,
    wants: HashMap<WantId, Want>,
    by_digest: HashMap<Digest, WantId>,
    early: Option<Early>,
    next_want: u64,
    next_serial: u64,
    received: HashMap<PeerId, u64>,
    arrivals: Arrivals,
    events: mpsc::Receiver<SourceEvent>,
    event_sender: mpsc::Sender<SourceEvent>,
    landers: Landers,
    verdicts: mpsc::Receiver<Vec<Verdict>>,
    wait: Wait,
    /// Until when nothing is asked for, so that there is something to choose from.
    gathers_until: Option<Instant>,
}

/// Something that is asked of providers, in one of two states.
struct Want {
    digest: Digest,
    bytes_max: u32,
    /// Where the chunk goes; none for what comes back as it is.
    targets: Vec<Target>,
    /// Whether it counts as payload; DAG nodes are what it takes to find that.
    is_content: bool,
    /// Its bytes are being verified and written.
    landing: bool,
    /// Its requests: one, or two when one was too slow.
    slots: Vec<(ProviderId, Slot)>,
    /// What came of it by requests that have ended.
    prefix: Option<Assembly>,
    /// Parts of several senders made a wrong block: it is to come from one alone.
    is_alone: bool,
}

/// Where verified blocks go.
#[derive(Clone)]
pub(super) struct Sink {
    /// Keeps DAG nodes; without one they are only passed on.
    pub(super) journal: Option<Arc<LandingJournal>>,
    /// Nothing but DAG nodes is fetched before there is a place to land chunks in.
    pub(super) landing: Option<Arc<Landing>>,
}

impl Sink {
    /// Verifies a block and puts it where it belongs. Blocking.
    fn take(
        &self,
        received: &Received,
        targets: &[Target],
        nodes: &blocking::SyncSender<(Digest, Vec<u8>)>,
    ) -> Result<(), LandError> {
        let (digest, bytes) = (&received.digest, received.block.bytes());
        if let Some(landing) = self.landing.as_ref().filter(|_| !targets.is_empty()) {
            return landing.land(digest, bytes, targets);
        }
        if !digest.matches(bytes) {
            return Err(LandError::Mismatch);
        }
        if let Some(journal) = &self.journal {
            journal.node(digest, bytes)?;
        }
        // Without a listener the transfer is over; the node is kept all the same.
        let _ = nodes.send((*digest, bytes.to_vec()));
        Ok(())
    }
}

impl Transfer {
    pub(super) fn new(setup: Setup) -> Self {
        let (event_sender, events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (landers, verdicts) = Landers::new(setup.nodes.clone());
        let arrivals = Arrivals::new(Arc::clone(&setup.progress));
        let order = match setup.in_order {
            true => Order::ById,
            false => Order::Swarm {
                key: swarm_key(&setup.net.peer_id()),
            },
        };
        let planner = Planner::new(PlannerConfig {
            order,
            strict: setup.strict,
            verifying_bytes: landers.enough_bytes(),
            ..PlannerConfig::default()
        });
        Self {
            share: setup.buffers.share(),
            wait: Wait::new(setup.asks_near),
            colleagues: Colleagues::start(setup.net.clone(), &setup.tasks),
            setup,
            nominees: Nominees::default(),
            guests: None,
            coming: None,
            planner,
            sessions: HashMap::new(),
            distances_at: Instant::now(),
            wants: HashMap::new(),
            by_digest: HashMap::new(),
            early: None,
            next_want: 0,
            next_serial: 0,
            received: HashMap::new(),
            arrivals,
            events,
            event_sender,
            landers,
            verdicts,
            gathers_until: None,
        }
    }

    /// Takes these peers, too, for possible providers, and tells the root's other fetchers what is
    /// coming here.
    pub(super) fn meet(&mut self, guests: mpsc::Receiver<PeerId>, coming: Option<Coming>) {
        self.guests = Some(guests);
        self.coming = coming;
    }

    /// Chunk payload by the peer it came from.
    pub(super) fn received(&self) -> &HashMap<PeerId, u64> {
        &self.received
    }

    /// Serves the needs of `job` until it is done and nothing is in flight.
    ///
    /// # Errors
    /// The job's own error, a disk that refuses, or no progress for the time-out.
    pub(super) async fn drive<T>(
        &mut self,
        sink: &Sink,
        mut job: JoinHandle<Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let mut outcome = None;
        // What was done between two drives was no waiting for peers.
        self.wait.begins();
        self.gathers_until = sink.landing.as_ref().map(|_| Instant::now() + GATHER_TIME);
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        let mut needs = Vec::with_capacity(NEEDS_PER_TURN);
        loop {
            if self.wants.is_empty()
                && self.setup.needs.is_empty()
                && let Some(outcome) = outcome.take()
            {
                return Ok(outcome);
            }
            let tick = self.until_tick();
            tokio::select! {
                biased;
                Some(verdicts) = self.verdicts.recv() => {
                    for verdict in verdicts {
                        self.handle_verdict(verdict)?;
                    }
                }
                count = self.events.recv_many(&mut events, EVENTS_PER_TURN) => {
                    debug_assert!(count > 0, "the transfer holds a sender");
                    self.handle_events(&mut events, sink);
                }
                Some(contacted) = self.setup.opened.recv() => self.handle_contacted(contacted),
                Some(found) = self.setup.found.recv() => self.handle_found(found),
                1.. = self.setup.needs.recv_many(&mut needs, NEEDS_PER_TURN),
                    if self.planner.room() >= NEEDS_PER_TURN =>
                {
                    needs.drain(..).for_each(|need| self.handle_need(need));
                }
                Some(peer) = next_guest(&mut self.guests) => self.handle_guest(peer),
                peer = self.colleagues.located() => self.handle_located(peer),
                joined = &mut job, if outcome.is_none() => {
                    outcome = Some(joined_result(joined)?);
                    self.gathers_until = None;
                }
                () = tokio::time::sleep(tick) => {}
            }
            self.look_at_parts();
            self.look_at_distances();
            let sources = self.arrivals.delivering(Instant::now());
            let asked = self.setup.contacts.count();
            self.setup.progress.peers(sources, asked);
            self.setup.contacts.return_to(Instant::now());
            self.act();
            self.check_wait()?;
        }
    }

    /// Tells the providers that all of the root is here, and ends their sessions. What it returns is
    /// done when they have been told, or soon; nobody has to wait for that but who ends the node.
    pub(super) fn tell_has_all(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let mut open = self.sessions.len();
        for (_, session) in self.sessions.drain() {
            session.has_all();
        }
        // Sessions whose events nobody takes end without a word.
        let (_, none) = mpsc::channel(1);
        let mut events = std::mem::replace(&mut self.events, none);
        let told = async move {
            while open > 0 {
                let event = events.recv().await;
                let is_end = matches!(event, None | Some((_, SessionEvent::Ended(_))));
                open -= usize::from(is_end);
            }
        };
        async {
            // A provider that does not take a word is none that one waits for.
            let _ = tokio::time::timeout(FAREWELL_TIME, told).await;
        }
    }

    fn handle_need(&mut self, need: Need) {
        let is_content = !matches!(need, Need::Node(_));
        let leaf = match &need {
            Need::Node(_) => None,
            Need::Leaf { leaf, .. } => *leaf,
            Need::Chunk { target, .. } => target.leaf,
        };
        let (digest, bytes_max, hint, target) = match need {
            Need::Node(digest) => {
                // Everything else waits for it.
                self.gathers_until = None;
                (digest, BLOCK_BYTES_CAP, NODE_BYTES_HINT, None)
            }
            Need::Leaf { digest, len, .. } => {
                let hint = len.unwrap_or(CHUNK_BYTES_HINT);
                (digest, len.unwrap_or(BLOCK_BYTES_CAP), hint, None)
            }
            Need::Chunk {
                digest,
                len,
                claimed,
                target,
            } => {
                let hint = len.or(claimed).unwrap_or(CHUNK_BYTES_HINT);
                (digest, len.unwrap_or(BLOCK_BYTES_CAP), hint, Some(target))
            }
        };
        // A chunk that is already on its way is fetched once for all its places.
        if let Some(want) = self
            .by_digest
            .get(&digest)
            .and_then(|id| self.wants.get_mut(id))
            && !want.landing
            && let (false, Some(target)) = (want.targets.is_empty(), &target)
        {
            want.targets.push(target.clone());
            return;
        }
        let id = WantId(self.next_want);
        self.next_want = self.next_want.wrapping_add(1);
        let part = match is_content {
            true => leaf.map_or(Part::Unnumbered, Part::Leaf),
            false => Part::Node,
        };
        let targets = target.into_iter().collect();
        self.wants.insert(
            id,
            Want {
                digest,
                bytes_max,
                targets,
                is_content,
                landing: false,
                slots: Vec::new(),
                prefix: None,
                is_alone: false,
            },
        );
        self.by_digest.insert(digest, id);
        let added = self.planner.add_want(id, hint, part);
        debug_assert!(added, "there is room, and ids are new");
    }

    /// Tells the planner which providers are near, now and then: distances are measured while the
    /// fetch goes on.
    fn look_at_distances(&mut self) {
        let now = Instant::now();
        if now < self.distances_at {
            return;
        }
        self.distances_at = now + DISTANCES_INTERVAL;
        for provider in self.sessions.keys() {
            let Some(peer) = self.setup.contacts.peer(*provider) else {
                continue;
            };
            let nearness = self.setup.net.nearness(&peer);
            let is_near = nearness.is_some_and(Nearness::is_near);
            self.planner.set_near(*provider, is_near);
        }
        self.tell_providers();
    }

    /// Tells those who offer the root to near helpers who has it.
    fn tell_providers(&self) {
        let mut holders = Vec::new();
        let mut has_near_copy = false;
        for provider in self.sessions.keys() {
            let Some(peer) = self.setup.contacts.peer(*provider) else {
                continue;
            };
            let nearness = self.setup.net.nearness(&peer).unwrap_or_default();
            let is_whole = self.planner.has_everything(*provider);
            let is_owner_on_lan = is_whole
                && nearness == Nearness::Lan
                && self.planner.class(*provider) == Some(Class::Owner);
            has_near_copy |= is_owner_on_lan || self.planner.is_near_copy(*provider);
            if is_whole || self.received.contains_key(&peer) {
                holders.push((nearness, peer));
            }
        }
        holders.sort_unstable();
        let holders = holders.into_iter().map(|(_, peer)| peer).collect();
        self.setup.providers.send_if_modified(|providers| {
            let now = Providers {
                holders,
                has_near_copy,
            };
            let is_new = *providers != now;
            *providers = now;
            is_new
        });
    }

    /// Carries out what the planner decides.
    fn act(&mut self) {
        if self.gathers() {
            return;
        }
        self.tend_early();
        let in_flight = self.setup.limits.in_flight(self.share.grant());
        self.planner.budget(in_flight);
        let actions = self.planner.poll(self.now());
        self.share.holds(self.planner.held_bytes());
        for action in actions {
            self.carry_out(action);
        }
        if let Some(coming) = &self.coming {
            coming.tell(self.planner.coming());
        }
    }

    /// Whether nothing is asked for yet: there are few chunks to choose from, or peers that a provider
    /// has named are about to say what comes to them.
    fn gathers(&mut self) -> bool {
        let now = Instant::now();
        let Some(until) = self.gathers_until else {
            return false;
        };
        let meets = now < until + MEET_TIME
            && self.setup.contacts.awaits_answers()
            && !self.planner.has_near_copy();
        if now >= until && !meets {
            self.gathers_until = None;
        }
        self.gathers_until.is_some()
    }

    fn until_tick(&self) -> Duration {
        let deadline = self
            .planner
            .next_deadline()
            .map(|at| at.saturating_sub(self.now()));
        let gathers =
            self.gathers_until.map(
                |until| match until.saturating_duration_since(Instant::now()) {
                    // It is over, and peers are awaited.
                    Duration::ZERO => GATHER_TIME,
                    left => left,
                },
            );
        let ends = gathers.or(deadline).unwrap_or(TICK_MAX);
        ends.min(TICK_MAX)
    }

    /// Time since the transfer began, in which this process ran.
    fn now(&self) -> Duration {
        self.wait.running()
    }
}

async fn next_guest(guests: &mut Option<mpsc::Receiver<PeerId>>) -> Option<PeerId> {
    guests.as_mut()?.recv().await
}

/// What stands for a peer where a swarm shares out who asks for what: a part of its public key.
pub(super) fn swarm_key(peer: &PeerId) -> u64 {
    let bytes = peer.to_bytes();
    let last = bytes.last_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(last)
}

fn joined_result<T>(
    joined: Result<Result<T, FetchError>, tokio::task::JoinError>,
) -> Result<T, FetchError> {
    joined.unwrap_or_else(|error| Err(FetchError::Internal(error.to_string())))
}
