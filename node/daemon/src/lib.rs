//! The node: store, library, network, serving and fetching, put together and taken down in order.
//!
//! [`Node::spawn`] returns when the node serves. A [`NodeHandle`] is cheap to clone and answers
//! everything that people can ask of it ([`Service`](shoal_api::Service)).
//! [`NodeHandle::shutdown`] ends every task in order: no new work, then transfers and served
//! streams, then the network, then the store; the next start needs no repair.

mod answers;
mod budgets;
pub mod config;
mod copies;
mod errors;
mod helping;
mod integrity;
mod measure;
mod observe;
mod offers;
pub mod on_done;
mod opened;
mod scrub;
mod service;
mod sharing;
mod tables;
mod terms;
mod upkeep;
mod warnings;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Once, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use libp2p::PeerId;
use shoal_api::{
    ApiListener, HomeError, HomeLock,
    events::{Event, Events},
    types::NodeProcess,
};
use shoal_net::{Journal, Net, NetError, emulation::Emulation};
use shoal_store::{Library, SharedStore, StoreError};
use shoal_transfer::{
    fetch::{self, Fetcher},
    limits::Limiter,
    replicate::Replicator,
    serve::{self, ServeStats, Server, Withdrawn},
    swarm::Swarms,
};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::integrity::{HomeChecked, check_home};
use self::{
    observe::{Observer, Told},
    offers::{Announces, Offers},
    on_done::OnDone,
    opened::{Opened, SharedPlace, net_config, open_home, start_net},
    terms::Terms,
};
use crate::config::Config;

/// A disk that has not answered for this long is not waited for when the node ends.
const STUCK_GRACE: Duration = Duration::from_secs(2);
const STUCK_POLL: Duration = Duration::from_millis(100);
/// What each part may take to end: the last chunks to a slow disk, and one synced commit. What is
/// left behind is taken up by the next start, as after `kill -9`.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The home is in use or cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network did not start.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The identity key cannot be read or made.
    #[error("the identity key: {0}")]
    Identity(String),
}

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

/// What the nodes of one process share, for a process that runs hundreds of them.
#[derive(Clone)]
pub struct Shared {
    /// The database of all of them.
    pub store: SharedStore,
    /// The thread that writes what their networks remember.
    pub journal: Journal,
    /// How many connections each keeps although nothing uses them, and for how long one stays open
    /// that is not among these.
    pub idle: (u32, Duration),
}

/// A running node. Cheap to clone; the node runs until [`NodeHandle::shutdown`].
#[derive(Clone)]
pub struct NodeHandle {
    inner: Arc<NodeInner>,
}

struct NodeInner {
    home: PathBuf,
    lock: HomeLock,
    config: Config,
    /// Of a node of a test network.
    emulation: Option<Emulation>,
    started: Instant,
    library: Library,
    net: Net,
    fetcher: Fetcher,
    replicator: Replicator,
    limits: Limiter,
    served: Arc<ServeStats>,
    terms: Arc<Terms>,
    on_done: Arc<OnDone>,
    /// The process that it runs in, once somebody has said so.
    process: OnceLock<NodeProcess>,
    rates: watch::Rates,
    recheck: watch::Recheck,
    scrub: scrub::Scrub,
    integrity: integrity::Integrity,
    events: Events,
    observed: Arc<Observer>,
    /// Listeners are told of the end once.
    told_end: Once,
    tasks: TaskTracker,
    /// Fires when the node is asked to stop: nothing new begins any more.
    stopping: CancellationToken,
    shutdown: CancellationToken,
    /// Something was not waited for that hangs in the kernel.
    left_behind: AtomicBool,
    /// Held while shutting down, so that a second call waits for the first.
    ended: Mutex<bool>,
}

/// A node that starts. Boxed, as is what others await of a node: so it is compiled in this package,
/// and not anew in each that awaits it.
pub type Spawning<'a> = BoxFuture<'a, Result<NodeHandle, NodeError>>;

