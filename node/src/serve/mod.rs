//! Serving: one worker task per exchange stream that a peer opened.
//!
//! The [`Server`] accepts streams from the network, bounds how many run at a time in total and per
//! peer, and gives each to a worker that owns it to its end. A worker reads requests, has the bytes
//! read on blocking threads, and writes the answers; it serves what the library vouches for and
//! nothing else: whole shares, and of a root that is fetched here what has landed so far. A peer
//! hears who else deals with its root, and one stream too many is told when to come back. It never
//! touches the swarm, and a slow or silent peer meets a deadline.

mod busy;
mod news;
mod pieces;
mod queue;
mod worker;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use libp2p::PeerId;
use shoal_protocol::{address::Cid, exchange::Availability};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::news::Sources;
use crate::{
    limits::Limits,
    metrics::Numbers,
    net::{ExchangeStream, Net},
    pool::Pool,
    store::{BlockKind, Held, Library},
    swarm::Swarms,
};

/// Streams served at a time, over all peers: a task and some tens of KiB each.
const STREAMS_MAX: usize = 256;
/// Streams served at a time to one peer: one per root that it fetches, within reason.
const STREAMS_PER_PEER_MAX: usize = 16;
/// Streams beyond these that are told so at a time, each for [`busy::TIMEOUT`] at the most; more
/// are reset.
const REFUSALS_MAX: usize = 32;
/// Withdrawn roots that are answered with `Gone`; older ones are `Absent`. About 40 KiB.
const WITHDRAWN_REMEMBERED_MAX: usize = 1024;
/// Bytes read from disk and not yet taken by the network, over all streams: 32 MiB, from the
/// 150 MiB that a whole daemon may take.
const SERVE_BUFFER_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// The same for one peer: a batch that is read and one that is written. It takes five peers that
/// stall, and a few seconds until they meet their deadline, to hold up the others.
const PEER_BUFFER_BYTES_MAX: u32 = 6 * 1024 * 1024;

/// Counters of what was served, since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct ServeStats {
    uploaded_bytes: AtomicU64,
    dag_bytes: AtomicU64,
    streams: AtomicU64,
    refused_streams: AtomicU64,
}

impl ServeStats {
    /// Chunk payload written to peers.
    pub(crate) fn uploaded_bytes(&self) -> u64 {
        self.uploaded_bytes.load(Relaxed)
    }

    /// DAG nodes written to peers.
    pub(crate) fn dag_bytes(&self) -> u64 {
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
    pub(crate) fn measure(&self, numbers: &mut Numbers) {
        numbers.gauge(
            "shoal_serve_streams",
            "Streams that are being served.",
            self.streams.load(Relaxed),
        );
        numbers.counter(
            "shoal_serve_streams_refused",
            "Streams refused because the peer or the node has as many as it may.",
            self.refused_streams.load(Relaxed),
        );
    }
}

/// Roots that this node offered in this run and does not any more.
#[derive(Debug, Default)]
pub(crate) struct Withdrawn {
    roots: Mutex<VecDeque<Cid>>,
}

impl Withdrawn {
    /// Notes that a root was withdrawn; the oldest is forgotten when there are too many.
    pub(crate) fn note(&self, root: &Cid) {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
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
            Held::Complete => Availability::Complete,
            Held::Changed => Availability::Gone,
            Held::Landing | Held::Absent => {
                let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
                if roots.contains(root) {
                    Availability::Gone
                } else {
                    Availability::Absent
                }
            }
        }
    }
}

/// What one peer has of this node at the moment.
struct Peer {
    streams: usize,
    buffers: Arc<Semaphore>,
}

/// Accepts exchange streams until the token is cancelled.
pub(crate) struct Server {
    sources: Arc<Sources>,
    stats: Arc<ServeStats>,
    limits: Limits,
    buffers: Arc<Semaphore>,
    pool: Pool,
    /// Room for telling peers that there is none.
    refusals: Arc<Semaphore>,
    peers: Mutex<HashMap<PeerId, Peer>>,
    workers: TaskTracker,
    shutdown: CancellationToken,
}

impl Server {
    pub(crate) fn new(
        library: Library,
        net: Net,
        swarms: Arc<Swarms>,
        withdrawn: Arc<Withdrawn>,
        stats: Arc<ServeStats>,
        limits: Limits,
        shutdown: CancellationToken,
    ) -> Self {
        let sources = Sources {
            library,
            withdrawn,
            swarms,
            net,
        };
        Self {
            sources: Arc::new(sources),
            stats,
            limits,
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            buffers: Arc::new(Semaphore::new(units(SERVE_BUFFER_BYTES_MAX))),
            pool: Pool::default(),
            peers: Mutex::default(),
            workers: TaskTracker::new(),
            shutdown,
        }
    }

    /// Runs until shutdown or until the network is gone; every worker has ended when it returns.
    pub(crate) async fn run(self, mut incoming: mpsc::Receiver<ExchangeStream>) {
        let server = Arc::new(self);
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

    fn lock_peers(&self) -> MutexGuard<'_, HashMap<PeerId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, stream: ExchangeStream) {
        let peer = stream.peer();
        let Some(slot) = Slot::take(self, peer) else {
            let refused = self.stats.refused_streams.fetch_add(1, Relaxed) + 1;
            tracing::debug!(%peer, refused, "exchange stream refused: too many streams");
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
        let server = Arc::clone(self);
        self.workers.spawn(async move {
            let buffers = Arc::clone(&slot.buffers);
            let ended = worker::Worker::new(&server, buffers).run(stream).await;
            drop(slot);
            tracing::debug!(%peer, %ended, "exchange stream served");
        });
    }
}

/// A place among the streams that are served; given back when dropped.
struct Slot {
    server: Arc<Server>,
    peer: PeerId,
    /// This peer's own part of the buffers, over all its streams.
    buffers: Arc<Semaphore>,
}

impl Slot {
    fn take(server: &Arc<Server>, peer: PeerId) -> Option<Self> {
        let mut peers = server.lock_peers();
        let total: usize = peers.values().map(|peer| peer.streams).sum();
        if total >= STREAMS_MAX {
            return None;
        }
        let of_peer = peers.entry(peer).or_insert_with(|| Peer {
            streams: 0,
            buffers: Arc::new(Semaphore::new(units(PEER_BUFFER_BYTES_MAX))),
        });
        if of_peer.streams >= STREAMS_PER_PEER_MAX {
            return None;
        }
        of_peer.streams += 1;
        server.stats.streams.fetch_add(1, Relaxed);
        let buffers = Arc::clone(&of_peer.buffers);
        Some(Self {
            server: Arc::clone(server),
            peer,
            buffers,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.server.stats.streams.fetch_sub(1, Relaxed);
        let mut peers = self.server.lock_peers();
        if let Some(peer) = peers.get_mut(&self.peer) {
            peer.streams -= 1;
            if peer.streams == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// A number of bytes as permits of a budget.
fn units(bytes: u32) -> usize {
    (bytes / worker::UNIT_BYTES) as usize
}
