//! Serving: one worker task per exchange stream that a peer opened.
//!
//! The [`Server`] accepts streams from the network, bounds how many run at a time in total and per
//! peer (`slots`), how much is read ahead for them (`budget`), and who has the line while it is
//! slow (`line`), has copies offered where a crowd asks for a root (`crowd`), and gives each stream to a worker that owns it to its end. A worker reads requests, has the bytes
//! read on blocking threads, and writes the answers; it serves what the library vouches for and
//! nothing else: whole shares, of a root that is fetched here what has landed so far, and replicas. A peer
//! hears who else deals with its root, and one stream too many is told when to come back. It never
//! touches the swarm, and a slow or silent peer meets a deadline.

mod audience;
mod budget;
mod busy;
mod crowd;
mod line;
mod news;
mod outgoing;
mod parts;
mod pieces;
mod queue;
mod served;
mod slots;
mod wire;
mod worker;

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use shoal_ground::{metrics::Numbers, pool::Pool};
use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{
    address::Cid,
    exchange::{Availability, LeafRanges},
};
use shoal_store::{BlockKind, Held, Library};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    budget::Budget,
    crowd::Crowds,
    line::Line,
    news::Sources,
    slots::{Slot, Slots},
};
use crate::{limits::Limiter, replicate::Replicator, swarm::Swarms};

pub use self::audience::{Audience, AudienceOf, PEERS_MAX, PeerOf, WRITE_INTERVAL};

/// Streams beyond these that are told so at a time, each for [`busy::TIMEOUT`] at the most; more
/// are reset.
const REFUSALS_MAX: usize = 32;
/// Withdrawn roots that are answered with `Gone`; older ones are `Absent`. About 40 KiB.
const WITHDRAWN_REMEMBERED_MAX: usize = 1024;

/// Counters of what was served, since the start of the process.
#[derive(Default)]
pub struct ServeStats {
    uploaded_bytes: AtomicU64,
    dag_bytes: AtomicU64,
    slots: Slots,
    budget: Budget,
    line: OnceLock<Line>,
}

impl ServeStats {
    /// Chunk payload written to peers.
    pub fn uploaded_bytes(&self) -> u64 {
        self.uploaded_bytes.load(Relaxed)
    }

    /// DAG nodes written to peers.
    pub fn dag_bytes(&self) -> u64 {
        self.dag_bytes.load(Relaxed)
    }

    /// A block was written to a peer.
    fn count(&self, kind: BlockKind, bytes: usize) {
        let counter = match kind {
            BlockKind::Chunk => &self.uploaded_bytes,
            BlockKind::Node => &self.dag_bytes,
        };
        counter.fetch_add(bytes as u64, Relaxed);
    }

    /// Adds its numbers, but for the bytes.
    pub fn measure(&self, numbers: &mut Numbers) {
        self.slots.measure(numbers);
        self.budget.measure(numbers);
        if let Some(line) = self.line.get() {
            line.measure(numbers);
        }
    }
}

/// Roots that this node offered in this run and does not any more.
#[derive(Debug, Default)]
pub struct Withdrawn {
    roots: Mutex<VecDeque<Cid>>,
}

impl Withdrawn {
    /// Notes that a root was withdrawn; the oldest is forgotten when there are too many.
    pub fn note(&self, root: &Cid) {
        let mut roots = self.roots.lock();
        if roots.contains(root) {
            return;
        }
        if roots.len() >= WITHDRAWN_REMEMBERED_MAX {
            roots.pop_front();
        }
        roots.push_back(root.clone());
    }

    /// What a peer that asks for `root` is told.
    fn availability(&self, library: &Library, root: &Cid) -> Availability {
        match library.held(root) {
            Held::Complete if library.is_copy(root) => Availability::Held {
                ranges: LeafRanges::all(),
            },
            Held::Complete => Availability::Complete,
            Held::Changed => Availability::Gone,
            Held::Landing | Held::Absent => {
                let roots = self.roots.lock();
                if roots.contains(root) {
                    Availability::Gone
                } else {
                    Availability::Absent
                }
            }
        }
    }
}

/// What a [`Server`] serves from.
pub struct Deps {
    /// The shares.
    pub library: Library,
    /// The network.
    pub net: Net,
    /// What fetches have landed.
    pub swarms: Arc<Swarms>,
    /// What was shared and is not any more.
    pub withdrawn: Arc<Withdrawn>,
    /// What is kept for others.
    pub replicator: Replicator,
    /// The books of who gets what.
    pub audience: Arc<Audience>,
    /// Ends the serving.
    pub shutdown: CancellationToken,
}

/// Accepts exchange streams until the token is cancelled.
pub struct Server {
    sources: Arc<Sources>,
    stats: Arc<ServeStats>,
    limits: Limiter,
    line: Line,
    pool: Pool,
    /// Room for telling peers that there is none.
    refusals: Arc<Semaphore>,
    workers: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    /// A server that has not begun to accept streams.
    pub fn new(deps: Deps, stats: Arc<ServeStats>, limits: Limiter) -> Self {
        let Deps {
            library,
            net,
            swarms,
            withdrawn,
            replicator,
            audience,
            shutdown,
        } = deps;
        let line = stats.line.get_or_init(|| Line::new(limits.clone())).clone();
        let sources = Sources {
            crowds: Crowds::new(library.clone(), replicator.clone(), line.clone()),
            library,
            withdrawn,
            swarms,
            net,
            replicator,
            audience,
        };
        Self {
            sources: Arc::new(sources),
            stats,
            limits,
            line,
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            pool: Pool::default(),
            workers: TaskTracker::new(),
            shutdown,
        }
    }

    /// Runs until shutdown or until the network is gone; every worker has ended when it returns.
    pub fn run(self, incoming: mpsc::Receiver<ExchangeStream>) -> BoxFuture<'static, ()> {
        // Boxed, so that it is compiled here and not where it is awaited.
        Box::pin(self.accept_all(incoming))
    }

    async fn accept_all(self, mut incoming: mpsc::Receiver<ExchangeStream>) {
        let server = Arc::new(self);
        let (crowds, workers) = (server.sources.crowds.clone(), server.workers.clone());
        let tending = crowds.run(workers, server.shutdown.clone());
        server.workers.spawn(tending);
        loop {
            let stream = tokio::select! {
                biased;
                () = server.shutdown.cancelled() => break,
                stream = incoming.recv() => match stream {
                    Some(stream) => stream,
                    None => break,
                },
            };
            server.accept(stream);
        }
        server.workers.close();
        server.workers.wait().await;
    }

    fn accept(self: &Arc<Self>, stream: ExchangeStream) {
        let peer = stream.peer();
        let Some(slot) = self.stats.slots.take(peer) else {
            tracing::debug!(%peer, "exchange stream refused: too many streams");
            self.sources.crowds.said_busy();
            // Without room for a word, dropping the stream resets it; the peer comes back by itself.
            if let Ok(room) = Arc::clone(&self.refusals).try_acquire_owned() {
                let sources = Arc::clone(&self.sources);
                self.workers.spawn(async move {
                    busy::turn_away(&sources, stream).await;
                    drop(room);
                });
            }
            return;
        };
        let worker = worker::Worker::new(self, slot);
        self.workers.spawn(async move {
            let ended = worker.run(stream).await;
            tracing::debug!(%peer, %ended, "exchange stream served");
        });
    }
}