impl Node {
    /// Starts a node on `home` and returns when it serves.
    ///
    /// # Errors
    /// [`NodeError`] says which part refused; nothing is left running then.
    pub fn spawn(config: Config, home: &Path) -> Spawning<'_> {
        Box::pin(Self::start(config, home, Announces::Everything, None, None))
    }

    /// The same, for a node that ends with the fetch that it is started for: it announces only
    /// what is shared through it while it runs, and answers nobody in the DHT, for records of it and
    /// entries in routing tables would outlive it.
    ///
    /// # Errors
    /// As for [`Node::spawn`].
    pub fn spawn_for_fetch(config: Config, home: &Path) -> Spawning<'_> {
        Box::pin(Self::start(
            config,
            home,
            Announces::OnlyNewShares,
            None,
            None,
        ))
    }

    /// The same, for a node that nobody outside of this process talks to: it neither listens nor
    /// dials, serves nobody, and begins no transfer. What changes of shares and transfers is there for
    /// the next node.
    ///
    /// # Errors
    /// As for [`Node::spawn`].
    pub fn spawn_alone(config: Config, home: &Path) -> Spawning<'_> {
        Box::pin(Self::start(config, home, Announces::Nothing, None, None))
    }

    /// The same, with links that are emulated: a node of a test network.
    ///
    /// # Errors
    /// As for [`Node::spawn`].
    pub fn spawn_emulated(
        config: Config,
        home: &Path,
        emulation: Option<Emulation>,
    ) -> Spawning<'_> {
        Box::pin(Self::start(
            config,
            home,
            Announces::Everything,
            emulation,
            None,
        ))
    }

    /// The same, as one of many in this process, with whom it shares what it can. Its store is the
    /// one with this number; no other node may use it at the same time.
    ///
    /// # Errors
    /// As for [`Node::spawn`]; [`StoreError::InUse`] while a node with this number has not ended.
    pub fn spawn_among<'a>(
        config: Config,
        home: &'a Path,
        emulation: Option<Emulation>,
        shared: &Shared,
        number: u16,
    ) -> Spawning<'a> {
        let place = SharedPlace {
            shared: shared.clone(),
            number,
        };
        let announces = Announces::Everything;
        Box::pin(Self::start(config, home, announces, emulation, Some(place)))
    }

    async fn start(
        config: Config,
        home: &Path,
        announces: Announces,
        emulation: Option<Emulation>,
        place: Option<SharedPlace>,
    ) -> Result<NodeHandle, NodeError> {
        let lock = HomeLock::acquire(home)?;
        let home = lock.home().to_owned();
        let offers = Arc::new(Offers::new(announces));
        let doubts = Arc::<watch::DoubtSignal>::default();
        let events = Events::default();
        let (publishing, offered) = (events.clone(), Arc::clone(&offers));
        let observed = Arc::new(Observer::new(publishing, offered, Arc::clone(&doubts)));
        let (stopping, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let opening = (Arc::clone(&observed), shutdown.clone());
        let Opened {
            library,
            transfers,
            keypair,
            kept,
            helping,
            terms,
        } = open_home(&home, place.clone(), &config, opening).await?;
        let net_config = net_config(&config, announces, emulation.clone());
        let (net, incoming) = start_net(net_config, &keypair, &library, &offers, place).await?;

        let tasks = TaskTracker::new();
        let limits = Limiter::new(config.limits.clone(), kept, net.traffic());
        limits.start(&tasks, &shutdown);
        let recheck = watch::Recheck::start(&tasks, library.clone(), doubts, shutdown.clone());
        let (served, withdrawn) = (Arc::<ServeStats>::default(), Arc::<Withdrawn>::default());
        let telling = Arc::clone(&observed);
        let swarms = Swarms::new(move |root| telling.tell(Told::Part(root)));
        let (replicator, orders) = helping.start(
            (&library, &net, &limits),
            announces == Announces::Everything,
            incoming.replicate,
            (&tasks, &shutdown),
        );
        let sources = serve::Deps {
            library: library.clone(),
            net: net.clone(),
            swarms: Arc::clone(&swarms),
            withdrawn: Arc::clone(&withdrawn),
            replicator: replicator.clone(),
            audience: Arc::clone(terms.audience()),
            shutdown: shutdown.clone(),
        };
        let server = Server::new(sources, Arc::clone(&served), limits.clone());
        tasks.spawn(server.run(incoming.exchange));
        terms.start(&tasks, &shutdown);
        let following = Arc::clone(&offers);
        let (followed, known) = (library.clone(), Arc::clone(&swarms));
        tasks.spawn(following.follow(followed, net.clone(), known, withdrawn, shutdown.clone()));
        let fetcher = Fetcher::new(fetch::Deps {
            store: library.store().clone(),
            library: library.clone(),
            net: net.clone(),
            limits: limits.clone(),
            strict: config.replicas.strict,
            holds: announces == Announces::Nothing,
            swarms,
            replicator: replicator.clone(),
            transfers,
            stopping: stopping.clone(),
            shutdown: shutdown.clone(),
        });
        tasks.spawn(fetcher.clone().pull_orders(orders));
        observe::start(&observed, &tasks, &net, &fetcher, &shutdown);
        let rates = watch::Rates::start(&tasks, net.traffic(), shutdown.clone());
        let scrub = scrub::Scrub::new(library.clone(), Arc::clone(&observed), config.scrub);
        let inner = NodeInner {
            home,
            lock,
            on_done: OnDone::new(&config.transfers.on_done),
            config,
            emulation,
            started: Instant::now(),
            integrity: integrity::Integrity::new(library.clone()),
            library,
            net,
            fetcher,
            replicator,
            limits,
            served,
            terms,
            process: OnceLock::new(),
            rates,
            recheck,
            scrub,
            events,
            observed,
            told_end: Once::new(),
            tasks,
            stopping,
            shutdown,
            left_behind: AtomicBool::new(false),
            ended: Mutex::new(false),
        };
        inner.tell_ready();
        let node = NodeHandle {
            inner: Arc::new(inner),
        };
        warnings::start(&node);
        Ok(node)
    }
}

