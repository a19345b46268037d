//! Copies of popular content for peers near by: this node's part among its neighbours.
//!
//! The [`Replicator`] speaks with near peers about replicas: it has a stream to each near helper
//! (`link`), takes theirs (`caller`), finds the homes of a key for a fetch ([`Asking`]), and answers
//! what others ask by the policy of [`Helper`](shoal_protocol::replicate::helper::Helper), which
//! lives in the replica store beside the bytes. What it accepts to pull comes out as [`PullOrder`]s:
//! it moves no content itself, and knows nothing of transfers and of served streams.
//!
//! What must stay true here: no order comes out but for an offer that the policy accepted, and
//! nothing is asked or accepted while this node is switched off. It ends with its token; every task
//! and stream ends with it.

mod answers;
mod ask;
mod busy;
mod caller;
mod clock;
mod config;
mod counters;
mod crowd;
mod finished;
mod link;
mod metered;
mod people;
mod power;
mod reader;
mod rest;
mod talk;
mod tend;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::metrics::Numbers;
use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{
    address::{Cid, Digest},
    exchange::List,
    replicate::{
        Allowed, Hello, Key, Peer, PeerKey, Response, Salt, Saying, Shape, helper::Accepted,
    },
};
use shoal_store::{
    Library, StoreError, Table,
    replicas::{ReplicaInfo, ReplicaStats, Replicas},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::limits::Limiter;

pub(crate) use self::reader::Readings;
pub use self::{
    ask::{Asking, Lead, Named, ReadSoFar, Terms},
    clock::Clock,
    config::{Diversity, Floor, ReplicasConfig, Scope},
    counters::{declined_reason, gone_reason},
    reader::Reader,
    rest::Paused,
};
use self::{
    caller::Caller,
    counters::Counters,
    link::{Link, Word, link},
    people::People,
    talk::Ended,
};

/// Pulls that wait to be begun: as many as run at a time. One more is declined.
const ORDERS_MAX: usize = 4;

/// The most peers that one message names.
const NAMED_MAX: usize = 8;

/// Our streams about replicas: as many as helpers have a place in both tables, and room for walks.
const LINKS_MAX: usize = 192;

/// What a [`Replicator`] works with.
pub struct Deps {
    /// What is held, and the policy.
    pub replicas: Replicas,
    /// What this node has of its own.
    pub library: Library,
    /// The network.
    pub net: Net,
    /// The budgets of the line.
    pub limits: Limiter,
    /// `[replicas]`.
    pub config: ReplicasConfig,
    /// The time that the store was opened with.
    pub clock: Clock,
    /// Whether this node lasts: one that ends with its fetch helps nobody.
    pub lasts: bool,
    /// Where the demand outlives a run.
    pub table: Table,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// This node among its neighbours. Cheap to clone.
#[derive(Clone)]
pub struct Replicator {
    inner: Arc<ReplicatorInner>,
}

struct ReplicatorInner {
    replicas: Replicas,
    library: Library,
    net: Net,
    limits: Limiter,
    /// What holds while it is switched on.
    config: ReplicasConfig,
    clock: Clock,
    lasts: bool,
    table: Table,
    /// Whether it is switched off: by the configuration, or by a person while it runs.
    is_off: AtomicBool,
    /// Whether this machine runs on its battery.
    on_battery: AtomicBool,
    /// Whether this machine's line costs by the byte.
    is_metered: AtomicBool,
    /// Whether it helped when that was last looked at.
    helped: AtomicBool,
    people: Mutex<People>,
    /// What was fetched and is told to homes, as it was when they were told last.
    finished: Mutex<BTreeSet<Key>>,
    /// Whether readers were turned away lately.
    busy: busy::Busy,
    counters: Counters,
    orders: mpsc::Sender<PullOrder>,
    /// There is something to tell, or somebody new.
    nudge: Notify,
    /// The tables have changed.
    placed: Notify,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Something to pull: what the policy has accepted.
#[derive(Clone, Debug)]
pub struct PullOrder {
    /// The root.
    pub root: Cid,
    /// Its digest.
    pub digest: Digest,
    /// Which runs.
    pub accepted: Accepted,
    /// What the root is like, as the offer said.
    pub shape: Shape,
    /// Who may have it: the holders that the offer named, and the peer that made it.
    pub holders: Vec<Named>,
}

impl Replicator {
    /// One that speaks with nobody yet, and what it accepts to pull.
    pub fn new(deps: Deps) -> (Self, mpsc::Receiver<PullOrder>) {
        let (orders, accepted) = mpsc::channel(ORDERS_MAX);
        let inner = ReplicatorInner {
            people: Mutex::new(People::new(&deps.net.peer_id())),
            finished: Mutex::default(),
            replicas: deps.replicas,
            library: deps.library,
            net: deps.net,
            limits: deps.limits,
            is_off: AtomicBool::new(deps.config.is_off()),
            config: deps.config.switched_on(),
            clock: deps.clock,
            lasts: deps.lasts,
            table: deps.table,
            on_battery: AtomicBool::new(false),
            is_metered: AtomicBool::new(false),
            helped: AtomicBool::new(false),
            busy: busy::Busy::default(),
            counters: Counters::default(),
            orders,
            nudge: Notify::new(),
            placed: Notify::new(),
            tasks: TaskTracker::new(),
            shutdown: deps.shutdown,
        };
        inner.replicas.decide(|helper| helper.set_on(false));
        (
            Self {
                inner: Arc::new(inner),
            },
            accepted,
        )
    }

    /// Speaks with near peers until shutdown; all of its tasks have ended when it returns.
    pub fn run(self, incoming: mpsc::Receiver<ExchangeStream>) -> BoxFuture<'static, ()> {
        // Compiled here, and not where it is awaited.
        Box::pin(self.speak(incoming))
    }

    async fn speak(self, mut incoming: mpsc::Receiver<ExchangeStream>) {
        let inner = &self.inner;
        let tending = Arc::clone(inner).tend();
        let accepting = async {
            while let Some(stream) = incoming.recv().await {
                inner.tasks.spawn(caller::serve(Arc::clone(inner), stream));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = inner.shutdown.cancelled() => {}
            () = accepting => {}
            () = tending => {}
            () = inner.watch_meter() => {}
        }
        inner.tasks.close();
        inner.tasks.wait().await;
        inner.keep_demand().await;
    }

    /// What is held, for those who read it.
    #[must_use]
    pub fn replicas(&self) -> &Replicas {
        &self.inner.replicas
    }

    /// The time that the store was opened with.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// Switches this node's part on or off while it runs. Off, what is held goes at once.
    ///
    /// # Errors
    /// When rows cannot be written.
    pub async fn set_on(&self, is_on: bool) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.is_off.store(!is_on, Relaxed);
        // Those that it speaks with hear of it with the next tick.
        inner.replicas.decide(|helper| helper.set_on(inner.helps()));
        let quota = match is_on {
            true => inner.config.quota.bytes().unwrap_or(0),
            false => 0,
        };
        inner
            .on_disk(move |replicas, _| replicas.set_quota(quota))
            .await
    }

    /// What holds while it is switched on.
    #[must_use]
    pub fn config(&self) -> &ReplicasConfig {
        &self.inner.config
    }

    /// Whether it takes part at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.is_on()
    }

    /// Whether it takes part and has room for others: with a quota of nothing it only asks.
    #[must_use]
    pub fn keeps_copies(&self) -> bool {
        self.is_on() && !self.inner.config.quota.is_off()
    }

    /// Why it takes no copies at present, though it [keeps them](Self::keeps_copies).
    #[must_use]
    pub fn paused(&self) -> Option<Paused> {
        self.inner.paused().filter(|_| self.keeps_copies())
    }

    /// Whether copies may use the line now.
    pub(crate) fn may_use_line(&self) -> bool {
        self.is_on() && self.inner.resting().is_none()
    }

    /// Drops all that is held of a root; how many bytes are free by that.
    ///
    /// # Errors
    /// When rows cannot be written.
    pub async fn drop_root(&self, key: Key) -> Result<u64, StoreError> {
        self.inner
            .on_disk(move |replicas, now| replicas.drop_root(key, now))
            .await
    }

    /// Drops all that is held; how many bytes are free by that.
    ///
    /// # Errors
    /// When rows cannot be written.
    pub async fn drop_all(&self) -> Result<u64, StoreError> {
        self.inner
            .on_disk(|replicas, now| replicas.drop_all(now))
            .await
    }

    /// What is held, the most recent first.
    #[must_use]
    pub fn list(&self) -> Vec<ReplicaInfo> {
        self.inner.replicas.list()
    }

    /// How what is held stands.
    #[must_use]
    pub fn stats(&self) -> ReplicaStats {
        self.inner.replicas.stats()
    }

    /// Adds its numbers.
    pub fn measure(&self, numbers: &mut Numbers) {
        let inner = &self.inner;
        inner.counters.measure(numbers);
        let now = inner.clock.now();
        let (counted, credit) = inner
            .replicas
            .decide(|helper| (helper.counters().clone(), helper.credit(now)));
        counters::measure_helper(numbers, &counted, credit);
        counters::measure_stats(numbers, &inner.replicas.stats());
        let (lan, near, links) = {
            let people = inner.people();
            (
                people.lan.table.len(),
                people.near.table.len(),
                people.links.len(),
            )
        };
        numbers.gauges(
            "shoal_replica_neighbours",
            "Helpers that are near, by where.",
            "where",
            [("lan", lan as u64), ("near", near as u64)],
        );
        numbers.gauge(
            "shoal_replica_streams",
            "Streams about replicas that this node has to others.",
            links as u64,
        );
    }

    /// A pull has ended: its homes hear what is held now, and further places are offered some of it.
    pub fn pull_ended(&self, root: &Cid, outcome: &'static str) {
        self.inner.counters.pulls.add(outcome);
        if let Some(key) = key_of(root) {
            self.inner.changed(key);
        }
        self.pass_on(root);
    }

    /// Offers further places their stripes of a root that is being read here, as far as they are due.
    pub(crate) fn pass_on(&self, root: &Cid) {
        let inner = Arc::clone(&self.inner);
        let passing = inner.shutdown.clone();
        let offering = Arc::clone(&inner).pass_on(root.clone());
        inner
            .tasks
            .spawn(async move { passing.run_until_cancelled(offering).await });
    }

    /// Where it is told what has changed of what is held, which lives no longer than this.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(Arc::downgrade(&self.inner))
    }
}

