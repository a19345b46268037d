//! A network inside of this process: hundreds of nodes over connections in memory.
//!
//! Every node is a whole one, with its own home, key, network and transfers. What each would have
//! for itself as a process they share: the runtime, one database behind prefixes, one thread that
//! writes what their networks remember. They have no sockets and no API; the switch joins them, by
//! links as the plan says.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use shoal_api::{ApiError, ErrorCode, Progress, Service};
use shoal_net::{
    AnnounceState, Journal, LookupError, NetConfig, NetEvent,
    emulation::{Emulation, Plan, Switch},
};
use shoal_node::{Node, NodeError, NodeHandle, Shared, config::Config};
use shoal_protocol::{address::Cid, dht};
use shoal_store::SharedStore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    driver::{Counters, Driver, Fetched, LookedUp, Network},
    process,
    requests::{self, SharedKeys},
};
use crate::{Error, PEERS_READY, capacity};

/// Nodes that others join the network by.
const BOOTSTRAP_NODES: usize = 3;

/// Nodes that start at a time: enough that two processors are busy, for a part of a start is
/// waiting.
const STARTS_AT_ONCE: usize = 8;

/// A lookup that names nobody is tried again, as `shoal find` does, until the run is over.
const LOOKUP_DELAY: Duration = Duration::from_millis(500);

/// Connections that a node keeps although nothing uses them, as a daemon does, and how long one stays
/// open that is not kept, half as long as there. Both ends of each are in this process, some 90 KiB:
/// with those of a whole minute, 300 nodes that look things up take 17 MiB each. With fewer, most of
/// their time goes into shaking hands.
const IDLE: (u32, Duration) = (64, Duration::from_secs(30));

/// What a node may take to see others, on a slow machine and with hundreds that start beside it.
const PEERS_TIMEOUT: Duration = Duration::from_secs(60);

/// A node that was killed may take this long to let go of what it had, for instance of a file that
/// it hashes.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often that is looked at.
const GONE_INTERVAL: Duration = Duration::from_millis(20);

/// A network of nodes in this process, as a run uses it.
pub struct InProcess {
    dir: PathBuf,
    files: PathBuf,
    shared: Shared,
    switch: Switch,
    /// What the configuration of each node begins as.
    config: Config,
    slots: Vec<Slot>,
    /// The store of the next node.
    next_number: AtomicU16,
    /// Who is or was which node: a new node in the place of another has a new name.
    peers: Mutex<HashMap<PeerId, usize>>,
    shared_keys: SharedKeys,
    /// What a node may take without any progress: as long as the run.
    patience: Duration,
    /// The memory of this process before there was any node, in bytes.
    memory_before: Option<u64>,
}

/// The place of a node.
struct Slot {
    name: String,
    state: Mutex<State>,
}

struct State {
    home: PathBuf,
    number: u16,
    /// Of a node that runs.
    handle: Option<NodeHandle>,
}

impl InProcess {
    /// Starts so many nodes with their homes in `dir`, which is made and has to be new or empty,
    /// and returns when each sees others. Links are as `plan` says, or take no time; beside its
    /// place in the network each node is configured as `config` says. What a node is asked for may
    /// take as long as `patience`.
    ///
    /// # Errors
    /// When the machine is too small, a node does not start, or it was `interrupted`. Nothing runs
    /// then, and nothing is left.
    pub async fn up(
        dir: &Path,
        nodes: usize,
        plan: Option<Plan>,
        config: Config,
        patience: Duration,
        interrupted: impl Future<Output = ()>,
    ) -> Result<Self, Error> {
        let network = Self::prepare(dir, nodes, plan, config, patience)?;
        let started = tokio::select! {
            biased;
            () = interrupted => Err(Error::Interrupted),
            started = network.start_all() => started,
        };
        match started {
            Ok(()) => Ok(network),
            Err(cause) => Err(network.down_after(cause).await),
        }
    }