impl NodeHandle {
    /// This node's peer id.
    pub fn peer_id(&self) -> PeerId {
        self.inner.net.peer_id()
    }

    /// Its network, for a process that runs many nodes and looks into them.
    pub fn net(&self) -> &Net {
        &self.inner.net
    }

    /// Chunk payload sent to peers and received from them since the start, in bytes.
    pub fn payload(&self) -> (u64, u64) {
        let inner = &self.inner;
        let received = inner.fetcher.totals().downloaded;
        (inner.served.uploaded_bytes(), received)
    }

    /// The lock on this node's home, for binding the API socket.
    pub fn home_lock(&self) -> &HomeLock {
        &self.inner.lock
    }

    /// Goes on with the transfers that an earlier process did not finish, and leaves what this one
    /// does not finish to the next: what a daemon does, and a node that lasts as long as one
    /// command does not.
    pub fn resume_transfers(&self) {
        self.inner.fetcher.resume_stopped();
    }

    /// Runs the configured program for each transfer that is done from now on: a daemon does, where a
    /// command that fetches does it itself.
    pub fn start_on_done(&self) {
        let inner = &self.inner;
        if let Some(done) = inner.on_done.start(&inner.tasks, &inner.shutdown) {
            inner.observed.tell_of_done(done);
        }
    }

    /// Says which process this is, to those who ask; the first word counts.
    pub fn runs_in(&self, process: NodeProcess) {
        self.inner.process.get_or_init(|| process);
    }