/// Takes note of what the store has let go of, and of what was fetched. It keeps neither alive.
pub struct Changes(Weak<ReplicatorInner>);

impl Changes {
    /// What is held of a root has changed. Never waits.
    pub fn note(&self, key: Key) {
        if let Some(inner) = self.0.upgrade() {
            inner.changed(key);
        }
    }
}

/// What this process salts askers with.
#[must_use]
pub fn salt() -> Salt {
    Salt(rand::random())
}

impl ReplicatorInner {
    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock()
    }

    /// Whether this node takes part at all.
    fn is_on(&self) -> bool {
        !self.is_off.load(Relaxed)
    }

    /// Whether it keeps and pulls for others at present.
    fn helps(&self) -> bool {
        self.is_on() && self.lasts && !self.config.quota.is_off() && self.paused().is_none()
    }

    /// Tells the policy whether this node helps; whether that has changed.
    fn look_whether_it_helps(&self) -> bool {
        let helps = self.helps();
        let has_changed = self.helped.swap(helps, Relaxed) != helps;
        if has_changed {
            self.replicas.decide(|helper| helper.set_on(helps));
        }
        has_changed
    }

    /// What this node says of itself to a peer.
    async fn hello(&self, to: PeerId) -> Hello {
        if !self.helps() {
            return Hello::default();
        }
        let mut near = self.people().placed();
        near.retain(|peer| *peer != to);
        Hello {
            helps: true,
            free_mib: u32::try_from(self.replicas.free_bytes() >> 20).unwrap_or(u32::MAX),
            near: List::first_of(self.introduce(near, to).await),
        }
    }

    /// How these peers are named to a peer: with addresses that reach as far as it does.
    async fn introduce(&self, peers: Vec<PeerId>, to: PeerId) -> Vec<Peer> {
        if peers.is_empty() {
            return Vec::new();
        }
        let known = self.net.introduce(peers, to, NAMED_MAX).await;
        let named = known
            .into_iter()
            .filter_map(|(peer, addresses)| Peer::new(peer.to_bytes(), &addresses));
        named.collect()
    }

    /// Whether a peer may say one more thing of a kind.
    ///
    /// # Errors
    /// [`Ended::ShutOut`] when it has said too much too often.
    fn may_say(&self, peer: &PeerId, saying: Saying) -> Result<bool, Ended> {
        let now = self.clock.now();
        let allowed = {
            let mut people = self.people();
            let key = people.numbers.key(peer);
            people.limits.take(key, saying, now)
        };
        if allowed == Allowed::Yes {
            return Ok(true);
        }
        self.counters.over_limit.add(match saying {
            Saying::Hello => "hello",
            Saying::Ask => "ask",
            Saying::Offer => "offer",
            Saying::Holding => "holding",
        });
        match allowed {
            Allowed::Yes | Allowed::Dropped => Ok(false),
            Allowed::ShutOut(_) => Err(Ended::ShutOut),
        }
    }

    fn is_shut_out(&self, peer: &PeerId) -> bool {
        let now = self.clock.now();
        let mut people = self.people();
        let key = people.numbers.key(peer);
        people.limits.shut_out(key, now).is_some()
    }

    /// A peer has opened a stream.
    fn call_began(&self, peer: &PeerId, said: mpsc::Sender<Response>) -> PeerKey {
        let mut people = self.people();
        people.callers.insert(*peer, said);
        people.numbers.key(peer)
    }

    /// The stream of a peer has ended: what it told is believed no longer.
    fn call_ended(&self, peer: &PeerId, key: PeerKey, said: &mpsc::Sender<Response>) {
        {
            let mut people = self.people();
            let current = people.callers.get(peer);
            if !current.is_some_and(|it| it.same_channel(said)) {
                // It has opened another one since.
                return;
            }
            people.callers.remove(peer);
        }
        let now = self.clock.now();
        self.replicas.decide(|helper| helper.left(key, now));
    }

    /// Our stream to a peer, opened if there is none; none where there are too many.
    fn link_to(self: &Arc<Self>, peer: PeerId) -> Option<Link> {
        if peer == self.net.peer_id() || self.shutdown.is_cancelled() {
            return None;
        }
        let mut people = self.people();
        if let Some(link) = people.links.get(&peer).filter(|it| it.is_open()) {
            return Some(link.clone());
        }
        if people.links.len() >= LINKS_MAX {
            people.spare_link();
        }
        if people.links.len() >= LINKS_MAX {
            return None;
        }
        let (link, running) = link(self, peer);
        people.links.insert(peer, link.clone());
        self.tasks.spawn(running);
        Some(link)
    }

    /// Our stream to a peer has ended; without a handle, this node has ended it.
    fn link_ended(&self, peer: &PeerId, ended: Option<&Link>) {
        let now = self.clock.now();
        let mut people = self.people();
        let current = people.links.get(peer);
        if !current.is_some_and(|it| ended.is_some_and(|ended| it.is_same(ended))) {
            return;
        }
        people.link_ended(peer, now);
        drop(people);
        self.nudge.notify_one();
    }

    /// What is held of a root has changed: its homes hear it again.
    fn changed(&self, key: Key) {
        {
            let mut people = self.people();
            people.lan.told.changed(key);
            people.near.told.changed(key);
            people.is_telling_due = true;
        }
        self.nudge.notify_one();
    }

    /// Runs something on the disk that the store has, on a thread that may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Replicas, Duration) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (replicas, now) = (self.replicas.clone(), self.clock.now());
        let ran = tokio::task::spawn_blocking(move || run(&replicas, now)).await;
        ran.unwrap_or_else(|panic| {
            let detail = panic.to_string();
            Err(StoreError::Database { detail })
        })
    }
}

/// The key of a root; none for content that stands in its own address.
#[must_use]
pub fn key_of(root: &Cid) -> Option<Key> {
    root.digest().map(|digest| Key::of(&digest))
}

/// A peer as it was named, with its addresses; none where that is no peer id.
fn named(peer: Peer, told_by: PeerId) -> Option<Named> {
    let addresses = peer.addresses.into_vec().into_iter();
    let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes.into_vec()).ok());
    Some(Named {
        peer: PeerId::from_bytes(&peer.peer).ok()?,
        addresses: addresses.collect(),
        told_by: Some(told_by),
    })
}

/// The peer that asks or reads, for those parts that know a stream.
fn caller_of(net: &Net, key: PeerKey, stream: (PeerId, Option<std::net::IpAddr>)) -> Caller {
    let (peer, ip) = stream;
    Caller {
        peer,
        key,
        ip,
        nearness: net.nearness(&peer).unwrap_or_default(),
    }
}