    fn prepare(
        dir: &Path,
        nodes: usize,
        plan: Option<Plan>,
        config: Config,
        patience: Duration,
    ) -> Result<Self, Error> {
        let memory_before = process::resident_bytes(std::process::id());
        make_dir(dir)?;
        capacity::check_in_process(nodes)?;
        let files = dir.join("files");
        fs::create_dir(&files).map_err(Error::io("make the folder", &files))?;
        let store = SharedStore::open(dir);
        let store = store.map_err(|error| start_failed("the database", NodeError::from(error)))?;
        let journal = Journal::shared().map_err(Error::io("start a thread for", dir))?;
        let slot = |index: usize| {
            let name = format!("node-{index:03}");
            let state = State {
                home: dir.join(&name),
                number: u16::try_from(index).ok()?,
                handle: None,
            };
            Some(Slot {
                name,
                state: Mutex::new(state),
            })
        };
        let slots: Option<Vec<_>> = (0..nodes).map(slot).collect();
        let (Some(slots), Ok(next_number)) = (slots, u16::try_from(nodes)) else {
            return Err(Error::Nodes { nodes, min: 1 });
        };
        Ok(Self {
            dir: dir.to_owned(),
            files,
            shared: Shared {
                store,
                journal,
                idle: IDLE,
            },
            switch: Switch::new(plan.unwrap_or_default()),
            config,
            slots,
            next_number: AtomicU16::new(next_number),
            peers: Mutex::default(),
            shared_keys: SharedKeys::default(),
            patience,
            memory_before,
        })
    }

    /// Ends all nodes, and says where their homes and all files of the run are.
    async fn end(self) -> Result<PathBuf, Error> {
        let ending = self.slots.iter().map(Slot::end);
        futures::future::join_all(ending).await;
        let Self { dir, shared, .. } = self;
        let finished = tokio::task::spawn_blocking(move || shared.journal.finish()).await;
        let ended = finished.map_err(|error| Error::io("end the nodes in", &dir)(error.into()));
        ended.map(|()| dir)
    }

    /// Starts the nodes that others join by, one after the other, then all others.
    async fn start_all(&self) -> Result<(), Error> {
        let first = BOOTSTRAP_NODES.min(self.slots.len());
        for node in 0..first {
            self.start_node(node).await?;
        }
        let others = (first..self.slots.len()).map(|node| self.start_node(node));
        let started = stream::iter(others).buffer_unordered(STARTS_AT_ONCE);
        started.try_collect::<()>().await?;
        let sees = (0..self.slots.len()).map(|node| self.sees_others(node));
        futures::future::try_join_all(sees).await.map(drop)
    }

    async fn start_node(&self, node: usize) -> Result<(), Error> {
        let slot = self.slot(node)?;
        let (home, number) = {
            let state = slot.state();
            (state.home.clone(), state.number)
        };
        let (config, emulation) = (self.config(node), self.emulation(node));
        let started = Node::spawn_among(config, &home, Some(emulation), &self.shared, number).await;
        let handle = started.map_err(|error| start_failed(&slot.name, error))?;
        lock(&self.peers).insert(handle.peer_id(), node);
        slot.state().handle = Some(handle);
        Ok(())
    }

    fn emulation(&self, node: usize) -> Emulation {
        Emulation::Memory {
            switch: self.switch.clone(),
            node,
        }
    }

    fn config(&self, node: usize) -> Config {
        let mut config = self.config.clone();
        config.network.listen = vec![Switch::address(node)];
        config.network.bootstrap = self.bootstrap(node);
        config.network.mdns = false;
        config
    }

    /// Where the nodes are that others join by, as far as they run.
    fn bootstrap(&self, node: usize) -> Vec<Multiaddr> {
        let first = self.slots.iter().take(BOOTSTRAP_NODES).enumerate();
        let address = |(index, slot): (usize, &Slot)| {
            let id = slot.state().handle.as_ref()?.peer_id();
            let address = Switch::address(index).with_p2p(id).ok()?;
            (index != node).then_some(address)
        };
        first.filter_map(address).collect()
    }