    /// Ends the shares that were to end with this command, which the caller has ended.
    pub fn end_over(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.terms.look_now())
    }

    /// Re-hashes what is shared in the background, as configured: another thing for a daemon alone.
    pub fn start_scrub(&self) {
        let inner = &self.inner;
        let (rates, shutdown) = (inner.rates.clone(), inner.shutdown.clone());
        inner.scrub.start(&inner.tasks, rates, shutdown);
    }

    /// Reads the whole database once, so that damage is known before something is missed: for a
    /// daemon alone, too.
    pub fn start_check(&self) {
        let inner = &self.inner;
        inner.integrity.start(&inner.tasks, inner.shutdown.clone());
    }

    /// Follows the file that says what this node's links are like.
    #[cfg(feature = "emulation")]
    pub fn follow_links(&self, file: shoal_net::emulation::LinksFile) {
        let inner = &self.inner;
        inner.tasks.spawn(file.follow(inner.shutdown.clone()));
    }

    /// To be cancelled when the node is asked to stop, before [`NodeHandle::shutdown`]: whoever
    /// stops to wait for a transfer from then on does so because the node ends.
    pub fn stopping_token(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    /// Fires when the node begins to shut down.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.inner.shutdown.clone()
    }

    /// Ends the node in order and waits until nothing of it runs. Calling it again waits too.
    pub fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }

    /// Serves the local API on `listener` until the node is asked to stop, which a request may do;
    /// what is returned ends when no operation runs any more.
    pub fn serve_api(&self, listener: ApiListener) -> JoinHandle<()> {
        let (service, end) = (Arc::new(self.clone()), self.stopping_token());
        tokio::spawn(shoal_api::serve(listener, service, end))
    }

    async fn end(&self) {
        let inner = &self.inner;
        inner.stopping.cancel();
        inner.shutdown.cancel();
        let mut ended = inner.ended.lock().await;
        if *ended {
            return;
        }
        inner.unless_stuck("transfers", inner.fetcher.ended()).await;
        inner.tell_stopping();
        if let Err(error) = inner.net.shutdown().await {
            tracing::error!(%error, "the network did not end in order");
        }
        inner.tasks.close();
        inner.unless_stuck("tasks", inner.tasks.wait()).await;
        *ended = true;
    }

    /// Gives up what this process has of the home although threads of it may hang in the kernel, so
    /// that another node can use it before the system has taken them away: to be called after
    /// [`NodeHandle::shutdown`], last of all. Blocking.
    pub fn release(&self) {
        let inner = &self.inner;
        if !inner.left_behind.load(Relaxed) {
            return;
        }
        if let Err(error) = inner.library.store().release() {
            tracing::error!(%error, "the database was not closed");
        }
        inner.lock.release();
    }
}

impl NodeInner {
    /// Waits for a part to end; no longer than [`STUCK_GRACE`] once a disk does not answer, whose
    /// calls nothing can end, and [`END_DEADLINE`] in any case.
    async fn unless_stuck<T>(&self, what: &str, ending: impl Future<Output = T>) -> Option<T> {
        let disks = self.library.disks();
        let stuck = async {
            let began = Instant::now();
            let is_stuck = || !disks.unanswering(STUCK_GRACE).is_empty();
            while began.elapsed() < END_DEADLINE && !is_stuck() {
                tokio::time::sleep(STUCK_POLL).await;
            }
        };
        tokio::select! {
            biased;
            ended = ending => return Some(ended),
            () = stuck => {}
        }
        for disk in disks.unanswering(STUCK_GRACE) {
            let at = disk.at.display();
            tracing::warn!(%at, "the disk does not answer: {what} that wait for it are left behind");
        }
        self.left_behind.store(true, Relaxed);
        None
    }

    fn tell_ready(&self) {
        self.observed.tell(Told::Node(Box::new(Event::NodeReady {
            peer_id: self.net.peer_id(),
            addresses: self.net.dial_addresses(),
        })));
    }

    fn tell_stopping(&self) {
        self.told_end.call_once(|| {
            let stopping = Box::new(Event::NodeStopping);
            self.observed.tell(Told::Node(stopping));
        });
    }
}
