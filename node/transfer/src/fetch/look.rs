//! Looking for providers of the transfers that rest for want of them, for as long as a daemon runs.
//!
//! A look asks the peers that the transfer names and those that the DHT knows, like `find`, and
//! moves no content. When one of them can serve, the transfer is queued like any other. The times
//! are [`waiting`](super::waiting)'s; the task ends with the node.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use shoal_net::{Key, NetEvent, peer_of};
use shoal_protocol::{dht, link::Link};
use tokio::{
    sync::broadcast::error::RecvError,
    task::{Id, JoinSet},
};

use super::{FetchRequest, FetcherInner, waiting::Schedule};

/// Looks at a time. Each asks up to 16 peers side by side, as a `find` does.
pub(super) const LOOKS_MAX: usize = 4;
/// A look may take so long: a look-up in the DHT, a connection and an answer.
const LOOK_TIME: Duration = Duration::from_secs(15);
/// The task looks at the clock at least this often.
const TICK_MAX: Duration = Duration::from_secs(60);

/// A transfer that rests for want of providers.
pub(super) struct Resting {
    pub(super) id: u64,
    /// What was verified of it.
    pub(super) bytes: u64,
    pub(super) request: FetchRequest,
}

impl Resting {
    fn key(&self) -> Option<Key> {
        let digest = self.request.link.root.digest();
        digest.map(|digest| dht::key(&digest))
    }

    /// Whether the request names a peer.
    fn names(&self, peer: PeerId) -> bool {
        let of_link = self.request.link.peers.iter();
        let of_link = of_link.filter_map(|it| it.parse::<Multiaddr>().ok());
        let mut named = self.request.peers.iter().cloned().chain(of_link);
        named.any(|address| peer_of(&address) == Some(peer))
    }

    /// The link, with all peers that the request names.
    fn link(&self) -> Link {
        let mut link = self.request.link.clone();
        let peers = self.request.peers.iter().map(ToString::to_string);
        link.peers.splice(..0, peers);
        link
    }
}

impl FetcherInner {
    /// Looks for the transfers that rest, again and again, until the node ends.
    pub(super) async fn look_for_resting(self: Arc<Self>) {
        let shutdown = self.shutdown.clone();
        let looking = Looking::new(&self).run();
        shutdown.run_until_cancelled(looking).await;
    }

    /// Whether somebody has what a transfer needs.
    async fn is_provided(self: Arc<Self>, link: Link) -> bool {
        let found = self.find(&link, LOOK_TIME, &|_| {});
        let found = tokio::time::timeout(LOOK_TIME, Box::pin(found)).await;
        matches!(found, Ok(Ok(_)))
    }
}

struct Looking<'a> {
    inner: &'a Arc<FetcherInner>,
    schedule: Schedule,
    resting: Vec<Resting>,
    looks: JoinSet<bool>,
    sought: HashMap<Id, u64>,
    /// Until it has looked at what earlier processes left.
    is_start: bool,
}

impl<'a> Looking<'a> {
    fn new(inner: &'a Arc<FetcherInner>) -> Self {
        Self {
            inner,
            schedule: Schedule::default(),
            resting: Vec::new(),
            looks: JoinSet::new(),
            sought: HashMap::new(),
            is_start: true,
        }
    }

    async fn run(mut self) {
        let inner = Arc::clone(self.inner);
        let mut events = inner.net.events();
        loop {
            self.update();
            let next = self.schedule.next();
            let room = self.looks.len() < LOOKS_MAX;
            let tick = next.filter(|_| room).map_or(TICK_MAX, |at| {
                at.saturating_duration_since(Instant::now()).min(TICK_MAX)
            });
            tokio::select! {
                biased;
                Some(ended) = self.looks.join_next_with_id() => self.handle_look(ended),
                () = inner.transfers.rested() => {}
                keys = inner.net.heard_of() => self.handle_heard(&keys),
                event = events.recv() => match event {
                    Ok(event) => self.handle_event(&event).await,
                    Err(RecvError::Lagged(_)) => self.schedule.hope_for_all(Instant::now()),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(tick) => {}
            }
        }
    }

    /// Takes note of what rests now, and begins the looks that are due.
    fn update(&mut self) {
        let transfers = &self.inner.transfers;
        let now = Instant::now();
        self.resting = transfers.resting();
        let resting = self.resting.iter().map(|it| (it.id, it.bytes));
        let known = |id| transfers.info(id).is_some_and(|info| !info.over);
        self.schedule.update(resting, self.is_start, known, now);
        self.is_start = false;
        let keys: HashSet<Key> = self.resting.iter().filter_map(Resting::key).collect();
        self.inner.net.listen_for(keys);
        let room = LOOKS_MAX.saturating_sub(self.looks.len());
        for id in self.schedule.due(room, now) {
            let Some(resting) = self.resting.iter().find(|it| it.id == id) else {
                continue;
            };
            tracing::debug!(transfer = id, "looking for a provider again");
            let look = Arc::clone(self.inner).is_provided(resting.link());
            let look = self.looks.spawn(look);
            self.sought.insert(look.id(), id);
        }
    }

    fn handle_look(&mut self, ended: Result<(Id, bool), tokio::task::JoinError>) {
        let (task, has_found) = ended.unwrap_or_else(|panic| {
            tracing::error!(%panic, "a look for a provider failed");
            (panic.id(), false)
        });
        let Some(id) = self.sought.remove(&task) else {
            return;
        };
        let goes_on = has_found && self.inner.transfers.go_on(id);
        self.schedule.looked(id, goes_on, Instant::now());
        if goes_on {
            tracing::info!(transfer = id, "a provider is there: the transfer goes on");
            self.inner.record_later();
            self.inner.start_queued();
        }
    }

    fn handle_heard(&mut self, keys: &HashSet<Key>) {
        let is_heard = |it: &&Resting| it.key().is_some_and(|key| keys.contains(&key));
        for resting in self.resting.iter().filter(is_heard) {
            self.schedule.hope(resting.id, Instant::now());
        }
    }

    async fn handle_event(&mut self, event: &NetEvent) {
        let now = Instant::now();
        match event {
            // Another network, or the same one again.
            NetEvent::AddressesChanged => self.schedule.hope_for_all(now),
            NetEvent::PeerConnected { peer } if !self.resting.is_empty() => {
                // The first peer is the way to all others. Looks connect to peers as well, and one
                // of these is no reason for another look: its transfer is being looked for.
                let is_first = self.inner.net.peers().await.len() == 1;
                let named = self.resting.iter().filter(|it| is_first || it.names(*peer));
                for resting in named {
                    self.schedule.hope(resting.id, now);
                }
            }
            _ => {}
        }
    }
}