    /// Waits until a node is connected with as many as it takes, or with all there are.
    async fn sees_others(&self, node: usize) -> Result<(), Error> {
        let slot = self.slot(node)?;
        let handle = self.handle(node)?;
        let running = self.slots.iter().filter(|it| it.runs()).count();
        let needed = PEERS_READY.min(running.saturating_sub(1));
        let net = handle.net();
        let met = async {
            let mut events = net.events();
            while net.peers().await.len() < needed {
                // A reader that lags behind, too, has something to look at.
                while let Ok(event) = events.recv().await {
                    if matches!(event, NetEvent::PeerConnected { .. }) {
                        break;
                    }
                }
            }
        };
        match timeout(PEERS_TIMEOUT, met).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Peers {
                node: slot.name.clone(),
                seen: net.peers().await.len(),
                needed,
                seconds: PEERS_TIMEOUT.as_secs(),
                log: String::new(),
            }),
        }
    }

    fn slot(&self, node: usize) -> Result<&Slot, Error> {
        self.slots.get(node).ok_or(Error::NoNode {
            index: node,
            nodes: self.slots.len(),
        })
    }

    fn handle(&self, node: usize) -> Result<NodeHandle, Error> {
        let slot = self.slot(node)?;
        let handle = slot.state().handle.clone();
        let down = || ApiError::new(ErrorCode::NoDaemon, "it does not run");
        handle.ok_or_else(|| slot.failed(down()))
    }

    /// Asks something of a node in a task, which ends soon when nobody waits for it any more.
    async fn ask<T, F>(
        &self,
        node: usize,
        asked: impl FnOnce(NodeHandle, CancellationToken) -> F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let running = tokio::spawn(asked(self.handle(node)?, cancel.clone()));
        let _given_up = cancel.drop_guard();
        let answer = running
            .await
            .unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Internal, error.to_string())));
        answer.map_err(|said| self.slots[node].failed(said))
    }
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn runs(&self) -> bool {
        self.state().handle.is_some()
    }

    /// Ends the node, if it runs, and waits until nothing of it does.
    async fn end(&self) {
        let handle = self.state().handle.take();
        if let Some(handle) = handle {
            handle.shutdown().await;
        }
    }

    fn failed(&self, said: ApiError) -> Error {
        Error::Command {
            node: self.name.clone(),
            said: Box::new(said),
            log: String::new(),
        }
    }
}

impl Network for InProcess {
    async fn down(self) -> Result<(), Error> {
        let dir = self.end().await?;
        fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))
    }

    async fn down_after(self, cause: Error) -> Error {
        match self.down().await {
            Ok(()) => cause,
            Err(remains) => Error::Remains {
                cause: Box::new(cause),
                remains: Box::new(remains),
            },
        }
    }

    /// Only files are kept: nodes of this process end with it.
    async fn keep(self) -> Result<(), Error> {
        self.end().await.map(drop)
    }
}

impl Driver for InProcess {
    async fn start(&self, node: usize, fresh: bool) -> Result<(), Error> {
        if fresh {
            let slot = self.slot(node)?;
            let number = self.next_number.fetch_add(1, Relaxed);
            let mut state = slot.state();
            state.number = number;
            state.home = self.dir.join(format!("{}-{number}", slot.name));
        }
        let started = async {
            loop {
                match self.start_node(node).await {
                    // What it did before is not over yet.
                    Err(error) if is_in_use(&error) => tokio::time::sleep(GONE_INTERVAL).await,
                    started => return started,
                }
            }
        };
        let started = timeout(GONE_TIMEOUT, started).await;
        started.unwrap_or_else(|_| {
            let error = ApiError::new(ErrorCode::Busy, "what it did before has not ended");
            Err(start_failed(&self.slots[node].name, error))
        })?;
        self.sees_others(node).await
    }

    /// Ends it in order, for nothing here can be killed by itself: what others see is that its
    /// connections close.
    async fn kill(&self, node: usize) -> Result<(), Error> {
        self.slot(node)?.end().await;
        Ok(())
    }

    async fn share(&self, node: usize, path: &Path) -> Result<String, Error> {
        let slot = self.slot(node)?;
        let request = requests::share(path).map_err(|said| slot.failed(said))?;
        let (progress, _) = Progress::channel();
        let share = |handle: NodeHandle, cancel| async move {
            handle.share(request, progress, cancel).await
        };
        let root = self.ask(node, share).await?.cid;
        self.shared_keys.add(&root);
        Ok(root)
    }

    async fn fetch(
        &self,
        node: usize,
        root: &str,
        to: &Path,
        keeps: bool,
        on_progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Fetched, Error> {
        let slot = self.slot(node)?;
        let request = requests::fetch(root, to, keeps, self.patience);
        let request = request.map_err(|said| slot.failed(said))?;
        let (progress, mut seen) = Progress::channel();
        let fetch = |handle: NodeHandle, cancel| async move {
            handle.fetch(request, progress, cancel).await
        };
        let watching = async {
            while seen.changed().await.is_ok() {
                let bytes = seen
                    .borrow_and_update()
                    .as_ref()
                    .map(|it| it.progress.verified_bytes);
                bytes.into_iter().for_each(on_progress);
            }
            std::future::pending::<Infallible>().await
        };
        let fetched = tokio::select! {
            fetched = self.ask(node, fetch) => fetched?,
            never = watching => match never {},
        };
        let peers = lock(&self.peers);
        let from = fetched.from.iter();
        let from = from.map(|source| (peers.get(&source.peer).copied(), source.bytes));
        Ok(Fetched {
            from: from.collect(),
        })
    }

    /// Looks in the DHT alone, until somebody is named: nobody is asked for the content.
    async fn lookup(&self, node: usize, root: &str) -> Result<LookedUp, Error> {
        let slot = self.slot(node)?;
        let handle = self.handle(node)?;
        let wrong = |why: String| slot.failed(ApiError::new(ErrorCode::Usage, why));
        let root: Cid = root
            .parse()
            .map_err(|_| wrong(format!("{root:?} is no root")))?;
        let digest = root.digest();
        let key = dht::key(&digest.ok_or_else(|| wrong(format!("{root} has no digest")))?);
        let net = handle.net();
        if net.announced(key).await != AnnounceState::Unknown {
            return Ok(LookedUp {
                providers: 1,
                asked: 0,
                hops: Some(0),
            });
        }
        let looked_up = async {
            loop {
                let busy = |error: LookupError| ApiError::new(ErrorCode::Busy, error.to_string());
                let mut found = net.find_providers(key).await.map_err(busy)?;
                if let Some(first) = found.recv().await {
                    let others = std::iter::from_fn(|| found.try_recv().ok()).count();
                    return Ok(LookedUp {
                        providers: u32::try_from(1 + others).unwrap_or(u32::MAX),
                        asked: first.cost.answers,
                        hops: Some(first.cost.hops),
                    });
                }
                tokio::time::sleep(LOOKUP_DELAY).await;
            }
        };
        let nobody = || Err(ApiError::new(ErrorCode::NotFound, "the DHT names nobody"));
        let looked_up = timeout(self.patience, looked_up).await;
        looked_up
            .unwrap_or_else(|_| nobody())
            .map_err(|said| slot.failed(said))
    }

    async fn counters(&self, node: usize) -> Result<Counters, Error> {
        let handle = self.handle(node)?;
        let (uploaded, downloaded) = handle.payload();
        let slot = self.slot(node)?;
        let replicas = handle.replica_stats().await;
        let replicas = replicas.map_err(|said| slot.failed(said))?;
        let kept = handle.replicas().await;
        let kept = kept.map_err(|said| slot.failed(said))?;
        Ok(Counters {
            uploaded,
            downloaded,
            peers: handle.net().peers().await.len(),
            helped: requests::helped(&replicas, self.shared_keys.strange(&kept)),
        })
    }

    fn memory_before(&self) -> Option<u64> {
        self.memory_before
    }

    fn memory_bytes(&self) -> Option<u64> {
        process::resident_bytes(std::process::id())
    }

    async fn apply(&self, plan: &Plan) -> Result<(), Error> {
        self.switch.emulator().apply(plan.clone());
        Ok(())
    }

    fn net_config(&self, node: usize) -> NetConfig {
        NetConfig {
            listen: vec![Switch::address(node)],
            bootstrap: self.bootstrap(node),
            mdns: false,
            emulation: Some(self.emulation(node)),
            ..NetConfig::default()
        }
    }

    fn meet(&self, node: usize, peer: PeerId) {
        lock(&self.peers).insert(peer, node);
    }

    fn files(&self) -> &Path {
        &self.files
    }

    /// They log to where this process does.
    fn log(&self, _: usize) -> Option<PathBuf> {
        None
    }
}

/// Makes the folder of a network, or takes an empty one.
fn make_dir(dir: &Path) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
            match entries.next() {
                None => Ok(()),
                Some(_) => Err(Error::NotEmpty {
                    dir: dir.to_owned(),
                }),
            }
        }
        made => made.map_err(Error::io("make the folder", dir)),
    }
}

fn start_failed(what: &str, said: impl Into<ApiError>) -> Error {
    Error::Start {
        node: what.to_owned(),
        said: Box::new(said.into()),
        log: String::new(),
    }
}

/// Whether a node did not start because the one before it in its place is not gone yet.
fn is_in_use(error: &Error) -> bool {
    matches!(error, Error::Start { said, .. } if said.code == ErrorCode::AlreadyRunning)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
